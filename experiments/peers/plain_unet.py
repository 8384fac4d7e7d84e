"""The U-Net as many write it in PyTorch, a peer of `experiments.compare`.

Zero padding, batch norm, cross-entropy and Dice, Adam, flips and right angles: no
weight map, no elastic deformation, no targets of distances. It is imported where it is
used, as torch may be absent.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import nn
from torch.nn import functional

from unetjax.data.examples import Example
from unetjax.inference.segment import Segmentation
from unetjax.instances.components import instances_from_probs
from unetjax.instances.settings import InstanceSettings

_DEPTH = 4
_TILE = 256  # pixels; smaller in smaller images
_BATCH_SIZE = 4
_LEARNING_RATE = 1e-3
_EVALUATIONS = 10


class PlainUNet(nn.Module):
    """Zero-padded 3x3 convolutions with batch norm, 2x2 transposed convolutions."""

    def __init__(self, channels: int, num_classes: int, features: int) -> None:
        super().__init__()
        widths = [features * 2**level for level in range(_DEPTH + 1)]
        self.encoder = nn.ModuleList(
            _block(i, o) for i, o in zip([channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1]
        )
        self.decoder = nn.ModuleList(_block(2 * w, w) for w in widths[:-1])
        self.head = nn.Conv2d(features, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to logits [B, K, H, W]; sides are multiples of 16."""
        skips = []
        for block in self.encoder[:-1]:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.encoder[-1](x)
        for level in reversed(range(_DEPTH)):
            x = torch.cat([skips[level], self.up[level](x)], dim=1)
            x = self.decoder[level](x)
        return self.head(x)


def train(
    train: Sequence[Example],
    validate: Callable[[Callable[[Example], Segmentation]], float],
    *,
    num_classes: int,
    minutes: float,
    features: int,
    seed: int,
    num_threads: int,
    min_size: int,
) -> tuple[Callable[[Example], Segmentation], int]:
    """Trains for some minutes; returns the best network's predictions, and its steps.

    Args:
      train: The training images.
      validate: From predictions to a score of the validation images, which chooses the
        best of ten evaluations. Their time is not counted.
      num_classes: Number of classes, background included.
      minutes: Time of training.
      features: Channels at full resolution.
      seed: Seed of the weights and of the tiles.
      num_threads: Cores to use.
      min_size: Smallest component that counts as an object, in pixels.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(num_threads)
    rng = np.random.default_rng(seed)
    net = PlainUNet(train[0].image.shape[-1], num_classes, features)
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=_LEARNING_RATE)
    images = [_standardize(example.image) for example in train]
    settings = InstanceSettings(min_size=min_size)

    def predict(example: Example) -> Segmentation:
        probs = _predict(net, example.image)
        return Segmentation(
            probs, probs.argmax(axis=-1), instances_from_probs(probs, settings)
        )

    best, best_weights, num_steps, spent, due = -np.inf, {}, 0, 0.0, 1
    while due <= _EVALUATIONS:
        start = time.perf_counter()
        for group in optimizer.param_groups:
            progress = min(spent / (60 * minutes), 1.0)
            group["lr"] = _LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * progress))
        net.train()
        image, label = _draw(rng, images, train)
        optimizer.zero_grad(set_to_none=True)
        _loss(net(image), label).backward()
        optimizer.step()
        num_steps += 1
        spent += time.perf_counter() - start
        if spent >= 60 * minutes * due / _EVALUATIONS:
            due += 1
            score = validate(predict)
            if not best_weights or score >= best:
                best = score
                best_weights = {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(best_weights)
    return predict, num_steps


def _draw(
    rng: np.random.Generator,
    images: Sequence[Float[np.ndarray, "H W C"]],
    examples: Sequence[Example],
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of random tiles, turned by right angles and mirrored."""
    chosen = rng.integers(len(images), size=_BATCH_SIZE)
    shortest = min(min(images[i].shape[:2]) for i in chosen)
    side = min(_TILE, shortest // 2**_DEPTH * 2**_DEPTH)
    tiles, labels = [], []
    for i in chosen:
        corner = [rng.integers(n - side + 1) for n in images[i].shape[:2]]
        span = tuple(slice(c, c + side) for c in corner)
        turns, is_mirrored = int(rng.integers(4)), rng.integers(2)
        tile, label = (
            np.rot90(x[span], turns)[:: -1 if is_mirrored else 1]
            for x in (images[i], examples[i].label)
        )
        tiles.append(tile)
        labels.append(label)
    return _as_input(np.stack(tiles)), torch.as_tensor(np.stack(labels)).long()


def _loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and 1 - Dice of the foreground; pixels below 0 do not count."""
    known = label >= 0
    entropy = functional.cross_entropy(logits, label, ignore_index=-1)
    probs = logits.softmax(dim=1)[:, 1:]
    truth = functional.one_hot(label.clamp(min=0), logits.shape[1])
    truth = truth.movedim(-1, 1)[:, 1:] * known[:, None]
    probs = probs * known[:, None]
    dice = (2 * (probs * truth).sum() + 1) / (probs.sum() + truth.sum() + 1)
    return entropy + 1 - dice


def _predict(
    net: PlainUNet, image: Shaped[np.ndarray, "H W C"]
) -> Float[np.ndarray, "H W K"]:
    """Probabilities of a whole image, padded by reflection to multiples of 16."""
    height, width = image.shape[:2]
    unit = 2**_DEPTH
    padding = [(0, -height % unit), (0, -width % unit), (0, 0)]
    padded = np.pad(_standardize(image), padding, mode="symmetric")
    net.eval()
    with torch.inference_mode():
        probs = net(_as_input(padded[None])).softmax(dim=1)[0]
    return probs.permute(1, 2, 0).numpy()[:height, :width]


def _standardize(image: Shaped[np.ndarray, "H W C"]) -> Float[np.ndarray, "H W C"]:
    """Grey values of mean 0 and standard deviation 1 in each channel."""
    values = image.astype(np.float32)
    deviation = values.std(axis=(0, 1)) + 1e-6
    return (values - values.mean(axis=(0, 1))) / deviation


def _as_input(values: Float[np.ndarray, "B H W C"]) -> torch.Tensor:
    tensor = torch.tensor(np.ascontiguousarray(values)).permute(0, 3, 1, 2)
    return tensor.contiguous(memory_format=torch.channels_last)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers = list[nn.Module]()
    for channels in (inputs, outputs):
        conv = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
