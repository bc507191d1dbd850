"""Pretrained speech encoders: waveform (batch, samples) to frames of each layer.

Needs the ``train`` extra. Modules are imported when a name of theirs is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from voiceguard.errors import MissingExtraError

if TYPE_CHECKING:
    from voiceguard.features.ssl.contract import SSLEncoder, SSLOutput
    from voiceguard.features.ssl.loading import load_encoder
    from voiceguard.features.ssl.mix import LayerMix
    from voiceguard.features.ssl.native import save_encoder
    from voiceguard.features.ssl.registry import ENCODERS, EncoderEntry

__all__ = [
    "ENCODERS",
    "EncoderEntry",
    "LayerMix",
    "SSLEncoder",
    "SSLOutput",
    "load_encoder",
    "save_encoder",
]

_HOMES = {
    "ENCODERS": "registry",
    "EncoderEntry": "registry",
    "LayerMix": "mix",
    "SSLEncoder": "contract",
    "SSLOutput": "contract",
    "load_encoder": "loading",
    "save_encoder": "native",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("voiceguard"):
            raise
        raise MissingExtraError("encoding speech", "train") from error


def __dir__() -> list[str]:
    return sorted(__all__)
