"""Data sets in folders: image and mask files, paired by name, read and checked."""

import functools
import os
import pathlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from unetjax.annotations import reading
from unetjax.data import checks, mask_formats
from unetjax.data.checks import Problem
from unetjax.data.examples import Example
from unetjax.data.mask_formats import MaskFormat, MaskType
from unetjax.files import images as image_files
from unetjax.files import names

Path = str | os.PathLike[str]

MASK_SUFFIXES = ("", *names.MASK_ENDINGS)  # in this order
_FIELD_SUFFIXES = ("", "_mask", "_masks", "_fov")  # of fields of view, likewise


class Pair(NamedTuple):
    """An image file and the file of its mask; both may be stacks of equal length."""

    image: pathlib.Path
    mask: pathlib.Path


class FileNaming(NamedTuple):
    """How the name of a mask follows from that of its image.

    Attributes:
      image_suffix: Suffix of image files, extension included, such as "_img.png"; other
        files of the folder are ignored. "" accepts every format that can be read.
      mask_suffix: Suffix of mask files in its place, such as "_seg.tif". "" accepts
        every format, after one of the endings.
      endings: Without a mask suffix: what may follow the name of the image in that of
        its mask, before the extension, in order of preference.
    """

    image_suffix: str = ""
    mask_suffix: str = ""
    endings: tuple[str, ...] = MASK_SUFFIXES


USUAL = FileNaming()


