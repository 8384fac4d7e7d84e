"""The benchmark runs, and what it says of the work is right."""

import doctest
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from experiments import benchmark, benchmarks
from experiments.benchmarks import (
    augmentation,
    data,
    machine,
    matrix,
    measuring,
    network,
    plan,
    prediction,
    startup,
    table,
    weight_maps,
)
from experiments.benchmarks.measuring import OURS, Case, Contender, Effort, Row
from tests.experiments.tiny import TINY
from unetjax.devices import memory
from unetjax.training import cost
from unetjax.weight_maps import reference


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Threads of OpenMP wait for each other without end on a busy machine."""
    monkeypatch.setattr(machine, "num_threads", lambda: 1)


@pytest.mark.parametrize("module", [data, table])
def test_examples(module):
    tried = doctest.testmod(module)
    assert tried.attempted
    assert not tried.failed


def test_contenders_take_turns():
    calls = []
    contenders = [
        Contender(OURS, lambda n: calls.append(("ours", n))),
        Contender("peer", lambda n: calls.append(("peer", n))),
        Contender("nobody", None, note="is not there"),
    ]
    effort = Effort(rounds=3, most=3, seconds=0.0)
    rows = measuring.measure(Case("w", "c", items=4), contenders, effort)
    warm_up = 4  # each runs once to warm up and once to see how long it takes
    turns = calls[warm_up:]
    assert [who for who, _ in turns] == ["ours", "ours", "peer", "peer"] * 3
    assert all(n == 1 for _, n in turns[::2])  # memory and caches become its own
    assert all(n > 100 for _, n in turns[1::2])  # too short for the clock: repeated
    assert [len(row.samples) for row in rows] == [3, 3, 0]
    assert rows[0].ratio == 1.0
    assert rows[0].rate == pytest.approx(4 / rows[0].median)
    assert rows[2] == Row("w", "c", "nobody", "float32", note="is not there")


def test_samples_are_summarised_by_quartiles_and_ratios_of_the_same_round():
    row = Row("w", "c", "peer", "float32")
    samples, ours = [5.0, 1.0, 3.0, 2.0, 4.0], [5.0, 0.5, 3.0, 1.0, 2.0]
    filled = measuring._filled(
        row, Case("w", "c", flops=6 * 10**12), samples, ours, 4e12
    )
    assert (filled.lower, filled.median, filled.upper) == (2.0, 3.0, 4.0)
    assert filled.fastest == 1.0
    assert filled.ratio == 2.0  # of 1, 2, 1, 2, 2
    assert (filled.tflops, filled.share) == (2.0, 0.5)
    once = measuring._filled(row, Case("w", "c"), [7.0], None, None)
    assert (once.lower, once.median, once.upper, once.ratio) == (7.0, 7.0, 7.0, None)


def test_very_long_work_is_done_once_a_turn(monkeypatch):
    monkeypatch.setattr(measuring, "_VERY_LONG", 0.0)
    calls = []
    measuring.in_turns([calls.append], Effort(2, 2, 0.0))
    assert len(calls) == 4  # to warm up, to see how long it takes, and two turns


def test_effort_is_bounded_by_time():
    """Rounds go on until the time is up, and reach the least number in any case."""
    (few,) = measuring.in_turns([lambda n: None], Effort(2, 800, 0.0))
    (most,) = measuring.in_turns([lambda n: None], Effort(2, 5, 60.0))
    assert (len(few), len(most)) == (2, 5)


def test_peak_is_that_of_the_fastest():
    rows = [
        Row("matrix", "m", OURS, "float32", (1.0,), 2.0, fastest=1.0, tflops=3e-3),
        Row("matrix", "m", "peer", "float32", (1.0,), 1.0, fastest=1.0, tflops=4e-3),
        Row("matrix", "m", "peer", "bfloat16", note="absent"),
    ]
    assert matrix.peaks(rows) == {"float32": 6e9}


def test_run_measures_and_writes(tmp_path, capsys):
    rows = benchmark.run(TINY, ["forward", "train"])
    assert "train: base 2, 20 pixels, batch 1, sgd" in capsys.readouterr().out
    ours = {row.workload: row for row in rows if row.name == OURS}
    assert list(ours) == ["matrix", "forward", "train"]
    train, config = ours["train"], network.experiment(TINY, 2)
    for row, flops in zip(
        (ours["forward"], train), cost.flops(config, channels=1), strict=True
    ):
        assert row.tflops * 1e12 * row.median == pytest.approx(flops)
    assert train.share > 0
    assert train.compile_seconds > 0
    assert train.memory > 1000
    assert train.lower <= train.median <= train.upper
    peers = [row for row in rows if row.name == "PyTorch"]
    assert len(peers) == 3
    assert all(bool(row.samples) != bool(row.note) for row in peers)

    paths = table.write(tmp_path, rows, {"cores": "2"}, "a command")
    document = json.loads(paths[0].read_text())
    assert document["rows"] == [
        row._asdict() | {"samples": list(row.samples)} for row in rows
    ]
    assert document["machine"] == {"cores": "2"}
    lines = paths[1].read_text().splitlines()
    assert "**train: base 2, 20 pixels, batch 1, sgd**" in lines
    assert sum(line.startswith("| unetjax | float32 |") for line in lines) == 3
    page = paths[2].read_text()
    assert "a command" in page
    assert page.count("<svg") == 3
    with pytest.raises(FileExistsError, match="exists already"):
        table.write(tmp_path, rows, {}, "")


def test_table_says_what_was_measured():
    row = Row(
        "train", "c", "peer", "bfloat16", (2.0,), 2.0, 1.5, 2.5, 1.5, 1.25, 4.0,
        0.5, 0.405, 61.0, 3_000_000_000, "of note",
    )  # fmt: skip
    assert table.cells(row) == {
        "who": "peer",
        "precision": "bfloat16",
        "median": "2.00 s",
        "quartiles": "1.50 s to 2.50 s",
        "ratio": "1.25",
        "items/s": "4.00",
        "speed": "500 GFLOP/s",
        "of peak": "40%",
        "memory": "3.00 GB",
        "compile": "61.0 s",
        "note": "of note",
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--only=forward,trian"], "no workload 'trian'; did you mean train?"),
        (["--quick", "--full"], "--full: not allowed with argument --quick"),
        (["--images=512"], "--images: '512' is not the number of features of the"),
        (["--images=16x512,16x"], "--images: '16x' is not the number"),
        (["--images=0x512"], "'0x512' is not the number"),
        (["--images=16 x 512"], "'16 x 512' is not the number"),
    ],
)
def test_options_are_refused_before_anything_is_measured(capsys, args, message):
    assert benchmark.main(args) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: argument --")
    assert message in err
    assert not out


def test_options_choose_the_sizes():
    def choose(*args):
        return benchmark.choose(benchmark.make_parser().parse_args(args))

    assert choose() == plan.DEFAULT
    assert choose("--quick") == plan.QUICK
    assert choose("--full") == plan.FULL
    chosen = choose("--rounds=2", "--images=16x10000,64x512")
    assert chosen.effort.rounds == 2
    assert chosen.images == ((16, 10_000), (64, 512))
    assert chosen.features == plan.DEFAULT.features


def test_training_trains():
    """The step that is measured really updates: its loss falls."""
    config = network.experiment(TINY, 2, batch_size=2)
    config = replace(config, model=config.model.clone(dropout_rate=0.0))
    contender = network.our_training(config)
    before = float(contender.run(1)[1].loss)
    after = float(contender.run(300)[1].loss)
    assert after < before - 0.01


def test_busy_machines_are_named(monkeypatch):
    monkeypatch.setattr(machine, "num_threads", lambda: 4)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (1.9, 9.0, 9.0))
    assert not machine.busy()
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (2.0, 0.0, 0.0))
    assert "the load is 2.00, 0.00, 0.00 on 4 cores" in machine.busy()


def test_absent_torch_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "experiments.benchmarks.torch_unet", False)
    monkeypatch.delattr(benchmarks, "torch_unet", False)
    (rows,) = matrix.products(TINY)
    assert rows[1].note == "not installed; the extra `benchmark` brings it"
    assert table.cells(rows[1])["median"] == ""


def test_weight_maps_are_one_map():
    """What is compared, in time, is the same map."""
    instances = weight_maps.cells(9, 40)
    assert sorted(np.unique(instances)) == list(range(10))
    naive = weight_maps.one_transform_a_cell(instances)
    exact = reference.label_and_weight(
        np.sign(instances), instances, (1.0, 1.0), settings=weight_maps.SETTINGS
    )[1]
    assert naive.max() > 1.5  # the border term is there
    np.testing.assert_allclose(naive, exact, atol=1e-6)


def test_many_cells_are_left_out_of_the_naive_map():
    few, many = weight_maps.weight_maps(TINY, {})
    assert [bool(row.samples) for row in few] == [True, True, True]
    assert [bool(row.samples) for row in many] == [True, True, False]
    assert "left out" in many[2].note
    assert few[0].case == "3 cells, 40 x 40 pixels"


def test_the_distances_of_very_many_cells_are_counted():
    instances = np.full((300, 300), 90_000, np.int32)  # whose product is no int32
    assert "64.8 GB" in weight_maps.public(instances, measured=False).note


def test_augmentations_of_the_peer_move_image_and_label_together():
    _, label, instances = augmentation.example(60)
    moved = augmentation.warp(
        (label.astype(np.float32), label, instances), np.random.default_rng(3), 1
    )
    assert np.mean(np.abs(moved[0] - moved[1])) < 0.2  # only edges are in between
    assert np.mean(moved[1] != label) > 0.1  # it moved
    assert set(np.unique(moved[2])) <= set(np.unique(instances))
    where = augmentation.positions(np.random.default_rng(0), 200)
    steps = np.linalg.norm(np.diff(where, axis=1), axis=0)
    assert 0.8 < np.median(steps) < 1.2  # neighbours stay neighbours

    (rows,) = augmentation.augmentations(TINY._replace(augmented=3), {})
    assert rows[0].rate == pytest.approx(3 / rows[0].median)
    assert [row.name for row in rows[:3]] == [OURS, "SciPy, order 1", "SciPy, order 3"]
    assert bool(rows[3].samples) or "build it from source" in rows[3].note


@pytest.mark.slow
def test_steps_with_data_say_what_limits_them():
    (rows,) = data.steps_with_data(TINY._replace(map_size=64), {})
    assert rows[0].note == data.verdict(1 / rows[1].ratio)
    assert data.verdict(1.05).startswith("compute-bound")
    assert data.verdict(1.06).startswith("input-bound")
    assert rows[0].memory > rows[1].memory  # it holds images


def test_predictions_name_their_tiles():
    (rows,) = prediction.predictions(TINY, {})
    ours, openvino, peer = rows
    assert ours.note.startswith("1 tile, first call")
    assert openvino.note.startswith("1 tile, first call") or not openvino.samples
    assert peer.note.startswith("64 tiles of 20") or not peer.samples


def test_starts_are_measured(monkeypatch):
    """Imports and first steps; here only the statements are run."""
    statements, caches = set(), []
    monkeypatch.setattr(startup, "_import", statements.add)
    monkeypatch.setattr(startup, "first_step", lambda _, cache: caches.append(cache))
    imports, steps = startup.starts(TINY, {})
    assert [row.name for row in imports] == [OURS, "jax alone"]
    assert [row.name for row in steps] == [OURS, "unetjax, the first time"]
    assert all(row.median for row in (*imports, *steps))
    for statement in statements:
        exec(statement, {})
    fresh = {cache for cache in caches if caches.count(cache) == 1}
    kept = set(caches) - fresh
    assert len(kept) == 1
    assert len(fresh) > 1


def test_an_import_takes_a_fresh_interpreter():
    measured = measuring.seconds(
        lambda _: startup._import("import time; time.sleep(0.1)")
    )
    assert measured > 0.1
    with pytest.raises(subprocess.CalledProcessError):
        startup._import("import unetjax.nonsense")


@pytest.mark.slow
def test_first_step_is_waited_for(tmp_path):
    args = [
        "--config=ml_collections_configs/smoke.py",
        "--config.model.features=2",
        "--config.model.depth=1",
        "--config.tile_size=20",
    ]
    startup.first_step(args, str(tmp_path))
    assert list(tmp_path.glob("unetjax/xla-*/*"))  # compiled programs are kept there


def test_training_that_does_not_start_says_why(tmp_path):
    args = ["--config=ml_collections_configs/smoke.py", "--config.tile_sise=20"]
    with pytest.raises(RuntimeError, match=r"did not start: .*did you mean tile_size"):
        startup.first_step(args, str(tmp_path))


@pytest.mark.parametrize(("limit", "batch"), [(100, 16), (83, 16), (80, 8), (5, 1)])
def test_the_largest_batch_fits_into_part_of_the_memory(monkeypatch, limit, batch):
    """A tile takes 2 bytes and all of them one more; 0.4 of the limit may be used."""

    def build(config):
        return Contender(OURS, None, memory=1 + 2 * config.batch_size)

    monkeypatch.setattr(memory, "limit", lambda: limit)
    assert network.largest_batch(build, network.experiment(TINY, 2)) == batch


def test_batch_size_0_is_the_largest_that_fits(monkeypatch):
    monkeypatch.setattr(network, "largest_batch", lambda build, config: 4)
    (rows,) = network.forward_passes(TINY._replace(batch_sizes=(0,)), {})
    assert rows[0].case == "base 2, 20 pixels, batch 4"
    assert rows[0].rate == pytest.approx(4 / rows[0].median)
