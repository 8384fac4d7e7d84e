import functools
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

from unetjax.data import datasets
from unetjax.data.datasets import download, tfds_source
from unetjax.files import archives, images

SLICES = 30


def grey(seed, dtype=np.uint8, size=(24, 20)):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, (*size, 1), dtype, endpoint=True)


def cells(seed, size=(24, 20)):
    """Cells 1, 2, 300: two of them touch, and the numbers have a gap."""
    instances = np.zeros(size, np.uint16)
    instances[2:9, 2 : 6 + seed % 9], instances[9:14, 2:8] = 1, 2
    instances[18:22, 3:16] = 300
    return instances


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write_image(path, image if image.ndim == 3 else image[..., None])


def write_stack(path, pages):
    """A TIFF of many pages, as in the archive."""
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pages, photometric="minisblack")


def isbi2012(folder, *, test=True, value=255, slices=SLICES):
    for split in ("train", "test") if test else ("train",):
        offset = 100 * (split == "test")
        volume = np.stack([grey(offset + i)[..., 0] for i in range(slices)])
        labels = np.stack([np.uint8(value) * (cells(i) > 0) for i in range(slices)])
        write_stack(folder / f"{split}-volume.tif", volume)
        write_stack(folder / f"{split}-labels.tif", labels)


def dsb2018(folder, dtype=np.uint8):
    for split, names in {"train": ("b", "a", "c"), "test": ("d",)}.items():
        for i, name in enumerate(names):
            size = (24 + 4 * i, 20)
            write(folder / split / "images" / f"{name}.tif", grey(i, dtype, size))
            write(folder / split / "masks" / f"{name}.tif", cells(i, size))


def cell_tracking(folder, dtype=np.uint8):
    """As the challenge lays it out: few frames have a truth, others exist beside."""
    for sequence in ("01", "02"):
        for frame in range(6):
            image = grey(10 * int(sequence) + frame, dtype)
            write(folder / sequence / f"t{frame:03d}.tif", image)
            track = folder / f"{sequence}_GT" / "TRA" / f"man_track{frame:03d}.tif"
            write(track, cells(0) * 0 + 9)
        for frame in (5, 0, 3):
            truth = folder / f"{sequence}_GT" / "SEG" / f"man_seg{frame:03d}.tif"
            write(truth, cells(frame))


CONTENTS = {
    "isbi2012": isbi2012,
    "dsb2018": dsb2018,
    "phc_u373": cell_tracking,
    "dic_hela": cell_tracking,
    "fluo_sim": functools.partial(cell_tracking, dtype=np.uint16),
}
SPLIT = dict.fromkeys(("phc_u373", "dic_hela", "fluo_sim"), "01")


@pytest.fixture
def manual(tmp_path):
    """Makes a folder with the unpacked contents of a data set."""

    def make(name, **options):
        folder = (
            tmp_path / "manual" / tfds_source.make_builder(name, tmp_path).origin.folder
        )
        CONTENTS[name](folder, **options)
        return tmp_path / "manual"

    return make


def zipped(folder, archive):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("__MACOSX/._junk", b"")
        for path in sorted(folder.rglob("*.tif")):
            file.write(path, path.relative_to(folder.parent))
    return archive


