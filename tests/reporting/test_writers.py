"""What each metric writer has written is read back with the reader of that tool."""

import contextlib
import json
import struct
import warnings

import numpy as np
import pytest

from unetjax.reporting import records, writers
from unetjax.reporting.metric_writer import MetricWriter
from unetjax.reporting.records import Record

PICTURE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
CONFIG = {"seed": 0, "model.features": 2}


def train(workdir, names, first, last, *, saved=0, breaks=False):
    """A process that does the updates after `saved`, and dies if `last` is not 6."""
    workdir.mkdir(exist_ok=True)
    records.truncate_after(workdir / "records.jsonl", saved)
    with writers.open_writers(names, workdir, step=saved, config=CONFIG) as writer:
        if first == 0:
            writer.write_picture(0, "pictures", PICTURE)
        for step in range(max(first, 1), last + 1):
            lines = [Record(step, "train", {"loss": 1 / step, "note": "text"})]
            if step % 3 == 0:
                lines.append(Record(step, "validation", {"mean_iou": step / 10}))
            for line in lines:
                writer.write_record(line)
            if step % 3 == 0:
                writer.write_picture(step, "pictures", PICTURE)
                values = np.linspace(-1, 1, 50)
                writer.write_histogram(step, "activations/head", values)
        if breaks:
            raise ZeroDivisionError


def interrupted(workdir, name):
    """Three processes: killed after 2 before any save, after 5 with 3 saved, done."""
    workdir.mkdir()
    train(workdir, [name], 0, 2)
    train(workdir, [name], 0, 5)
    train(workdir, [name], 4, 6, saved=3)


@pytest.fixture
def event_reader():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what TensorBoard imports
        return pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator",
            reason="tensorboard, which reads event files, is not installed",
        )


def read_events(reader, workdir):
    """Steps and values as TensorBoard shows them."""
    everything = {"scalars": 0, "images": 0, "histograms": 0}
    events = reader.EventAccumulator(str(workdir / "tensorboard"), everything)
    events.Reload()
    return events


def test_tensorboard_shows_an_interrupted_run_as_one(tmp_path, event_reader):
    """Steps that were lost with their process are shown once, none goes back."""
    interrupted(tmp_path / "run", "tensorboard")
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 3
    events = read_events(event_reader, tmp_path / "run")
    loss = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert [step for step, _ in loss] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([value for _, value in loss], 1 / np.arange(1, 7))
    assert [e.step for e in events.Scalars("validation/mean_iou")] == [3, 6]
    assert [e.step for e in events.Images("pictures")] == [0, 3, 6]
    assert [e.step for e in events.Histograms("activations/head")] == [3, 6]
    assert sorted(events.Tags()["scalars"]) == ["train/loss", "validation/mean_iou"]


def test_tensorboard_keeps_pictures_and_histograms(tmp_path, event_reader):
    from PIL import Image

    interrupted(tmp_path / "run", "tensorboard")
    events = read_events(event_reader, tmp_path / "run")
    path = tmp_path / "picture.png"
    path.write_bytes(events.Images("pictures")[0].encoded_image_string)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.array(image), PICTURE)
    histogram = events.Histograms("activations/head")[0].histogram_value
    assert (histogram.min, histogram.max, histogram.num) == (-1, 1, 50)


def test_a_writer_added_on_resuming_receives_the_earlier_records(
    tmp_path, event_reader
):
    train(tmp_path, [], 0, 3)
    train(tmp_path, ["tensorboard"], 4, 6, saved=3)
    events = read_events(event_reader, tmp_path)
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [e.step for e in events.Scalars("validation/mean_iou")] == [3, 6]


def messages(content):
    """The messages of a .wandb file: a log in the format of LevelDB.

    After seven bytes come blocks of 32 KiB of pieces, each with its checksum, length
    and kind: whole, first, middle or last.
    """
    place, message = 7, b""
    while place < len(content):
        if 32768 - place % 32768 < 7:  # too little for another piece
            place += 32768 - place % 32768
            continue
        size, kind = struct.unpack_from("<HB", content, place + 4)
        message += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            yield message
            message = b""


def exit_code(file):
    from wandb.proto.wandb_internal_pb2 import Record as Line

    lines = map(Line.FromString, messages(file.read_bytes()))
    (code,) = [line.exit.exit_code for line in lines if line.HasField("exit")]
    return code


