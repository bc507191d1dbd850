"""Round trips through the codecs of telephony and voicemail, at a clip's own length.

libsndfile carries GSM 6.10, IMA ADPCM and Vorbis; FFmpeg, through PyAV, carries AMR-NB, G.722, MP3,
AAC and Opus. G.711 is the library's own table. A round trip takes and gives float32 mono at the
codec's rate and keeps the length; the codec's own delay (up to 64 ms, AAC) stays in.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from voiceguard.audio.telephony import Law, decode_g711, encode_g711
from voiceguard.errors import MissingExtraError, ParameterError

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Codec:
    """One codec at its native rate.

    Parameters
    ----------
    name : str
        As in :data:`CODECS`.
    sample_rate : int
        The rate that the codec runs at, Hz.
    bit_rates : tuple of int
        Rates to choose among, bit/s; empty where the codec has one only.
    run : callable
        (samples at `sample_rate`, bit rate) -> samples of the same length.
    encoder : str or None
        FFmpeg's name of the encoder that it needs.
    """

    name: str
    sample_rate: int
    bit_rates: tuple[int, ...]
    run: Callable[[Samples, int], Samples]
    encoder: str | None = None


def round_trip(x: Samples, codec: str, *, bit_rate: int | None = None) -> Samples:
    """Encode and decode `x` once.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        float32 at the codec's own rate (``CODECS[codec].sample_rate``).
    codec : str
        A key of :data:`CODECS`.
    bit_rate : int, optional
        bit/s; the codec's first where None.

    Returns
    -------
    np.ndarray [shape=(n,)]

    Raises
    ------
    ParameterError
        If the codec is unknown.
    MissingExtraError
        If it needs PyAV and PyAV is absent.
    """
    if codec not in CODECS:
        raise ParameterError(
            f"The 'codec' parameter of round_trip must be one of {sorted(CODECS)}. "
            f"Got {codec!r} instead."
        )
    entry = CODECS[codec]
    rate = bit_rate if bit_rate is not None else (entry.bit_rates or (0,))[0]
    return _fit(entry.run(np.clip(x, -1.0, 1.0), rate), len(x))


def has_encoder(codec: str) -> bool:
    """Whether `codec` can be encoded here: builds of FFmpeg differ (AMR is the usual gap).

    Parameters
    ----------
    codec : str
        A key of :data:`CODECS`.

    Returns
    -------
    bool

    Raises
    ------
    MissingExtraError
        If it needs PyAV and PyAV is absent.
    """
    encoder = CODECS[codec].encoder
    if encoder is None:
        return True
    av = _av(encoder)
    try:
        av.codec.Codec(encoder, "w")
    except ValueError:
        return False
    return True


def _av(encoder: str) -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(f"the codec {encoder}", "train") from error
    return av


def _fit(y: Samples, length: int) -> Samples:
    if len(y) < length:
        y = np.pad(y, (0, length - len(y)))
    return np.ascontiguousarray(y[:length], dtype=np.float32)


def _g711(law: Law, x: Samples, bit_rate: int) -> Samples:
    pcm = np.round(x * 32_767.0).astype(np.int16)
    return decode_g711(encode_g711(pcm, law=law), law=law).astype(np.float32) / np.float32(32_768.0)


def _sndfile(container: str, subtype: str, sample_rate: int, x: Samples, bit_rate: int) -> Samples:
    """A round trip through libsndfile; of its encoders Vorbis alone takes a bit rate."""
    import soundfile

    level = _VORBIS_LEVELS.get(bit_rate)
    buffer = io.BytesIO()
    soundfile.write(
        buffer, x, sample_rate, format=container, subtype=subtype, compression_level=level
    )
    buffer.seek(0)
    decoded: Samples = soundfile.read(buffer, dtype="float32")[0]
    return decoded


def _ffmpeg(
    encoder: str, sample_rate: int, options: dict[str, str], x: Samples, bit_rate: int
) -> Samples:
    """A round trip through one of FFmpeg's encoders and its decoder."""
    av = _av(encoder)
    out: Any = av.codec.CodecContext.create(encoder, "w")
    out.sample_rate, out.layout, out.format = sample_rate, "mono", out.codec.audio_formats[0]
    out.options = options
    if bit_rate:
        out.bit_rate = bit_rate
    out.open()
    back: Any = av.codec.CodecContext.create(out.codec.canonical_name, "r")
    back.sample_rate, back.layout = sample_rate, "mono"
    back.extradata = out.extradata
    convert = av.AudioResampler(format=out.format, layout="mono", rate=sample_rate)
    pieces: list[Samples] = []
    for block in _blocks(x, out.frame_size or 320):
        frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
        frame.sample_rate = sample_rate
        for piece in convert.resample(frame):
            pieces += _decode(out.encode(piece), back, sample_rate)
    pieces += _decode(out.encode(None), back, sample_rate)
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)


