import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import apply, init, normal
from unetjax.geometry import Geometry
from unetjax.network.unet import UNet

TINY = UNet(features=2, depth=1)


@pytest.fixture(scope="module")
def tiny():
    image = normal(2, 20, 24, 1)
    return init(TINY, jax.random.key(0), image), image


def shapes(model, side, channels=1):
    image = jax.ShapeDtypeStruct((1, side, side, channels), "float32")
    init = functools.partial(model.init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), image)


@pytest.mark.parametrize(("side", "expected"), [(572, 388), (188, 4), (700, 516)])
def test_the_paper_network(side, expected):
    logits, variables = shapes(UNet(), side)
    assert logits.shape == (1, expected, expected, 2)
    assert logits.dtype == jnp.float32
    assert Geometry().output_size(side) == expected
    leaves = jax.tree.leaves(variables)
    assert sum(x.size for x in leaves) == 31_030_658
    assert len(leaves) == 46
    assert sum(x.ndim == 4 for x in leaves) == 23


def test_parameter_names_are_public():
    """Model folders and importers depend on them."""
    _, variables = shapes(UNet(), 188)
    names = [f"encoder_{i}" for i in range(4)] + ["bottleneck"]
    names += [f"up_{i}" for i in range(4)] + [f"decoder_{i}" for i in range(4)]
    assert sorted(variables["params"]) == sorted([*names, "head"])
    assert sorted(variables["params"]["decoder_3"]) == ["conv_0", "conv_1"]
    kernel = variables["params"]["decoder_3"]["conv_0"]["kernel"]
    assert kernel.shape == (3, 3, 1024, 512)
    assert variables["params"]["up_3"]["kernel"].shape == (2, 2, 512, 1024)


@pytest.mark.parametrize(
    ("levels", "features", "channels", "classes", "expected"),
    [
        (5, 64, 3, 2, 31_031_810),
        (4, 64, 1, 2, 7_696_258),
        (3, 64, 1, 2, 1_861_762),
        (3, 64, 3, 2, 1_862_914),
        (3, 32, 1, 2, 465_986),
        (3, 16, 3, 2, 117_058),
        (3, 16, 1, 3, 116_787),
        (2, 8, 1, 2, 6_434),
        (1, 4, 1, 2, 198),
    ],
)
def test_parameter_counts(levels, features, channels, classes, expected):
    model = UNet(num_classes=classes, features=features, depth=levels - 1)
    _, variables = shapes(model, model.geometry.input_size(1), channels)
    assert sum(x.size for x in jax.tree.leaves(variables)) == expected


@pytest.mark.parametrize("side", [186, 190, 512, 570, 600])
def test_illegal_tiles_are_refused_at_trace_time(side):
    with pytest.raises(ValueError, match=rf"got {side}; try \d+ or \d+\."):
        shapes(UNet(), side)


def test_message_names_both_neighbours():
    with pytest.raises(ValueError, match="try 508 or 524"):
        shapes(UNet(), 512)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel_size": 2}, "kernel_size must be odd, got 2.*try 3"),
        (
            {"dropout_rate": 1.0},
            "dropout_rate must .* below 1, got 1.0; it is",
        ),
        ({"depth": -1}, "depth must be at least 0 and at most 16, got -1"),
        ({"norm": "instance"}, "norm must be one of none, batch.*got 'instance'"),
        ({"padding": "valid"}, "padding must be one of VALID, SAME, got 'valid'"),
    ],
)
@pytest.mark.usefixtures("as_installed")
def test_bad_options_are_refused_on_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        UNet(**fields)


def test_logits_take_both_signs(tiny):
    """A rectified head, the dead-output bug of older packages, fails here."""
    variables, image = tiny
    logits = np.asarray(apply(TINY, variables, image))
    assert (logits < 0).any()
    assert (logits > 0).any()


def test_shift_by_the_period_commutes(tiny):
    """Translating the input by 2^depth translates the output by as much."""
    model = UNet(features=2, depth=2)
    image = np.asarray(normal(1, 60, 60, 1))  # cut without compiling
    variables = init(model, jax.random.key(0), image[:, :44, :44])
    here, there, off_phase = (
        np.asarray(apply(model, variables, image[:, top : top + 56, :56]))
        for top in (0, 4, 2)
    )
    np.testing.assert_allclose(here[:, 4:], there[:, :-4], atol=1e-5)
    assert np.abs(here[:, 2:] - off_phase[:, :-2]).max() > 1e-2


