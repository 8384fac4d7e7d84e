"""Predictions that were interrupted, repeated, or met by files of others."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests import commands
from unetjax.evaluation import prediction_files
from unetjax.evaluation.prediction_record import RECORD, recorded_sources
from unetjax.files import folders, images
from unetjax.files.pages import Metadata
from unetjax.inference.segment import Segmentation

RNG = np.random.default_rng(0)
IMAGES = [(name, RNG.integers(0, 99, (9, 8, 1), np.uint8)) for name in "abcd"]


class StopError(Exception):
    pass


def threshold(calls, stop_at=None):
    """A segmentation without a network, which notes its calls and may end early."""

    def segment(pixels):
        calls.append(pixels)
        if len(calls) == stop_at:
            raise StopError
        label = (pixels[..., 0] > 50).astype(np.int32)
        probs = np.stack([1 - label, label], axis=-1).astype(np.float32)
        return Segmentation(probs, label, label)

    return segment


def write(
    folder,
    inputs=IMAGES,
    *,
    calls=None,
    stop_at=None,
    tta="none",
    failures=(),
    **options,
):
    """Returns how many images had their results already."""
    written = prediction_files.write_all(
        threshold([] if calls is None else calls, stop_at),
        [prediction_files.Input(*each) for each in inputs],
        folder,
        instances=True,
        probabilities=True,
        origin={"models": ["m"], "tta": tta},
        **options,
    )
    assert written.failures == list(failures)
    return written.num_skipped


def contents(folder):
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in (RECORD, folders.LOCK)
    }


@pytest.fixture
def straight(tmp_path):
    """The results of an uninterrupted prediction."""
    write(tmp_path / "straight")
    return contents(tmp_path / "straight")


def test_an_interrupted_prediction_resumes_where_it_was(tmp_path, straight):
    calls = []
    with pytest.raises(StopError):
        write(tmp_path / "o", stop_at=3)
    assert write(tmp_path / "o", calls=calls) == 2
    assert len(calls) == 2
    assert contents(tmp_path / "o") == straight
    assert write(tmp_path / "o", calls=calls) == 4
    assert len(calls) == 2


def test_results_that_were_begun_are_written_again(tmp_path, straight):
    """As after a kill between two files of an image, and in the middle of a line."""
    folder = tmp_path / "o"
    write(folder, IMAGES[:2])
    path = folder / RECORD
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    (folder / "b_labels.tif").unlink()
    (folder / ".b_labels.01234567.tif").write_bytes(b"half")
    assert write(folder) == 1
    assert contents(folder) == straight


def test_a_deleted_result_is_written_again(tmp_path, straight):
    write(tmp_path / "o")
    (tmp_path / "o" / "c_probs.tif").unlink()
    assert write(tmp_path / "o") == 3
    assert contents(tmp_path / "o") == straight


def refused(folder, match, *args, **options):
    before = contents(folder)
    with pytest.raises((ValueError, FileExistsError), match=match):
        write(folder, *args, **options)
    assert contents(folder) == before


def test_results_of_others_are_refused_and_replaced_on_request(tmp_path, straight):
    folder = tmp_path / "o"
    write(folder)
    refused(folder, r'options \(tta: "none", now "d4"\); name another --', tta="d4")
    other = [("a", IMAGES[1][1]), *IMAGES[1:]]
    changed = (
        f"a has other pixels than those of which {folder} has the results; name "
        "another --out folder, or replace them with --overwrite."
    )
    (folder / "b_labels.tif").unlink()
    assert write(folder, other, failures=[changed]) == 2
    refused(folder, "a has other pixels than those of which", other[:1])
    (folder / "b_labels.tif").write_bytes(b"corrected by hand")
    refused(folder, r"b_labels\.tif was changed since it was written and is not overw")
    assert write(folder, overwrite=True, tta="d4") == 0
    assert contents(folder) == straight
    assert write(folder, tta="d4") == 4


def test_files_of_the_user_are_refused(tmp_path):
    (tmp_path / "a_overlay.png").write_text("mine")
    refused(
        tmp_path, r"a_overlay\.png exists and is not overwritten; name another --out"
    )
    write(tmp_path, IMAGES[1:])
    refused(tmp_path, r"a_overlay\.png exists and is not overwritten")


@pytest.mark.parametrize("line", ["{", "[]", '{"image": 1}', "[" * 100_000])
def test_a_damaged_record_is_refused(tmp_path, line):
    write(tmp_path)
    with (tmp_path / RECORD).open("a") as file:
        file.write(f"{line}\n")
    refused(tmp_path, r"predictions\.jsonl, line 10, is damaged; name another")


def test_a_second_process_is_refused(tmp_path):
    write(tmp_path)
    with folders.claim(tmp_path):
        refused(tmp_path, "is in use by process", overwrite=True)


KILLED = """
import os, signal, sys
from unetjax.cli import main
folder, left = sys.argv[1], int(sys.argv[2])

