"""Kills commands at random file actions and at random times.

    python -m tests.studies.kills [--count 200] [--seed 0] [--commands train predict]

Commands are train, predict, sweep and search, in turn. After each kill the same command
resumes a copy of the folder, and must end with what an undisturbed one writes; up to
five kills follow each other in one folder. Prints a line for each violation, and one
with the counts.
"""

import argparse
import collections
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np

from tests.studies import forks

_MOST = 5  # kills of one folder


def phase(folder: pathlib.Path) -> str:
    """Returns how far a command was that was killed."""
    if not any(path.suffix for path in folder.glob("[!.]*")):
        return "before the first file"
    if (folder / "report.html").exists():
        return "after the report"
    if (folder / "checkpoints" / "4").exists():
        return "scores and report"
    if (folder / "checkpoints" / "2").exists():
        return "second half of training"
    if (folder / "records.jsonl").exists():
        return "first half of training"
    return "compilation"


class Case(NamedTuple):
    """A command, and what it does undisturbed.

    Attributes:
      command: The command.
      num_actions: Number of its file actions.
      seconds: How long it takes in a new process.
      expected: What it writes, see `forks.digests`.
    """

    command: forks.Command
    num_actions: int
    seconds: float
    expected: dict[str, str]


def measure(
    command: forks.Command, name: str, top: pathlib.Path, server: forks.Server
) -> Case:
    """Runs a command undisturbed, into `top / name` and elsewhere."""
    done = server.run(command, top / name)
    assert done.status == 0, done.output
    forks.run(command, top / "compiled" / name)  # programs of a new process
    began = time.monotonic()
    forks.run(command, top / "timed" / name)
    seconds = time.monotonic() - began
    return Case(command, done.num_actions, seconds, forks.digests(top / name))


def check(case: Case, folder: pathlib.Path, server: forks.Server) -> list[str]:
    """Resumes a copy of what a killed command left; returns what is wrong with it."""
    copy = folder.with_name("resumed")
    shutil.copytree(folder, copy) if folder.exists() else copy.mkdir()
    problems = [f"incomplete: {each}" for each in forks.damage(copy)]
    done = server.run(case.command, copy)
    if done.status or "damaged" in done.output:
        problems.append(f"status {done.status}: {done.output[-600:]}")
    else:
        found = forks.digests(copy)
        different = [
            name
            for name in sorted(found.keys() | case.expected.keys())
            if found.get(name) != case.expected.get(name)
        ]
        if different:
            problems.append(f"other results: {different}")
    problems += [f"left over: {each}" for each in forks.left_over(copy)]
    shutil.rmtree(copy)
    return problems


def kill(
    case: Case, folder: pathlib.Path, rng: np.random.Generator
) -> tuple[forks.Ended, str]:
    """Runs a command that is killed somewhere; returns how it ended, and where."""
    if rng.random() < 0.5:
        action = int(rng.integers(1, case.num_actions + 1))
        return forks.run(case.command, folder, action=action), f"action {action}"
    after = rng.uniform(0, case.seconds)
    return forks.run(case.command, folder, after=after), f"time {after:.2f} s"


def main() -> int:
    """Runs the study and returns 1 if a kill did harm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", default=[*["train"] * 3, "predict"])
    options = parser.parse_args()
    forks.prepare()
    rng, began = np.random.default_rng(options.seed), time.monotonic()
    counts, harm, number = collections.Counter[str](), 0, 0
    with tempfile.TemporaryDirectory(prefix="kills.") as scratch:
        top = pathlib.Path(scratch)
        server, commands = forks.Server(), forks.make_commands(top)
        names = dict.fromkeys(
            ["train", *options.commands]
        )  # predictions need its model
        cases = {name: measure(commands[name], name, top, server) for name in names}
        while counts["kills"] < options.count:
            name = options.commands[number % len(options.commands)]
            folder, number = top / str(number) / "killed", number + 1
            for _ in range(_MOST):
                ended, where = kill(cases[name], folder, rng)
                if ended.status == 0:  # it ended before the kill
                    break
                problems = [f"status {ended.status}: {ended.output[-600:]}"]
                if ended.status == -signal.SIGKILL:
                    problems = check(cases[name], folder, server)
                    stage = phase(folder) if name == "train" else name
                    counts.update(["kills", f"at {where.split()[0]}s", stage])
                for problem in problems:
                    print(f"{name}, folder {number}, {where}: {problem}", flush=True)
                harm += bool(problems)
            shutil.rmtree(folder.parent, ignore_errors=True)
    text = ", ".join(f"{name}: {count}" for name, count in counts.items())
    minutes = (time.monotonic() - began) / 60
    print(f"seed {options.seed}: {text}; {harm} did harm ({minutes:.0f} min)")
    return int(harm > 0)


if __name__ == "__main__":
    sys.exit(main())
