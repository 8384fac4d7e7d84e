"""python -m unetjax is the command line."""

import sys

from unetjax.cli.main import main

sys.exit(main())
