"""Decoding through libsndfile, block by block."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from voiceguard.audio.containers import Headerless
from voiceguard.audio.intake import Intake
from voiceguard.audio.request import Request
from voiceguard.audio.values import Audio

_BLOCK = 65_536
_UNKNOWN_LENGTH = 2**62
_RAW_SUBTYPES = {"ulaw": "ULAW", "alaw": "ALAW", "gsm": "GSM610", "pcm_16": "PCM_16"}


class Rejected(Exception):
    """libsndfile does not open or decode this file; its reason is the argument."""


class _Nameless:
    """A stream without its name, as soundfile takes "x.raw" for headerless whatever is inside."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read
        self.readinto = stream.readinto  # type: ignore[attr-defined]
        self.tell = stream.tell
        self._seek = stream.seek

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move as asked, or stay: a damaged header may ask for a place before the start."""
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return self.tell()


def decode_soundfile(stream: BinaryIO, request: Request, *, raw: Headerless | None = None) -> Audio:
    """Decode what libsndfile reads.

    Parameters
    ----------
    stream : binary file object
        Seekable, at its start.
    request : Request
        Name, rate and limits.
    raw : Headerless or None
        The coding of headerless data.

    Returns
    -------
    Audio

    Raises
    ------
    Rejected
        If libsndfile does not open the file, or fails before the first sample.
    AudioFormatError
        If no sample is a finite number.
    AudioLimitError
        If a limit is passed.
    """
    with _opened(stream, raw) as sound:
        container = "raw" if raw else sound.format.lower()
        intake = request.intake(
            codec=f"{container}/{sound.subtype.lower()}",
            source_rate=sound.samplerate,
            channels=sound.channels,
        )
        promised = sound.frames if 0 <= sound.frames < _UNKNOWN_LENGTH else None
        if promised is not None:
            intake.expect(promised)
        failure = _pump(sound, intake, promised)
    _judge_length(intake, promised, failure)
    return intake.finish(request.name)


def _opened(stream: BinaryIO, raw: Headerless | None) -> Any:
    import soundfile

    form: dict[str, Any] = {}
    if raw is not None:
        form = {
            "format": "RAW",
            "subtype": _RAW_SUBTYPES[raw.coding],
            "samplerate": raw.sample_rate,
            "channels": 1,
            "endian": "LITTLE",
        }
    try:
        return soundfile.SoundFile(_Nameless(stream), **form)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise Rejected(str(getattr(error, "error_string", error))) from error


def _pump(sound: Any, intake: Intake, promised: int | None) -> str | None:
    """Move all blocks; what libsndfile complained of on the way is given back."""
    import soundfile

    while promised is None or intake.frames < promised:
        left = _BLOCK if promised is None else min(_BLOCK, promised - intake.frames)
        try:
            block = sound.read(left, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            return str(error.error_string)
        if not len(block):
            return None
        intake.add(np.ascontiguousarray(block.T))
    return None


def _judge_length(intake: Intake, promised: int | None, failure: str | None) -> None:
    if failure and intake.frames == 0:
        raise Rejected(failure)
    if failure:
        intake.warnings.append(
            f"Decoding stopped after {intake.frames / intake.source_rate:.2f} s ({failure})."
        )
    elif promised is not None and intake.frames < promised:
        intake.warnings.append(
            f"The header promises {promised} samples a channel; {intake.frames} are there."
        )
