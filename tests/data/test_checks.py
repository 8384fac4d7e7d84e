import numpy as np
import pytest

from unetjax.data import checks
from unetjax.data.checks import Problem
from unetjax.data.examples import from_instances

CELLS = np.zeros((8, 9), np.int32)
CELLS[1:3, 1:3] = 1
CELLS[5:7, 5:7] = 2


def example(name, *, cells=None, dtype=np.uint8, channels=1):
    if cells is None:  # elsewhere in each image
        cells = np.roll(CELLS, (len(name) % 2, len(name) // 2), axis=(0, 1))
    image = np.random.default_rng(len(name)).integers(0, 99, (8, 9, channels))
    return from_instances(image.astype(dtype), cells, name)


GOOD = [example("a"), example("bb"), example("ccc")]


def only(problems, severity):
    """Returns the text of the only problem."""
    ((actual, text),) = problems
    assert actual == severity
    assert text.endswith(".")
    return text


def test_a_good_data_set_has_no_problem():
    assert checks.check(GOOD, num_classes=2) == []


def test_no_images_at_all():
    assert only(checks.check([]), "error") == "The data set has no images."


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        (
            example("dddd", channels=3),
            "Numbers of channels differ: 3 of 4 images have 1, but not dddd (3); "
            "convert all to grey or all to RGB, or choose --channels.",
        ),
        (
            example("dddd")._replace(label=CELLS[:4, :4]),
            "dddd is 8x9 but its mask 4x4; both must have the same size: export the "
            "mask without scaling or cropping.",
        ),
        (
            example("dddd")._replace(label=CELLS),
            "dddd has label 2 at 4 pixels; accepted are 0 to 1, and -1 for ignored "
            "pixels: renumber the classes or raise num_classes.",
        ),
    ],
)
def test_errors_name_the_image_the_rule_and_the_remedy(odd, text):
    assert only(checks.check([*GOOD, odd], num_classes=2), "error") == text


def test_nan_and_infinite_pixels_are_counted():
    broken = [example(each.name, dtype=np.float32) for each in GOOD]
    broken[1].image[0, 0] = np.nan
    broken[1].image[0, 1] = np.inf
    text = only(checks.check(broken), "error")
    assert (
        text
        == "bb has 2 of 72 values that are NaN or infinite; replace them before use."
    )


def test_values_beyond_float32_are_refused():
    huge = [example(each.name, dtype=np.float64) for each in GOOD]
    huge[1].image[2, 2] = -1e39
    text = only(checks.check(huge), "error")
    assert text.startswith("bb has values up to 1e+39, beyond the range of float32")


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        (
            example("dddd", cells=np.zeros_like(CELLS)),
            "1 of 4 masks are empty: dddd; remove images that are not annotated.",
        ),
        (
            GOOD[0]._replace(name="again"),
            "a, again are the same image; keep one, or validation and test scores come "
            "out too high.",
        ),
        (
            example("dddd", dtype=np.uint16),
            "Types of the grey values differ: 3 of 4 images have uint8, but not dddd "
            "(uint16); their input scaling must make them alike, or save all in one "
            "type.",
        ),
        (
            example("dddd", cells=GOOD[0].instances),
            "a, dddd are different images with the same mask; check that each has its "
            "own.",
        ),
        (
            example("dddd", cells=np.ones_like(CELLS)),
            "1 of 4 masks have no background: dddd; export the masks again if "
            "background is not missing in these images.",
        ),
        (
            example("dddd")._replace(image=np.full((8, 9, 1), 7, np.uint8)),
            "1 of 4 images have one grey value everywhere: dddd; export them again, or "
            "remove them and their masks.",
        ),
        (
            example("dddd", cells=(CELLS > 0) * np.int32(7)),
            "1 of 4 masks have numbers that mark more than one piece: dddd (7); give "
            "each cell a number of its own.",
        ),
    ],
)
def test_warnings_do_not_prevent_training(odd, text):
    problems = checks.check([*GOOD, odd])
    assert only(problems, "warning") == text
    checks.raise_errors(problems)


def test_ignored_pixels_are_accepted():
    label = np.array([[-1, 0, 1]])
    assert checks.class_range("a", label, 2) == []
    assert "label -2 at 1 pixels" in checks.class_range("a", label * 2, 3)[0].text


def test_all_problems_are_returned_errors_first():
    empty = [example(n, cells=CELLS * 0) for n in ("a", "b")]
    odd = example("dddd", channels=3, cells=CELLS * 0)
    problems = checks.check([*empty, odd._replace(label=odd.label[:4])])
    severities = [problem.severity for problem in problems]
    assert severities == ["error", "error", "error", "warning"]
    with pytest.raises(ValueError, match=r"channels differ.*\nNo mask has a cell") as e:
        checks.raise_errors(problems)
    assert "same image" not in str(e.value)


def test_raise_errors_passes_warnings():
    checks.raise_errors([Problem("warning", "not bad")])
    with pytest.raises(ValueError, match=r"^bad\nworse$"):
        checks.raise_errors([Problem("error", "bad"), Problem("error", "worse")])


def test_cells_in_several_pieces_are_found():
    cells = np.array([[1, 0, 2, 0, 1], [0, 1, 0, 0, 0], [3, 3, 0, 2, 2]])
    assert checks.split_cells(cells) == [1, 2]
    assert checks.split_cells(cells.T) == [1, 2]
    touching = np.array([[1, 2, 1, 2]])
    assert checks.split_cells(touching) == [1, 2]
    assert checks.split_cells(np.array([[1, 2], [2, 1], [3, 3]])) == []


def test_swapped_images_and_masks_are_detected():
    photographs = [np.random.default_rng(0).integers(0, 99, (64, 64, 3))]
    labels = [np.kron(np.eye(4, dtype=np.int32), np.ones((16, 16), np.int32))]
    assert checks.are_swapped(labels, photographs)
    assert not checks.are_swapped(photographs, labels)
    assert not checks.are_swapped(labels, labels)
    assert not checks.are_swapped(photographs, photographs)
    assert not checks.are_swapped(labels, [])