class DatasetSummary(NamedTuple):
    """Summary of a data set; `str` of it is one line of text.

    Attributes:
      num_images: Number of examples.
      sizes: Heights and widths that occur, in ascending order.
      types: Types of stored values that occur.
      channels: Numbers of channels that occur.
      masks: Format of the masks.
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
            f"{checks.counted(self.num_images, 'image')} "
            f"{' to '.join(dict.fromkeys(sizes))} {' or '.join(self.types)}, "
            f"{channels} {'channel' if channels == '1' else 'channels'}; "
            f"masks: {self.masks.description}"
        )


class FolderReport(NamedTuple):
    """Contents of a data set in folders, and its problems.

    Attributes:
      examples: The examples that could be read.
      summary: Summary of the examples; None if there are none.
      problems: Problems of the data set, errors first.
      pairs: The files of each example; those of a stack once for each page.
    """

    examples: list[Example]
    summary: DatasetSummary | None
    problems: list[Problem]
    pairs: list[Pair]


def load(
    images: Path,
    masks: Path,
    *,
    mask_type: MaskType = "auto",
    ignore: int | None = None,
    channels: Sequence[str] = (),
    naming: FileNaming = USUAL,
    within: Path | None = None,
) -> list[Example]:
    """Returns the examples of a data set without errors; see `read`.

    Raises:
      FileNotFoundError: If a folder or file does not exist.
      ValueError: If the data set has errors, all of them, one line each.
    """
    examples, _, problems, _ = read(
        images,
        masks,
        mask_type=mask_type,
        ignore=ignore,
        channels=channels,
        naming=naming,
        within=within,
    )
    checks.raise_errors(problems)
    return examples


def read(
    images: Path,
    masks: Path,
    *,
    mask_type: MaskType = "auto",
    ignore: int | None = None,
    channels: Sequence[str] = (),
    naming: FileNaming = USUAL,
    within: Path | None = None,
) -> FolderReport:
    """Reads a whole data set, with a summary and all its problems.

    Args:
      images: A folder of images, or one file; every page of a TIFF stack is an image.
      masks: The folder or the file of their masks, paired as in `pair`, or one COCO
        file of polygons.
      mask_type: Format of the masks; see `mask_formats.infer_mask_format`.
      ignore: The number of unannotated pixels in masks, likewise.
      channels: The channels of the images; all by default. See `images.read_stack`.
      naming: File names, if they are not as `pair` expects.
      within: Masks of the fields of view, as in `fields_of_view`; pixels outside are
        not annotated.

    Raises:
      FileNotFoundError: If a folder or file does not exist.
      ValueError: If a folder holds no image at all.
    """
    pairs, problems = _match(pathlib.Path(images), pathlib.Path(masks), naming)
    fields = dict[pathlib.Path, pathlib.Path]()
    try:
        fields = fields_of_view([each.image for each in pairs], within, naming)
    except ValueError as error:
        problems.append(Problem("error", str(error)))
    contents = [_read_pair(each, channels, fields.get(each.image)) for each in pairs]
    if checks.are_swapped(
        [page for content in contents for page in content.images[:1]],
        [page for content in contents for page in content.masks[:1]],
    ):
        text = (
            f"{images} holds label images and {masks} photographs: are the two "
            "folders swapped?"
        )
        return FolderReport([], None, [Problem("error", text)], [])
    problems += [problem for content in contents for problem in content.problems]
    readable = [content for content in contents if not content.problems]
    examples, summary, files = [], None, list[Pair]()
    if readable:
        pages = [page for content in readable for page in content.masks]
        try:
            mask_format = _infer(
                pages,
                mask_type,
                ignore=ignore,
                where=str(masks),
                outlined=any(reading.is_annotation(x.pair.mask) for x in readable),
            )
        except ValueError as error:
            problems.append(Problem("error", str(error)))
        else:
            examples = [e for each in readable for e in _examples(each, mask_format)]
            files = [each.pair for each in readable for _ in each.images]
            summary = summarize(examples, mask_format)
            problems += checks.check(examples)
            problems += [Problem("warning", text) for text in mask_format.doubts]
    return FolderReport(examples, summary, checks.sort_problems(problems), files)


def pair(images: Path, masks: Path, *, naming: FileNaming = USUAL) -> list[Pair]:
    """Returns the image files of a folder, each with the file of its mask.

    The mask of a.tif is a.tif, a_mask.tif, a_masks.tif, a_label.tif, a_labels.tif,
    a_cp_masks.tif or a_seg.tif, in this order, in any format that can be read and in
    any case of letters; that of a_img.tif may be called likewise. That of t000.tif may
    be man_seg000.tif, and vice versa, as in the Cell Tracking Challenge. That of
    img_01.tif may begin with mask, label or seg instead, see `names.numbered_masks`.
    Both kinds of files may be in one folder, and two files are one pair. Other names
    need a `naming`.
    An image without a label image may have polygons, see `annotations.reading`: a.json,
    a.zip, a_rois.zip or a.roi.

    Raises:
      FileNotFoundError: If a folder or file does not exist.
      ValueError: If masks are missing or ambiguous, all of them, one line each.
    """
    pairs, problems = _match(pathlib.Path(images), pathlib.Path(masks), naming)
    checks.raise_errors(problems)
    return pairs


def fields_of_view(
    files: Sequence[pathlib.Path], within: Path | None, naming: FileNaming = USUAL
) -> dict[pathlib.Path, pathlib.Path]:
    """Returns the file with the field of view of each image, or of each true mask.

    That of a.tif, and of its mask a_mask.tif, is a.tif, a_mask.tif, a_masks.tif or
    a_fov.tif, in this order, in any format that can be read.

    Args:
      files: The images, or their masks.
      within: The folder of the fields of view, or one file for all images; None if
        images have none.
      naming: How the names of images end, if they do not as usual.

    Raises:
      FileNotFoundError: If there is no such folder or file.
      ValueError: If images have none, or one has several.
    """
    if within is None:
        return {}
    within = pathlib.Path(within)
    if within.is_file():
        return dict.fromkeys(files, within)
    found = list_images(within)
    naming = FileNaming(naming.image_suffix, endings=_FIELD_SUFFIXES)
    fields, without = dict[pathlib.Path, pathlib.Path](), list[str]()
    for file in files:
        of_mask = pathlib.Path(names.common(outlined_stem(file)) + file.suffix)
        candidates = _candidates(file, found, naming)
        candidates = candidates or _candidates(of_mask, found, naming)
        if len(candidates) > 1:
            several = checks.listed([str(path) for path in candidates])
            raise ValueError(f"{file} has several fields of view, {several}; keep one.")
        if candidates:
            fields[file] = candidates[0]
        else:
            without.append(str(file))
    if without:
        first = pathlib.Path(without[0])
        stem = _image_stem(first, naming)
        have = "has" if len(without) == 1 else "have"
        raise ValueError(
            f"{checks.listed(without)} {have} no field of view in {within}; that of "
            f"{first.name} must be called {stem}{first.suffix}, "
            f"{stem}_mask{first.suffix} or {stem}_fov{first.suffix}."
        )
    return fields


def read_field_of_view(
    path: pathlib.Path, num_pages: int
) -> list[Integer[np.ndarray, "H W"]]:
    """Returns the field of view of each page of an image; one page holds for all.

    Raises:
      ValueError: If it cannot be read, or has another number of pages.
    """
    pages = list(image_files.read_label_stack(path))
    if len(pages) not in (1, num_pages):
        raise ValueError(
            f"{path} holds {len(pages)} fields of view, the image {num_pages} pages; "
            "give one for all, or one for each."
        )
    return pages * num_pages if len(pages) == 1 else pages


def list_masks(folder: Path) -> list[pathlib.Path]:
    """Returns the label images of a folder, or the polygons of one that has none.

    Raises:
      FileNotFoundError: If there is no such folder.
      ValueError: If it holds neither.
    """
    outlined = _annotations(pathlib.Path(folder))
    if outlined and not any(map(image_files.is_image, pathlib.Path(folder).iterdir())):
        return outlined
    return list_images(folder)


def outlined_stem(path: pathlib.Path) -> str:
    """Returns the name of the image of a file of polygons."""
    return names.stem(path).removesuffix(reading.ENDING)


def list_images(folder: Path) -> list[pathlib.Path]:
    """Returns the image files of a folder, sorted by name, without hidden files.

    Raises:
      FileNotFoundError: If there is no such folder.
      ValueError: If it holds no image.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        if folder.is_file():
            raise FileNotFoundError(
                f"{folder} is a file; name a folder of images, or a file for each of "
                "both, images and masks or predictions and truth."
            )
        raise FileNotFoundError(
            f"{folder} is not a folder and does not exist; give a folder of images."
        )
    paths = [
        path
        for path in sorted(folder.iterdir())
        if image_files.is_image(path) and path.is_file() and not names.is_hidden(path)
    ]
    names.check_names(paths)
    if not paths:
        accepted = ", ".join(image_files.SUFFIXES)
        raise ValueError(
            f"{folder} holds no images{_instead(folder)}; accepted are {accepted}."
        )
    return paths


