"""The benchmark runs, and what it says of the work is right."""

import doctest
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import benchmark
from experiments.benchmarks import (
    augmentation,
    data,
    machine,
    measuring,
    memory,
    network,
    plan,
    prediction,
    startup,
    table,
    weight_maps,
    work,
)
from experiments.benchmarks.measuring import OURS, Case, Contender, Effort, Row
from unetjax import UNet, predict
from unetjax.network.forward import forward
from unetjax.weight_maps import reference

TINY = plan.QUICK._replace(
    effort=Effort(rounds=2, most=2, seconds=0.0, turn=0.0),
    features=(2,),
    depth=1,
    tile_size=20,
    precisions=("float32",),
    watch_memory=False,
    matrix_size=16,
    images=((2, 30),),
    cells=(3, 9),
    map_size=40,
    most_naive_cells=5,
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Threads of OpenMP wait for each other without end on a busy machine."""
    monkeypatch.setattr(machine, "num_threads", lambda: 1)


@pytest.mark.parametrize("module", [data, measuring, network, table, work])
def test_examples(module):
    tried = doctest.testmod(module)
    assert tried.attempted
    assert not tried.failed


@pytest.mark.parametrize(
    ("model", "tile_size", "forward_gflop", "training_gflop"),
    [
        (UNet(), 572, 300.857, 902.196),
        (UNet(features=32), 572, 75.3, 225.8),
        (UNet(features=16), 572, 18.9, 56.6),
        (UNet(features=8), 572, 4.75, 14.2),
        (UNet(padding="SAME"), 512, 384.8, 1154.0),
    ],
)
def test_operations_of_known_networks(model, tile_size, forward_gflop, training_gflop):
    tolerance = 0.0005 if model == UNet() else 0.06
    counted = (
        work.forward_flops(model, tile_size) / 1e9,
        work.training_flops(model, tile_size) / 1e9,
    )
    assert counted == pytest.approx((forward_gflop, training_gflop), abs=tolerance)


def test_shares_of_levels_in_the_paper_network():
    """Derived level by level, by hand: 8.0, 11.6, ... per cent."""
    flops = dict.fromkeys(["encoder_0", "bottleneck", "decoder_3", "decoder_0"], 0)
    for c in work.convolutions(UNet(), 572):
        level = c.name.partition("/")[0].replace("up_", "decoder_")
        if level in flops:
            flops[level] += c.flops
    total = work.forward_flops(UNet(), 572)
    shares = [round(100 * f / total, 1) for f in flops.values()]
    assert shares == [8.0, 7.7, 14.5, 12.0]


@pytest.mark.parametrize(
    "model",
    [
        UNet(features=2, depth=2),
        UNet(features=3, depth=1, num_classes=3, wide_last_up=True),
        UNet(features=2, depth=1, kernel_size=5, padding="SAME"),
        UNet(features=2, depth=0),
    ],
)
def test_operations_fit_the_parameters(model):
    """Every kernel of the network is counted, with its shape."""
    size = 44
    tile = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    init = jax.eval_shape(
        lambda image: model.init(jax.random.key(0), image, train=False), tile
    )
    kernels = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(init["params"]):
        *name, kind = (key.key for key in path)
        if kind == "kernel":
            kernels["/".join(name)] = math.prod(leaf.shape)
    counted = {
        # A 2x2 kernel, of which every pixel of the output sees one tap.
        c.name: c.taps * c.inputs * c.outputs * (4 if "up" in c.name else 1)
        for c in work.convolutions(model, size, channels=3)
    }
    assert counted == kernels


def test_operations_refuse_illegal_tiles():
    with pytest.raises(ValueError, match="got 570; try 556 or 572"):
        work.forward_flops(UNet(), 570)


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
    assert machine.peaks(rows) == {"float32": 6e9}


def test_run_measures_and_writes(tmp_path, capsys):
    rows = benchmark.run(TINY, ["forward", "train"])
    assert "train: base 2, 20 pixels, batch 1, sgd" in capsys.readouterr().out
    ours = {row.workload: row for row in rows if row.name == OURS}
    assert list(ours) == ["matrix", "forward", "train"]
    model = UNet(features=2, depth=1)
    train = ours["train"]
    assert train.tflops * 1e12 * train.median == pytest.approx(
        work.training_flops(model, 20)
    )
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


def test_options_name_the_way_out():
    with pytest.raises(ValueError, match="exclude each other"):
        benchmark.choose(quick=True, full=True)
    assert benchmark.choose(quick=True, full=False) == plan.QUICK


def test_rounds_and_images_are_those_asked_for():
    chosen = benchmark.choose(False, False, rounds=2, images=["16x10000", "64x512"])
    assert chosen.effort.rounds == 2
    assert chosen.images == ((16, 10_000), (64, 512))
    assert chosen.features == plan.DEFAULT.features
    for words in ("512", "16x", "0x512", "16 x 512"):
        with pytest.raises(ValueError, match=f"--images has '{words}'; accepted is"):
            benchmark.choose(False, False, images=[words])


def test_training_trains():
    """The step that is measured really updates: its loss falls."""
    model = UNet(features=2, depth=1, dropout_rate=0.0)
    contender = network.our_training(model, "adam", 20, 2, "float32")
    before = float(contender.run(1)[1].loss)
    after = float(contender.run(300)[1].loss)
    assert after < before - 0.01


@pytest.fixture(scope="module")
def torch_unet():
    pytest.importorskip("torch", reason="the peer needs torch")
    found = machine.torch_unet()
    assert found is not None
    return found


@pytest.mark.parametrize("depth", [1, 2])
def test_torch_network_is_ours(torch_unet, depth):
    """With the same weights, the peer gives the same logits: it is the same network."""
    model = UNet(features=3, depth=depth, num_classes=3)
    batch = network.synthetic_batch(model, 44, 2)
    params = network.initial_params(model, 44)
    params = jax.tree.map(lambda x: x + 0.1, params)  # biases too
    logits = np.asarray(forward(model, params, {}, jnp.asarray(batch["image"]))[0])
    net = torch_unet.from_flax(model, params)
    run = torch_unet.prediction(
        net, batch["image"], precision="float32", compiled=False
    )
    theirs = run(1).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(theirs, logits, rtol=1e-4, atol=1e-4 * logits.std())


def test_torch_step_is_ours(torch_unet):
    """Two steps of both sides end with the same parameters."""
    model = UNet(features=2, depth=1, dropout_rate=0.0)
    batch = network.synthetic_batch(model, 20, 2)
    state, _ = network.our_training(model, "sgd", 20, 2, "float32").run(2)
    net = torch_unet.from_flax(model, network.initial_params(model, 20))
    step = torch_unet.training(
        net, batch, optimizer="sgd", precision="float32", compiled=False
    )
    step(2)
    expected = torch_unet.from_flax(model, state.params)
    start = torch_unet.from_flax(model, network.initial_params(model, 20))
    ours, theirs, first = (
        np.concatenate([p.detach().numpy().ravel() for p in each.parameters()])
        for each in (expected, net, start)
    )
    moved = ours - first
    np.testing.assert_allclose(
        theirs - first, moved, rtol=0, atol=0.01 * np.abs(moved).max()
    )
    assert np.abs(moved).max() > 1e-5


def test_torch_drops_what_ours_drops(torch_unet):
    """Dropout acts twice in training, and never in prediction."""
    net = torch_unet.TorchUNet(features=2, depth=2)
    found = []
    net.dropout.register_forward_hook(lambda _, x, y: found.append(y.shape[1]))
    net.train()
    tile = torch_unet.torch.zeros(1, 1, 44, 44)
    net(tile)
    assert found == [4, 8]  # the last encoder block, and the bottleneck
    assert net.dropout.p == UNet().dropout_rate


def test_torch_refuses_other_layouts(torch_unet):
    model = UNet(features=2, depth=1, wide_last_up=True)
    with pytest.raises(ValueError, match="must have the paper's layout"):
        torch_unet.from_flax(model, {})


def test_busy_machines_are_named(monkeypatch):
    monkeypatch.setattr(machine, "num_threads", lambda: 4)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (1.9, 9.0, 9.0))
    assert not machine.busy()
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (2.0, 0.0, 0.0))
    assert "the load is 2.00, 0.00, 0.00 on 4 cores" in machine.busy()


def test_absent_torch_says_so(monkeypatch):
    monkeypatch.setattr(machine, "torch_unet", lambda: None)
    (rows,) = machine.matrix_products(TINY)
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
    assert "64.8 GB" in weight_maps._public(instances, wanted=False).note


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


def test_tiles_of_the_peer_are_its_network(torch_unet):
    """One tile that covers the image gives the same probabilities as ours."""
    model = UNet(features=2, depth=1)
    params = network.initial_params(model, 20)
    image = np.random.default_rng(0).standard_normal((20, 17)).astype(np.float32)
    net = torch_unet.from_flax(model, params)
    theirs = torch_unet.predict_image(
        net, image, tile_size=36, batch_size=2, precision="float32"
    )
    np.testing.assert_allclose(theirs, predict(model, params, image), atol=1e-5)
    many = torch_unet.predict_image(
        net, image, tile_size=20, batch_size=3, precision="float32"
    )
    assert len(torch_unet.corners(image.shape, torch_unet.trusted(net, 20))) == 25
    np.testing.assert_allclose(many, theirs, atol=1e-5)  # 4 is a multiple of 2


@pytest.mark.slow
def test_import_is_measured(monkeypatch):
    monkeypatch.setattr(startup, "first_step", lambda words, cache: None)
    once = TINY._replace(effort=TINY.effort._replace(rounds=1, most=1))
    imports, steps = startup.starts(once, {})
    assert imports[0].median > 0.05  # an interpreter starts, and imports JAX
    assert [row.name for row in steps] == [OURS, "unetjax, the first time"]


@pytest.mark.slow
def test_first_step_is_waited_for(tmp_path):
    words = [
        "--config=ml_collections_configs/smoke.py",
        "--config.model.features=2",
        "--config.model.depth=1",
        "--config.tile_size=20",
    ]
    startup.first_step(words, str(tmp_path))
    assert list(tmp_path.glob("unetjax/xla-*/*"))  # compiled programs are kept there


def test_training_that_does_not_start_says_why(tmp_path):
    words = ["--config=ml_collections_configs/smoke.py", "--config.tile_sise=20"]
    with pytest.raises(RuntimeError, match=r"did not start: .*did you mean tile_size"):
        startup.first_step(words, str(tmp_path))


@pytest.mark.slow
def test_peak_memory_of_the_peer(torch_unet):
    """Training holds more than a forward pass, and at least its activations."""
    small = memory.Work(4, 2, 380, 340, 1, "float32", "", "cpu", 1)
    predicting = memory.peak_of_torch(small._replace(tile_size=1020, output_size=980))
    training = memory.peak_of_torch(
        small._replace(tile_size=1020, output_size=980, optimizer="sgd")
    )
    first_maps = 2 * 4 * 1016**2 * 4  # bytes
    if training is None:
        pytest.skip("this system does not tell the peak of a process")
    assert first_maps < training < 100 * first_maps
    assert predicting < training


def test_largest_batch_needs_a_device_that_tells():
    def build(batch_size, precision):
        return Contender(OURS, None, precision, memory=batch_size)

    with pytest.raises(ValueError, match="tells how much memory it has; name one"):
        network.largest_batch(build)


def test_an_unknown_workload_is_refused_before_anything_is_measured(capsys):
    assert benchmark.main(["--only=forward,trian"]) == 2
    message = (
        "error: argument --only: there is no workload 'trian'; did you mean train?"
    )
    assert capsys.readouterr() == ("", f"{message}\n")
