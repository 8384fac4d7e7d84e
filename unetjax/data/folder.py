"""A folder of images and a folder of masks, paired by name."""

import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from unetjax.data import checks, mask_formats
from unetjax.data.checks import Problem
from unetjax.data.examples import Example
from unetjax.data.mask_formats import MaskFormat, MaskType
from unetjax.files import images as image_files

Path = str | os.PathLike[str]

MASK_SUFFIXES = ("", "_mask", "_masks", "_label", "_labels")  # looked for in this order


class Pair(NamedTuple):
    """An image file and the file of its mask; both may be stacks of equal length."""

    image: pathlib.Path
    mask: pathlib.Path


class FileNaming(NamedTuple):
    """How the name of a mask follows from that of its image.

    Attributes:
      image_suffix: How names of images end, format included, such as "_img.png": other
        files of the folder are no images. "" is any format that can be read.
      mask_suffix: What stands there instead in the names of masks, such as "_seg.tif".
        "" is any format, after one of the endings.
      endings: What the name of a mask may have after that of its image and before its
        format, in this order, where it has no suffix of its own.
    """

    image_suffix: str = ""
    mask_suffix: str = ""
    endings: tuple[str, ...] = MASK_SUFFIXES


USUAL = FileNaming()


class DatasetSummary(NamedTuple):
    """What was understood of a data set; `str` of it is one line for a person.

    Attributes:
      num_images: Number of examples.
      sizes: Heights and widths that occur, from small to large.
      types: Types of stored values that occur.
      channels: Numbers of channels that occur.
      masks: What the masks mean.
    """

    num_images: int
    sizes: list[tuple[int, ...]]
    types: list[str]
    channels: list[int]
    masks: MaskFormat

    def __str__(self) -> str:
        """Returns for instance: 2 images 512x512 uint8, 1 channel; masks: ..."""
        sizes = [checks.in_pixels(self.sizes[i]) for i in (0, -1)]
        channels = " or ".join(map(str, self.channels))
        return (
            f"{self.num_images} {'image' if self.num_images == 1 else 'images'} "
            f"{' to '.join(dict.fromkeys(sizes))} {' or '.join(self.types)}, "
            f"{channels} {'channel' if channels == '1' else 'channels'}; "
            f"masks: {self.masks.words}"
        )


class FolderReport(NamedTuple):
    """Everything known about a data set after reading it.

    Attributes:
      examples: What could be read.
      summary: What it is; None if nothing could be read.
      problems: What is wrong with it, errors first.
    """

    examples: list[Example]
    summary: DatasetSummary | None
    problems: list[Problem]


def load(
    images: Path,
    masks: Path,
    *,
    mask_type: MaskType = "auto",
    naming: FileNaming = USUAL,
) -> list[Example]:
    """Returns the examples of a data set that has no errors; see `read`.

    Raises:
      FileNotFoundError: If a folder or file does not exist.
      ValueError: If anything is wrong with the data set: all of it, a line each.
    """
    examples, _, problems = read(images, masks, mask_type=mask_type, naming=naming)
    checks.raise_errors(problems)
    return examples


def read(
    images: Path,
    masks: Path,
    *,
    mask_type: MaskType = "auto",
    naming: FileNaming = USUAL,
) -> FolderReport:
    """Reads a whole data set, and says what it is and everything wrong with it.

    Args:
      images: A folder of images, or one file; a TIFF stack counts as its pages.
      masks: The folder or the file of their masks, found as `pair` does.
      mask_type: What the numbers of the masks mean; see `mask_types.infer_mask_format`.
      naming: Where names do not go together as `pair` expects.

    Raises:
      FileNotFoundError: If a folder or file does not exist.
      ValueError: If a folder holds no image at all.
    """
    pairs, problems = _match(pathlib.Path(images), pathlib.Path(masks), naming)
    contents = [_read_pair(each) for each in pairs]
    if checks.are_swapped(
        [page for content in contents for page in content.images[:1]],
        [page for content in contents for page in content.masks[:1]],
    ):
        text = (
            f"{images} holds label images and {masks} photographs: are the two "
            "folders swapped? Nothing was trained."
        )
        return FolderReport([], None, [Problem("error", text)])
    problems += [problem for content in contents for problem in content.problems]
    whole = [content for content in contents if not content.problems]
    examples, summary = [], None
    if whole:
        pages = [page for content in whole for page in content.masks]
        try:
            meaning = mask_formats.infer_mask_format(pages, mask_type, where=str(masks))
        except ValueError as error:
            problems.append(Problem("error", str(error)))
        else:
            examples = [e for content in whole for e in _examples(content, meaning)]
            summary = summarize(examples, meaning)
            problems += checks.check(examples)
    problems.sort(key=lambda problem: problem.severity)
    return FolderReport(examples, summary, problems)


