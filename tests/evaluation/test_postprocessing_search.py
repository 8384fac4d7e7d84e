from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.data import synthetic
from unetjax.data.examples import from_instances
from unetjax.evaluation import postprocessing_search, scoring
from unetjax.inference.predict import Outputs
from unetjax.inference.trained_model import Provenance, TrainedModel
from unetjax.instances.settings import InstanceSettings
from unetjax.metrics import matching
from unetjax.model_io import model_folder
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet
from unetjax.targets import encode


def blocks(size=4):
    """Two squares a pixel apart, at some distance from a speck."""
    cells = np.zeros((12, 20), np.int32)
    cells[2 : 2 + size, 2 : 2 + size] = 1
    cells[2 : 2 + size, 3 + size : 3 + 2 * size] = 2
    return from_instances(np.zeros((12, 20, 1)), cells, "blocks")


def outputs_of(foreground):
    probs = np.stack([1 - foreground, foreground], axis=-1).astype(np.float32)
    return Outputs(probs, None)


def test_a_threshold_that_separates_cells_is_chosen():
    example = blocks()
    blurred = np.where(example.label, 0.95, 0.0)
    blurred[2:6, 6] = 0.55  # the gap
    choice = postprocessing_search.search(
        [example], [outputs_of(blurred)], InstanceSettings(), metric="mean_ap_pooled"
    )
    assert choice.before < choice.after == 1
    assert choice.settings.threshold > 0.5
    assert choice.num_tried == 22


def test_specks_are_dropped_where_they_cost_precision():
    example = blocks()
    dirty = example.label.astype(float)
    dirty[10, 15:17] = 1
    choice = postprocessing_search.search(
        [example], [outputs_of(dirty)], InstanceSettings(), metric="ap50"
    )
    assert (choice.before, choice.after) == (pytest.approx(2 / 3), 1)
    assert choice.settings == InstanceSettings(min_size=10)


def test_a_watershed_is_chosen_where_no_threshold_separates_cells():
    """Two discs that overlap: only their shape separates them."""
    y, x = np.indices((24, 40))
    left, right = ((y - 12) ** 2 + (x - u) ** 2 <= 36 for u in (12, 23))
    cells = np.where(left & (x < 18), 1, np.where(right, 2, 0)).astype(np.int32)
    example = from_instances(np.zeros((24, 40, 1)), cells, "discs")
    choice = postprocessing_search.search(
        [example],
        [outputs_of((cells > 0) * 0.99)],
        InstanceSettings(),
        metric="mean_ap_pooled",
    )
    assert choice.settings.method == "watershed"
    assert choice.settings.seeds == "distance"
    assert choice.after > choice.before == 0.05


def test_seeds_of_maps_are_chosen_and_their_smoothing_is_kept():
    example = blocks()
    maps = encode.encode(example.instances, "distances")
    foreground = (example.label > 0).astype(np.float32)
    foreground[2:6, 6] = 1  # the gap: components would be one cell
    given = InstanceSettings(
        method="watershed",
        seeds="maps",
        seed_threshold=0.95,
        smoothing=0.5,
        relative_smoothing=0.1,
    )
    choice = postprocessing_search.search(
        [example],
        [Outputs(outputs_of(foreground).probs, maps)],
        given,
        target="distances",
        metric="ap50",
    )
    assert choice.before < choice.after == 1
    assert choice.settings.seed_threshold < 0.95
    kept = replace(choice.settings, seed_threshold=0.95)
    assert replace(kept, threshold=0.5, min_size=0) == given


@pytest.mark.parametrize(
    ("cells_are_pieces", "margin", "is_kept"),
    [(True, 0.02, True), (False, 0.02, False), (False, 0.6, True)],
)
def test_pieces_are_merged_unless_that_is_clearly_wrong_for_the_validation_images(
    monkeypatch, cells_are_pieces, margin, is_kept
):
    """Two halves of a rectangle, whose border is faint."""
    monkeypatch.setattr(postprocessing_search, "_MARGIN", margin)
    cells = np.zeros((24, 40), np.int32)
    cells[4:20, 6:18], cells[4:20, 18:30] = 1, 2
    maps = encode.encode(cells, "distances")
    maps[:, 17:19, 1] = 0.4
    truth = np.minimum(cells, 1) if cells_are_pieces else cells
    given = InstanceSettings(
        method="watershed",
        seeds="maps",
        seed_threshold=0.3,
        smoothing=0.0,
        merge_solidity=0.9,
    )
    choice = postprocessing_search.search(
        [from_instances(np.zeros((24, 40, 1)), truth, "rectangles")],
        [Outputs(outputs_of(cells > 0).probs, maps)],
        given,
        target="distances",
        metric="ap50",
    )
    assert choice.before == (1 if cells_are_pieces else 0.5)
    assert choice.after == (0.5 if is_kept and not cells_are_pieces else 1)
    assert choice.settings.merge_solidity == (0.9 if is_kept else 0)


def test_the_given_settings_are_kept_unless_others_are_better():
    example = blocks()
    own = InstanceSettings(threshold=0.45, min_size=3, fill_holes=True)
    choice = postprocessing_search.search(
        [example], [outputs_of(example.label)], own, metric="mean_ap_pooled"
    )
    assert choice.settings == own
    assert choice.before == choice.after == 1


def test_settings_are_compared_by_the_pooled_score_of_all_images():
    examples = [blocks(4), blocks(3)]
    outputs = [outputs_of(example.label) for example in examples]
    outputs[1].probs[2:5, 5] = [0.1, 0.9]  # a gap that no threshold opens
    choice = postprocessing_search.search(
        examples, outputs, InstanceSettings(), metric="ap50"
    )
    merged = np.where(outputs[1].probs[..., 1] > 0.5, 1, 0)
    counts = [
        matching.match(e.instances, instances, [0.5])
        for e, instances in zip(examples, [examples[0].instances, merged], strict=True)
    ]
    total = jax.tree.map(lambda *x: sum(x), *counts)
    assert choice.before == pytest.approx(matching.average_precision(total)[0])


def test_the_settings_of_a_model_are_chosen_once(tmp_path):
    unet = UNet(features=2, depth=1)
    params = unet.init(jax.random.key(0), jnp.zeros((1, 20, 20, 1)), train=False)
    trained = TrainedModel(
        unet,
        params["params"],
        input_scaling=InputScaling("percentile"),
        provenance=Provenance(step=7),
    )
    model_folder.save_model(tmp_path / "model", trained)
    cells = [synthetic.touching_cells(0, size=(40, 48), num_cells=4, radius=6.0)]
    store_best = postprocessing_search.store_best
    best = store_best(tmp_path / "model", cells, best_metric="mean_iou")
    loaded = model_folder.load_model(tmp_path / "model")
    assert loaded.instances == best.instances
    metric, _ = scoring.evaluate(loaded, cells)
    assert loaded.provenance.scores == scoring.without_nan(metric.compute())
    text = loaded.provenance.instances_chosen
    assert text.startswith(
        "among 22 settings on the validation images, AP, mean of IoU 0.5 to 0.95: "
    )
    assert text in (tmp_path / "model" / "README.md").read_text()
    assert loaded.provenance.step == 7
    again = postprocessing_search.store_best(
        tmp_path / "model", cells, best_metric="ap50"
    )
    assert again.provenance == loaded.provenance
