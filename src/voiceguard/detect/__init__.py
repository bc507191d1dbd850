"""From audio to a verdict: the detector and the parts that it is made of.

Loaded part by part, so that reading a bundle does not load ONNX Runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voiceguard.detect.bundle import Bundle, Manifest, read_bundle, write_bundle
    from voiceguard.detect.calibration import Calibration
    from voiceguard.detect.detector import Detector, score
    from voiceguard.detect.engine import OnnxEngine
    from voiceguard.detect.outputs import Embedding, Row
    from voiceguard.detect.registry import RegistryEntry, Use, pull

_HOMES = {
    "Bundle": "bundle",
    "Manifest": "bundle",
    "read_bundle": "bundle",
    "write_bundle": "bundle",
    "Calibration": "calibration",
    "Detector": "detector",
    "Embedding": "outputs",
    "Row": "outputs",
    "score": "detector",
    "OnnxEngine": "engine",
    "RegistryEntry": "registry",
    "Use": "registry",
    "pull": "registry",
}

__all__ = [
    "Bundle",
    "Calibration",
    "Detector",
    "Embedding",
    "Manifest",
    "OnnxEngine",
    "RegistryEntry",
    "Row",
    "Use",
    "pull",
    "read_bundle",
    "score",
    "write_bundle",
]


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"voiceguard.detect.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'voiceguard.detect' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