def pair(images: Path, masks: Path, *, naming: FileNaming = USUAL) -> list[Pair]:
    """Returns the image files of a folder, each with the file of its mask.

    The mask of a.tif is a.tif, a_mask.tif, a_masks.tif, a_label.tif or a_labels.tif, in
    this order and with any suffix that can be read; that of t000.tif may be
    man_seg000.tif, and the other way round, as in the Cell Tracking Challenge. Only
    file names count, not folders. Both may lie in one folder, and two files make one
    pair. Other names take a `naming` of their own.

    Raises:
      FileNotFoundError: If a folder or file does not exist.
      ValueError: If masks are missing or not unique: all of them, a line each.
    """
    pairs, problems = _match(pathlib.Path(images), pathlib.Path(masks), naming)
    checks.raise_errors(problems)
    return pairs


def list_images(folder: Path) -> list[pathlib.Path]:
    """Returns the image files of a folder by name, without hidden ones.

    Raises:
      FileNotFoundError: If there is no such folder.
      ValueError: If it holds no image.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; name a folder of images.")
    found = [
        path
        for path in sorted(folder.iterdir())
        if image_files.is_image(path) and not path.name.startswith(".")
    ]
    if not found:
        accepted = ", ".join(image_files.SUFFIXES)
        raise ValueError(f"{folder} holds no images; accepted are {accepted}.")
    return found


def summarize(examples: Sequence[Example], meaning: MaskFormat) -> DatasetSummary:
    """Returns what a data set of at least one example is."""
    images = [example.image for example in examples]
    return DatasetSummary(
        num_images=len(images),
        sizes=sorted({image.shape[:2] for image in images}),
        types=sorted({image.dtype.name for image in images}),
        channels=sorted({image.shape[-1] for image in images}),
        masks=meaning,
    )


class _Content(NamedTuple):
    """The pages of two files as far as they could be read, and what is wrong."""

    pair: Pair
    images: list[np.ndarray]
    masks: list[np.ndarray]
    problems: list[Problem]


def _match(
    images: pathlib.Path, masks: pathlib.Path, naming: FileNaming
) -> tuple[list[Pair], list[Problem]]:
    """Pairs what can be paired, and says what cannot."""
    if images.is_file() and masks.is_file():
        return [Pair(images, masks)], []
    files, mask_files = list_images(images), list_images(masks)
    if images.resolve() == masks.resolve():
        mask_files = [path for path in files if _is_mask(_stem(path), naming)]
        mask_files = files if naming.mask_suffix else mask_files
    mask_files = [path for path in mask_files if path.name.endswith(naming.mask_suffix)]
    files = [
        path
        for path in files
        if path.name.endswith(naming.image_suffix) and path not in mask_files
    ]
    if not files:
        raise ValueError(
            f"{images} holds no image that ends in {naming.image_suffix!r}."
        )
    candidates = [(image, _candidates(image, mask_files, naming)) for image in files]
    pairs = [Pair(image, found[0]) for image, found in candidates if len(found) == 1]
    missing = [
        _unpaired(image, found, masks, naming)
        for image, found in candidates
        if len(found) != 1
    ]
    if missing:
        missing[-1] += f" {len(pairs)} of {len(files)} images are paired."
    used = [path for _, found in candidates for path in found]
    unused = [str(path) for path in mask_files if path not in used]
    problems = [Problem("error", text) for text in missing + _shared(pairs)]
    if unused:
        text = (
            f"{len(unused)} of {len(mask_files)} masks have no image and are not used: "
            f"{checks.listed(unused)}; name them like their images."
        )
        problems.append(Problem("warning", text))
    return pairs, problems


def _candidates(
    image: pathlib.Path, mask_files: Sequence[pathlib.Path], naming: FileNaming
) -> list[pathlib.Path]:
    """The masks that go with an image, all of one stem."""
    stem = _image_stem(image, naming)
    if naming.mask_suffix:
        return [path for path in mask_files if path.name == stem + naming.mask_suffix]
    for wanted in _mask_stems(stem, naming):
        found = [path for path in mask_files if _stem(path) == wanted]
        if found:
            return found
    return []


def _is_mask(stem: str, naming: FileNaming) -> bool:
    """Whether a file that may be an image as well has the name of a mask."""
    endings = tuple(filter(None, naming.endings))
    return stem.endswith(endings) or bool(re.fullmatch(r"man_seg\d+", stem))


def _mask_stems(stem: str, naming: FileNaming) -> list[str]:
    """What the mask of an image may be called, the likeliest first.

    Frames of the Cell Tracking Challenge are t000, their truth is man_seg000.
    """
    stems = [stem]
    if frame := re.fullmatch(r"t(\d+)", stem):
        stems.append(f"man_seg{frame[1]}")
    elif frame := re.fullmatch(r"man_seg(\d+)", stem):
        stems += [f"t{frame[1]}", f"mask{frame[1]}"]
    return [each + ending for each in stems for ending in naming.endings]


def _unpaired(
    image: pathlib.Path,
    found: Sequence[pathlib.Path],
    masks: pathlib.Path,
    naming: FileNaming,
) -> str:
    if found:
        several = checks.listed([str(path) for path in found])
        return f"{image} has several masks, {several}; keep one."
    stem = _image_stem(image, naming)
    if naming.mask_suffix:
        names = [stem + naming.mask_suffix]
    else:
        names = [f"{each}{image.suffix}" for each in _mask_stems(stem, naming)]
    looked = [str(masks / name) for name in names]
    return f"{image} has no mask: looked for {', '.join(looked)}."


def _image_stem(image: pathlib.Path, naming: FileNaming) -> str:
    """The part of an image's name that its mask shares."""
    if naming.image_suffix:
        return image.name.removesuffix(naming.image_suffix)
    return _stem(image)


