"""Commands run by tests: in this process, or as a program of their own."""

import contextlib
import importlib
import io
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def in_process(module, *args, cwd=ROOT):
    """Calls `main` of a module as the program would; returns status and output.

    Starting a program takes several seconds, most of them for imports.
    """
    main = importlib.import_module(module).main
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main([str(arg) for arg in args])
    return subprocess.CompletedProcess(args, status, out.getvalue(), err.getvalue())


def as_program(module, *args, cwd=ROOT, **options):
    """Starts `python -m module`; the sources are those of this checkout."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def run_program(module, *args, **options):
    """Starts `python -m module` and waits for its end."""
    with as_program(module, *args, **options) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(args, process.returncode, out, err)
