"""Reading the options of a model spec, `?option=value&option=value`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import unquote

from rstar_eval.errors import UserError, nearest

OptionValue = str | int | float
ReadOption = Callable[[str], OptionValue]
"""Turns an option's text into its value; ValueError ("must ...") if it is out of range."""


def positive_int(text: str) -> int:
    """Read an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def count(text: str) -> int:
    """Read an integer of at least 0."""
    value = int(text)
    if value < 0:
        raise ValueError("must be at least 0")
    return value


def seconds(text: str) -> float:
    """Read a finite number of seconds, 0 or more."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return value


def share(text: str) -> float:
    """Read a number in [0, 1]."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError("must lie in [0, 1]")
    return value


def positive_share(text: str) -> float:
    """Read a number above 0 and at most 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError("must be above 0 and at most 1")
    return value


def positive_number(text: str) -> float:
    """Read a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("must be above 0")
    return value


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return a reader that takes only the texts in `allowed`."""

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)}")
        return text

    return read


def read_options(owner: str, table: Mapping[str, ReadOption], query: str) -> dict[str, OptionValue]:
    """Read `query` by `table`. `owner` names the model in messages ("policy 'hf'").

    UserError: an unknown option (with the nearest), one without a value, a value out of range.
    """
    options: dict[str, OptionValue] = {}
    for item in filter(None, query.split("&")):
        name, equals, value = item.partition("=")
        if name not in table:
            raise UserError(f"unknown option {name!r} of {owner}", nearest(name, table))
        if not equals or not value:
            raise UserError(f"option {name!r} of {owner} has no value", f"write {name}=VALUE")
        try:
            options[name] = table[name](unquote(value))
        except ValueError as error:
            reason = str(error) if str(error).startswith("must") else "must be a number"
            raise UserError(f"option {name}={value!r} of {owner}", f"it {reason}") from None
    return options
