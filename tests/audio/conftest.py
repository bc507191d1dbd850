"""Signals, encoders and the corpus for the tests of the audio floor."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"

# Encoders whose default rate FFmpeg refuses or sets very low.
_BIT_RATES = {"libopencore_amrnb": 12_200, "wmav2": 64_000}


@pytest.fixture(scope="session")
def corpus_rows() -> list[dict[str, str]]:
    manifest = CORPUS / "manifest.csv"
    if not manifest.exists():
        pytest.skip("the speech corpus beside the repository is absent")
    with manifest.open(newline="", encoding="utf-8") as file:
        return [{**row, "path": str(CORPUS / row["file"])} for row in csv.DictReader(file)]


@pytest.fixture(scope="session")
def speech(corpus_rows):
    """Six human clips of the corpus, float32 at 16 kHz, at 0.1 RMS."""
    from voiceguard import audio

    long = [r for r in corpus_rows if r["label"] == "bonafide" and float(r["duration_s"]) > 3.5]
    clips = [audio.read(row["path"]).samples[0] for row in long[:: len(long) // 6][:6]]
    return [(0.1 * clip / clip.std()).astype(np.float32) for clip in clips]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)


@pytest.fixture(scope="session")
def wave():
    """Three partials that fade in and out, in [-0.6, 0.6]: smooth enough for any codec."""

    def make(rate: int = 8000, seconds: float = 1.0, channels: int = 1) -> np.ndarray:
        t = np.arange(round(rate * seconds)) / rate
        envelope = np.sin(np.pi * t / seconds) ** 2
        rows = [
            envelope * sum(0.2 * np.sin(2 * np.pi * f * (1 + 0.1 * c) * t) for f in (230, 510, 880))
            for c in range(channels)
        ]
        return np.array(rows, np.float32)

    return make


@pytest.fixture(scope="session")
def encode():
    """Bytes of a file that libsndfile writes."""

    def make(samples: np.ndarray, rate: int, container: str, subtype: str | None = None) -> bytes:
        import soundfile

        buffer = io.BytesIO()
        soundfile.write(buffer, samples.T, rate, format=container, subtype=subtype)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def encode_av():
    """Bytes of a file that FFmpeg writes; skips where this build has no such encoder."""
    av = pytest.importorskip("av")

    def make(
        samples: np.ndarray, rate: int, muxer: str, codec: str, sample_format: str = "fltp"
    ) -> bytes:
        try:
            av.codec.Codec(codec, "w")
        except av.codec.codec.UnknownCodecError:
            pytest.skip(f"this FFmpeg has no {codec} encoder")
        buffer = io.BytesIO()
        layout = {1: "mono", 2: "stereo"}[len(samples)]
        with av.open(buffer, "w", format=muxer) as container:
            stream = container.add_stream(codec, rate=rate, layout=layout)
            stream.codec_context.format = sample_format
            if codec in _BIT_RATES:
                stream.bit_rate = _BIT_RATES[codec]
            resampler = av.AudioResampler(sample_format, layout, rate)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", layout)
            frame.sample_rate = rate
            fifo = av.AudioFifo()
            for piece in resampler.resample(frame):
                piece.pts = None
                fifo.write(piece)
            size = stream.codec_context.frame_size or 1024
            while (piece := fifo.read(size, partial=True)) is not None:
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def similarity():
    """Greatest normalised correlation of two signals over lags of up to 0.15 s."""

    def measure(a: np.ndarray, b: np.ndarray, rate: int) -> float:
        n = min(len(a), len(b))
        size = 1 << (2 * n).bit_length()
        a, b = a[:n] - a[:n].mean(), b[:n] - b[:n].mean()
        cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)))
        reach = round(0.15 * rate)
        near = np.concatenate((cross[:reach], cross[-reach:]))
        return float(near.max() / np.sqrt((a @ a) * (b @ b)))

    return measure
