"""Audio in: reading, resampling, telephony codes, voice activity and quality.

Importing this package loads numpy and nothing heavier; decoders, the resampler and the voice
activity network are loaded by the first call that needs them.
"""

from voiceguard.audio.reader import Source, read
from voiceguard.audio.resample import StreamResampler, resample
from voiceguard.audio.values import DEFAULT_LIMITS, Audio, Limits
from voiceguard.results import Quality, Reason

__all__ = [
    "DEFAULT_LIMITS",
    "Audio",
    "Limits",
    "Quality",
    "Reason",
    "Source",
    "StreamResampler",
    "read",
    "resample",
]
