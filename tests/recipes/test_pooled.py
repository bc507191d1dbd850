"""Pooled features by pass, the probes on them, and networks joined: each on a toy corpus.

One module, though a long one: all of it stands on the same passes, which are made once.
"""

import csv
import importlib.util
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from .conftest import RECIPE, import_from

ABSENT = [
    name for name in ("speechbrain", "av", "transformers") if importlib.util.find_spec(name) is None
]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"the recipe needs {ABSENT}")

WINDOW = 4_000
NAMES = (
    "split", "far", "bank", "judge", "ssl_frames", "pooled", "probes", "pooled_probe", "export",
)  # fmt: skip


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


def test_ends_are_of_the_first_window_and_nothing_else_of_it_is_another(recipe, corpus, work):
    pooled = recipe["pooled"]
    ends = pooled.draw("ends", corpus, work)
    found = [(recipe["judge"].window(corpus.clip(i)), ends(i)) for i in range(12)]
    for plain, other in found:
        assert other.shape == (WINDOW,) and not np.array_equal(plain, other)
        assert np.corrcoef(plain, other)[0, 1] > 0.7
    np.testing.assert_array_equal(ends(3), found[3][1], "the same at every call")


def test_in_a_crowd_people_of_the_corpus_talk_behind(recipe, corpus, tmp_path):
    bank = recipe["bank"]
    np.save(tmp_path / "halls.npy", np.eye(3, 50, dtype=np.float32))
    crowd = bank.Pass("crowd", corpus, tmp_path)
    labels = [corpus.rows[i]["label"] for i in crowd.people]
    assert set(labels) == {"bonafide"} and len(labels) > 3
    asked = []
    voice = crowd.voice
    crowd.channel.voices = lambda rng: asked.append(1) or voice(rng)
    crops = [crowd(i) for i in range(12)]
    assert len(asked) >= 4 and all(np.isfinite(one).all() for one in crops)
    np.testing.assert_array_equal(bank.Pass("crowd", corpus, tmp_path)(5), crops[5])


def test_mixed_passes_give_each_clip_two_of_their_kinds(recipe, corpus, tmp_path):
    pooled = recipe["pooled"]
    for rooms in ("rooms.npy", "halls.npy"):
        np.save(tmp_path / rooms, np.eye(3, 50, dtype=np.float32))
    kinds = {kind: pooled.draw(kind, corpus, tmp_path) for kind in pooled.MIXED}
    first, second = (pooled.draw(name, corpus, tmp_path) for name in ("mixed", "mixed-2"))
    for i in (0, 3, 8):
        one, other = pooled.kinds_of(i)[:2]
        np.testing.assert_array_equal(first(i), kinds[one](i))
        np.testing.assert_array_equal(second(i), kinds[other](i))
    order = np.array([pooled.kinds_of(i) for i in range(800)])
    assert all(set(row) == set(pooled.MIXED) for row in order)
    for place in (0, 1):
        shares = [np.mean(order[:, place] == kind) for kind in pooled.MIXED]
        assert min(shares) > 0.19 and max(shares) < 0.31


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
    member = recipe["probes"].Member.parse("encoders/tiny.safetensors:0,2")
    assert member.path.name == "tiny.safetensors"
    assert member.layers == (0, 2)
    assert (member.fit.hidden, member.fit.penalty) == (0, 0.001)
    assert str(member) == "tiny:0,2"
    wide = recipe["probes"].Member.parse("tiny.safetensors:1:64")
    assert wide.fit.hidden == 64
    assert str(wide) == "tiny:1:64"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("tiny:0::penalty=0.03", "penalty 0.03, levelling 0.2, classical 0.2"),
        ("tiny:0,2:8:mix=0.4,epochs=1,decay=0.2",
         "mixtures 0.4, 1 epochs, classical 0.2, decay 0.2"),
    ],
)  # fmt: skip
def test_a_members_settings_are_read_told_and_fitted(recipe, corpus, work, text, settings):
    probes = recipe["probes"]
    member = probes.Member.parse(text.replace("tiny", "tiny.safetensors"))
    assert str(member) == text
    assert probes.told_of(member.fit) == settings
    usual = probes.Member.parse(":".join(text.replace("tiny", "tiny.safetensors").split(":")[:3]))
    rows, folder = np.arange(40), work / "pooled" / "whisper"
    found, other = (
        probes.fit(
            probes.Features(folder, one.layers, fit=one.fit), corpus, rows, ("first",)
        ).decision_function(probes.Features(folder, one.layers)("first", rows))
        for one in (member, usual)
    )
    assert not np.allclose(found, other, rtol=1e-3)


