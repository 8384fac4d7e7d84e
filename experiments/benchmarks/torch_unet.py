"""The paper's network in PyTorch, as its users write it.

The only module that imports torch. It is imported where it is used, as torch may be
absent.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from jaxtyping import Float, PyTree
from torch import nn
from torch.nn import functional

from unetjax.geometry import Geometry
from unetjax.network.unet import UNet, num_input_channels

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchUNet(nn.Module):
    """Valid 3x3 convolutions, crop and concatenate, 2x2 transposed convolutions.

    Args:
      features: Channels at full resolution.
      depth: Number of poolings.
      channels: Input channels.
      num_classes: Output channels.
      dropout_rate: After the last two blocks of the contracting path.
    """

    def __init__(
        self,
        features: int = 64,
        depth: int = 4,
        channels: int = 1,
        num_classes: int = 2,
        dropout_rate: float = 0.5,
    ) -> None:
        super().__init__()
        widths = [features * 2**level for level in range(depth + 1)]
        inputs = [channels, *widths[:-1]]
        self.encoder = nn.ModuleList(
            _block(i, o) for i, o in zip(inputs, widths, strict=True)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1]
        )
        self.decoder = nn.ModuleList(_block(2 * w, w) for w in widths[:-1])
        self.head = nn.Conv2d(features, num_classes, 1)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to logits [B, K, h, w]."""
        *contracting, bottleneck = self.encoder
        skips = []
        for level, block in enumerate(contracting):
            x = block(x)
            if level == len(contracting) - 1:
                x = self.dropout(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.dropout(bottleneck(x))
        for up, block, skip in reversed(
            list(zip(self.up, self.decoder, skips, strict=True))
        ):
            x = up(x)
            x = block(torch.cat([_crop(skip, x), x], dim=1))
        return self.head(x)


def from_flax(
    model: UNet, params: PyTree[Float[jax.Array, "..."]], *, device: str = "cpu"
) -> TorchUNet:
    """Returns a network with the same weights, channels last in memory.

    Args:
      model: A network with the paper's layout, of any width and depth.
      params: Its parameters.
      device: Device of the copy.

    Raises:
      ValueError: If the layout is another one.
    """
    plain = UNet(
        num_classes=model.num_classes,
        features=model.features,
        depth=model.depth,
        dropout_rate=model.dropout_rate,
        dtype=model.dtype,
    )
    if model != plain:
        raise ValueError(f"model must have the paper's layout, got {model}.")
    tree: Mapping[str, Any] = jax.tree.map(np.asarray, params)
    net = TorchUNet(
        model.features,
        model.depth,
        num_input_channels(tree),
        model.num_classes,
        model.dropout_rate,
    )
    blocks = [*(f"encoder_{i}" for i in range(model.depth)), "bottleneck"]
    for block, name in zip(net.encoder, blocks, strict=True):
        _fill_block(block, tree[name])
    for level in range(model.depth):
        _fill(net.up[level], tree[f"up_{level}"])
        _fill_block(net.decoder[level], tree[f"decoder_{level}"])
    _fill(net.head, tree["head"])
    return net.to(device=device, memory_format=torch.channels_last)


def device(platform: str) -> str:
    """Returns the device of torch for a platform of JAX.

    Raises:
      ValueError: If this build of torch has none.
    """
    if platform == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise ValueError(f"torch {torch.__version__} finds no GPU")
    return "cuda"


def prepare(num_threads: int) -> None:
    """Sets the number of threads, and the arithmetic that XLA uses."""
    torch.set_num_threads(num_threads)
    torch.set_float32_matmul_precision("high")  # TF32 on GPUs, as XLA does
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def work(
    net: TorchUNet,
    batch: Mapping[str, np.ndarray],
    *,
    optimizer: str,
    precision: str,
    compiled: bool,
) -> Callable[[int], object]:
    """Returns a function of n: that many training steps, or passes without dropout.

    A step is forward, weighted loss, backward and update. Of n steps it returns the
    last loss, of n passes the last logits [B, K, h, w].

    Args:
      net: The network, which training changes.
      batch: Image [B, H, W, C], label and weight [B, h, w].
      optimizer: `sgd` with momentum 0.99, or `adam`; "" for forward passes.
      precision: `float32`, or `bfloat16` by autocast.
      compiled: Whether the network goes through `torch.compile`.
    """
    where = next(net.parameters()).device
    image = _image(batch["image"], where)
    net.train(bool(optimizer))
    forward = torch.compile(net) if compiled else net

    def predict(n: int) -> torch.Tensor:
        logits = torch.zeros(())
        with torch.inference_mode(), _autocast(where, precision):
            for _ in range(n):
                logits = forward(image)
        if where.type == "cuda":
            torch.cuda.synchronize()
        return logits

    if not optimizer:
        return predict
    label = torch.as_tensor(batch["label"], dtype=torch.int64, device=where)
    weight = torch.as_tensor(batch["weight"], device=where)
    rule = (
        torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.99)
        if optimizer == "sgd"
        else torch.optim.Adam(net.parameters(), lr=1e-4)
    )

    def train(n: int) -> float:
        loss = torch.zeros(())
        for _ in range(n):
            rule.zero_grad(set_to_none=True)
            with _autocast(where, precision):
                logits = forward(image)
            loss = weighted_loss(logits, label, weight)
            loss.backward()
            rule.step()
        return loss.item()  # waits for the device

    return train


