"""What all commands say alike."""

import pathlib


def show_file(what: str, path: pathlib.Path) -> None:
    """Names a file to look at."""
    print(f"{what}: {path.resolve()}")