def _shared(pairs: Sequence[Pair]) -> list[str]:
    """Complains about images of one stem, which would all get the same mask."""
    by_mask: dict[pathlib.Path, list[str]] = {}
    for image, mask in pairs:
        by_mask.setdefault(mask, []).append(str(image))
    return [
        f"{mask} would be the mask of {checks.listed(of)}; keep one image of that name."
        for mask, of in by_mask.items()
        if len(of) > 1
    ]


def _read_pair(pair: Pair) -> _Content:
    images, problems = _attempt(image_files.read_stack, pair.image)
    masks, unlabelled = _attempt(image_files.read_label_stack, pair.mask)
    if unlabelled:  # perhaps a photograph, which `are_swapped` wants to see
        masks, _ = _attempt(image_files.read_stack, pair.mask)
    problems += unlabelled
    if not problems and len(images) != len(masks):
        text = (
            f"{pair.image} holds {len(images)} images but {pair.mask} {len(masks)} "
            "masks; both need the same number of pages."
        )
        problems = [Problem("error", text)]
    elif not problems:
        problems = checks.size(str(pair.image), images[0], masks[0])
    return _Content(pair, images, masks, problems)


def _attempt(
    read_pages: Callable[[pathlib.Path], np.ndarray], path: pathlib.Path
) -> tuple[list[np.ndarray], list[Problem]]:
    try:
        return list(read_pages(path)), []
    except (ValueError, OSError) as error:
        return [], [Problem("error", str(error))]


def _examples(content: _Content, meaning: MaskFormat) -> list[Example]:
    file = content.pair.image.name
    several = len(content.images) > 1
    return [
        mask_formats.to_example(
            image, mask, f"{file}[{i}]" if several else file, meaning
        )
        for i, (image, mask) in enumerate(
            zip(content.images, content.masks, strict=True)
        )
    ]


def _stem(path: pathlib.Path) -> str:
    """The name of a file without what says its format."""
    return path.stem[:-4] if path.stem.lower().endswith(".ome") else path.stem
