"""Entry point of the `unetjax` command and of `python -m unetjax`."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command; Ctrl-C while its modules are imported shows no traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from unetjax import signals
    from unetjax.cli.main import main as run

    signals.exit_program(run())


if __name__ == "__main__":
    main()
