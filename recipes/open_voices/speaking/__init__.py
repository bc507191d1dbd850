"""Engines that speak, or copy recordings, with the weights that lie inside packages."""

from __future__ import annotations

from .engine import Engine
from .mellotron import MelganCopy, MellotronMelgan
from .tiny import TinyTTS

ENGINES: dict[str, type[Engine]] = {
    engine.about.system: engine for engine in (TinyTTS, MellotronMelgan, MelganCopy)
}
"""By the name of their system."""
