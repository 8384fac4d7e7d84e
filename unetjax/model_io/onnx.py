"""Export of a trained network to ONNX, for inference engines other than JAX.

Batch size, height and width are dynamic. Only standard ONNX operators are used; the
layout is that of ONNX, with channels before height and width.
"""

import importlib.util
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, PyTree

from unetjax.geometry import Geometry
from unetjax.inference.trained_model import TrainedModel
from unetjax.network import norms
from unetjax.network.unet import UNet, num_input_channels
from unetjax.targets.target import num_logits

IMAGE, LOGITS, OUTPUT = "image", "logits", "probabilities"  # names of values

Tiles = Float[np.ndarray, "B H W C"]
Outputs = Float[np.ndarray, "B h w K"]

OPSET = 21  # the first whose GroupNormalization scales every channel by itself
_IR_VERSION = 10  # that of the first release with this opset


def to_onnx(
    trained: TrainedModel,
    *,
    activated: bool = False,
    same_size: bool = False,
    metadata: Mapping[str, str] = types.MappingProxyType({}),
) -> bytes:
    """Returns a trained network, without dropout, as a serialised ONNX model.

    From `image`, float32 [batch, channels, height, width] of legal sides
    (`Geometry.output_size`), to `logits`, float32 [batch, outputs, height, width], as
    `UNet`. Input scaling is left to the caller.

    Args:
      trained: The trained network; its `dtype` is not part of the graph.
      activated: Whether the output is `probabilities` instead, followed by the maps of
        the target, see `targets.target.activate`.
      same_size: Whether the output is as large as the image, with zeros in the rim that
        a `VALID` network loses: `margin` rounded up to the period at the top and at the
        left, `margin` at the bottom and at the right. Legal sides are then multiples of
        the period.
      metadata: Texts to store in the model, by name.

    Raises:
      ModuleNotFoundError: If onnx is not installed.
    """
    onnx = _onnx()
    graph = _Graph(onnx.helper, [], {})
    model, params = trained.model, trained.params
    output = OUTPUT if activated else LOGITS
    sides = ["height", "width"]
    lost = _lost(model) if same_size else (0, 0)
    last = f"{output}_inside" if any(lost) else output
    _emit(
        graph,
        model,
        params,
        trained.model_state.get("batch_stats", {}),
        skip=lost[0] - lost[1],
        output=LOGITS if activated else last,
    )
    if activated:
        _activate_outputs(graph, model, last)
    if any(lost):
        rims = [0, 0, lost[0], lost[0], 0, 0, lost[1], lost[1]]
        graph.add("Pad", last, graph.constant(np.array(rims, np.int64)), output=output)
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
        for name, shape in {
            IMAGE: ["batch", num_input_channels(params), *sides],
            output: [
                "batch",
                model.num_outputs,
                *(
                    ["height", "width"]
                    if same_size
                    else ["output_height", "output_width"]
                ),
            ],
        }.items()
    )
    exported = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "unet",
            inputs,
            outputs,
            [onnx.numpy_helper.from_array(a, n) for n, a in graph.weights.items()],
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="unetjax",
    )
    onnx.helper.set_model_props(exported, dict(metadata))
    return exported.SerializeToString()


def load_runtime(data: bytes) -> tuple[str, Callable[[Tiles], Outputs]]:
    """Returns the name of the runtime that is installed, and what runs a model in it.

    Args:
      data: A serialised model, from `to_onnx`.
    """
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        name, evaluate = "onnxruntime", session.run
    else:
        from onnx.reference import ReferenceEvaluator

        name, evaluate = "onnx.reference", ReferenceEvaluator(data).run

    def run(tiles: Tiles) -> Outputs:
        (found,) = evaluate(None, {IMAGE: np.moveaxis(tiles, -1, 1)})
        return np.moveaxis(found, 1, -1)

    return name, run


class _Graph(NamedTuple):
    """Nodes and weights, to which the network is added part by part.

    Methods return the name under which a value is passed to the next node.
    """

    helper: types.ModuleType  # onnx.helper
    nodes: list[Any]  # onnx.NodeProto
    weights: dict[str, np.ndarray]

    def add(
        self,
        op: str,
        *inputs: str,
        output: str | None = None,
        **attributes: int | float | list[int],
    ) -> str:
        """Adds an operation and returns the name of its output."""
        output = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(op, inputs, [output], **attributes))
        return output

    def constant(self, array: Float[Array, "..."] | np.ndarray | list[int]) -> str:
        """Adds an array and returns its name."""
        name = f"constant_{len(self.weights)}"
        self.weights[name] = np.ascontiguousarray(array)
        return name


