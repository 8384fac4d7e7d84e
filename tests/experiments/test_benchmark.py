"""The benchmark runs, and what it says of the work is right."""

import doctest
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import benchmark
from experiments.benchmarks import machine, measuring, network, plan, table, work
from experiments.benchmarks.measuring import OURS, Case, Contender, Effort, Row
from unetjax import UNet
from unetjax.network.forward import forward

TINY = plan.QUICK._replace(
    effort=Effort(rounds=2, most=2, seconds=0.0, turn=0.0),
    features=(2,),
    depth=1,
    tile_size=20,
    precisions=("float32",),
    matrix_size=16,
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Threads of OpenMP wait for each other without end on a busy machine."""
    monkeypatch.setattr(machine, "num_threads", lambda: 1)


@pytest.mark.parametrize("module", [measuring, table, work])
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
    assert [who for who, _ in turns] == ["ours", "peer"] * 3
    assert all(n > 100 for _, n in turns)  # too short for the clock: repeated
    assert [len(row.samples) for row in rows] == [3, 3, 0]
    assert rows[0].ratio == 1.0
    assert rows[0].rate == pytest.approx(4 / rows[0].median)
    assert rows[2] == Row("w", "c", "nobody", "float32", note="is not there")


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
    with pytest.raises(ValueError, match="no workload 'trian'; accepted are forward"):
        benchmark.run(TINY, ["trian"])
    with pytest.raises(ValueError, match="exclude each other"):
        benchmark.choose(quick=True, full=True)
    assert benchmark.choose(quick=True, full=False) == plan.QUICK


def test_training_trains():
    """The step that is measured really updates: its loss falls."""
    model = UNet(features=2, depth=1, dropout_rate=0.0)
    batch = network.synthetic_batch(model, 20, 2)
    contender = network.our_training(model, batch, optimizer="adam")
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
    state, _ = network.our_training(model, batch, optimizer="sgd").run(2)
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


def test_absent_torch_says_so(monkeypatch):
    monkeypatch.setattr(machine, "torch_unet", lambda: None)
    (rows,) = machine.matrix_products(TINY)
    assert rows[1].note == "not installed; the extra `benchmark` brings it"
    assert table.cells(rows[1])["median"] == ""
