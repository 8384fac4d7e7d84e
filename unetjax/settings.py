"""Settings classes: validation of fields, conversion from and to dictionaries.

A settings class is a frozen dataclass, or a linen module, whose annotations are its
schema. It calls `check_fields` and `check_range` in `__post_init__`, so that the same
values are refused from Python, from a config file and from the command line.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Shaped

from unetjax.suggestions import nearest, suggest

T = TypeVar("T")
Number = int | float

_LONGEST = 200  # characters of a value in a message


def check_fields(settings: object) -> None:
    """Refuses fields whose values do not have the types of their annotations.

    Annotations may be classes, `Literal` choices, and unions, tuples and mappings of
    these. A bool is not accepted as a number, and numbers must be finite.

    Args:
      settings: An instance of a settings class.

    Raises:
      ValueError: If a value has a wrong type; the message begins with the field's name.
    """
    for name, hint in field_types(type(settings)).items():
        _check_type(name, getattr(settings, name), hint)


def check_choice(name: str, value: object, choices: object) -> None:
    """Refuses a value that is none of the choices of a `Literal`.

    Raises:
      ValueError: If it is none of them.

    Example:
      >>> check_choice("flavour", "mint", Literal["mint", "lemon"])
    """
    _check_type(name, value, choices)


def check_range(
    name: str,
    value: Number,
    *,
    at_least: Number | None = None,
    above: Number | None = None,
    at_most: Number | None = None,
    below: Number | None = None,
    hint: str = "",
) -> None:
    """Refuses a number that is out of range or not finite.

    Args:
      name: What the message calls it.
      value: The number.
      at_least: Smallest accepted value.
      above: Bound that must be exceeded.
      at_most: Largest accepted value.
      below: Bound that must not be reached.
      hint: Appended to the message: what the number means, or what to do.

    Raises:
      ValueError: If the number is out of range.

    Example:
      >>> check_range("rate", 1.5, at_least=0, below=1)
      Traceback (most recent call last):
      ValueError: rate must be at least 0 and below 1, got 1.5.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{name} must be a number, got {_shortened(value)}.")
    bounds = {
        "at least": (at_least, lambda bound: value >= bound),
        "above": (above, lambda bound: value > bound),
        "at most": (at_most, lambda bound: value <= bound),
        "below": (below, lambda bound: value < bound),
    }
    given = {text: b for text, b in bounds.items() if b[0] is not None}
    if _is_finite(value) and all(within(bound) for bound, within in given.values()):
        return
    rules = [f"{text} {bound}" for text, (bound, _) in given.items()]
    if not _is_finite(value):
        rules.append("finite")
    raise ValueError(
        f"{name} must be {' and '.join(rules)}, got {_shortened(value)}"
        f"{hint and f'; {hint}'}."
    )


def check_finite(name: str, values: Shaped[np.ndarray, "..."]) -> None:
    """Refuses an array with values that are NaN or infinite.

    Raises:
      ValueError: If there are any; the message says how many.
    """
    num_broken = values.size - np.count_nonzero(np.isfinite(values))
    if num_broken:
        raise ValueError(
            f"{name} has {num_broken} of {values.size} values that are NaN or "
            "infinite; replace them before use."
        )


def build(factory: type[T], options: Mapping[str, Any], *, where: str) -> T:
    """Makes a settings object from a dictionary of its fields.

    Missing fields have their defaults, fields that are settings themselves are nested
    dictionaries. Lists become tuples, and integers numbers where the field is one.

    Args:
      factory: A settings class.
      options: Field values by name.
      where: Dotted name of the section, put in front of every message.

    Raises:
      ValueError: If a name is unknown, or a value has a wrong type or is refused by the
        class.

    Example:
      >>> @dataclasses.dataclass(frozen=True)
      ... class Blur:
      ...     sigma: float = 1.0
      >>> build(Blur, {"sigma": 2}, where="config.blur")
      Blur(sigma=2.0)
    """
    hints = field_types(factory)
    for name in options:
        if name not in hints:
            raise ValueError(f"{where} has no option {name!r}; {suggest(name, hints)}")
    values = {
        name: _from_plain(value, hints[name], where=f"{where}.{name}")
        for name, value in options.items()
    }
    try:
        return factory(**values)
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from None


