"""Names of files: which belong to one image, and which are fit to be shown."""

import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable

# What may follow the name of an image in that of its mask, in order of preference.
MASK_ENDINGS = ("_mask", "_masks", "_label", "_labels", "_cp_masks", "_seg")
IMAGE_ENDINGS = ("_img", "_image")  # what may stand there in the name of the image

# Endings of pictures and arrays of predictions.
OVERLAY, PROBS, UNCERTAINTY = "_overlay", "_probs", "_uncertainty"

_OF_SYSTEMS = ("thumbs.db", "desktop.ini")
_FRAME = re.compile(r"(?:t|man_seg|mask)(\d+)")  # of the Cell Tracking Challenge
MASK_PREFIXES = ("mask", "masks", "label", "labels", "seg")  # before a number
_NUMBERED_IMAGE = re.compile(r"(?:im|img|image)([_-]?)(\d.*)", re.IGNORECASE)
_NUMBERED_MASK = re.compile(r"(?:masks?|labels?|seg)([_-]?)(\d.*)", re.IGNORECASE)

_MOST = 5  # names in a message
# Characters that forge lines, move the cursor, or reverse the text around them; and
# bytes that are no text in the encoding of the system.
_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def escape(text: str) -> str:
    r"""Returns text fit for a terminal: control characters as in Python's literals.

    Line breaks stay, as messages may have several lines.

    Example:
      >>> print(escape("a\x1b[2Jb\rc"))
      a\x1b[2Jb\rc
    """
    return "".join(
        repr(c)[1:-1] if _is_unsafe(c) and c not in "\n\t" else c for c in text
    )


def check_names(paths: Iterable[pathlib.Path]) -> None:
    """Refuses files whose names have control characters.

    Raises:
      ValueError: Naming them, escaped.
    """
    unsafe = [path.name for path in paths if any(map(_is_unsafe, path.name))]
    if unsafe:
        more = f" and {len(unsafe) - _MOST} more" if len(unsafe) > _MOST else ""
        raise ValueError(
            f"{', '.join(map(ascii, unsafe[:_MOST]))}{more}: a name must not have "
            "control characters; rename the file."
        )


def stem(path: str | os.PathLike[str]) -> str:
    """Returns the name of a file without its extension, which may be .ome.tif.

    Composed and decomposed letters, as macOS writes them, give the same name.

    Example:
      >>> stem("images/a.OME.tif"), stem("e\u0301.png") == stem("\u00e9.png")
      ('a', True)
    """
    name = normalize(pathlib.Path(path).stem)
    return name[:-4] if name.lower().endswith(".ome") else name


def normalize(name: str) -> str:
    """Returns a name with composed letters."""
    return unicodedata.normalize("NFC", name)


def is_hidden(path: pathlib.Path) -> bool:
    """Returns whether an operating system has made a file for itself.

    Example:
      >>> is_hidden(pathlib.Path("._a.tif")), is_hidden(pathlib.Path("Thumbs.db"))
      (True, True)
    """
    return path.name.startswith(".") or path.name.lower() in _OF_SYSTEMS


def is_mask(name: str, endings: Iterable[str] = MASK_ENDINGS) -> bool:
    """Returns whether a stem is that of a mask in a folder with its image.

    Example:
      >>> is_mask("a_Masks"), is_mask("man_seg000"), is_mask("t000"), is_mask("mask_1")
      (True, True, False, True)
    """
    is_numbered = re.fullmatch(r"man_seg\d+", name) or _NUMBERED_MASK.fullmatch(name)
    return is_numbered is not None or name.lower().endswith(
        tuple(filter(None, endings))
    )


def common(name: str) -> str:
    """Returns what the stems of an image, its mask and its prediction have in common.

    Example:
      >>> common("A_img_labels"), common("man_seg007") == common("t007")
      ('a', True)
      >>> common("img_07_labels") == common("mask_07")
      True
    """
    name = name.casefold()
    for endings in (MASK_ENDINGS, IMAGE_ENDINGS):
        for ending in sorted(endings, key=len, reverse=True):
            if name.endswith(ending) and name != ending:
                name = name.removesuffix(ending)
                break
    if frame := _FRAME.fullmatch(name):
        return f"t{frame[1]}"
    numbered = _NUMBERED_IMAGE.fullmatch(name) or _NUMBERED_MASK.fullmatch(name)
    return f"t{numbered[2]}" if numbered else name


def numbered_masks(name: str) -> list[str]:
    """Returns the stems that the mask of a numbered image may have.

    Example:
      >>> numbered_masks("img_07")[:3], numbered_masks("a07")
      (['mask_07', 'masks_07', 'label_07'], [])
    """
    numbered = _NUMBERED_IMAGE.fullmatch(name)
    return [f"{each}{numbered[1]}{numbered[2]}" for each in MASK_PREFIXES if numbered]


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in _CATEGORIES or character in _DIRECTIONS
