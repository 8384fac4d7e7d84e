import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.training.runs import (
    CONFIG,
    PLAIN,
    assert_equal_runs,
    final_state,
    make_split,
)
from unetjax.data import synthetic
from unetjax.data.splits import Split
from unetjax.evaluation import postprocessing_search
from unetjax.files import folders
from unetjax.model_io import model_folder
from unetjax.reporting import records
from unetjax.training import config as configs
from unetjax.training import experiment, loop, optimizers


def test_a_run_leaves_config_records_pictures_and_the_best_model(uninterrupted):
    options = json.loads((uninterrupted / "config.json").read_text())
    assert configs.from_dict(options) == CONFIG
    lines = records.read(uninterrupted / "records.jsonl")
    assert [(r.step, r.kind) for r in lines if r.kind != "warning"] == [
        (1, "train"),
        (2, "train"),
        (3, "validation"),
        (4, "train"),
        (6, "train"),
        (6, "validation"),
    ]
    trained = model_folder.load_model(uninterrupted / "model")
    assert trained.class_names == ("background", "foreground")
    assert trained.model == CONFIG.model
    assert trained.input_scaling.method == "percentile"
    scores = {r.step: r.values["mean_iou"] for r in lines if r.kind == "validation"}
    assert trained.provenance.step == max(scores, key=lambda step: (scores[step], step))
    assert (uninterrupted / "records.csv").read_text() == records.to_csv(lines)
    assert sorted(path.name for path in (uninterrupted / "pictures").iterdir()) == [
        "step_00000000.png",
        "step_00000003.png",
        "step_00000006.png",
    ]


def test_the_running_mean_of_the_parameters_is_the_model(tmp_path):
    config = configs.override(PLAIN, {"optimizer.average": 0.9})
    once, resumed = tmp_path / "once", tmp_path / "resumed"
    loop.train_and_evaluate(config, make_split(), once)
    for num_steps in (3, 6):
        part = replace(config, num_steps=num_steps)
        loop.train_and_evaluate(part, make_split(), resumed)
    assert_equal_runs(once, resumed, config)
    state = final_state(once, config)
    mean = optimizers.averaged_params(state.opt_state, state.params)
    stored = model_folder.load_model(once / "model")
    assert stored.provenance.step == 6
    assert len(stored.provenance.images.least_median) == 1  # one channel
    assert stored.provenance.images.pixel_size is None  # of synthetic images
    assert_same_arrays(stored.params, mean)
    with pytest.raises(AssertionError):
        assert_same_arrays(stored.params, state.params)