def weighted_loss(
    logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Returns the summed weighted cross-entropy over the summed weight."""
    pixels = functional.cross_entropy(logits.float(), label, reduction="none")
    return (weight * pixels).sum() / weight.sum()


def predict_image(
    net: TorchUNet,
    image: Float[np.ndarray, "H W"],
    *,
    tile_size: int,
    batch_size: int,
    precision: str,
) -> Float[np.ndarray, "H W K"]:
    """Returns probabilities, tile by tile, with a stride of the output size.

    This is the usual way: the whole image is padded by reflection, and tiles are not
    aligned to the pooling grid, so that seams differ from one pass over the image.

    Args:
      net: The network.
      image: Network input.
      tile_size: Side of the tiles, in pixels.
      batch_size: Tiles computed at once.
      precision: `float32`, or `bfloat16` by autocast.
    """
    where = next(net.parameters()).device
    step = Geometry(depth=len(net.up)).output_size(tile_size)
    margin = (tile_size - step) // 2
    todo = corners(image.shape, step)
    height, width = (last + step for last in todo[-1])
    padded = np.pad(
        image,
        [
            (margin, margin + height - image.shape[0]),
            (margin, margin + width - image.shape[1]),
        ],
        mode="reflect",
    )
    classes = net.head.out_channels
    result = np.empty((height, width, classes), np.float32)
    net.eval()
    for start in range(0, len(todo), batch_size):
        batch = todo[start : start + batch_size]
        spans = [np.s_[r : r + tile_size, c : c + tile_size] for r, c in batch]
        tiles = np.stack([padded[span] for span in spans])
        with torch.inference_mode(), _autocast(where, precision):
            logits = net(_image(tiles[..., None], where))
            probs = logits.float().softmax(1).permute(0, 2, 3, 1).cpu().numpy()
        for (r, c), values in zip(batch, probs, strict=True):
            result[r : r + step, c : c + step] = values
    return result[: image.shape[0], : image.shape[1]]


def corners(shape: tuple[int, ...], step: int) -> list[tuple[int, int]]:
    """Returns the upper left corners of the outputs that cover an image.

    Example:
      >>> corners((400, 388), 388)
      [(0, 0), (388, 0)]
    """
    rows, columns = (range(0, side, step) for side in shape)
    return list(itertools.product(rows, columns))


def matrix_product(size: int, precision: str, *, where: str) -> Callable[[int], object]:
    """Returns a function that multiplies two square matrices n times."""
    a = torch.ones(size, size, dtype=_DTYPES[precision], device=where)

    def run(n: int) -> float:
        product = a
        for _ in range(n):
            product = a @ a
        return product[0, 0].item()

    return run


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3),
        nn.ReLU(inplace=True),
    )


def _crop(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    top, left = (x.shape[2] - like.shape[2]) // 2, (x.shape[3] - like.shape[3]) // 2
    return x[:, :, top : top + like.shape[2], left : left + like.shape[3]]


def _fill_block(block: nn.Sequential, values: Mapping[str, Any]) -> None:
    for i in range(2):
        _fill(block[2 * i], values[f"conv_{i}"])


def _fill(layer: nn.Module, values: Mapping[str, Any]) -> None:
    """Copies kernel and bias.

    One transposition serves kernels [h, w, in, out] and those of up-convolutions,
    [2, 2, out, in], as PyTorch stores transposed convolutions with the inputs first.
    """
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(values["kernel"].transpose(3, 2, 0, 1)))
        layer.bias.copy_(torch.tensor(values["bias"]))


def _image(values: Float[np.ndarray, "B H W C"], where: torch.device) -> torch.Tensor:
    tensor = torch.tensor(values).permute(0, 3, 1, 2)
    return tensor.to(where).contiguous(memory_format=torch.channels_last)


def _autocast(where: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(
        where.type, dtype=torch.bfloat16, enabled=precision != "float32"
    )