@pytest.mark.parametrize(
    ("text", "named"),
    [("t:0::epochs=3", "penalty"), ("t:0:8:penalty=1", "epochs"), ("t:0:8:hidden=4", "mix")],
)
def test_a_setting_that_the_probe_lacks_is_refused_with_those_it_has(recipe, text, named):
    with pytest.raises(ValueError, match=f"it has .*{named}"):
        recipe["probes"].Member.parse(text)


@pytest.fixture(scope="module")
def members(recipe, work):
    folder = work / "pooled" / "whisper"
    features = recipe["probes"].Features
    return {"low": features(folder, (0,)), "high": features(folder, (1, 2))}


def test_each_clip_is_judged_by_probes_that_did_not_hear_its_family(
    recipe, corpus, members, tmp_path, capsys, monkeypatch
):
    crossing, split = recipe["pooled_probe"], recipe["split"]
    heard = []
    whole = crossing.fit

    def noted(features, corpus, train, passes):
        heard.append({split.family(corpus.rows[i]) for i in train})
        return whole(features, corpus, train, passes)

    monkeypatch.setattr(crossing, "fit", noted)
    folds = [split.split(corpus.rows, number) for number in range(5)]
    scores = crossing.crossed(members, corpus, folds, ("first", "telephone"), ("first", "g711"))
    assert len(heard) == 2 * 5
    for number in range(5):
        held = folds[number].held_out
        assert not heard[2 * number] & {split.family(corpus.rows[i]) for i in held}
    assert np.all(np.isfinite(scores["low"]["g711"]))

    weights = crossing.shares(scores)
    both = np.concatenate([scores["low"]["first"], scores["low"]["g711"]])
    assert weights["low"] == pytest.approx(1 / both.std())
    scores = crossing.with_sum(scores, weights)
    total = weights["low"] * scores["low"]["first"] + weights["high"] * scores["high"]["first"]
    np.testing.assert_allclose(scores["sum of low and high"]["first"], total)

    for _ in range(2):
        crossing.report(
            scores, corpus, folds, tmp_path / "table.csv",
            passes=("first", "telephone"), kind="0 2 far", how={"low": "mild", "high": "harsh"},
        )  # fmt: skip
    printed = capsys.readouterr().out
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["probe"] for row in rows] == ["low", "high", "sum of low and high"] * 2
    assert rows[1]["passes"] == "first telephone"
    assert [row["settings"] for row in rows[:3]] == ["mild", "harsh", "mild; harsh"]
    assert rows[0]["folds"] == "0 2 far"
    found = crossing.fold_errors(scores["high"]["g711"], corpus, folds).mean(0)
    assert float(rows[1]["macro_g711"]) == pytest.approx(found[1], abs=1e-4)
    assert f"high, g711: EER {100 * found[0]:.1f} %" in printed


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_written_probe_scores_as_on_the_pooled_features(recipe, corpus, encoder, work, hidden):
    probes = recipe["probes"]
    fit = probes.HiddenFit(hidden) if hidden else probes.LinearFit()
    features = probes.Features(work / "pooled" / "whisper", (0, 2), fit=fit)
    rows = np.arange(40)
    probe = probes.fit(features, corpus, rows, ("first", "telephone"))
    chosen = type(encoder).from_config(encoder.config, layers=(0, 2))
    chosen.load_state_dict(encoder.state_dict())
    network = features.network(probe, chosen.eval())
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