@pytest.mark.parametrize("average", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_a_run_starts_from_a_pretrained_model(uninterrupted, tmp_path, average):
    changes = {"pretrained": str(uninterrupted / "model"), "num_steps": 0}
    changes |= {"optimizer.average": average, "model.dropout_rate": 0.0}
    config = configs.override(PLAIN, changes)
    started = loop.train_and_evaluate(config, make_split(), tmp_path / "started")
    trained = model_folder.load_model(uninterrupted / "model")
    assert_same_arrays(started.params, trained.params)
    config = replace(config, num_steps=6)
    shutil.copytree(uninterrupted / "model", tmp_path / "moved")
    config = replace(config, pretrained=str(tmp_path / "moved"))
    loop.train_and_evaluate(replace(config, num_steps=3), make_split(), tmp_path / "r")
    shutil.rmtree(tmp_path / "moved")  # a resumed run does without
    loop.train_and_evaluate(config, make_split(), tmp_path / "r")
    with pytest.raises(FileNotFoundError, match="moved"):
        loop.train_and_evaluate(config, make_split(), tmp_path / "other")


def test_a_pretrained_model_of_another_architecture_is_refused(uninterrupted, tmp_path):
    changes = {"pretrained": str(uninterrupted / "model"), "model.features": 3}
    config = configs.override(CONFIG, changes)
    with pytest.raises(ValueError, match=r"model: a network can start only.* not 3"):
        loop.train_and_evaluate(config, make_split(), tmp_path / "r")


def assert_same_arrays(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_finished_run_is_left_as_it_is(uninterrupted):
    def changes():
        files = [path for path in uninterrupted.rglob("*") if path.is_file()]
        return {path: path.stat().st_mtime_ns for path in files}

    before = changes()
    loop.train_and_evaluate(CONFIG, make_split(), uninterrupted)
    changed = {path.name for path, _ in before.items() ^ changes().items()}
    assert changed <= {"config.json", folders.LOCK}


def test_a_run_of_an_older_version_is_resumed(tmp_path):
    """Its config.json lacks the options that did not exist."""
    loop.train_and_evaluate(replace(CONFIG, num_steps=3), make_split(), tmp_path / "r")
    path = tmp_path / "r" / "config.json"
    options = json.loads(path.read_text())
    del options["patience"], options["data"]["fold"]
    path.write_text(json.dumps(options))
    loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r")
    assert json.loads(path.read_text())["patience"] == 0


def test_another_config_is_refused_with_the_difference(uninterrupted):
    other = replace(CONFIG, seed=1, model=CONFIG.model.clone(features=3))
    with pytest.raises(
        ValueError, match=r"model.features: 2, now 3; seed: 0, now 1\); use that"
    ):
        loop.train_and_evaluate(other, make_split(), uninterrupted)


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(FileExistsError, match="holds files and no run of unetjax"):
        loop.train_and_evaluate(CONFIG, make_split(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_workdir(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(FileExistsError, match="is a file; name a new or empty folder"):
        loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "a")


def test_instance_settings_are_chosen_after_the_last_step_and_once(
    uninterrupted, tmp_path
):
    """The choice is the same function of the best model, interrupted or not."""
    config = replace(CONFIG, tune_instances=True)
    loop.train_and_evaluate(replace(config, num_steps=3), make_split(), tmp_path / "r")
    loop.train_and_evaluate(config, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", uninterrupted)
    shutil.copytree(uninterrupted / "model", tmp_path / "copy")
    validation, metric = make_split().validation, config.best_metric
    expected = postprocessing_search.store_best(
        tmp_path / "copy", validation, best_metric=metric
    )
    trained = model_folder.load_model(tmp_path / "r")
    assert trained.instances == expected.instances
    chosen = trained.provenance.instances_chosen
    assert chosen == expected.provenance.instances_chosen
    before = (tmp_path / "r" / "model" / "model.json").stat().st_mtime_ns
    loop.train_and_evaluate(config, make_split(), tmp_path / "r")
    assert (tmp_path / "r" / "model" / "model.json").stat().st_mtime_ns == before


def more_images(split):
    """The same split, after an image was added, which moved another one."""
    added = synthetic.touching_cells(0, 9, size=(40, 48), num_cells=4, radius=6.0)
    return Split([split.train[0], added], [*split.train[1:], *split.validation])


def test_other_images_are_refused_and_listed_and_the_split_can_be_kept(
    uninterrupted, tmp_path
):
    split, folder = make_split(), tmp_path / "r"
    first, moved = split.train
    loop.train_and_evaluate(replace(CONFIG, num_steps=3), split, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(ValueError, match="was trained with other images") as raised:
        loop.train_and_evaluate(CONFIG, more_images(split), folder)
    for part in (
        "(added: synthetic-0-009; in another part: ",
        f"{moved.name} (train, now validation)); put them back to resume",
        "--keep-split) to go on with the images of its own split",
        "choose another folder to start anew.",
    ):
        assert part in str(raised.value)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert {path.name for path, _ in before.items() ^ after.items()} <= {
        "r",
        folders.LOCK,
    }
    config = replace(CONFIG, data=replace(CONFIG.data, keep_split=True))
    experiment.run(config, more_images(split), folder, title="", command="")
    assert first.name in (folder / "data.json").read_text()
    assert_equal_runs(folder, uninterrupted)


def test_with_a_damaged_record_of_images_the_checkpoints_decide(tmp_path):
    folder = tmp_path / "r"
    loop.train_and_evaluate(replace(CONFIG, num_steps=3), make_split(), folder)
    (folder / "data.json").write_text("{")
    with pytest.raises(ValueError, match=r"data\.json is damaged.* put those back"):
        loop.train_and_evaluate(CONFIG, more_images(make_split()), folder)
    (folder / "config.json").write_text("{")
    with (
        pytest.warns(UserWarning, match=r"data\.json is damaged .* written again"),
        pytest.raises(
            ValueError, match=r"config\.json is damaged .* not that of the checkp"
        ),
    ):
        loop.train_and_evaluate(replace(CONFIG, seed=1), make_split(), folder)
    with pytest.warns(UserWarning, match=r"config\.json is damaged .* written again"):
        loop.train_and_evaluate(CONFIG, make_split(), folder)


def test_what_a_killed_process_left_is_removed(uninterrupted, tmp_path):
    folder = tmp_path / "r"
    loop.train_and_evaluate(replace(CONFIG, num_steps=3), make_split(), folder)
    for name in (
        ".config.0123abcd.json",
        "pictures/.step_00000006.0123abcd.png",
        ".model.new/weights.npz",
        ".model.old/weights.npz",
        "checkpoints/6.orbax-checkpoint-tmp/a",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"half")
    (folder / ".notes").write_text("of the user")
    loop.train_and_evaluate(CONFIG, make_split(), folder)
    assert_equal_runs(folder, uninterrupted)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert {n for n in names if "half" in n or n.startswith(".") or "tmp" in n} == {
        folders.LOCK,
        ".notes",
    }
    assert not [n for n in names if n.startswith("pictures/.")]
