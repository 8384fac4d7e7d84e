import logging
import warnings
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.runs import (
    CONFIG,
    PLAIN,
    Alarm,
    assert_equal_runs,
    final_state,
    make_split,
)
from unetjax.data import synthetic
from unetjax.data.examples import from_instances
from unetjax.data.splits import Split
from unetjax.inference.predict import split
from unetjax.model_io import model_folder
from unetjax.network.input_scaling import InputScaling
from unetjax.reporting import environment, records
from unetjax.targets.encode import encode
from unetjax.training import config as configs
from unetjax.training import loop, stopping

STANDSTILL = replace(
    PLAIN,
    num_steps=8,
    evaluate_every=1,
    patience=2,
    optimizer=replace(PLAIN.optimizer, learning_rate=0.0),
)


def validations(workdir):
    lines = records.read(workdir / "records.jsonl")
    return [record for record in lines if record.kind == "validation"]


def test_a_rate_of_zero_stops_early_and_stays_finished(tmp_path, caplog):
    """Nothing is learned: of three equal evaluations the last counts."""
    trained = loop.train_and_evaluate(STANDSTILL, make_split(), tmp_path / "r")
    assert trained.provenance.step == 3
    path = tmp_path / "r" / "records.jsonl"
    before = path.read_bytes()
    assert [record.step for record in validations(tmp_path / "r")] == [1, 2, 3]
    with caplog.at_level(logging.INFO, logger="unetjax"):
        loop.train_and_evaluate(STANDSTILL, make_split(), tmp_path / "r")
    assert path.read_bytes() == before
    assert len(environment.read_starts(tmp_path / "r")) == 1
    message = caplog.messages[-1]
    assert message.endswith(
        "is finished: it stopped early, at step 3 of 8; a larger patience resumes it."
    )


def test_more_patience_continues_as_if_it_had_never_stopped(tmp_path):
    loop.train_and_evaluate(STANDSTILL, make_split(), tmp_path / "a")
    patient = replace(STANDSTILL, patience=3)
    loop.train_and_evaluate(patient, make_split(), tmp_path / "a")
    loop.train_and_evaluate(patient, make_split(), tmp_path / "b")
    assert [r.step for r in records.read(tmp_path / "a" / "records.jsonl")][-1] == 4
    assert_equal_runs(tmp_path / "a", tmp_path / "b", patient)


@pytest.mark.slow
def test_an_interrupted_run_stops_early_at_the_same_step(tmp_path):
    loop.train_and_evaluate(STANDSTILL, make_split(), tmp_path / "a")
    with pytest.raises(stopping.Interrupted):
        loop.train_and_evaluate(STANDSTILL, make_split(Alarm), tmp_path / "b")
    loop.train_and_evaluate(STANDSTILL, make_split(), tmp_path / "b")
    assert_equal_runs(tmp_path / "a", tmp_path / "b", STANDSTILL)


def test_without_updates_the_initial_network_is_scored_once(tmp_path):
    config = replace(PLAIN, num_steps=0)
    for _ in range(2):
        trained = loop.train_and_evaluate(config, make_split(), tmp_path / "r")
        assert trained.provenance.step == 0
    assert [record.step for record in validations(tmp_path / "r")] == [0]


@pytest.mark.parametrize(
    ("reduction", "message"),
    [
        ("weighted_mean", "of step 2 is nan, over tiles of .*; the checkpoints before"),
        ("sum", "conv_0/bias is not finite after step 1; the checkpoints before"),
    ],
)
def test_a_run_that_diverges_stops_and_saves_nothing(reduction, message, tmp_path):
    """No broken state becomes a checkpoint or the best model."""
    diverging = replace(
        PLAIN,
        evaluate_every=1 if reduction == "sum" else 6,
        loss=replace(PLAIN.loss, reduction=reduction),
        optimizer=replace(PLAIN.optimizer, name="sgd", learning_rate=1e38),
    )
    with pytest.raises(stopping.NotFiniteError, match=message):
        loop.train_and_evaluate(diverging, make_split(), tmp_path / "r")
    assert not (tmp_path / "r" / "model").exists()
    assert not list((tmp_path / "r" / "checkpoints").iterdir())


def squares(level, name):
    """An image of one grey value with two square cells."""
    instances = np.zeros((40, 40), np.int32)
    instances[5:15, 5:15], instances[20:35, 10:30] = 1, 2
    return from_instances(np.full((40, 40, 1), level, np.uint8), instances, name)


def test_a_loss_that_is_not_finite_names_its_images_and_keeps_the_last_save(tmp_path):
    """One image of two breaks the loss: it is named, the other is not.

    With seed 9 they are drawn in turn, the dim one first.
    """
    dim, bright = squares(50, "dim"), squares(220, "bright")

    def poison(image, label, weight, key):
        return jnp.where(image.mean() > 0.5, jnp.nan, image), label, weight

    workdir = tmp_path / "r"
    config = replace(
        PLAIN,
        input_scaling=InputScaling("unit"),
        batch_size=1,
        evaluate_every=1,
        seed=9,
    )
    with pytest.raises(
        stopping.NotFiniteError,
        match="the loss of step 2 is nan, over tiles of bright;",
    ):
        loop.train_and_evaluate(
            config, Split([dim, bright], [dim]), workdir, transform=poison
        )
    assert model_folder.load_model(workdir / "model").provenance.step == 1
    assert int(final_state(workdir, config).step) == 1
    lines = records.read(workdir / "records.jsonl")
    assert {record.step for record in lines} == {1}
    assert (workdir / "records.csv").read_text() == records.to_csv(lines)


