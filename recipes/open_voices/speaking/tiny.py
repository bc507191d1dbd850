"""TinyTTS: a VITS (MeloTTS' family), one English voice at 44.1 kHz.

Kim, Kong and Son, "Conditional variational autoencoder with adversarial learning for end-to-end
text-to-speech", ICML 2021. The sources of version 0.2.0 hold the weights, the wheel of 0.3.2 the
dictionary. The engine's own front end wants a tokeniser from a model hub: a reading of the
dictionary stands in for it here, so that only words of the dictionary can be said.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from .engine import About, Samples, Speaker, UnsuitableError, importable

_TONED = re.compile(r"^([A-Z]+)(\d?)$")
_WORD = re.compile(r"[a-z']+|[,.!?]")
_HEADER_LINES = 48
_BERT, _JAPANESE_BERT = 1024, 768
_SIZES = {"inter_channels": 80, "hidden_channels": 80, "filter_channels": 320, "gin_channels": 80,
          "upsample_initial_channel": 256}  # fmt: skip
"""Of the weights in 0.2.0, whose own configuration describes a smaller network."""


class TinyTTS(Speaker):
    """One male voice; speed and both noise scales are drawn."""

    about: ClassVar[About] = About(
        system="tiny-tts",
        kind="tts",
        method="VITS (MeloTTS family, HiFi-GAN decoder, 44.1 kHz)",
        language="en",
        origin="pypi:tiny-tts 0.2.0",
        licence="Apache-2.0 (code and weights)",
        rate=44_100,
    )
    bring: ClassVar[str] = (
        "pip download --no-deps --no-binary tiny-tts tiny-tts==0.2.0 && "
        "pip download --no-deps tiny-tts==0.3.2 && pip install torch"
    )
    clips: ClassVar[int] = 60
    voices: ClassVar[Sequence[str]] = ("MALE",)

    def __init__(self, packages: Path, work: Path) -> None:
        try:
            import torch
        except ImportError as error:
            raise self.missing("torch") from error
        sources = self.unpacked(packages, "tiny_tts-0.2.0.tar.gz", work) / "tiny_tts-0.2.0"
        wheel = self.unpacked(packages, "tiny_tts-0.3.2-*.whl", work)
        self.words = _pronunciations(wheel / "tiny_tts" / "text" / "cmudict.rep")
        importable(sources)
        for name in ("english", "advanced_normalization"):
            _stand_in(f"tiny_tts.text.{name}")
        text, config = import_module("tiny_tts.text"), import_module("tiny_tts.utils.config")
        self.torch, self.to_ids = torch, text.phonemes_to_ids
        self.commons = import_module("tiny_tts.nn.commons")
        model = import_module("tiny_tts.models.synthesizer").VoiceSynthesizer(
            len(text.symbols), config.SPEC_CHANNELS, config.SEGMENT_FRAMES,
            n_speakers=config.N_SPEAKERS, **config.MODEL_PARAMS | _SIZES,
        )  # fmt: skip
        held = torch.load(sources / "checkpoints" / "G.pth", map_location="cpu", weights_only=True)
        weights = {name.removeprefix("module."): value for name, value in held["model"].items()}
        absent = set(model.state_dict()) - set(weights)
        absent = {name for name in absent if not name.startswith("enc_q.")}
        if absent:
            raise self.missing(f"weights of {sorted(absent)[:3]}")
        model.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
        self.model = model.eval()

    def speak(self, text: str, voice: str, rng: np.random.Generator) -> tuple[Samples, str]:
        """Say `text`, whose words must stand in the dictionary."""
        torch = self.torch
        phones, tones = self._phones(text)
        ids, tone, language = self.to_ids(phones, tones, "EN")
        x, t, lang = (
            torch.LongTensor(self.commons.insert_blanks(row, 0))[None]
            for row in (ids, tone, language)
        )
        speed, noise = rng.uniform(0.85, 1.15), rng.uniform(0.4, 0.8)
        torch.manual_seed(int(rng.integers(2**31)))
        with torch.no_grad():
            y, *_ = self.model.infer(
                x, torch.LongTensor([x.shape[1]]), torch.LongTensor([0]), t, lang,
                torch.zeros(1, _BERT, x.shape[1]), torch.zeros(1, _JAPANESE_BERT, x.shape[1]),
                noise_scale=noise, noise_scale_w=rng.uniform(0.5, 0.9), length_scale=1 / speed,
            )  # fmt: skip
        return y[0, 0].numpy(), f"speed {speed:.2f}, noise {noise:.2f}"

    def _phones(self, text: str) -> tuple[list[str], list[int]]:
        phones, tones = ["_"], [0]
        for word in _WORD.findall(text.lower()):
            if not word[0].isalpha():
                phones.append(word)
                tones.append(0)
                continue
            if word not in self.words:
                raise UnsuitableError(f"The dictionary has no {word!r}.")
            for phone, tone in self.words[word]:
                phones.append(phone)
                tones.append(tone)
        return [*phones, "_"], [*tones, 0]


def _pronunciations(file: Path) -> dict[str, list[tuple[str, int]]]:
    """Words with their phones and tones (a stress number plus one, 0 for consonants)."""
    words: dict[str, list[tuple[str, int]]] = {}
    lines = file.read_text(encoding="utf-8").splitlines()[_HEADER_LINES:]
    for line in lines:
        word, _, spelt = line.strip().partition("  ")
        found = [_TONED.match(phone) for phone in spelt.replace(" - ", " ").split()]
        words[word.lower()] = [
            (_named(match[1]), int(match[2]) + 1 if match[2] else 0) for match in found if match
        ]
    return words


def _named(phone: str) -> str:
    """The engine's symbol of a phone: small letters, but V, as v is a punctuation's name."""
    return "V" if phone == "V" else phone.lower()


def _stand_in(name: str) -> None:
    module: Any = ModuleType(name)
    module.normalize_text = module.grapheme_to_phoneme = module.advanced_normalize = None
    sys.modules.setdefault(name, module)