@pytest.fixture(scope="module")
def low_encoder(encoder):
    chosen = type(encoder).from_config(encoder.config, layers=(0,))
    known = chosen.state_dict().keys()
    chosen.load_state_dict({k: v for k, v in encoder.state_dict().items() if k in known})
    return chosen.freeze().eval()


def test_covariances_stand_beside_the_statistics_and_reach_the_network(
    recipe, corpus, low_encoder, work
):
    from voiceguard.models.covariance import pool_covariances

    pooled, probes = recipe["pooled"], recipe["probes"]
    for name in ("first", "telephone"):
        pooled.run_pass(name, corpus, low_encoder, work, axes=5)
    folder = work / "pooled" / "whisper-5"
    kept, axes = np.load(folder / "first.npy"), np.load(folder / "axes.npy")
    assert kept.shape == (40, 1, 2 * 16 + 15)
    np.testing.assert_allclose(kept[:, 0, :32], stored(work, "first")[:, 0], rtol=1e-2, atol=5e-3)
    windows = at_one_level(np.stack([recipe["judge"].window(corpus.clip(i)) for i in range(40)]))
    waves = torch.from_numpy(windows)
    with torch.inference_mode():
        frames = low_encoder(waves).layers[:, 0]
        expected = pool_covariances(frames, torch.from_numpy(axes)).numpy()
    np.testing.assert_allclose(kept[:, 0, 32:], expected, rtol=2e-2, atol=2e-2)

    member = probes.Member.parse("tiny.safetensors:0::axes=5,penalty=0.01")
    features = member.features(work, low_encoder)
    rows = np.arange(40)
    probe = probes.fit(features, corpus, rows, ("first", "telephone"))
    network = features.network(probe, low_encoder)
    with torch.inference_mode():
        found = network.score(network(waves)).numpy()
    assert np.corrcoef(found, probe.decision_function(features("first", rows)))[0, 1] > 0.999
    # The axes are made once.
    (folder / "telephone.txt").unlink()
    pooled.run_pass("telephone", corpus, low_encoder, work, axes=5)
    np.testing.assert_array_equal(np.load(folder / "axes.npy"), axes)


def test_modulation_spectra_stand_in_place_of_the_statistics_and_reach_the_network(
    recipe, corpus, work
):
    from voiceguard.features.ssl import load_encoder

    pooled, probes = recipe["pooled"], recipe["probes"]
    member = probes.Member.parse("cepstra:0::segment=16,penalty=0.01")
    assert str(member) == "cepstra:0::penalty=0.01,segment=16"
    encoder = member.encoder(None)
    assert encoder.fingerprint() == load_encoder("cepstra").fingerprint()
    for name in ("first", "telephone"):
        pooled.run_pass(name, corpus, encoder, work, segment=16)
    features = member.features(work, encoder)
    rows = np.arange(40)
    assert features("first", rows).shape == (40, 60 * 9)
    probe = probes.fit(features, corpus, rows, ("first", "telephone"))
    network = features.network(probe, encoder)
    windows = at_one_level(np.stack([recipe["judge"].window(corpus.clip(i)) for i in range(40)]))
    with torch.inference_mode():
        found = network.score(network(torch.from_numpy(windows))).numpy()
    assert np.corrcoef(found, probe.decision_function(features("first", rows)))[0, 1] > 0.999


def test_covariances_of_several_layers_are_refused(recipe, corpus, encoder, tmp_path):
    from voiceguard.errors import ParameterError

    with pytest.raises(ParameterError, match="leave out --axes"):
        recipe["pooled"].run_pass("first", corpus, encoder, tmp_path, axes=5)