def list_unread(folder: Path, *, used: Collection[pathlib.Path] = ()) -> list[str]:
    """Returns the other files of a folder, each with the reason why it is not read.

    Folders of images and containers such as Zarr are listed as well. Hidden files and
    those of operating systems are left out, and those that are used.
    """
    unread = list[str]()
    for path in sorted(pathlib.Path(folder).iterdir()):
        if names.is_hidden(path) or path in used:
            continue
        if path.is_dir():
            explained = image_files.explain_unread(path)
            if explained != path.name:
                unread.append(explained)
            elif any(map(image_files.is_image, path.iterdir())):
                unread.append(f"{path.name} (a folder of images: name it)")
        elif not (path.is_file() and image_files.is_image(path)):
            unread.append(image_files.explain_unread(path))
    return unread


def summarize(examples: Sequence[Example], mask_format: MaskFormat) -> DatasetSummary:
    """Returns a summary of at least one example."""
    images = [example.image for example in examples]
    return DatasetSummary(
        num_images=len(images),
        sizes=sorted({image.shape[:2] for image in images}),
        types=sorted({image.dtype.name for image in images}),
        channels=sorted({image.shape[-1] for image in images}),
        masks=mask_format,
    )


class _Content(NamedTuple):
    """The pages of a pair of files, as far as they could be read, and problems."""

    pair: Pair
    images: list[np.ndarray]
    masks: list[np.ndarray]
    fields: list[np.ndarray]  # of view, none if all pixels are annotated
    problems: list[Problem]


