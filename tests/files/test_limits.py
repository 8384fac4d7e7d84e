import subprocess
import sys

import pytest

from unetjax.files import limits


def test_the_claimed_size_is_bounded_by_the_file_size(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(bytes(100))
    limits.check_size(path, 100 * 10_000)
    with pytest.raises(
        ValueError, match=r"claims 976\.6 KiB of pixels, the file has 100"
    ):
        limits.check_size(path, 100 * 10_000 + 1)


def test_the_claimed_size_is_bounded_by_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    path.write_bytes(bytes(100))
    monkeypatch.setattr(limits, "installed_memory", lambda: 2048)
    limits.check_size(path, 1024)
    with pytest.raises(
        ValueError, match=r"a\.tif needs 1\.0 KiB of memory, .* 2\.0 KiB"
    ):
        limits.check_size(path, 1025)
    monkeypatch.setattr(limits, "installed_memory", lambda: None)
    limits.check_size(path, 1025)


def test_the_memory_of_this_machine_is_plausible():
    assert limits.installed_memory() > 2**28


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (25 * 10**14, "2273.7 TiB"),
    ],
)
def test_sizes_have_binary_units(num_bytes, text):
    assert limits.format_bytes(num_bytes) == text


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
from unetjax.cli import command
from unetjax.files import limits
assert limits.installed_memory() == limits.address_space() == 2**30
raise SystemExit(command.run_command(lambda: print("never")))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="ulimit")
def test_a_limit_of_the_process_counts_and_too_low_a_one_is_refused():
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr == (
        "error: this process may use 1.0 GiB of memory, and needs 2.5 GiB; raise the "
        "limit (ulimit -v).\n"
    )
