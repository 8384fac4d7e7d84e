import csv
import importlib.util
import sys

import numpy as np
import pytest

from experiments import compare
from experiments.benchmarks import machine
from unetjax.data import synthetic
from unetjax.data.splits import Split
from unetjax.evaluation import score_sets
from unetjax.files import images

has_torch = importlib.util.find_spec("torch") is not None
has_stardist = importlib.util.find_spec("tensorflow") is not None
needs_torch = pytest.mark.skipif(not has_torch, reason="torch is not installed")
needs_stardist = pytest.mark.skipif(
    not has_stardist, reason="tensorflow is not installed"
)


def make_cells(index):
    return synthetic.touching_cells(0, index, size=(64, 64), num_cells=4, radius=8.0)


@pytest.fixture
def folders(tmp_path):
    """Images and masks of two sets, by the first part of the name of the folder."""
    for name, indices in {"own": range(4), "new": range(4, 6)}.items():
        (tmp_path / f"{name}_images").mkdir()
        (tmp_path / f"{name}_masks").mkdir()
        for i in indices:
            cells = make_cells(i)
            images.write_image(tmp_path / f"{name}_images" / f"{i}.tif", cells.image)
            images.write_labels(
                tmp_path / f"{name}_masks" / f"{i}.tif", cells.instances
            )
    return tmp_path


def arguments(folders, out):
    argv = ["--images", str(folders / "own_images")]
    argv += ["--masks", str(folders / "own_masks")]
    argv += ["--test-images", str(folders / "new_images")]
    argv += ["--test-masks", str(folders / "new_masks")]
    return [*argv, "--minutes", "0.02", "--features", "2", "--out", str(out)]


@pytest.mark.skipif(has_torch, reason="torch is installed")
def test_without_torch_nothing_is_trained(folders, tmp_path, capsys):
    assert compare.main(arguments(folders, tmp_path / "out")) == 2
    message = capsys.readouterr().err
    assert "plain PyTorch U-Net needs torch: pip install" in message
    assert "--peers stardist" in message
    assert not list((tmp_path / "out").glob("seed*"))


@needs_torch
def test_both_are_trained_and_scored_on_all_sets(folders, tmp_path, capsys):
    new = [str(folders / "new_images"), str(folders / "new_masks")]
    argv = [*arguments(folders, tmp_path / "out"), "--also", "other", *new]
    argv += ["--peers", "plain_unet"]
    peer = compare.PEERS["plain_unet"]
    assert compare.main(argv) == 0
    table = (tmp_path / "out" / "scores.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    methods = [row["method"] for row in rows if row["images"] == "test"]
    baselines = ["Otsu + components", "Otsu + watershed"]
    assert methods == [compare.OURS, peer, *baselines]
    methods = [row["method"] for row in rows if row["images"] == "other"]
    assert methods == [compare.OURS, compare.SCALED, peer, *baselines]
    by_set = [
        {row["method"]: row["AP at IoU 0.5"] for row in rows if row["images"] == name}
        for name in ("test", "other")
    ]
    assert by_set[0] == {k: v for k, v in by_set[1].items() if k != compare.SCALED}
    picture = images.read_image(tmp_path / "out" / "seed=0" / "pictures" / "test.png")
    assert np.unique(picture).size > 10
    capsys.readouterr()
    assert compare.main(argv) == 0  # nothing is trained again
    assert "steps" not in capsys.readouterr().out
    assert compare.main([*argv, "--features", "3"]) == 2
    assert "was begun with other options" in capsys.readouterr().err
    assert compare.main([*argv, "--also", "test", *new]) == 2
    assert "--also test is the name of another set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.5], "0.500"), ([0.25, 0.75], "0.500 ± 0.354"), ([0.5, None], "")],
)
def test_scores_are_means_over_seeds(values, text):
    done = [{"test": {"ours": {"dice": value}}} for value in values]
    shown = score_sets.PIXELS._replace(shown={"dice": "Dice"})
    row = {"images": "test", "method": "ours", "Dice": text}
    assert compare.mean_rows(done, shown) == [row]


@needs_torch
def test_a_plain_network_learns():
    from experiments.peers import plain_unet

    cells = [make_cells(i) for i in range(3)]
    accuracies = []

    def validate(predict):
        hits = [(predict(e).label == e.label).mean() for e in cells[2:]]
        accuracies.append(float(np.mean(hits)))
        return accuracies[-1]

    predict, num_steps = plain_unet.train(
        cells[:2],
        validate,
        num_classes=2,
        minutes=0.5,
        features=4,
        seed=0,
        num_threads=machine.num_threads(),
        min_size=0,
    )
    assert len(accuracies) == 10
    assert num_steps >= 10
    best = (predict(cells[2]).label == cells[2].label).mean()
    assert best == max(accuracies)
    assert best > max(1 - cells[2].label.mean(), 0.9)


@needs_stardist
def test_stardist_is_trained_in_a_process_of_its_own(folders, tmp_path):
    argv = [*arguments(folders, tmp_path / "out"), "--peers", "stardist"]
    assert compare.main(argv) == 0
    assert "tensorflow" not in sys.modules
    table = (tmp_path / "out" / "scores.csv").read_text()
    methods = [row["method"] for row in csv.DictReader(table.splitlines())]
    assert methods[:2] == [compare.OURS, compare.PEERS["stardist"]]


@needs_stardist
def test_stardist_learns():
    cells = [make_cells(i) for i in range(5)]
    split = Split(cells[:3], cells[3:4], None)
    predictions, num_steps = compare._in_new_process(
        compare._stardist, split, {"test": cells[4:]}, minutes=0.5, seed=0
    )
    assert num_steps >= 10
    found = predictions["test"][0]
    assert found.instances.max() >= 1
    assert found.probs.shape == (64, 64, 2)
    accuracy = (found.label == cells[4].label).mean()
    assert accuracy > max(1 - cells[4].label.mean(), 0.8)