def test_jit_vmap_and_grad_of_apply(tiny):
    variables, image = tiny
    plain = functools.partial(TINY.apply, train=False)
    expected = np.asarray(plain(variables, image))
    np.testing.assert_allclose(jax.jit(plain)(variables, image), expected, atol=1e-5)

    ensemble = jax.tree.map(lambda x: np.stack([x, 2 * x]), variables)
    both = np.asarray(jax.jit(jax.vmap(plain, in_axes=(0, None)))(ensemble, image))
    np.testing.assert_allclose(both[0], expected, atol=1e-5)
    assert np.abs(both[1] - expected).max() > 1e-3

    slope = jax.jit(jax.grad(lambda v: plain(v, image).sum()))(variables)
    assert all(np.isfinite(g).all() and np.any(g) for g in jax.tree.leaves(slope))


def test_export_runs_without_the_code(tiny):
    variables, image = tiny
    compiled = jax.jit(functools.partial(TINY.apply, train=False))
    exported = jax.export.export(compiled)(variables, image)
    restored = jax.export.deserialize(exported.serialize())
    np.testing.assert_array_equal(
        restored.call(variables, image), compiled(variables, image)
    )


def test_dropout_is_off_in_evaluation_and_masks_two_places():
    """Only the last two blocks of the contracting path are masked."""
    model = UNet(features=4, depth=2)
    image = normal(1, 44, 44, 1)
    variables = init(model, jax.random.key(0), image)
    keys = [{"dropout": jax.random.key(seed)} for seed in (0, 1)]
    quiet = [apply(model, variables, image, rngs=rngs) for rngs in keys]
    np.testing.assert_array_equal(*quiet)

    def noisy(seed):
        run = functools.partial(apply, train=True, capture_intermediates=True)
        _, state = run(model, variables, image, rngs=keys[seed])
        return jax.tree.map(np.asarray, state["intermediates"])

    one, other = noisy(0), noisy(1)
    masked = [name for name in one if name.startswith("Dropout")]
    assert len(masked) == 2
    for name in masked:
        share = np.mean(one[name]["__call__"][0] == 0)
        assert 0.5 < share < 0.95  # half dropped, others zero by the ReLU
    np.testing.assert_array_equal(  # before the first place nothing differs
        one["encoder_0"]["__call__"][0], other["encoder_0"]["__call__"][0]
    )
    assert (one["up_1"]["__call__"][0] != other["up_1"]["__call__"][0]).any()


@pytest.mark.parametrize(
    "fields",
    [
        {"remat": True},
        {"dtype": "bfloat16"},
    ],
)
def test_variants_compute_the_same_function(fields, tiny):
    """Rematerialisation exactly; half precision within its eight bits."""
    variables, image = tiny

    def loss(model, variables):
        return (model.apply(variables, image, train=False) ** 2).mean()

    grad = jax.jit(jax.value_and_grad(loss, argnums=1), static_argnums=0)
    expected, slopes = grad(TINY, variables)
    actual, variant_slopes = grad(TINY.clone(**fields), variables)
    tolerance = 0.05 if "dtype" in fields else 1e-6
    np.testing.assert_allclose(actual, expected, rtol=tolerance)
    scale = max(np.abs(x).max() for x in jax.tree.leaves(slopes))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * scale),
        variant_slopes,
        slopes,
    )
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variant_slopes))


def test_remat_recomputes_in_the_backward_pass(tiny):
    """A remat that is never turned on would pass the test above."""
    variables, image = tiny

    def program(model):
        def loss(variables):
            return model.apply(variables, image, train=False).sum()

        return str(jax.make_jaxpr(jax.grad(loss))(variables))

    assert "remat" in program(TINY.clone(remat=True))
    assert "remat" not in program(TINY)


@pytest.mark.parametrize("norm", ["batch", "layer", "group"])
def test_norms(norm):
    model = UNet(features=4, depth=1, norm=norm, dropout_rate=0.0)
    image = 5 + 3 * normal(2, 20, 20, 1)
    variables = init(model, jax.random.key(0), image)
    logits, state = apply(model, variables, image, train=True, mutable=("batch_stats",))
    assert np.isfinite(logits).all()
    changed = bool(jax.tree.leaves(state.get("batch_stats", {})))
    assert changed == (norm == "batch")


def test_same_padding_keeps_the_size():
    model = UNet(features=2, depth=2, padding="SAME")
    logits, _ = shapes(model, 24)
    assert logits.shape == (1, 24, 24, 2)
    with pytest.raises(ValueError, match="got 22; try 20 or 24"):
        shapes(model, 22)


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_network_loses_the_offset_of_its_kernel(kernel_size, depth):
    """Offsets of jakeret/tf_unet for odd kernels, from the real output."""
    model = UNet(features=1, depth=depth, kernel_size=kernel_size)
    side = model.geometry.input_size(3)
    logits, _ = shapes(model, side)
    lost = side - logits.shape[1]
    assert lost == model.geometry.offset
    assert lost == (kernel_size - 1) // 2 * [4, 16, 40][depth]
