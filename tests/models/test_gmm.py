import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from voiceguard.errors import ModelError, ParameterError
from voiceguard.models import gmm
from voiceguard.models.gmm import GMM, GMMConfig
from voiceguard.models.mixture import Mixture

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

    def record(frames, **options):
        seen.append(len(frames))
        return Mixture(np.ones(1), np.zeros((1, 57)), np.ones((1, 57)))

    monkeypatch.setattr(gmm, "fit_mixture", record)
    config = GMMConfig(components=2, max_frames=20)
    GMM(config).fit(bonafide=BONAFIDE, spoof=SPOOF)
    assert seen == [20, 20]


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
