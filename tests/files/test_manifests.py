import json
import os

import pytest

from unetjax.files import folders, manifests

NAMES = ("arrays/a b.npz", ".hidden")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    (folder / "arrays").mkdir(parents=True)
    (folder / "arrays" / "a b.npz").write_bytes(bytes(range(256)))
    (folder / ".hidden").write_text("x")
    manifests.write_manifest(folder)
    return folder


def test_an_untouched_folder_is_verified(folder):
    manifests.verify_manifest(folder, NAMES)
    names = json.loads((folder / manifests.MANIFEST).read_text())["sha256"]
    assert sorted(names) == [".hidden", "arrays/a b.npz"]
    (folder / "notes.txt").write_text("a file of the user")
    (folder / folders.LOCK).write_text("process 1 on here")
    manifests.verify_manifest(folder, NAMES)
    manifests.write_manifest(folder)
    names = json.loads((folder / manifests.MANIFEST).read_text())["sha256"]
    assert sorted(names) == [".hidden", "arrays/a b.npz", "notes.txt"]


@pytest.mark.parametrize("place", [0, 100, 255])
def test_one_flipped_bit_is_detected(folder, place):
    path = folder / "arrays" / "a b.npz"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        manifests.CorruptFilesError,
        match=r"a b\.npz has changed: .* copy or download it again",
    ):
        manifests.verify_manifest(folder, NAMES)


def test_all_problems_are_named(folder):
    (folder / "arrays" / "a b.npz").unlink()
    (folder / ".hidden").write_text("y")
    expected = (
        r"\.hidden has changed; .*a b\.npz is missing: .* is not as it was written"
    )
    with pytest.raises(manifests.CorruptFilesError, match=expected):
        manifests.verify_manifest(folder, NAMES)


def test_paths_stay_inside(folder):
    secret = folder.parent / "secret"
    secret.write_text("s")
    for name in ("../secret", str(secret)):
        content = json.dumps({"sha256": {name: "0"}})
        (folder / manifests.MANIFEST).write_text(content)
        with pytest.raises(
            manifests.CorruptFilesError, match=r"secret lies outside of"
        ):
            manifests.verify_manifest(folder, [name])
    (folder / "link").symlink_to(secret)
    with pytest.raises(ValueError, match="link lies outside of"):
        manifests.write_manifest(folder)


def test_the_manifest_must_list_exactly_the_files_that_are_read(folder):
    for names, message in (
        ((*NAMES, "b"), r"model/b is missing in manifest\.json: "),
        (NAMES[:1], r"\.hidden is not expected in manifest\.json: "),
    ):
        with pytest.raises(manifests.CorruptFilesError, match=message):
            manifests.verify_manifest(folder, names)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_named_pipe_is_refused_at_once(folder):
    (folder / ".hidden").unlink()
    os.mkfifo(folder / ".hidden")
    with pytest.raises(manifests.CorruptFilesError, match="hidden is a named pipe"):
        manifests.verify_manifest(folder, NAMES)


DEEP = "[" * 200_000


@pytest.mark.parametrize("content", [DEEP, "", "[]", '{"sha256": 1}', "{}", "\xff"])
def test_a_damaged_or_missing_manifest_is_refused(folder, content):
    (folder / manifests.MANIFEST).write_text(content, encoding="latin-1")
    with pytest.raises(manifests.CorruptFilesError, match=r"manifest\.json is damaged"):
        manifests.verify_manifest(folder, NAMES)
    (folder / manifests.MANIFEST).unlink()
    with pytest.raises(manifests.CorruptFilesError, match=r"manifest\.json is missing"):
        manifests.verify_manifest(folder, NAMES)
