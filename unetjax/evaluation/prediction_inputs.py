"""Images to segment: files found by path, folder or pattern; names of results."""

import collections
import glob
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from unetjax.data import checks, folder
from unetjax.evaluation import prediction_record
from unetjax.files import images, names, pages
from unetjax.large import arrays


class Found(NamedTuple):
    """Files to segment.

    Attributes:
      paths: The images, each once, in the order given; those of folders by name.
      skipped: The other files, each with the reason why it is not segmented.
    """

    paths: list[pathlib.Path]
    skipped: list[str]


def find(given: Sequence[pathlib.Path], *, recursive: bool = False) -> Found:
    """Returns the images among paths, in folders and of patterns such as *.tif.

    Hidden files are ignored. Masks of other images of their folder and results of a
    prediction are skipped, as are files that cannot be read; a file that is given alone
    is not.

    Args:
      given: Files, folders, or patterns that the shell has not expanded.
      recursive: Whether folders inside folders are searched as well.

    Raises:
      FileNotFoundError: If a path does not exist or a pattern fits nothing.
      ValueError: If a folder holds no image.
    """
    found, skipped = dict[pathlib.Path, None](), list[str]()
    files = [path for path in given if not path.is_dir()]  # as a shell expands patterns
    results = list[str]()
    originals = _without_results(files, results)
    for path in given:
        if arrays.is_zarr(path):
            found[path] = None
        elif path.is_dir():
            inside = _in_folder(path, skipped, recursive=recursive)
            if not inside:
                folder.list_images(path)  # says what the folder holds instead
                raise ValueError(f"{path} holds no images but masks and results.")
            found |= dict.fromkeys(inside)
        elif path.exists() or path.is_symlink():
            if path in originals:
                found[path] = None
        elif matches := sorted(glob.glob(str(path), recursive=recursive)):
            files = [each for each in map(pathlib.Path, matches) if _is_input(each)]
            inside = _images(files, skipped)
            if not inside:
                raise ValueError(f"{path} matches no image.")
            found |= dict.fromkeys(inside)
        else:
            raise FileNotFoundError(
                f"{path} does not exist; name images or folders of images."
            )
    return Found(list(found), [*results, *skipped])


def unique_names(paths: Sequence[pathlib.Path]) -> list[str]:
    """Returns the names that results begin with: stems, longer where these are equal.

    Names that differ in their case only are equal, as on macOS and Windows.

    Example:
      >>> unique_names([pathlib.Path(p) for p in ("a.tif", "b.OME.TIF", "B.tif")])
      ['a', 'b_OME_TIF', 'B_tif']
      >>> unique_names([pathlib.Path(p) for p in ("day1/a.tif", "day2/a.tif")])
      ['day1_a', 'day2_a']
    """
    common = os.path.commonpath([path.resolve().parent for path in paths])
    levels = [
        [names.stem(path) for path in paths],
        [path.name.replace(".", "_") for path in paths],
        [_with_folders(path, common, names.stem(path)) for path in paths],
        [_with_folders(path, common, path.name.replace(".", "_")) for path in paths],
    ]
    folded = [[name.casefold() for name in level] for level in levels]
    counts = [collections.Counter(level) for level in folded]
    chosen = list[str]()
    for stem in folded[0]:
        same = [i for i, other in enumerate(folded[0]) if other == stem]
        level = next(
            (k for k in range(3) if all(counts[k][folded[k][i]] == 1 for i in same)), 3
        )
        chosen.append(levels[level][len(chosen)])
    return chosen


def describe_skipped(skipped: Sequence[str]) -> str:
    """Returns one line about the files that are not segmented."""
    are = "is" if len(skipped) == 1 else "are"
    return (
        f"{checks.counted(len(skipped), 'file')} {are} not segmented: "
        f"{checks.listed(skipped, most=20)}."
    )


def read(
    path: pathlib.Path,
    *,
    num_channels: int,
    channels: Sequence[str] = (),
    trained_on: Sequence[str] = (),
) -> Shaped[np.ndarray, "N H W c"]:
    """Returns all images of a file with the channels that a model reads.

    Args:
      path: The file.
      num_channels: How many the model reads.
      channels: Those to read, see `images.read_stack`.
      trained_on: Those that the model was trained on, read where no others are asked
        for and the file has them. A file with as many channels as the model reads needs
        not have them: its channels have been selected already.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it cannot be read, or has other channels.
    """
    names_in_file = ()
    if channels or trained_on:
        names_in_file = images.read_metadata(path).channels
    return select(
        images.read_stack(path),
        path,
        names_in_file=names_in_file,
        num_channels=num_channels,
        channels=channels,
        trained_on=trained_on,
    )


