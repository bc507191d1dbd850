"""Decoding through PyAV (FFmpeg): M4A, AAC, AMR, WebM, and what libsndfile rejects.

The demuxer is named, never probed (see :mod:`voiceguard.audio.containers`); samples keep their rate
and channels, only their type is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from voiceguard.audio.intake import Intake
from voiceguard.audio.request import Request
from voiceguard.audio.values import Audio, Samples
from voiceguard.errors import AudioFormatError, MissingExtraError

_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}


def has_pyav() -> bool:
    """Whether PyAV can be imported."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def decode_media(stream: BinaryIO, request: Request, *, demuxer: str) -> Audio:
    """Decode the first audio stream of a container.

    Parameters
    ----------
    stream : binary file object
        Seekable, at its start.
    request : Request
        Name, rate and limits.
    demuxer : str
        FFmpeg's name of the container.

    Returns
    -------
    Audio

    Raises
    ------
    MissingExtraError
        If PyAV is not installed.
    AudioFormatError
        If there is no audio that FFmpeg decodes.
    AudioLimitError
        If a limit is passed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(f"Reading {request.label} ({demuxer})", "media") from error
    try:
        with av.open(stream, mode="r", format=demuxer, metadata_errors="replace") as container:
            intake = _drain(container, request)
    except av.FFmpegError as error:
        raise _undecodable(request, f"FFmpeg: {error.strerror}") from error
    return intake.finish(request.name)


def _drain(container: Any, request: Request) -> Intake:
    if not container.streams.audio:
        raise _undecodable(request, "it has no audio stream")
    track = container.streams.audio[0]
    _expect_duration(container, track, request)
    intake: Intake | None = None
    damage: list[str] = []
    for frame in _frames(container, track, damage):
        if intake is None:
            intake = request.intake(
                codec=f"{container.format.name.split(',')[0]}/{track.codec_context.name}",
                source_rate=frame.sample_rate,
                channels=frame.layout.nb_channels,
            )
        _check_constant(frame, intake)
        intake.add(_samples(frame, request))
    if intake is None:
        raise _undecodable(request, damage[0] if damage else "its audio stream is empty")
    if damage:
        intake.warnings.append(f"{len(damage)} packets were damaged and left out ({damage[0]}).")
    if len(container.streams.audio) > 1:
        intake.warnings.append(
            f"Of {len(container.streams.audio)} audio streams the first was read."
        )
    return intake


def _expect_duration(container: Any, track: Any, request: Request) -> None:
    seconds = 0.0
    if track.duration is not None and track.time_base is not None:
        seconds = float(track.duration * track.time_base)
    elif container.duration is not None:
        # Containers state it in microseconds.
        seconds = container.duration / 1e6
    request.limits.check_duration(request.label, seconds)


def _frames(container: Any, track: Any, damage: list[str]) -> Iterator[Any]:
    """Give the decoded frames; what a damaged packet says goes into `damage`."""
    import av

    packets = iter(container.demux(track))
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            damage.append(f"FFmpeg: {error.strerror}")
            return
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            damage.append(f"FFmpeg: {error.strerror}")
            continue
        yield from frames


def _check_constant(frame: Any, intake: Intake) -> None:
    if (frame.sample_rate, frame.layout.nb_channels) != (intake.source_rate, intake.channels):
        raise AudioFormatError(
            f"{intake.label} changes from {intake.source_rate} Hz, {intake.channels} channels to "
            f"{frame.sample_rate} Hz, {frame.layout.nb_channels} channels after "
            f"{intake.frames / intake.source_rate:.2f} s. Expected one form throughout: split it."
        )


def _samples(frame: Any, request: Request) -> Samples:
    kind = frame.format.name.removesuffix("p")
    if kind not in _FULL_SCALE:
        raise _undecodable(request, f"samples of type {frame.format.name} are not taken")
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    centred = values.astype(np.float64 if kind == "s32" else np.float32)
    if kind == "u8":
        centred -= 128.0
    return np.ascontiguousarray(centred / _FULL_SCALE[kind], np.float32)


def _undecodable(request: Request, why: str) -> AudioFormatError:
    return AudioFormatError(
        f"{request.label} could not be decoded ({why}). Expected a file with an audio stream; "
        "check it with a player, or convert it to WAV or FLAC."
    )