def test_errors_in_one_pot_tell_present_day_engines_from_classical_ones(recipe):
    crossing, split = recipe["pooled_probe"], recipe["split"]
    systems = ["", "flite", "bark"]
    rows = [
        {
            "label": "spoof" if systems[i % 3] else "bonafide",
            "system": systems[i % 3],
            "origin": "o",
        }
        for i in range(60)
    ]
    # Every flite clip looks human, no bark clip does.
    scores = np.array([[0.0, 1.0, -1.0][i % 3] for i in range(60)]) + np.linspace(0, 0.5, 60)
    folds = [split.Split(np.array([]), np.arange(part, 60, 2)) for part in (0, 1)]
    found = crossing.pot_errors(scores, SimpleNamespace(rows=rows), folds)
    assert found == pytest.approx((0.5, 0.0, 1.0), abs=0.02)


def test_beliefs_are_the_mean_log_odds_over_members_and_passes(recipe, corpus, members):
    crossing, passes = recipe["pooled_probe"], ("first", "telephone")
    train = np.flatnonzero(np.arange(40) % 3 != 1)
    fitted = {name: crossing.fit(one, corpus, train, passes) for name, one in members.items()}
    logits, views = crossing.believed(members, fitted, passes, train, 40)
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
    probes = recipe["probes"]
    monkeypatch.setattr(probes, "RATE", 1e-2)
    how = probes.HiddenFit(32, epochs=150, dropout=0.0, mix=0.05)
    rng = np.random.default_rng(5)
    pooled = rng.normal(size=(800, 4)).astype(np.float32) * [1.0, 20.0, 1.0, 1.0] + 3.0
    pooled = pooled.astype(np.float32)
    bonafide = np.abs(pooled[:, 1] - 3.0) > 13.5
    torch.manual_seed(0)
    probe = probes.HiddenProbe(2, 1, how).fit(pooled[:600], bonafide[:600], np.ones(600))
    says = probe.decision_function(pooled[600:]) > 0
    assert np.mean(says == bonafide[600:]) > 0.8


@pytest.fixture
def two_encoders(encoder, tmp_path):
    """Two files, which keep their layers apart."""
    from voiceguard.features.ssl.native import save_encoder

    return [f"{save_encoder(encoder, tmp_path / 'tiny.safetensors')}:{x}" for x in ("0", "1,2:8")]


@pytest.fixture(scope="module")
def all_passes(work):
    """The folder with one more pass, so that it has all that a written network is judged on."""
    shutil.copytree(work / "windows" / "telephone", work / "windows" / "channel")
    kept = work / "pooled" / "whisper"
    shutil.copy(kept / "telephone.npy", kept / "channel.npy")
    return work


