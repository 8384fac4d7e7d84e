import json

import numpy as np
import pytest

from unetjax.data import identity, synthetic
from unetjax.data.splits import Split


def example(i, name=None):
    cells = synthetic.touching_cells(0, i, size=(16, 20), num_cells=1, radius=4.0)
    return cells._replace(name=name or f"{i}.tif")


SPLIT = Split([example(0), example(1)], [example(2)], [example(3)])


def differences(other):
    return identity.differences(identity.describe(SPLIT), identity.describe(other))


def test_an_equal_split_has_no_differences():
    assert differences(SPLIT) == []
    saved = json.loads(json.dumps(identity.describe(SPLIT)))
    assert identity.check(saved, where="data.json") == identity.describe(SPLIT)


def test_images_added_removed_changed_and_moved_are_listed():
    mask = example(0)._replace(label=1 - example(0).label)
    pixels = example(2)._replace(image=example(2).image + 1)
    assert differences(Split([mask, example(4)], [pixels, example(3)], None)) == [
        "added: 4.tif",
        "removed: 1.tif",
        "changed: 0.tif, 2.tif",
        "in another part: 3.tif (test, now validation)",
    ]


def test_order_and_equal_names_are_told_apart():
    """Tiles are drawn by the number of an image."""
    assert differences(SPLIT._replace(train=SPLIT.train[::-1])) == ["in another order"]
    twice = Split([example(0, "a"), example(1, "a")], [])
    fewer = Split([example(0, "a")], [])
    assert identity.differences(*map(identity.describe, (fewer, twice))) == [
        "added: a (2)"
    ]


def test_the_earlier_split_is_kept_among_more_images():
    now = Split([example(2), example(5), example(1)], [example(0)], [example(3)])
    kept = identity.keep_split(identity.describe(SPLIT), now)
    assert differences(kept) == []
    np.testing.assert_array_equal(kept.train[1].image, SPLIT.train[1].image)
    old = identity.describe(SPLIT._replace(test=None))
    assert identity.keep_split(old, now).test is None


def test_the_earlier_split_is_not_kept_without_its_images():
    changed = example(1)._replace(label=1 - example(1).label)
    with pytest.raises(ValueError, match=r"without 1\.tif, 3\.tif, of which .* put th"):
        identity.keep_split(
            identity.describe(SPLIT), Split([example(0), changed], [example(2)])
        )


@pytest.mark.parametrize(
    "damaged",
    [
        [],
        {},
        {"train": [], "validation": []},
        {"train": [{}], "validation": [], "test": []},
        {
            "train": [{"name": 1, "image": "", "mask": ""}],
            "validation": [],
            "test": None,
        },
        {"train": ["a"], "validation": [], "test": None},
        {"train": 5, "validation": [], "test": None},
        {"train": None, "validation": [], "test": None},
    ],
)
def test_other_data_are_no_identity(damaged):
    with pytest.raises(ValueError, match=r"no list|no name and hashes"):
        identity.check(damaged, where="data.json")
