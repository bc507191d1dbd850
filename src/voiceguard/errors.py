"""Every error that voiceguard raises on purpose.

One root, :class:`VoiceguardError`; below it one class for each thing that a caller can act on. A
message says what was wrong, with which file or parameter, and what mends it.
"""

from __future__ import annotations


class VoiceguardError(Exception):
    """Root of all errors raised by voiceguard."""


class ParameterError(VoiceguardError, ValueError):
    """An argument is outside its domain."""


class MissingExtraError(VoiceguardError, ImportError):
    """An optional dependency is needed and absent.

    Parameters
    ----------
    feature : str
        What was asked for, as the subject of a sentence ("reading M4A").
    extra : str
        The extra that brings it ("media").
    """

    def __init__(self, feature: str, extra: str) -> None:
        self.feature = feature
        self.extra = extra
        super().__init__(f'{feature} needs an optional part: pip install "voiceguard[{extra}]"')

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.feature, self.extra)


class AudioError(VoiceguardError):
    """Audio could not be taken in. Below it: the reasons."""


class AudioNotFoundError(AudioError, FileNotFoundError):
    """The path does not exist, is no regular file, or may not be read."""


class AudioFormatError(AudioError, ValueError):
    """The bytes are no audio that can be decoded, or the array has the wrong shape or type."""


class AudioLimitError(AudioError, ValueError):
    """A limit on duration, rate, channels, bytes or decoding time was passed."""


class ModelError(VoiceguardError):
    """A model could not be found, loaded, verified or converted."""


class BundleError(ModelError, ValueError):
    """A bundle is incomplete, malformed, or of a format that this version does not read."""


class IntegrityError(ModelError):
    """A file's SHA-256 is not the one on record."""


class UnknownModelError(ModelError, KeyError):
    """No model of that name is bundled, registered or on disk."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CalibrationError(VoiceguardError, ValueError):
    """Scores and labels do not allow a calibration to be fitted or used."""


class MetricError(VoiceguardError, ValueError):
    """Scores do not allow a metric to be computed."""


class ProtocolError(VoiceguardError, ValueError):
    """A protocol or score file is malformed, or the two do not match."""
