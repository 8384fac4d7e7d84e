"""Polygons of other programs become the label images that were outlined."""

import io
import json
import re
import zipfile

import numpy as np
import pytest
import tifffile
from skimage import draw

from unetjax.annotations import polygons, reading
from unetjax.cli import main
from unetjax.data import folder
from unetjax.files.pages import Metadata
from unetjax.instances import outlines
from unetjax.reporting import regions
from unetjax.reporting.regions import Region

SHAPE = (1, 20, 30)


def cells():
    """A square with a hole, one that touches it, and one at the border."""
    instances = np.zeros(SHAPE[1:], np.int32)
    instances[2:9, 3:10] = 1
    instances[4:6, 5:8] = 0
    instances[2:9, 10:15] = 2
    instances[12:20, 25:30] = 3
    return instances


def square(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def labelme(shapes, height=20, width=30):
    return {"shapes": shapes, "imageHeight": height, "imageWidth": width}


def coco(*objects, name="a.tif", height=20, width=30):
    return {
        "images": [
            {"id": 7, "file_name": f"set\\{name}", "height": height, "width": width},
            {"id": 8, "file_name": "other.tif", "height": 1, "width": 1},
        ],
        "annotations": [
            *({"image_id": 7, "segmentation": each} for each in objects),
            {"image_id": 8, "segmentation": [[0, 0, 5, 0, 5, 5]]},
        ],
    }


@pytest.fixture
def read(tmp_path):
    def write_and_read(content, name="a.json", shape=SHAPE):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(
                content if isinstance(content, str) else json.dumps(content)
            )
        return reading.read(path, tmp_path / "a.tif", shape)

    return write_and_read


def test_rois_that_predict_writes_give_the_labels_back(read):
    pytest.importorskip("roifile")
    traced = outlines.trace_objects(cells())
    content = regions.imagej_rois([Region(str(k), v) for k, v in traced.items()])
    np.testing.assert_array_equal(read(content, "a_rois.zip")[0], cells())


def test_rois_of_a_stack_lie_on_their_pages(read):
    pytest.importorskip("roifile")
    traced = outlines.trace_objects(cells())
    placed = [Region(str(k), v, page=k % 2) for k, v in traced.items()]
    content = regions.imagej_rois(placed, Metadata("T", (2,)))
    found = read(content, "a.zip", (2, 20, 30))
    assert set(np.unique(found[0])) == {0, 2}
    assert set(np.unique(found[1])) == {0, 1, 3}
    content = regions.imagej_rois([Region("1", traced[1])])
    with pytest.raises(ValueError, match=r"without a page in the stack of 2"):
        read(content, "b.zip", (2, 20, 30))


def test_a_single_oval_is_an_object(read):
    roifile = pytest.importorskip("roifile")
    roi = roifile.ImagejRoi()
    roi.roitype = roifile.ROI_TYPE.OVAL
    roi.left, roi.top, roi.right, roi.bottom = 5, 5, 15, 15
    area = np.count_nonzero(read(roi.tobytes(), "a.roi"))
    assert area == pytest.approx(np.pi * 25, rel=0.1)
    roi.roitype = roifile.ROI_TYPE.LINE
    with pytest.raises(ValueError, match=r"no area: a\.roi is a line; delete it"):
        read(roi.tobytes(), "a.roi")


def test_labelme_shapes_are_cells_and_groups_are_one(read):
    found = read(
        labelme(
            [
                {"label": "x", "points": square(0, 0, 4, 4), "shape_type": "polygon"},
                {"points": [[20, 10], [10, 2]], "shape_type": "rectangle"},
                {"points": square(0, 10, 3, 13), "group_id": 1},
                {"points": square(5, 10, 8, 13), "group_id": 1},
                {"points": [[25, 15], [25, 18]], "shape_type": "circle"},
            ]
        )
    )[0]
    areas = np.bincount(found.ravel())[1:]
    assert areas[:3].tolist() == [16, 80, 18]
    assert areas[3] == pytest.approx(np.pi * 9, rel=0.2)
    assert found[2:10, 10:20].min() == 2


def test_coco_polygons_of_the_image_alone_are_read(read):
    flat = [0.0, 0, 4, 0, 4, 4, 0, 4]
    found = read(coco([flat, [9, 9, 12, 9, 12, 12, 9, 12]], [[20, 0, 30, 0, 30, 9]]))
    assert np.bincount(found.ravel())[1] == 25
    assert found.max() == 2


def test_the_smaller_of_overlapping_objects_is_on_top(read):
    small, large = square(4, 4, 6, 6), square(0, 0, 10, 10)
    for order in ([small, large], [large, small]):
        found = read(labelme([{"points": each} for each in order]))
        assert sorted(np.bincount(found.ravel())[1:].tolist()) == [4, 96]


def test_pixels_are_those_whose_centre_is_inside():
    """By the definition, point by point, for polygons that may cross themselves."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:12, :15] + 0.5
    for _ in range(20):
        ring = generator.uniform(-4, 18, (7, 2))
        found = polygons.draw([polygons.Outlined([[ring]])], (1, 12, 15), "x")[0]
        crossings = np.zeros(rows.shape, int)
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, 0), strict=True):
            meets = (rows < y0) != (rows < y1)
            at = x0 + (rows - y0) / (y1 - y0) * (x1 - x0)
            crossings += meets & (at < columns)
        np.testing.assert_array_equal(found, crossings % 2)


@pytest.mark.parametrize("seed", range(5))
def test_pixels_are_those_of_scikit_image(seed):
    """Of a star with random corners, parts of which lie beyond the image."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 15))
    radius = rng.uniform(3, 25, (15, 1))
    ring = [12.3, 17.1] + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    drawn = polygons.draw([polygons.Outlined([[ring]])], (1, 30, 40), "a.json")[0]
    expected = draw.polygon2mask((30, 40), ring[:, ::-1] - 0.5)
    np.testing.assert_array_equal(drawn > 0, expected)


def archive(**files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name.replace("_", "."), data)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("{", "a.json", "damaged"),
        ("[" * 100_000, "a.json", "nested too deeply"),
        ({"features": []}, "a.json", "neither LabelMe .* nor COCO"),
        (labelme([], height=21), "a.json", r"of 21x30 pixels, its image has 20x30"),
        (labelme([3]), "a.json", "shape 0 is 3"),
        (labelme([{"points": [[0, 0], [1, "x"], [2, 2]]}]), "a.json", "pairs of num"),
        (labelme([{"points": [[0, 0], [1, 1]]}]), "a.json", "at least three corners"),
        (
            labelme([{"points": [[0, 0], [1e300, 0], [2, 2]]}]),
            *("a.json", "not finite or beyond"),
        ),
        (
            labelme([{"points": [[0, 0]], "shape_type": "point"}]),
            *("a.json", "type 'point'"),
        ),
        (labelme([{"points": [[10**400, 0]] * 3}]), "a.json", "pairs of numbers"),
        (coco({"counts": "x"}), "a.json", "without polygons"),
        (coco([[0, 0, 1]]), "a.json", "an outline is"),
        (coco(name="b.tif"), "a.json", "does not list a.tif"),
        (b"no zip", "a.zip", "damaged"),
        (archive(a_tif=b"x"), "a.zip", "is no ROI set"),
        (archive(a_roi=b"Iout" + bytes(200)), "a.zip", "no area|damaged"),
        (archive(a_roi=b"x" * 99), "a.zip", "a.roi is no region of ImageJ"),
        (archive(a_roi=bytes(1 << 25)), "a.zip", "is no ROI set: it has 1 files of 32"),
    ],
)
def test_files_that_are_not_fit_are_refused(read, content, name, message):
    if name.endswith(".zip"):
        pytest.importorskip("roifile")
    with pytest.raises(ValueError, match=message):
        read(content, name)


