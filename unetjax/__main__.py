"""The command line: unetjax, or python -m unetjax."""

import sys

from unetjax.devices import large_pages


def main() -> int:
    """Runs one command and returns its exit code."""
    large_pages.ask()
    from unetjax.cli import main as command_line  # JAX, after the process has settled

    return command_line.main()


if __name__ == "__main__":
    sys.exit(main())
