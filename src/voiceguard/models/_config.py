"""Plain-value form of a network's configuration, and the check of its integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from voiceguard.errors import ParameterError
from voiceguard.features._base import check_int

Config = TypeVar("Config", bound="PlainConfig")


class PlainConfig:
    """Base of frozen dataclasses whose fields are numbers, strings, mappings and tuples."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    @classmethod
    def from_dict(cls: type[Config], plain: Mapping[str, Any]) -> Config:
        """Read back :meth:`to_dict`; absent fields take their defaults.

        Raises
        ------
        ParameterError
            If a field is unknown or out of range.
        """
        unknown = set(plain) - {f.name for f in fields(cls)}  # type: ignore[arg-type]
        if unknown:
            raise ParameterError(f"{cls.__name__} has no field {sorted(unknown)}.")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()})


def check_ints(owner: object, name: str, values: object, *, length: int) -> None:
    """Refuse what is no tuple of `length` ints >= 1.

    Raises
    ------
    ParameterError
        Naming the parameter and the class of `owner`.
    """
    if not isinstance(values, tuple) or len(values) != length:
        raise ParameterError(
            f"The {name!r} parameter of {type(owner).__name__} must hold {length} ints >= 1. "
            f"Got {values!r} instead."
        )
    for value in values:
        check_int(owner, **{name: value})
