"""Floating-point operations of a U-Net, exactly: integers only.

One multiplication with its addition counts as two operations. Only convolutions count:
the rest is less than a hundredth. The paper's network at 572 pixels: 300.857 GFLOP
forward, 902.196 GFLOP forward and backward.
"""

from typing import NamedTuple

from unetjax.network.unet import UNet


class Convolution(NamedTuple):
    """One convolution, of any kind.

    Attributes:
      name: The name of its parameters.
      side: Side of its output, in pixels.
      taps: Pixels of the input that one pixel of the output sees: 9 for 3x3, 1 for a
        2x2 up-convolution, whose blocks do not overlap.
      inputs: Number of input channels.
      outputs: Number of output channels.
    """

    name: str
    side: int
    taps: int
    inputs: int
    outputs: int

    @property
    def flops(self) -> int:
        """Operations of one forward pass for one image."""
        return 2 * self.side**2 * self.taps * self.inputs * self.outputs


def convolutions(
    model: UNet, tile_size: int, *, channels: int = 1
) -> list[Convolution]:
    """Returns every convolution that a square tile goes through, in order.

    Args:
      model: The network.
      tile_size: Side of the input, in pixels; must be legal for the network.
      channels: Number of input channels.

    Raises:
      ValueError: If `tile_size` is illegal.

    Example:
      >>> convolutions(UNet(), 572)[1].flops
      23786422272
    """
    model.geometry.output_size(tile_size)  # refuses illegal sides
    taps = model.kernel_size**2
    lost = model.kernel_size - 1 if model.padding == "VALID" else 0
    found = list[Convolution]()
    side, width = tile_size, channels

    def block(name: str, outputs: int) -> None:
        nonlocal side, width
        for i in range(2):
            side -= lost
            found.append(Convolution(f"{name}/conv_{i}", side, taps, width, outputs))
            width = outputs

    for level in range(model.depth):
        block(f"encoder_{level}", model.features * 2**level)
        side //= 2
    block("bottleneck", model.features * 2**model.depth)
    for level in reversed(range(model.depth)):
        skip = model.features * 2**level
        up = 2 * skip if model.wide_last_up and level == 0 else skip
        side *= 2
        found.append(Convolution(f"up_{level}", side, 1, width, up))
        width = skip + up
        block(f"decoder_{level}", skip)
    found.append(Convolution("head", side, 1, width, model.num_classes))
    return found


def forward_flops(model: UNet, tile_size: int, *, channels: int = 1) -> int:
    """Returns the operations of one forward pass for one image.

    Example:
      >>> round(forward_flops(UNet(), 572) / 1e9, 3)
      300.857
    """
    return sum(c.flops for c in convolutions(model, tile_size, channels=channels))


def training_flops(model: UNet, tile_size: int, *, channels: int = 1) -> int:
    """Returns the operations of one forward and backward pass for one image.

    Each gradient, that of a kernel and that of an input, costs as much as the forward
    pass of its convolution; nobody needs the gradient of the image.

    Example:
      >>> round(training_flops(UNet(), 572) / 1e9, 3)
      902.196
    """
    first, *rest = convolutions(model, tile_size, channels=channels)
    return 2 * first.flops + 3 * sum(c.flops for c in rest)
