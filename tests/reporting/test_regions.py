"""ROI sets are read back by roifile, GeoJSON by json; filled, both give the labels."""

import json

import numpy as np
import pytest
import roifile
from skimage import measure

from unetjax.files.pages import Metadata
from unetjax.instances import outlines
from unetjax.reporting import regions
from unetjax.reporting.regions import Region

CELLS = np.zeros((9, 11), int)
CELLS[1:4, 1:5] = 1
CELLS[5:9, 0:4] = 2
CELLS[6, 1:3] = 0  # a hole
CELLS[0, 7:9] = CELLS[4:6, 9] = 3  # two pieces


def make(*pages):
    return [
        Region(f"{number:04d}", polygons, page, "class 1", {"confidence": 0.5})
        for page, instances in enumerate(pages)
        for number, polygons in outlines.trace_objects(instances).items()
    ]


def fill(rings, shape=CELLS.shape):
    rows, columns = np.indices(shape)
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    inside = sum(measure.points_in_poly(centres, np.array(ring)) for ring in rings)
    return (np.asarray(inside) % 2 == 1).reshape(shape)


def read_rois(path, content):
    path.write_bytes(content)
    return roifile.roiread(path)


def rings_of(feature):
    geometry = feature["geometry"]
    pieces = geometry["coordinates"]
    pieces = [pieces] if geometry["type"] == "Polygon" else pieces
    return [ring for piece in pieces for ring in piece]


def test_rois_fill_the_labels(tmp_path):
    rois = read_rois(tmp_path / "a.zip", regions.imagej_rois(make(CELLS)))
    assert [roi.name for roi in rois] == ["0001", "0002", "0003"]
    filled = np.zeros_like(CELLS)
    for roi in rois:
        rings = roi.coordinates(multi=True)
        rings = rings if isinstance(rings, list) else [rings]
        filled[fill(rings)] = int(roi.name)
    np.testing.assert_array_equal(filled, CELLS)
    assert rois[0].roitype == roifile.ROI_TYPE.TRACED
    assert (rois[0].left, rois[0].top, rois[0].right, rois[0].bottom) == (1, 1, 5, 4)
    assert all(roi.composite for roi in rois[1:])


def test_coordinates_beyond_16_bits_are_kept(tmp_path):
    (piece,) = outlines.trace_objects(np.ones((2, 3), int))[1]
    far = piece._replace(exterior=np.add(piece.exterior, [70_001, 5]))
    content = regions.imagej_rois([Region("1", [far])])
    (roi,) = read_rois(tmp_path / "a.zip", content)
    (ring,) = roi.coordinates(multi=True)
    np.testing.assert_array_equal(ring[:-1], far.exterior)


def test_geojson_fills_the_labels_with_closed_rings():
    written = json.loads(regions.geojson(make(CELLS)))
    assert written["type"] == "FeatureCollection"
    filled = np.zeros_like(CELLS)
    for feature in written["features"]:
        rings = rings_of(feature)
        assert all(ring[0] == ring[-1] for ring in rings)
        filled[fill(rings)] = int(feature["properties"]["name"])
    np.testing.assert_array_equal(filled, CELLS)
    kinds = [feature["geometry"]["type"] for feature in written["features"]]
    assert kinds == ["Polygon", "Polygon", "MultiPolygon"]
    assert len(written["features"][1]["geometry"]["coordinates"]) == 2  # with its hole
    assert written["features"][0]["properties"] == {
        "objectType": "detection",
        "name": "0001",
        "classification": {"name": "class 1"},
        "measurements": {"confidence": 0.5},
    }


@pytest.mark.parametrize(
    ("axes", "shape", "place"),
    [
        ("Z", (2,), {"position": 2, "z": 1, "t": 0}),
        ("T", (2,), {"position": 2, "z": 0, "t": 1}),
        ("TZ", (1, 2), {"position": 0, "z": 1, "t": 0}),
        ("I", (2,), {"position": 2, "z": 0, "t": 1}),
    ],
)
def test_objects_of_a_stack_lie_in_their_plane(tmp_path, axes, shape, place):
    found = make(CELLS * (CELLS == 1), CELLS * (CELLS == 1))
    metadata = Metadata(axes, shape)
    content = regions.imagej_rois(found, metadata)
    last = read_rois(tmp_path / "a.zip", content)[-1]
    assert last.name == "0002-0001"
    assert last.position == place["position"]
    if axes == "TZ":
        assert (last.t_position, last.z_position) == (place["t"] + 1, place["z"] + 1)
    feature = json.loads(regions.geojson(found, metadata))["features"][-1]
    expected = {"c": -1, "z": place["z"], "t": place["t"]}
    assert feature["geometry"]["plane"] == expected


def test_equal_regions_give_equal_files():
    assert regions.imagej_rois(make(CELLS)) == regions.imagej_rois(make(CELLS))


def test_nothing_found_is_an_empty_set():
    assert json.loads(regions.geojson([]))["features"] == []
    assert regions.imagej_rois([]).startswith(b"PK")
