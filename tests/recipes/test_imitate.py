"""A student learns what an encoder hears, goes on where it stopped, and is judged by a probe."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from .conftest import import_from

ABSENT = [
    name for name in ("speechbrain", "av", "transformers") if importlib.util.find_spec(name) is None
]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"the recipe needs {ABSENT}")

WINDOW = 8_000
PASSES = ["first", "g711"]
NAMES = ("split", "far", "bank", "judge", "ssl_frames", "pooled", "probes", "views", "imitate")


@pytest.fixture(scope="module")
def recipe(recipe_folder):
    """The scripts, with a window of half a second."""
    found = import_from(recipe_folder, NAMES)
    for module in found.values():
        if hasattr(module, "WINDOW"):
            module.WINDOW = WINDOW
    found["views"].AXES = 6
    return found


@pytest.fixture(scope="module")
def corpus(toy_corpus):
    return toy_corpus(40, from_each=4)


@pytest.fixture(scope="module")
def encoder():
    from voiceguard.features.ssl.whisper import WhisperConfig, WhisperEncoder

    torch.manual_seed(4)
    config = WhisperConfig(dim=16, depth=2, heads=2, feedforward=16, mels=20, positions=40)
    return WhisperEncoder(config, layers=(1,), context_s=0.52).freeze().eval()


@pytest.fixture(scope="module")
def work(recipe, corpus, encoder, tmp_path_factory):
    """A folder with two passes, frames kept."""
    folder = tmp_path_factory.mktemp("work")
    np.save(folder / "rooms.npy", np.eye(3, 50, dtype=np.float32))
    for name in PASSES:
        recipe["pooled"].run_pass(name, corpus, encoder, folder, axes=4, keep_frames=True)
    return folder


@pytest.fixture
def hparams():
    blocks = [
        {"channels": 4, "stride": [2, 2]},
        {"channels": 6, "stride": [4, 4]},
        {"channels": 6, "stride": [1, 1]},
    ]
    return {
        "name": "toy", "seed": 3, "fold": 0, "released": [], "init": None, "threads": 1,
        "teachers": [["whisper-4", [1], 5, 1.0]], "frames": "whisper-4", "frame_axes": 4,
        "passes": PASSES, "batch_size": 4, "crops_per_epoch": 32, "epochs": 3,
        "view_weight": 0.4, "learning_rate": 0.01, "weight_decay": 0.0, "decay_share": 0.5,
        "average_decay": 0.9, "levelling": 0.4, "classical": 0.3, "penalty": 0.01,
        "model": {
            "stem": 4, "blocks": blocks, "statistics": 5,
            "graph": {"gat_dims": [6, 4], "pool_ratios": [0.5, 0.5, 0.5]},
        },
    }  # fmt: skip


@pytest.fixture
def parts(recipe, corpus, work, hparams, tmp_path):
    """Training clips, windows, targets and a way to train up to an epoch."""
    from voiceguard.training.schedules import Schedule

    imitate = recipe["imitate"]
    train = recipe["split"].split(corpus.rows, 0).train
    bank = imitate.open_bank(work / "windows", PASSES)
    (work / "toy").mkdir(exist_ok=True)
    targets = imitate.targets_of(corpus, train, hparams, work)

    def fit(folder, epochs):
        model = imitate.student(hparams)
        heads = imitate.heads_of(model, targets, WINDOW)
        brain = imitate.make_brain(model, heads, {**hparams, "epochs": epochs}, tmp_path / folder)
        # The rates are those of the whole training, wherever it stops.
        brain.hparams.schedule = Schedule(peak=0.01, total_steps=24, warmup_steps=1)
        brain.targets = targets
        brain.crops = imitate.windows_of(bank, corpus, train, hparams)
        losses = []
        brain.on_epoch = lambda epoch, figures: losses.append(figures["train_loss"])
        imitate.fit(brain, 4)
        return brain.hparams.average.module, losses

    return train, bank, targets, fit


def test_frames_lie_along_the_axes_that_covariances_are_taken_along(work, corpus):
    frames = np.load(work / "frames" / "whisper-4" / "first.npy").astype(np.float64)
    pooled = np.load(work / "pooled" / "whisper-4" / "first.npy")[:, 0].astype(np.float64)
    assert frames.shape[0] == len(corpus)
    assert np.abs(frames.mean((0, 1))).max() < 0.5
    around = frames - frames.mean(axis=1, keepdims=True)
    variances = np.square(around).mean(axis=1)
    places = 2 * 16 + np.cumsum([0, 4, 3, 2])
    assert np.allclose(pooled[:, places], variances, rtol=0.02, atol=0.02)


def test_views_stand_about_their_mean_at_their_shares_of_the_variance(recipe, corpus, parts):
    train, _, targets, _ = parts
    views = np.asarray(targets.views, np.float64).reshape(2, len(corpus), -1)[:, train]
    views = views.reshape(-1, views.shape[2])
    assert views.shape[1] == 6 + 5
    assert np.allclose(views.mean(0), 0.0, atol=0.01)
    assert views[:, :6].var(0).sum() == pytest.approx(1.0, rel=0.01)
    assert views[:, 6:].var(0).sum() == pytest.approx(1.0, rel=0.01)


def test_targets_of_a_row_are_those_of_its_pass_and_clip(corpus, parts):
    _, _, targets, _ = parts
    row = len(corpus) + 7
    views, frames = targets.of(torch.tensor([row]))
    assert np.array_equal(views[0], targets.views[row].astype(np.float32))
    assert np.array_equal(frames[0], targets.frames[1][7].astype(np.float32))


def test_a_student_that_hears_nothing_is_off_by_the_whole_variance():
    from voiceguard.training.imitation import imitation_loss

    rng = np.random.default_rng(2)
    frames = torch.from_numpy(rng.standard_normal((64, 50, 3)).astype(np.float32))
    views = torch.from_numpy(rng.standard_normal((64, 10)).astype(np.float32))
    nothing = torch.zeros(64, 48, 3), [torch.zeros(64, 10)] * 3
    loss = imitation_loss(nothing, views, frames, torch.tensor([1.0, 0.5, 0.5]), view_weight=0.0)
    assert float(loss) == pytest.approx(1.0, rel=0.05)
    perfect = frames[:, :48], [views] * 3
    assert float(imitation_loss(perfect, views, frames, torch.ones(3), view_weight=1.0)) == 0.0


def test_training_lowers_the_loss_and_goes_on_where_it_stopped(parts):
    *_, fit = parts
    whole, losses = fit("whole", 3)
    assert losses[-1] < 0.8 * losses[0]
    fit("parts", 1)
    resumed, rest = fit("parts", 3)
    assert rest == pytest.approx(losses[1:])
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_last_layer_is_a_logistic_regression_on_the_embedding(recipe, corpus, parts):
    train, bank, _, fit = parts
    taught, _ = fit("judged", 2)
    before = {name: t.clone() for name, t in taught.state_dict().items() if "out_layer" not in name}
    imitate = recipe["imitate"]
    how = recipe["probes"].LinearFit(penalty=0.01)
    heard = imitate.Embeddings.of(taught.eval(), bank, PASSES, how)
    probe = recipe["probes"].fit(heard, corpus, train, PASSES)
    judged = imitate.judge_by(taught, probe).eval()
    assert all(torch.equal(judged.state_dict()[name], tensor) for name, tensor in before.items())
    rows = np.concatenate([number * bank.n_clips + train for number in range(2)])
    with torch.inference_mode():
        windows = torch.from_numpy(np.stack([bank.crop(int(row)) for row in rows]))
        logits = judged(windows).logits
    assert torch.allclose(logits[:, 0], -logits[:, 1], atol=1e-5)
    bonafide = np.tile([corpus.rows[i]["label"] == "bonafide" for i in train], 2)
    score = (logits[:, 1] - logits[:, 0]).numpy()
    assert score[bonafide].mean() > score[~bonafide].mean() + 1.0


def test_dropouts_are_off_in_the_student(recipe, hparams):
    model = recipe["imitate"].student(hparams)
    drops = [part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)]
    assert drops and set(drops) == {0.0}


def test_weights_carry_the_configuration_that_export_reads(recipe, hparams, tmp_path):
    from safetensors import safe_open

    model = recipe["imitate"].student(hparams)
    recipe["imitate"].save(model, tmp_path / "student.safetensors")
    with safe_open(tmp_path / "student.safetensors", framework="pt") as stored:
        assert json.loads(stored.metadata()["config"]) == model.config.to_dict()


def test_crossed_scores_are_of_probes_that_heard_neither_family_nor_origin(
    recipe, corpus, parts, tmp_path
):
    imitate, split = recipe["imitate"], recipe["split"]
    rng = np.random.default_rng(5)
    bonafide = np.array([row["label"] == "bonafide" for row in corpus.rows])
    heard = rng.standard_normal((2, len(corpus), 3)).astype(np.float32)
    heard[:, :, 0] += 3.0 * bonafide
    # One place's clips tell their labels by a mark of their own, the wrong way round.
    place = np.array([row["origin"] == "place0" for row in corpus.rows])
    heard[:, place, 0] -= np.where(bonafide[place], 6.0, -6.0)
    folds = [split.split(corpus.rows, number) for number in range(5)]
    how = recipe["probes"].LinearFit(penalty=0.01)
    embedded = imitate.Embeddings(dict(zip(PASSES, heard, strict=True)), how)
    found = imitate.crossed({"probe": embedded}, corpus, folds, PASSES, PASSES)["probe"]
    scores = np.stack([found[name] for name in PASSES])
    assert not np.isnan(scores).any()
    assert scores[:, bonafide & ~place].mean() > scores[:, ~bonafide & ~place].mean() + 1.0
    assert scores[:, bonafide & place].mean() < scores[:, ~bonafide & place].mean()
    imitate.write_crossed(tmp_path / "crossed.csv.gz", found, corpus)
    labels, read = recipe["judge"].read_scores(tmp_path / "crossed.csv.gz")
    assert np.array_equal(labels, bonafide)
    np.testing.assert_allclose(read["g711"], scores[1], atol=1e-5)


def test_without_epochs_the_last_layer_alone_is_fitted_on_its_own_passes(
    recipe, corpus, work, hparams, tmp_path, monkeypatch, capsys
):
    """No frames and no views are asked for; every weight but the last layer's stays."""
    import yaml
    from safetensors.torch import load_file

    imitate = recipe["imitate"]
    start = imitate.student(hparams)
    imitate.save(start, tmp_path / "start.safetensors")
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "windows").symlink_to(work / "windows")
    plain = {
        **hparams, "epochs": 0, "init": str(tmp_path / "start.safetensors"), "work": str(folder),
        "data_folder": ".", "probe_passes": PASSES, "passes": ["nowhere"], "far": "nowhere",
    }  # fmt: skip
    (tmp_path / "hparams.yaml").write_text(yaml.safe_dump(plain))
    monkeypatch.setattr(imitate, "open_corpus", lambda *_: corpus)
    monkeypatch.setattr(imitate, "read_folds", lambda _: None)
    monkeypatch.setattr(imitate, "PASSES", tuple(PASSES))
    imitate.main([str(tmp_path / "hparams.yaml")])
    assert "held out, eer_g711" in capsys.readouterr().out
    before = start.state_dict()
    after = load_file(folder / "toy" / "average.safetensors")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"out_layer.weight", "out_layer.bias"}
    labels, scores = recipe["judge"].read_scores(folder / "toy" / "crossed.csv.gz")
    assert len(labels) == 40 and list(scores) == PASSES
    assert np.isfinite(np.stack(list(scores.values()))).all()