def test_wandb_is_one_run_that_never_goes_back(tmp_path, monkeypatch):
    """Offline: every process leaves a file of messages, all of them of one run."""
    pytest.importorskip("wandb", reason="wandb is not installed")
    from wandb.proto.wandb_internal_pb2 import Record as Line

    for name, value in {
        "MODE": "offline",
        "SILENT": "true",
        "PROJECT": "cells",
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    interrupted(tmp_path / "run", "wandb")
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 3
    steps, ids, kept = [], set(), {}
    for file in files:
        for message in messages(file.read_bytes()):
            line = Line.FromString(message)
            if line.HasField("run"):
                ids.add((line.run.run_id, line.run.project, line.run.display_name))
            if line.HasField("history"):
                values = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in line.history.item
                }
                steps.append(values["_step"])
                kept |= {(values["_step"], name): x for name, x in values.items()}
    assert exit_code(files[-1]) == 0
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "failed", ["wandb"], 0, 2, breaks=True)
    (file,) = (tmp_path / "failed" / "wandb").glob("offline-run-*/*.wandb")
    assert exit_code(file) == 1
    assert len(ids) == 1
    assert {ids.pop()[1:]} == {("cells", "run")}
    assert kept[6, "train/loss"] == pytest.approx(1 / 6)
    assert kept[6, "validation/mean_iou"] == pytest.approx(0.6)
    assert kept[3, "pictures/_type"] == "image-file"
    assert kept[3, "activations/head/_type"] == "histogram"
    assert set(steps) == {0, 1, 2, 3, 4, 5, 6}


def test_mlflow_has_every_number_once(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its database layer
        interrupted(tmp_path / "run", "mlflow")
    folder = tmp_path / "run" / "mlflow"
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    run_id = (folder / "run_id").read_text()
    history = client.get_metric_history(run_id, "train/loss")
    assert sorted(metric.step for metric in history) == [1, 2, 3, 4, 5, 6]
    history = client.get_metric_history(run_id, "validation/mean_iou")
    assert [metric.step for metric in history] == [3, 6]
    run = client.get_run(run_id)
    assert run.data.params == {"seed": "0", "model.features": "2"}
    assert run.info.status == "FINISHED"
    assert len(client.list_artifacts(run_id, "pictures")) == 3


def test_mlflow_shows_a_run_that_failed(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its database layer
        with pytest.raises(ZeroDivisionError):
            train(tmp_path, ["mlflow"], 0, 2, breaks=True)
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
        run = client.get_run((tmp_path / "mlflow" / "run_id").read_text())
    assert run.info.status == "FAILED"


def test_a_tool_that_fails_is_dropped_with_one_warning(tmp_path, monkeypatch):
    """A full disk or a server that is gone does not end the run."""
    tensorboardx = pytest.importorskip("tensorboardX")

    def fail(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(tensorboardx.SummaryWriter, "add_scalar", fail)
    message = "tensorboard failed and receives no more of this run: no space left"
    with pytest.warns(UserWarning, match=message) as caught:
        train(tmp_path, ["tensorboard"], 0, 6)
    assert len(caught) == 1
    assert len(records.read(tmp_path / "records.jsonl")) == 8


def test_a_full_disk_under_the_run_folder_ends_the_run(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(records, "append", fail)
    with pytest.raises(OSError, match="no space left"):
        train(tmp_path, [], 0, 6)


@pytest.mark.parametrize("breaks", [True, False])
def test_every_tool_learns_how_the_run_ended(tmp_path, monkeypatch, breaks):
    """Also where closing another one has failed."""
    ends = []

    class Gone(MetricWriter):
        def __init__(self, workdir, *, step, config):
            pass

        def close(self, *, failed):
            ends.append(failed)
            raise ConnectionError("gone")

    names = ["tensorboard", "wandb"]
    monkeypatch.setattr(writers, "_TOOLS", dict.fromkeys(names, Gone))
    with (
        pytest.warns(UserWarning, match="failed and receives no more of this run: go"),
        contextlib.suppress(ZeroDivisionError),
    ):
        train(tmp_path, names, 0, 2, breaks=breaks)
    assert ends == [breaks, breaks]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_library_names_its_extra(name, tmp_path, monkeypatch):
    library = {"tensorboard": "tensorboardX"}.get(name, name)
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with (
        pytest.raises(ModuleNotFoundError, match=rf'install "unetjax\[{name}\]"'),
        writers.open_writers([name], tmp_path, step=0, config={}),
    ):
        pass


def test_without_tools_the_run_folder_has_the_records(tmp_path):
    train(tmp_path, [], 0, 6)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["records.csv", "records.jsonl"]


def test_the_table_of_records_is_right_after_evaluations_and_at_the_end(tmp_path):
    """It is rewritten when a run resumes, fails or ends, and where it was deleted."""
    path, table = tmp_path / "records.jsonl", tmp_path / "records.csv"

    def is_current():
        return table.read_text() == records.to_csv(records.read(path))

    with writers.open_writers([], tmp_path, step=0, config={}) as writer:
        writer.write_record(Record(1, "train", {"loss": 0.5}))
        assert not table.exists()
        writer.write_record(Record(1, "validation", {"mean_iou": 0.5}))
        assert is_current()
        writer.write_record(Record(2, "train", {"loss": 0.4}))
        assert not is_current()
    assert is_current()
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, [], 4, 5, saved=2, breaks=True)
    assert is_current()
    table.unlink()
    train(tmp_path, [], 7, 6, saved=6)
    assert is_current()
