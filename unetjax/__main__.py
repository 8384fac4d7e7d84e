"""Entry point of the `unetjax` command and of `python -m unetjax`."""

import sys

from unetjax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
