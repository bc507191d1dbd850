"""ttskit: Mellotron for 24 Mandarin voices, with MelGAN; and MelGAN alone, for copies.

Valle et al., "Mellotron", ICASSP 2020; Kumar et al., "MelGAN", NeurIPS 2019. The wheel holds both
networks as pickled modules of older PyTorch. Here only tensors and the named classes are taken from
them, and put into modules that are built anew.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import soxr

from .engine import (
    LONGEST_S,
    SAMPLE_RATE,
    About,
    Copier,
    Engine,
    Samples,
    Speaker,
    UnsuitableError,
    importable,
)

_RATE = 22_050
_N_FFT, _HOP, _N_MELS, _MEL_FMAX = 1024, 256, 80, 8_000.0
_FLOOR = 1e-5
_QUIET = -11.5129
_SPOKEN = "Aibao Aicheng Aida Aijia Aijing Aimei Aina Aiqi Aitong Aiwei Aixia Aiya Aiyu Aiyue "
_SPOKEN += "Siyue Xiaobei Xiaogang Xiaomei Xiaomeng Xiaowei Xiaoxue Xiaoyun Yina biaobei"
_LICENCE = "MIT (package and weights; speakers' recordings: unnamed, Biaobei: non-commercial)"
_MOST_S = 12.0
_MOST_HEARD = int((LONGEST_S + 0.9) * _RATE / _HOP)
"""Frames that are made sound, as clips are cut and lose what is silent before them."""


class _Melgan(Engine):
    """What both engines share: the wheel and its vocoder."""

    bring: ClassVar[str] = (
        "pip download --no-deps ttskit==0.3.8 && pip install torch librosa phkit Unidecode"
    )

    def __init__(self, packages: Path, work: Path) -> None:
        try:
            import torch
            from librosa.filters import mel
        except ImportError as error:
            raise self.missing(str(error.name)) from error
        self.torch = torch
        self.folder = self.unpacked(packages, "ttskit-0.3.8-*.whl", work) / "ttskit"
        importable(self.folder)
        _stand_in_utils(torch)
        self.vocoder = import_module("melgan.model.generator").Generator(_N_MELS)
        self.vocoder.load_state_dict(self._weights("melgan.kuangdd.pt"))
        self.vocoder.eval(inference=True)
        self.bank = mel(sr=_RATE, n_fft=_N_FFT, n_mels=_N_MELS, fmin=0.0, fmax=_MEL_FMAX)

    def _weights(self, name: str) -> dict[str, Any]:
        file = self.folder / "resource" / "model" / name
        held = self.torch.load(file, map_location="cpu", pickle_module=_Wary, weights_only=False)
        weights: dict[str, Any] = held.state_dict()
        return weights

    def sound(self, mel: Any) -> Samples:
        """What MelGAN makes of a log mel spectrogram [shape=(1, 80, frames)]."""
        with self.torch.no_grad():
            ended = self.torch.nn.functional.pad(mel, (0, 10), value=_QUIET)
            y = self.vocoder(ended)[0, 0].numpy()
        made: Samples = y[: -10 * _HOP]
        return made


class MellotronMelgan(_Melgan, Speaker):
    """The 24 voices that the package names; digits of a name's MD5 are a voice's vector."""

    about: ClassVar[About] = About(
        system="ttskit-mellotron-melgan",
        kind="tts",
        method="Mellotron (autoregressive, 24 voices) + MelGAN",
        language="zh",
        origin="pypi:ttskit 0.3.8",
        licence=_LICENCE,
        rate=_RATE,
    )
    clips: ClassVar[int] = 96
    voices: ClassVar[Sequence[str]] = tuple(_SPOKEN.split())

    def __init__(self, packages: Path, work: Path) -> None:
        super().__init__(packages, work)
        try:
            self.to_ids = import_module("phkit.chinese").text_to_sequence
        except ImportError as error:
            raise self.missing(str(error.name)) from error
        hparams = json.loads(
            (self.folder / "resource/model/mellotron.kuangdd-mspk.hparams.json").read_text("utf-8")
        )
        self.model = import_module("mellotron.model").Tacotron2(SimpleNamespace(**hparams))
        self.model.load_state_dict(self._weights("mellotron.kuangdd-mspk.pt"))
        self.model.eval()
        self.model.decoder.max_decoder_steps = int(_MOST_S * _RATE / _HOP)

    def speak(self, text: str, voice: str, rng: np.random.Generator) -> tuple[Samples, str]:
        """Say `text` in one of `voices`; the prenet's dropout differs from call to call."""
        torch = self.torch
        ids = torch.LongTensor(self.to_ids(text, cleaner_names="hanzi"))[None]
        digits = hashlib.md5(voice.encode(), usedforsecurity=False).hexdigest()
        speaker = torch.tensor([[(int(d, 16) - 7) / 10 for d in digits]], dtype=torch.float32)
        torch.manual_seed(int(rng.integers(2**31)))
        with torch.no_grad():
            _, mel, gates, _ = self.model.inference((ids, 0, speaker, None))
        ends = np.flatnonzero(torch.sigmoid(gates[0]).numpy() > 0.5)
        if not len(ends) or ends[0] < 2 * _RATE // _HOP:
            raise UnsuitableError("Mellotron found no end of the sentence.")
        return self.sound(mel[:, :, : min(int(ends[0]), _MOST_HEARD)]), ""


