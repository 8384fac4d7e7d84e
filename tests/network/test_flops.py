import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from unetjax.network.flops import count_flops
from unetjax.network.unet import UNet
from unetjax.training import cost
from unetjax.training.config import ExperimentConfig
from unetjax.weight_maps.settings import WeightMapSettings


class Convolution(NamedTuple):
    """One convolution: side of its output, taps that meet a pixel, channels."""

    name: str
    side: int
    taps: int
    inputs: int
    outputs: int

    @property
    def flops(self):
        return 2 * self.side**2 * self.taps * self.inputs * self.outputs


def convolutions(model, side, channels=1):
    """Every convolution that a tile goes through, by the paper's Fig. 1."""
    lost = model.kernel_size - 1 if model.padding == "VALID" else 0
    found, width = [], channels

    def block(name, outputs):
        nonlocal side, width
        for i in range(2):
            side -= lost
            taps = model.kernel_size**2
            found.append(Convolution(f"{name}/conv_{i}", side, taps, width, outputs))
            width = outputs

    for level in range(model.depth):
        block(f"encoder_{level}", model.features * 2**level)
        side //= 2
    block("bottleneck", model.features * 2**model.depth)
    for level in reversed(range(model.depth)):
        skip = model.features * 2**level
        up = 2 * skip if model.wide_last_up and level == 0 else skip
        side *= 2  # the 2x2 blocks of an up-convolution do not overlap
        found.append(Convolution(f"up_{level}", side, 1, width, up))
        width = skip + up
        block(f"decoder_{level}", skip)
    return [*found, Convolution("head", side, 1, width, model.num_classes)]


def expected(model, side, channels=1):
    """Operations of a forward pass, and with gradients: two more passes.

    The gradient by the image is not needed, so the first layer lacks one of them.
    """
    first, *rest = (c.flops for c in convolutions(model, side, channels))
    return first + sum(rest), 2 * first + 3 * sum(rest)


def counted(model, side, channels=1):
    """The same, counted from the programs."""
    config = ExperimentConfig(
        model=model,
        tile_size=side,
        weight_map=WeightMapSettings(class_balance=(1.0,) * model.num_classes),
    )
    return cost.flops(config, channels=channels)


@pytest.mark.parametrize(
    ("model", "side", "forward_gflop", "training_gflop"),
    [
        (UNet(), 572, 300.857, 902.196),
        (UNet(features=32), 572, 75.3, 225.8),
        pytest.param(UNet(features=16), 572, 18.9, 56.6, marks=pytest.mark.slow),
        (UNet(features=8), 572, 4.75, 14.2),
        (UNet(padding="SAME"), 512, 384.8, 1154.0),  # zeros of padding included
    ],
    ids=["paper", "32 features", "16 features", "8 features", "same"],
)
def test_operations_of_known_networks(model, side, forward_gflop, training_gflop):
    tolerance = 0.0005 if model == UNet() else 0.06
    assert counted(model, side) == expected(model, side)
    gflop = [flops / 1e9 for flops in counted(model, side)]
    assert gflop == pytest.approx([forward_gflop, training_gflop], abs=tolerance)


def test_shares_of_levels_in_the_paper_network():
    """Derived level by level, by hand: 8.0, 7.7, ... per cent."""
    names = ("encoder_0", "bottleneck", "(up|decoder)_3", "(up|decoder)_0")
    found = convolutions(UNet(), 572)
    levels = [sum(c.flops for c in found if re.match(name, c.name)) for name in names]
    total = counted(UNet(), 572)[0]
    assert [round(100 * f / total, 1) for f in levels] == [8.0, 7.7, 14.5, 12.0]


@pytest.mark.parametrize(
    "model",
    [
        UNet(features=2, depth=2),
        UNet(features=3, depth=1, num_classes=3, wide_last_up=True),
        UNet(features=2, depth=1, kernel_size=5, padding="SAME"),
        UNet(features=2, depth=0),
    ],
    ids=["two levels", "wide", "kernel of 5", "no level"],
)
def test_every_kernel_of_the_network_is_counted(model):
    side, channels = 44, 3
    init = jax.eval_shape(
        lambda image: model.init(jax.random.key(0), image, train=False),
        jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32),
    )
    kernels = {
        "/".join(key.key for key in path[:-1]): math.prod(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(init["params"])
        if path[-1].key == "kernel"
    }
    assert kernels == {
        # A 2x2 kernel, of which every pixel of the output sees one tap.
        c.name: c.taps * c.inputs * c.outputs * (4 if "up" in c.name else 1)
        for c in convolutions(model, side, channels)
    }
    assert counted(model, side, channels) == expected(model, side, channels)


@pytest.mark.parametrize(
    ("padding", "hits"), [("VALID", 3 * 6), ("SAME", 3 * 8 - 2)], ids=["valid", "same"]
)
def test_products_with_padding_do_not_count(padding, hits):
    image, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))

    def convolve(image, kernel):
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def slopes(image, kernel):
        return jax.grad(lambda *x: (convolve(*x) ** 2).sum(), (0, 1))(image, kernel)

    expected = 2 * 2 * hits**2 * 3 * 5
    assert count_flops(convolve, image, kernel) == expected
    assert count_flops(slopes, image, kernel) == 3 * expected


def test_loops_and_branches():
    x = jnp.ones((4, 4))

    def loop(x):
        return jax.lax.scan(lambda y, _: (y @ y, None), x, length=5)[0]

    def branch(x):
        return jax.lax.cond(x[0, 0] > 0, lambda y: y @ y @ y, lambda y: y, x)

    once = 2 * 4**3
    assert count_flops(loop, x) == 5 * once
    assert count_flops(jax.jit(branch), x) == 2 * once
