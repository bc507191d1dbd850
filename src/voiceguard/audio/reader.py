"""One door for audio: :func:`read` takes a path, bytes, a file object or an array with its rate."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Union, cast

import numpy as np

from voiceguard.audio import media
from voiceguard.audio.arrays import checked_array, checked_rate, to_float32
from voiceguard.audio.containers import HEAD_BYTES, Headerless, headerless, sniff
from voiceguard.audio.request import Request
from voiceguard.audio.soundfiles import Rejected, decode_soundfile
from voiceguard.audio.values import DEFAULT_LIMITS, Audio, Limits
from voiceguard.errors import AudioFormatError, AudioNotFoundError, ParameterError

Source = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO, tuple[Any, int],
    Mapping[str, Any],
]  # fmt: skip
"""What :func:`read` takes."""

_ARRAY_BLOCK = 1 << 20
_PIPE_BLOCK = 1 << 20
_ACCEPTED = (
    "a path, bytes, a binary file object, (array, sample_rate) or "
    '{"array": array, "sampling_rate": rate}'
)


def read(
    source: Source, *, sample_rate: int | None = 16_000, limits: Limits = DEFAULT_LIMITS
) -> Audio:
    """Read audio, channels kept apart, at one sample rate.

    Parameters
    ----------
    source : str, path, bytes, binary file object, (array, rate) or mapping
        A path (a named pipe too); the bytes of a file; an object with ``read`` that gives bytes,
        read from where it stands to its end, seekable or not; an array [shape=(n,) or
        (channels, n)] of float16/32/64 (full scale 1.0), int8/16/32 or uint8 with its rate; a
        mapping with ``array`` and ``sampling_rate``, or with ``bytes`` or ``path``.
    sample_rate : int or None
        The rate to hand on, Hz; None keeps the input's.
    limits : Limits
        Bounds, checked before allocation and while decoding.

    Returns
    -------
    Audio
        Finite float32 samples [shape=(channels, n)], a copy. NaN and infinite samples become 0,
        magnitudes beyond 32,768 are clamped; each such thing is named in ``warnings``. An input
        without samples gives n = 0 and a warning.

    Raises
    ------
    AudioNotFoundError
        If a path is missing, a folder or a device, or may not be read.
    AudioFormatError
        If the input is no audio that can be decoded.
    AudioLimitError
        If a limit is passed.
    MissingExtraError
        If only PyAV could read the container and it is not installed.
    ParameterError
        If `sample_rate` is no integer inside the limits' rates.

    Notes
    -----
    What a file is, its first bytes tell; its extension matters only for headerless data (.ulaw,
    .alaw, .gsm, .sln, .sln16, .g722 ...). A file is decoded up to the length that it had, or
    claimed, when it was opened.
    """
    _check_target(sample_rate, limits)
    started = time.monotonic()
    if isinstance(source, Mapping):
        return _read_mapping(source, sample_rate, limits, started)
    if isinstance(source, tuple):
        return _read_pair(source, Request(None, sample_rate, limits, started))
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _read_path(path, Request(str(path), sample_rate, limits, started))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _read_bytes(source, Request(None, sample_rate, limits, started))
    if callable(getattr(source, "read", None)):
        name = getattr(source, "name", None)
        request = Request(name if isinstance(name, str) else None, sample_rate, limits, started)
        return _read_stream(source, request)
    raise _no_source(source)


def _check_target(sample_rate: int | None, limits: Limits) -> None:
    if sample_rate is None:
        return
    whole = isinstance(sample_rate, (int, np.integer)) and not isinstance(sample_rate, bool)
    if not whole or not limits.min_rate_hz <= sample_rate <= limits.max_rate_hz:
        raise ParameterError(
            "The 'sample_rate' parameter of read must be None or an int in "
            f"[{limits.min_rate_hz}, {limits.max_rate_hz}]. Got {sample_rate!r} instead."
        )


def _no_source(source: object) -> AudioFormatError:
    if hasattr(source, "__array__") or isinstance(source, list):
        return AudioFormatError(
            "An array alone has no sample rate, and the rate is never guessed. Pass "
            "(array, sample_rate)."
        )
    return AudioFormatError(f"Expected {_ACCEPTED}. Got {type(source).__name__} instead.")


def _read_pair(pair: tuple[Any, ...], request: Request) -> Audio:
    if len(pair) != 2:
        raise AudioFormatError(
            f"A tuple must be (array, sample_rate). Got {len(pair)} elements instead."
        )
    array, rate = pair
    if isinstance(array, (int, float)) and hasattr(rate, "__array__"):
        raise AudioFormatError("A tuple must be (array, sample_rate), in that order.")
    label = request.label
    values = checked_array(array, label=label, limits=request.limits)
    intake = request.intake(
        codec=f"array/{values.dtype.name}",
        source_rate=checked_rate(rate, label=label),
        channels=values.shape[0],
    )
    intake.expect(values.shape[1])
    for start in range(0, values.shape[1], _ARRAY_BLOCK):
        intake.add(to_float32(values[:, start : start + _ARRAY_BLOCK]))
    return intake.finish(request.name)


def _read_mapping(
    source: Mapping[str, Any], sample_rate: int | None, limits: Limits, started: float
) -> Audio:
    path = source.get("path")
    name = None if path is None else str(path)
    request = Request(name, sample_rate, limits, started)
    if source.get("array") is not None:
        if source.get("sampling_rate") is None:
            raise AudioFormatError(
                'A mapping with "array" needs "sampling_rate"; the rate is never guessed.'
            )
        return _read_pair((source["array"], source["sampling_rate"]), request)
    if source.get("bytes") is not None:
        return _read_bytes(source["bytes"], request)
    if name is not None:
        return _read_path(Path(name), request)
    raise AudioFormatError(
        'A mapping must hold "array" and "sampling_rate", or "bytes", or "path". '
        f"Got the keys {sorted(map(str, source))} instead."
    )


def _read_bytes(data: bytes | bytearray | memoryview, request: Request) -> Audio:
    request.limits.check_bytes(request.label, len(memoryview(data).cast("B")))
    return _decode(io.BytesIO(data), request)


def _read_path(path: Path, request: Request) -> Audio:
    with _open(path, request) as stream:
        info = os.fstat(stream.fileno())
        if stat.S_ISFIFO(info.st_mode):
            return _read_stream(stream, request)
        request.limits.check_bytes(request.label, info.st_size)
        return _decode(stream, request)


def _open(path: Path, request: Request) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
            return path.open("rb")
    except FileNotFoundError as error:
        raise AudioNotFoundError(f"{request.label} does not exist. Check the path.") from error
    except (OSError, ValueError) as error:
        raise _unreadable(request, error) from error
    kind = "a folder" if stat.S_ISDIR(mode) else "a device or socket"
    raise AudioNotFoundError(
        f"{request.label} is {kind}. Expected an audio file; give one file a call."
    )


def _read_stream(stream: Any, request: Request) -> Audio:
    """Take a stream to its end in memory, as pipes cannot seek and decoders must."""
    buffer = io.BytesIO()
    while True:
        try:
            piece = stream.read(_PIPE_BLOCK)
        except (OSError, ValueError) as error:
            raise _unreadable(request, error) from error
        if isinstance(piece, str):
            raise AudioFormatError(
                f"{request.label} is a text stream. Expected a binary one: open it with 'rb', or "
                "pass sys.stdin.buffer."
            )
        if not piece:
            break
        buffer.write(piece)
        request.limits.check_bytes(request.label, buffer.tell())
    buffer.seek(0)
    return _decode(buffer, request)


def _unreadable(request: Request, error: Exception) -> AudioNotFoundError:
    reason = getattr(error, "strerror", None) or str(error)
    return AudioNotFoundError(
        f"{request.label} may not be read ({reason}). Check its permissions and the disk."
    )


def _decode(stream: BinaryIO, request: Request) -> Audio:
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    container = sniff(head)
    # Two bytes of MPEG sync also begin many a raw u-law file; there the extension decides.
    raw = headerless(request.name) if container is None or container.weak else None
    if not head:
        raise AudioFormatError(f"{request.label} is empty (0 bytes). Expected audio.")
    if raw is not None:
        return _decode_raw(stream, request, raw)
    if container is None:
        raise _unknown(request, head)
    if not container.libsndfile:
        return media.decode_media(stream, request, demuxer=cast(str, container.ffmpeg))
    try:
        return decode_soundfile(stream, request)
    except Rejected as error:
        if container.ffmpeg is None or not media.has_pyav():
            raise _rejected(request, container.name, str(error), container.ffmpeg) from error
    stream.seek(0)
    return media.decode_media(stream, request, demuxer=container.ffmpeg)


def _decode_raw(stream: BinaryIO, request: Request, raw: Headerless) -> Audio:
    if raw.coding == "g722":
        return media.decode_media(stream, request, demuxer="g722")
    try:
        return decode_soundfile(stream, request, raw=raw)
    except Rejected as error:
        raise _rejected(request, f"raw {raw.coding}", str(error), None) from error


def _unknown(request: Request, head: bytes) -> AudioFormatError:
    return AudioFormatError(
        f"{request.label} is in no known audio container (it begins with {head[:8]!r}). Expected "
        "WAV, FLAC, OGG, MP3, AIFF, AU, M4A, AAC, AMR or WebM. Headerless telephone audio is known "
        "by its extension only (.ulaw, .alaw, .gsm, .sln, .sln16, .g722): give the path, or decode "
        "it first and pass (array, sample_rate)."
    )


def _rejected(
    request: Request, container: str, reason: str, ffmpeg: str | None
) -> AudioFormatError:
    more = "" if ffmpeg is None else ' or install a second decoder: pip install "voiceguard[media]"'
    return AudioFormatError(
        f"{request.label} was taken for {container} and could not be decoded ({reason}). Expected "
        f"a complete file in a coding that libsndfile reads; fetch or export it again{more}."
    )