@pytest.mark.parametrize("fold", [None, 1])
def test_the_written_network_is_the_weighted_sum_and_its_scores_calibrate_it(
    recipe, corpus, all_passes, two_encoders, tmp_path, monkeypatch, capsys, fold
):
    from voiceguard.detect.bundle import read_bundle
    from voiceguard.models.ssl_ensemble import load_ssl_ensemble
    from voiceguard.models.ssl_network import load_ssl_network

    crossing, export = recipe["pooled_probe"], recipe["export"]
    for module in (crossing, export):
        monkeypatch.setattr(module, "open_corpus", lambda *_: corpus)
    common = ["--data_folder", ".", "--work", str(all_passes)]
    held = [] if fold is None else ["--fold", str(fold)]
    out, table = tmp_path / "made", tmp_path / "table.csv"
    argv = ["pooled_probe.py", *common, "--members", *two_encoders, "--context_s", "0.26", *held]
    passes = ["--passes", "first", "telephone"]
    written = ["--results", str(table), "--out", str(out), "--targets"]
    monkeypatch.setattr("sys.argv", [*argv, *passes, *written])
    crossing.main()
    ensemble = load_ssl_ensemble(out / "joined.safetensors")
    assert load_ssl_network(out / "tiny-1-2-8.safetensors").config == ensemble.networks[1].config
    assert [round(w, 3) for w in ensemble.weights] == json.loads(
        capsys.readouterr().out.split("weights ")[1].splitlines()[0]
    )
    bonafide, scores = recipe["judge"].read_scores(out / "crossed.csv.gz")
    assert list(scores) == ["first", "g711", "telephone", "channel"]
    assert len(bonafide) == len(scores["channel"]) == 40
    if fold is None:
        joins(recipe, argv, passes, table, out, two_encoders, monkeypatch)
        takes_a_place(recipe, argv, passes, table, out, two_encoders, monkeypatch)
    targets = np.load(out / "targets.npz")
    trained = np.isfinite(targets["logits"]).sum()
    assert trained == 2 * 40 if fold is None else 0 < trained < 2 * 40

    card = tmp_path / "CARD.md"
    card.write_text("# toy")
    argv = ["export.py", *common, *held, "--network", str(out / "joined.safetensors")]
    argv += ["--crossed", str(out / "crossed.csv.gz"), "--scores", str(tmp_path / "kept.csv.gz")]
    monkeypatch.setattr("sys.argv", [*argv, "--card", str(card), "--out", str(tmp_path / "toy")])
    export.main()
    assert "the graph moves scores by" in capsys.readouterr().out
    manifest = read_bundle(tmp_path / "toy").manifest
    assert manifest.provenance["held_out_fold"] == ("none" if fold is None else "1")
    assert "cross-validated over five folds" in manifest.calibration.data
    again, kept = recipe["judge"].read_scores(tmp_path / "kept.csv.gz")
    np.testing.assert_array_equal(again, bonafide)
    np.testing.assert_allclose(kept["g711"], scores["g711"])


def joins(recipe, argv, passes, table, out, two_encoders, monkeypatch):
    """A member joins the written ensemble: the same networks and scores, and its own."""
    from voiceguard.models.ssl_ensemble import load_ssl_ensemble

    crossing, read_scores = recipe["pooled_probe"], recipe["judge"].read_scores
    member = f"{two_encoders[0].rpartition(':')[0]}:2"
    new, beside = out.with_name("more"), ["--beside", str(out), "--out", str(out.with_name("more"))]
    rest = [*argv[: argv.index("--members") + 1], member, "--context_s", "0.26", *passes]
    monkeypatch.setattr("sys.argv", [*rest, "--results", str(table), *beside])
    crossing.main()
    before, after = (load_ssl_ensemble(each / "joined.safetensors") for each in (out, new))
    assert after.config.members[:2] == before.config.members
    assert after.weights[:2] == before.weights and len(after.weights) == 3
    for number, ours in enumerate(before.networks):
        for name, value in ours.state_dict().items():
            assert torch.equal(after.networks[number].state_dict()[name], value)
    (_, old), (_, joint) = (read_scores(each / "crossed.csv.gz") for each in (out, new))
    own = (joint["g711"] - old["g711"]) / after.weights[2]
    whole = np.concatenate([(joint[c] - old[c]) / after.weights[2] for c in joint])
    assert own.std() > 0 and after.weights[2] == pytest.approx(1 / whole.std(), rel=1e-3)
    assert not (new / "targets.npz").exists()
    monkeypatch.setattr("sys.argv", [*rest, "--results", str(table), *beside, "--targets"])
    with pytest.raises(SystemExit):
        crossing.main()


