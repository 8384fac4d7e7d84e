"""The page in a real browser: what it shows of a folder, at two sizes."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from tests.viewer.conftest import serve
from unetjax.files import images
from unetjax.viewer import results
from unetjax.viewer.results import Result

ORANGE, BLUE = (230, 159, 0), (86, 180, 233)  # outlines of prediction and truth
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    return found


def run(browser, folder, address, *options):
    """What a headless browser prints, after the page has had time to load."""
    done = subprocess.run(
        [
            *(browser, "--headless=new", "--no-sandbox", "--disable-gpu"),
            *(f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=8000"),
            *(*options, address),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def share(picture, colour):
    return float((picture[..., :3] == colour).all(axis=-1).mean())


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (500, 844)])
def test_image_prediction_and_truth_are_drawn(browser, study, width, height):
    found = results.find(study / "out", masks=study / "masks").results
    path, size = study / "screen.png", f"--window-size={width},{height}"
    with serve(found) as client:
        for _ in range(
            8
        ):  # the browser may take its picture before the canvas is drawn
            run(browser, study, client.address, size, f"--screenshot={path}")
            picture = images.read_image(path)
            if share(picture, BLUE) > 0.003:
                break
    # Right cells are drawn in blue, which lies on the orange of the prediction; half of
    # those of b, the worst, are not true.
    assert share(picture, BLUE) > 0.003
    assert share(picture, ORANGE) > 0.003


def test_the_list_and_the_values_are_those_of_the_server(browser, study):
    found = results.find(study / "out", masks=study / "masks").results
    with serve(found) as client:
        dom = run(browser, study, client.address, "--dump-dom")
    assert re.findall(r'class="title">([^<]*)<', dom) == ["b", "a", "c"]
    assert re.findall(r'class="value">([^<]*)<', dom) == ["0.500", "1.00", "1.00"]
    assert "Lowest AP50 first" in dom
    assert "1 of 3 · AP50 0.500 · 90 x 70 pixels" in dom
    assert re.search(r'<p id="message"[^>]*hidden=""[^>]*></p>', dom)
    assert re.search(r'<fieldset id="layer-uncertainty" hidden="">', dom)
    assert not re.search(r'<fieldset id="layer-probability" hidden="">', dom)


def test_a_name_is_text(browser, study):
    name = '<img src=x onerror="document.title=1">'
    with serve([Result(name, image=study / "images" / "a.tif")]) as client:
        dom = run(browser, study, client.address, "--dump-dom")
    escaped = '&lt;img src=x onerror="document.title=1"&gt;'
    assert f'class="title">{escaped}<' in dom
    assert f'<h1 id="name">{escaped}</h1>' in dom


def test_the_reason_is_shown_where_an_image_cannot_be(browser, study):
    images.write_image(study / "other.tif", np.zeros((70, 91, 1), np.uint8))
    good = Result("a", image=study / "images" / "a.tif")
    prediction = study / "out" / "b_labels.tif"
    wrong = Result("b", image=study / "other.tif", prediction=prediction)
    with serve([good, wrong]) as client:
        dom = run(browser, study, f"{client.address}#1", "--dump-dom")
    assert re.search(r'<p id="message" role="alert">[^<]*must be of one size', dom)
