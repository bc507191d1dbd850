"""a-DCF and t-EER: against the official figures and a search over every pair of thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard import metrics
from voiceguard.errors import MetricError

SCORES = st.lists(st.integers(-8, 8), min_size=2, max_size=12)


def test_a_dcf_matches_the_official_code(asvspoof5_dev, expected):
    asv, cm, kind = asvspoof5_dev.T
    scores = sum((one - one.mean()) / one.std() for one in (asv, cm))
    found = metrics.a_dcf(scores[kind == 1], scores[kind == 2], scores[kind == 0])
    assert found.value == pytest.approx(expected["asvspoof5_dev_scores"]["a_dcf"], abs=1e-9)


def test_t_eer_matches_the_official_code(asvspoof5_dev, expected):
    asv, cm, kind = asvspoof5_dev.T
    found = metrics.t_eer(
        cm[kind != 0],
        cm[kind == 0],
        target_asv_scores=asv[kind == 1],
        nontarget_asv_scores=asv[kind == 2],
        spoof_asv_scores=asv[kind == 0],
    )
    percent = expected["asvspoof5_dev_scores"]["t_eer"]
    assert 100 * found.value == pytest.approx(percent, abs=1e-9)


def exhaustive_t_eer(bonafide, spoof, target, nontarget, spoof_asv):
    """The same point by trying every threshold of the one system with every one of the other."""
    cm = metrics.error_curve(bonafide, spoof)
    joined = np.concatenate((target, nontarget, spoof_asv))
    kinds = np.repeat((0, 1, 2), (len(target), len(nontarget), len(spoof_asv)))
    kinds = kinds[np.argsort(joined, kind="stable")]
    best, value = np.inf, None
    for rejected in range(joined.size + 1):
        miss = np.sum(kinds[:rejected] == 0) / len(target)
        fa = np.sum(kinds[rejected:] == 1) / len(nontarget)
        fa_spoof = np.sum(kinds[rejected:] == 2) / len(spoof_asv)
        lost = cm.miss_rate + (1 - cm.miss_rate) * miss
        let_in = 0.5 * (1 - cm.miss_rate) * fa + 0.5 * cm.false_alarm_rate * fa_spoof
        at = int(np.argmin(np.abs(lost - let_in)))
        if miss >= 0.5 * fa + 0.5 * fa_spoof or fa_spoof == 0 or cm.miss_rate[at] == 1:
            continue
        gap = abs(fa / fa_spoof - cm.false_alarm_rate[at] / (1 - cm.miss_rate[at]))
        if gap < best:
            best, value = gap, fa_spoof * cm.false_alarm_rate[at]
    return value


@settings(max_examples=150)
@given(SCORES, SCORES, SCORES, SCORES, SCORES)
def test_t_eer_agrees_with_an_exhaustive_search(bonafide, spoof, target, nontarget, spoof_asv):
    options = {
        "target_asv_scores": target,
        "nontarget_asv_scores": nontarget,
        "spoof_asv_scores": spoof_asv,
    }
    expected = exhaustive_t_eer(bonafide, spoof, target, nontarget, spoof_asv)
    if expected is None:
        with pytest.raises(MetricError, match="verifier threshold"):
            metrics.t_eer(bonafide, spoof, **options)
    else:
        assert metrics.t_eer(bonafide, spoof, **options).value == pytest.approx(expected, abs=1e-12)


def test_t_eer_balances_all_three_rates_where_trials_abound():
    rng = np.random.default_rng(6)
    n = 20_000
    bonafide_cm, spoof_cm = rng.normal(2, 1, 2 * n), rng.normal(-1, 1, n)
    target, nontarget, spoof_asv = (rng.normal(mean, 1, n) for mean in (3, -1, 2))
    found = metrics.t_eer(
        bonafide_cm,
        spoof_cm,
        target_asv_scores=target,
        nontarget_asv_scores=nontarget,
        spoof_asv_scores=spoof_asv,
    )
    passes = np.mean(bonafide_cm > found.cm_threshold)
    missed = 1 - passes * np.mean(target > found.asv_threshold)
    nontargets_in = passes * np.mean(nontarget > found.asv_threshold)
    spoofs_in = np.mean(spoof_cm > found.cm_threshold) * np.mean(spoof_asv > found.asv_threshold)
    assert missed == pytest.approx(found.value, abs=2e-3)
    assert nontargets_in == pytest.approx(found.value, abs=2e-3)
    assert spoofs_in == pytest.approx(found.value, abs=2e-3)


@given(SCORES, SCORES, SCORES)
def test_a_dcf_never_costs_more_than_ignoring_the_score(target, nontarget, spoof):
    assert 0.0 <= metrics.a_dcf(target, nontarget, spoof).value <= 1.0 + 1e-12


def test_a_dcf_by_hand():
    """All impostors below all targets cost nothing; one spoof above them costs its share."""
    assert metrics.a_dcf([3.0, 4.0], [0.0], [1.0]).value == 0.0
    costs = metrics.TandemCosts(p_target=0.5, p_nontarget=0.25, p_spoof=0.25, c_fa=1, c_fa_spoof=1)
    found = metrics.a_dcf([3.0, 4.0], [0.0], [1.0, 5.0], costs=costs)
    assert found.value == pytest.approx(0.25 * 0.5 / 0.5)
    assert (found.miss_rate, found.fa_nontarget, found.fa_spoof) == (0.0, 0.0, 0.5)


def test_classes_are_named_when_refused():
    with pytest.raises(MetricError, match="'nontarget_scores' must hold"):
        metrics.a_dcf([1.0], [], [1.0])
