import getpass
import json
import re
import subprocess

import jax
import pytest

from unetjax.reporting import environment


def test_versions_and_devices_are_listed():
    entry = environment.environment()
    assert entry["jax"] == jax.__version__
    assert {"unetjax", "jaxlib", "flax", "optax", "numpy", "cores"} <= entry.keys()
    assert entry["devices"] == "2 x cpu"
    assert "pytest" not in entry  # of the extra dev
    assert not re.search(rf"\b{getpass.getuser()}\b", json.dumps(entry))


def test_every_start_has_an_entry(tmp_path):
    environment.note_start(tmp_path, seed=3, step=0)
    environment.note_start(tmp_path, seed=3, step=20)
    starts = environment.read_starts(tmp_path)
    assert [(start["seed"], start["step"]) for start in starts] == [(3, 0), (3, 20)]
    assert starts[0]["started"] <= starts[1]["started"]


@pytest.fixture
def checkout(tmp_path):
    def git(*args):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *args],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", "code.py")
    git("commit", "-m", "first")
    return tmp_path, git("rev-parse", "HEAD")


def test_the_commit_of_a_checkout_and_whether_it_was_changed(checkout):
    root, commit = checkout
    (root / "runs").mkdir()
    (root / "runs" / "records.jsonl").write_text("")  # results do not count as changes
    assert environment._commit(root) == commit
    (root / "code.py").write_text("2")
    assert environment._commit(root) == f"{commit}, with changes"


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    root, _ = checkout
    assert environment._commit(root / "runs") == ""
    (root / ".git" / "HEAD").write_text("damaged")
    assert environment._commit(root) == ""
    monkeypatch.setenv("PATH", "")
    assert environment._commit(root) == ""


@pytest.mark.parametrize(
    "content", ["", "[{", "[" * 100_000, "{}x", "[3]", '[{"a": 1}]']
)
def test_a_damaged_file_stops_nothing(tmp_path, content):
    (tmp_path / environment.FILE).write_text(content)
    with pytest.warns(UserWarning, match=r"environment\.json is damaged; earlier st"):
        environment.note_start(tmp_path, seed=0, step=3)
    assert [start["step"] for start in environment.read_starts(tmp_path)] == [3]
