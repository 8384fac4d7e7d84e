"""The nearest names to one that does not exist."""

import pytest

from unetjax.suggestions import suggest

OPTIONS = [
    *("seed", "num_steps", "batch_size", "log_every", "model.features"),
    *("model.dropout_rate", "loss.name", "optimizer.name", "optimizer.learning_rate"),
    *("optimizer.weight_decay", "optimizer.decay_rate", "optimizer.clip_norm"),
    *("weight_map.sigma", "weight_map.near_sigma"),
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "did you mean optimizer.learning_rate?"),
        ("optimizer.lr", "did you mean optimizer.learning_rate?"),
        ("lrate", "did you mean optimizer.learning_rate?"),
        ("bs", "did you mean batch_size?"),
        ("wd", "did you mean optimizer.weight_decay?"),
        ("num_step", "did you mean num_steps?"),
        ("model.feature", "did you mean model.features?"),
        ("Batch-Size", "did you mean batch_size?"),
        ("training.learning_rate", "did you mean optimizer.learning_rate?"),
        ("sigma", "did you mean weight_map.sigma?"),
        ("name", "did you mean loss.name or optimizer.name?"),
        ("colour", f"accepted are {', '.join(OPTIONS)}."),
    ],
)
def test_the_nearest_name_is_suggested(name, meant):
    assert suggest(name, OPTIONS) == meant
