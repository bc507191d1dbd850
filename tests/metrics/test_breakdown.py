"""Breakdowns: the published figures of each attack, and groups that lack a class."""

from __future__ import annotations

import pytest

from voiceguard import metrics
from voiceguard.errors import MetricError


@pytest.mark.parametrize("name", ["softmax", "amsoftmax", "ocsoftmax"])
def test_every_attack_matches_the_official_code(name, system_scores, expected):
    bonafide, spoof, attacks = system_scores(name)
    rows = metrics.breakdown(metrics.eer, bonafide, spoof, spoof_groups=attacks)
    found = {row.group: row.result.value for row in rows}
    assert found == pytest.approx(expected[name]["eer_by_attack"], abs=1e-9)
    assert sum(row.n_spoof for row in rows) == spoof.size


def test_both_classes_by_codec():
    rows = metrics.breakdown(
        metrics.eer,
        [3.0, 0.0, 5.0],
        [1.0, 2.0, 9.0],
        bonafide_groups=["alaw", "gsm", "opus"],
        spoof_groups=["alaw", "gsm", "none"],
    )
    assert [row.group for row in rows] == ["alaw", "gsm", "none", "opus"]
    assert [row.result and row.result.value for row in rows] == [0.0, 1.0, None, None]
    assert [(row.n_bonafide, row.n_spoof) for row in rows] == [(1, 1), (1, 1), (0, 1), (1, 0)]


def test_groups_must_fit():
    with pytest.raises(MetricError, match="'spoof_groups' must name a group for each of the 2"):
        metrics.breakdown(metrics.eer, [1.0], [0.0, 1.0], spoof_groups=["A01"])
