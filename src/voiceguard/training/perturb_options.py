"""Checks of the options that perturbations take, all in one form of message."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Real
from typing import Any

from voiceguard.errors import ParameterError


def refuse(owner: object, option: str, domain: str) -> ParameterError:
    """The error for an option of `owner` outside its domain.

    Parameters
    ----------
    owner : object
        The perturbation; its class says its name.
    option : str
        The attribute that holds the value.
    domain : str
        What the option must be.

    Returns
    -------
    ParameterError
    """
    name = getattr(owner, "name", type(owner).__name__)
    return ParameterError(
        f"The {option!r} parameter of {name} must be {domain}. "
        f"Got {getattr(owner, option)!r} instead."
    )


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number and no bool."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def check_interval(owner: object, option: str, *, low: float, high: float) -> None:
    """Refuse an option that is no ascending pair of numbers in [low, high].

    Raises
    ------
    ParameterError
    """
    value = getattr(owner, option)
    pair = isinstance(value, tuple) and len(value) == 2 and all(is_number(end) for end in value)
    if not pair or not low <= value[0] <= value[1] <= high:
        raise refuse(owner, option, f"a number or an ascending pair in [{low:g}, {high:g}]")


def check_count(owner: object, option: str, *, minimum: int) -> None:
    """Refuse an option that is no int or lies below `minimum`.

    Raises
    ------
    ParameterError
    """
    value = getattr(owner, option)
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise refuse(owner, option, f"an int >= {minimum}")


def check_choice(owner: object, option: str, known: Collection[str]) -> None:
    """Refuse an option that is none of the known words.

    Raises
    ------
    ParameterError
    """
    if getattr(owner, option) not in known:
        raise refuse(owner, option, f"one of {sorted(known)}")
