"""A bundle's windows as frames."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from voiceguard.embedding.embedder import Embedder
from voiceguard.errors import ParameterError


@pytest.fixture
def noise(rng) -> np.ndarray:
    return rng.normal(0, 0.1, (2, 60 * 16_000 + 321)).astype(np.float32)


def test_the_vectors_are_the_detectors(detector, noise):
    embedding = Embedder(detector).embed((noise, 16_000))
    expected = detector.embed((noise, 16_000))
    by_channel = expected.vectors.reshape(2, -1, 3)
    np.testing.assert_array_equal(embedding.values, by_channel)
    assert embedding.n_channels == 2
    assert embedding.model == "tiny"
    middle = (expected.start_s + expected.end_s)[: len(embedding.times_s)] / 2
    np.testing.assert_allclose(embedding.times_s, middle)


def test_a_folder_is_a_model_too(calibrated, detector, noise):
    one, other = Embedder(str(calibrated)), Embedder(detector)
    assert one.model.sha256 == other.model.sha256
    np.testing.assert_array_equal(
        one.embed((noise[0], 16_000)).values, other.embed((noise[0], 16_000)).values
    )


def test_other_weights_or_another_hop_have_another_hash(make_bundle, make_graph):
    hashes = [
        Embedder(make_bundle(name, **fields)).model.sha256
        for name, fields in {
            "a": {},
            "b": {"hop_samples": 4_000},
            "c": {"graph": make_graph(scale=2.0)},
        }.items()
    ]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("option", [{"chunk_s": 5}, {"context_s": 1}, {"device": "cpu"}])
def test_its_windows_are_fixed(detector, calibrated, option):
    (name,) = option
    for model in (calibrated, detector):
        with pytest.raises(ParameterError, match=f"'{name}'.*does not go with"):
            Embedder(model, **option)


TORCH_FREE = """
import sys
from importlib.abc import MetaPathFinder

class Wall(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchaudio", "librosa", "h5py"):
            raise ModuleNotFoundError(f"{name} is walled off", name=name)

sys.meta_path.insert(0, Wall())
import numpy as np
import voiceguard
from voiceguard.errors import MissingExtraError

embedder = voiceguard.Embedder(sys.argv[1], pool="mean")
sound = (np.zeros(16_000, np.float32), 16_000)
assert embedder.embed(sound).values.shape == (3,)
asked = [
    lambda: embedder.embed_many([sound], out="never.h5"),
    lambda: voiceguard.embed(sound, model="lfcc"),
    lambda: voiceguard.embed(sound, model="xls-r-300m"),
]
for ask in asked:
    try:
        ask()
    except MissingExtraError as error:
        assert 'pip install "voiceguard[train]"' in str(error), error
    else:
        raise AssertionError("nothing was missing")
"""


def test_torch_and_h5py_are_missed_only_where_they_are_needed(calibrated):
    code = [sys.executable, "-c", TORCH_FREE, str(calibrated)]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
