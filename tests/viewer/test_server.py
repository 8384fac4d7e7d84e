"""What the server sends, and what it refuses."""

import json
import re
import socket
import time

import numpy as np
import pytest

from tests.viewer.conftest import serve
from unetjax.files import images
from unetjax.large import arrays
from unetjax.viewer import results, server
from unetjax.viewer.layers import LAYERS, TILE
from unetjax.viewer.results import Result

IMAGE, PREDICTION, TRUTH, PROBABILITY, UNCERTAINTY = range(len(LAYERS))


def ranked(client):
    """The list when all scores are there."""
    for _ in range(200):
        found = client.json("list")
        if found["done"]:
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def test_pixels_are_those_of_the_files(client, study):
    names = client.json("list")["names"]
    index = names.index("a")
    image = images.read_image(study / "images" / "a.tif")
    np.testing.assert_array_equal(
        client.tile(f"{index}/{IMAGE}/0/0/0/0", np.uint8), image
    )
    probs = images.read_image(study / "out" / "a_probs.tif")
    np.testing.assert_array_equal(
        client.tile(f"{index}/{PROBABILITY}/0/0/0/0", np.float32), probs
    )
    for layer, path in ((PREDICTION, "out/a_labels.tif"), (TRUTH, "masks/a.tif")):
        tile = client.tile(f"{index}/{layer}/0/0/0/0", np.uint32)[1:-1, 1:-1, 0]
        np.testing.assert_array_equal(tile, images.read_labels(study / path))


def test_sections_of_a_stack(client, study):
    index = client.json("list")["names"].index("c")
    assert client.json(f"item/{index}")["pages"] == 3
    stack = images.read_stack(study / "images" / "c.tif")
    for page in range(3):
        tile = client.tile(f"{index}/{IMAGE}/{page}/0/0/0", np.uint8)
        np.testing.assert_array_equal(tile, stack[page])
    assert client.ask(f"tile/{index}/{IMAGE}/3/0/0/0")[0] == 404
    rows = client.json(f"objects/{index}/1")
    assert {row["page"] for row in rows.values()} == {1}


def test_the_worst_come_first(client):
    """The truth of b lacks half of the predicted cells; a and c are right."""
    found = ranked(client)
    assert found["measure"] == "AP50"
    assert [found["names"][i] for i in found["order"]] == ["b", "a", "c"]
    assert [found["values"][i] for i in found["order"]] == [0.5, 1.0, 1.0]


def test_without_truth_the_least_confident_come_first(study):
    with serve(results.find(study / "out").results) as client:
        found = ranked(client)
    assert found["measure"] == "confidence"
    values = [found["values"][i] for i in found["order"]]
    assert values == sorted(values)
    assert 0.5 < values[0] < values[-1] < 1


def test_measurements_are_those_of_the_table(client, study):
    index = client.json("list")["names"].index("a")
    rows = client.json(f"objects/{index}/0")
    assert sorted(map(int, rows)) == [1, 2, 3, 4, 5, 6]
    assert {row["area"] for row in rows.values()} == {12 * 14}
    (study / "out" / "a_objects.csv").unlink()
    with serve(results.find(study / "out").results) as other:
        areas = {row["area"] for row in other.json(f"objects/{index}/0").values()}
    assert areas == {12 * 14}


def test_a_large_image_comes_in_tiles_of_several_levels(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 5000, (1100, 1300, 1), np.uint16)
    # Cells of 64 pixels end where tiles end.
    cells = np.kron(rng.integers(0, 9, (18, 21)), np.ones((64, 64), int))
    cells = cells[:1100, :1300]
    images.write_image(tmp_path / "a.tif", image)
    images.write_labels(tmp_path / "a_labels.tif", cells)
    one = Result("a", image=tmp_path / "a.tif", prediction=tmp_path / "a_labels.tif")
    with serve([one]) as client:
        assert client.json("item/0")["levels"] == 3
        rows = [
            np.concatenate(
                [client.tile(f"0/0/0/0/{i}/{j}", np.uint16) for j in range(3)], axis=1
            )
            for i in range(3)
        ]
        np.testing.assert_array_equal(np.concatenate(rows), image)
        halved = client.tile("0/0/0/1/0/0", np.uint16)
        expected = image[:1024, :1024].reshape(512, 2, 512, 2).mean((1, 3))
        np.testing.assert_array_equal(halved[..., 0], np.rint(expected))
        whole = client.tile("0/0/0/2/0/0", np.uint16)
        assert whole.shape == (275, 325, 1)
        labels = client.tile("0/1/0/0/1/1", np.uint32)[..., 0]
        part = cells[TILE - 1 : 2 * TILE + 1, TILE - 1 : 2 * TILE + 1]
        np.testing.assert_array_equal(labels, part)
        reduced = client.tile("0/1/0/2/0/0", np.uint32)[1:-1, 1:-1, 0]
        np.testing.assert_array_equal(reduced, cells[::4, ::4])