def takes_a_place(recipe, argv, passes, table, out, two_encoders, monkeypatch):
    """A member fitted as it was, in its own place, leaves all scores as they were."""
    from voiceguard.models.ssl_ensemble import load_ssl_ensemble

    crossing, read_scores = recipe["pooled_probe"], recipe["judge"].read_scores
    same = [*argv[: argv.index("--members") + 1], two_encoders[0], "--context_s", "0.26", *passes]
    new = out.with_name("renewed")
    rest = [*same, "--results", str(table), "--beside", str(out), "--out", str(new)]
    monkeypatch.setattr("sys.argv", [*rest, "--instead", "first", "telephone"])
    crossing.main()
    before, after = (load_ssl_ensemble(each / "joined.safetensors") for each in (out, new))
    assert after.config.members == before.config.members[::-1]
    # The files keep six digits of a score.
    np.testing.assert_allclose(after.weights, before.weights[::-1], rtol=1e-4)
    for name, value in before.networks[0].state_dict().items():
        torch.testing.assert_close(after.networks[1].state_dict()[name], value)
    (_, old), (_, joint) = (read_scores(each / "crossed.csv.gz") for each in (out, new))
    for channel, scores in old.items():
        np.testing.assert_allclose(joint[channel], scores, atol=1e-4)

    monkeypatch.setattr("sys.argv", [*rest, "--instead", "first"])
    crossing.main()
    _, other = read_scores(new / "crossed.csv.gz")
    assert max(np.abs(other[c] - old[c]).max() for c in old) > 0.01, "another member was taken out"
    layer = f"{two_encoders[0].rpartition(':')[0]}:2"
    other = [layer if part == two_encoders[0] else part for part in rest]
    monkeypatch.setattr("sys.argv", [*other, "--instead", "first"])
    with pytest.raises(SystemExit, match="must have one member on whisper"):
        crossing.main()
    monkeypatch.setattr("sys.argv", [*same, "--instead", "first"])
    with pytest.raises(SystemExit):
        crossing.main()


def test_a_lone_spectral_aasist_is_joined_and_counts_by_its_deviation(
    recipe, corpus, all_passes, two_encoders, tmp_path, monkeypatch
):
    from safetensors.torch import save_file

    from voiceguard.models.graph import GraphConfig
    from voiceguard.models.spectral_aasist import BlockConfig, SpectralAASIST, SpectralAASISTConfig
    from voiceguard.models.ssl_ensemble import load_ssl_ensemble

    crossing, judge = recipe["pooled_probe"], recipe["judge"]
    graph, blocks = GraphConfig(gat_dims=(6, 4)), (BlockConfig(4, (2, 2)), BlockConfig(6, (4, 4)))
    student = SpectralAASIST(SpectralAASISTConfig(stem=4, blocks=blocks, graph=graph)).eval()
    old, new = tmp_path / "student", tmp_path / "both"
    old.mkdir()
    header = {"config": json.dumps(student.config.to_dict())}
    save_file(student.state_dict(), old / "average.safetensors", metadata=header)
    rng = np.random.default_rng(6)
    alone = {channel: np.round(rng.normal(1.0, 3.0, 40), 3) for channel in crossing.PASSES}
    bonafide = np.array([row["label"] == "bonafide" for row in corpus.rows])
    judge.write_scores(old / "crossed.csv.gz", bonafide, alone)

    monkeypatch.setattr(crossing, "open_corpus", lambda *_: corpus)
    argv = [
        "pooled_probe.py",
        "--data_folder",
        ".",
        "--work",
        str(all_passes),
        "--beside",
        str(old),
    ]
    argv += ["--members", two_encoders[0], "--context_s", "0.26", "--passes", "first"]
    argv += ["--results", str(tmp_path / "table.csv"), "--out", str(new)]
    monkeypatch.setattr("sys.argv", argv)
    crossing.main()
    joint = load_ssl_ensemble(new / "joined.safetensors")
    first, second = joint.networks
    assert first.config == student.config
    for name, value in student.state_dict().items():
        assert torch.equal(first.state_dict()[name], value)
    assert second.config.architecture == "whisper"
    share, _ = joint.weights
    assert share == pytest.approx(1.0 / np.concatenate(list(alone.values())).std())
    _, scores = judge.read_scores(new / "crossed.csv.gz")
    rest = np.concatenate([scores[c] - share * alone[c] for c in crossing.PASSES])
    assert rest.std() == pytest.approx(1.0, rel=1e-3), "what is left is the new member's"

    monkeypatch.setattr("sys.argv", [*argv, "--instead", "first"])
    with pytest.raises(SystemExit, match="student must have one member on whisper"):
        crossing.main()


