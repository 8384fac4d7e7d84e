import jax
import numpy as np
import pytest

from tests.networks import init, normal
from unetjax.network.forward import activations, forward
from unetjax.network.unet import UNet


@pytest.mark.parametrize("fields", [{}, {"remat": True}, {"norm": "batch"}])
def test_activations_are_those_on_the_way_to_the_logits(fields):
    model = UNet(features=2, depth=1, up_activation=True, **fields)
    image = normal(1, 20, 20, 1)
    variables = init(model, jax.random.key(1), image)
    params = variables.pop("params")
    found = jax.tree.map(
        np.asarray,
        jax.jit(activations, static_argnums=0)(model, params, variables, image),
    )

    logits, _ = jax.jit(forward, static_argnums=0)(model, params, variables, image)
    np.testing.assert_allclose(found["head"], logits, atol=1e-6)
    blocks = ("encoder_0", "bottleneck", "decoder_0")
    convolutions = {f"{block}/conv_{i}" for block in blocks for i in range(2)}
    assert {*blocks, *convolutions, "up_0", "head"} <= set(found)
    assert not any("Dropout" in name for name in found)
    for block in blocks:
        assert found[block].min() == 0  # after the ReLU
        assert found[f"{block}/conv_1"].min() < 0  # before it
        assert found[block].shape == found[f"{block}/conv_1"].shape
    assert found["encoder_0/conv_0"].shape == (1, 18, 18, 2)


@pytest.mark.parametrize("function", [forward, activations])
def test_parameters_and_model_state_are_not_mixed_up(function):
    """A `params` in the model state would silently replace the first argument."""
    model = UNet(features=2, depth=1, norm="batch")
    image = jax.numpy.zeros((1, 20, 20, 1))
    variables = init(model, jax.random.key(1), image)
    params, statistics = variables["params"], variables["batch_stats"]
    collections = "got variables with the collections batch_stats, params; pass "
    message = f"^params must be the parameters alone, {collections}"
    with pytest.raises(ValueError, match=message):
        function(model, variables, {"batch_stats": statistics}, image)
    message = f"^model_state must be the other collections alone, {collections}"
    with pytest.raises(ValueError, match=message):
        function(model, params, variables, image)