def select(
    stack: Shaped[np.ndarray, "N H W C"],
    path: pathlib.Path,
    *,
    names_in_file: Sequence[str],
    num_channels: int,
    channels: Sequence[str] = (),
    trained_on: Sequence[str] = (),
) -> Shaped[np.ndarray, "N H W c"]:
    """Returns images, or parts of them, with the channels that a model reads.

    Args:
      stack: All channels of a file.
      path: The file, for messages.
      names_in_file: The names of its channels, as far as it names them.
      num_channels: See `read`, as for the other arguments.
      channels: Those to read.
      trained_on: Those that the model was trained on.

    Raises:
      ValueError: If the file has other channels.
    """
    count = stack.shape[-1]
    if channels:
        found = pages.find_channels(channels, count, names_in_file, str(path))
        return fit_channels(stack[..., found], num_channels, path)
    if not trained_on:
        return fit_channels(stack, num_channels, path)
    try:
        found = pages.find_channels(trained_on, count, names_in_file, str(path))
    except ValueError as error:
        if count == num_channels:
            return stack
        raise ValueError(
            f"{error} The model was trained on channels {', '.join(trained_on)}; name "
            "others by --channels."
        ) from None
    return stack[..., found]


def fit_channels(
    stack: Shaped[np.ndarray, "N H W C"], num_channels: int, path: pathlib.Path
) -> Shaped[np.ndarray, "N H W c"]:
    """Returns images with the channels that a model reads, if no value is lost by that.

    Grey values stored as RGB become grey, and grey values become RGB.

    Raises:
      ValueError: If the channels are others.
    """
    channels = stack.shape[-1]
    if channels == num_channels:
        return stack
    if (channels, num_channels) == (1, 3):
        return np.repeat(stack, 3, axis=-1)
    if (channels, num_channels) == (3, 1):
        if (stack == stack[..., :1]).all():
            return stack[..., :1]
        raise ValueError(
            f"{path} is in colour, but the model was trained on grey images; save it "
            "as grey values, or choose the channel to segment by --channels."
        )
    raise ValueError(
        f"{path} has {channels} channels, but the model was trained on images of "
        f"{num_channels}; choose among them by --channels."
    )


def _in_folder(
    path: pathlib.Path, skipped: list[str], *, recursive: bool
) -> list[pathlib.Path]:
    entries = [each for each in sorted(path.iterdir()) if not names.is_hidden(each)]
    found = _images([each for each in entries if _is_input(each)], skipped)
    for each in entries:
        if arrays.is_zarr(each):
            continue  # listed with the files
        if each.is_dir():
            if recursive and not each.is_symlink():
                found += _in_folder(each, skipped, recursive=True)
            elif inside := _describe_inside(each):
                skipped.append(f"{each.name} (a folder with images, {inside})")
        elif not each.is_file():
            skipped.append(images.explain_unread(each))
    return found


def _describe_inside(path: pathlib.Path) -> str:
    """Returns how a folder inside a folder is read; empty if it holds no image."""
    try:
        has_images = any(map(images.is_image, path.iterdir()))
    except OSError:
        return "which cannot be read"
    return "read with --recursive" * has_images


def _is_input(path: pathlib.Path) -> bool:
    return path.is_file() or arrays.is_zarr(path)


def _images(files: Sequence[pathlib.Path], skipped: list[str]) -> list[pathlib.Path]:
    """Returns the images, without masks of other images and results of predictions."""
    files = [
        path
        for path in files
        if not names.is_hidden(path) and path.name != prediction_record.RECORD
    ]
    readable = [path for path in files if images.is_image(path) or path.is_dir()]
    skipped += [images.explain_unread(path) for path in files if path not in readable]
    return _without_results(readable, skipped)


def _without_results(
    files: Sequence[pathlib.Path], skipped: list[str]
) -> list[pathlib.Path]:
    """Returns files that are neither masks nor results of others in their folder."""
    by_name = collections.defaultdict[tuple[pathlib.Path, str], list[str]](list)
    for path in files:
        stem = names.stem(path)
        if not names.is_mask(stem):
            by_name[path.parent, names.common(stem)].append(path.name)
    stems = {(path.parent, names.stem(path).casefold()) for path in files}
    found = list[pathlib.Path]()
    for path in files:
        stem = names.stem(path)
        originals = by_name.get((path.parent, names.common(stem)), [])
        endings = (names.OVERLAY, names.PROBS, names.UNCERTAINTY)
        result = next((each for each in endings if stem.endswith(each)), "")
        if names.is_mask(stem) and originals:
            skipped.append(f"{path.name} (a mask of {originals[0]})")
        elif result and (path.parent, stem.removesuffix(result).casefold()) in stems:
            skipped.append(f"{path.name} (a result of a prediction)")
        else:
            found.append(path)
    return found


def _with_folders(path: pathlib.Path, common: str, last: str) -> str:
    """Returns a name after those of the folders below the one that all images share."""
    inside = path.resolve().parent.relative_to(common)
    return "_".join([*inside.parts, last])