def test_a_collapse_is_logged_and_recorded(tmp_path, caplog):
    """A class of weight 0 is soon never predicted, of which the log tells once.

    And once more if its output becomes constant.
    """
    weight_map = replace(PLAIN.weight_map, class_balance=(1.0, 0.0))
    config = replace(PLAIN, num_steps=30, evaluate_every=10, weight_map=weight_map)
    loop.train_and_evaluate(config, make_split(), tmp_path / "r")
    texts = [
        record.values["text"]
        for record in records.read(tmp_path / "r" / "records.jsonl")
        if record.kind == "warning"
    ]
    assert len(texts) > 1
    assert "nearly every validation pixel is predicted as class 0" in texts[0]
    constant = [text for text in texts[1:] if "The output is constant" in text]
    is_worse = "The output is constant" not in texts[0]
    assert caplog.messages == texts[:1] + (constant[:1] if is_worse else [])


@pytest.mark.slow
def test_it_learns(tmp_path):
    """Bright squares on dark ground, in images of the sizes in `make_split`."""
    rng = np.random.default_rng(0)
    instances = np.zeros((40, 48), np.int32)
    for i, (y, x) in enumerate([(3, 4), (5, 20), (22, 8), (25, 25)]):
        instances[y : y + 9, x : x + 9] = i + 1
    noise = rng.integers(0, 20, (40, 48, 1))
    image = (60 + 120 * (instances[..., None] > 0) + noise).astype(np.uint8)
    example = from_instances(image, instances, "squares")
    config = replace(CONFIG, num_steps=120, evaluate_every=120)
    trained = loop.train_and_evaluate(
        config, Split([example, example], [example]), tmp_path / "r"
    )
    lines = records.read(tmp_path / "r" / "records.jsonl")
    losses = [r.values["loss"] for r in lines if r.kind == "train"]
    assert losses[-1] < 0.3 * losses[0]
    assert trained.provenance.scores["mean_iou"] > 0.8


def test_a_transform_and_gradient_norms_reach_the_step(tmp_path):
    """A transform that sets every weight to 0 leaves nothing to learn."""

    def ignore(image, label, weight, key):
        return image, label, 0 * weight

    config = replace(PLAIN, num_steps=1, log_grad_norms=True)
    loop.train_and_evaluate(config, make_split(), tmp_path / "a", transform=ignore)
    train = next(
        r for r in records.read(tmp_path / "a" / "records.jsonl") if r.kind == "train"
    )
    assert train.values["loss"] == 0
    norms = {n: x for n, x in train.values.items() if n.startswith("grad_norm/")}
    assert len(norms) == 2 * (2 * 3 + 1 + 1)  # kernels and biases
    assert norms["grad_norm/encoder_0/conv_1/kernel"] == 0


def test_histograms_show_the_activations_of_a_validation_tile(tmp_path):
    """In TensorBoard at every evaluation; not negative except for convolutions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from what TensorBoard imports
        reader = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator",
            reason="tensorboard, which reads event files, is not installed",
        )
    config = replace(
        PLAIN, num_steps=2, evaluate_every=1, writers=("tensorboard",), histograms=True
    )
    loop.train_and_evaluate(config, make_split(), tmp_path / "a")
    events = reader.EventAccumulator(str(tmp_path / "a/tensorboard"), {"histograms": 0})
    events.Reload()
    names = events.Tags()["histograms"]
    assert {"activations/encoder_0", "activations/up_0", "activations/head"} < {*names}
    for name, least in (("bottleneck", 0), ("bottleneck/conv_1", -np.inf)):
        shown = events.Histograms(f"activations/{name}")
        assert [event.step for event in shown] == [1, 2]
        # A tile of 32 pixels is 10 wide at the bottom, with 4 channels.
        assert shown[0].histogram_value.num == 4 * 10**2
        assert (shown[0].histogram_value.min >= 0) == (least == 0)


@pytest.mark.parametrize(
    "target",
    [
        "distances",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("neighbours", "border")),
    ],
)
def test_a_network_learns_a_target(target, tmp_path):
    """The maps that it predicts are those of the cells, which touch."""
    config = configs.from_dict(
        {
            "num_steps": 80,
            "batch_size": 2,
            "tile_size": 48,
            "evaluate_every": 80,
            "num_pictures": 0,
            "input_scaling": {"method": "percentile"},
            "model": {
                "features": 8,
                "depth": 1,
                "dropout_rate": 0.0,
                "padding": "SAME",
                "target": target,
            },
            "optimizer": {"name": "adam", "learning_rate": 0.01},
            "augmentation": {"elastic_sigma": 0.0, "contrast": 0.0},
            "weight_map": {"w0": 0.0, "separation_border": "none"},
            "instances": {"method": "watershed", "seeds": "maps"},
        }
    )
    cells = [synthetic.touching_cells(0, size=(40, 48), num_cells=4, radius=7.0)]
    loop.train_and_evaluate(config, Split(cells, cells), tmp_path)
    trained = model_folder.load_model(tmp_path / "model")
    probs, maps = split(trained.predict(cells[0].image, maps=True), trained.model)
    assert probs.shape == (40, 48, 2)
    np.testing.assert_array_equal(trained.predict(cells[0].image), probs)
    np.testing.assert_allclose(probs.sum(-1), 1, rtol=1e-5)
    assert trained.segment(cells[0].image).instances.max() >= 1
    true = encode(cells[0].instances, target)
    assert maps.shape == true.shape
    where = cells[0].instances > (0 if target == "distances" else -1)
    for predicted, expected in zip(maps[where].T, true[where].T, strict=True):
        assert np.corrcoef(predicted, expected)[0, 1] > 0.3