def to_dict(settings: object) -> dict[str, Any]:
    """Returns the fields of a settings object as nested dictionaries, fit for JSON."""
    values = {name: getattr(settings, name) for name in field_types(type(settings))}
    return {
        name: to_dict(value) if dataclasses.is_dataclass(value) else value
        for name, value in values.items()
    }


def flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted name and the value of every option of nested dictionaries."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def unflatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dictionaries of options by their dotted names.

    Example:
      >>> unflatten({"seed": 1, "model.depth": 2})
      {'seed': 1, 'model': {'depth': 2}}
    """
    options: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        section = options
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return options


@functools.cache
def field_types(factory: type) -> dict[str, Any]:
    """Returns the annotations of the fields of a settings class, by name."""
    hints = typing.get_type_hints(factory)
    return {
        name: hints[name]
        for name in inspect.signature(factory).parameters
        # linen adds these two to the fields of every module.
        if not (name in ("parent", "name") and _is_linen_module(factory))
    }


def _is_linen_module(factory: type) -> bool:
    """Returns whether a class is a `flax.linen.Module`, without importing Flax."""
    return any(base.__module__.startswith("flax.linen.") for base in factory.__mro__)


def _from_plain(value: object, hint: object, *, where: str) -> object:
    """Returns the value of a field in its type, from that in JSON or a config."""
    is_section = isinstance(value, Mapping) and dataclasses.is_dataclass(hint)
    if is_section and inspect.isclass(hint):
        return build(hint, value, where=where)
    if isinstance(value, list):
        value = tuple(value)
    _check_type(where, value, hint)
    if isinstance(value, tuple) and tuple[float, ...] in (hint, *typing.get_args(hint)):
        return tuple(float(each) for each in value)
    return float(value) if hint is float and isinstance(value, int) else value


def _check_type(name: str, value: object, hint: object) -> None:
    if _fits(value, hint):
        return
    text = f"{name} must be {_describe(hint)}"
    if isinstance(value, Number) and not _is_finite(value):
        text += " and finite"
    text += f", got {_shortened(value)}"
    if typing.get_origin(hint) is Literal and isinstance(value, str):
        near = nearest(value, typing.get_args(hint))
        text += f"; did you mean {near[0]}?" if near else "."
        raise ValueError(text)
    raise ValueError(f"{text}.")


def _fits(value: object, hint: object) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, choice) for choice in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(key, arguments[0]) and _fits(item, arguments[1])
            for key, item in value.items()
        )
    if hint is Any:
        return True
    if origin is type:
        return isinstance(value, type)
    if hint in (int, float):
        number = int if hint is int else Number
        is_number = isinstance(value, number) and not isinstance(value, bool)
        return is_number and _is_finite(value)
    if not inspect.isclass(hint) or getattr(hint, "_is_protocol", False):
        return False
    return isinstance(value, hint)


def _is_finite(value: Number) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floating-point numbers
        return False


def _shortened(value: object) -> str:
    """Returns a value for a message, which a damaged file may have made long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _describe(hint: object) -> str:
    """Returns what a field accepts, for a message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        choices = [x for x in arguments if not (x is int and float in arguments)]
        return " or ".join(map(_describe, choices))
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin is tuple:
        item = _describe(arguments[0])
        if arguments[-1] is Ellipsis:
            return f"a list, each {item}"
        return f"a list of {len(arguments)} values, each {item}"
    if origin is Mapping:
        values = arguments[1]
        of = "" if values is Any else f", each value {_describe(values)}"
        return f"a dictionary{of}"
    if dataclasses.is_dataclass(hint):
        return "a section with options of its own"
    kinds: dict[object, str] = {float: "a number", int: "an integer", str: "a string"}
    kinds |= {bool: "True or False", type(None): "None"}
    return kinds.get(hint, str(hint))
