"""Launchers: flags, then one call into unetjax."""

import sys

from unetjax.devices import large_pages

if sys.argv[:1] == ["-m"]:  # while Python looks for a launcher, which imports JAX
    large_pages.ask()
