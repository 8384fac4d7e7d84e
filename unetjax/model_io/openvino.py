"""OpenVINO as the engine of prediction: faster than JAX on CPUs."""

import contextlib
import importlib.util
import os
import types
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from unetjax.files import limits
from unetjax.inference.predict import Engine
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import onnx

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def compile_network(trained: TrainedModel) -> Engine:
    """Returns a function from tiles to logits, to be the `engine` of `predict`.

    In float32 its logits equal those of JAX to some 1e-5 of the largest one. With
    `UNet(dtype="bfloat16")` they differ by a few hundredths, as those of JAX in
    bfloat16 do, and take a fraction of the time on a CPU with bfloat16 instructions.

    Args:
      trained: The trained network; computed in the `dtype` of its model.

    Raises:
      ModuleNotFoundError: If openvino or onnx is not installed.
      ValueError: If the CPU cannot compute in this dtype.
    """
    openvino = _openvino()
    core = openvino.Core()
    dtype = jnp.dtype(trained.model.dtype).name
    _check_dtype(dtype, capabilities())
    graph = openvino.preprocess.PrePostProcessor(core.read_model(onnx.to_onnx(trained)))
    for end in (graph.input(), graph.output()):
        # Callers pass NHWC; the graph is NCHW, as ONNX is.
        end.tensor().set_layout(openvino.Layout("NHWC"))
        end.model().set_layout(openvino.Layout("NCHW"))
    hints = {"INFERENCE_PRECISION_HINT": _PRECISIONS[dtype]}
    compiled = core.compile_model(graph.build(), "CPU", hints)

    def logits(
        image: Float32[np.ndarray, "B H W C"],
    ) -> Float32[np.ndarray, "B h w K"]:
        return compiled(np.ascontiguousarray(image))[0]

    return logits


def is_preferable(models: Sequence[TrainedModel]) -> bool:
    """Returns whether OpenVINO is installed and faster than JAX for these models here.

    That is so on a CPU, in a number type that OpenVINO has there. A process whose
    addresses are limited (`ulimit -v`) has no room for a second runtime.
    """
    if jax.default_backend() != "cpu" or limits.address_space() is not None:
        return False
    if not all(map(importlib.util.find_spec, ("openvino", "onnx"))):
        return False
    try:
        available = capabilities()
        for dtype in {jnp.dtype(each.model.dtype).name for each in models}:
            _check_dtype(dtype, available)
    except (ValueError, RuntimeError, ModuleNotFoundError):
        return False
    return True


def capabilities() -> list[str]:
    """Returns the number types that OpenVINO uses on this CPU, such as FP32 and BF16.

    Raises:
      ModuleNotFoundError: If openvino is not installed.
    """
    return _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _check_dtype(dtype: str, available: list[str]) -> None:
    if dtype not in _PRECISIONS:
        raise ValueError(
            f"dtype must be one of {', '.join(_PRECISIONS)} for OpenVINO, got {dtype}; "
            "use model.clone(dtype='float32')."
        )
    if dtype == "bfloat16" and "BF16" not in available:
        raise ValueError(
            "dtype bfloat16 needs a CPU that multiplies such numbers (AMX or AVX-512 "
            f"with BF16) for OpenVINO, this one has {', '.join(available)}; use "
            "float32."
        )


def _openvino() -> types.ModuleType:
    """Imports OpenVINO, which then sends no usage report."""
    try:
        with _telemetry_disabled():
            import openvino
    except ImportError as error:
        raise ModuleNotFoundError(
            "the engine openvino is not installed: pip install 'unetjax[openvino]'."
        ) from error
    return openvino


@contextlib.contextmanager
def _telemetry_disabled() -> Iterator[None]:
    """Opts out of OpenVINO's usage reports for what is imported inside.

    `import openvino` sends an event and creates a folder in the home folder, unless a
    file there declines (`opt_in_out --opt_out`) or CI is set to true. The variable is
    the only one of the two that writes nothing; it is restored afterwards.
    """
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        del os.environ["CI"]
        if before is not None:
            os.environ["CI"] = before
