"""Pictures of images, instances, outlines, weight maps and errors, as RGB arrays."""

import io
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer, Real, UInt8
from PIL import Image, ImageDraw, ImageFont

from unetjax.files import folders

Picture = UInt8[np.ndarray, "_ _ 3"]
Color = tuple[int, int, int]

# Bright on black, and distinct for colour-blind readers (Okabe and Ito, 2008).
GREEN: Color = (0, 158, 115)
ORANGE: Color = (230, 159, 0)
BLUE: Color = (86, 180, 233)

_TITLE_HEIGHT = 20  # pixels
_PERCENTILES = (0.5, 99.5)  # of the grey values: black and white

# Additive colours of the channels, by the number of channels.
_CHANNEL_COLORS = {
    1: ((255, 255, 255),),
    2: ((255, 0, 255), (0, 255, 0)),
    3: ((255, 0, 0), (0, 255, 0), (0, 0, 255)),
    4: ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)),
}

# Black through violet, blue, green and yellow to near white: lightness only rises.
_HEAT = (
    (0, 0, 4),
    (53, 18, 88),
    (45, 74, 138),
    (23, 127, 137),
    (66, 174, 105),
    (184, 205, 64),
    (255, 248, 196),
)


def grey(image: Real[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W 3"]:
    """Returns an image of 1 to 4 channels as a picture, with stretched contrast.

    The percentiles 0.5 and 99.5 of the values become black and white. One channel is
    grey, two are magenta and green, three are red, green and blue with the same
    stretch, which keeps hues; a fourth is added in grey. Constant channels and pixels
    that are not finite are black.

    Args:
      image: Grey values or colours of any range.

    Raises:
      ValueError: If the image has no channel or more than four.
    """
    channels = image.shape[2]
    if channels not in _CHANNEL_COLORS:
        raise ValueError(
            f"a picture shows 1 to 4 channels, got an image with {channels}; "
            "select some of them, such as image[..., :3]."
        )
    values = image.astype(np.float64)
    groups = (
        [values[..., :3], values[..., 3:]]
        if channels > 2
        else np.split(values, channels, axis=2)
    )
    stretched = [_stretch(group) for group in groups]
    colors = np.array(_CHANNEL_COLORS[channels], np.float64)
    mixed = np.concatenate(stretched, axis=2) @ colors
    return _to_uint8(mixed)


def color_labels(
    instances: Integer[np.ndarray, "H W"],
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns instances in colours on black; a number always has the same colour.

    Consecutive numbers are far apart in hue (steps of the golden angle).
    `skimage.color.label2rgb` has ten colours and assigns them by rank, so that the
    colour of an instance would change with its neighbours.
    """
    numbers, indices = np.unique(instances, return_inverse=True)
    hue = numbers * 0.6180339887498949  # the golden ratio, less 1
    phase = 2 * np.pi * (hue[:, None] - np.array([[0, 1 / 3, 2 / 3]]))
    brightness = 0.7 + 0.3 * (numbers * 0.7548776662466927 % 1)  # 1 / plastic number
    colors = 255 * brightness[:, None] * (0.6 + 0.4 * np.cos(phase))
    colors[numbers == 0] = 0
    return _to_uint8(colors)[indices.reshape(instances.shape)]


def outlines(
    picture: UInt8[np.ndarray, "H W 3"],
    instances: Integer[np.ndarray, "H W"],
    *,
    color: Color = ORANGE,
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the picture with the outermost pixels of every instance in `color`."""
    from skimage import segmentation  # imported late, as it takes a second

    drawn = picture.copy()
    inner = segmentation.find_boundaries(instances, connectivity=1, mode="inner")
    drawn[inner] = color
    return drawn


def heat(
    weight: Real[np.ndarray, "H W"], *, limits: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a map in colours from black through violet, blue and green to yellow.

    Lightness increases with the value, so the order survives greyscale printing. NaN is
    black.

    Args:
      weight: Values of a map, such as the weight map of Eq. (2).
      limits: Values of the darkest and the brightest colour; the smallest and largest
        finite value by default.
    """
    values = weight.astype(np.float64)
    low, high = _finite_limits(values) if limits is None else limits
    scaled = _scale(values, low, high) * (len(_HEAT) - 1)
    anchors = np.array(_HEAT, np.float64)
    places = np.arange(len(_HEAT))
    rgb = [np.interp(scaled, places, anchors[:, channel]) for channel in range(3)]
    return _to_uint8(np.stack(rgb, axis=-1))


def errors(
    picture: UInt8[np.ndarray, "H W 3"],
    prediction: Bool[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "H W"],
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the picture with true positives green, false ones orange, missed blue."""
    drawn = picture.astype(np.float64)
    for pixels, color in (
        (prediction & truth, GREEN),
        (prediction & ~truth, ORANGE),
        (~prediction & truth, BLUE),
    ):
        drawn[pixels] = 0.35 * drawn[pixels] + 0.65 * np.array(color)
    return _to_uint8(drawn)


def side_by_side(
    panels: Sequence[Picture],
    titles: Sequence[str] = (),
    *,
    gap: int = 8,
) -> Picture:
    """Returns pictures in a row on white, each below its title, top edges aligned.

    Args:
      panels: Pictures of any size.
      titles: One for each panel, or none; truncated to the width of its panel.
      gap: Pixels between and around the panels.

    Raises:
      ValueError: If there is no panel, or another number of titles.
    """
    if not panels or len(titles) not in (0, len(panels)):
        raise ValueError(
            f"side_by_side needs panels and a title for each or none, got "
            f"{len(panels)} panels and {len(titles)} titles."
        )
    if titles:
        panels = [
            np.concatenate([_title(title, panel.shape[1]), panel])
            for title, panel in zip(titles, panels, strict=True)
        ]
    height = max(panel.shape[0] for panel in panels)
    columns = [
        _pad(panel, bottom=height - panel.shape[0], right=gap) for panel in panels
    ]
    return _pad(np.concatenate(columns, axis=1), top=gap, bottom=gap, left=gap)


def thumbnail(picture: Picture, *, side: int) -> Picture:
    """Returns the picture, reduced so that no side exceeds `side` pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.BOX)
    return np.array(image)


def fit(picture: Picture, *, side: int) -> Picture:
    """Returns the picture with its longer side close to `side` pixels.

    A larger picture is reduced; the pixels of a smaller one are repeated, without blur.
    """
    factor = max(side // max(picture.shape[:2]), 1)
    enlarged = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    return thumbnail(enlarged, side=side)


def stack(rows: Sequence[Picture]) -> Picture:
    """Returns pictures one below the other on white, left edges aligned.

    Example:
      >>> stack([np.zeros((2, 5, 3), np.uint8), np.zeros((1, 3, 3), np.uint8)]).shape
      (3, 5, 3)
    """
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_pad(row, right=width - row.shape[1]) for row in rows])


def png_bytes(picture: Picture) -> bytes:
    """Returns the picture encoded as PNG, with one channel if all are equal."""
    grey_only = (picture == picture[..., :1]).all()
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if grey_only else picture).save(file, "PNG")
    return file.getvalue()


def write_png(
    path: str | os.PathLike[str],
    picture: Picture,
    *,
    replace: bool = False,
) -> None:
    """Writes the picture as a PNG file, atomically.

    Args:
      path: The file to write, in a folder that exists.
      picture: The picture.
      replace: Whether an existing file may be replaced, as by a resumed run.

    Raises:
      FileExistsError: If the file exists and `replace` is false.
    """
    with folders.write_atomically(path, replace=replace) as temporary:
        temporary.write_bytes(png_bytes(picture))


def _stretch(values: Float[np.ndarray, "H W C"]) -> Float[np.ndarray, "H W C"]:
    """Scales two percentiles, or the smallest and largest value, to 0 and 1."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, _PERCENTILES) if finite.size else (0.0, 0.0)
    if low == high:
        low, high = _finite_limits(values)
    return _scale(values, float(low), float(high))


def _finite_limits(values: Float[np.ndarray, "*axes"]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _scale(
    values: Float[np.ndarray, "*axes"], low: float, high: float
) -> Float[np.ndarray, "*axes"]:
    """Scales `low` to 0 and `high` to 1, and clips; NaN becomes 0."""
    if high <= low:
        return np.zeros_like(values)
    return np.nan_to_num(np.clip((values - low) / (high - low), 0.0, 1.0))


def _to_uint8(values: Float[np.ndarray, "*axes"]) -> UInt8[np.ndarray, "*axes"]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _pad(
    picture: Picture, *, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0
) -> Picture:
    """Adds white pixels around a picture."""
    widths = ((top, bottom), (left, right), (0, 0))
    return np.pad(picture, widths, constant_values=255)


def _title(text: str, width: int) -> Picture:
    image = Image.new("RGB", (width, _TITLE_HEIGHT), "white")
    font = ImageFont.load_default(size=13)
    ImageDraw.Draw(image).text((0, 0), text, fill="black", font=font)
    return np.array(image)
