"""The detector from door to result, on a graph whose scores are known by hand."""

from __future__ import annotations

import gc
import io
import math
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

import voiceguard
from voiceguard.audio import Limits, read
from voiceguard.audio.quality import GatePolicy
from voiceguard.detect import detector as detector_module
from voiceguard.detect.bundle import read_bundle
from voiceguard.detect.calibration import Calibration
from voiceguard.detect.detector import UNCALIBRATED, Detector
from voiceguard.detect.engine import OnnxEngine
from voiceguard.errors import (
    AudioError,
    AudioFormatError,
    AudioLimitError,
    AudioNotFoundError,
    BundleError,
    ParameterError,
)
from voiceguard.results import Label, OperatingPoint, Reason

RATE = 16_000


def wav_bytes(samples: np.ndarray, rate: int = RATE) -> bytes:
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    soundfile.write(out, np.atleast_2d(samples).T, rate, format="WAV", subtype="FLOAT")
    return out.getvalue()


def test_human_and_synthetic(detector, voice):
    human = detector.score((voice(3.0, 5.0), RATE))
    assert human.label is Label.BONAFIDE
    assert human.llr == pytest.approx(5.0, abs=0.2)
    assert human.p_spoof == pytest.approx(1 / (1 + math.exp(human.llr)))
    spoof = detector.score((voice(3.0, -5.0), RATE))
    assert spoof.label is Label.SPOOF
    assert spoof.p_spoof > 0.98
    assert spoof.operating_point.name == "balanced"
    assert spoof.model.id == "tiny"
    assert spoof.duration_s == pytest.approx(3.0)
    assert [(s.start_s, s.end_s) for s in spoof.segments] == [
        (i * 0.5, i * 0.5 + 1.0) for i in range(5)
    ]


def test_a_short_synthetic_passage_shows(detector, voice):
    call = np.concatenate([voice(10.0, 6.0), voice(2.0, -6.0), voice(10.0, 6.0)])
    result = detector.score((call, RATE))
    assert result.label is Label.SPOOF
    assert result.score > 0, "the plain mean would have hidden it"
    spoof = [s for s in result.segments if s.state is Label.SPOOF]
    assert spoof
    assert all(s.end_s > 10.0 and s.start_s < 12.0 for s in spoof)


def test_every_door_gives_the_same(detector, voice, tmp_path):
    x = voice(2.0, 3.0)
    raw = wav_bytes(x)
    path = tmp_path / "a.wav"
    path.write_bytes(raw)
    reference = detector.score((x, RATE))
    audio = read(path)
    doors = [path, str(path), raw, io.BytesIO(raw), {"array": x, "sampling_rate": RATE}, audio]
    for source in doors:
        assert detector.score(source).segments == reference.segments
    assert detector.score(x, sample_rate=RATE).segments == reference.segments
    assert detector.score(path).path == str(path)
    assert detector.score(audio).path == str(path)


def test_an_audio_of_another_rate_is_resampled(detector, voice, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(voice(2.0, 3.0)[::2], 8_000))
    kept = read(path, sample_rate=None)
    assert kept.sample_rate == 8_000
    result = detector.score(kept)
    assert result.sample_rate == 8_000
    assert result.path == str(path)
    assert result.score == pytest.approx(detector.score(path).score, abs=1e-4)


def test_the_rate_is_never_guessed(detector, voice):
    x = voice(1.0)
    with pytest.raises(AudioFormatError, match="rate"):
        detector.score(x)
    with pytest.raises(ParameterError, match="'sample_rate' parameter of score"):
        detector.score((x, RATE), sample_rate=RATE)
    with pytest.raises(ParameterError, match="'sample_rate' parameter of score"):
        detector.score(read((x, RATE)), sample_rate=RATE)


