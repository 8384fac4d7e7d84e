"""The command line segments large files and Zarr by blocks, and resumes."""

import csv
import dataclasses
import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorstore
import tifffile
from scipy import ndimage

from tests import commands
from unetjax import signals
from unetjax.files import images
from unetjax.inference.predict import predict as predict_image
from unetjax.inference.segment import segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.instances.settings import InstanceSettings
from unetjax.large import files, grid
from unetjax.model_io import model_folder
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet

SHAPE = (600, 530)


@pytest.fixture(scope="module")
def image():
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 3)
    return (128 + 400 * noise).clip(0, 255).astype(np.uint8)


def make_trained(make_variables, image, depth):
    model = UNet(features=3, depth=depth)
    trained = TrainedModel(
        model,
        make_variables(model)["params"],
        input_scaling=InputScaling("percentile"),
    )
    probability = predict_image(trained, image)[..., 1]
    # In the widest gap, so that no pixel lies at the threshold up to rounding.
    low, high = np.quantile(probability, [0.75, 0.85])
    levels = np.unique(probability.clip(low, high))
    threshold = float(levels[np.diff(levels).argmax() :][:2].mean())
    settings = InstanceSettings(min_size=5, threshold=threshold)
    return dataclasses.replace(trained, instances=settings)


@pytest.fixture(scope="module")
def trained(make_variables, image):
    return make_trained(make_variables, image, depth=1)


@pytest.fixture(scope="module")
def model(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    model_folder.save_model(folder, trained)
    return folder


@pytest.fixture
def small_memory(monkeypatch):
    """A pixel takes so much memory that every image counts as large."""
    monkeypatch.setattr(files, "_BYTES_A_PIXEL", 10**9)


def predict(*args):
    return commands.in_process("unetjax.cli.main", "predict", *args)


def write_zarr(path, values, version, attributes=None):
    driver = {2: "zarr", 3: "zarr3"}[version]
    folder = path if attributes is None else path / "0"
    store = tensorstore.open(
        {"driver": driver, "kvstore": {"driver": "file", "path": f"{folder}/"}},
        create=True,
        dtype=values.dtype.name,
        shape=values.shape,
    ).result()
    store[...].write(values).result()
    if attributes is not None and version == 2:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps(attributes))
    elif attributes is not None:
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (path / "zarr.json").write_text(json.dumps(group))


def read_zarr(path):
    driver = "zarr3" if (path / "0" / "zarr.json").exists() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/0/"}}
    return tensorstore.open(spec).result().read().result()


def multiscale(axes, scale, version):
    units = {"y": {"unit": "micrometer"}, "x": {"unit": "micrometer"}}
    kinds = {"c": "channel", "t": "time"}
    image = {
        "axes": [
            {"name": a, "type": kinds.get(a, "space"), **units.get(a, {})} for a in axes
        ],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [{"type": "scale", "scale": scale}],
            }
        ],
    }
    if version == 3:
        return {"ome": {"version": "0.5", "multiscales": [image]}}
    return {"multiscales": [image]}


def assert_equal_up_to_numbers(found, expected):
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == found.max() + 1 == expected.max() + 1 > 10


