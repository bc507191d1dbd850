"""Results: the posterior's formula, the JSON form and the schema that describes it."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.errors import ParameterError
from voiceguard.results import (
    ChannelResult,
    Label,
    ModelInfo,
    OperatingPoint,
    Quality,
    Reason,
    Result,
    Segment,
    posterior_spoof,
    result_schema,
)

DEFINITIONS = {
    "segment": Segment,
    "channel": ChannelResult,
    "quality": Quality,
    "model": ModelInfo,
    "operating_point": OperatingPoint,
}


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    schema = result_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(0, 1e6)
share = st.floats(0, 1)
reasons = st.lists(st.sampled_from(Reason), max_size=3).map(tuple)
qualities = st.builds(
    Quality, positive, positive, numbers, st.none() | numbers, share, positive, share,
    st.none() | st.sampled_from(["dtmf", "fax"]), share,
)  # fmt: skip
segments = st.builds(
    Segment, positive, positive, st.sampled_from(Label), st.none() | numbers, st.none() | numbers,
    st.none() | share, reasons, st.none() | qualities,
)  # fmt: skip
channels = st.builds(
    ChannelResult, st.integers(0, 7), st.sampled_from(Label), st.none() | numbers,
    st.none() | numbers, st.none() | share, reasons, positive, st.lists(segments).map(tuple),
    qualities,
)  # fmt: skip
points = st.builds(
    OperatingPoint, st.text(), numbers, st.none() | share, st.none() | share, st.text()
)
results = st.builds(
    Result,
    label=st.sampled_from(Label),
    score=st.none() | numbers,
    llr=st.none() | numbers,
    p_spoof=st.none() | share,
    prior_spoof=st.floats(0.001, 0.999),
    reasons=reasons,
    segments=st.lists(segments, max_size=2).map(tuple),
    channels=st.lists(channels, min_size=1, max_size=2).map(tuple),
    speech_s=positive,
    duration_s=positive,
    sample_rate=st.integers(1, 192_000),
    model=st.builds(ModelInfo, st.text(), st.text(), st.just("0f" * 32)),
    operating_point=st.none()
    | st.builds(
        OperatingPoint, st.text(), numbers, st.none() | share, st.none() | share, st.text()
    ),
    warnings=st.lists(st.text(), max_size=2).map(tuple),
    elapsed_s=positive,
    path=st.none() | st.text() | st.just("odd \udcff name"),
)


@settings(deadline=None, max_examples=50)
@given(result=results)
def test_the_json_form_fits_the_schema(validator, result):
    plain = json.loads(result.to_json())
    validator.validate(plain)
    assert plain == result.to_dict()
    assert result.to_json().isascii(), "an odd file name is escaped, so any encoding carries it"


@pytest.mark.parametrize(("name", "record"), [(None, Result), *DEFINITIONS.items()])
def test_the_schema_lists_exactly_the_fields(name, record):
    schema = result_schema()
    described = schema if name is None else schema["$defs"][name]
    fields = [field.name for field in dataclasses.fields(record)]
    assert list(described["properties"]) == fields
    assert described["required"] == fields
    assert described["additionalProperties"] is False


def test_the_schema_lists_exactly_the_codes():
    definitions = result_schema()["$defs"]
    assert definitions["label"]["enum"] == [label.value for label in Label]
    assert definitions["reason"]["enum"] == [reason.value for reason in Reason]


@settings(deadline=None, max_examples=50)
@given(result=results)
def test_the_schema_refuses_what_is_no_result(validator, result):
    plain = result.to_dict()
    for change in ({"label": "fake"}, {"p_spoof": 1.5}, {"extra": 1}, {"channels": []}):
        assert not validator.is_valid({**plain, **change})
    del plain["llr"]
    assert not validator.is_valid(plain)


@settings(deadline=None, max_examples=50)
@given(result=results)
def test_numbers_that_are_not_finite_never_leave(result):
    with pytest.raises(ValueError, match="JSON compliant"):
        dataclasses.replace(result, score=math.nan).to_json()


@given(st.floats(-30, 30), st.floats(0.01, 0.99))
def test_the_posterior_is_bayes_rule(llr, prior):
    """From the two likelihoods themselves, p(x | bonafide) = exp(llr) p(x | spoof)."""
    expected = prior / (prior + (1 - prior) * math.exp(llr))
    assert posterior_spoof(llr, prior) == pytest.approx(expected, rel=1e-9)


@given(st.floats(allow_nan=False), st.floats(1e-12, 1 - 1e-12))
def test_the_posterior_stays_a_probability(llr, prior):
    assert 0.0 <= posterior_spoof(llr, prior) <= 1.0


@pytest.mark.parametrize("prior", [0.0, 1.0, -1.0, math.nan])
def test_a_bad_prior_is_refused(prior):
    with pytest.raises(ParameterError, match="'prior_spoof'"):
        posterior_spoof(0.0, prior)
