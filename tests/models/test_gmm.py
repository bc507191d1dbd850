import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sklearn.mixture import GaussianMixture

from voiceguard.errors import ModelError, ParameterError
from voiceguard.models import gmm
from voiceguard.models.gmm import GMM, GMMConfig, Mixture

SMALL = GMMConfig(components=3, iterations=5)


def voice(seed, colour):
    """Half a second of noise through a one-pole filter: two colours are two classes."""
    rng = np.random.default_rng(seed)
    noise = 0.1 * rng.standard_normal(8000)
    return np.convolve(noise, colour ** np.arange(20), mode="same").astype(np.float32)


BONAFIDE = [voice(seed, 0.9) for seed in range(4)]
SPOOF = [voice(seed, -0.5) for seed in range(10, 14)]


@pytest.fixture(scope="module")
def system():
    return GMM(SMALL).fit(bonafide=BONAFIDE, spoof=SPOOF)


def test_density_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    frames = np.concatenate([rng.normal(m, 0.1 + m, (500, 6)) for m in (0.0, 1.0, 3.0)])
    fitted = GaussianMixture(5, covariance_type="diag", random_state=0).fit(frames)
    mixture = Mixture(fitted.weights_, fitted.means_, fitted.covariances_)
    probes = rng.normal(1.0, 3.0, (5000, 6))
    expected = fitted.score_samples(probes)
    np.testing.assert_allclose(mixture.log_likelihood(probes), expected, rtol=1e-9, atol=1e-9)


def test_density_integrates_to_one():
    mixture = Mixture(np.array([0.3, 0.7]), np.array([[-2.0], [1.0]]), np.array([[0.5], [2.0]]))
    grid = np.linspace(-30.0, 30.0, 20001)
    density = np.exp(mixture.log_likelihood(grid[:, None]))
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1.0, abs=1e-9)


def test_far_frames_do_not_underflow():
    mixture = Mixture(np.array([1.0]), np.zeros((1, 2)), np.full((1, 2), 1e-6))
    assert mixture.log_likelihood(np.full((1, 2), 1e3))[0] == pytest.approx(-1e12, rel=1e-6)


def test_score_is_the_mean_difference_and_tells_the_classes(system):
    for seed, colour in [(50, 0.9), (51, -0.5)]:
        waveform = voice(seed, colour)
        frames = system.features(waveform)
        assert frames.shape == (system.front_end.frames(8000), 57)
        ratio = system.bonafide_.log_likelihood(frames) - system.spoof_.log_likelihood(frames)
        assert system.score(waveform) == pytest.approx(ratio.mean())
        assert (system.score(waveform) > 0) == (colour > 0)


def test_same_seed_gives_the_same_mixtures(system):
    again = GMM(SMALL).fit(bonafide=iter(BONAFIDE), spoof=iter(SPOOF))
    assert np.array_equal(again.bonafide_.means, system.bonafide_.means)
    other = GMM(GMMConfig(components=3, iterations=5, seed=1)).fit(bonafide=BONAFIDE, spoof=SPOOF)
    assert not np.array_equal(other.bonafide_.means, system.bonafide_.means)


def test_frame_limit_is_kept(monkeypatch):
    seen = []

    def record(frames, config):
        seen.append(len(frames))
        return Mixture(np.ones(1), np.zeros((1, 57)), np.ones((1, 57)))

    monkeypatch.setattr(gmm, "_fit_mixture", record)
    config = GMMConfig(components=2, max_frames=20)
    GMM(config).fit(bonafide=BONAFIDE, spoof=SPOOF)
    assert seen == [20, 20]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(0, 40), max_size=8))
def test_sample_does_not_depend_on_how_the_stream_is_cut(limit, lengths):
    stream = np.arange(sum(lengths), dtype=float)[:, None]
    whole = gmm._FrameSample(limit, np.random.default_rng(3))
    whole.add(stream)
    parts = gmm._FrameSample(limit, np.random.default_rng(3))
    for part in np.split(stream, np.cumsum(lengths)[:-1] if lengths else []):
        parts.add(part)
    assert np.array_equal(whole.frames(), parts.frames())
    kept = whole.frames()[:, 0]
    assert len(kept) == min(limit, len(stream))
    assert (np.diff(kept) > 0).all() and set(kept) <= set(stream[:, 0])


