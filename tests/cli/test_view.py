"""unetjax view as a program: it answers, ends on Ctrl-C, and refuses in a sentence."""

import re
import signal
import urllib.request

import numpy as np
import pytest

from tests import commands
from unetjax.files import images


@pytest.fixture
def folders(tmp_path):
    for name in ("images", "out"):
        (tmp_path / name).mkdir()
    images.write_image(tmp_path / "images" / "a.tif", np.zeros((20, 30, 1), np.uint8))
    images.write_labels(tmp_path / "out" / "a_labels.tif", np.eye(20, 30, dtype=int))
    return tmp_path


def start(*words):
    return commands.as_program("unetjax", "view", *words, "--no-browser")


@pytest.mark.parametrize(("signum", "status"), [("SIGINT", 0), ("SIGTERM", 143)])
def test_it_serves_until_a_signal(folders, signum, status):
    words = (folders / "out", "--images", folders / "images")
    with start(*words) as process:
        first = process.stdout.readline()
        address = re.fullmatch(r"1 image: (http://127\.0\.0\.1:\d+/\S+/)\n", first)[1]
        with urllib.request.urlopen(f"{address}item/0", timeout=20) as answer:
            assert b'"width": 30' in answer.read()
        process.send_signal(getattr(signal, signum))
        _, err = process.communicate(timeout=20)
        assert process.returncode == status
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["gone"],
            "gone does not exist; name the folder that  unetjax predict  wrote.",
        ),
        (["images/a.tif"], "images/a.tif is a file; name the folder"),
        (
            ["out"],
            "out does not say where its images are; name their folder by --images",
        ),
        (["out", "--images", "gone"], "gone does not exist"),
        (["out", "--images", "images", "--masks", "gone"], "gone is not a folder"),
        (
            ["out", "--images", "images", "--port", "70000"],
            "from 0 to 65535, got '70000'",
        ),
        (["out", "--images", "other"], "other has none of the images of out"),
    ],
)
def test_what_is_refused(folders, words, text):
    (folders / "other").mkdir()
    images.write_image(folders / "other" / "b.tif", np.zeros((9, 9, 1), np.uint8))
    done = commands.in_process("unetjax.cli.main", "view", *words, cwd=folders)
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_sizes_that_differ_are_refused_before_the_page_opens(folders):
    (folders / "images" / "a.tif").unlink()
    images.write_image(folders / "images" / "a.tif", np.zeros((20, 31, 1), np.uint8))
    done = commands.in_process(
        *("unetjax.cli.main", "view", "out", "--images", "images"), cwd=folders
    )
    assert done.returncode == 2
    assert re.search(r"20 x 30 pixels, but .* has 20 x 31 pixels", done.stderr)
