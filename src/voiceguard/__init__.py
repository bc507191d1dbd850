"""voiceguard: tells whether a voice is human or synthetic.

>>> import voiceguard
>>> detector = voiceguard.Detector.load()
>>> detector.score("call.wav").label  # doctest: +SKIP
<Label.SPOOF: 'spoof'>
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from voiceguard._version import __version__

if TYPE_CHECKING:
    from voiceguard import audio, errors, metrics, protocols
    from voiceguard.audio import Audio, read
    from voiceguard.detect import Detector, score
    from voiceguard.embedding import Embedder, embed
    from voiceguard.results import Label, Reason, Result, Segment

_HOMES = {
    "Audio": "voiceguard.audio",
    "read": "voiceguard.audio",
    "Detector": "voiceguard.detect",
    "Embedder": "voiceguard.embedding",
    "embed": "voiceguard.embedding",
    "score": "voiceguard.detect",
    "Label": "voiceguard.results",
    "Reason": "voiceguard.results",
    "Result": "voiceguard.results",
    "Segment": "voiceguard.results",
}
_MODULES = ("audio", "errors", "metrics", "protocols")

__all__ = [
    "Audio",
    "Detector",
    "Embedder",
    "Label",
    "Reason",
    "Result",
    "Segment",
    "__version__",
    "audio",
    "embed",
    "errors",
    "metrics",
    "protocols",
    "read",
    "score",
]


def __getattr__(name: str) -> Any:
    """Load a public name at its first use, so that the import itself stays cheap."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"voiceguard.{name}")
    raise AttributeError(f"module 'voiceguard' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
