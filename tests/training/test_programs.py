"""Compiled programs are shared by configs that differ in what they do not read."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from tests.training.runs import CONFIG, make_split
from unetjax.training import programs, run_folder

# Other values of all options that a compiled step must not depend on.
OTHERWISE = {
    "seed": 7,
    "num_steps": 50,
    "log_every": 3,
    "evaluate_every": 9,
    "patience": 2,
    "best_metric": "accuracy",
    "tune_instances": True,
    "writers": ("tensorboard",),
    "num_pictures": 1,
    "pretrained": "model",
    "histograms": True,
    "data": replace(CONFIG.data, fold="1/3"),
}


def trace(config):
    """The step of a config as text, traced afresh."""
    run = run_folder.make_run(config, make_split(), "unused")
    data = programs.load_data(run)
    state = programs.initial_state(config, run.keys.init, channels=1)
    return str(
        jax.make_jaxpr(programs.build_step(config))(
            state, jnp.arange(2), data, run_folder.make_keys(0)
        )
    )


def compiled(config, transform=None):
    return programs.compile_step(
        programs.build_step, config, transform=transform, num_devices=1
    )


def test_options_that_a_shared_step_ignores_do_not_change_it():
    """Any option that did would let one run train with the step of another."""
    assert OTHERWISE.keys() == {"num_steps", *programs.UNREAD_OPTIONS}
    other = replace(CONFIG, **OTHERWISE)
    assert programs.step_config(CONFIG) == programs.step_config(other)
    assert trace(CONFIG) == trace(other) == trace(programs.step_config(CONFIG))


def test_equal_steps_are_compiled_once():
    assert compiled(CONFIG) is compiled(replace(CONFIG, **OTHERWISE))


@pytest.mark.parametrize(
    "changes",
    [
        {"tile_size": 36},
        {"log_grad_norms": True},
        {"model": CONFIG.model.clone(dropout_rate=0.1)},
        {"loss": replace(CONFIG.loss, reduction="sum")},
        {"optimizer": replace(CONFIG.optimizer, learning_rate=0.02)},
        {"weight_map": replace(CONFIG.weight_map, w0=1.0)},
        {"augmentation": replace(CONFIG.augmentation, elastic_sigma=2.0)},
        {"sampling": replace(CONFIG.sampling, jitter=1.0)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_steps_are_not_shared(changes):
    assert compiled(replace(CONFIG, **changes)) is not compiled(CONFIG)


def test_only_a_cosine_schedule_depends_on_the_number_of_steps():
    cosine = replace(CONFIG, optimizer=replace(CONFIG.optimizer, schedule="cosine"))
    assert compiled(replace(cosine, num_steps=50)) is not compiled(cosine)


def test_a_step_with_a_custom_transform_is_never_shared():
    """What it reads may have changed in between."""

    def transform(image, label, weight, key):
        return image, label, weight

    assert compiled(CONFIG, transform) is not compiled(CONFIG, transform)