def test_channels_are_kept_apart(detector, voice):
    agent, caller = voice(3.0, 5.0, seed=1), voice(3.0, -5.0, seed=2)
    both = detector.score((np.stack([agent, caller]), RATE))
    alone = [detector.score((x, RATE)) for x in (agent, caller)]
    assert [c.label for c in both.channels] == [Label.BONAFIDE, Label.SPOOF]
    for channel, single in zip(both.channels, alone, strict=True):
        assert channel.segments == single.segments
        assert channel.llr == single.llr
    assert both.label is Label.SPOOF
    assert both.llr == alone[1].llr
    assert both.segments == both.channels[1].segments


def test_a_silent_channel_does_not_speak_for_the_call(detector, voice):
    call = np.stack([np.zeros(3 * RATE, np.float32), voice(3.0, 5.0)])
    result = detector.score((call, RATE))
    assert result.label is Label.BONAFIDE
    assert result.channels[0].label is Label.INCONCLUSIVE
    assert result.channels[0].reasons


@pytest.mark.parametrize("seconds", [0.0, 1 / RATE, 0.01, 3.0])
def test_nothing_to_judge_is_inconclusive_with_reasons(detector, seconds):
    result = detector.score((np.zeros(int(seconds * RATE), np.float32), RATE))
    assert result.label is Label.INCONCLUSIVE
    assert result.reasons
    assert (result.score, result.llr, result.p_spoof) == (None, None, None)
    assert all(s.state is Label.INCONCLUSIVE and s.reasons for s in result.segments)


def test_too_little_speech_is_inconclusive(detector, voice):
    quiet = np.random.default_rng(0).normal(0, 1e-4, 4 * RATE).astype(np.float32)
    quiet[:8_000] += voice(0.5, 0.0)
    result = detector.score((quiet, RATE))
    assert result.label is Label.INCONCLUSIVE
    assert Reason.TOO_SHORT in result.reasons


def test_blocked_windows_never_reach_the_graph(detector, voice, monkeypatch):
    rows = []
    run = OnnxEngine.run
    monkeypatch.setattr(OnnxEngine, "run", lambda self, w: rows.append(len(w)) or run(self, w))
    call = np.concatenate([voice(3.0, 5.0), np.zeros(6 * RATE, np.float32), voice(3.0, 5.0)])
    result = detector.score((call, RATE))
    judged = [s for s in result.segments if s.score is not None]
    assert sum(rows) == len(judged) < len(result.segments)
    assert result.label is Label.BONAFIDE


def test_digital_silence_at_the_ends_says_nothing(detector, voice):
    call = voice(3.0, 1.0)
    pad = np.zeros(round(1.3 * RATE), np.float32)
    bare, padded = (
        detector.score((x, RATE)) for x in (call, np.concatenate([pad, call, pad, pad]))
    )
    assert padded.score == pytest.approx(bare.score, abs=1e-6)
    assert padded.duration_s == pytest.approx(bare.duration_s + 3.9)
    for late, early in zip(padded.segments, bare.segments, strict=True):
        assert late.start_s == pytest.approx(early.start_s + 1.3)
        assert late.end_s == pytest.approx(early.end_s + 1.3)


def test_the_policy_decides_what_is_judged(calibrated, voice):
    x = (voice(3.0, 5.0), RATE)
    strict = Detector.load(calibrated, policy=GatePolicy(min_speech_s=60.0))
    assert strict.score(x).reasons[0] is Reason.TOO_SHORT
    assert Detector.load(calibrated).score(x).label is Label.BONAFIDE


def test_an_uncalibrated_model_says_so(raw_detector, voice):
    result = raw_detector.score((voice(2.0, 3.0), RATE))
    assert result.score == pytest.approx(3.0, abs=0.2)
    assert (result.llr, result.p_spoof, result.operating_point) == (None, None, None)
    assert result.label is Label.INCONCLUSIVE
    assert Reason.UNCALIBRATED in result.reasons
    assert UNCALIBRATED in result.warnings


def test_operating_points_by_name_and_of_your_own(detector, voice):
    x = (voice(2.0, -2.0), RATE)
    assert detector.score(x).label is Label.SPOOF
    lenient = detector.score(x, operating_point="low_false_alarm")
    assert lenient.label is Label.BONAFIDE
    assert lenient.operating_point.false_alarm_rate == 0.01
    own = OperatingPoint("mine", -1.0, None, None, "my calls")
    assert detector.score(x, operating_point=own).label is Label.SPOOF
    with pytest.raises(ParameterError, match="'balanced', 'low_false_alarm'"):
        detector.score(x, operating_point="blanced")


