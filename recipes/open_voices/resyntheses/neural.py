"""Copies by neural vocoders whose trained weights lie inside free software.

FARGAN (Valin, Mustafa and Büthe, "Very low complexity speech synthesis using framewise
autoregressive GAN with pitch prediction", IEEE SPL 2024) is in the sources of libopus 1.5, which
build a program that analyses and synthesises. LPCNet (Valin and Skoglund, ICASSP 2019) is in
libcodec2 1.2, as a codec of 1.7 kbit/s.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .measures import is_silent
from .pitch import UnsuitableClipError
from .spectra import SAMPLE_RATE, Samples, smooth

_LEAD = SAMPLE_RATE // 8
"""Samples put before and after a clip, so that its ends are synthesised too."""
_PEAK = 0.7
_TIMEOUT_S = 60

FARGAN_FEATURES = 36
"""Of a frame of 10 ms: 18 cepstral numbers, the pitch in octaves, its strength, and 16 unused."""
_FARGAN_AHEAD = 560
_CEPSTRUM, _PITCH = slice(0, 18), 18

_LPCNET_BEHIND = 896
_LPCNET_DIRECT = 1
"""The quantiser that the codec's own mode uses."""


class FARGANVocoder:
    """The features of a clip, drawn nearer to what an acoustic model gives, through FARGAN.

    A third of the copies are whole; others have features smoothed in time, coarser, or another
    pitch: a voice that says the same an interval higher or lower.

    Parameters
    ----------
    program : Path
        ``fargan_demo`` of libopus.
    """

    def __init__(self, program: Path) -> None:
        self.program = program.resolve()

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """A copy of `x`.

        Raises
        ------
        UnsuitableClipError
            If the program refuses the clip.
        """
        with tempfile.TemporaryDirectory() as folder:
            sound, features, copy = (Path(folder) / name for name in ("x.pcm", "x.f32", "y.pcm"))
            _padded(x).tofile(sound)
            self._run("-features", sound, features)
            heard = np.fromfile(features, np.float32).reshape(-1, FARGAN_FEATURES)
            drawn_features(heard, rng).tofile(features)
            self._run("-fargan-synthesis", features, copy)
            return _cut(np.fromfile(copy, np.int16), _LEAD - _FARGAN_AHEAD, len(x))

    def _run(self, mode: str, source: Path, target: Path) -> None:
        command = [str(self.program), mode, str(source), str(target)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise UnsuitableClipError(
                f"{self.program.name} {mode} took more than {_TIMEOUT_S} s."
            ) from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()[:200]
            raise UnsuitableClipError(f"{self.program.name} {mode} gave {done.returncode}: {said}")


def drawn_features(heard: Samples, rng: np.random.Generator) -> Samples:
    """Features of a clip, changed as drawn [shape=(frames, FARGAN_FEATURES)]."""
    given = heard.copy()
    kind = rng.choice(["whole", "smooth", "coarse", "pitch"], p=[0.35, 0.25, 0.15, 0.25])
    if kind == "smooth":
        given[:, _CEPSTRUM] = smooth(given[:, _CEPSTRUM], int(rng.choice([3, 5])), 0)
        given[:, _PITCH] = smooth(given[:, _PITCH], int(rng.choice([1, 3])), 0)
    elif kind == "coarse":
        step = rng.uniform(0.2, 0.5)
        given[:, _CEPSTRUM] = np.round(given[:, _CEPSTRUM] / step) * step
    elif kind == "pitch":
        given[:, _PITCH] += rng.choice([-1, 1]) * rng.uniform(2, 5) / 12
    return given


class LPCNetVocoder:
    """A clip through the LPCNet codec.

    Parameters
    ----------
    library : Path
        libcodec2, built with LPCNet.
    """

    def __init__(self, library: Path) -> None:
        codec = ctypes.CDLL(str(library.resolve()))
        codec.lpcnet_freedv_create.restype = ctypes.c_void_p
        codec.lpcnet_freedv_create.argtypes = [ctypes.c_int]
        for name in ("lpcnet_bits_per_frame", "lpcnet_samples_per_frame"):
            getattr(codec, name).argtypes = [ctypes.c_void_p]
        codec.lpcnet_freedv_destroy.argtypes = [ctypes.c_void_p]
        pointers = [ctypes.c_void_p] * 3
        codec.lpcnet_enc.argtypes = codec.lpcnet_dec.argtypes = pointers
        self.codec = codec

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """A copy of `x`, heard by the codec at a drawn level."""
        codec = self.codec
        state = codec.lpcnet_freedv_create(_LPCNET_DIRECT)
        try:
            step = codec.lpcnet_samples_per_frame(state)
            bits = np.zeros(codec.lpcnet_bits_per_frame(state), np.uint8)
            sound = (_padded(x) * rng.uniform(0.3, 1.0)).astype(np.int16)
            sound = sound[: len(sound) // step * step].reshape(-1, step)
            copy = np.zeros_like(sound)
            for frame, made in zip(sound, copy, strict=True):
                codec.lpcnet_enc(state, frame.ctypes.data, bits.ctypes.data)
                codec.lpcnet_dec(state, bits.ctypes.data, made.ctypes.data)
        finally:
            codec.lpcnet_freedv_destroy(state)
        return _cut(copy.ravel(), _LEAD + _LPCNET_BEHIND, len(x))


def _padded(x: Samples) -> npt.NDArray[np.int16]:
    """16-bit samples at one level, mirrored ends before and after.

    Raises
    ------
    UnsuitableClipError
        If the clip is silent or shorter than what is mirrored.
    """
    if is_silent(x) or len(x) <= _LEAD:
        raise UnsuitableClipError("The clip is silent or too short for a neural vocoder.")
    level = _PEAK * 32767 / float(np.abs(x).max())
    return (np.pad(x, _LEAD, mode="reflect") * level).astype(np.int16)


def _cut(y: npt.NDArray[np.int16], start: int, length: int) -> Samples:
    """The part in time with the clip, zeros where the vocoder gave none."""
    part = y[start : start + length].astype(np.float32) / 32768
    return np.pad(part, (0, length - len(part)))
