"""What is loaded when: a service must not carry, nor wait for, what it does not use."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

HEAVY = (
    "onnxruntime", "soundfile", "soxr", "sklearn", "scipy", "librosa", "av", "typer", "rich",
    "torch", "torchaudio", "speechbrain", "onnx", "matplotlib", "h5py", "filelock", "transformers",
)  # fmt: skip
TRAIN_ONLY = ("torch", "torchaudio", "speechbrain", "librosa", "matplotlib", "onnx", "safetensors")


def run(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADED = f"""
import json, sys
{{}}
print(json.dumps(sorted({{{{m.split(".")[0] for m in sys.modules}}}} & set({HEAVY!r}))))
"""


@pytest.mark.parametrize(
    "code",
    [
        "import voiceguard",
        "import voiceguard; dir(voiceguard)",
        "import voiceguard; voiceguard.Detector, voiceguard.read, voiceguard.score",
        "import voiceguard; voiceguard.embed, voiceguard.Embedder",
        "import voiceguard as v; v.audio, v.errors, v.metrics, v.protocols",
        "import voiceguard.detect as d; [getattr(d, name) for name in d.__all__]",
    ],
)
def test_importing_loads_nothing_heavy(code):
    assert json.loads(run(LOADED.format(code))) == []


def test_the_command_line_starts_light():
    """Only the parser; tables, decoders and networks come with the command that needs them."""
    code = "from voiceguard.cli.app import main; main(['--version'])"
    assert json.loads(run(LOADED.format(code)).splitlines()[-1]) == ["typer"]


def test_every_public_name_resolves():
    run(
        """
        import voiceguard
        for name in voiceguard.__all__:
            assert getattr(voiceguard, name) is not None, name
        """
    )


def test_an_unknown_name_is_an_attribute_error():
    import voiceguard
    import voiceguard.detect

    for module in (voiceguard, voiceguard.detect):
        with pytest.raises(AttributeError, match="nonsense"):
            _ = module.nonsense


BLOCK = f"""
import sys
from importlib.abc import MetaPathFinder

class Wall(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {TRAIN_ONLY!r}:
            raise ImportError(f"{{name}} was imported on the scoring path")

sys.meta_path.insert(0, Wall())
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose score is the mean of the window."""
    onnx = pytest.importorskip("onnx", reason="the onnx package builds the test graph")
    from voiceguard.detect.bundle import Manifest, write_bundle
    from voiceguard.detect.calibration import Calibration

    helper = onnx.helper
    nodes = [
        helper.make_node("ReduceMean", ["waveform"], ["score"], axes=[1], keepdims=0),
        helper.make_node("ReduceMean", ["waveform"], ["embedding"], axes=[1], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("waveform", 1, ["batch", 16_000])],
        [
            helper.make_tensor_value_info("score", 1, ["batch"]),
            helper.make_tensor_value_info("embedding", 1, ["batch", 1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    manifest = Manifest(
        id="mean", version="1", licence="MIT", description="", sample_rate=16_000,
        window_samples=16_000, hop_samples=8_000, embedding_dim=1,
        calibration=Calibration(1.0, 0.0),
    )  # fmt: skip
    return write_bundle(
        tmp_path / "mean", graph=model.SerializeToString(), manifest=manifest, card=""
    )


def test_scoring_needs_no_training_library(bundle, tmp_path):
    """The wall stands; the gate is opened, so that the graph runs on the noise too."""
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "noise.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 24_000)
    soundfile.write(path, noise, 8_000)
    out = run(
        BLOCK
        + """
import voiceguard
detector = voiceguard.Detector.load(sys.argv[1])
result = detector.score(sys.argv[2])
assert len(result.segments) == 5, result
assert len(detector.embed(sys.argv[2]).vectors) == 5
assert [row.error for row in detector.score_many([sys.argv[2]])] == [None]
heavy = {"sklearn", "scipy", "typer", "rich", "pandas", "numba"} & set(sys.modules)
assert not heavy, heavy
print(result.to_json())
""",
        str(bundle),
        str(path),
    )
    assert json.loads(out)["model"]["id"] == "mean"


def test_the_wall_stands():
    """The test above could not fail if the wall let things through."""
    with pytest.raises(AssertionError, match="was imported on the scoring path"):
        run(BLOCK + "import torch")