def _match(
    images: pathlib.Path, masks: pathlib.Path, naming: FileNaming
) -> tuple[list[Pair], list[Problem]]:
    """Returns the pairs, and the problems of all files that cannot be paired."""
    if images.is_file() and masks.is_file():
        return [Pair(images, masks)], []
    if masks.is_file() and reading.is_annotation(masks) and images.is_dir():
        return _match_coco(images, masks)
    files, mask_files = list_images(images), _rasters(masks)
    if images.resolve() == masks.resolve() and not naming.mask_suffix:
        mask_files = _masks_beside_images(files, naming)
    mask_files = [path for path in mask_files if path.name.endswith(naming.mask_suffix)]
    files = [
        path
        for path in files
        if path.name.endswith(naming.image_suffix) and path not in mask_files
    ]
    if not files:
        if naming.image_suffix:
            raise ValueError(
                f"{images} holds no image whose name ends in {naming.image_suffix!r}."
            )
        listed = checks.listed([path.name for path in mask_files])
        raise ValueError(
            f"{images} holds no images beside masks, by their names ({listed}); call "
            "an image a.tif and its mask a_mask.tif."
        )
    candidates = {image: _candidates(image, mask_files, naming) for image in files}
    if not naming.mask_suffix:
        outlined = _annotations(masks)
        candidates = {
            image: each or _outlines_of(image, outlined, naming)
            for image, each in candidates.items()
        }
        if outlined and not mask_files and not any(candidates.values()):
            listed = checks.listed([path.name for path in outlined])
            raise ValueError(
                f"{masks} holds no label images, and no polygons named after an image, "
                f"but {listed}; call those of {files[0].name} {files[0].stem}.json, "
                f"{files[0].stem}.zip or {files[0].stem}.roi."
            )
    pairs = [
        Pair(image, each[0]) for image, each in candidates.items() if len(each) == 1
    ]
    unpaired = [
        _describe_unpaired(image, each, masks, naming)
        for image, each in candidates.items()
        if len(each) != 1
    ]
    if unpaired:
        unpaired[-1] += f" {len(pairs)} of {len(files)} images are paired."
    used = {path for each in candidates.values() for path in each}
    unused = [str(path) for path in mask_files if path not in used]
    problems = [Problem("error", text) for text in unpaired + _describe_shared(pairs)]
    if unused:
        text = (
            f"{len(unused)} of {len(mask_files)} masks have no image and are not used: "
            f"{checks.listed(unused)}; name them after their images."
        )
        problems.append(Problem("warning", text))
    unread = [
        text
        for each in dict.fromkeys((images, masks))
        for text in list_unread(each, used=used)
    ]
    if unread:
        are = "is" if len(unread) == 1 else "are"
        text = (
            f"{checks.counted(len(unread), 'file')} {are} not read: "
            f"{checks.listed(unread)}."
        )
        problems.append(Problem("warning", text))
    return pairs, problems


def _infer(
    pages: Sequence[np.ndarray],
    mask_type: MaskType,
    *,
    ignore: int | None,
    where: str,
    outlined: bool,
) -> MaskFormat:
    """Returns the format of masks, some of which may be polygons: these are cells."""
    if not outlined:
        return mask_formats.infer_mask_format(
            pages, mask_type, ignore=ignore, where=where
        )
    if mask_type == "classes":
        raise ValueError(
            f"{where} has polygons, each of which is a cell, and --mask-type=classes "
            "was given; leave it out, or export masks of classes."
        )
    found = mask_formats.infer_mask_format(
        pages, "instances", ignore=ignore, where=where
    )
    return found._replace(reason="every polygon is a cell")