def test_pixels_on_disk_give_the_tiles_of_those_in_memory(tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 9, (600, 700, 1), np.uint16)
    images.write_image(tmp_path / "a.tif", image)
    one = Result("a", image=tmp_path / "a.tif")
    places = ["0/0/0/0/0/0", "0/0/0/0/1/1", "0/0/0/1/0/0"]
    with serve([one]) as client:
        expected = [client.tile(place, np.uint16) for place in places]
    monkeypatch.setattr("unetjax.viewer.layers._LARGE", 1)
    with serve([one]) as client:
        for place, tile in zip(places, expected, strict=True):
            np.testing.assert_array_equal(client.tile(place, np.uint16), tile)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""]
)
def test_another_host_is_refused(client, host):
    """A name of others that leads to this machine, by DNS rebinding."""
    status, _, content = client.ask("list", host=host)
    assert status == 403
    assert b"names" not in content


def test_localhost_and_a_forwarded_port_are_accepted(client):
    for host in ("localhost", "localhost:9999", "127.0.0.1:1"):
        assert client.ask("list", host=host)[0] == 200


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]
)
def test_only_get_is_answered(client, method):
    assert client.ask("list", method=method)[0] == 501


@pytest.mark.parametrize(
    "path",
    [
        *("../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "....//secret.txt"),
        *(
            "out/../../secret.txt",
            "/etc/passwd",
            "//etc/passwd",
            "item/../../secret.txt",
        ),
        *("item/-1", "item/3", "item/x", "item/0/0", "item/1e0", "item/%D9%A1"),
        *("tile/0/0/0/0/0/1", "tile/0/9/0/0/0/0", "tile/0/0/0/99/0/0", "tile/0/0"),
        *(
            "results.py",
            "../server.py",
            "page/main.js",
            "a_labels.tif",
            "out/a_labels.tif",
        ),
    ],
)
def test_nothing_else_is_reachable(client, study, path):
    (study / "secret.txt").write_text("secret")
    status, _, content = client.ask(path)
    assert status in (404, 422)
    assert b"secret" not in content
    assert b"root:" not in content


def test_the_address_has_a_secret_part(client):
    for path in ("/", "/list", "/wrong/list", "/wrong/"):
        assert client.ask(path, whole=True)[0] == 404
    assert client.ask("")[0] == 200


def test_it_listens_on_this_machine_only(study):
    found = results.find(study / "out").results
    with server.open_server("out", found) as (site, _):
        assert site.server_address[0] == "127.0.0.1"


def test_a_port_in_use_is_refused_in_a_sentence(study):
    found = results.find(study / "out").results
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(ValueError, match=f"port {port} cannot be used .* --port"),
            server.open_server("out", found, port=port),
        ):
            pass


def test_pages_name_no_other_address(client):
    """No script, style or font of others, and no program inside of the page."""
    for name in (
        "",
        "view.css",
        "main.js",
        "paint.js",
        "tiles.js",
        "viewport.js",
        "icon.svg",
    ):
        status, headers, content = client.ask(name)
        assert status == 200
        assert b"http" not in content.replace(b"http://www.w3.org/2000/svg", b"")
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_names_are_data(study):
    """Names of files are in no page but in JSON, without control codes."""
    name = "<img src=x onerror=alert(1)>\x1b[2J"
    one = Result(name, image=study / "images" / "a.tif")
    with serve([one]) as client:
        _, headers, content = client.ask("list")
        assert headers["Content-Type"] == "application/json"
        assert json.loads(content)["names"] == [name.replace("\x1b", r"\x1b")]


def test_files_that_differ_in_size_or_are_damaged(study):
    """The first one is refused before the page opens, the others say so themselves."""
    images.write_image(study / "other.tif", np.zeros((70, 91, 1), np.uint8))
    (study / "damaged.tif").write_bytes(b"II*\0")
    good = Result("a", image=study / "images" / "a.tif")
    prediction = study / "out" / "b_labels.tif"
    wrong = Result("b", image=study / "other.tif", prediction=prediction)
    damaged = Result("c", image=study / "damaged.tif")
    sizes = r"b_labels.tif has 70 x 90 pixels, but .*other.tif has 70 x 91 pixels"
    with serve([good, wrong, damaged]) as client:
        assert client.ask("item/0")[0] == 200
        for index, text in ((1, sizes), (2, r"damaged\.tif .* export it again")):
            status, _, content = client.ask(f"item/{index}")
            assert status == 422
            assert re.search(text, json.loads(content)["error"])
    with pytest.raises(ValueError, match=sizes), server.open_server("out", [wrong]):
        pass