class MelganCopy(_Melgan, Copier):
    """A recording's mel spectrogram, made sound again by MelGAN."""

    about: ClassVar[About] = About(
        system="copy-melgan-ttskit",
        kind="vocoder",
        method="copy synthesis: MelGAN (22.05 kHz, 80 mel, Mandarin multi-speaker weights)",
        language="",
        origin="pypi:ttskit 0.3.8",
        licence=_LICENCE,
        rate=_RATE,
    )

    def copy(self, x: Samples, rng: np.random.Generator) -> tuple[Samples, str]:
        """A copy at a drawn level, as the vocoder hears loudness in its mel spectrogram."""
        level = float(rng.uniform(0.3, 0.9))
        y = soxr.resample(x, SAMPLE_RATE, _RATE)
        y = y * (level / max(float(np.abs(y).max()), 1e-4))
        framed = np.lib.stride_tricks.sliding_window_view(
            np.pad(y, _N_FFT // 2, mode="reflect"), _N_FFT
        )[::_HOP]
        spectrum = np.abs(np.fft.rfft(framed * np.hanning(_N_FFT + 1)[:-1], axis=1))
        mel = np.log(np.maximum(self.bank @ spectrum.T, _FLOOR)).astype(np.float32)
        return self.sound(self.torch.from_numpy(mel)[None])[: len(y)], ""


class _Unpickler(pickle.Unpickler):
    """Reads PyTorch's own classes and the two networks', nothing else."""

    _SETS = frozenset({("collections", "OrderedDict"), ("__builtin__", "set"), ("builtins", "set")})
    _OWN = ("torch.", "melgan.model.", "mellotron.model", "mellotron.layers")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._SETS or module == "torch" or module.startswith(self._OWN):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not expected in these weights.")


class _Wary:
    """What ``torch.load`` takes for a pickle module."""

    Unpickler = _Unpickler
    load = staticmethod(pickle.load)
    loads = staticmethod(pickle.loads)


def _stand_in_utils(torch: Any) -> None:
    """``mellotron.utils`` without the audio toolbox that it imports."""

    def get_mask_from_lengths(lengths: Any) -> Any:
        return torch.arange(int(lengths.max())) < lengths[:, None]

    module: Any = ModuleType("mellotron.utils")
    module.to_gpu, module.get_mask_from_lengths = None, get_mask_from_lengths
    sys.modules.setdefault("mellotron.utils", module)