def _blocks(x: Samples, size: int) -> Iterable[npt.NDArray[np.int16]]:
    """`x` as int16 in blocks of one codec frame, the last one padded with zeros."""
    pcm = np.round(x * 32_767.0).astype(np.int16)
    padded = np.pad(pcm, (0, -len(pcm) % size))
    return np.ascontiguousarray(padded.reshape(-1, size))


def _decode(packets: Iterable[Any], decoder: Any, sample_rate: int) -> list[Samples]:
    """Decoded pieces of `packets` as float32; a faster output (Opus: 48 kHz) is decimated.

    Decimation needs no filter: the encoder ran at `sample_rate`, so nothing lies above its half.
    """
    pieces = []
    for packet in packets:
        for frame in decoder.decode(packet):
            raw = frame.to_ndarray().ravel()
            if raw.dtype == np.int16:
                raw = raw.astype(np.float32) / np.float32(32_768.0)
            pieces.append(raw.astype(np.float32)[:: frame.sample_rate // sample_rate])
    return pieces


def _codec(
    name: str, sample_rate: int, bit_rates: tuple[int, ...], run: partial[Samples]
) -> tuple[str, Codec]:
    encoder = run.args[0] if run.func is _ffmpeg else None
    return name, Codec(name, sample_rate, bit_rates, run, encoder)


# libsndfile asks for a compression level; about these rates come out for speech at 16 kHz.
_VORBIS_LEVELS = {34_000: 1.0, 52_000: 0.6, 89_000: 0.0}
_FAST_OPUS = {"compression_level": "3", "application": "voip"}

CODECS: dict[str, Codec] = dict(
    [
        _codec("ulaw", 8_000, (), partial(_g711, "ulaw")),
        _codec("alaw", 8_000, (), partial(_g711, "alaw")),
        _codec("gsm", 8_000, (), partial(_sndfile, "WAV", "GSM610", 8_000)),
        _codec("ima_adpcm", 8_000, (), partial(_sndfile, "WAV", "IMA_ADPCM", 8_000)),
        _codec(
            "amr_nb",
            8_000,
            (4_750, 5_900, 7_400, 7_950, 10_200, 12_200),
            partial(_ffmpeg, "libopencore_amrnb", 8_000, {}),
        ),
        _codec("g722", 16_000, (), partial(_ffmpeg, "g722", 16_000, {})),
        _codec(
            "opus_nb", 8_000, (6_000, 8_000, 12_000), partial(_ffmpeg, "libopus", 8_000, _FAST_OPUS)
        ),
        _codec(
            "opus",
            16_000,
            (10_000, 14_000, 20_000, 32_000),
            partial(_ffmpeg, "libopus", 16_000, _FAST_OPUS),
        ),
        _codec("mp3_8k", 8_000, (8_000, 16_000, 24_000), partial(_ffmpeg, "libmp3lame", 8_000, {})),
        _codec(
            "mp3",
            16_000,
            (16_000, 24_000, 32_000, 48_000),
            partial(_ffmpeg, "libmp3lame", 16_000, {}),
        ),
        _codec("vorbis", 16_000, tuple(_VORBIS_LEVELS), partial(_sndfile, "OGG", "VORBIS", 16_000)),
        _codec("aac", 16_000, (16_000, 24_000, 32_000), partial(_ffmpeg, "aac", 16_000, {})),
    ]
)
