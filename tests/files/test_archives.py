import hashlib
import signal
import stat
import subprocess
import sys
import zipfile

import pytest

from unetjax.files import archives

FILES = {"set/01/t000.tif": b"abc" * 1000, "set/01/t001.tif": b"", "readme": b"hello"}


def write_zip(path, members):
    """Members are (name or ZipInfo, bytes)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


def contents(folder):
    return {
        str(path.relative_to(folder).as_posix()): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(archive, message, **limits):
    """Asserts that nothing at all is left behind."""
    folder = archive.parent / "out" / "folder"
    folder.parent.mkdir(exist_ok=True)
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(ValueError, match=message):
        archives.unpack(archive, folder, **limits)
    assert sorted(archive.parent.rglob("*")) == before


def test_sha256_is_that_of_hashlib(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 20000)  # longer than one block
    assert archives.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_come_back_as_they_were_packed(tmp_path):
    path = write_zip(tmp_path / "données #1.zip", [("set/", b""), *FILES.items()])
    archives.unpack(path, tmp_path / "a" / "b")
    assert contents(tmp_path / "a" / "b") == FILES
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]  # no temporary left


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/x", "..\\x", "C:\\x", "C:x", "\\\\host\\s\\x"]
)
def test_an_archive_with_a_path_outside_its_folder_is_refused(tmp_path, name):
    archive = write_zip(tmp_path / "a", [("good", b"1"), (name, b"2")])
    refused(archive, "lies outside of its folder; it was not unpacked")


def test_a_file_without_a_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(zipfile.ZipInfo("a"), "text")
        file.filelist[0].filename = ""
    with pytest.raises(ValueError, match="holds a file without a name"):
        archives.unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_symbolic_link_is_not_followed(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = write_zip(tmp_path / "a.zip", [(link, str(outside).encode())])
    archives.unpack(archive, tmp_path / "folder")
    assert not (tmp_path / "folder" / "link").is_symlink()


def test_an_encrypted_archive_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", [("secret", b"1")])
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag, in the central directory
    archive.write_bytes(data)
    refused(archive, "is damaged or not a zip archive")


def test_bombs_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    """By the sizes that they declare, and by the number of files."""
    archive = write_zip(tmp_path / "a.zip", [("a", bytes(600)), ("b", bytes(600))])
    with monkeypatch.context() as context:
        context.setattr(zipfile.ZipFile, "extractall", None)
        refused(archive, "unpacks to more than 1,199 bytes", max_bytes=1199)
        refused(archive, "has more than 1 files and folders", max_files=1)
    archives.unpack(archive, tmp_path / "ok", max_bytes=1200, max_files=2)


def test_an_archive_that_declares_less_than_it_holds_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", [("a", bytes(100_000))])
    data, size = archive.read_bytes(), (100_000).to_bytes(4, "little")
    archive.write_bytes(data.replace(size, (1000).to_bytes(4, "little")))
    refused(archive, "is damaged", max_bytes=1000)


def test_a_damaged_archive_leaves_nothing(tmp_path):
    path = tmp_path / "a.zip"
    members = [(name, hashlib.shake_128(name.encode()).digest(5000)) for name in "abc"]
    whole = write_zip(path, members).read_bytes()
    for cut in (0, 1, 300, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        refused(path, r"a\.zip is damaged or not a zip archive; download it again\.$")


def test_a_flipped_bit_never_changes_the_contents(tmp_path):
    """The archive is refused, or has the same contents (the bit was in a date, say)."""
    path = tmp_path / "archive"
    files = {name: b"text and more text, %d\n" * 50 for name in "ab"}
    whole, refusals = write_zip(path, files.items()).read_bytes(), 0
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 2 ** (i % 8)]) + whole[i + 1 :])
        try:
            archives.unpack(path, tmp_path / f"{i}")
        except ValueError:
            refusals += 1
        else:
            assert contents(tmp_path / f"{i}") == files
    assert refusals > len(whole) / 10


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.zip"):
        archives.unpack(tmp_path / "gone.zip", tmp_path / "folder")


def test_a_killed_process_leaves_no_folder_and_the_next_succeeds(tmp_path):
    archive = write_zip(tmp_path / "a.zip", FILES.items())
    code = """if True:
        import os, shutil, signal, sys
        from unetjax.files import archives
        def killed(source, target):
            target.write(b"half")
            target.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        shutil.copyfileobj = killed
        archives.unpack(sys.argv[1], sys.argv[2])
    """
    folder = tmp_path / "folder"
    command = [sys.executable, "-c", code, str(archive), str(folder)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert not folder.exists()
    archives.unpack(archive, folder)
    assert contents(folder) == FILES


def test_a_full_disk_is_not_reported_as_a_damaged_archive(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    archive = write_zip(tmp_path / "a.zip", FILES.items())
    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(OSError, match="No space left"):
        archives.unpack(archive, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
