"""File names: which belong to one image, whatever is appended to them."""

import os
import pathlib
import re
import unicodedata

# What may follow the name of an image in that of its mask, in order of preference.
MASK_ENDINGS = ("_mask", "_masks", "_label", "_labels", "_cp_masks", "_seg")
IMAGE_ENDINGS = ("_img", "_image")  # what may stand there in the name of the image

_FRAME = re.compile(r"(?:t|man_seg|mask)(\d+)")  # of the Cell Tracking Challenge


def stem(path: str | os.PathLike[str]) -> str:
    """Returns the name of a file without its extension, which may be .ome.tif.

    Composed and decomposed letters, as macOS writes them, give the same name.

    Example:
      >>> stem("images/a.OME.tif"), stem("e\u0301.png") == stem("\u00e9.png")
      ('a', True)
    """
    name = unicodedata.normalize("NFC", pathlib.Path(path).stem)
    return name[:-4] if name.lower().endswith(".ome") else name


def is_mask(name: str) -> bool:
    """Returns whether a stem is that of a mask in a folder with its image.

    Example:
      >>> is_mask("a_Masks"), is_mask("man_seg000"), is_mask("t000")
      (True, True, False)
    """
    return name.lower().endswith(MASK_ENDINGS) or name.startswith("man_seg")


def common(name: str) -> str:
    """Returns what the stems of an image, its mask and its prediction have in common.

    Example:
      >>> common("a_labels"), common("A_img"), common("man_seg007") == common("t007")
      ('a', 'a', True)
    """
    name = name.casefold()
    for ending in sorted((*MASK_ENDINGS, *IMAGE_ENDINGS), key=len, reverse=True):
        if name.endswith(ending) and name != ending:
            name = name.removesuffix(ending)
            break
    frame = _FRAME.fullmatch(name)
    return f"t{frame[1]}" if frame else name
