"""Shared fixtures: tiny models with scores known by hand, and sound that passes for a voice."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings

from voiceguard.detect.bundle import Manifest, write_bundle
from voiceguard.detect.calibration import Calibration
from voiceguard.detect.detector import Detector
from voiceguard.results import OperatingPoint

# A busy machine must not fail a property.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

WINDOW = 16_000


def graph_bytes(
    *,
    window: int = WINDOW,
    scale: float = 1.0,
    domain: str = "",
    width: int = 3,
    outputs: tuple[str, str] = ("score", "embedding"),
) -> bytes:
    """Score = scale * sum of the window; embedding = the first `width` samples."""
    onnx = pytest.importorskip("onnx", reason="the onnx package builds the test graphs")
    helper, tensor = onnx.helper, onnx.TensorProto

    def constant(name: str, values: list[float], kind: int) -> object:
        return helper.make_tensor(name, kind, [len(values)], values)

    nodes = [
        helper.make_node("ReduceSum", ["waveform", "axis"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "scale"], [outputs[0]]),
        helper.make_node("Slice", ["waveform", "zero", "width", "axis"], [outputs[1]]),
    ]
    if domain:
        nodes.append(helper.make_node("Odd", ["waveform"], ["unused"], domain=domain))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("waveform", tensor.FLOAT, ["batch", window])],
        [
            helper.make_tensor_value_info(outputs[0], tensor.FLOAT, ["batch"]),
            helper.make_tensor_value_info(outputs[1], tensor.FLOAT, ["batch", width]),
        ],
        [
            constant("axis", [1], tensor.INT64),
            constant("zero", [0], tensor.INT64),
            constant("width", [width], tensor.INT64),
            constant("scale", [scale], tensor.FLOAT),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


BASE = Manifest(
    id="tiny",
    version="1",
    licence="Apache-2.0",
    description="Sum of the window.",
    sample_rate=16_000,
    window_samples=WINDOW,
    hop_samples=WINDOW // 2,
    embedding_dim=3,
)


@pytest.fixture
def manifest() -> Manifest:
    return BASE


@pytest.fixture
def make_graph() -> Callable[..., bytes]:
    return graph_bytes


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Write a tiny bundle; keywords replace fields of the manifest."""

    def make(name: str = "bundle", *, graph: bytes | None = None, **fields: object) -> Path:
        manifest = replace(BASE, **fields)  # type: ignore[arg-type]
        content = graph_bytes(window=manifest.window_samples) if graph is None else graph
        return write_bundle(tmp_path / name, graph=content, manifest=manifest, card="# tiny\n")

    return make


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def voice_like(seconds: float, *, seed: int = 0) -> np.ndarray:
    """Pulses through changing formants: no speech, but the voice activity detector takes it so."""
    rng, rate, syllable = np.random.default_rng(6), 16_000, 3_520
    loop = np.zeros(2 * rate)
    pitch = 120.0 * (1.0 + 0.15 * np.sin(2 * np.pi * 0.7 * np.arange(len(loop)) / rate))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    buzz = sum(np.cos(k * phase) / k for k in range(1, 25))
    vowels = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)]
    frequency = np.fft.rfftfreq(2 * syllable, 1 / rate)
    for start in range(0, len(loop), syllable):
        piece = buzz[start : start + syllable]
        formants = zip(vowels[rng.integers(len(vowels))], (60, 90, 120), strict=True)
        shape = sum(1 / (1 + ((frequency - at) / width) ** 2) for at, width in formants)
        voiced = np.fft.irfft(np.fft.rfft(piece, 2 * syllable) * shape)[: len(piece)]
        loop[start : start + len(piece)] = voiced * np.sqrt(np.hanning(len(piece)))
    loop *= 0.3 / np.abs(loop).max()
    n = int(seconds * rate)
    quiet = 0.001 * np.random.default_rng(seed).normal(size=n)
    return (np.resize(loop, n) + quiet).astype(np.float32)


@pytest.fixture(scope="session")
def voice() -> Callable[..., np.ndarray]:
    """Voice-like sound whose offset makes the tiny graph give a window the score asked for."""

    def make(seconds: float, score: float = 0.0, *, seed: int = 0) -> np.ndarray:
        x = voice_like(seconds, seed=seed)
        # The mean of every half second is taken out, so that the offset alone decides.
        for start in range(0, len(x), 8_000):
            x[start : start + 8_000] -= x[start : start + 8_000].mean()
        return x + np.float32(score / 10_000.0)

    return make


POINTS = (
    OperatingPoint("balanced", 0.0, 0.1, 0.1, "made up"),
    OperatingPoint("low_false_alarm", -4.0, 0.3, 0.01, "made up"),
)


@pytest.fixture
def calibrated(make_bundle: Callable[..., Path]) -> Path:
    """A bundle whose llr of a window is 10,000 x the window's mean."""
    return make_bundle(
        graph=graph_bytes(scale=10_000.0 / WINDOW),
        calibration=Calibration(1.0, 0.0, data="made up"),
        operating_points=POINTS,
        default_operating_point="balanced",
    )


@pytest.fixture
def detector(calibrated: Path) -> Detector:
    return Detector.load(calibrated)


@pytest.fixture
def raw_detector(make_bundle: Callable[..., Path]) -> Detector:
    """The same graph without a calibration."""
    return Detector.load(make_bundle("raw", graph=graph_bytes(scale=10_000.0 / WINDOW)))


def pytest_runtest_setup() -> None:
    """Take SpeechBrain's stand-ins for absent packages off the module table.

    They raise ImportError on any look at them, and Hypothesis looks at every module there.
    """
    stand_ins = sys.modules.get("speechbrain.utils.importutils")
    if stand_ins is None:
        return
    for name, module in list(sys.modules.items()):
        if isinstance(module, stand_ins.LazyModule):
            del sys.modules[name]


@contextmanager
def bare_names(*folders: Path) -> Iterator[None]:
    """Scripts of the first folder import each other, and those of the others, by bare name.

    Path and module table end as they were.
    """
    bare = {path.stem for folder in folders for path in folder.glob("*.py")}
    shadowed = {name: sys.modules.pop(name) for name in bare if name in sys.modules}
    path = list(sys.path)
    sys.path.insert(0, str(folders[0]))
    try:
        yield
    finally:
        sys.path[:] = path
        for name in bare:
            sys.modules.pop(name, None)
        sys.modules.update(shadowed)


@pytest.fixture(scope="session")
def benchmark_scripts() -> Callable[..., AbstractContextManager[SimpleNamespace]]:
    """What opens scripts of benchmarks/ as they see each other and the recipe's.

    Their leading underscore falls away.
    """
    root = Path(__file__).parents[1]

    @contextmanager
    def opened(*names: str) -> Iterator[SimpleNamespace]:
        with bare_names(root / "benchmarks", root / "recipes" / "open_voices"):
            found = {name.strip("_"): importlib.import_module(name) for name in names}
            yield SimpleNamespace(**found)

    return opened
