"""The U-Net of Ronneberger, Fischer and Brox (MICCAI 2015), Fig. 1.

`model_io/onnx.py` is a second definition of the same computation, as an ONNX graph: a
change here must be made there as well, and `tests/model_io/test_onnx.py` compares them.
"""

import functools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree

from unetjax.geometry import Geometry, Padding
from unetjax.network import initializers
from unetjax.network.blocks import ConvBlock, UpConv, activate, center_crop, max_pool
from unetjax.network.initializers import KernelInit
from unetjax.network.norms import NormName
from unetjax.settings import check_fields, check_range
from unetjax.targets.target import MAPS, TargetName

DropoutSites = Literal["bottom", "every_conv"]
ConcatOrder = Literal["skip_first", "up_first"]

_LARGEST = 1e6  # of what is added to inputs or is a bias; far beyond what is of use
_MAX_CHANNELS = 2**20  # of any layer; far beyond what is of use


class UNet(nn.Module):
    """Contracting path, bottleneck, expanding path and 1x1 classifier.

    The defaults are the paper's network: tiles of 572x572x1 give logits of 388x388x2
    from 31,030,658 parameters. Parameters are named `encoder_i/conv_j`, `bottleneck`,
    `up_i`, `decoder_i` and `head`, level 0 being full resolution.

    Attributes:
      num_classes: Number of classes, background included.
      target: What the network learns of instances. `classes`, as in the paper, has one
        output channel for each class; others add the channels of `targets.MAPS`.
      features: Number of channels at full resolution; doubled at every level.
      depth: Number of 2x2 max-pooling steps.
      kernel_size: Side of the block convolutions, odd.
      padding: `VALID` as in the paper, or `SAME` for an output as large as the input.
      dropout_rate: Drop probability. The paper names no rate; 0.5 is that of the
        authors' release.
      dropout_sites: `bottom`: after the last two blocks of the contracting path, as in
        the authors' release. `every_conv`: inside every block, as in jakeret/tf_unet.
      negative_slope: Slope of all activations below 0; 0 is the ReLU.
      up_activation: Whether an activation follows the up-convolutions.
      wide_last_up: Whether the last up-convolution keeps its number of channels.
      concat_order: Which of skip and up-convolution comes first in the concatenation.
      input_shift: Added to the input, in units of the network input; -0.5 in the
        authors' later software (Falk et al. 2019).
      kernel_init: Rule for the initial kernels; `he` is Sec. 3 of the paper.
      bias_init: Initial value of all biases.
      norm: Normalisation in the blocks; the paper has none.
      remat: Whether blocks are computed again in the backward pass to save memory.
      dtype: Computation dtype; parameters and logits stay float32.

    Raises:
      ValueError: On construction for an option out of range; when called, for tile
        sizes that some pooling would meet with an odd side.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = UNet(features=2, depth=1)
      >>> image = jnp.zeros((1, 20, 20, 1))
      >>> variables = model.init(jax.random.key(0), image, train=False)
      >>> model.apply(variables, image, train=False).shape
      (1, 4, 4, 2)
    """

    num_classes: int = 2
    target: TargetName = "classes"
    features: int = 64
    depth: int = 4
    kernel_size: int = 3
    padding: Padding = "VALID"
    dropout_rate: float = 0.5
    dropout_sites: DropoutSites = "bottom"
    negative_slope: float = 0.0
    up_activation: bool = False
    wide_last_up: bool = False
    concat_order: ConcatOrder = "skip_first"
    input_shift: float = 0.0
    kernel_init: KernelInit = "he"
    bias_init: float = 0.0
    norm: NormName = "none"
    remat: bool = False
    dtype: DTypeLike = "float32"

    def __post_init__(self) -> None:
        """Refuses options out of range."""
        super().__post_init__()
        check_fields(self)
        Geometry(self.depth, self.kernel_size)  # checks both
        check_range("num_classes", self.num_classes, at_least=1, at_most=_MAX_CHANNELS)
        most = _MAX_CHANNELS >> self.depth
        check_range("features", self.features, at_least=1, at_most=most)
        hint = "it is the probability to drop, not to keep"
        check_range("dropout_rate", self.dropout_rate, at_least=0, below=1, hint=hint)
        check_range("negative_slope", self.negative_slope, at_least=0, at_most=1)
        for name in ("input_shift", "bias_init"):
            value = getattr(self, name)
            check_range(name, value, at_least=-_LARGEST, at_most=_LARGEST)
        try:
            is_float = jnp.issubdtype(jnp.dtype(self.dtype), jnp.floating)
        except TypeError:  # no dtype at all
            is_float = False
        if not is_float:
            raise ValueError(
                f"dtype must be a floating type such as 'bfloat16', got {self.dtype!r}."
            )

    @property
    def geometry(self) -> Geometry:
        """Legal tile sizes and what they lose, in pixels."""
        return Geometry(self.depth, self.kernel_size, self.padding)

    @property
    def class_numbers(self) -> tuple[str, ...]:
        """What the classes are called where they have no names: class 0, class 1."""
        return tuple(f"class {k}" for k in range(self.num_classes))

    @property
    def num_outputs(self) -> int:
        """Number K of output channels: logits of the classes, then maps."""
        return self.num_classes + len(MAPS[self.target])

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W C"], *, train: bool
    ) -> Float[Array, "B h w K"]:
        """Returns the activations a_k(x) of Sec. 3, before the softmax, in float32.

        The channels of the target follow those of the classes, see
        `targets.target.activate`.

        Args:
          image: Input tiles; H and W must be legal, see `geometry.output_size`.
          train: Whether dropout is active; it then needs `rngs={"dropout": key}`.

        Raises:
          ValueError: If the image is no batch, or its sides are illegal.
        """
        _check_image(image, self.geometry)
        at_bottom = self.dropout_sites == "bottom"
        drop = functools.partial(
            nn.Dropout, self.dropout_rate if at_bottom else 0.0, deterministic=not train
        )
        widths = [self.features * 2**level for level in range(self.depth + 1)]

        x, skips = image + self.input_shift, []
        for level, width in enumerate(widths[:-1]):
            x = self._block(width, counted=width, name=f"encoder_{level}")(x, train)
            if level == self.depth - 1:
                x = drop()(x)  # on its skip as well
            skips.append(x)
            x = max_pool(x)  # [B, H/2, W/2, F]
        x = self._block(widths[-1], counted=widths[-1], name="bottleneck")(x, train)
        x = drop()(x)

        for level in reversed(range(self.depth)):
            x = self._up(level, name=f"up_{level}")(x)
            if self.up_activation:
                x = activate(x, self.negative_slope)
            pair = [center_crop(skips[level], like=x), x]
            if self.concat_order == "up_first":
                pair.reverse()
            x = jnp.concatenate(pair, axis=-1)
            width = widths[level]
            x = self._block(width, counted=2 * width, name=f"decoder_{level}")(x, train)

        head = nn.Conv(
            self.num_outputs,
            (1, 1),
            kernel_init=self._init(counted=2 * self.features),
            bias_init=nn.initializers.constant(self.bias_init),
            name="head",
        )
        return head(x.astype(jnp.float32))

    def _init(self, *, counted: int) -> nn.initializers.Initializer:
        return initializers.conv_init(
            self.kernel_init, kernel_size=self.kernel_size, channels=counted
        )

    def _block(self, width: int, *, counted: int, name: str) -> nn.Module:
        everywhere = self.dropout_sites == "every_conv"
        # `train` is the second argument after self, and no array.
        block = nn.remat(ConvBlock, static_argnums=(2,)) if self.remat else ConvBlock
        return block(
            features=width,
            kernel_size=self.kernel_size,
            padding=self.padding,
            negative_slope=self.negative_slope,
            dropout_rate=self.dropout_rate if everywhere else 0.0,
            norm=self.norm,
            kernel_init=self._init(counted=counted),
            bias_init=self.bias_init,
            dtype=self.dtype,
            name=name,
        )

    def _up(self, level: int, *, name: str) -> UpConv:
        width = self.features * 2**level
        return UpConv(
            2 * width if self.wide_last_up and level == 0 else width,
            kernel_init=initializers.up_init(
                self.kernel_init, kernel_size=self.kernel_size, channels=2 * width
            ),
            bias_init=self.bias_init,
            dtype=self.dtype,
            name=name,
        )


def _check_image(image: Array, geometry: Geometry) -> None:
    """Refuses images of another rank, with channels first, or of an illegal size."""
    shape = image.shape
    if len(shape) != 4:
        raise ValueError(
            f"image must be a batch [B, H, W, C], got shape {list(shape)}; a single "
            "image [H, W, C] becomes one by image[None]."
        )
    are_legal = [geometry.is_legal(side) for side in shape[1:]]
    if all(are_legal[1:]) and not are_legal[0]:
        raise ValueError(
            f"image must have its channels last, [B, H, W, C], got shape {list(shape)};"
            " use jnp.moveaxis(image, 1, -1)."
        )
    for side in shape[1:3]:
        geometry.output_size(side)  # the message names legal sides


def num_input_channels(params: PyTree) -> int:
    """Returns the number of channels of the images that a `UNet` of `params` reads."""
    first = params["encoder_0"] if "encoder_0" in params else params["bottleneck"]
    return first["conv_0"]["kernel"].shape[2]