def test_the_prior_moves_the_posterior_alone(detector, voice):
    x = (voice(2.0, 2.0), RATE)
    even, rare = detector.score(x), detector.score(x, prior_spoof=0.001)
    assert rare.llr == even.llr
    assert rare.label == even.label
    odds = rare.p_spoof / (1 - rare.p_spoof)
    assert odds == pytest.approx(math.exp(-rare.llr) * 0.001 / 0.999)


def test_limits_reach_the_reader(detector, voice):
    with pytest.raises(AudioLimitError):
        detector.score((voice(2.0), RATE), limits=Limits(max_duration_s=1.0))


def test_warnings_of_the_reader_are_passed_on(detector, voice):
    x = voice(2.0, 5.0)
    x[100] = np.nan
    assert any("NaN" in w or "finite" in w for w in detector.score((x, RATE)).warnings)


def test_any_batch_gives_the_same_window_scores(calibrated, voice):
    bundle = read_bundle(calibrated)
    x = (voice(9.0, 1.0), RATE)
    results = []
    for max_batch in (1, 3, 64):
        whole = Detector.from_bundle(bundle)
        engine = OnnxEngine(bundle.graph, window_samples=RATE, embedding_dim=3, max_batch=max_batch)
        results.append(replace(whole, engine=engine).score(x))
    for result in results[1:]:
        for a, b in zip(result.segments, results[0].segments, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-5)


def test_sixteen_threads_give_the_serial_results(detector, voice):
    calls = [(voice(1.5 + i / 8, 1.0 * (i - 8), seed=i), RATE) for i in range(16)]

    def judged(source):
        return replace(detector.score(source), elapsed_s=0.0).to_json()

    serial = [judged(call) for call in calls]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(judged, calls * 3)) == serial * 3


def test_the_same_bytes_give_the_same_result(calibrated, voice):
    x = (voice(3.0, 1.0), RATE)
    first, second = (replace(Detector.load(calibrated).score(x), elapsed_s=0.0) for _ in range(2))
    assert first == second


def test_a_detector_never_changes(detector):
    with pytest.raises(FrozenInstanceError):
        detector.policy = GatePolicy()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_bad_file_never_stops_the_rest(detector, voice, tmp_path, workers):
    good = tmp_path / "good.wav"
    good.write_bytes(wav_bytes(voice(2.0, 5.0)))
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    sources = [good, text, tmp_path / "absent.wav", voice(1.0), 7, good]
    seen = []
    rows = list(detector.score_many(iter(sources), workers=workers, on_progress=seen.append))
    assert rows == seen
    assert [row.source is source for row, source in zip(rows, sources, strict=True)] == [True] * 6
    assert [row.error is None for row in rows] == [True, False, False, False, False, True]
    assert [row.result is None for row in rows] == [False, True, True, True, True, False]
    assert isinstance(rows[2].error, AudioNotFoundError)
    assert all(isinstance(row.error, AudioError) for row in rows[1:5])