def test_export_refuses_a_graph_whose_scores_all_moved(recipe, encoder, corpus):
    from voiceguard.models.ssl_ensemble import SSLEnsemble
    from voiceguard.models.ssl_network import SSLNetwork, frame_network

    export = recipe["export"]
    head = frame_network("mlp", dim=16, n_layers=3, frames=13, hidden=4)
    model = SSLEnsemble([SSLNetwork(encoder, head, back_end="mlp")]).eval()

    class Moved:
        def run(self, windows):
            with torch.inference_mode():
                scores = model.score(model(torch.from_numpy(windows))).numpy()
            return scores + scores.std(), None

    with pytest.raises(SystemExit, match="Rounding"):
        export.agreement(model, Moved(), [corpus.clip(i) for i in range(20)])


def test_clusters_are_found_and_none_takes_much_more_than_its_share(recipe):
    far = recipe["far"]
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(5, 6)) * 20
    points = np.concatenate([centre + rng.normal(size=(8, 6)) for centre in centres])
    found = far.clusters(points, np.ones(40), 5).reshape(5, 8)
    assert all(len(set(row)) == 1 for row in found)
    assert len(set(found[:, 0])) == 5

    crowded = np.concatenate([rng.normal(size=(38, 6)), [[30.0] * 6], [[-30.0] * 6]])
    sizes = rng.integers(1, 9, 40).astype(float)
    found = far.clusters(crowded, sizes, 5)
    load = np.bincount(found, weights=sizes, minlength=5)
    assert load.min() > 0
    assert load.max() <= far.MOST * sizes.sum() / 5 + 1e-9


def test_an_origin_too_large_for_any_cluster_still_has_one(recipe):
    sizes = np.array([900.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    points = np.arange(6.0)[:, None] * 10
    found = recipe["far"].clusters(points, sizes, 3)
    assert set(found) == {0, 1, 2}
    assert np.sum(found == found[0]) == 1


def test_the_recipe_s_far_folds_name_every_human_origin(recipe, corpus):
    folds = recipe["far"].read_folds(RECIPE / "far_folds.csv")
    assert set(folds.values()) == {0, 1, 2, 3, 4}
    assert all(name.startswith("human:") for name in folds)


def test_far_folds_are_made_of_the_pooled_features(recipe, corpus, work, tmp_path, monkeypatch):
    far, split = recipe["far"], recipe["split"]
    monkeypatch.setattr(far, "open_corpus", lambda *_: corpus)
    monkeypatch.setattr(far, "HEARD", (("whisper", 0), ("whisper", 1)))
    monkeypatch.setattr(far, "N_FOLDS", 2)
    monkeypatch.setattr(far, "AXES", 4)
    out = tmp_path / "far.csv"
    monkeypatch.setattr(
        "sys.argv", ["far.py", "--data_folder", ".", "--work", str(work), "--out", str(out)]
    )
    far.main()
    humans = {split.family(row) for row in corpus.rows if row["label"] == "bonafide"}
    assert set(far.read_folds(out)) == humans

    rows = stored(work, "first")
    beside = tmp_path / "more"
    shutil.copytree(work / "pooled", beside / "pooled")
    np.save(beside / "pooled" / "whisper" / "first.npy", np.concatenate([rows, 9 * rows[:7]]))
    added = [{**row, "source": "people", "origin": "pypi:a"} for row in corpus.rows[:7]]
    both = SimpleNamespace(rows=[*corpus.rows, *added])
    monkeypatch.setattr(far, "open_corpus", lambda *_: both)
    alone = out.read_text("utf-8")
    monkeypatch.setattr(
        "sys.argv", ["far.py", "--data_folder", ".", "--work", str(beside), "--out", str(out)]
    )
    far.main()
    assert out.read_text("utf-8") == alone
