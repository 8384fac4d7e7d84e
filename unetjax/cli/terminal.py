"""Messages that commands have in common."""

import pathlib


def show_file(what: str, path: pathlib.Path) -> None:
    """Prints the full path of a file."""
    print(f"{what}: {path.resolve()}")
