"""t-DCF: against the official figures of both versions, and its limits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from voiceguard import metrics
from voiceguard.errors import MetricError, ParameterError


def test_asv_rates_match_the_official_code(asv_scores, expected):
    official = expected["asv_2019_la_eval"]
    assert metrics.eer(asv_scores["target"], asv_scores["nontarget"]).value == pytest.approx(
        official["eer"], abs=1e-9
    )
    rates = metrics.asv_rates(asv_scores["target"], asv_scores["nontarget"], asv_scores["spoof"])
    assert rates.threshold == pytest.approx(official["threshold"], abs=1e-9)
    assert rates.miss_rate == pytest.approx(official["pmiss"], abs=1e-9)
    assert rates.fa_nontarget == pytest.approx(official["pfa"], abs=1e-9)
    assert 1 - rates.fa_spoof == pytest.approx(official["pmiss_spoof"], abs=1e-9)


@pytest.mark.parametrize("name", ["softmax", "amsoftmax", "ocsoftmax"])
@pytest.mark.parametrize(
    ("version", "key"), [("2019", "min_tdcf_legacy_2019"), ("2021", "min_tdcf_revised_2021")]
)
def test_min_tdcf_matches_the_official_code(
    name, version, key, system_scores, asv_scores, expected
):
    bonafide, spoof, _ = system_scores(name)
    rates = metrics.asv_rates(asv_scores["target"], asv_scores["nontarget"], asv_scores["spoof"])
    found = metrics.min_tdcf(bonafide, spoof, asv=rates, version=version)
    assert found.version == version
    assert found.value == pytest.approx(expected[name][key], abs=1e-9)


def test_asvspoof5_min_tdcf_matches_the_official_code(asvspoof5_dev, expected):
    cm, kind = asvspoof5_dev[:, 1], asvspoof5_dev[:, 2]
    found = metrics.min_tdcf(cm[kind != 0], cm[kind == 0], asv=metrics.ASVSPOOF5_ASV_RATES)
    assert found.value == pytest.approx(expected["asvspoof5_dev_scores"]["min_tdcf"], abs=1e-9)


def test_perfect_countermeasure():
    """Legacy: nothing left. Revised: the verifier's own errors remain."""
    asv = metrics.AsvRates(miss_rate=0.02, fa_nontarget=0.02, fa_spoof=0.5)
    legacy = metrics.min_tdcf([1.0, 2.0], [-1.0, 0.0], asv=asv, version="2019")
    revised = metrics.min_tdcf([1.0, 2.0], [-1.0, 0.0], asv=asv, version="2021")
    assert legacy.value == 0.0
    floor = 0.9405 * 0.02 + 0.0095 * 10 * 0.02
    assert revised.value == pytest.approx(floor / (floor + 0.05 * 10 * 0.5))


@pytest.mark.parametrize("version", ["2019", "2021"])
def test_useless_countermeasure_costs_one(version):
    rng = np.random.default_rng(4)
    asv = metrics.AsvRates(miss_rate=0.05, fa_nontarget=0.05, fa_spoof=0.3)
    scores = rng.normal(size=4000)
    found = metrics.min_tdcf(-1.0 - np.abs(scores), scores[:2000] ** 2, asv=asv, version=version)
    assert found.value == pytest.approx(1.0)


def test_versions_differ():
    rng = np.random.default_rng(5)
    asv = metrics.ASVSPOOF5_ASV_RATES
    classes = rng.normal(1, 1, 500), rng.normal(-1, 1, 500)
    legacy = metrics.min_tdcf(*classes, asv=asv, version="2019").value
    assert legacy < metrics.min_tdcf(*classes, asv=asv, version="2021").value


@pytest.mark.parametrize(
    "rates",
    [
        metrics.AsvRates(miss_rate=1.0, fa_nontarget=0.5, fa_spoof=0.5),
        metrics.AsvRates(miss_rate=0.02, fa_nontarget=0.02, fa_spoof=0.0),
    ],
)
def test_a_verifier_without_use_or_without_need_is_refused(rates):
    with pytest.raises(MetricError, match="better than no verifier"):
        metrics.min_tdcf([1.0], [0.0], asv=rates)


def test_parameters_are_checked():
    asv = metrics.ASVSPOOF5_ASV_RATES
    with pytest.raises(ParameterError, match="'version' parameter of min_tdcf"):
        metrics.min_tdcf([1.0], [0.0], asv=asv, version="2020")
    with pytest.raises(ParameterError, match="'fa_spoof' parameter of AsvRates"):
        dataclasses.replace(asv, fa_spoof=1.5)
    with pytest.raises(ParameterError, match="must sum to 1"):
        metrics.TandemCosts(p_target=0.9)
    with pytest.raises(ParameterError, match="'c_fa' parameter of TandemCosts"):
        metrics.TandemCosts(c_fa=-1.0)