def _emit(
    graph: _Graph,
    model: UNet,
    params: PyTree,
    statistics: PyTree,
    *,
    skip: int,
    output: str,
) -> None:
    """Adds the computation of `UNet.__call__`, without dropout.

    Args:
      graph: The graph.
      model: The network.
      params: Its parameters.
      statistics: Its batch statistics.
      skip: First rows and columns that the network does not see.
      output: Name of the logits.
    """

    def block(name: str, x: str) -> str:
        return _block(graph, x, model, params[name], statistics.get(name, {}))

    x, skips = IMAGE, list[str]()
    if skip:
        starts, ends, axes = (
            graph.constant(np.array(numbers, np.int64))
            for numbers in ([skip] * 2, [np.iinfo(np.int64).max] * 2, [2, 3])
        )
        x = graph.add("Slice", x, starts, ends, axes)
    if model.input_shift:
        shift = graph.constant(np.float32(model.input_shift).reshape(1, 1, 1, 1))
        x = graph.add("Add", x, shift)
    for level in range(model.depth):
        x = block(f"encoder_{level}", x)
        skips.append(x)
        x = graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = block("bottleneck", x)
    for level in reversed(range(model.depth)):
        up = params[f"up_{level}"]
        kernel, bias = _kernel(graph, up), graph.constant(up["bias"])
        x = graph.add("ConvTranspose", x, kernel, bias, strides=[2, 2])
        if model.up_activation:
            x = _activate(graph, x, model.negative_slope)
        pair = [_crop(graph, skips[level], model, level), x]
        if model.concat_order == "up_first":
            pair.reverse()
        x = block(f"decoder_{level}", graph.add("Concat", *pair, axis=1))
    head = params["head"]
    kernel, bias = _kernel(graph, head), graph.constant(head["bias"])
    graph.add("Conv", x, kernel, bias, output=output)


def _lost(model: UNet) -> tuple[int, int]:
    """Returns the rims of zeros of an output of the size of the image, see `to_onnx`.

    The first rows and columns are skipped by the difference, so that what remains is
    legal: the margin is -c modulo the period, and so are legal sides.
    """
    if model.padding == "SAME":
        return 0, 0
    margin, period = model.geometry.margin, model.geometry.period
    return -(-margin // period) * period, margin


def _activate_outputs(graph: _Graph, model: UNet, output: str) -> None:
    """Adds the computation of `targets.target.activate`, channels first."""
    split = num_logits(model.num_classes, model.target)
    if split == model.num_outputs:
        graph.add("Softmax", LOGITS, output=output, axis=1)
        return
    ends = graph.constant(np.array([split, model.num_outputs - split], np.int64))
    graph.nodes.append(
        graph.helper.make_node("Split", [LOGITS, ends], ["classes", "maps"], axis=1)
    )
    probs = graph.add("Softmax", "classes", axis=1)
    if model.target == "distances":
        maps = graph.add("Sigmoid", "maps")
    else:
        low, high = (graph.constant(np.array(x, np.float32)) for x in (0, 1))
        maps = graph.add("Clip", "maps", low, high)
    graph.add("Concat", probs, maps, output=output, axis=1)


def _block(
    graph: _Graph, x: str, model: UNet, params: PyTree, statistics: PyTree
) -> str:
    rim = model.kernel_size // 2 if model.padding == "SAME" else 0
    for i in range(2):
        conv = params[f"conv_{i}"]
        kernel, bias = _kernel(graph, conv), graph.constant(conv["bias"])
        x = graph.add("Conv", x, kernel, bias, pads=[rim] * 4)
        x = _normalize(graph, x, model, params, statistics, i)
        x = _activate(graph, x, model.negative_slope)
    return x


def _kernel(graph: _Graph, params: PyTree) -> str:
    """Adds a kernel: the axes [k, k, C, F] become [F, C, k, k].

    Those of an up-convolution, [2, 2, F, C], become [C, F, 2, 2].
    """
    return graph.constant(np.asarray(params["kernel"]).transpose(3, 2, 0, 1))


def _normalize(
    graph: _Graph, x: str, model: UNet, params: PyTree, statistics: PyTree, i: int
) -> str:
    """Adds `network.norms.normalize` in evaluation."""
    if model.norm == "none":
        return x
    name = f"{model.norm.capitalize()}Norm_{i}"
    scale, bias = (graph.constant(params[name][key]) for key in ("scale", "bias"))
    options: dict[str, Any] = {"epsilon": norms.EPSILON[model.norm]}
    if model.norm == "batch":
        moments = [graph.constant(statistics[name][key]) for key in ("mean", "var")]
        return graph.add("BatchNormalization", x, scale, bias, *moments, **options)
    if model.norm == "group":
        options["num_groups"] = norms.num_groups(len(graph.weights[scale]))
        return graph.add("GroupNormalization", x, scale, bias, **options)
    last = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    last = graph.add("LayerNormalization", last, scale, bias, **options)
    return graph.add("Transpose", last, perm=[0, 3, 1, 2])


def _activate(graph: _Graph, x: str, negative_slope: float) -> str:
    if negative_slope:
        return graph.add("LeakyRelu", x, alpha=negative_slope)
    return graph.add("Relu", x)


def _crop(graph: _Graph, skip: str, model: UNet, level: int) -> str:
    """Crops a skip to the size of the up-convolution's output.

    The number of pixels to crop is the same for all legal sides.
    """
    if model.padding == "SAME":
        return skip
    # Between skip and concatenation lies a network of the remaining depth, without its
    # two blocks at full resolution.
    lost = Geometry(model.depth - level, model.kernel_size).offset
    rim = lost // 2 - 2 * (model.kernel_size - 1)
    if rim == 0:
        return skip
    starts, ends, axes = (
        graph.constant(np.array(numbers, np.int64))
        for numbers in ([rim, rim], [-rim, -rim], [2, 3])
    )
    return graph.add("Slice", skip, starts, ends, axes)


def _onnx() -> types.ModuleType:
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ModuleNotFoundError(
            "exporting to ONNX needs onnx, which is not installed: pip install "
            "'unetjax[onnx]'."
        ) from error
    return onnx
