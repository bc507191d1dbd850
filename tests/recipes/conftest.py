"""The recipe's scripts, which import each other by bare name, without leaving a trace of them."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ..conftest import bare_names

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "open_voices"
SCRIPTS = ("split", "cues", "judge", "bank", "pairs", "teacher", "export")
COMMON = ROOT / "recipes" / "common"
MINI_SCRIPTS = ("mini_corpus", "mini_layouts", "mini_source")
RATE = 16_000
CORPUS = ROOT.parent / "shared" / "corpus"


def import_from(folder: Path, names: tuple[str, ...]) -> dict[str, ModuleType]:
    """Import a folder's modules by bare name."""
    with bare_names(folder):
        return {name: importlib.import_module(name) for name in names}


@pytest.fixture(scope="session")
def scripts() -> dict[str, ModuleType]:
    return import_from(RECIPE, SCRIPTS)


@pytest.fixture(scope="session")
def mini_scripts() -> dict[str, ModuleType]:
    pytest.importorskip("av", reason="PyAV carries most of the codecs")
    return import_from(COMMON, MINI_SCRIPTS)


@pytest.fixture(scope="session")
def hum() -> Callable[..., np.ndarray]:
    """A tone between two silences over a faint floor; its pitch names its system or speaker."""

    def make(pitch: float, seed: int, seconds: float = 0.7) -> np.ndarray:
        rng = np.random.default_rng(seed)
        x = np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)
        x[:1_600] = x[-1_600:] = 0.0
        return (0.4 * x + 1e-4 * rng.standard_normal(len(x))).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def recipe_folder() -> Path:
    return RECIPE


@pytest.fixture(scope="session")
def corpus_folder() -> Path:
    if not (CORPUS / "manifest.csv").is_file():
        pytest.skip("the training corpus (../shared/corpus) is absent")
    return CORPUS


@pytest.fixture
def toy_rows() -> list[dict[str, str]]:
    """A made-up manifest: origins and systems of many sizes, shared groups, re-synthesis."""
    rng = np.random.default_rng(1)
    rows = []

    def add(label: str, kind: str, system: str, origin: str, group: str, derived: str = "") -> None:
        name = f"{'bonafide/h' if label == 'bonafide' else 'spoof/s'}_{len(rows)}"
        rows.append(
            {
                "file": f"{name}.ogg",
                "label": label,
                "kind": kind,
                "system": system,
                "origin": origin,
                "group": group,
                "derived_from": derived,
            }
        )

    for origin in range(12):
        for clip in range(int(rng.integers(2, 30))):
            add("bonafide", "human", "human", f"repo{origin}", f"speaker{origin}_{clip % 4}")
    for number, human in enumerate(list(rows)[::3]):
        source = human["file"].split("/h_")[1].removesuffix(".ogg")
        # A careless group, at times: the source's name alone must do then.
        group = human["group"] if number % 2 else "copies"
        add("spoof", "vocoder", "copy-world", "pyworld", group, source)
    for system in ("Kokoro-82M", "hibari-heart", "Piper", "sanoTTS", "GlowTTS", "eSpeak", "new"):
        for _ in range(int(rng.integers(3, 25))):
            add("spoof", "tts", system, f"repo-of-{system}", f"voices-of-{system}")
    for system in ("freevc", "knn-vc", "StarGAN-VC"):
        # A converted clip carries the group of the target speaker.
        for clip in range(8):
            add("spoof", "vc", system, f"repo-of-{system}", f"speaker{clip}_0")
    return rows


@pytest.fixture(params=["made up", "the corpus"])
def rows(request: pytest.FixtureRequest, toy_rows: list[dict[str, str]]) -> list[dict[str, str]]:
    if request.param == "made up":
        return toy_rows
    from voiceguard.training.corpus import read_manifest

    return read_manifest(request.getfixturevalue("corpus_folder") / "manifest.csv")


@pytest.fixture(scope="session")
def make_voices() -> Callable[[str, int], np.ndarray]:
    """One second of a made-up voice: the human's pitch wavers over noise, the other's does not."""

    def make(label: str, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        n = 16_000
        human = label == "bonafide"
        waver = np.cumsum(rng.standard_normal(n)) / 40 if human else np.zeros(n)
        pitch = 110.0 + 60.0 * rng.random() + waver
        phase = 2 * np.pi * np.cumsum(pitch) / n
        x = sum(np.sin(k * phase) / k for k in range(1, 15))
        x *= 0.6 + 0.4 * np.sin(2 * np.pi * 3 * np.arange(n) / n)
        x += (0.2 if human else 0.002) * rng.standard_normal(n)
        return (0.4 * x / np.max(np.abs(x))).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def toy_corpus(make_voices) -> Callable[..., Any]:
    """A corpus of short voices, human and synthetic in turn, so many from each place."""

    def make(clips: int, *, from_each: int) -> Any:
        from voiceguard.training.corpus import Corpus

        rows, voices = [], []
        for number in range(clips):
            label = "bonafide" if number % 2 else "spoof"
            place = f"place{number // from_each}"
            rows.append(
                {
                    "file": f"{label}/{number}.wav",
                    "label": label,
                    "kind": "human" if number % 2 else "tts",
                    "system": "human" if number % 2 else place,
                    "origin": place,
                    "group": f"{label}{place}",
                    "derived_from": "",
                }
            )
            voices.append((make_voices(label, number)[:6_000] * 32_767).astype(np.int16))
        offsets = np.concatenate([[0], np.cumsum([len(voice) for voice in voices])])
        return Corpus(rows=rows, pcm=np.concatenate(voices), offsets=offsets)

    return make
