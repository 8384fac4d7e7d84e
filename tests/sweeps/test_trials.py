from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unetjax.sweeps import trials
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig

BASE = ExperimentConfig()


def test_every_combination_once():
    listed = [{"weight_map.w0": 0.0}, {"weight_map.w0": 10.0}]
    grid = [("optimizer.learning_rate", ["1e-4", "1e-3"])]
    expanded = trials.expand(BASE, listed=listed, grid=grid, seeds=3)
    assert len(expanded) == len({trial.name for trial in expanded}) == 12
    settings = {
        (t.config.weight_map.w0, t.config.optimizer.learning_rate, t.config.seed)
        for t in expanded
    }
    assert settings == {
        (w0, rate, seed)
        for w0 in (0.0, 10.0)
        for rate in (1e-4, 1e-3)
        for seed in range(3)
    }


def test_nothing_varied_is_one_trial():
    assert trials.expand(BASE) == [trials.Trial("base", BASE)]


def test_equal_trials_are_one():
    grid = [("optimizer.learning_rate", ["1e-3", "0.001"])]
    assert [trial.name for trial in trials.expand(BASE, grid=grid)] == [
        "optimizer.learning_rate=0.001"
    ]


def test_folds_and_seeds_count_from_the_base():
    expanded = trials.expand(replace(BASE, seed=7), seeds=2, folds=3)
    assert [(t.config.seed, t.config.data.fold) for t in expanded] == [
        (seed, f"{i}/3") for seed in (7, 8) for i in (1, 2, 3)
    ]
    assert expanded[0].name == "data.fold=1of3,seed=7"


def test_strings_are_parsed_as_the_type_of_their_option():
    overrides = {
        "optimizer.learning_rate": "1e-4",
        "model.depth": "3",
        "model.remat": "True",
        "data.train": "2:",
        "tile_size": "188",
    }
    config = configs.override(BASE, overrides)
    assert config.optimizer.learning_rate == 1e-4
    assert (config.model.depth, config.model.remat) == (3, True)
    assert config.data.train == "2:"


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("optimizer.lerning_rate=1", r"'optimizer.lerning_rate'; did you mean opt"),
        ("optimizer.name=sgd,lion", "optimizer.name must be one of sgd, adam, got"),
        ("num_steps=many", "num_steps must be an integer, got 'many'"),
        ("optimizer=sgd", "has no option 'optimizer'"),
        ("learning_rate", "--grid must be of the form optimizer.learning_rate=1e-4,"),
        ("seed=1,2", "seed would be varied twice"),
    ],
)
def test_errors_come_before_the_first_trial(grid, message):
    with pytest.raises(ValueError, match=message):
        trials.expand(BASE, grid=[trials.parse_grid(grid)], seeds=2)


def test_names_do_not_depend_on_the_order():
    one, other = {"seed": 1, "model.depth": 2}, {"model.depth": 2, "seed": 1}
    assert trials.trial_name(one) == trials.trial_name(other)


VALUES = st.dictionaries(
    st.sampled_from(["seed", "data.images", "data.train", "model.norm"]),
    st.one_of(st.text(max_size=60), st.integers(), st.floats(), st.booleans()),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, VALUES)
def test_names_are_folder_names_that_never_collide(one, other):
    names = [trials.trial_name(values) for values in (one, other)]
    for name in names:
        assert not set('/\\:*?"<>|\n\0') & set(name)
        assert len(name.encode()) <= 200
    if names[0] == names[1]:  # equal but for the type, which the option decides
        texts = [{k: trials.as_text(v) for k, v in x.items()} for x in (one, other)]
        assert texts[0] == texts[1]
