"""Cells numbered block by block are those of the whole image."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from unetjax.inference import predict
from unetjax.instances import components
from unetjax.instances.settings import InstanceSettings
from unetjax.large import arrays, labelling, merging
from unetjax.large.grid import Block, Grid
from unetjax.network.unet import UNet

HEIGHT, WIDTH = 150, 170
WATERSHED = InstanceSettings(method="watershed", seed_threshold=0.6)
MAPS = InstanceSettings(
    method="watershed", seeds="maps", threshold=0.3, seed_threshold=0.5
)


def random_outputs(model, *, size=(HEIGHT, WIDTH), width=3):
    """Smooth probabilities and maps, in which cells touch and enclose holes."""
    rng = np.random.default_rng(0)

    def smooth(channels):
        drawn = rng.normal(size=(*size, channels))
        return ndimage.gaussian_filter(drawn, (width, width, 0)) * width

    raw = smooth(model.num_classes) * 5
    probs = np.exp(raw) / np.exp(raw).sum(-1, keepdims=True)
    maps = smooth(model.num_outputs - model.num_classes) * 4 / 3 + 0.5
    return np.concatenate([probs, maps.clip(0, 1)], axis=-1).astype(np.float32)


def label(outputs, model, settings, size, folder):
    grid = Grid(*outputs.shape[:2], size)
    stored = arrays.create(
        folder / "outputs", outputs.shape, (64, 64, outputs.shape[2]), np.float32
    )
    stored.write(outputs)
    cells = labelling.number_cells(stored, grid, model, settings, folder)
    return cells.read(slice(0, grid.height), slice(0, grid.width))


def are_equal_up_to_numbers(first, second):
    pairs = np.unique(np.stack([first.ravel(), second.ravel()], axis=1), axis=0)
    return len(pairs) == len(np.unique(first)) == len(np.unique(second))


@pytest.mark.parametrize("size", [32, 64, 150, 500])
@pytest.mark.parametrize(
    ("num_classes", "target", "settings"),
    [
        (2, "classes", InstanceSettings()),
        (3, "classes", InstanceSettings(min_size=30)),
        (2, "classes", InstanceSettings(fill_holes=True, min_size=9, threshold=0.6)),
        (3, "classes", WATERSHED),
        (2, "classes", InstanceSettings(method="watershed", seeds="distance")),
        (2, "distances", MAPS),
        (2, "distances", replace(MAPS, merge_solidity=0.7)),
        (3, "classes", replace(WATERSHED, merge_solidity=0.8)),
    ],
)
def test_cells_are_those_of_the_whole_image(
    tmp_path, num_classes, target, settings, size
):
    model = UNet(features=1, depth=0, num_classes=num_classes, target=target)
    outputs = random_outputs(model)
    probs, maps = predict.split(outputs, model)
    whole = components.instances_from_probs(probs, settings, maps=maps, target=target)
    found = label(outputs, model, settings, size, tmp_path)
    assert whole.max() > 10
    assert found.max() == whole.max()
    assert are_equal_up_to_numbers(found, whole)


def test_cells_from_maps_smoothed_by_their_radius_are_those_of_the_whole_image(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(labelling, "_HALO", 16)
    settings = replace(MAPS, relative_smoothing=1.0)
    model = UNet(features=1, depth=0, target="distances")
    outputs = random_outputs(model, size=(420, 420), width=9)
    probs, maps = predict.split(outputs, model)
    decode = functools.partial(
        components.instances_from_probs, maps=maps, target="distances"
    )
    whole = decode(probs, settings)
    assert not are_equal_up_to_numbers(whole, decode(probs, MAPS))
    found = label(outputs, model, settings, 224, tmp_path)
    assert are_equal_up_to_numbers(found, whole)


def test_a_seed_far_beyond_the_window_reaches_the_end_of_its_cell(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(labelling, "_HALO", 4)
    probability = np.full((20, 300), 0.7, np.float32)
    probability[:, :5] = 0.9
    outputs = np.stack([1 - probability, probability], axis=-1)
    model = UNet(features=1, depth=0)
    found = label(outputs, model, InstanceSettings(method="watershed"), 20, tmp_path)
    assert (found == 1).all()


def test_a_cell_that_reaches_far_beyond_its_block_is_not_flooded_by_another(tmp_path):
    """The seed of the cell to the left lies beyond the first window of later blocks."""
    probability = np.full((40, 900), 0.7, np.float32)
    probability[:, 100:120] = 0.9
    probability[:, 700:] = np.linspace(0.65, 0.9, 200)  # a valley at column 700
    outputs = np.stack([1 - probability, probability], axis=-1)
    model, settings = UNet(features=1, depth=0), InstanceSettings(method="watershed")
    whole = components.instances_from_probs(outputs, settings)
    found = label(outputs, model, settings, 200, tmp_path)
    assert whole.max() == 2
    assert are_equal_up_to_numbers(found, whole)


@pytest.mark.parametrize("merge_solidity", [0.0, 0.9])
def test_pieces_whose_border_is_that_of_blocks(tmp_path, merge_solidity):
    rows, columns = np.indices((128, 128))
    disc = (rows - 63.5) ** 2 + (columns - 63.5) ** 2 <= 50**2
    probability = np.where(disc, 0.7 + 0.004 * abs(columns - 63.5), 0.1)
    outputs = np.stack([1 - probability, probability], axis=-1).astype(np.float32)
    settings = replace(WATERSHED, seed_threshold=0.8, merge_solidity=merge_solidity)
    found = label(outputs, UNet(features=1, depth=0), settings, 64, tmp_path)
    assert found.max() == (1 if merge_solidity else 2)


def test_a_region_without_a_seed_is_one_cell(tmp_path):
    probability = np.full((20, 300), 0.7, np.float32)
    outputs = np.stack([1 - probability, probability], axis=-1)
    model = UNet(features=1, depth=0)
    found = label(outputs, model, InstanceSettings(method="watershed"), 20, tmp_path)
    assert (found == 1).all()


@pytest.mark.parametrize("connectivity", [1, 2])
def test_diagonal_neighbours_in_other_blocks(tmp_path, connectivity):
    """Along the border of blocks, and where four of them meet."""
    mask = np.zeros((12, 12), bool)
    mask[[5, 6, 1, 2], [5, 6, 5, 6]] = True
    numbers = arrays.create(tmp_path / "n", (12, 12), (12, 12), np.uint64)
    joined = merging.label(
        Grid(12, 12, 6),
        lambda block: mask[block.rows, block.columns],
        numbers,
        num_classes=2,
        connectivity=connectivity,
    )
    found = joined.resolve(numbers.read())
    structure = ndimage.generate_binary_structure(2, connectivity)
    expected, count = ndimage.label(mask, structure)
    assert are_equal_up_to_numbers(found, expected)
    assert count == (2 if connectivity == 2 else 4)


def test_numbers_exceed_32_bits(tmp_path):
    """As in an image of more than 2^32 pixels, of which one block is looked at."""

    class Corner(Grid):
        def blocks(self):
            yield Block(2**22, slice(0, 4), slice(0, 4))

    numbers = arrays.create(tmp_path / "n", (4, 4), (4, 4), np.uint64)
    merging.label(
        Corner(4, 4, 2**11),
        lambda block: np.eye(4, dtype=int),
        numbers,
        num_classes=2,
    )
    found = numbers.read().diagonal()
    np.testing.assert_array_equal(found, 2 * (2**44 + np.arange(1, 5)) + 1)
