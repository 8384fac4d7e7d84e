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
      >>> is_mask("a_Masks"), is_mask("man_seg000"), is_mask("t000")
      (True, True, False)
    """
    is_frame = re.fullmatch(r"man_seg\d+", name) is not None
    return is_frame or name.lower().endswith(tuple(filter(None, endings)))


def common(name: str) -> str:
    """Returns what the stems of an image, its mask and its prediction have in common.

    Example:
      >>> common("A_img_labels"), common("man_seg007") == common("t007")
      ('a', True)
    """
    name = name.casefold()
    for endings in (MASK_ENDINGS, IMAGE_ENDINGS):
        for ending in sorted(endings, key=len, reverse=True):
            if name.endswith(ending) and name != ending:
                name = name.removesuffix(ending)
                break
    frame = _FRAME.fullmatch(name)
    return f"t{frame[1]}" if frame else name


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in _CATEGORIES or character in _DIRECTIONS
