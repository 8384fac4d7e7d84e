"""Entry point of the `unetjax` command and of `python -m unetjax`."""

import signal
import sys


def main() -> int:
    """Runs the command; Ctrl-C while its modules are imported shows no traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from unetjax.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
