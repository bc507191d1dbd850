"""Pooled features by pass, the probes on them, and networks joined: each on a toy corpus."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch

from .conftest import import_from

ABSENT = [
    name for name in ("speechbrain", "av", "transformers") if importlib.util.find_spec(name) is None
]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"the recipe needs {ABSENT}")

WINDOW = 4_000
NAMES = ("bank", "judge", "ssl_frames", "pooled", "pooled_probe", "join")


@pytest.fixture(scope="module")
def recipe(recipe_folder):
    """The scripts, with a window of a quarter of a second."""
    found = import_from(recipe_folder, NAMES)
    for module in found.values():
        if hasattr(module, "WINDOW"):
            module.WINDOW = WINDOW
    return found


@pytest.fixture(scope="module")
def corpus(toy_corpus):
    return toy_corpus(40, from_each=4)


@pytest.fixture(scope="module")
def encoder():
    from voiceguard.features.ssl.whisper import WhisperConfig, WhisperEncoder

    torch.manual_seed(4)
    config = WhisperConfig(dim=16, depth=2, heads=2, feedforward=16, mels=20, positions=20)
    return WhisperEncoder(config, layers=(0, 1, 2), context_s=0.26).freeze().eval()


@pytest.fixture(scope="module")
def work(recipe, corpus, encoder, tmp_path_factory):
    """A folder with two passes."""
    folder = tmp_path_factory.mktemp("work")
    np.save(folder / "rooms.npy", np.eye(3, 50, dtype=np.float32))
    for name in ("first", "g711", "telephone"):
        recipe["pooled"].run_pass(name, corpus, encoder, folder)
    return folder


def stored(work, name):
    return np.load(work / "pooled" / "whisper" / f"{name}.npy")


def at_one_level(windows):
    from voiceguard.models.ssl_ensemble import PEAK

    return windows * (PEAK / np.abs(windows).max(axis=-1, keepdims=True))


def test_a_row_is_the_statistics_of_the_clips_window(recipe, corpus, encoder, work):
    rows = stored(work, "first")
    assert rows.shape == (40, 3, 32)
    window = at_one_level(recipe["judge"].window(corpus.clip(7)))
    with torch.inference_mode():
        frames = encoder(torch.from_numpy(window[None])).layers[0].numpy()
    np.testing.assert_allclose(rows[7, :, :16], frames.mean(1), rtol=1e-2, atol=2e-3)
    np.testing.assert_allclose(rows[7, :, 16:], frames.std(1), rtol=1e-2, atol=5e-3)
    assert not np.allclose(rows[7], stored(work, "g711")[7], atol=1e-3)


def test_the_windows_are_kept_at_one_level_and_the_next_encoder_hears_them(
    recipe, corpus, encoder, work, tmp_path, monkeypatch
):
    from voiceguard.models.ssl_ensemble import PEAK

    kept = np.load(work / "windows" / "telephone" / "crops.npy")
    assert kept.shape == (40, WINDOW)
    assert kept.dtype == np.int16
    np.testing.assert_allclose(np.abs(kept.astype(int)).max(1), PEAK * 32_767, atol=1.0)
    window = at_one_level(recipe["judge"].window(corpus.clip(7)))
    first = np.load(work / "windows" / "first" / "crops.npy")
    np.testing.assert_allclose(first[7], window * 32_767, atol=0.51)

    pooled = recipe["pooled"]
    shutil.copytree(work / "windows", tmp_path / "windows")
    monkeypatch.setattr(pooled, "draw", lambda *_: pytest.fail)
    pooled.run_pass("telephone", corpus, encoder, tmp_path)
    np.testing.assert_array_equal(stored(tmp_path, "telephone"), stored(work, "telephone"))


def test_a_killed_pass_goes_on_and_another_encoder_is_refused(
    recipe, corpus, encoder, work, tmp_path, monkeypatch
):
    from voiceguard.errors import ParameterError

    np.save(tmp_path / "rooms.npy", np.eye(3, 50, dtype=np.float32))
    pooled = recipe["pooled"]
    monkeypatch.setattr(pooled, "FLUSH_EVERY", 1)
    calls = []

    def stop_at_the_second(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    whole = pooled.pool
    monkeypatch.setattr(pooled, "pool", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        pooled.run_pass("telephone", corpus, encoder, tmp_path)
    assert (tmp_path / "pooled" / "whisper" / "telephone.txt").read_text() == "16"
    monkeypatch.setattr(pooled, "pool", whole)
    pooled.run_pass("telephone", corpus, encoder, tmp_path)
    np.testing.assert_array_equal(stored(tmp_path, "telephone"), stored(work, "telephone"))
    other = type(encoder).from_config(encoder.config, layers=(0, 1)).eval()
    with pytest.raises(ParameterError, match="layers"):
        pooled.run_pass("telephone", corpus, other, tmp_path)


def test_a_member_is_a_file_and_its_layers(recipe):
    member = recipe["pooled_probe"].Member.parse("encoders/tiny.safetensors:0,2")
    assert member.path.name == "tiny.safetensors"
    assert (member.layers, member.hidden) == ((0, 2), 0)
    assert recipe["pooled_probe"].Member.parse("tiny.safetensors:1:64").hidden == 64


def test_probes_are_judged_on_folds_that_they_did_not_hear(
    recipe, corpus, work, capsys, monkeypatch
):
    probes = recipe["pooled_probe"]
    heard = []
    whole = probes.fit

    def noted(features, corpus, train, passes):
        heard.append(set(train.tolist()))
        return whole(features, corpus, train, passes)

    monkeypatch.setattr(probes, "fit", noted)
    folder = work / "pooled" / "whisper"
    members = {"low": probes.Features(folder, (0,)), "high": probes.Features(folder, (1, 2))}
    probes.cross_validate(members, corpus, ("first", "telephone"))
    printed = capsys.readouterr().out
    for name in ("low", "high", "sum"):
        for channel in ("first", "g711"):
            assert f"{name}, {channel}: EER" in printed
    assert len(heard) == 2 * 5
    assert all(len(train) < 40 for train in heard)


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_written_probe_scores_as_on_the_pooled_features(
    recipe, corpus, encoder, work, tmp_path, hidden
):
    from voiceguard.models.ssl_network import load_ssl_network

    probes = recipe["pooled_probe"]
    features = probes.Features(work / "pooled" / "whisper", (0, 2), hidden=hidden)
    rows = np.arange(40)
    probe = probes.fit(features, corpus, rows, ("first", "telephone"))
    chosen = type(encoder).from_config(encoder.config, layers=(0, 2))
    chosen.load_state_dict(encoder.state_dict())
    path = probes.write("whisper", probe, chosen.eval(), tmp_path)
    network = load_ssl_network(path)
    windows = at_one_level(np.stack([recipe["judge"].window(corpus.clip(i)) for i in range(40)]))
    with torch.inference_mode():
        output = network(torch.from_numpy(windows))
    found = network.score(output).numpy()
    expected = probe.decision_function(features("first", rows))
    # Features were kept in 16 bits.
    if hidden:
        np.testing.assert_allclose(found, expected, atol=0.1)
    else:
        assert np.corrcoef(found, expected)[0, 1] > 0.999
    assert output.embedding.shape == (40, hidden or 2 * 32)
    assert json.loads((work / "pooled" / "whisper" / "run.json").read_text())["layers"] == [0, 1, 2]


def test_beliefs_are_the_mean_log_odds_over_members_and_passes(recipe, corpus, work):
    probes = recipe["pooled_probe"]
    folder, passes = work / "pooled" / "whisper", ("first", "telephone")
    members = {"low": probes.Features(folder, (0,)), "high": probes.Features(folder, (1, 2))}
    train = np.flatnonzero(np.arange(40) % 3 != 1)
    fitted = {name: probes.fit(one, corpus, train, passes) for name, one in members.items()}
    logits, views = probes.believed(members, fitted, passes, train, 40)
    assert logits.shape == (80,)
    odds = [
        fitted[name].decision_function(members[name](heard, np.array([6])))[0]
        for name in members
        for heard in passes
    ]
    assert logits[6] == pytest.approx(np.mean(odds), rel=1e-5)
    assert logits[46] == logits[6]
    assert np.isnan(logits[7])
    assert views.shape[0] == 80
    assert not np.allclose(views[6], views[46])
    spread = views[np.isfinite(logits)].std(0)
    np.testing.assert_allclose(spread[:16], 1.0, atol=0.05)


def test_a_hidden_layer_finds_what_no_linear_map_does(recipe, monkeypatch):
    probes = recipe["pooled_probe"]
    for name, value in (("EPOCHS", 150), ("RATE", 1e-2), ("DROPOUT", 0.0), ("MIX", 0.05)):
        monkeypatch.setattr(probes, name, value)
    rng = np.random.default_rng(5)
    pooled = rng.normal(size=(800, 4)).astype(np.float32) * [1.0, 20.0, 1.0, 1.0] + 3.0
    pooled = pooled.astype(np.float32)
    bonafide = np.abs(pooled[:, 1] - 3.0) > 13.5
    torch.manual_seed(0)
    probe = probes.HiddenProbe(2, 32, 1).fit(pooled[:600], bonafide[:600], np.ones(600))
    says = probe.decision_function(pooled[600:]) > 0
    assert np.mean(says == bonafide[600:]) > 0.8


def test_joined_networks_weigh_by_the_spread_of_their_scores(
    recipe, corpus, encoder, work, tmp_path, monkeypatch, capsys
):
    from voiceguard.models.ssl_ensemble import SSLEnsemble, load_ssl_ensemble

    probes, join = recipe["pooled_probe"], recipe["join"]
    paths = []
    for name, layers in (("a", (0,)), ("b", (1, 2))):
        features = probes.Features(work / "pooled" / "whisper", layers)
        probe = probes.fit(features, corpus, np.arange(40), ("first",))
        chosen = type(encoder).from_config(encoder.config, layers=layers)
        state = encoder.state_dict()
        chosen.load_state_dict({key: state[key] for key in chosen.state_dict()})
        paths.append(probes.write(name, probe, chosen.eval(), tmp_path))
    monkeypatch.setattr(join, "open_corpus", lambda *_: corpus)
    out = tmp_path / "joined.safetensors"
    arguments = ["join.py", *map(str, paths), "--data_folder", ".", "--work", str(work)]
    monkeypatch.setattr("sys.argv", [*arguments, "--fold", "0", "--out", str(out)])
    join.main()
    printed = capsys.readouterr().out
    assert "sum, clean: EER" in printed
    assert "sum, g711: EER" in printed
    ensemble = load_ssl_ensemble(out)
    held = recipe["judge"].HeldOut(corpus, 0)
    spreads = [
        np.std(np.concatenate([held.scores(alone, channel) for channel in ("clean", "g711")]))
        for alone in (SSLEnsemble([member]) for member in ensemble.networks)
    ]
    np.testing.assert_allclose(ensemble.weights, 1 / np.array(spreads), rtol=1e-5)
