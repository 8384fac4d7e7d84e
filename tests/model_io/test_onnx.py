"""The exported graph must compute what the network computes."""

import functools
import sys

import jax
import numpy as np
import pytest

from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io.onnx import IMAGE, to_onnx
from unetjax.network.forward import forward
from unetjax.network.unet import UNet

onnx = pytest.importorskip("onnx")

VARIANTS = [
    dict(depth=3),
    dict(depth=0),
    dict(padding="SAME"),
    dict(kernel_size=5),
    dict(norm="batch"),
    dict(norm="layer"),
    dict(norm="group"),
    dict(negative_slope=0.1, input_shift=-0.5, num_classes=3),
    dict(target="distances"),
    dict(up_activation=True, wide_last_up=True, concat_order="up_first"),
]


def tile(model, least, seed=0):
    """A random batch of two, neither square nor of one channel."""
    height = model.geometry.input_size(least)
    width = height + model.geometry.period
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, height, width, 2)).astype(np.float32)


def run(graph, image):
    """The reference implementation of ONNX, in NumPy."""
    from onnx.reference import ReferenceEvaluator

    outputs = ReferenceEvaluator(graph).run(None, {IMAGE: image.transpose(0, 3, 1, 2)})
    return outputs[0].transpose(0, 2, 3, 1)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_graph_equals_network(make_variables, options):
    model = UNet(features=4, **{"depth": 2, **options})
    state = dict(make_variables(model, channels=2))
    params = state.pop("params")
    data = to_onnx(TrainedModel(model, params, state))
    graph = onnx.load_from_string(data)
    onnx.checker.check_model(graph, full_check=True)
    predict = jax.jit(functools.partial(forward, model))
    for least in (1, 9):  # one graph for all sizes
        image = tile(model, least)
        expected = np.asarray(predict(params, state, image)[0])
        found = run(graph, image)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_graph_of_the_paper_is_small_operators_only(make_variables):
    model = UNet(features=2)
    graph = onnx.load_from_string(
        to_onnx(TrainedModel(model, make_variables(model)["params"]))
    )
    names = {node.op_type for node in graph.graph.node}
    assert names == {"Conv", "Relu", "MaxPool", "ConvTranspose", "Slice", "Concat"}
    constants = {w.name: onnx.numpy_helper.to_array(w) for w in graph.graph.initializer}
    crops = [
        constants[n.input[1]].tolist() for n in graph.graph.node if n.op_type == "Slice"
    ]
    assert crops == [[4, 4], [16, 16], [40, 40], [88, 88]]


def test_absent_library_is_named_with_the_way_to_it(make_variables, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    model = UNet(features=2, depth=1)
    with pytest.raises(ModuleNotFoundError, match=r"unetjax\[onnx\]"):
        to_onnx(TrainedModel(model, make_variables(model)["params"]))
