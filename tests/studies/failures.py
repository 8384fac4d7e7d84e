"""Lets every file action of a training and of a prediction fail once, one a run.

    python -m tests.studies.failures [--first 1] [--stride 1] [--most 0]

A write fails with a full disk after half of its bytes, so do new files, new folders and
renames; fsync fails with an error of the device. The command must end in one sentence,
or as if nothing had happened; no file under its final name may be incomplete; and the
same command must then end with what an undisturbed one writes. Goes on until no action
is left. Threads of a save may change the order of actions. Prints a line for each
violation and one with the counts.
"""

import argparse
import collections
import errno
import pathlib
import shutil
import sys
import tempfile
import time

from tests.studies import forks
from tests.studies.forks import Command, Ended


def check(ended: Ended) -> list[str]:
    """Returns what is wrong with the end of a command of which an action failed."""
    lines = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    problems = list[str]()
    if "Traceback" in ended.output:
        problems.append(f"a traceback: {ended.output[-1500:]}")
    elif ended.status not in (0, 2) or len(lines) != (ended.status == 2):
        problems.append(f"status {ended.status}, {ended.output[-600:]}")
    return problems


def try_all(
    command: Command, top: pathlib.Path, name: str, options: argparse.Namespace
) -> tuple[collections.Counter[str], int]:
    """Lets the actions of a command fail in turn; returns counts and violations."""
    done = forks.in_process(command, top / name)
    assert done.status == 0, done.output
    expected = forks.digests(top / name)
    counts, harm, action = collections.Counter[str](), 0, options.first
    while not options.most or counts["failures"] < options.most:
        folder = top / f"{name}{action}"
        ended = forks.in_process(command, folder, action=action, error=errno.ENOSPC)
        if ended.num_actions < action:
            shutil.rmtree(folder)
            return counts, harm
        counts["failures"] += 1
        counts[f"status {ended.status}"] += 1
        problems = check(ended)
        problems += [f"incomplete: {each}" for each in forks.damage(folder)]
        done = forks.in_process(command, folder)
        if done.status or "damaged" in done.output:
            problems.append(f"resumed: status {done.status}, {done.output[-600:]}")
        elif forks.digests(folder) != expected:
            problems.append("other results")
        problems += [f"left over: {each}" for each in forks.left_over(folder)]
        for problem in problems:
            print(f"{name}, action {action}: {problem}", flush=True)
        harm += bool(problems)
        shutil.rmtree(folder)
        action += options.stride
    return counts, harm


def main() -> int:
    """Runs the study and returns 1 if a failure did harm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=1, help="first action that fails")
    parser.add_argument("--stride", type=int, default=1, help="from one to the next")
    parser.add_argument("--most", type=int, default=0, help="number of each; 0 for all")
    options = parser.parse_args()
    forks.prepare()
    began, total = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="failures.") as scratch:
        top = pathlib.Path(scratch)
        commands = forks.make_commands(top)
        for name in ("train", "predict"):
            counts, harm = try_all(commands[name], top, name, options)
            total += harm
            text = ", ".join(f"{key}: {count}" for key, count in counts.items())
            print(f"{name}: {text}; {harm} did harm", flush=True)
    print(f"{total} did harm ({(time.monotonic() - began) / 60:.0f} min)")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
