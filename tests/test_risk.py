"""benchmarks/risk.py: curves of rankings known by hand, distances, and no look at the judged."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the recipe's modules need the train extra")

from voiceguard.audio.gate import GatePolicy

RATE = 16_000
QUALITIES = ("speech_s", "snr_db", "clipped", "music", "bandwidth_hz", "level_dbfs", "silence")


@pytest.fixture(scope="module")
def risk(benchmark_scripts):
    with benchmark_scripts("risk") as bench:
        yield bench.risk


def windows_of(risk, llr, bonafide, *, seed=0, shift=0.0):
    """Made-up windows: embeddings near the origin, or `shift` away from it."""
    rng, n = np.random.default_rng(seed), len(llr)
    quality = np.abs(rng.normal(size=(n, len(QUALITIES))))
    quality[::5, 1] = np.nan
    return risk.Windows(
        bonafide=np.asarray(bonafide, bool),
        groups=np.array([f"group {i // 3}" for i in range(n)]),
        families=np.array([f"family {i % 8}" for i in range(n)]),
        llr=np.asarray(llr, float),
        embedding=rng.normal(size=(n, 6)) + shift,
        quality=quality,
    )


def test_a_perfect_ranking_loses_its_errors_first(risk):
    wrong = np.arange(100) % 5 == 0
    curve = risk.risk_coverage(wrong.astype(float), wrong)
    assert curve.at(1.0) == pytest.approx(0.2)
    assert curve.at(0.8) == 0.0
    assert curve.at(0.9) == pytest.approx(10 / 90)
    # Above 80 % every clip more is an error more.
    assert curve.area == pytest.approx(sum(k / (80 + k) for k in range(1, 21)) / 100)
    backwards = risk.risk_coverage(-wrong.astype(float), wrong)
    assert backwards.at(0.2) == 1.0
    assert backwards.at(0.8) == pytest.approx(0.25)


def test_a_random_ranking_gains_nothing(risk):
    rng = np.random.default_rng(1)
    wrong = rng.random(20_000) < 0.3
    curve = risk.risk_coverage(rng.random(20_000), wrong)
    for coverage in (0.2, 0.5, 0.8, 1.0):
        assert curve.at(coverage) == pytest.approx(wrong.mean(), abs=0.02)


def test_both_classes_count_alike(risk):
    bonafide = np.array([True] * 8 + [False] * 2)
    wrong = np.array([True] * 2 + [False] * 6 + [True, False])
    assert risk.risk_coverage(np.zeros(10), wrong, bonafide).at(1.0) == (0.25 + 0.5) / 2
    # To withhold the worse class gains nothing but its own errors.
    curve = risk.risk_coverage((~bonafide).astype(float), wrong, bonafide)
    assert curve.at(0.9) == (0.25 + 1.0) / 2


@settings(max_examples=50)
@given(data=st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=40))
def test_full_coverage_is_the_error_rate_whatever_the_ranking(risk, data):
    doubt, wrong = np.array([d for d, _ in data], float), np.array([w for _, w in data])
    curve = risk.risk_coverage(doubt, wrong)
    assert curve.at(1.0) == pytest.approx(wrong.mean())
    assert curve.coverage[-1] == 1.0
    assert np.all((curve.risk >= 0) & (curve.risk <= 1))


def test_selective_figures_by_hand(risk):
    # Ten each; at 0 two of each class are wrong, and they are the nearest to the threshold.
    llr = [-0.1, -0.2, *range(3, 11), 0.1, 0.2, *range(-10, -2)]
    windows = windows_of(risk, llr, [True] * 10 + [False] * 10)
    found = risk.selective(-np.abs(windows.llr), windows, 0.0, seed=0)
    assert found["error"] == pytest.approx(0.2)
    assert found["error at 80 %"] == found["ratio"] == 0.0
    assert (found["human withheld"], found["synthetic withheld"]) == (0.2, 0.2)
    assert found["ratio low"] <= found["ratio"] <= found["ratio high"]


def test_distances_to_the_training_clips(risk):
    rng = np.random.default_rng(2)
    bonafide = np.arange(4_000) % 2 == 0
    scale = np.array([1.0, 3.0])
    near = rng.normal(size=(4_000, 2)) * scale + np.where(bonafide[:, None], 40.0, -40.0)
    distance = risk.Distance(near, bonafide)
    probes = np.array([[40.0, 40.0], [-40.0, -40.0], [43.0, 40.0], [40.0, 46.0]])
    assert distance.mahalanobis(probes) == pytest.approx([0, 0, 3, 2], abs=0.15)
    assert distance.nearest(near[:5])[0] == pytest.approx(0.0, abs=1e-4)
    assert distance.nearest(np.array([[1.0, -1.0]]))[0] > 0.5


def test_doubts_grow_with_what_is_doubtful(risk):
    train = windows_of(risk, np.ones(200), np.arange(200) % 2 == 0)
    distance = risk.Distance(train.embedding, train.bonafide)
    windows = windows_of(risk, [0.1, 5.0, -5.0], [True, True, False], seed=1)
    windows.quality[:] = [3.0, 20.0, 0.0, 0.0, 8_000, -20, 0.1]
    windows.quality[0] = [0.2, -5.0, 0.3, 0.9, 4_000, -60, 0.9]
    windows.embedding[0] = 9.0
    windows.quality[1, 1] = np.nan  # no noise was heard
    for name, doubt in risk.doubts(windows, distance, 0.0).items():
        assert np.argmax(doubt) == 0, name
    seen = risk.features(windows, distance, 0.0)
    assert np.isfinite(seen).all()
    assert len(seen) == 3


def test_the_risk_of_a_clip_comes_from_other_families(risk):
    rng = np.random.default_rng(3)
    families = np.repeat([f"family {i}" for i in range(20)], 5)
    # Each family is right or wrong as a whole, and one column says which family it is.
    wrong = np.repeat(rng.random(20) < 0.5, 5)
    x = np.repeat(np.eye(20), 5, axis=0)
    inside = risk.risk_model().fit(x, wrong).decision_function(x)
    assert np.mean((inside > 0) == wrong) == 1.0
    crossed = risk.crossed_risk(x, wrong, families)
    spread = [crossed[families == name].std() for name in set(families)]
    assert max(spread) < 1e-9
    assert np.corrcoef(crossed, wrong)[0, 1] < 0.2


def heard(risk, *, wild=7):
    """Sets whose doubtful clips are the ones far out in the embedding."""
    rng = np.random.default_rng(4)
    found = {}
    for number, name in enumerate(("training", "held-out fold", "wild-dev")):
        bonafide = np.arange(240) % 2 == 0
        llr = np.where(bonafide, 2.0, -2.0) + rng.normal(0, 1, 240)
        windows = windows_of(risk, llr, bonafide, seed=wild if number == 2 else number)
        if number:
            far = rng.random(240) < 0.15
            windows.embedding[far] += 8.0
            windows.llr[far] *= np.where(rng.random(far.sum()) < 0.6, -1, 1)
        found[name] = dict.fromkeys(("clean", "g711"), windows)
    return found


@pytest.fixture
def quick(risk, monkeypatch):
    monkeypatch.setattr(risk, "RESAMPLES", 10)


def test_far_out_clips_are_withheld_and_the_error_falls(risk, quick):
    found, curves = risk.judge(heard(risk), 0.0, seed=0)
    assert list(found) == [
        "held-out fold, clean", "held-out fold, G.711", "wild-dev, clean", "wild-dev, G.711",
    ]  # fmt: skip
    for title, each in found.items():
        of = each["selective"]
        assert of["embedding, Mahalanobis"]["ratio"] < 0.55
        assert of["risk model"]["ratio"] < 0.6
        assert of["music"]["ratio"] > 0.6
        assert curves[f"{title}: music"].at(1.0) == of["music"]["error"]
        assert each["calibration"]["cllr"] >= each["calibration"]["min_cllr"]


def test_wild_clips_change_nothing_but_their_own_figures(risk, quick):
    one, other = (risk.judge(heard(risk, wild=seed), 0.0, seed=0)[0] for seed in (7, 8))
    assert one["held-out fold, clean"] == other["held-out fold, clean"]
    assert one["wild-dev, clean"] != other["wild-dev, clean"]


def test_tables_and_plot(risk, quick, tmp_path):
    found, curves = risk.judge(heard(risk), 0.0, seed=0)
    for show in (risk.calibration_table, risk.selective_table):
        title, _, *lines = show(found, markdown=True).rstrip().splitlines()
        assert title
        assert len({line.count("|") for line in lines}) == 1
    risk.plot(found, curves, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    risk.write_json(tmp_path / "all.json", found)


def test_hearing_is_what_the_detector_says_and_is_kept(risk, detector, voice, tmp_path):
    detector = replace(detector, policy=GatePolicy.open())
    clips = [voice(1.0, 2.0), voice(0.7, -3.0)]
    rows = [
        {"label": "bonafide", "group": "a", "origin": "here", "system": "human"},
        {"label": "spoof", "group": "b", "origin": "there", "system": "Kokoro-82M"},
    ]
    makes = []

    def make():
        makes.append(1)
        return risk.hear(detector, [lambda x=x: x for x in clips], rows, "clean")

    path = tmp_path / "scores" / "set.npz"
    first, again = risk.stored(path, make), risk.stored(path, make)
    assert makes == [1]
    assert first.families.tolist() == ["human:here", "kokoro"]
    assert first.bonafide.tolist() == [True, False]
    results = [detector.score((x, RATE)) for x in clips]
    assert first.llr == pytest.approx([result.llr for result in results], abs=1e-5)
    assert first.quality[:, 0].tolist() == [result.speech_s for result in results]
    assert np.array_equal(first.embedding[0], detector.embed((clips[0], RATE)).vectors[0])
    unmeasured = risk.hear(detector, [lambda: clips[0]], rows[:1], "clean", measured=False)
    assert np.isnan(unmeasured.quality).all()
    assert unmeasured.llr == first.llr[:1]
    for name, value in vars(first).items():
        assert np.array_equal(value, getattr(again, name), equal_nan=value.dtype.kind == "f"), name
