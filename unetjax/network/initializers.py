"""Initial values of kernels (paper, Sec. 3, and where implementations differ)."""

from typing import Literal

import flax.linen as nn
from jax.nn.initializers import Initializer

KernelInit = Literal["he", "release2015", "truncated_he"]

# Names of rules in the files of earlier versions.
RENAMED = {"tf_unet": "truncated_he"}

# Sec. 3: a Gaussian, not truncated, of standard deviation sqrt(2 / N), N being the
# number of incoming nodes.
_HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# An up-convolution kernel is [2, 2, out, in] and its blocks do not overlap, so that an
# output pixel has N = in incoming nodes. The authors' release counts N = 4 out, which
# is what the default axes of variance_scaling say for this shape.
_HE_UP = nn.initializers.variance_scaling(
    2.0, "fan_in", "normal", in_axis=-1, out_axis=-2, batch_axis=(0, 1)
)


def conv_init(rule: KernelInit, *, kernel_size: int, channels: int) -> Initializer:
    """Returns the initialiser of a convolution kernel [k, k, in, out].

    Args:
      rule: `he` and `release2015` are the paper's. `truncated_he` is that of
        jakeret/tf_unet: truncated at two standard deviations and scaled by the
        block's `channels` instead of N.
      kernel_size: Side k of the block convolutions.
      channels: Channels that `truncated_he` counts: the output channels of an encoder
        block, the concatenated channels of a decoder block.
    """
    return _truncated_he(kernel_size, channels) if rule == "truncated_he" else _HE


def up_init(rule: KernelInit, *, kernel_size: int, channels: int) -> Initializer:
    """Returns the initialiser of an up-convolution kernel [2, 2, out, in]."""
    if rule == "truncated_he":
        return _truncated_he(kernel_size, channels)
    return _HE_UP if rule == "he" else _HE


def _truncated_he(kernel_size: int, channels: int) -> Initializer:
    return nn.initializers.truncated_normal((2 / (kernel_size**2 * channels)) ** 0.5)
