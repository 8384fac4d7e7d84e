"""A program starts again with large pages where they must be asked for, and once."""

import os
import pathlib
import subprocess
import sys

import pytest

from unetjax.devices import large_pages

STARTED = """
import os, pathlib, sys
from unetjax.devices import large_pages

large_pages._SETTING = pathlib.Path(sys.argv[1])
print("started", os.getpid(), flush=True)
large_pages.ask()
print("JAX" if "jax" in sys.modules else "light", os.environ.get("GLIBC_TUNABLES"))
print(sys.argv[2:])
"""


def start(setting, tunables=None):
    env = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    env |= {"GLIBC_TUNABLES": tunables} if tunables else {}
    done = subprocess.run(
        [sys.executable, "-c", STARTED, str(setting), "a b", "c"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_program_starts_again_as_the_same_process_with_the_same_words(tmp_path):
    setting = tmp_path / "enabled"
    setting.write_text("always [madvise] never\n")
    first, second, *rest = start(setting)
    assert first == second  # one process
    assert first.startswith("started")
    assert rest == ["light glibc.malloc.hugetlb=1", "['a b', 'c']"]


def test_a_system_that_always_or_never_gives_them_is_left_alone(tmp_path):
    setting = tmp_path / "enabled"
    setting.write_text("[always] madvise never\n")
    assert start(setting)[1:] == ["light None", "['a b', 'c']"]
    assert start(tmp_path / "absent")[1:] == ["light None", "['a b', 'c']"]


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ({}, "glibc.malloc.hugetlb=1"),
        (
            {"GLIBC_TUNABLES": "glibc.malloc.check=3"},
            "glibc.malloc.check=3:glibc.malloc.hugetlb=1",
        ),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, None),
    ],
    ids=str,
)
def test_what_the_user_has_said_stands(said, asked):
    environment = large_pages.asking({"A": "b", **said}, "always [madvise] never")
    if asked is None:
        assert environment is None
    else:
        assert environment == {"A": "b", "GLIBC_TUNABLES": asked}


def test_the_command_line_asks_before_it_imports_jax():
    """From its entry point, seen by what is imported when it asks."""
    code = (
        "import sys\n"
        "from unetjax.devices import large_pages\n"
        "large_pages.ask = lambda: print('jax' in sys.modules)\n"
        "from unetjax import __main__\n"
        "sys.argv = ['unetjax', '--help']\n"
        "__main__.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("False\nusage: unetjax")


@pytest.mark.parametrize(
    ("command", "said"), [("['-m']", "asks False\n"), ("['x']", "")], ids=str
)
def test_launchers_ask_before_they_import_jax_and_imports_do_not(command, said):
    code = (
        "import sys\n"
        f"sys.argv = {command}\n"
        "from unetjax.devices import large_pages\n"
        "large_pages.ask = lambda: print('asks', 'jax' in sys.modules)\n"
        "import experiments\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert done.stdout == said
