import hashlib
import io
import signal
import stat
import subprocess
import sys
import tarfile
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


def write_tar(path, members, mode="w:gz"):
    """Members are (name or TarInfo, bytes)."""
    with tarfile.open(path, mode) as file:
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def zip_special(name, mode, flags=0):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.flag_bits |= flags
    return info


def tar_special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


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
        archives.unpack(archive, folder, limits=archives.Limits(**limits))
    assert sorted(archive.parent.rglob("*")) == before


def test_sha256_is_that_of_hashlib(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 20000)  # longer than one block
    assert archives.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_contents_come_out_as_they_went_in(tmp_path, kind):
    path = tmp_path / f"données #1.{kind}"
    members = [("set/", b""), *FILES.items()]
    if kind == "zip":
        write_zip(path, members)
    else:
        mode = "w:" + kind.partition(".")[2]
        folder = tar_special("./", tarfile.DIRTYPE)
        write_tar(path, [(folder, b""), *FILES.items()], mode)
    archives.unpack(path, tmp_path / "a" / "b")
    assert contents(tmp_path / "a" / "b") == FILES
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]  # no temporary left


def test_an_existing_folder_is_left_alone(tmp_path):
    archive = write_zip(tmp_path / "a.zip", FILES.items())
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="mine exists and is never overwritten"):
        archives.unpack(archive, tmp_path / "mine")
    assert contents(tmp_path / "mine") == {}


HOSTILE_NAMES = ["../x", "a/../../x", "/x", "..\\x", "C:\\x", "C:x", "\\\\host\\s\\x"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_nothing_is_written_outside(tmp_path, write, name):
    archive = write(tmp_path / "a", [("good", b"1"), (name, b"2")])
    refused(archive, "lies outside of its folder; it is not unpacked")


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        (zip_special("l", stat.S_IFLNK | 0o777), "link"),
        (zip_special("l/", stat.S_IFLNK | 0o777), "link"),
        (zip_special("d", stat.S_IFCHR), "device"),
        (tar_special("l", tarfile.SYMTYPE, "/etc"), "link"),
        (tar_special("l", tarfile.LNKTYPE, "good"), "link"),
        (tar_special("d", tarfile.FIFOTYPE), "device"),
        (tar_special("d", tarfile.CHRTYPE), "device"),
    ],
)
def test_links_and_devices_are_refused(tmp_path, info, kind):
    write = write_zip if isinstance(info, zipfile.ZipInfo) else write_tar
    archive = write(tmp_path / "a", [("good", b"1"), (info, b""), ("l/x", b"2")])
    refused(archive, f"holds the {kind} '[ld]/?'")


def test_an_encrypted_file_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", [("secret", b"1")])
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag, in the central directory
    archive.write_bytes(data)
    refused(archive, "holds the encrypted file 'secret'")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/x", "a/x"], "'a/x' twice"),
        (["a/X", "a/x"], "'a/x' twice"),  # one file on Windows and macOS
        (["a/./x", "a/x"], "'a/x' twice"),
        (["a", "a/x"], "'a/x' below a file"),
        (["a/x", "a"], "'a' twice"),
    ],
)
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_no_member_overwrites_another(tmp_path, write, names, message):
    refused(write(tmp_path / "a", [(name, b"1") for name in names]), message)


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_bombs_are_refused_before_they_are_written(tmp_path, write):
    """A member that claims 10 GB in a tiny archive, and too much by sum or count."""
    archive = write(tmp_path / "ratio", [("zeros", bytes(1_000_000))])
    refused(archive, "more than 200 times its [0-9,]+ bytes")
    archive = write(tmp_path / "sum", [("a", bytes(600)), ("b", bytes(600))])
    refused(archive, "more than 1,199 bytes", total_bytes=1199)
    archives.unpack(archive, tmp_path / "ok", limits=archives.Limits(1200))
    archive = write(tmp_path / "count", [(f"{i}", b"") for i in range(21)])
    refused(archive, "more than 20 files and folders", num_files=20)


def test_a_tar_header_that_claims_10_gb_is_refused(tmp_path):
    info = tarfile.TarInfo("huge")
    info.size = 10 << 30
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(1024))
    refused(tmp_path / "a.tar", "more than 200 times")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_a_damaged_archive_leaves_nothing(tmp_path, kind):
    """Cut anywhere, or one bit flipped in a header or in compressed data."""
    path = tmp_path / f"a.{kind}"
    members = [(name, hashlib.shake_128(name.encode()).digest(5000)) for name in "abc"]
    if kind == "zip":
        write_zip(path, members)
    else:
        write_tar(path, members, "w:" + kind.partition(".")[2])
    whole = path.read_bytes()
    member = 512 + 5120  # bytes of one in a tar: a header, and whole blocks of 512
    end = 3 * member if kind == "tar" else len(whole) - 1
    for cut in (0, 1, 300, len(whole) // 2, 2 * member, end):
        path.write_bytes(whole[:cut])
        refused(path, r"is damaged, or neither a zip nor a tar archive; [^\n]*\.$")
    flip = member + 20 if kind == "tar" else len(whole) // 2  # in the header of b
    path.write_bytes(whole[:flip] + bytes([whole[flip] ^ 4]) + whole[flip + 1 :])
    refused(path, "is damaged")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz", "tar.bz2"])
def test_a_flipped_bit_never_passes_unseen(tmp_path, kind):
    """Refused, or the same contents (a date, say): never other contents."""
    path = tmp_path / "archive"
    files = {name: b"text and more text, %d\n" * 50 for name in "ab"}
    if kind == "zip":
        write_zip(path, files.items())
    else:
        write_tar(path, files.items(), "w:" + kind.partition(".")[2])
    whole, refusals = path.read_bytes(), 0
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
        import os, signal, sys
        from unetjax.files import archives
        def killed(source, target):
            target.write(b"half")
            target.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        archives.shutil.copyfileobj = killed
        archives.unpack(sys.argv[1], sys.argv[2])
    """
    folder = tmp_path / "folder"
    command = [sys.executable, "-c", code, str(archive), str(folder)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert not folder.exists()
    archives.unpack(archive, folder)
    assert contents(folder) == FILES


def test_a_full_disk_is_not_blamed_on_the_archive(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    archive = write_zip(tmp_path / "a.zip", FILES.items())
    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        archives.unpack(archive, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