def files_of(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", datasets.NAMES)
def test_examples_are_what_the_files_hold(manual, tmp_path, name):
    """Pixels, numbers, types, names and order, from contents placed by hand."""
    folder = manual(name)
    before = files_of(folder)
    split = SPLIT.get(name, "train")
    load = functools.partial(datasets.load, name, data_dir=tmp_path / "data")
    source = load(split=split, manual_dir=folder)

    seeds = {"isbi2012": range(SLICES), "dsb2018": (1, 0, 2)}.get(name, (0, 3, 5))
    dtype = np.uint16 if name in ("dsb2018", "fluo_sim") else np.uint8
    assert len(source) == len(seeds)
    for example, seed in zip(source, seeds, strict=True):
        size = example.label.shape
        stored = np.uint16 if name == "fluo_sim" else np.uint8
        image = grey(seed + 10 * (name in SPLIT), stored, size)
        np.testing.assert_array_equal(example.image, image)
        assert example.image.dtype == dtype
        np.testing.assert_array_equal(example.label, cells(seed, size) > 0)
        if name != "isbi2012":
            np.testing.assert_array_equal(example.instances, cells(seed, size))
    assert source[-1].name == source[len(source) - 1].name
    with pytest.raises(IndexError):
        source[len(source)]

    assert files_of(folder) == before  # nothing of the user's was touched
    again = load(split=f"{split}[1:]", manual_dir=tmp_path / "gone")  # no longer needed
    assert [e.name for e in again] == [e.name for e in source][1:]
    assert len({e.name for e in source}) == len(source)


def test_isbi2012_has_instances_and_a_test_split_if_it_has_labels(manual, tmp_path):
    source = datasets.load(
        "isbi2012",
        split="test[:2]",
        data_dir=tmp_path / "data",
        manual_dir=manual("isbi2012"),
    )
    assert [e.name for e in source] == ["test-00", "test-01"]
    np.testing.assert_array_equal(source[0].image, grey(100))
    # Without cell numbers, cells 1 and 2 of `cells`, which touch, are one.
    assert np.unique(source[0].instances).tolist() == [0, 1, 2]


def test_sequences_never_share_a_frame(manual, tmp_path):
    load = functools.partial(
        datasets.load, "dic_hela", data_dir=tmp_path, manual_dir=manual("dic_hela")
    )
    for sequence in (1, 2):
        frames = load(split=f"0{sequence}")
        assert [e.name[-6:] for e in frames] == [
            f"{sequence}-t00{i}" for i in (0, 3, 5)
        ]
        np.testing.assert_array_equal(frames[1].image, grey(10 * sequence + 3))
    assert frames[0].name == "DIC-C2DH-HeLa-02-t000"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """Serves a folder; `publish` puts the archive of a data set there."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def publish(name, contents, sha256):
        builder = tfds_source.make_builder(name, tmp_path)
        archive = zipped(contents, folder / builder.origin.archive)
        url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
        digest = archives.sha256(archive) if sha256 == "right" else sha256
        origin = builder.origin._replace(url=url, sha256=digest)
        monkeypatch.setattr(type(builder), "origin", origin)
        return archive

    yield publish
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("sha256", ["right", None])
def test_an_archive_is_downloaded_verified_and_unpacked_once(
    manual, publisher, tmp_path, sha256
):
    archive = publisher("dsb2018", manual("dsb2018") / "dsb2018", sha256)
    load = functools.partial(datasets.load, "dsb2018", split="train")
    assert len(load(data_dir=tmp_path / "data")) == 3

    (record,) = (tmp_path / "data").rglob("metadata.json")
    assert json.loads(record.read_text()) == {
        "archive_sha256": archives.sha256(archive)
    }
    (unpacked,) = (tmp_path / "data" / "downloads" / "unpacked").iterdir()
    made = unpacked.stat().st_mtime_ns
    digest = archives.sha256(archive)
    archive.unlink()  # the publisher is gone: the download is kept, and its contents
    builder = tfds_source.make_builder("dsb2018", tmp_path / "other")
    builder.download_and_prepare(download_dir=tmp_path / "data" / "downloads")
    assert unpacked.stat().st_mtime_ns == made
    assert builder.info.metadata["archive_sha256"] == digest


def test_a_changed_archive_is_refused_and_downloaded_again(manual, publisher, tmp_path):
    contents = manual("dsb2018") / "dsb2018"
    archive = publisher("dsb2018", contents, "0" * 64)
    load = functools.partial(
        datasets.load, "dsb2018", split="train", data_dir=tmp_path / "data"
    )
    with pytest.raises(
        ValueError, match=f"has SHA-256 .*, expected {'0' * 64}: it was"
    ):
        load()
    assert not list((tmp_path / "data").rglob("*.zip"))
    assert not list((tmp_path / "data").rglob("metadata.json"))
    publisher("dsb2018", contents, "right")
    assert len(load()) == 3

    manual_dir = tmp_path / "placed"
    manual_dir.mkdir()
    archive.replace(manual_dir / archive.name)
    publisher("dsb2018", contents, "1" * 64)
    with pytest.raises(ValueError, match="has SHA-256"):
        load(data_dir=tmp_path / "second", manual_dir=manual_dir)
    assert (manual_dir / archive.name).exists()  # a file of the user is never deleted


def test_an_archive_placed_by_hand_needs_no_network(manual, publisher, tmp_path):
    contents = manual("isbi2012") / "ISBI-2012-challenge"
    archive = publisher("isbi2012", contents, None)
    (tmp_path / "placed").mkdir()
    archive.rename(tmp_path / "placed" / archive.name)  # hence no longer downloadable
    source = datasets.load(
        "isbi2012", split="train", data_dir=tmp_path, manual_dir=tmp_path / "placed"
    )
    assert len(source) == SLICES
    assert [p.name for p in (tmp_path / "placed").iterdir()] == [archive.name]


def test_a_failed_download_has_instructions(manual, publisher, tmp_path):
    publisher("isbi2012", manual("isbi2012") / "ISBI-2012-challenge", None).unlink()
    with pytest.raises(ConnectionError) as error:
        datasets.load("isbi2012", split="train", data_dir=tmp_path / "data")
    message = str(error.value)
    assert "could not be downloaded" in message
    assert "place ISBI-2012-challenge.zip, or its contents as the folder" in message
    assert "\n" not in message


def test_a_download_that_is_not_an_archive_is_deleted(manual, publisher, tmp_path):
    """Else a page of the server's excuses would be used by the next run."""
    contents = manual("isbi2012") / "ISBI-2012-challenge"
    publisher("isbi2012", contents, None).write_bytes(b"<html>Moved</html>")
    load = functools.partial(
        datasets.load, "isbi2012", split="train", data_dir=tmp_path / "data"
    )
    with pytest.raises(ValueError, match="is damaged or not a zip archive"):
        load()
    publisher("isbi2012", contents, None)
    assert len(load()) == SLICES


def test_an_archive_with_another_layout_is_refused(publisher, tmp_path):
    write(tmp_path / "dsb2018" / "stage1" / "a.tif", grey(0))
    publisher("dsb2018", tmp_path / "dsb2018", "right")
    with pytest.raises(ValueError, match="has no train/images: the publisher has"):
        datasets.load("dsb2018", split="train", data_dir=tmp_path / "data")


def test_contents_of_another_data_set_are_refused(manual, tmp_path):
    """One manual_dir may hold several data sets of the same layout."""
    folder = manual("phc_u373")
    for manual_dir in (folder, folder / "PhC-C2DH-U373"):
        load = functools.partial(
            datasets.load, split="01", data_dir=tmp_path, manual_dir=manual_dir
        )
        message = rf"{manual_dir} does not have .* place DIC-C2DH-HeLa\.zip"
        with pytest.raises(FileNotFoundError, match=message):
            load("dic_hela")
    assert len(load("phc_u373")) == 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "isbi2012",
            {"value": 7},
            r"train-labels\.tif has values \[0, 7\], expected 0",
        ),
        ("isbi2012", {"slices": 29}, r"train-volume\.tif has 29 pages, expected 30"),
        ("phc_u373", {"dtype": np.uint16}, r"t000\.tif stores uint16, expected uint8"),
    ],
)
def test_files_that_are_not_as_expected_are_named(
    manual, tmp_path, name, options, message
):
    with pytest.raises(ValueError, match=message):
        datasets.load(
            name, split="01", data_dir=tmp_path, manual_dir=manual(name, **options)
        )
    assert not tfds_source.make_builder(name, tmp_path).is_prepared()


