"""What a bundle says of itself: the ``bundle.json`` of format 1, read strictly."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, TypeVar

from voiceguard.detect.calibration import Calibration
from voiceguard.errors import BundleError, CalibrationError
from voiceguard.results import OperatingPoint

FORMAT = 1
"""The bundle format that this version reads and writes."""

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_Record = TypeVar("_Record", Calibration, OperatingPoint, "Manifest")


@dataclass(frozen=True)
class Manifest:
    """A bundle's description.

    Parameters
    ----------
    id, version : str
        Name (lower case letters, digits, ``. _ -``) and version of the model.
    licence : str
        SPDX identifier of the weights' licence.
    description : str
        One sentence.
    sample_rate : int
        Rate that the graph takes, Hz.
    window_samples, hop_samples : int
        Length of a window and step between windows, samples; the step is at most the length.
    embedding_dim : int
        Width of the embedding; 0 until the graph is known.
    calibration : Calibration or None
        Map from score to llr; None for a model whose scores are uncalibrated.
    operating_points : tuple of OperatingPoint
        Thresholds on the llr, or on the score where there is no calibration.
    default_operating_point : str or None
        Name of the one that applies where none is asked for; None where there are none.
    provenance : mapping of str to str
        Where the model comes from: training data, code version, SHA-256 of a source file ...
    files : mapping of str to str
        SHA-256 of each other file of the bundle, by name; filled in when it is written.
    format : int
        Version of this layout.

    Raises
    ------
    BundleError
        If a field is out of its domain; the message names it.
    """

    id: str
    version: str
    licence: str
    description: str
    sample_rate: int
    window_samples: int
    hop_samples: int
    embedding_dim: int = 0
    calibration: Calibration | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    default_operating_point: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        _check_format(self.format)
        for name in ("version", "licence", "description"):
            _expect(isinstance(getattr(self, name), str), name, "a string", getattr(self, name))
        _expect(_matches(_ID, self.id), "id", "lower case letters, digits, '.', '_', '-'", self.id)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            _expect(_whole(value) and value >= least, name, f"an int >= {least}", value)
        _expect(
            self.hop_samples <= self.window_samples,
            "hop_samples", "at most window_samples, or samples between windows go unheard",
            self.hop_samples,
        )  # fmt: skip
        _check_texts("provenance", self.provenance)
        _check_files(self.files)
        self._check_points()

    def _check_points(self) -> None:
        names = [point.name for point in self.operating_points]
        _expect(len(set(names)) == len(names), "operating_points", "names given once each", names)
        for point in self.operating_points:
            _check_point(point)
        expected = f"one of {names}" if names else "null, as there are no operating points"
        known = self.default_operating_point in names if names else False
        absent = self.default_operating_point is None and not names
        _expect(known or absent, "default_operating_point", expected, self.default_operating_point)

    def to_json(self) -> str:
        """Give the text of ``bundle.json``."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read the text of ``bundle.json``.

        Raises
        ------
        BundleError
            If it is no JSON, or a field is absent, unknown or out of its domain.
        """
        plain = _parse(text)
        _check_format(plain.get("format"))
        if plain.get("calibration") is not None:
            plain["calibration"] = _build(Calibration, plain["calibration"], "calibration")
        points = plain.get("operating_points", [])
        _expect(isinstance(points, list), "operating_points", "a list", points)
        plain["operating_points"] = tuple(
            _build(OperatingPoint, point, f"operating_points[{index}]")
            for index, point in enumerate(points)
        )
        return _build(cls, plain, "")


_LEAST = {"sample_rate": 1, "window_samples": 1, "hop_samples": 1, "embedding_dim": 0}


def _parse(text: str) -> dict[str, Any]:
    try:
        plain = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"bundle.json is no valid JSON: {error}.") from error
    if not isinstance(plain, dict):
        raise BundleError(f"bundle.json must hold an object. Got {type(plain).__name__} instead.")
    return plain


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) != len(pairs):
        raise ValueError("a field is given twice")
    return plain


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _build(record: type[_Record], plain: Any, where: str) -> _Record:
    """Make a dataclass from a JSON object that names its fields and no others."""
    _expect(isinstance(plain, dict), where, "an object", plain)
    prefix = f"{where}." if where else ""
    known = {f.name: f for f in fields(record)}
    for name in plain:
        if name not in known:
            raise BundleError(f"bundle.json has an unknown field '{prefix}{name}'.")
    for name, spec in known.items():
        required = spec.default is MISSING and spec.default_factory is MISSING
        if required and name not in plain:
            raise BundleError(f"bundle.json lacks the field '{prefix}{name}'.")
    _check_numbers(record, plain, prefix)
    try:
        return record(**plain)
    except CalibrationError as error:
        raise BundleError(f"bundle.json, field '{where}': {error}") from error


def _check_numbers(record: type[Any], plain: Mapping[str, Any], prefix: str) -> None:
    """Check the types of a record that has no check of its own for them."""
    if record is Calibration:
        for name in ("slope", "offset", "prior"):
            value = plain.get(name, 0.5)
            _expect(_number(value), prefix + name, "a finite number", value)
        for name in ("method", "data"):
            value = plain.get(name, "")
            _expect(isinstance(value, str), prefix + name, "a string", value)


def _check_point(point: OperatingPoint) -> None:
    where = f"operating_points.{point.name}"
    for name in ("name", "data"):
        value = getattr(point, name)
        _expect(isinstance(value, str), f"{where}.{name}", "a string", value)
    _expect(_number(point.threshold), f"{where}.threshold", "a finite number", point.threshold)
    fits = _number(point.margin) and point.margin >= 0
    _expect(fits, f"{where}.margin", "a number >= 0", point.margin)
    for name in ("miss_rate", "false_alarm_rate"):
        value = getattr(point, name)
        fits = value is None or (_number(value) and 0 <= value <= 1)
        _expect(fits, f"{where}.{name}", "null or a number in [0, 1]", value)


def _check_format(value: Any) -> None:
    if not _whole(value) or value != FORMAT:
        raise BundleError(
            f"The bundle has format {value!r}; this version reads format {FORMAT}. "
            "Use a matching version of voiceguard."
        )


def _check_texts(name: str, texts: Any) -> None:
    _expect(isinstance(texts, Mapping), name, "an object of strings", texts)
    for key, value in texts.items():
        fits = isinstance(key, str) and isinstance(value, str)
        _expect(fits, f"{name}.{key}", "a string", value)


def _check_files(files: Any) -> None:
    _check_texts("files", files)
    for name, digest in files.items():
        plain = _matches(_FILE, name) and name != "bundle.json"
        _expect(plain, "files", "plain file names", name)
        _expect(_matches(_SHA256, digest), f"files.{name}", "64 lower case hex digits", digest)


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _expect(fits: bool, name: str, expected: str, got: object) -> None:
    if not fits:
        raise BundleError(
            f"The field {name!r} of a bundle must be {expected}. Got {got!r:.80} instead."
        )
