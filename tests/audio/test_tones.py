"""Telephone tones are told by name, through G.711 and noise; speech and other tones are not."""

from __future__ import annotations

import numpy as np
import pytest

from voiceguard.audio.frames import measure
from voiceguard.audio.quality import assess
from voiceguard.audio.telephony import g711_path
from voiceguard.audio.tones import Tone, dominant

T = np.arange(4 * 16_000) / 16_000
LOW, HIGH = (697, 770, 852, 941), (1209, 1336, 1477, 1633)


def tones(*hz: float) -> np.ndarray:
    return (0.2 * sum(np.sin(2 * np.pi * f * T) for f in hz)).astype(np.float32)


def cadence(signal: np.ndarray, on: float, off: float) -> np.ndarray:
    return np.where(T % (on + off) < on, signal, np.float32(0.0))


def dialled() -> np.ndarray:
    """Ten digits a second, 60 ms each: shorter than hands dial, longer than Q.24 asks for."""
    digit = (T * 10).astype(int)
    pair = [np.sin(2 * np.pi * np.array(table)[digit % 4] * T) for table in (LOW, HIGH)]
    return cadence((0.2 * sum(pair)).astype(np.float32), 0.06, 0.04)


SIGNALS = [
    ("dtmf", dialled()),
    ("call_progress", tones(350, 440)),
    ("call_progress", tones(425)),
    ("call_progress", cadence(tones(440, 480), 2.0, 4.0)),
    ("call_progress", cadence(tones(480, 620), 0.5, 0.5)),
    ("call_progress", cadence(tones(425), 0.25, 0.25)),
    ("fax", cadence(tones(1100), 0.5, 3.0)),
    ("fax", tones(2100)),
]


@pytest.mark.parametrize("law", [None, "ulaw", "alaw"])
@pytest.mark.parametrize(("name", "signal"), SIGNALS)
def test_tones_are_told(name, signal, law):
    heard = signal if law is None else g711_path(signal, law=law)
    quality = assess(heard).overall
    assert quality.tone == name
    assert quality.speech_s == 0.0


@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("high", HIGH)
def test_all_sixteen_pairs_within_their_tolerance(low, high):
    for off in (0.985, 1.0, 1.015):
        assert assess(tones(off * low, off * high)).overall.tone == "dtmf"


@pytest.mark.parametrize(
    ("name", "signal"),
    [("dtmf", tones(697, 1209)), ("call_progress", tones(350, 440)), ("fax", tones(2100))],
)
def test_noise_20_db_below_does_not_hide_a_tone(name, signal, rng):
    noise = 0.1 * signal.std() * rng.standard_normal(len(T))
    assert assess((signal + noise).astype(np.float32)).overall.tone == name


@pytest.mark.parametrize(
    "signal",
    [
        tones(1000),
        tones(697),
        tones(1209),
        tones(697, 770),
        tones(250),
        tones(1500, 1900),
        (0.3 * np.sin(2 * np.pi * (200 * T + 200 * T**2))).astype(np.float32),
        np.zeros(len(T), np.float32),
        np.full(len(T), 0.3, np.float32),
    ],
    ids=["1 kHz", "row", "column", "rows", "250 Hz", "no pair", "sweep", "silence", "offset"],
)
def test_other_signals_have_no_name(signal):
    assert assess(signal).overall.tone is None


def test_speech_has_no_tone(corpus_rows):
    from voiceguard import audio

    shares = []
    for row in corpus_rows[::150]:
        frames = measure(audio.read(row["path"]).samples[0])
        shares.append(float((frames.tone != Tone.NONE).mean()))
        assert dominant(frames.tone, frames.loud) is Tone.NONE, row["file"]
    assert np.mean(shares) < 0.01, shares


def test_a_tone_before_speech_leaves_the_speech(speech):
    dial, clip = tones(350, 440)[:32_000], speech[0]
    alone = assess(clip).overall.speech_s
    both = assess(np.concatenate((dial, clip))).overall.speech_s
    assert abs(both - alone) < 0.3