def test_missing_files_are_named(manual, tmp_path):
    folder = manual("dsb2018")
    load = functools.partial(
        datasets.load, "dsb2018", split="test", data_dir=tmp_path, manual_dir=folder
    )
    mask = folder / "dsb2018" / "test" / "masks" / "d.tif"
    mask.rename(mask.with_name("e.tif"))
    with pytest.raises(FileNotFoundError, match=r"masks.d\.tif does not exist"):
        load()
    (folder / "dsb2018" / "test" / "images" / "d.tif").unlink()
    with pytest.raises(FileNotFoundError, match=r"images has no \*\.tif"):
        load()


def test_images_and_annotations_must_have_one_size():
    image, labels = np.zeros((4, 5, 1), np.uint8), np.zeros((5, 4), np.int32)
    with pytest.raises(ValueError, match=r"x\.tif has shape \(4, 5, 1\) and its ann"):
        download.checked(image, labels, np.uint8, pathlib.Path("x.tif"))


@pytest.mark.usefixtures("as_installed")
def test_unknown_names_and_splits_are_refused(manual, tmp_path):
    with pytest.raises(
        ValueError, match=r"^name must be one of isbi2012, dsb.*; did you mean isbi2012"
    ):
        datasets.load("isbi2021", split="train")
    with pytest.raises(ValueError, match=r"one of test, train of dsb2018 .* got valid"):
        datasets.load(
            "dsb2018", split="valid", data_dir=tmp_path, manual_dir=manual("dsb2018")
        )


def test_names_are_those_of_the_builders(tmp_path):
    for name in datasets.NAMES:
        builder = tfds_source.make_builder(name, tmp_path)
        assert name in (builder.name, getattr(builder.builder_config, "name", None))
        assert builder.origin.archive in builder.MANUAL_DOWNLOAD_INSTRUCTIONS


def test_tensorflow_is_never_imported(manual, tmp_path):
    """A fresh process: prepares, reads, and imports TFDS only when it must."""
    code = """if True:
        import sys
        from unetjax.data import datasets
        assert "tensorflow_datasets" not in sys.modules
        _, data_dir, manual_dir = sys.argv
        source = datasets.load(
            "isbi2012", split="train", data_dir=data_dir, manual_dir=manual_dir
        )
        assert len(source) == 30 and source[29].name == "train-29"
        assert "tensorflow" not in sys.modules
    """
    folders = [str(tmp_path / "data"), str(manual("isbi2012"))]
    subprocess.run([sys.executable, "-c", code, *folders], check=True, env=os.environ)


def test_a_frame_of_the_challenge_is_read(shared_data, tmp_path):
    """Original files of Fluo-N2DH-SIM+, LZW compressed, in their place."""
    pytest.importorskip("imagecodecs", reason="the challenge compresses by LZW")
    folder = tmp_path / "Fluo-N2DH-SIM+"
    cell_tracking(folder, np.uint16)
    for path in (folder / "01_GT" / "SEG").iterdir():
        path.unlink()
    real = shared_data / "ctc_fluo_n2dh_sim"
    (folder / "01" / "t004.tif").write_bytes((real / "t004.tif").read_bytes())
    truth = folder / "01_GT" / "SEG" / "man_seg004.tif"
    truth.write_bytes((real / truth.name).read_bytes())
    (example,) = datasets.load(
        "fluo_sim", split="01", data_dir=tmp_path, manual_dir=tmp_path
    )
    assert example.image.shape == (690, 628, 1)
    assert example.image.dtype == np.uint16
    assert len(np.unique(example.instances)) > 20