def test_sample_is_uniform():
    counts = np.zeros(10)
    for seed in range(2000):
        sample = gmm._FrameSample(3, np.random.default_rng(seed))
        for row in np.arange(10.0).reshape(10, 1, 1):
            sample.add(row)
        counts[sample.frames()[:, 0].astype(int)] += 1
    # 600 expected of each, standard deviation 20.
    assert np.abs(counts - 600).max() < 100


@pytest.mark.slow
def test_cqcc_system():
    config = GMMConfig(front_end="cqcc_asvspoof2021", components=2)
    system = GMM(config).fit(bonafide=BONAFIDE[:2], spoof=SPOOF[:2])
    assert system.score(voice(50, 0.9)) > 0 > system.score(voice(51, -0.5))


def test_file_reads_back_to_the_same_scores(system, tmp_path):
    path = system.save(tmp_path / "lfcc.safetensors")
    loaded = GMM.load(path)
    assert loaded.config == system.config
    assert loaded.score(SPOOF[0]) == system.score(SPOOF[0])
    assert [entry.name for entry in tmp_path.iterdir()] == ["lfcc.safetensors"]


def damaged(system, folder, *, config=None, drop=None, **arrays):
    path = system.save(folder / "good.safetensors")
    content = {**load_file(path), **{k.replace("__", "."): v for k, v in arrays.items()}}
    content.pop(drop, None)
    plain = json.dumps(system.config.to_dict()) if config is None else config
    save_file(content, folder / "bad.safetensors", metadata={"config": plain})
    return folder / "bad.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": "spoof.means"}, "must hold"),
        ({"extra__thing": np.ones(1)}, "must hold"),
        ({"spoof__weights": np.ones(4) / 4}, "shapes"),
        ({"spoof__means": np.full((3, 57), np.nan)}, "shapes or no numbers"),
        ({"spoof__weights": np.array([1, 0, 0])}, "no numbers"),
        ({"spoof__weights": np.array([0.5, 0.5, 0.5])}, "sum to 1"),
        ({"spoof__weights": np.array([1.5, -0.3, -0.2])}, "positive"),
        ({"bonafide__variances": np.zeros((3, 57))}, "positive variances"),
        ({"config": "{"}, "malformed"),
        ({"config": "[]"}, "malformed"),
        ({"config": '{"banana": 1}'}, "banana"),
        ({"config": '{"components": "many"}'}, "components"),
        ({"config": '{"front_end": "lfcc_asvspoof2019"}'}, "57.*60"),
    ],
)
def test_damaged_file_is_refused(system, tmp_path, change, message):
    with pytest.raises(ModelError, match=message):
        GMM.load(damaged(system, tmp_path, **change))


def test_what_is_no_safetensors_file_is_refused(system, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="does not exist"):
        GMM.load(tmp_path / "absent")
    for content in (b"", b"\xff" * 100, pickle.dumps({"a": 1})):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ModelError, match="damaged"):
            GMM.load(tmp_path / "file")
    path = system.save(tmp_path / "whole")
    (tmp_path / "file").write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged"):
        GMM.load(tmp_path / "file")
    monkeypatch.setattr(gmm, "MAX_FILE_BYTES", 10)
    with pytest.raises(ModelError, match="larger than 10 bytes"):
        GMM.load(path)


def test_unfitted_is_refused(tmp_path):
    for use in (lambda g: g.score(SPOOF[0]), lambda g: g.save(tmp_path / "x")):
        with pytest.raises(ModelError, match="not fitted"):
            use(GMM(SMALL))
    assert not list(tmp_path.iterdir())


def test_too_few_frames_are_refused():
    with pytest.raises(ParameterError, match=r"'spoof'.*512 frames"):
        GMM(GMMConfig()).fit(bonafide=BONAFIDE * 5, spoof=SPOOF[:1])
    with pytest.raises(ParameterError, match=r"'bonafide'.*Got 0"):
        GMM(SMALL).fit(bonafide=[], spoof=SPOOF)


@pytest.mark.parametrize("waveform", [np.zeros((2, 8000), np.float32), np.zeros(8000, np.int16)])
def test_waveform_of_another_kind_is_refused(system, waveform):
    with pytest.raises(ParameterError, match="waveform"):
        system.score(waveform)


def test_front_end_of_several_channels_is_refused():
    with pytest.raises(ParameterError, match="one channel"):
        GMM(GMMConfig(front_end="compressed")).features(BONAFIDE[0])
