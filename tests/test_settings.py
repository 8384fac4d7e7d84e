from dataclasses import dataclass
from typing import Literal

import pytest

from unetjax import settings


@dataclass(frozen=True)
class Lens:
    focus: float = 1.0
    glass: Literal["crown", "flint"] = "crown"


@dataclass(frozen=True)
class Camera:
    lens: Lens = Lens()
    gains: tuple[float, ...] = ()
    bits: int | None = None


def test_settings_survive_a_dictionary():
    camera = Camera(Lens(2.0, "flint"), gains=(1.0, 2.0), bits=12)
    options = settings.to_dict(camera)
    assert options == {
        "lens": {"focus": 2.0, "glass": "flint"},
        "gains": (1.0, 2.0),
        "bits": 12,
    }
    assert settings.build(Camera, options, where="camera") == camera


def test_lists_become_tuples_and_integers_become_numbers():
    options = {"gains": [1.0], "lens": {"focus": 3}}
    built = settings.build(Camera, options, where="camera")
    assert built.gains == (1.0,)
    assert isinstance(built.lens.focus, float)


def test_every_option_has_a_dotted_name():
    nested = {"a": 1, "b": {"c": 2, "d": {"e": 3}}}
    flat = dict(settings.flatten(nested))
    assert flat == {"a": 1, "b.c": 2, "b.d.e": 3}
    assert settings.unflatten(flat) == nested


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
    assert settings.suggest(name, OPTIONS) == meant


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (-1, {"at_least": 0}, "^x must be at least 0, got -1.$"),
        (1.0, {"above": 1}, "^x must be above 1, got 1.0.$"),
        (2, {"at_most": 1}, "^x must be at most 1, got 2.$"),
        (1, {"at_least": 0, "below": 1}, "^x must be at least 0 and below 1, got 1.$"),
        (float("inf"), {"above": 0}, "^x must be above 0 and finite, got inf.$"),
        (float("nan"), {}, "^x must be finite, got nan.$"),
    ],
)
def test_numbers_out_of_range_are_refused(value, bounds, message):
    with pytest.raises(ValueError, match=message):
        settings.check_range("x", value, **bounds)


def test_bounds_are_accepted_where_they_are_included():
    settings.check_range("x", 0, at_least=0, at_most=0)
    with pytest.raises(ValueError, match=r"got 0; take more\.$"):
        settings.check_range("x", 0, above=0, hint="take more")


def test_a_choice_names_the_accepted_and_the_nearest():
    settings.check_choice("glass", "flint", Literal["crown", "flint"])
    message = "^glass must be one of crown, flint, got 'flynt'; did you mean flint[?]$"
    with pytest.raises(ValueError, match=message):
        settings.check_choice("glass", "flynt", Literal["crown", "flint"])
