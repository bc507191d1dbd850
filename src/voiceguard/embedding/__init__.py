"""Embeddings of recordings of any length: spectral features, bundles, SSL encoders; with a cache.

Loaded part by part: neither torch nor h5py comes in before something needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voiceguard.embedding.embedder import Embedder, embed
    from voiceguard.embedding.models import EmbeddingModel, load_model
    from voiceguard.embedding.pooling import AttentiveWeights
    from voiceguard.embedding.store import EmbeddingStore
    from voiceguard.embedding.values import Embedding, EmbeddingRow

_HOMES = {
    "AttentiveWeights": "pooling",
    "Embedder": "embedder",
    "Embedding": "values",
    "EmbeddingModel": "models",
    "EmbeddingRow": "values",
    "EmbeddingStore": "store",
    "embed": "embedder",
    "load_model": "models",
}

__all__ = [
    "AttentiveWeights",
    "Embedder",
    "Embedding",
    "EmbeddingModel",
    "EmbeddingRow",
    "EmbeddingStore",
    "embed",
    "load_model",
]


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"voiceguard.embedding.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'voiceguard.embedding' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
