"""What one call of :func:`voiceguard.audio.read` asked for, as the decoders see it."""

from __future__ import annotations

from dataclasses import dataclass

from voiceguard.audio.intake import Intake
from voiceguard.audio.values import Limits


@dataclass(frozen=True)
class Request:
    """One call's wishes and bounds.

    Parameters
    ----------
    name : str or None
        The input's printable name; its extension tells headerless codings.
    sample_rate : int or None
        The rate to hand on, Hz; None keeps the source's.
    limits : Limits
        The bounds.
    started : float
        ``time.monotonic()`` at the start of the call.
    """

    name: str | None
    sample_rate: int | None
    limits: Limits
    started: float

    @property
    def label(self) -> str:
        """The input in a message: its quoted name, or "the audio"."""
        return "The audio" if self.name is None else repr(self.name)

    def intake(self, *, codec: str, source_rate: int, channels: int) -> Intake:
        """Open an :class:`Intake` for what the decoder says it gives."""
        return Intake(
            label=self.label,
            codec=codec,
            source_rate=source_rate,
            channels=channels,
            sample_rate=self.sample_rate,
            limits=self.limits,
            started=self.started,
        )