def test_even_a_crash_inside_is_a_row(detector, voice, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("decoder fell over")

    monkeypatch.setattr(detector_module, "assess", broken)
    (row,) = detector.score_many([(voice(1.0), RATE)])
    assert isinstance(row.error, RuntimeError)


def test_kept_errors_keep_no_audio_alive(detector, voice):
    class Watched(np.ndarray):
        """An array that can be watched for its end."""

    x = np.concatenate([voice(1.0)] * 3).view(Watched)
    alive = weakref.ref(x)
    limits = Limits(max_duration_s=1.0)
    rows = [replace(row, source=None) for row in detector.score_many([(x, RATE)], limits=limits)]
    del x
    gc.collect()
    assert isinstance(rows[0].error, AudioLimitError)
    assert alive() is None


def test_score_many_checks_its_arguments_at_once(detector):
    with pytest.raises(ParameterError, match="operating_point"):
        detector.score_many([], operating_point="other")
    with pytest.raises(ParameterError, match="prior_spoof"):
        detector.score_many([], prior_spoof=2.0)


@pytest.mark.parametrize("workers", [0, -1, True, 2.0, "2"])
def test_the_number_of_workers_is_checked_at_once(detector, workers):
    with pytest.raises(ParameterError, match="'workers' parameter of score_many must be an int"):
        detector.score_many([], workers=workers)


def test_several_at_a_time_give_what_each_gives_alone(detector, voice):
    sources = [(voice(2.0 + i / 7, float(i - 5), seed=i), RATE) for i in range(10)]
    alone = [replace(detector.score(source), elapsed_s=0.0) for source in sources]
    rows = list(detector.score_many(sources, workers=3))
    assert [replace(row.result, elapsed_s=0.0) for row in rows] == alone
    assert len({result.score for result in alone}) == 10


def test_score_many_draws_one_source_at_a_time(detector, voice):
    drawn = []

    def sources():
        for i in range(3):
            drawn.append(i)
            yield voice(0.1), RATE

    rows = detector.score_many(sources())
    assert drawn == []
    next(rows)
    assert drawn == [0]


def test_embeddings(detector, voice):
    call = np.stack([voice(2.25, seed=1), voice(2.25, seed=2)])
    embedding = detector.embed((call, RATE))
    assert embedding.vectors.shape == (8, 3)
    assert embedding.channel.tolist() == [0] * 4 + [1] * 4
    assert embedding.start_s.tolist() == [0.0, 0.5, 1.0, 1.25] * 2
    assert embedding.end_s.tolist() == [1.0, 1.5, 2.0, 2.25] * 2
    for vector, start, channel in zip(
        embedding.vectors, embedding.start_s, embedding.channel, strict=True
    ):
        first = int(start * RATE)
        np.testing.assert_array_equal(vector, call[channel, first : first + 3])


def test_embeddings_of_channels_that_start_apart(detector, voice):
    late = voice(2.25, seed=2)
    late[:RATE] = 0.0
    embedding = detector.embed((np.stack([voice(2.25, seed=1), late]), RATE))
    assert embedding.channel.tolist() == [0] * 4 + [1] * 2
    assert embedding.start_s.tolist() == [0.0, 0.5, 1.0, 1.25, 1.0, 1.25]
    assert embedding.vectors.shape == (6, 3)


def test_embeddings_of_nothing(detector):
    embedding = detector.embed((np.zeros(0, np.float32), RATE))
    assert embedding.vectors.shape == (0, 3)
    assert embedding.start_s.shape == (0,)


def test_a_model_of_another_rate_is_refused(make_bundle):
    with pytest.raises(BundleError, match="8000 Hz"):
        Detector.load(make_bundle(sample_rate=8_000))


def test_one_line(calibrated, voice, tmp_path, monkeypatch):
    """``voiceguard.score`` loads the default model once and keeps it."""
    home = tmp_path / "bundled"
    home.mkdir()
    calibrated.rename(home / "tiny")
    monkeypatch.setattr(detector_module.registry, "bundled_models", lambda: home)
    detector_module._default.cache_clear()
    try:
        first = voiceguard.score((voice(2.0, 5.0), RATE))
        assert first.label is Label.BONAFIDE
        assert first.model.id == "tiny"
        (home / "tiny" / "bundle.json").unlink()
        again = voiceguard.score((voice(2.0, -5.0), RATE), operating_point="low_false_alarm")
        assert again.label is Label.SPOOF
    finally:
        detector_module._default.cache_clear()


def test_a_calibrated_model_without_points_draws_bayes_line(make_bundle, voice):
    folder = make_bundle(calibration=Calibration(1.0, 0.0))
    result = Detector.load(Path(folder)).score((voice(2.0, 5.0), RATE))
    assert result.operating_point.name == "bayes"
    assert result.label is Label.BONAFIDE
