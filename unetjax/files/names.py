"""Names of files found in folders, which others may have chosen."""

import pathlib
import unicodedata
from collections.abc import Iterable

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


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in _CATEGORIES or character in _DIRECTIONS
