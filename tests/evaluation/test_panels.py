import numpy as np
import pytest

from unetjax.data import synthetic
from unetjax.data.examples import IGNORED
from unetjax.evaluation import panels
from unetjax.inference.segment import Segmentation
from unetjax.reporting import pictures
from unetjax.weight_maps.settings import PAPER, WeightMapSettings


def probabilities(foreground):
    return np.stack([1 - foreground, foreground], axis=-1).astype(np.float32)


def test_a_strip_has_a_row_for_each_image_and_marks_errors():
    examples = [
        synthetic.touching_cells(0, i, size=size, num_cells=4, radius=6.0)
        for i, size in enumerate([(40, 48), (300, 200)])
    ]
    ignored = examples[0].label.copy()
    ignored[:, :20] = IGNORED
    examples[0] = examples[0]._replace(label=ignored)
    predictions = [
        Segmentation(
            probabilities(np.ones(e.label.shape)),
            np.ones(e.label.shape, np.int32),
            np.ones(e.label.shape, np.int32),
        )
        for e in examples
    ]
    shown = dict(panels.panels(examples[0], predictions[0], PAPER))
    assert list(shown)[:3] == ["image", "truth", "prediction"]
    plain = panels.panels(examples[0], predictions[0], WeightMapSettings(w0=0.0))
    # Without a border term the weight map is not worth a look.
    assert dict(plain).keys() == shown.keys() - {"weight map"}
    wrong = shown["extra orange, missed blue"]
    image = pictures.grey(examples[0].image)
    # Without annotation nothing is wrong; elsewhere every pixel is correct or extra.
    np.testing.assert_array_equal(wrong[:, :20], image[:, :20])
    assert (wrong[:, 20:] != image[:, 20:]).any(axis=-1).all()
    picture = panels.strip(examples, predictions, PAPER)
    # 48 pixels are shown as squares of 4, 300 are reduced to 224.
    rows = [4 * 40 + 36, 224 + 36]
    assert picture.shape == (sum(rows), 8 + len(shown) * (4 * 48 + 8), 3)


def test_predictions_of_several_models_have_a_column_each():
    """The columns are in order; a perfect prediction has the colours of the truth."""
    examples = [
        synthetic.touching_cells(0, i, size=(40, 48), num_cells=4, radius=6.0)
        for i in range(2)
    ]
    right = [Segmentation(np.eye(2)[e.label], e.label, e.instances) for e in examples]
    nothing = [
        Segmentation(np.eye(2)[0 * e.label], 0 * e.label, 0 * e.instances)
        for e in examples
    ]
    picture = panels.comparison(examples, {"right": right, "nothing": nothing})
    one = panels.comparison(examples[:1], {"right": right})
    height, width, _ = picture.shape
    assert height > 1.8 * one.shape[0]
    assert width > 1.25 * one.shape[1]
    quarters = np.split(picture[:, : width // 4 * 4], 4, axis=1)
    colourful = [int((np.ptp(panel, axis=-1) > 0).sum()) for panel in quarters]
    assert colourful[1] == pytest.approx(colourful[2], rel=0.02)
    assert colourful[1] > 1000
    assert colourful[3] < 0.02 * colourful[1]
