"""Building blocks of the network: convolutions, pooling, up-convolution, crop."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from unetjax.geometry import Padding
from unetjax.network import convolution
from unetjax.network.norms import NormName, normalize


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each followed by a ReLU (paper, Fig. 1).

    Attributes:
      features: Number of output channels of both convolutions.
      kernel_size: Side of the convolutions.
      padding: `VALID` loses kernel_size - 1 pixels a convolution, `SAME` none.
      negative_slope: Slope of the activation below 0; 0 is the ReLU.
      dropout_rate: Drop probability between each convolution and its activation.
      norm: Normalisation between each convolution and its activation.
      kernel_init: Initialiser of both kernels.
      bias_init: Initial value of the biases.
      dtype: Computation dtype; parameters stay float32.
    """

    features: int
    kernel_size: int
    padding: Padding
    negative_slope: float
    dropout_rate: float
    norm: NormName
    kernel_init: Initializer
    bias_init: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], train: bool
    ) -> Float[Array, "B h w F"]:
        """Maps [B, H, W, C] to [B, h, w, features]."""
        for i in range(2):
            x = Conv(
                self.features,
                self.kernel_size,
                padding=self.padding,
                kernel_init=self.kernel_init,
                bias_init=self.bias_init,
                dtype=self.dtype,
                name=f"conv_{i}",
            )(x, train)
            x = normalize(x, self.norm, train=train, dtype=self.dtype)
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
            x = activate(x, self.negative_slope)
        return x


class Conv(nn.Module):
    """k x k convolution of stride 1, with bias; its parameters are those of `nn.Conv`.

    Training uses `convolution.fast`. Prediction does not, because tiles would no longer
    equal each other bit for bit.

    Attributes:
      features: Number of output channels.
      kernel_size: Side k of the kernel, odd.
      padding: `VALID` loses k - 1 pixels, `SAME` none.
      kernel_init: Initialiser of the kernel.
      bias_init: Initial value of the bias.
      dtype: Computation dtype; parameters stay float32.
    """

    features: int
    kernel_size: int
    padding: Padding
    kernel_init: Initializer
    bias_init: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], train: bool
    ) -> Float[Array, "B h w F"]:
        """Maps [B, H, W, C] to [B, h, w, features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param(
            "bias", nn.initializers.constant(self.bias_init), (self.features,)
        )
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        if self.padding == "SAME":
            rim = self.kernel_size // 2
            x = jnp.pad(x, ((0, 0), (rim, rim), (rim, rim), (0, 0)))
        convolve = convolution.fast if train else convolution.plain
        return convolve(x, kernel) + bias.reshape(1, 1, 1, -1)


class UpConv(nn.Module):
    """2x2 up-convolution of stride 2: every pixel becomes a block of 2x2.

    The blocks do not overlap, so one matrix product and a depth-to-space compute
    `nn.ConvTranspose(transpose_kernel=True)` from the same kernel [2, 2, out, in],
    with a far cheaper gradient on CPU.

    Attributes:
      features: Number of output channels.
      kernel_init: Initialiser of the kernel.
      bias_init: Initial value of the bias.
      dtype: Computation dtype; parameters stay float32.
    """

    features: int
    kernel_init: Initializer
    bias_init: float = 0.0
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B 2*H 2*W F"]:
        """Maps [B, H, W, C] to [B, 2H, 2W, features]."""
        batch, height, width, channels = x.shape
        shape = (2, 2, self.features, channels)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param(
            "bias", nn.initializers.constant(self.bias_init), (self.features,)
        )
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        # Each pixel gives a row of 2 x 2 x F values; an einsum would lay them out in
        # columns, which is slower.
        blocks = x.reshape(-1, channels) @ kernel.reshape(-1, channels).T
        blocks = blocks.reshape(batch, height, width, 2, 2, self.features)
        blocks = blocks.swapaxes(2, 3)  # [B, H, 2, W, 2, F]
        blocks = blocks.reshape(batch, 2 * height, 2 * width, self.features)
        return blocks + bias.reshape(1, 1, 1, -1)


def activate(x: Float[Array, "*s"], negative_slope: float) -> Float[Array, "*s"]:
    """Returns the leaky ReLU of `x`; the ReLU for slope 0."""
    return nn.leaky_relu(x, negative_slope) if negative_slope else nn.relu(x)


def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """Returns the 2x2 maxima of stride 2 of a map with even sides.

    Computed by a reshape, whose gradient is about ten times faster on a CPU than that
    of a window reduction. Equal maxima share the gradient; after a ReLU, equal zeros
    have none.
    """
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return blocks.max(axis=(2, 4))


def center_crop(
    x: Shaped[Array | np.ndarray, "B H W *C"],
    *,
    like: Shaped[Array | np.ndarray, "B h w *D"],
) -> Shaped[Array | np.ndarray, "B h w *C"]:
    """Crops the spatial centre of `x` to the height and width of `like`."""
    (_, height, width, *_), (_, h, w, *_) = x.shape, like.shape
    top, left = (height - h) // 2, (width - w) // 2
    return x[:, top : top + h, left : left + w]