def test_a_tiff_that_does_not_fit_into_memory(
    tmp_path, trained, model, image, small_memory
):
    tifffile.imwrite(
        tmp_path / "a.tif",
        image,
        resolution=(2e4, 2e4),
        resolutionunit="CENTIMETER",
        compression="zlib",
    )
    out = tmp_path / "out"
    done = predict(
        model, tmp_path / "a.tif", "--labels", "--probabilities", "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert "a.tif: 530 x 600 pixels, in 1 block; takes about" in done.stdout
    whole = segment(trained, image)
    labels = images.read_labels(out / "a_labels.tif")
    assert_equal_up_to_numbers(labels, whole.instances)
    with tifffile.TiffFile(out / "a_labels.tif") as file:
        assert file.pages.first.is_tiled
        assert file.pages.first.dtype == (np.uint16 if labels.max() > 255 else np.uint8)
    assert images.read_metadata(out / "a_labels.tif").pixel_size == pytest.approx(
        (5e-5, 5e-5)
    )
    probs = images.read_image(out / "a_probs.tif")
    np.testing.assert_allclose(probs, whole.probs, atol=1e-5)
    assert images.read_image(out / "a_overlay.png").shape == (600, 530, 3)
    assert not (out / ".a.parts").exists()


@pytest.mark.slow
def test_cells_of_a_large_image_are_measured(
    tmp_path, trained, model, image, small_memory
):
    roifile = pytest.importorskip("roifile", reason="roifile is not installed")
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.stack([image, image[::-1]]),
        imagej=True,
        metadata={"axes": "ZYX", "unit": "um"},
        resolution=(2, 4),
    )
    tifffile.imwrite(tmp_path / "b.tif", image)
    options = (tmp_path / "a.tif", tmp_path / "b.tif", "--table", "--rois", "--labels")
    out = tmp_path / "out"
    done = predict(model, *options, "--out", out)
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_BYTES_A_PIXEL", 1)
        done = predict(model, *options, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr

    def rows(folder, name):
        text = (folder / f"{name}_objects.csv").read_text()
        found = list(csv.DictReader(text.splitlines()))
        place = ("page", "top", "left", "bottom", "right", "area")  # not by number
        return sorted(found, key=lambda row: [float(row.get(x, 0)) for x in place])

    for name in ("a", "b"):
        large, whole = rows(out, name), rows(tmp_path / "whole", name)
        assert len(large) == len(whole) > 10
        assert ("area_um2" in large[0]) == (name == "a")
        for found, expected in zip(large, whole, strict=True):
            assert found.keys() == expected.keys()
            np.testing.assert_allclose(
                [float(found[x]) for x in found if x != "id"],
                [float(expected[x]) for x in found if x != "id"],
                rtol=1e-4,
                atol=1e-6,
            )
        regions = json.loads((out / f"{name}_objects.geojson").read_text())
        assert len(regions["features"]) == len(large)
        assert len(roifile.roiread(out / f"{name}_rois.zip")) == len(large)


def test_a_stack_that_does_not_fit_into_memory(
    tmp_path, trained, model, image, monkeypatch
):
    """Each of its images does."""
    stack = np.stack([image[:90, :90], image[90:180, :90]])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, metadata={"axes": "TYX"})
    assert not files.is_large(path)
    monkeypatch.setattr(files, "_BYTES_A_STORED_PIXEL", 10**9)
    assert files.is_large(path)
    done = predict(model, path, "--labels", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "a.tif: 2 images of 90 x 90 pixels, in 2 blocks" in done.stdout
    labels = tifffile.imread(tmp_path / "out" / "a_labels.tif")
    for found, each in zip(labels, stack, strict=True):
        assert_equal_up_to_numbers(found, segment(trained, each).instances)


def test_a_finished_file_is_skipped_and_others_are_not_overwritten(
    tmp_path, model, image, small_memory
):
    tifffile.imwrite(tmp_path / "a.tif", image)
    out = tmp_path / "out"
    assert predict(model, tmp_path / "a.tif", "--out", out).returncode == 0
    mask = (out / "a_mask.tif").read_bytes()
    again = predict(model, tmp_path / "a.tif", "--out", out)
    assert "1 image segmented" in again.stdout
    assert "1 of them before" in again.stdout
    other = predict(model, tmp_path / "a.tif", "--tta=d4", "--out", out)
    assert other.returncode == 2
    assert "out has results of another model or of other options" in other.stderr
    tifffile.imwrite(tmp_path / "a.tif", image + 1)
    changed = predict(model, tmp_path / "a.tif", "--out", out)
    assert "has other pixels than those of which" in changed.stderr
    assert (out / "a_mask.tif").read_bytes() == mask
    assert not (out / ".a.parts").exists()
    (out / "a_mask.tif").write_bytes(b"corrected")
    mine = predict(model, tmp_path / "a.tif", "--out", out)
    assert "a_mask.tif was changed since it was written" in mine.stderr
    done = predict(model, tmp_path / "a.tif", "--tta=d4", "--out", out, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert (out / "a_mask.tif").read_bytes() not in (mask, b"corrected")


def test_parts_make_the_results_of_the_whole(tmp_path, model, image):
    """Of a stack of three images, in any order; no block is predicted twice."""
    stack = np.stack([image, image[::-1], image + 1])
    write_zarr(tmp_path / "a.zarr", stack, 3, multiscale("tyx", [1, 0.5, 0.5], 3))
    whole, parts = (tmp_path / name / "labels.zarr" for name in ("a", "b"))
    words = (model, tmp_path / "a.zarr", "--instances", "--out")
    assert predict(*words, whole).returncode == 0
    done = []
    for part in ("2/2", "1/2"):
        done.append(predict(*words, parts, "--part", part))
        assert done[-1].returncode == 0, done[-1].stderr
        assert not (parts).exists()
    assert "part 2 of 2 is predicted; once all are, the same" in done[0].stdout
    assert "a.zarr: 3 images of 530 x 600 pixels, in 3 blocks; takes" in done[0].stdout
    predicted = [re.findall(r"a, (\d): 1/1 blocks", each.stdout) for each in done]
    assert predicted == [["2"], ["1", "3"]]
    last = predict(*words, parts)
    assert last.returncode == 0, last.stderr
    assert not re.search(r"a, \d: 1/1 blocks", last.stdout)
    np.testing.assert_array_equal(read_zarr(parts), read_zarr(whole))
    late = predict(*words, parts, "--part", "1/2")
    assert late.returncode == 2
    assert "no part of it is left to predict" in late.stderr


@pytest.mark.slow
def test_parts_of_processes_of_which_one_is_killed(tmp_path, model):
    """Three at the same time; the killed one is started again."""
    noise = np.random.default_rng(0).normal(size=(4200, 4200))
    blobs = ndimage.gaussian_filter(noise, 3) * 400 + 128
    write_zarr(tmp_path / "a.zarr", blobs.clip(0, 255).astype(np.uint8), 3)
    (whole, parts) = (tmp_path / name / "labels.zarr" for name in ("a", "b"))
    words = ("predict", model, tmp_path / "a.zarr", "--instances", "--out")
    assert commands.run_program("unetjax", *words, whole).returncode == 0

    def start(part):
        return commands.as_program("unetjax", *words, parts, "--part", part)

    processes = [start(f"{i}/3") for i in (1, 2, 3)]
    section = tmp_path / "b" / ".labels.parts" / ".a.parts" / "section_0"
    while not (section / "done_2_of_3.jsonl").exists():
        assert processes[1].poll() is None
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGKILL)
    processes.append(start("2/3"))
    ended = [(process.communicate()[1], process.returncode) for process in processes]
    assert [code for _, code in ended] == [0, -signal.SIGKILL, 0, 0], ended
    numbers = [
        list(map(int, path.read_text().split()))
        for path in sorted(section.glob("done_*.jsonl"))
    ]
    assert numbers == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]  # each of them once
    done = commands.run_program("unetjax", *words, parts)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_zarr(parts), read_zarr(whole))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "3/2"], "--part: must be such as 1/8 to 8/8, got '3/2'"),
        (["--part", "0/2"], "must be such as 1/8 to 8/8, got '0/2'"),
        (["--part", "1/2"], "--part is of images that are segmented block by block"),
    ],
)
def test_parts_that_cannot_be(tmp_path, model, image, options, message):
    tifffile.imwrite(tmp_path / "a.tif", image)
    done = predict(model, tmp_path / "a.tif", "--out", tmp_path / "out", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_command_that_stopped_while_writing_is_resumed(
    tmp_path, model, image, monkeypatch
):
    write_zarr(tmp_path / "a.zarr", image, 3)
    words = (model, tmp_path / "a.zarr", "--out", tmp_path / "labels.zarr")

    def write_and_stop(*args, real=files._write_labels, **options):
        real(*args, **options)
        raise signals.StoppedError(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_write_labels", write_and_stop)
        assert predict(*words).returncode == 143
    before = (tmp_path / "labels.zarr" / "0" / "c" / "0" / "0").read_bytes()
    done = predict(*words)
    assert done.returncode == 0, done.stderr
    assert "a: 2/2 blocks" not in done.stdout  # of the network
    assert (tmp_path / "labels.zarr" / "0" / "c" / "0" / "0").read_bytes() == before
    cells = predict(*words, "--labels")
    assert cells.returncode == 2
    assert "(instances: false, now true)" in cells.stderr


def test_other_files_beside_a_result_stay_as_they_are(tmp_path, model, image):
    write_zarr(tmp_path / "a.zarr", image, 3)
    (tmp_path / ".env.20261127").write_text("mine")
    for _ in range(2):
        predict(model, tmp_path / "a.zarr", "--out", tmp_path / "labels.zarr")
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [
        *(".env.20261127", ".labels.parts"),
        *("a.zarr", "a_overlay.png", "labels.zarr"),
    ]


def test_the_image_is_never_the_result(tmp_path, model, image):
    write_zarr(tmp_path / "a.zarr", image, 3)
    for out in ("a.zarr", "a.zarr/labels.zarr"):
        words = (model, tmp_path / "a.zarr", "--out", tmp_path / out, "--overwrite")
        done = predict(*words)
        assert done.returncode == 2
        assert "choose another name" in done.stderr
    assert (tmp_path / "a.zarr" / "zarr.json").exists()


def test_one_file_that_cannot_be_read_stops_no_other(tmp_path, model, image):
    write_zarr(tmp_path / "in" / "a.zarr", image, 3)
    write_zarr(tmp_path / "in" / "b.zarr", image[:0], 3)
    (tmp_path / "in" / "c.png").write_bytes(b"no image")
    for _ in range(2):  # results of the first are not segmented by the second
        done = predict(model, tmp_path / "in", "--out", tmp_path / "in")
        assert done.returncode == 1
        assert "1 image segmented" in done.stdout
    assert "b.zarr is empty: its array has the size 0x530" in done.stderr
    assert (tmp_path / "in" / "a_mask.zarr").exists()
    names = {path.name for path in (tmp_path / "in").iterdir()}
    assert not {"a_mask_mask.zarr", "a_overlay_mask.png"} & names


def test_models_of_other_classes_are_not_averaged(tmp_path, trained, image):
    for name in ("nucleus", "vessel"):
        named = dataclasses.replace(trained, class_names=("outside", name))
        model_folder.save_model(tmp_path / name, named)
    write_zarr(tmp_path / "a.zarr", image, 3)
    words = (tmp_path / "nucleus", tmp_path / "a.zarr", "--with", tmp_path / "vessel")
    done = predict(*words, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "must have the same classes to be averaged" in done.stderr


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_of_several_times(tmp_path, trained, model, image, version):
    stack = np.stack([image, image[::-1]])[:, None]
    write_zarr(
        *(tmp_path / "a.zarr", stack, version),
        multiscale("tcyx", [1, 1, 0.5, 0.25], version),
    )
    done = predict(
        model, tmp_path / "a.zarr", "--labels", "--out", tmp_path / "labels.zarr"
    )
    assert done.returncode == 0, done.stderr
    labels = read_zarr(tmp_path / "labels.zarr")
    assert labels.shape == (2, *SHAPE)
    for found, each in zip(labels, stack, strict=True):
        assert_equal_up_to_numbers(found, segment(trained, each[0]).instances)
    name = "zarr.json" if version == 3 else ".zattrs"
    found = json.loads((tmp_path / "labels.zarr" / name).read_text())
    found = found["attributes"]["ome"] if version == 3 else found
    (image,) = found["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["t", "y", "x"]
    (scale,) = image["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [1, 0.5, 0.25]


def test_a_plain_zarr_in_a_folder_of_images(tmp_path, trained, model, image):
    write_zarr(tmp_path / "in" / "a.zarr", image, 3)
    images.write_image(tmp_path / "in" / "b.png", image[:60, :60, None])
    done = predict(model, tmp_path / "in", "--labels", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "2 images segmented" in done.stdout
    labels = read_zarr(tmp_path / "out" / "a_labels.zarr")
    assert_equal_up_to_numbers(labels, segment(trained, image).instances)
    assert (tmp_path / "out" / "b_labels.tif").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale=2"], "a.zarr is segmented block by block, .* without --scale"),
        (
            ["--uncertainty", "--tta=d4"],
            "a.zarr is segmented block by block, .* without --uncertainty",
        ),
        (["--tta=rot7"], "tta 'rot7' rotates the whole image"),
    ],
)
def test_what_needs_the_whole_image_is_refused(
    tmp_path, model, image, options, message
):
    write_zarr(tmp_path / "a.zarr", image, 3)
    done = predict(model, tmp_path / "a.zarr", *options, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert re.search(message, done.stderr)


def damage(name, content="{"):
    def change(folder):
        (folder / name).write_text(content)

    return change


def leave(folder):
    found = json.loads((folder / "zarr.json").read_text())
    image = found["attributes"]["ome"]["multiscales"][0]
    image["datasets"][0]["path"] = "../other"
    (folder / "zarr.json").write_text(json.dumps(found))


def axes_of(value):
    def change(folder):
        found = json.loads((folder / "zarr.json").read_text())
        found["attributes"]["ome"]["multiscales"][0]["axes"] = value
        (folder / "zarr.json").write_text(json.dumps(found))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage("zarr.json"), "zarr.json is damaged"),
        (damage("0/zarr.json"), "cannot be read as a Zarr array"),
        (leave, "'../other' lies outside of it"),
        (axes_of(5), "has axes 5 of size"),
        (damage("0/zarr.json", "{}"), "cannot be read as a Zarr array"),
    ],
)
def test_a_damaged_zarr_is_refused_in_one_sentence(
    tmp_path, model, image, change, message
):
    write_zarr(tmp_path / "a.zarr", image, 3, multiscale("yx", [1, 1], 3))
    change(tmp_path / "a.zarr")
    done = predict(model, tmp_path / "a.zarr", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_blocks_share_no_chunk():
    assert grid.BLOCK % grid.CHUNK == 0
    blocks = list(grid.Grid(5000, 3000).blocks())
    for block in blocks:
        assert block.rows.start % grid.CHUNK == block.columns.start % grid.CHUNK == 0
    assert (
        sum(
            (b.rows.stop - b.rows.start) * (b.columns.stop - b.columns.start)
            for b in blocks
        )
        == 5000 * 3000
    )


@pytest.mark.slow
def test_an_image_of_400_million_pixels_takes_less_than_2_gigabytes(
    tmp_path, make_variables
):
    side, model = 20_000, tmp_path / "model"
    noise = np.random.default_rng(0).normal(size=(1024, 1024))
    smooth = ndimage.gaussian_filter(noise, 8, mode="wrap")
    tile = (128 + 1000 * smooth).clip(0, 255).astype(np.uint8)
    # Without pooling, which makes a pattern of a million specks from random weights.
    model_folder.save_model(model, make_trained(make_variables, tile, depth=0))
    tifffile.imwrite(
        tmp_path / "a.tif",
        (tile for _ in range(400)),
        shape=(side, side),
        dtype=np.uint8,
        tile=(1024, 1024),
        compression="zlib",
    )
    code = f"""
import resource, sys
from unetjax.cli.main import main
from unetjax.large import files
files._BYTES_A_PIXEL = 10**9
status = main(["predict", {str(model)!r}, {str(tmp_path / "a.tif")!r}, "--labels",
               "--out", {str(tmp_path / "out")!r}])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(status)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=commands.ROOT
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split("peak ")[1]) < 2 * 10**9
    with tifffile.TiffFile(tmp_path / "out" / "a_labels.tif") as file:
        assert file.pages.first.shape == (side, side)