def test_a_deleted_file_is_named(study):
    one = Result("a", image=study / "images" / "a.tif", table=study / "gone.csv")
    with serve([one]) as client:
        status, _, content = client.ask("objects/0/0")
    assert status == 422
    assert "gone.csv does not exist" in content.decode()


def test_nothing_is_written(study):
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    found = results.find(study / "out", masks=study / "masks").results
    with serve(found) as client:
        ranked(client)
        for index in range(3):
            client.json(f"item/{index}")
            assert client.ask(f"thumbnail/{index}")[2].startswith(b"\x89PNG")
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before


def test_zarr_images_and_labels(tmp_path):
    """As `unetjax predict image.zarr --out labels.zarr` reads and writes them."""
    rng = np.random.default_rng(0)
    pixels = {
        "image": rng.integers(0, 999, (600, 530), np.uint16),
        "labels": np.kron(rng.integers(0, 9, (60, 53)), np.ones((10, 10), np.int32)),
    }
    for name, values in pixels.items():
        stored = arrays.create(
            tmp_path / f"{name}.zarr", values.shape, (256, 256), values.dtype
        )
        stored.write(values, slice(None), slice(None))
    found = results.find(tmp_path / "labels.zarr", images=tmp_path / "image.zarr")
    with serve(found.results) as client:
        tile = client.tile("0/0/0/0/1/1", np.uint16)[..., 0]
        np.testing.assert_array_equal(tile, pixels["image"][512:, 512:])
        tile = client.tile("0/1/0/0/0/1", np.uint32)[1:-1, 1:-1, 0]
        np.testing.assert_array_equal(tile, pixels["labels"][:512, 512:])


def test_masks_of_classes_are_ordered_by_their_iou(tmp_path):
    for name in ("images", "masks", "out"):
        (tmp_path / name).mkdir()
    foreground = np.zeros((20, 30, 1), np.uint8)
    foreground[:10] = 255
    for name, shift in (("a", 0), ("b", 5)):
        images.write_image(tmp_path / "images" / f"{name}.png", foreground)
        images.write_image(tmp_path / "masks" / f"{name}.png", foreground)
        moved = np.roll(foreground, shift, axis=0)
        images.write_image(tmp_path / "out" / f"{name}_mask.png", moved)
        (tmp_path / "out" / f"{name}_objects.csv").write_text("id,area\n255,9\n")
    found = results.find(
        tmp_path / "out", images=tmp_path / "images", masks=tmp_path / "masks"
    )
    with serve(found.results) as client:
        state = ranked(client)
        assert client.json("item/0")["kind"] == "classes"
        # The table counts cells, which the mask does not number.
        assert client.json("objects/0/0") == {"255": {"id": 255, "area": 300}}
    assert state["measure"] == "IoU"
    np.testing.assert_allclose([state["values"][i] for i in state["order"]], [1 / 3, 1])
    assert state["order"] == [1, 0]


def test_the_contrast_is_that_of_the_pixels_also_of_a_large_image(tmp_path):
    """Means of squares of noise would span a few grey values only."""
    noise = np.random.default_rng(0).integers(0, 1000, (1100, 900, 2), np.uint16)
    noise[..., 1] += 2000
    images.write_image(tmp_path / "a.tif", noise)
    with serve([Result("a", image=tmp_path / "a.tif")]) as client:
        ranges = client.json("item/0")["layers"]["image"]["ranges"]
    np.testing.assert_allclose(ranges[0], [0, 5, 995, 999], atol=2)
    np.testing.assert_allclose(ranges[1], [2000, 2005, 2995, 2999], atol=2)


def test_large_images_of_different_sizes_are_refused_by_their_headers(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("unetjax.viewer.layers._LARGE", 1)
    images.write_image(tmp_path / "a.tif", np.zeros((70, 91, 1), np.uint8))
    images.write_labels(tmp_path / "a_labels.tif", np.zeros((70, 90), int))
    one = Result("a", image=tmp_path / "a.tif", prediction=tmp_path / "a_labels.tif")
    with (
        pytest.raises(ValueError, match=r"70 x 90 pixels, but .* 70 x 91 pixels"),
        server.open_server("out", [one]),
    ):
        pass
