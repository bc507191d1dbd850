"""benchmarks/fairness.py: intervals as published, groups and rates as counted by hand."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard.audio.gate import GatePolicy
from voiceguard.errors import ParameterError

pytest.importorskip("torch", reason="the benchmark's modules need the train extra")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bench(benchmark_scripts):
    with benchmark_scripts("_people", "_trials", "fairness") as found:
        yield found


# Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine
# 1998, table I, method 3.
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(bench, hits, n, low, high):
    assert bench.fairness.wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


@given(n=st.integers(1, 5_000), part=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_wilson_interval_holds_the_share_and_mirrors(bench, n, part, confidence):
    hits = round(part * n)
    low, high = bench.fairness.wilson(hits, n, confidence=confidence)
    assert 0.0 <= low <= hits / n <= high <= 1.0
    mirrored = bench.fairness.wilson(n - hits, n, confidence=confidence)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(
    ("hits", "n", "confidence"), [(3, 2, 0.9), (-1, 2, 0.9), (0, 0, 0.9), (1, 2, 1.0)]
)
def test_wilson_refuses_what_is_no_share(bench, hits, n, confidence):
    with pytest.raises(ParameterError, match="0 <= hits <= n"):
        bench.fairness.wilson(hits, n, confidence=confidence)


@pytest.mark.parametrize(
    ("speaker", "sex"),
    [
        ("VCTK_p225", "female"),
        ("VCTK_p226", "male"),
        ("VCTK_p2250", "unknown"),
        ("CMUARCTIC_aew", "male"),
        ("ARCTIC_clb", "female"),
        ("VCC2018_SF3", "female"),
        ("VCC2018_TM1", "male"),
        ("adaspeech2_228F", "female"),
        ("0ad_latin-female", "female"),
        ("kaldi-yesno_anonymous_male", "male"),
        ("ALGANVC_Speaker_2_Male_Bengal_Region", "male"),
        ("indextts_p1_Child-1", "unknown"),
        ("cmn_chen-wang", "unknown"),
        ("germany_herman", "unknown"),
    ],
)
def test_sex_is_said_where_a_name_says_it(bench, speaker, sex):
    assert bench.people.sex_of({"speaker": speaker}) == sex


@pytest.mark.parametrize(
    ("row", "age"),
    [
        ({"speaker": "indextts_p1_Child-1"}, "child"),
        ({"speaker": "someone", "method": "kids at home"}, "child"),
        ({"speaker": "VCTK_p225"}, "adult"),
        ({"speaker": "meanspeech_female-uk"}, "unknown"),
        ({"speaker": "LS_kidd"}, "unknown"),
    ],
)
def test_age_is_said_where_a_row_says_it(bench, row, age):
    assert bench.people.age_of(row) == age


@pytest.mark.parametrize(
    ("row", "band"),
    [
        ({"original_rate_hz": "8000"}, "8 kHz"),
        ({"original_rate_hz": "11025"}, "wide"),
        ({"orig_rate": "16000", "method": "telephone_8k call-centre"}, "8 kHz"),
        ({"orig_rate": "16000", "orig_codec": "gsm"}, "8 kHz"),
        ({"original_rate_hz": "16000", "domain": "broadband_stt_demo"}, "wide"),
        ({"original_rate_hz": "16000", "domain": "telephone_narrowband_stt_demo"}, "8 kHz"),
        ({"orig_rate": "48000", "method": "studio48k"}, "wide"),
        ({}, "wide"),
    ],
)
def test_bandwidth(bench, row, band):
    assert bench.people.bandwidth_of(row) == band


def rows_of(languages, label="bonafide", system="human"):
    return [
        {
            "id": f"{label}{i}",
            "label": label,
            "system": system,
            "speaker": f"s{i // 2}",
            "language": language,
            "group": "g",
        }
        for i, language in enumerate(languages)
    ]


def test_small_groups_are_pooled_and_groupings_of_one_group_left_out(bench):
    rows = rows_of(["en"] * 6 + ["fr"] * 4 + ["da"] + ["de"])
    rows[0]["speaker"] = "a_female"
    found = bench.people.grouped(rows, smallest=3)
    assert set(found) == {"language", "sex"}
    assert found["language"] == ["en"] * 6 + ["fr"] * 4 + ["smaller groups"] * 2
    assert found["sex"] == ["female"] + ["unknown"] * 11


@pytest.fixture
def judged():
    """Forty English clips of which four are flagged, ten French of which eight; 20 fakes."""
    rows = rows_of(["en"] * 40 + ["fr"] * 10)
    values = [-1.0] * 4 + [2.0] * 36 + [-1.0] * 8 + [2.0] * 2
    fakes = rows_of(["en"] * 20, "spoof", "old")
    for row in fakes[:5]:
        row["system"] = "new"
    # No two values are alike, so that the EER's line splits no tie.
    return rows + fakes, np.array(values + [1.0] * 4 + [-2.0] * 16) + 1e-4 * np.arange(70)


def test_rates_of_groups(bench, judged):
    rows, values = judged
    found = bench.fairness.study(rows, values, balanced=0.0, smallest=5)
    human = {group.name: group for group in found["human"]}
    assert human["all people"].balanced.value == 12 / 50
    assert human["all people"].clips == 50
    assert human["fr"].balanced.value == 0.8
    assert (human["fr"].balanced.low, human["fr"].balanced.high) == bench.fairness.wilson(8, 10)
    assert (human["fr"].clips, human["fr"].speakers) == (10, 5)
    assert human["en"].balanced.value == 0.1
    assert [group.name for group in found["human"]] == ["all people", "fr", "en"]
    synthetic = {group.name: group.balanced.value for group in found["synthetic"]}
    assert synthetic == {"all systems": 0.2, "new": 0.8, "old": 0.0}
    assert [group.name for group in found["worst"]] == ["fr"]


def test_own_line_is_that_of_the_eer_and_serves_without_an_operating_point(bench, judged):
    from voiceguard import metrics

    rows, values = judged
    found = bench.fairness.study(rows, values, balanced=None, smallest=5)
    everyone, every_system = found["human"][0], found["synthetic"][0]
    equal = metrics.eer(values[:50], values[50:])
    assert everyone.balanced is None
    assert everyone.own_line.value == equal.miss_rate
    assert every_system.own_line.value == pytest.approx(equal.false_alarm_rate)
    text = bench.fairness.group_table("title", found["human"], markdown=True)
    assert "| all | all people | 50 | 25 | - |" in text


class Counting:
    def __init__(self, bench):
        self.calls = 0
        self.system = bench.trials.System("any", "f" * 64, self)

    def __call__(self, clips):
        self.calls += 1
        return np.array([float(len(x)) / 3 for x in clips])


@pytest.fixture
def folder(tmp_path):
    """Five recordings with a manifest."""
    import soundfile

    lines = ["id,path,label,system,speaker,language,group"]
    for i in range(5):
        soundfile.write(tmp_path / f"{i}.wav", np.full(1_600 + i, 0.1), 16_000)
        label, system = ("bonafide", "human") if i < 3 else ("spoof", "old")
        lines.append(f"c{i},{i}.wav,{label},{system},s{i},en,g{i}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def options(folder, **given):
    return argparse.Namespace(**{"data": folder, "rows": None, "held_out": False, **given})


def test_scores_are_written_once_then_read(bench, folder):
    rows = bench.trials.chosen_rows(options(folder), {})
    counting, path = Counting(bench), folder / "scores.csv"
    first = bench.fairness.scored(rows, counting.system, folder, path)
    assert first.tolist() == [(1_600 + i) / 3 for i in range(5)]
    again = bench.fairness.scored(rows[::-1], counting.system, folder, path)
    assert again.tolist() == first.tolist()[::-1]
    assert counting.calls == 1
    path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    with pytest.raises(ParameterError, match=r"2 lack one \(c3 first\)"):
        bench.fairness.scored(rows, counting.system, folder, path)


def test_listed_rows_are_chosen_and_one_class_alone_is_refused(bench, folder):
    listed = folder / "rows.txt"
    listed.write_text("c1\n3.wav\n")
    rows = bench.trials.chosen_rows(options(folder, rows=listed), {})
    assert [row["id"] for row in rows] == ["c1", "c3"]
    listed.write_text("c1\n")
    with pytest.raises(ParameterError, match="both classes"):
        bench.trials.chosen_rows(options(folder, rows=listed), {})


def test_bundle_hears_the_first_window_as_the_detector_does(bench, detector, voice):
    opened = replace(detector, policy=GatePolicy.open())
    system = bench.trials.bundle_system(opened)
    long, short = voice(2.5, 3.0), voice(0.7, -2.0)
    values = system.score([long, short])
    assert values[1] == pytest.approx(opened.score((short, 16_000)).llr, abs=1e-3)
    first = opened.score((long, 16_000)).segments[0]
    assert values[0] == pytest.approx(first.llr, abs=1e-3)
    assert (system.balanced, system.calibrated) == (0.0, True)


def test_held_out_rows_of_the_corpus_are_those_of_the_bundle(bench):
    import json

    from voiceguard.detect.registry import default_model

    corpus = ROOT.parent / "shared" / "corpus"
    if not corpus.is_dir():
        pytest.skip("the corpus is not at hand")
    # vg-base trained on every clip; the model for live calls held a part of a fold out.
    said = json.loads((default_model("live") / "bundle.json").read_text())["provenance"]
    rows = bench.trials.chosen_rows(options(corpus, held_out=True), said)
    every = bench.trials.chosen_rows(options(corpus), said)
    assert 100 < len(rows) < len(every) / 4
    assert not any(row["derived_from"] for row in rows)
