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


def test_a_number_is_no_section():
    with pytest.raises(ValueError, match=r"camera\.lens\.focus must be a number, got"):
        settings.build(Camera, {"lens": {"focus": {"x": 1}}}, where="camera")


def test_every_option_has_a_dotted_name():
    nested = {"a": 1, "b": {"c": 2, "d": {"e": 3}}}
    flat = dict(settings.flatten(nested))
    assert flat == {"a": 1, "b.c": 2, "b.d.e": 3}
    assert settings.unflatten(flat) == nested


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
