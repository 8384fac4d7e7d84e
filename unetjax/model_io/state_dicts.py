"""U-Nets of PyTorch projects: their arrays, by the names that each project gives."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree, Shaped

from unetjax.files import limits
from unetjax.geometry import Padding
from unetjax.inference.trained_model import Provenance, TrainedModel
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import ConcatOrder, UNet

StateDict = Mapping[str, Shaped[np.ndarray, "..."]]

_NESTED = ("state_dict", "model_state_dict", "model")  # keys within checkpoints
_STATISTICS = {"mean": "running_mean", "var": "running_var"}


class Layout(NamedTuple):
    """The names of the arrays of one project.

    Templates have `level`, 0 at full resolution; `number`, the same from 1; `start` and
    `before`, the place in the expanding path, 1 and 0 at its lowest level; and `part`,
    one of `convs` or `norms`.

    Attributes:
      first: Block at full resolution of the contracting path.
      encoder: Its other blocks.
      bottleneck: Lowest block.
      up: Up-convolution, 2x2 of stride 2.
      decoder: Block of the expanding path.
      head: The 1x1 classifier.
      convs: Parts of a block that are its convolutions.
      norms: Parts that are its batch normalisations, before the activation; or none.
      concat_order: As in `UNet`.
      padding: As in `UNet`; the default of the project.
      cannot: Names that tell of a variant that `UNet` lacks, each with what it is.
    """

    first: str
    encoder: str
    bottleneck: str
    up: str
    decoder: str
    head: str
    convs: tuple[str, str]
    norms: tuple[str, ...]
    concat_order: ConcatOrder
    padding: Padding
    cannot: Mapping[str, str]


LAYOUTS = {
    "milesial": Layout(  # github.com/milesial/Pytorch-UNet
        first="inc.double_conv.{part}",
        encoder="down{level}.maxpool_conv.1.double_conv.{part}",
        bottleneck="down{level}.maxpool_conv.1.double_conv.{part}",
        up="up{start}.up",
        decoder="up{start}.conv.double_conv.{part}",
        head="outc.conv",
        convs=("0", "3"),
        norms=("1", "4"),
        concat_order="skip_first",
        padding="SAME",
        cannot={},
    ),
    "jvanvugt": Layout(  # github.com/jvanvugt/pytorch-unet
        first="down_path.0.block.{part}",
        encoder="down_path.{level}.block.{part}",
        bottleneck="down_path.{level}.block.{part}",
        up="up_path.{before}.up",
        decoder="up_path.{before}.conv_block.block.{part}",
        head="last",
        convs=("0", "2"),
        norms=(),
        concat_order="up_first",
        padding="VALID",
        cannot={
            "down_path.0.block.2.running_mean": "batch normalisation after activations",
            "up_path.0.up.1.weight": "bilinear up-sampling",
        },
    ),
    "mateuszbuda": Layout(  # github.com/mateuszbuda/brain-segmentation-pytorch
        first="encoder1.enc1{part}",
        encoder="encoder{number}.enc{number}{part}",
        bottleneck="bottleneck.bottleneck{part}",
        up="upconv{number}",
        decoder="decoder{number}.dec{number}{part}",
        head="conv",
        convs=("conv1", "conv2"),
        norms=("norm1", "norm2"),
        concat_order="up_first",
        padding="SAME",
        cannot={},
    ),
}


def read(path: pathlib.Path) -> StateDict:
    """Returns the arrays of a file by their names, those of networks in float32.

    Nothing in the file is executed: of a `.pth` the weights alone are read.

    Args:
      path: A `.safetensors` file, or one of `torch.save`, `.pth` or `.pt`: a state
        dict, or a checkpoint that holds one.

    Raises:
      FileNotFoundError: If there is no such file.
      ModuleNotFoundError: If safetensors or torch is not installed.
      ValueError: If the file is of another kind or damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    limits.check_regular(path)
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        arrays = _read_safetensors(path)
    elif suffix in (".pth", ".pt"):
        arrays = _read_torch(path)
    else:
        raise ValueError(
            f"{path} cannot be imported: accepted are .safetensors, .pth and .pt, the "
            "state dict of a PyTorch model; of an ONNX file, import the weights that "
            "it was made from."
        )
    return {name.removeprefix("module."): array for name, array in arrays.items()}


def to_model(
    arrays: StateDict,
    *,
    padding: Padding | None = None,
    input_scaling: InputScaling = InputScaling("unit"),
    notes: str = "",
) -> TrainedModel:
    """Returns the network of a state dict, which computes the same numbers.

    A network of one output, whose sigmoid is the probability of the foreground, gets a
    background of logit 0: its softmax is that sigmoid. Convolutions without a bias get
    one of 0.

    Args:
      arrays: The state dict of a layout in `LAYOUTS`; see `read`.
      padding: That of the convolutions, which no array tells; by default that of the
        project.
      input_scaling: How grey values were scaled for the network.
      notes: Where it comes from.

    Raises:
      ValueError: If the layout is unknown or has parts that `UNet` lacks.
    """
    name = _find_layout(arrays)
    layout = LAYOUTS[name]
    depth = _depth(layout, arrays)
    taken = _Taken(arrays, name)
    params: dict[str, Any] = {}
    statistics: dict[str, Any] = {}
    for level in range(depth + 1):
        template = layout.first if level == 0 else layout.encoder
        own = f"encoder_{level}"
        if level == depth:
            template, own = layout.bottleneck, "bottleneck"
        blocks = {own: template}
        if level < depth:
            blocks[f"decoder_{level}"] = layout.decoder
            up = layout.up.format(**_places(level, depth))
            params[f"up_{level}"] = taken.convolution(up, outputs=2)
        for block, text in blocks.items():
            params[block], means = _block(taken, layout, text, _places(level, depth))
            if means:
                statistics[block] = means
    params["head"] = _two_classes(taken.convolution(layout.head))
    taken.check_all_used()
    model = UNet(
        num_classes=params["head"]["bias"].size,
        features=params["bottleneck"]["conv_1"]["bias"].size >> depth,
        depth=depth,
        padding=padding or layout.padding,
        dropout_rate=0.0,
        concat_order=layout.concat_order,
        norm="batch" if layout.norms else "none",
    )
    return TrainedModel(
        model,
        params,
        {"batch_stats": statistics} if statistics else {},
        input_scaling=input_scaling,
        provenance=Provenance(notes=notes or f"imported, layout {name}"),
    )


