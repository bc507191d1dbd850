"""Manifests: strict reading, with the field named in every refusal."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard.detect.calibration import Calibration
from voiceguard.detect.manifest import Manifest
from voiceguard.errors import BundleError
from voiceguard.results import OperatingPoint

POINT = {
    "name": "balanced",
    "threshold": 0.0,
    "miss_rate": 0.1,
    "false_alarm_rate": None,
    "data": "dev",
}
PLAIN = {
    "format": 1,
    "id": "tiny",
    "version": "1",
    "licence": "MIT",
    "description": "d",
    "sample_rate": 16000,
    "window_samples": 100,
    "hop_samples": 50,
    "embedding_dim": 4,
    "calibration": {"slope": 1.0, "offset": 0.0},
    "operating_points": [POINT],
    "default_operating_point": "balanced",
    "provenance": {"code": "1"},
    "files": {"model.onnx": "0" * 64},
}


def test_the_plain_form_reads():
    manifest = Manifest.from_json(json.dumps(PLAIN))
    assert manifest.calibration == Calibration(1.0, 0.0)
    assert manifest.operating_points == (OperatingPoint(**POINT),)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("format", True),
        ("format", None),
        ("id", "Upper"),
        ("id", "../x"),
        ("id", ""),
        ("version", 1),
        ("licence", None),
        ("sample_rate", 0),
        ("sample_rate", 16000.0),
        ("window_samples", True),
        ("window_samples", "100"),
        ("hop_samples", 101),
        ("hop_samples", 0),
        ("embedding_dim", -1),
        ("calibration", []),
        ("calibration", {"slope": 1.0}),
        ("calibration", {"slope": -1.0, "offset": 0.0}),
        ("calibration", {"slope": "1", "offset": 0.0}),
        ("calibration", {"slope": 1.0, "offset": 0.0, "extra": 1}),
        ("operating_points", {}),
        ("operating_points", [POINT, POINT]),
        ("operating_points", [{**POINT, "threshold": None}]),
        ("operating_points", [{**POINT, "threshold": 10**400}]),
        ("operating_points", [{**POINT, "miss_rate": 1.5}]),
        ("operating_points", [{"name": "balanced"}]),
        ("default_operating_point", "other"),
        ("default_operating_point", None),
        ("provenance", {"a": 1}),
        ("provenance", []),
        ("files", {"model.onnx": "zz"}),
        ("files", {"../model.onnx": "0" * 64}),
        ("surprise", 1),
    ],
)
def test_a_bad_field_is_named(field, value):
    with pytest.raises(BundleError, match=field):
        Manifest.from_json(json.dumps({**PLAIN, field: value}))


@pytest.mark.parametrize("field", ["id", "version", "sample_rate", "window_samples"])
def test_an_absent_field_is_named(field):
    rest = {name: value for name, value in PLAIN.items() if name != field}
    with pytest.raises(BundleError, match=f"lacks the field '{field}'"):
        Manifest.from_json(json.dumps(rest))


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"id": 1, "id": 2}', '{"id": NaN}', "[" * 100_000]
)
def test_no_json_object(text):
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Manifest.from_json(text)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(PLAIN)), inner),
))  # fmt: skip
def test_any_json_is_read_or_refused(value):
    with contextlib.suppress(BundleError):
        Manifest.from_json(json.dumps(value))


@given(
    slope=st.floats(1e-6, 1e6),
    offset=st.floats(-1e6, 1e6),
    threshold=st.floats(allow_nan=False, allow_infinity=False),
    description=st.text(),
)
def test_json_round_trip(slope, offset, threshold, description):
    manifest = replace(
        Manifest.from_json(json.dumps(PLAIN)),
        calibration=Calibration(slope, offset),
        operating_points=(OperatingPoint("p", threshold, None, 0.5, "d"),),
        default_operating_point="p",
        description=description,
    )
    assert Manifest.from_json(manifest.to_json()) == manifest
