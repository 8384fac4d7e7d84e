"""A run resumes after damage of any one of its files, or names the file."""

import collections
import shutil
import warnings

import numpy as np
import pytest

from tests.training.runs import CONFIG, assert_equal_runs, make_split
from tests.training.test_checkpoints import DAMAGES, collect_coroutines, damage
from unetjax.files import folders
from unetjax.training import loop

# Orbax does not await coroutines that failed to read a damaged file.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.usefixtures(collect_coroutines.__name__),
]
CASES = 3  # in the short test
LOST = "pictures"  # decide nothing, and are not drawn again


def kind(path):
    """Files of one kind differ in numbers and hashes only."""
    return "/".join(
        "d" if part == "d" or len(part) > 30 else "".join(c for c in part if c > "9")
        for part in path.parts
    )


def all_files(run):
    return sorted(
        path.relative_to(run)
        for path in run.rglob("*")
        if path.is_file() and path.stat().st_size and path.name != folders.LOCK
    )


def draw_cases(run, count, seed=0):
    """Files of all kinds in turn, each with some damage."""
    rng = np.random.default_rng(seed)
    by_kind = collections.defaultdict(list)
    for path in all_files(run):
        by_kind[kind(path)].append(path)
    kinds = list(rng.permutation(sorted(by_kind)))
    for i in range(count):
        paths = by_kind[kinds[i % len(kinds)]]
        yield paths[rng.integers(len(paths))], str(rng.choice(list(DAMAGES)))


def check_damage(uninterrupted, workdir, path, how):
    """Damages a finished run, resumes it, and compares it with the undamaged one."""
    shutil.copytree(uninterrupted, workdir)
    damage(workdir / path, how)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.train_and_evaluate(CONFIG, make_split(), workdir)
    texts = {str(w.message) for w in caught if w.category is UserWarning}
    assert len(texts) <= 1, texts
    if path.parts[0] == LOST:
        shutil.copy(uninterrupted / path, workdir / path)
    assert_equal_runs(workdir, uninterrupted)
    return texts


def test_damaged_files_of_some_kinds(uninterrupted, tmp_path):
    for i, (path, how) in enumerate(draw_cases(uninterrupted, CASES)):
        check_damage(uninterrupted, tmp_path / str(i), path, how)


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGES)
def test_every_damaged_file_of_a_run(uninterrupted, tmp_path, how):
    reported = set()
    for i, path in enumerate(all_files(uninterrupted)):
        if check_damage(uninterrupted, tmp_path / str(i), path, how):
            reported.add(path.parts[0])
    assert reported >= {"checkpoints", "model"} or how == "deleted"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("config.json", r"config\.json is damaged .*written again"),
        ("data.json", r"data\.json is damaged.*written again"),
        ("records.jsonl", r"records\.jsonl is damaged; it was restored from the check"),
        ("model/weights.npz", r"weights\.npz has changed; .*was moved to .*; it was w"),
    ],
)
def test_what_is_said_of_a_damaged_file(uninterrupted, tmp_path, path, message):
    shutil.copytree(uninterrupted, tmp_path / "r")
    (tmp_path / "r" / path).write_bytes(b'{"a": ')
    with pytest.warns(UserWarning, match=message):
        loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", uninterrupted)