def count(event, args):
    global left
    if event in ("open", "os.rename", "os.remove", "os.truncate"):
        if str(args[0]).startswith(folder):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
sys.exit(main.main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    "kills", [[31], pytest.param(range(1, 120, 4), marks=pytest.mark.slow)]
)
def test_killed_at_a_file_action(tmp_path, small_model, kills):
    (tmp_path / "i").mkdir()
    for name, image in IMAGES:
        images.write_image(tmp_path / "i" / f"{name}.tif", image)

    def words(out):
        return ["predict", small_model, tmp_path / "i", "--out", out, "--instances"]

    done = commands.in_process("unetjax.cli.main", *words(tmp_path / "straight"))
    assert done.returncode == 0, done.stderr
    for action in kills:
        out = tmp_path / str(action)
        command = [sys.executable, "-c", KILLED, str(out), str(action)]
        ended = subprocess.run(
            [*command, *map(str, words(out))], cwd=commands.ROOT, capture_output=True
        )
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
        again = commands.in_process("unetjax.cli.main", *words(out))
        assert again.returncode == 0, again.stderr
        assert contents(out) == contents(tmp_path / "straight")
        record = (out / RECORD).read_text().splitlines()
        assert {json.loads(line).get("image") for line in record} == {None, *"abcd"}


def test_outlines_are_results_of_the_record(tmp_path):
    """Made once, and missed when one of them has gone."""
    calls = []
    write(tmp_path / "o", IMAGES[:1], calls=calls, rois=True)
    names = ["a_objects.geojson", "a_rois.zip"]
    assert set(names) < set(contents(tmp_path / "o"))
    last = json.loads((tmp_path / "o" / RECORD).read_text().splitlines()[-1])
    assert set(names) < set(last["files"])
    assert write(tmp_path / "o", IMAGES[:1], calls=calls, rois=True) == 1
    (tmp_path / "o" / "a_rois.zip").unlink()
    assert write(tmp_path / "o", IMAGES[:1], calls=calls, rois=True) == 0
    (origin, *_) = (tmp_path / "o" / RECORD).read_text().splitlines()
    assert json.loads(origin)["origin"]["rois"] is True


def test_records_without_outlines_are_those_of_earlier_versions(tmp_path):
    write(tmp_path / "o", IMAGES[:1])
    origin = json.loads((tmp_path / "o" / RECORD).read_text().splitlines()[0])
    assert "rois" not in origin["origin"]


def test_the_record_knows_the_files_of_the_images(tmp_path):
    """Also after folder and images were moved together."""
    (tmp_path / "study").mkdir()
    path = tmp_path / "study" / "a.png"
    images.write_image(path, IMAGES[0][1])
    write(tmp_path / "study" / "out", [(*IMAGES[0], Metadata(), path), IMAGES[1]])
    (tmp_path / "study").rename(tmp_path / "moved")
    sources = recorded_sources(tmp_path / "moved" / "out")
    assert list(sources) == ["a"]
    assert sources["a"].samefile(tmp_path / "moved" / "a.png")
