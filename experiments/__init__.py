"""Launchers: command lines that train, sweep, evaluate, predict and benchmark."""