class _Taken:
    """The arrays of a state dict, of which each is to be used once."""

    def __init__(self, arrays: StateDict, layout: str) -> None:
        self._arrays, self._layout = arrays, layout
        self._left = {x for x in arrays if not x.endswith("num_batches_tracked")}

    def array(self, name: str) -> Shaped[np.ndarray, "..."]:
        if name not in self._arrays:
            raise ValueError(
                f"the file has the layout {self._layout}, but no array {name!r}; only "
                "the network as that project defines it, with transposed convolutions, "
                "can be imported."
            )
        self._left.discard(name)
        return np.asarray(self._arrays[name], np.float32)

    def convolution(
        self, name: str, *, outputs: int = 3
    ) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Returns kernel and bias of a convolution, or of an up-convolution.

        The axes of their kernels in PyTorch are [out, in, h, w] and [in, out, h, w], in
        `UNet` [h, w, in, out] and [h, w, out, in].

        Args:
          name: What the names of both begin with.
          outputs: The axis of the output channels in `UNet`.
        """
        weight = self.array(f"{name}.weight")
        if weight.ndim != 4:
            raise ValueError(
                f"{name}.weight has the shape {list(weight.shape)}, expected four axes."
            )
        kernel = weight.transpose(2, 3, 1, 0)
        if f"{name}.bias" in self._arrays:
            return {"kernel": kernel, "bias": self.array(f"{name}.bias")}
        return {"kernel": kernel, "bias": np.zeros(kernel.shape[outputs], np.float32)}

    def check_all_used(self) -> None:
        if self._left:
            raise ValueError(
                f"the file has the layout {self._layout}, and arrays that it lacks, "
                f"such as {min(self._left)!r}; a changed network cannot be imported."
            )


def _block(
    taken: _Taken, layout: Layout, template: str, places: Mapping[str, int]
) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
    """Returns the parameters of a block, and the statistics of its normalisations."""
    params: dict[str, Any] = {}
    statistics: dict[str, Any] = {}
    for i, part in enumerate(layout.convs):
        params[f"conv_{i}"] = taken.convolution(template.format(part=part, **places))
    for i, part in enumerate(layout.norms):
        name = template.format(part=part, **places)
        params[f"BatchNorm_{i}"] = {
            "scale": taken.array(f"{name}.weight"),
            "bias": taken.array(f"{name}.bias"),
        }
        statistics[f"BatchNorm_{i}"] = {
            ours: taken.array(f"{name}.{theirs}")
            for ours, theirs in _STATISTICS.items()
        }
    return params, statistics


def _places(level: int, depth: int) -> dict[str, int]:
    """Returns what the templates name: places of a level in both paths."""
    return {
        "level": level,
        "number": level + 1,
        "start": depth - level,
        "before": depth - level - 1,
    }


def _depth(layout: Layout, arrays: StateDict) -> int:
    """Returns the number of poolings, which is that of the up-convolutions."""
    names = {layout.up.format(**_places(level, 16)) for level in range(16)}
    return sum(f"{name}.weight" in arrays for name in names)


def _two_classes(head: dict[str, Any]) -> dict[str, Any]:
    """Returns a head of one output as one of two, of which the first is 0."""
    if head["bias"].size > 1:
        return head
    return {name: np.concatenate([0 * x, x], axis=-1) for name, x in head.items()}


def _find_layout(arrays: StateDict) -> str:
    for name, layout in LAYOUTS.items():
        ends = [layout.first.format(part=layout.convs[0]), layout.head]
        if all(f"{end}.weight" in arrays for end in ends):
            for array, what in layout.cannot.items():
                if array in arrays:
                    raise ValueError(
                        f"the file has the layout {name} with {what}, which UNet "
                        "lacks; it cannot be imported."
                    )
            return name
    known = ", ".join(LAYOUTS)
    examples = ", ".join(sorted(arrays)[:3])
    raise ValueError(
        f"the arrays of the file ({examples}, ...) are those of no known U-Net; "
        f"layouts that can be imported are {known}."
    )


def _read_safetensors(path: pathlib.Path) -> StateDict:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ModuleNotFoundError(_absent("safetensors")) from error
    try:
        return safetensors.numpy.load_file(path)
    except (ValueError, KeyError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({error}); download it again."
        ) from error


def _read_torch(path: pathlib.Path) -> StateDict:
    try:
        import torch
    except ImportError as error:
        raise ModuleNotFoundError(_absent("torch")) from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of the unpickler, of the archive, of torch
        raise ValueError(
            f"{path} holds more than weights, or is damaged, and is not read; save "
            "model.state_dict() alone."
        ) from error
    for key in _NESTED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no state dict; save model.state_dict().")
    return {
        name: value.float().numpy()
        for name, value in found.items()
        if isinstance(value, torch.Tensor)
    }


def _absent(package: str) -> str:
    return f"weights of this kind need {package}: pip install 'unetjax[import]'."
