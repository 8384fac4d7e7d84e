import jax
import jax.numpy as jnp
import pytest

from unetjax.network.flops import count_flops
from unetjax.network.forward import forward
from unetjax.network.unet import UNet


def passes(model, side):
    """Operations of a forward pass, and of one with its gradient."""
    spec = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
    params = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros(spec.shape), train=False)
    )["params"]

    def predict(params, image):
        return forward(model, params, {}, image)[0]

    def learn(params, image):
        return jax.value_and_grad(lambda p: predict(p, image).sum())(params)

    return count_flops(predict, params, spec), count_flops(learn, params, spec)


def test_the_paper_has_300_gflop():
    """Level by level: 2 x pixels x kernel x channels in and out; 3 passes in training.

    The gradient by the image is not needed, so the first layer lacks its third.
    """
    first = 2 * 570**2 * 9 * 64
    one_pass = sum(
        2 * side**2 * area * inputs * outputs
        for side, area, inputs, outputs in [
            *((572 - 2, 9, 1, 64), (568, 9, 64, 64)),
            *((282, 9, 64, 128), (280, 9, 128, 128)),
            *((138, 9, 128, 256), (136, 9, 256, 256)),
            *((66, 9, 256, 512), (64, 9, 512, 512)),
            *((30, 9, 512, 1024), (28, 9, 1024, 1024)),
            *((28, 4, 1024, 512), (54, 9, 1024, 512), (52, 9, 512, 512)),
            *((52, 4, 512, 256), (102, 9, 512, 256), (100, 9, 256, 256)),
            *((100, 4, 256, 128), (198, 9, 256, 128), (196, 9, 128, 128)),
            *((196, 4, 128, 64), (390, 9, 128, 64), (388, 9, 64, 64)),
            (388, 1, 64, 2),
        ]
    )
    assert one_pass / 1e9 == pytest.approx(300.857, abs=5e-4)
    assert passes(UNet(), 572) == (one_pass, 3 * one_pass - first)


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
