"""The hint of music: fires on held chords, stays still on speech, noise and single tones."""

from __future__ import annotations

import numpy as np
import pytest

from voiceguard.audio.quality import DEFAULT_POLICY, assess, gate
from voiceguard.audio.telephony import g711_path
from voiceguard.results import Reason

T = np.arange(4 * 16_000) / 16_000
CHORDS = [(261.6, 329.6, 392.0), (220.0, 261.6, 329.6), (174.6, 220.0, 261.6, 349.2)]


def chord(notes: tuple[float, ...], partials: int = 6) -> np.ndarray:
    parts = [
        np.sin(2 * np.pi * note * k * T + k * note) / k
        for note in notes
        for k in range(1, partials + 1)
    ]
    return (0.05 * sum(parts)).astype(np.float32)


@pytest.mark.parametrize("telephone", [False, True])
def test_chords_that_change_twice_a_second(telephone):
    turn = (T * 2).astype(int) % len(CHORDS)
    decay = np.exp(-1.5 * (T % 0.5))
    song = decay * np.choose(turn, [chord(notes) for notes in CHORDS])
    heard = g711_path(song.astype(np.float32)) if telephone else song
    assert assess(heard).overall.music >= DEFAULT_POLICY.max_music


@pytest.mark.parametrize("telephone", [False, True])
@pytest.mark.parametrize("notes", CHORDS)
def test_held_chords_are_music_and_block(notes, telephone):
    heard = g711_path(chord(notes)) if telephone else chord(notes)
    quality = assess(heard).overall
    assert quality.music >= DEFAULT_POLICY.max_music
    verdict = gate(quality, whole=True)
    assert verdict.blocked
    assert Reason.MUSIC in verdict.reasons


def test_speech_is_no_music(corpus_rows):
    from voiceguard import audio

    found = {
        row["file"]: assess(audio.read(row["path"]).samples[0]).overall.music
        for row in corpus_rows[::150]
    }
    assert max(found.values()) < 0.2, found


@pytest.mark.parametrize(
    "signal",
    [
        np.zeros(len(T)),
        np.random.default_rng(1).standard_normal(len(T)) * 0.1,
        0.3 * np.sin(2 * np.pi * 1000 * T),
        0.2 * (np.sin(2 * np.pi * 50 * T) + 0.5 * np.sin(2 * np.pi * 150 * T)),
        0.3 * np.sin(2 * np.pi * (200 * T + 200 * T**2)),
    ],
    ids=["silence", "noise", "tone", "hum", "sweep"],
)
def test_other_signals_are_no_music(signal):
    assert assess(signal.astype(np.float32)).overall.music < 0.1
