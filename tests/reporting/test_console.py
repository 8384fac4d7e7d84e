import io
import logging
import os
import select
import subprocess
import sys

import pytest

from unetjax.reporting import console


def lines_of(capsys, total, *, seconds, done=0, **values):
    """The plain lines of work whose steps end at the given times."""
    now = [0.0]
    with console.progress(
        "training", total=total, done=done, clock=lambda: now[0]
    ) as bar:
        for now[0] in seconds:
            bar.advance(**values)
    return capsys.readouterr().out.splitlines()


def test_plain_lines_come_with_every_tenth(capsys):
    lines = lines_of(
        capsys, 1000, seconds=[0.01 * i for i in range(1, 1001)], loss=1e-5
    )
    assert len(lines) == 11
    assert lines[0] == "training: 1/1,000 steps, loss 1.00e-05"
    assert lines[5] == (
        "training: 500/1,000 steps, 100 steps/s, 0:00:05 left, loss 1.00e-05"
    )
    assert lines[-1].startswith("training: 1,000/1,000 steps, 100 steps/s, loss")


def test_slow_work_prints_a_line_every_minute(capsys):
    lines = lines_of(capsys, 10**6, seconds=map(float, range(1, 301)))
    assert [line.split("/")[0].split()[-1] for line in lines] == [
        "1", "61", "121", "181", "241",
    ]  # fmt: skip


def test_the_rate_does_not_count_compilation(capsys):
    """The first step takes 90 s, the others half a second; 7 of 10 remain."""
    lines = lines_of(capsys, 10, seconds=[90.0, 90.5, 91.0])
    assert lines[-1] == "training: 3/10 steps, 2 steps/s, 0:00:04 left"


def test_a_resumed_run_continues_its_count(capsys):
    lines = lines_of(capsys, 100, done=60, seconds=[1.0, 2.0])
    assert lines[0] == "training: 61/100 steps"
    # Only steps of this process enter the rate.
    assert lines_of(capsys, 100, done=68, seconds=[1.0, 2.0])[-1].endswith(
        "1 steps/s, 0:00:30 left"
    )


def test_a_terminal_shows_a_bar_and_the_same_text(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    master, slave = os.openpty()
    now = [0.0]
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with console.progress("training [a]", total=4, clock=lambda: now[0]) as bar:
            for now[0] in (1.0, 2.0, 3.0, 4.0):
                bar.advance(loss=0.25)
        shown = ""
        # The cursor comes back at the end.
        while "\x1b[?25h" not in shown and select.select([master], [], [], 5.0)[0]:
            shown += os.read(master, 65536).decode()
    os.close(master)
    assert "training [a]" in shown
    assert "━" in shown
    assert "4/4 steps, 1 steps/s, loss 0.250" in shown


def test_without_standard_output_nothing_is_shown_and_nothing_fails(monkeypatch):
    """A closed descriptor (`>&-`) makes sys.stdout None, a closed file raises."""
    script = (
        "import sys\n"
        "from unetjax.reporting import console\n"
        "with console.progress('x', total=1) as bar: bar.advance()\n"
        "print(sys.stdout, bar.done, file=sys.stderr)\n"
    )
    command = '"$0" -c "$1" >&-'
    run = subprocess.run(
        ["sh", "-c", command, sys.executable, script], capture_output=True, text=True
    )
    assert run.stderr == "None 1\n"

    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with console.progress("x", total=1) as bar:
        bar.advance()
    assert bar.done == 1


def test_an_exception_inside_is_not_caught():
    with pytest.raises(KeyboardInterrupt), console.progress("x", total=1):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1.00e-05"),
        (-0.00012, "-0.000120"),
        (999.96, "1,000"),
        (-1234.5, "-1,234"),
        (3e9, "3.00e+09"),
        (float("nan"), "nan"),
        (0, "0"),
        (572, "572"),
        ("0.5", "0.5"),
    ],
)
def test_numbers_have_significant_digits(value, text):
    assert console.number(value) == text


def test_a_table_aligns_numbers_right_and_text_left():
    rows = [
        {"image": "a[b].tif", "cells": 1200, "best [b]": "ours"},
        {"image": "long name.tif", "IoU": 1e-5},
        {"image": "\u7d30\u80de.tif", "IoU": 0.5},  # characters of double width
    ]
    assert console.table(rows, ["image", "IoU", "cells", "best [b]"]).splitlines() == [
        "image               IoU  cells  best [b]",
        "-------------- --------- ------ --------",
        "a[b].tif                 1,200  ours",
        "long name.tif  1.00e-05",
        "\u7d30\u80de.tif          0.500",
    ]


def test_a_table_is_never_wrapped_or_coloured(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    text = console.table([{"name": "x" * 300, "n": 1}], ["name", "n"])
    assert text.splitlines()[-1] == "x" * 300 + "  1"
    assert "\x1b" not in text


def test_a_table_without_rows_is_its_head():
    assert console.table([], ["a", "bc"]).splitlines() == ["a  bc", "-- --"]


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_a_terminal_of_width_0_is_no_error(monkeypatch, term):
    """The width of pseudo-terminals is 0 until it is set."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("COLUMNS", raising=False)
    master, slave = os.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with console.progress("training", total=1) as bar:
            bar.advance()
        terminal.flush()
        shown = os.read(master, 65536).decode()
    os.close(master)
    assert "training" in shown
    assert ("\x1b" in shown) == (term == "xterm")


def test_slow_steps_have_their_rate_in_seconds_and_days_left(capsys):
    lines = lines_of(capsys, 3000, seconds=[100.0 * i for i in range(1, 4)])
    assert lines[-1] == "training: 3/3,000 steps, 100 s/step, 3 days, 11:15:00 left"


def test_nothing_is_shown_where_informative_lines_are_not_wanted(capsys):
    log = logging.getLogger("unetjax")
    log.setLevel(logging.WARNING)
    try:
        assert lines_of(capsys, 10, seconds=[1.0, 2.0]) == []
    finally:
        log.setLevel(logging.NOTSET)
    assert lines_of(capsys, 10, seconds=[1.0, 2.0])
