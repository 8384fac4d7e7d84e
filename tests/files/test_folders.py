import concurrent.futures
import json
import os
import socket
import subprocess
import sys

import pytest

from unetjax.files import folders


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    with folders.write_atomically(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def fail_to_write(path, **options):
    with folders.write_atomically(path, **options) as temporary:
        temporary.write_text("ha")
        raise OSError("No space left on device")


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match="No space left"):
        fail_to_write(path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("before")
    with pytest.raises(OSError, match="No space left"):
        fail_to_write(path, replace=True)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_is_replaced_only_when_told(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("mine")
    with (
        pytest.raises(FileExistsError, match=r"a\.txt exists already and is not overw"),
        folders.write_atomically(path),
    ):
        pytest.fail("the block must not run")
    with folders.write_atomically(path, replace=True) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "a.txt"

    def write():
        with folders.write_atomically(path) as temporary:
            temporary.write_text("ours")
            path.write_text("theirs")

    with pytest.raises(FileExistsError):
        write()
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_must_exist(tmp_path):
    with (
        pytest.raises(
            FileNotFoundError, match=r"the folder .*b does not exist; create"
        ),
        folders.write_atomically(tmp_path / "b" / "a.txt"),
    ):
        pytest.fail("the block must not run")


def lock_of(folder, pid, host):
    (folder / folders.LOCK).write_text(json.dumps({"pid": pid, "host": host}))


def is_refused(folder, match):
    with pytest.raises(FileExistsError, match=match), folders.claim(folder):
        pytest.fail("claimed twice")
    return True


def test_a_second_run_is_refused_by_name(tmp_path):
    """Two processes, as two runs are."""
    code = (
        "import sys; from unetjax.files import folders\n"
        "with folders.claim(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "held\n"
        assert is_refused(tmp_path / "run", f"in use by process {child.pid} on ")
        child.stdin.close()
    assert child.returncode == 0
    with folders.claim(tmp_path / "run") as folder:
        assert is_refused(folder, f"process {os.getpid()} on {socket.gethostname()}")
    assert list(folder.iterdir()) == []


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    return child.pid


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path, dead):
    lock_of(tmp_path, dead, socket.gethostname())
    with folders.claim(tmp_path):
        owner = json.loads((tmp_path / folders.LOCK).read_text())
        assert owner["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_another_machine_or_of_nobody_stays(tmp_path, dead):
    lock_of(tmp_path, dead, "another-machine")
    assert is_refused(tmp_path, f"process {dead} on another-machine; .* delete .*lock")
    (tmp_path / folders.LOCK).write_text("")
    assert is_refused(tmp_path, "in use by an unknown process")


def test_a_failed_run_gives_its_folder_back(tmp_path):
    def fail():
        with folders.claim(tmp_path):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_run_folders_are_numbered_and_the_first_free_one_is_made(tmp_path):
    names = [folders.new_run_dir(tmp_path / "runs").name for _ in range(2)]
    assert names == ["run_000", "run_001"]
    (tmp_path / "runs" / "run_003").mkdir()
    (tmp_path / "runs" / "run_003" / "mine").write_text("kept")
    assert folders.new_run_dir(tmp_path / "runs").name == "run_002"
    assert folders.new_run_dir(tmp_path / "runs").name == "run_004"
    assert (tmp_path / "runs" / "run_003" / "mine").read_text() == "kept"
    assert folders.new_run_dir(tmp_path / "runs", prefix="toy-").name == "toy-000"


def test_two_who_ask_at_once_get_two_run_folders(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: folders.new_run_dir(tmp_path), range(40)))
    assert sorted(path.name for path in paths) == [f"run_{i:03d}" for i in range(40)]
