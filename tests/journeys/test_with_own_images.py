"""The README's commands for a person with images, as that person types them."""

import numpy as np
import pytest

from tests import commands
from unetjax import load_model, predict
from unetjax.data import synthetic
from unetjax.files import images


def unetjax(*args, cwd, run=commands.in_process):
    in_process = run is commands.in_process
    done = run("unetjax.cli.main" if in_process else "unetjax", *args, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Folders of images and masks, with a space in their path."""
    home = tmp_path_factory.mktemp("my images")
    for folder in ("images", "masks", "new"):
        (home / folder).mkdir()
    for i in range(4):
        cells = synthetic.touching_cells(1, i, size=(90, 110), num_cells=7 + i)
        images.write_image(home / "images" / f"{i}.tif", cells.image)
        images.write_labels(home / "masks" / f"{i}_labels.png", cells.instances)
    odd = synthetic.touching_cells(1, 9, size=(97, 203), num_cells=12)
    images.write_image(home / "new" / "odd.png", odd.image)
    return home


@pytest.fixture(scope="module")
def trained(home):
    words = ("train", "images", "masks", "--out", "mymodel")
    return unetjax(*words, "--steps", 4, "--features", 4, cwd=home)


def test_check(home):
    printed = unetjax("check", "images", "masks", cwd=home, run=commands.run_program)
    assert "4 images 90x110 uint16, 1 channel; masks: numbered cells" in printed
    assert "no problems found" in printed


def test_train_says_what_it_does_and_leaves_a_report(home, trained):
    assert "objects are about" in trained
    assert "AP at IoU 0.5" in trained
    assert "Otsu + components" in trained
    report = (home / "mymodel" / "report.html").read_text()
    assert report.count("<img") >= 5
    assert "settings on the validation images" in report
    assert "There are no test images" in report
    assert "://" not in report.replace("http://www.w3.org", "")  # self-contained


def test_train_again_shows_the_same_scores(home, trained):
    """Nothing is left to do, and the same scores are shown."""
    words = ("train", "images", "masks", "--out", "mymodel")
    again = unetjax(*words, "--steps", 4, "--features", 4, cwd=home)
    assert again.partition("AP at")[2] == trained.partition("AP at")[2] != ""
    assert "mymodel is finished, at step 4" in again


def test_predict_and_evaluate(home, trained):
    words = (
        "predict",
        "mymodel",
        "images",
        "new/odd.png",
        "--out",
        "out",
        "--instances",
    )
    unetjax(*words, "--probabilities", cwd=home)
    written = [path.name for path in (home / "out").glob("*_*")]
    assert sorted(written) == sorted(
        f"{stem}_{end}"
        for stem in ("0", "1", "2", "3", "odd")
        for end in ("labels.tif", "overlay.png", "probs.tif")
    )
    labels = images.read_labels(home / "out" / "odd_labels.tif")
    assert labels.shape == (97, 203)
    probs = images.read_image(home / "out" / "odd_probs.tif")
    np.testing.assert_allclose(probs.sum(-1), 1, atol=1e-5)
    printed = unetjax("evaluate", "out", "masks", cwd=home)
    assert "0_labels.png" in printed
    assert "touching pairs separated" in printed


def test_from_python(home, trained):
    """The lines of the README give what the command line writes."""
    model = load_model(home / "mymodel")
    assert model.class_names == ("background", "cell")
    image = images.read_image(home / "new" / "odd.png")
    probs, label, instances = model.segment(image)
    folder = home / "from-command-line"
    words = ("predict", "mymodel", "new/odd.png", "--out", folder, "--instances")
    unetjax(*words, "--probabilities", cwd=home)
    written = images.read_image(folder / "odd_probs.tif")
    np.testing.assert_allclose(probs, written, atol=1e-6)
    np.testing.assert_array_equal(label, written.argmax(axis=-1))
    np.testing.assert_array_equal(
        instances, images.read_labels(folder / "odd_labels.tif")
    )
    np.testing.assert_array_equal(predict(model, image), probs)
