"""Launchers: command lines that train, sweep, evaluate, predict and benchmark."""

import signal
import sys

if sys.argv[0] == "-m":  # started as a program, whose modules take seconds to import
    signal.signal(signal.SIGINT, signal.SIG_DFL)
