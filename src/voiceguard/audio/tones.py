"""Telephone tones in frames of a power spectrum: DTMF, call progress, fax.

Frequencies: DTMF pairs of ITU-T Rec. Q.23; call-progress tones of the 350 to 620 Hz family (dial,
ring-back and busy tones of ITU-T Rec. E.180 and its national practice: 350+440, 425, 440+480,
480+620 Hz); fax calling tone 1,100 Hz (CNG) and answer tone 2,100 Hz (CED) of ITU-T Rec. T.30.

A frame's candidate class comes from where its energy lies; a candidate becomes a tone when it stays
the same for long enough, which speech with its moving pitch does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from voiceguard.audio.values import Samples

Floats = NDArray[np.float32]


class Tone(IntEnum):
    """The class of a frame."""

    NONE = 0
    DTMF = 1
    CALL_PROGRESS = 2
    FAX = 3


NAMES = {Tone.DTMF: "dtmf", Tone.CALL_PROGRESS: "call_progress", Tone.FAX: "fax"}
"""The names in :class:`voiceguard.results.Quality`."""

_DTMF_LOW_HZ = np.array([697.0, 770.0, 852.0, 941.0])
_DTMF_HIGH_HZ = np.array([1209.0, 1336.0, 1477.0, 1633.0])
_DTMF_TOLERANCE = 0.025
_DTMF_TWIST = 0.04
_PROGRESS_HZ = (335.0, 645.0)
_FAX_HZ = ((1100.0, 40.0), (2100.0, 30.0))

_LOWEST_BIN = 6
_LOBE = 2
_CONCENTRATED = 0.85

_DRIFT_HZ = 12.0
_DRIFT_DB = 3.0
_MIN_RUN = {Tone.DTMF: 2, Tone.CALL_PROGRESS: 6, Tone.FAX: 6}


@dataclass(frozen=True)
class ToneCandidates:
    """What each frame looks like on its own.

    Parameters
    ----------
    code : np.ndarray [shape=(n_frames,), dtype=int8]
        A :class:`Tone`.
    hz : np.ndarray [shape=(n_frames,), dtype=float32]
        Mean frequency of the two strongest lobes, weighted by their power.
    db : np.ndarray [shape=(n_frames,), dtype=float32]
        Level, dB, up to a constant.
    """

    code: NDArray[np.int8]
    hz: Floats
    db: Floats


def candidates(power: Samples, *, bin_hz: float) -> ToneCandidates:
    """Classify each frame by where its energy lies.

    Parameters
    ----------
    power : np.ndarray [shape=(n_frames, n_bins), dtype=float32]
        Power spectra of frames under a Hann window.
    bin_hz : float
        Distance of two bins, Hz.

    Returns
    -------
    ToneCandidates
    """
    heard = power.copy()
    heard[:, :_LOWEST_BIN] = 0.0
    total = heard.sum(axis=1) + 1e-20
    first_hz, first = _take_lobe(heard, bin_hz)
    second_hz, second = _take_lobe(heard, bin_hz)
    single = first / total >= _CONCENTRATED
    double = (first + second) / total >= _CONCENTRATED
    code = np.zeros(len(power), np.int8)
    progress = _inside(first_hz) & (single | (double & _inside(second_hz)))
    code[progress] = Tone.CALL_PROGRESS
    code[single & _is_fax(first_hz)] = Tone.FAX
    balanced = second >= _DTMF_TWIST * first
    code[double & balanced & _is_dtmf(first_hz, second_hz)] = Tone.DTMF
    hz = (first * first_hz + second * second_hz) / (first + second + 1e-20)
    return ToneCandidates(code, hz.astype(np.float32), (10.0 * np.log10(total)).astype(np.float32))


def steady(found: ToneCandidates) -> NDArray[np.int8]:
    """Keep the candidates that last.

    Parameters
    ----------
    found : ToneCandidates
        All frames of a channel.

    Returns
    -------
    np.ndarray [shape=(n_frames,), dtype=int8]
        A :class:`Tone` a frame.
    """
    kept = np.zeros_like(found.code)
    if not len(kept):
        return kept
    same = found.code[1:] == found.code[:-1]
    still = (np.abs(np.diff(found.hz)) <= _DRIFT_HZ) & (np.abs(np.diff(found.db)) <= _DRIFT_DB)
    # DTMF digits fade in and out within two or three frames; the pair itself is proof enough.
    joined = same & (still | (found.code[1:] == Tone.DTMF))
    starts = np.flatnonzero(np.concatenate(([True], ~joined)))
    lengths = np.diff(np.concatenate((starts, [len(kept)])))
    codes = found.code[starts]
    wanted = np.array([_MIN_RUN.get(Tone(int(code)), 1) for code in codes])
    return np.repeat(np.where(lengths >= wanted, codes, Tone.NONE), lengths).astype(np.int8)


def dominant(codes: NDArray[np.int8], loud: NDArray[np.bool_], *, share: float = 0.5) -> Tone:
    """Name the tone that fills at least a share of the frames that are not silent.

    Parameters
    ----------
    codes : np.ndarray [shape=(n_frames,), dtype=int8]
        From :func:`steady`.
    loud : np.ndarray [shape=(n_frames,), dtype=bool]
        Frames that are not silent.
    share : float
        The share, in (0, 1].

    Returns
    -------
    Tone
        ``Tone.NONE`` where none does.
    """
    counts = np.bincount(codes[loud], minlength=len(Tone))
    n_loud = int(counts.sum())
    if n_loud == 0 or counts[1:].sum() < share * n_loud:
        return Tone.NONE
    return Tone(1 + int(np.argmax(counts[1:])))


def _take_lobe(power: Floats, bin_hz: float) -> tuple[Floats, Floats]:
    """Frequency and power of the strongest lobe of each frame, which is then erased."""
    rows = np.arange(len(power))
    peak = power[:, _LOBE:-_LOBE].argmax(axis=1) + _LOBE
    columns = peak[:, None] + np.arange(-_LOBE, _LOBE + 1)
    lobe = power[rows[:, None], columns]
    strength = lobe.sum(axis=1)
    # The power-weighted mean over a Hann lobe lies on the tone's frequency.
    hz = (lobe * columns).sum(axis=1) / (strength + 1e-20) * bin_hz
    power[rows[:, None], columns] = 0.0
    return hz.astype(np.float32), strength


def _inside(hz: Floats) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (hz >= _PROGRESS_HZ[0]) & (hz <= _PROGRESS_HZ[1])
    return inside


def _is_fax(hz: Floats) -> NDArray[np.bool_]:
    hits = [np.abs(hz - centre) <= reach for centre, reach in _FAX_HZ]
    fax: NDArray[np.bool_] = np.logical_or.reduce(hits)
    return fax


def _is_dtmf(first_hz: Floats, second_hz: Floats) -> NDArray[np.bool_]:
    low, high = np.minimum(first_hz, second_hz), np.maximum(first_hz, second_hz)
    return _near(low, _DTMF_LOW_HZ) & _near(high, _DTMF_HIGH_HZ)


def _near(hz: Floats, nominal: NDArray[np.float64]) -> NDArray[np.bool_]:
    off = np.abs(hz[:, None] / nominal - 1.0).min(axis=1)
    near: NDArray[np.bool_] = off <= _DTMF_TOLERANCE
    return near
