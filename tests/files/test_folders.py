import contextlib
import math
import os
import socket
import subprocess
import sys
import threading
import time

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


def test_an_existing_file_is_replaced_only_on_request(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
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


HOLD = """
import sys
from unetjax.files import folders
with folders.claim(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
CONTEND = """
import fcntl, os, random, signal, sys, time
from unetjax.files import folders

folder, end = sys.argv[1], time.monotonic() + 2

def work(seed):
    rng = random.Random(seed)
    while time.monotonic() < end:
        try:
            with folders.claim(folder):
                # Opened last, as the kernel closes the files of a killed process in
                # the order of opening, backwards.
                judge = open(folder + ".judge", "w")
                try:
                    fcntl.flock(judge, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os._exit(3)  # two processes hold the folder
                os.write(1, b".")
                time.sleep(rng.random() * 0.002)
                if rng.random() < 0.3:
                    os.kill(os.getpid(), signal.SIGKILL)
                judge.close()
        except folders.FolderInUseError:
            time.sleep(rng.random() * 0.001)
    os._exit(0)

children, seed = set(), 0
while time.monotonic() < end or children:
    while len(children) < 6 and time.monotonic() < end:
        seed, child = seed + 1, os.fork()
        if not child:
            work(seed)
        children.add(child)
    child, status = os.wait()
    children.remove(child)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        sys.exit(f"a process ended with {code}")
with folders.claim(folder):  # not stuck after the last one was killed
    pass
"""


@contextlib.contextmanager
def another_process(folder):
    """A process that holds the folder until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout.readline() == "held\n"
        yield child


def refuse(folder, match, **options):
    with (
        pytest.raises(folders.FolderInUseError, match=match),
        folders.claim(folder, **options),
    ):
        pytest.fail("claimed twice")


def test_a_second_run_is_refused_with_the_process_that_holds_the_folder(tmp_path):
    here = socket.gethostname()
    with another_process(tmp_path / "run") as child:
        message = f"run is in use by process {child.pid} on {here}; wait for it to end"
        refuse(tmp_path / "run", message)
    assert child.returncode == 0
    with folders.claim(tmp_path / "run") as folder:
        refuse(folder, f"process {os.getpid()} on {here}; .* choose another folder")
    with folders.claim(folder):
        pass


def test_a_killed_process_frees_its_folder(tmp_path):
    with another_process(tmp_path) as child:
        child.kill()
        child.wait()
        with folders.claim(tmp_path):
            pass


@pytest.mark.skipif(os.name == "nt", reason="fork")
def test_contending_processes_that_are_killed_never_hold_a_folder_twice(tmp_path):
    command = [sys.executable, "-c", CONTEND, str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout) > 20  # claims


def test_the_text_of_the_lock_file_decides_nothing(tmp_path):
    """Process numbers are reused, and differ between containers that share a folder."""
    lock = tmp_path / folders.LOCK
    lock.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    with folders.claim(tmp_path):
        pass
    with another_process(tmp_path):
        for text in (
            "process 4194000 on nowhere\n",
            '{"pid": 1, "host": "a"}',
            "\x1b[2J",
        ):
            lock.write_text(text)
            refuse(tmp_path, r"in use by (process 4194000 on nowhere|another process);")


def test_a_claim_waits_as_long_as_asked(tmp_path):
    with another_process(tmp_path) as child:
        start = time.monotonic()
        refuse(tmp_path, "in use by", timeout=0.3)
        assert time.monotonic() - start >= 0.3
        threading.Timer(0.3, child.stdin.close).start()
        with folders.claim(tmp_path, timeout=math.inf):
            assert child.wait() == 0


def test_a_failed_run_frees_its_folder(tmp_path):
    def fail():
        with folders.claim(tmp_path):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with folders.claim(tmp_path):
        pass


def test_a_folder_is_unused_until_a_file_has_its_final_name(tmp_path):
    assert folders.is_unused(tmp_path / "missing")
    assert folders.is_unused(tmp_path)
    with folders.claim(tmp_path):
        pass
    with folders.write_atomically(tmp_path / "config.json") as temporary:
        temporary.write_text("{}")
        assert folders.is_unused(tmp_path)  # as after a kill at this moment
    assert not folders.is_unused(tmp_path)


@pytest.mark.parametrize("name", ["a.tif", ".hidden", ".a.12345678x", "b/c.txt"])
def test_a_folder_with_other_files_is_used(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("theirs")
    assert not folders.is_unused(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "a").write_text("mine")
    with (
        pytest.raises(FileExistsError, match=r"/a is a file; name a folder\.$"),
        folders.claim(tmp_path / "a"),
    ):
        pass
    assert (tmp_path / "a").read_text() == "mine"