def test_too_much_work_is_refused_before_it_is_done(read, monkeypatch):
    """A zigzag through all rows, many objects of the whole image, many vertices."""
    zigzag = [[i % 30, 20 * (i % 2)] for i in range(200)]
    monkeypatch.setattr(polygons, "_MAX_CROSSINGS", 3000)
    with pytest.raises(ValueError, match=r"cross 4,000 rows"):
        read(labelme([{"points": zigzag}]))
    monkeypatch.setattr(polygons, "_MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"surround 1,200 pixels"):
        read(labelme([{"points": square(0, 0, 30, 20)}] * 2))
    monkeypatch.setattr(polygons, "MAX_VERTICES", 7)
    with pytest.raises(ValueError, match=r"2 objects with 8 vertices"):
        read(labelme([{"points": square(0, 0, 3, 2)}] * 2))


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 99, (2, 20, 30), np.uint8)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for name, page in zip("ab", noise, strict=True):
        tifffile.imwrite(f"images/{name}.tif", page)
    return tmp_path


def test_a_folder_may_have_polygons_of_each_kind_and_label_images(data, capsys):
    """One polygon is one cell, although its mask has two numbers alone."""
    touching = [square(0, 0, 4, 4), square(4, 0, 9, 4)]
    content = json.dumps(labelme([{"points": each} for each in touching]))
    (data / "masks" / "a.json").write_text(content)
    (data / "masks" / "notes.json").write_text("{}")
    tifffile.imwrite("masks/b.tif", cells().astype(np.uint8))
    report = folder.read("images", "masks")
    assert [each.instances.max() for each in report.examples] == [2, 3]
    assert report.summary.masks.reason == "every polygon is a cell"
    (problem,) = report.problems
    assert "1 file is not read: notes.json" in problem.text
    assert main.main(["check", "images", "masks"]) == 0
    assert "numbered cells, 2 to 3 per image" in capsys.readouterr().out
    with pytest.raises(ValueError, match="polygons, each of which is a cell"):
        folder.load("images", "masks", mask_type="classes")


