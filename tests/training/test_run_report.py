import math

import jax
import jax.numpy as jnp
import numpy as np

from unetjax.data import synthetic
from unetjax.data.splits import Split
from unetjax.evaluation import comparison
from unetjax.inference.trained_model import TrainedModel
from unetjax.network.unet import UNet
from unetjax.reporting import records
from unetjax.reporting.records import Record
from unetjax.training import run_report
from unetjax.weight_maps.settings import PAPER


def test_a_report_shows_what_a_reader_asks_for(tmp_path):
    """Curves, scores, confusion, cell sizes, cases in order, warnings, origin."""
    cells = [
        synthetic.touching_cells(0, i, size=(40, 48), num_cells=4, radius=6.0)
        for i in range(9)
    ]
    split = Split(cells[:1], cells[1:])
    model = UNet(features=2, depth=1)
    image = jnp.zeros((1, 20, 20, 1))
    params = model.init(jax.random.key(0), image, train=False)["params"]
    trained = TrainedModel(model, params, {}, "percentile", ("ground", "cell"), {}, {})
    result = comparison.compare(trained, split)
    for record in (
        Record(2, "train", {"loss": 0.5, "accuracy": 0.7, "grad_norm": 1.0}),
        Record(2, "validation", {"mean_iou": 0.6, "ap50": math.nan}),
        Record(2, "warning", {"text": "step 2: something is odd."}),
    ):
        records.append(tmp_path / "records.jsonl", record)
    path = run_report.write(
        tmp_path,
        result,
        split,
        title="a run",
        summary="It went so.",
        weight_map=PAPER,
        class_names=trained.class_names,
        config={"seed": 17},
        command="python -m a_run",
    )
    page = path.read_text()
    for words in (
        "1 warning(s), the last: step 2: something is odd.",
        "Loss",
        "Norm of the gradient",
        "Sizes of the cells in the held-out images",
        "true, predicted as",
        "ground",
        '"seed": 17',
        "python -m a_run",
        "JAX",
    ):
        assert words in page, words
    # Of eight images the three worst, then the three best, from the last place up.
    places = [page.index(f"place {place} of 8") for place in (8, 7, 6, 3, 2, 1)]
    assert places == sorted(places)
    assert "place 5 of 8" not in page
    truth = np.concatenate([np.unique(e.instances)[1:] for e in split.validation])
    sizes = run_report._cell_sizes(result, split.validation)
    assert sum(sizes.counts["truth"]) == len(truth)
    confusion = run_report._confusion(result, trained.class_names)
    assert confusion.counts.sum() == 8 * 40 * 48