def _match_coco(
    images: pathlib.Path, masks: pathlib.Path
) -> tuple[list[Pair], list[Problem]]:
    """Returns the images that one file of polygons lists."""
    files = list_images(images)
    pairs = [Pair(image, masks) for image in files if reading.covers(masks, image)]
    if not pairs:
        raise ValueError(
            f"{masks} lists none of the images in {images}; name the folder with which "
            "it was exported."
        )
    rest = [image.name for image in files if Pair(image, masks) not in pairs]
    if not rest:
        return pairs, []
    text = (
        f"{len(rest)} of {len(files)} images are not listed in {masks} and are not "
        f"used: {checks.listed(rest)}."
    )
    return pairs, [Problem("warning", text)]


def _rasters(masks: pathlib.Path) -> list[pathlib.Path]:
    """Returns the label images of a folder, which may be none beside polygons."""
    return [path for path in list_masks(masks) if image_files.is_image(path)]


def _annotations(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of polygons of a folder, sorted by name."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir())
        if reading.is_annotation(path) and path.is_file() and not names.is_hidden(path)
    ]


def _outlines_of(
    image: pathlib.Path, outlined: Sequence[pathlib.Path], naming: FileNaming
) -> list[pathlib.Path]:
    stem = _image_stem(image, naming).casefold()
    return [path for path in outlined if outlined_stem(path).casefold() == stem]


def _candidates(
    image: pathlib.Path, mask_files: Sequence[pathlib.Path], naming: FileNaming
) -> list[pathlib.Path]:
    """Returns the masks that match an image, all with the first name that occurs."""
    stem = _image_stem(image, naming)
    if naming.mask_suffix:
        return [
            path
            for path in mask_files
            if names.normalize(path.name) == stem + names.normalize(naming.mask_suffix)
        ]
    for mask_stem in _mask_stems(stem, naming):
        matches = [path for path in mask_files if names.stem(path) == mask_stem]
        matches = matches or [
            path
            for path in mask_files
            if names.stem(path).casefold() == mask_stem.casefold()
        ]
        if matches:
            return matches
    return []


def _masks_beside_images(
    files: Sequence[pathlib.Path], naming: FileNaming
) -> list[pathlib.Path]:
    """Returns the masks in a folder of both: files named after another one.

    Files with the name of a mask without an image are masks as well, unless they have a
    mask themselves.
    """
    stems = [names.stem(path) for path in files]
    named = {
        mask_stem.casefold()
        for stem in stems
        for mask_stem in _mask_stems(stem, naming)
        if mask_stem != stem
    }
    has_mask = {
        stem
        for stem in stems
        if any(
            other != stem and other.casefold() == mask_stem.casefold()
            for other in stems
            for mask_stem in _mask_stems(stem, naming)
        )
    }
    return [
        path
        for path, stem in zip(files, stems, strict=True)
        if names.is_mask(stem, naming.endings)
        and (stem.casefold() in named or stem not in has_mask)
    ]


def _mask_stems(stem: str, naming: FileNaming) -> list[str]:
    """Returns possible names of the mask of an image, in order of preference.

    In the Cell Tracking Challenge the mask of frame t000 is man_seg000.
    """
    stems = [stem]
    for ending in names.IMAGE_ENDINGS:
        if stem.lower().endswith(ending):
            stems.append(stem[: -len(ending)])
    if frame := re.fullmatch(r"t(\d+)", stem):
        stems.append(f"man_seg{frame[1]}")
    elif frame := re.fullmatch(r"man_seg(\d+)", stem):
        stems += [f"t{frame[1]}", f"mask{frame[1]}"]
    named = [each + ending for each in stems for ending in naming.endings]
    return named + names.numbered_masks(stem)


