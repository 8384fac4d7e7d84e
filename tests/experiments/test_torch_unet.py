"""The network in PyTorch is ours: equal logits, gradients and updates."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import contenders, machine, network, torch_memory
from experiments.benchmarks.measuring import Contender
from tests.experiments.tiny import TINY
from unetjax import TrainedModel, UNet, predict
from unetjax.network.forward import forward

torch_unet = pytest.importorskip(
    "experiments.benchmarks.torch_unet",
    reason="torch is not installed",
    exc_type=ImportError,
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Threads of OpenMP wait for each other without end on a busy machine."""
    monkeypatch.setattr(machine, "num_threads", lambda: 1)
    torch_unet.prepare(1)


def run(net, batch, n=1, **options):
    options = {"optimizer": "", "precision": "float32", "compiled": False, **options}
    return torch_unet.work(net, batch, **options)(n)


@pytest.mark.parametrize("depth", [1, 2])
def test_logits_are_ours(depth):
    plan = TINY._replace(depth=depth, tile_size=44)
    config = network.experiment(plan, 3, batch_size=2)
    model = config.model.clone(num_classes=3)
    config = replace(config, model=model)
    batch = network.synthetic_batch(config)
    params = network.initial_state(config).params
    params = jax.tree.map(lambda x: x + 0.1, params)  # biases too
    logits = np.asarray(forward(model, params, {}, jnp.asarray(batch["image"]))[0])
    theirs = run(torch_unet.from_flax(model, params), batch)
    theirs = theirs.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(theirs, logits, rtol=1e-4, atol=1e-4 * logits.std())


def test_updates_are_ours():
    """Two steps of both end with the same parameters."""
    config = network.experiment(TINY, 2, batch_size=2)
    model = config.model.clone(dropout_rate=0.0)
    config = replace(config, model=model)
    state, _ = network.our_training(config).run(2)
    start = network.initial_state(config).params
    net = torch_unet.from_flax(model, start)
    run(net, network.synthetic_batch(config), n=2, optimizer="sgd")
    ours, theirs, first = (
        np.concatenate([p.detach().numpy().ravel() for p in each.parameters()])
        for each in (
            torch_unet.from_flax(model, state.params),
            net,
            torch_unet.from_flax(model, start),
        )
    )
    moved = ours - first
    np.testing.assert_allclose(
        theirs - first, moved, rtol=0, atol=0.01 * np.abs(moved).max()
    )
    assert np.abs(moved).max() > 1e-5


def test_dropout_acts_where_ours_does():
    """Twice in training, and never in prediction."""
    net = torch_unet.TorchUNet(features=2, depth=2)
    channels = []
    net.dropout.register_forward_hook(lambda _, x, y: channels.append(y.shape[1]))
    net.train()
    tile = torch_unet.torch.zeros(1, 1, 44, 44)
    net(tile)
    assert channels == [4, 8]  # the last encoder block, and the bottleneck
    batch = network.synthetic_batch(
        network.experiment(TINY._replace(depth=2, tile_size=44), 2)
    )
    first, again = (run(net, batch) for _ in range(2))
    assert (first == again).all()
    assert net.dropout.p == UNet().dropout_rate


def test_other_layouts_are_refused():
    model = UNet(features=2, depth=1, wide_last_up=True)
    with pytest.raises(ValueError, match="must have the paper's layout"):
        torch_unet.from_flax(model, {})


def test_tiles_give_the_probabilities_of_our_network():
    """Of one tile that covers the image, and of many, as 4 is a multiple of 2."""
    config = network.experiment(TINY, 2)
    params = network.initial_state(config).params
    image = np.random.default_rng(0).standard_normal((20, 17)).astype(np.float32)
    net = torch_unet.from_flax(config.model, params)
    ours = predict(TrainedModel(config.model, params), image)
    for tile_size, batch_size in ((36, 2), (20, 3)):
        theirs = torch_unet.predict_image(
            net, image, tile_size=tile_size, batch_size=batch_size, precision="float32"
        )
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
    assert len(torch_unet.corners(image.shape, 4)) == 25


def test_contenders_in_torch_run_or_say_why_not():
    def fail(peer, where):
        raise RuntimeError("too little memory\nand a long explanation")

    def succeed(peer, where):
        return Contender("PyTorch", peer.matrix_product(4, "float32", where=where))

    absent = contenders.of_torch("PyTorch", "bfloat16", fail)
    assert (absent.run, absent.note) == (None, "too little memory")
    assert contenders.of_torch("PyTorch", "float32", succeed).run(2) == 4.0


@pytest.mark.slow
def test_peak_memory():
    """Training takes more than a forward pass, and at least its activations."""
    config = network.experiment(TINY._replace(depth=2, tile_size=1020), 4)
    batch = network.synthetic_batch(config)
    predicting, training = (
        torch_memory.peak(
            batch,
            features=4,
            depth=2,
            optimizer=optimizer,
            precision="float32",
            where="cpu",
            num_threads=1,
        )
        for optimizer in ("", "sgd")
    )
    if training is None:
        pytest.skip("this system does not tell the peak of a process")
    first_maps = 2 * 4 * 1016**2 * 4  # bytes
    assert first_maps < training < 100 * first_maps
    assert predicting < training
