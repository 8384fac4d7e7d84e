"""Pairs of touching objects are those that the scores count."""

import numpy as np

from unetjax.instances.contacts import count_touching
from unetjax.metrics import matching


def test_pairs_are_those_of_the_scores():
    """Scores find them by the distance of cells; here, by neighbouring pixels."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        cells = generator.integers(-1, 6, (9, 7)) * (generator.random((9, 7)) < 0.4)
        expected = matching.match(np.maximum(cells, 0), np.maximum(cells, 0)).touching
        assert count_touching(cells) == expected


def test_an_image_of_one_pixel_has_no_pairs():
    assert count_touching(np.ones((1, 1), int)) == 0