def _describe_unpaired(
    image: pathlib.Path,
    candidates: Sequence[pathlib.Path],
    masks: pathlib.Path,
    naming: FileNaming,
) -> str:
    if candidates:
        several = checks.listed([str(path) for path in candidates])
        return f"{image} has several masks, {several}; keep one."
    stem = _image_stem(image, naming)
    if naming.mask_suffix:
        expected = [stem + naming.mask_suffix]
    else:
        expected = [f"{each}{image.suffix}" for each in _mask_stems(stem, naming)]
    listed = checks.listed([str(masks / name) for name in expected], most=3)
    return (
        f"{image} has no mask: looked for {listed}; rename the mask, or give "
        "--mask-suffix."
    )


def _instead(folder: pathlib.Path) -> str:
    """Returns what a folder without images holds: folders of images, other files."""
    inside = [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and any(map(image_files.is_image, path.iterdir()))
    ]
    if inside:
        listed = checks.listed([path.name for path in inside])
        return f" itself, but folders of images: {listed}; name one of these"
    unread = list_unread(folder)
    return f", but {checks.listed(unread)}" if unread else ""


def _image_stem(image: pathlib.Path, naming: FileNaming) -> str:
    """Returns the part of an image's name that its mask shares."""
    if naming.image_suffix:
        name, ending = map(names.normalize, (image.name, naming.image_suffix))
        return name.removesuffix(ending)
    return names.stem(image)


def _describe_shared(pairs: Sequence[Pair]) -> list[str]:
    """Returns an error for each group of images that would have the same mask."""
    by_mask: dict[pathlib.Path, list[str]] = {}
    for image, mask in pairs:
        by_mask.setdefault(mask, []).append(str(image))
    return [
        f"{mask} would be the mask of {checks.listed(images)}; keep one of them."
        for mask, images in by_mask.items()
        if len(images) > 1
    ]


def _read_pair(
    pair: Pair, channels: Sequence[str], field: pathlib.Path | None
) -> _Content:
    read_images = functools.partial(image_files.read_stack, channels=channels)
    images, problems = _attempt(read_images, pair.image)
    outlined = reading.is_annotation(pair.mask)
    if not outlined:
        masks, mask_problems = _attempt(image_files.read_label_stack, pair.mask)
    elif images:
        shape = (len(images), *images[0].shape[:2])
        read_masks = functools.partial(reading.read, image=pair.image, shape=shape)
        masks, mask_problems = _attempt(read_masks, pair.mask)
    else:
        masks, mask_problems = [], []
    if mask_problems and not outlined:
        # Maybe a photograph, which `are_swapped` needs as an image.
        masks, _ = _attempt(image_files.read_stack, pair.mask)
    problems += mask_problems
    if not problems and len(images) != len(masks):
        text = (
            f"{pair.image} holds {len(images)} images but {pair.mask} {len(masks)} "
            "masks; both need the same number of pages."
        )
        problems = [Problem("error", text)]
    elif not problems:
        problems = checks.size(str(pair.image), images[0], masks[0])
    fields = list[np.ndarray]()
    if field is not None and not problems:
        read_fields = functools.partial(read_field_of_view, num_pages=len(images))
        fields, problems = _attempt(read_fields, field)
        for each in fields[:1]:
            problems = checks.field_size(str(pair.image), images[0].shape, each)
    return _Content(pair, images, masks, fields, problems)


def _attempt(
    read_pages: Callable[[pathlib.Path], Iterable[np.ndarray]], path: pathlib.Path
) -> tuple[list[np.ndarray], list[Problem]]:
    try:
        return list(read_pages(path)), []
    except (ValueError, OSError) as error:
        return [], [Problem("error", str(error))]


def _examples(content: _Content, mask_format: MaskFormat) -> list[Example]:
    file = content.pair.image.name
    several = len(content.images) > 1
    pixel_size = image_files.read_metadata(content.pair.image).micrometres
    examples = [
        mask_formats.to_example(
            image, mask, f"{file}[{i}]" if several else file, mask_format
        )._replace(pixel_size=pixel_size)
        for i, (image, mask) in enumerate(
            zip(content.images, content.masks, strict=True)
        )
    ]
    if not content.fields:
        return examples
    return list(map(mask_formats.restrict, examples, content.fields))