def test_polygons_may_lie_beside_their_images(data):
    content = json.dumps(labelme([{"points": square(0, 0, 4, 4)}]))
    for name in "ab":
        (data / "images" / f"{name}.json").write_text(content)
    examples = folder.load("images", "images")
    assert [int(each.label.sum()) for each in examples] == [16, 16]


def test_one_coco_file_has_the_masks_of_a_folder(data):
    (data / "all.json").write_text(json.dumps(coco([[0, 0, 4, 0, 4, 4, 0, 4]])))
    report = folder.read("images", "all.json")
    (example,) = report.examples
    assert example.name == "a.tif"
    assert "1 of 2 images are not listed in all.json" in report.problems[0].text
    (data / "all.json").write_text(json.dumps(labelme([])))
    with pytest.raises(ValueError, match="is no COCO file"):
        folder.read("images", "all.json")


def test_evaluate_scores_against_polygons(data, capsys):
    (data / "found").mkdir()
    tifffile.imwrite("found/a_labels.tif", cells().astype(np.uint8))
    traced = outlines.trace_objects(cells())
    shapes = [
        {"points": piece.exterior.tolist()} for x in traced.values() for piece in x
    ]
    (data / "masks" / "a.json").write_text(json.dumps(labelme(shapes)))
    assert main.main(["evaluate", "found", "masks"]) == 0
    printed = capsys.readouterr().out
    assert "truth: numbered cells, 3 to 3 per image" in printed
    assert re.search(r"AP at IoU 0.5 +1.00$", printed, re.MULTILINE)
    # A mask of two values is foreground, not one cell of number 255.
    tifffile.imwrite("found/a_labels.tif", (255 * (cells() == 3)).astype(np.uint8))
    assert main.main(["evaluate", "found", "masks"]) == 0
    assert re.search(r"AP at IoU 0.5 +0.333$", capsys.readouterr().out, re.MULTILINE)
