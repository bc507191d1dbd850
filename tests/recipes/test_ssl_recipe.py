"""Back ends on cached frames: the cache goes on, an epoch trains, the same seed gives the same."""

import csv
import importlib.util

import numpy as np
import pytest

from .conftest import import_from

ABSENT = [
    name for name in ("speechbrain", "av", "transformers") if importlib.util.find_spec(name) is None
]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"the recipe needs {ABSENT}")

WINDOW = 4_000
SCRIPTS = ("bank", "judge", "pairs", "ssl_frames", "ssl_train", "ssl_finetune", "ssl_judge")


@pytest.fixture(scope="module")
def ssl(recipe_folder):
    """The scripts, with a window of a quarter of a second."""
    found = import_from(recipe_folder, SCRIPTS)
    for module in found.values():
        if hasattr(module, "WINDOW"):
            module.WINDOW = WINDOW
    return found


@pytest.fixture
def corpus(toy_corpus):
    return toy_corpus(20, from_each=2)


@pytest.fixture
def encoder():
    import torch

    from voiceguard.features.ssl.whisper import WhisperConfig, WhisperEncoder

    torch.manual_seed(4)
    config = WhisperConfig(dim=16, depth=2, heads=2, feedforward=16, mels=20, positions=20)
    return WhisperEncoder(config, layers=(1, 2), context_s=0.26).freeze().eval()


@pytest.fixture
def hparams(tmp_path, encoder):
    from voiceguard.features.ssl import save_encoder

    return {
        "name": "toy", "seed": 3, "fold": 0, "released": [], "clips": 0, "threads": 1,
        "encoder": str(save_encoder(encoder, tmp_path / "encoder.safetensors")),
        "context_s": None, "layers": [1, 2],
        "crops_per_epoch": 16, "batch_size": 4, "epochs": 2, "judge_every": 1, "precision": "fp32",
        "learning_rate": 0.02, "warmup_steps": 1, "weight_decay": 0.0, "decay_share": 0.0,
        "rates": {}, "average_decay": 0.5, "label_smoothing": 0.0,
        "probe_c": 0.1, "probe_iterations": 50,
    }  # fmt: skip


@pytest.fixture
def fold(ssl, corpus, encoder, hparams, tmp_path):
    np.save(tmp_path / "rooms.npy", np.eye(3, 50, dtype=np.float32))
    rows = ssl["ssl_frames"].FoldRows.of(corpus, hparams)
    folder = tmp_path / "frames"
    return rows, ssl["ssl_frames"].encode_fold(corpus, encoder, rows, tmp_path, folder)


def train(ssl, encoder, fold, hparams, out):
    rows, frames = fold
    weights = np.full(len(rows.train), 1 / len(rows.train))
    return ssl["ssl_train"].train_back_end(
        "mlp", {"hidden": 4}, encoder, frames, rows, weights, hparams, out
    )


def test_a_back_end_takes_its_own_rate(ssl, encoder, fold, hparams, tmp_path):
    plain, _ = train(ssl, encoder, fold, hparams, tmp_path / "plain.safetensors")
    other = {**hparams, "learning_rate": 0.5, "rates": {"mlp": 0.02, "sls": 0.1}}
    own, _ = train(ssl, encoder, fold, other, tmp_path / "own.safetensors")
    wanted = plain.state_dict()
    for name, weight in own.state_dict().items():
        assert weight.equal(wanted[name]), name


def test_the_cache_holds_what_the_encoder_hears(ssl, corpus, encoder, fold):
    import torch

    from voiceguard.audio.telephony import g711_path

    rows, frames = fold
    assert set(frames) == set(ssl["ssl_frames"].PARTS)
    assert frames["train_clean"].shape == (len(rows.train), 2, 13, 16)
    clip = corpus.clip(int(rows.held[1]))
    clips = np.stack([clip[:WINDOW], g711_path(clip)[:WINDOW]])
    with torch.no_grad():
        heard = encoder(torch.from_numpy(clips)).layers.numpy()
    for part, frames_of_part in zip(("held_clean", "held_g711"), heard, strict=True):
        np.testing.assert_allclose(frames[part][1], frames_of_part, atol=5e-3)
    assert not np.array_equal(frames["held_clean"], frames["held_g711"])


def test_a_killed_encoding_goes_on_and_ends_the_same(ssl, corpus, encoder, fold, tmp_path):
    rows, frames = fold
    whole = np.array(frames["train_telephone"])
    part = tmp_path / "again"
    draw = ssl["ssl_frames"].Window("telephone", corpus, tmp_path)
    heard = []

    def draw_and_die(index):
        heard.append(index)
        if len(heard) > 10:
            raise KeyboardInterrupt
        return draw(index)

    module = ssl["ssl_frames"]
    module.FLUSH_EVERY, module.BATCH = 1, 4
    with pytest.raises(KeyboardInterrupt):
        module.encode_part(part, encoder, rows.train, draw_and_die)
    assert (part / "done.txt").read_text() == "8"
    rest = []
    module.encode_part(part, encoder, rows.train, lambda i: (rest.append(i), draw(i))[1])
    assert rest == rows.train[8:].tolist()
    np.testing.assert_allclose(np.load(part / "frames.npy"), whole, atol=5e-3)


def test_frames_of_another_encoder_are_refused(ssl, corpus, encoder, fold, tmp_path):
    import torch

    from voiceguard.errors import ParameterError

    with torch.no_grad():
        encoder.network.conv1.bias.add_(1.0)
    with pytest.raises(ParameterError, match="another configuration"):
        ssl["ssl_frames"].encode_fold(corpus, encoder, fold[0], tmp_path, tmp_path / "frames")


def test_training_moves_the_back_end_alone_and_repeats_itself(
    ssl, encoder, fold, hparams, tmp_path
):
    import torch

    from voiceguard.models.ssl_network import load_ssl_network

    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    network, figures = train(ssl, encoder, fold, hparams, tmp_path / "one.safetensors")
    _, again = train(ssl, encoder, fold, hparams, tmp_path / "two.safetensors")
    _, other = train(ssl, encoder, fold, {**hparams, "seed": 4}, tmp_path / "other.safetensors")
    assert figures == again
    one, two, third = (
        load_ssl_network(tmp_path / f"{name}.safetensors") for name in ("one", "two", "other")
    )
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
        assert torch.equal(value, network.state_dict()[name]), name
    weight = "head.back_end.hidden.weight"
    assert not torch.equal(one.state_dict()[weight], third.state_dict()[weight])
    for name, value in before.items():
        assert torch.equal(one.encoder.state_dict()[name], value), name
    assert other["epoch"] in (1, 2)


def test_the_probe_takes_its_best_layer(ssl, encoder, fold, hparams, tmp_path):
    from voiceguard.models.ssl_network import load_ssl_network

    rows, frames = fold
    out = tmp_path / "probe.safetensors"
    network, figures = ssl["ssl_train"].fit_probe(frames, rows, encoder, hparams, out)
    assert network.config.layers == (figures["layer"],)
    assert load_ssl_network(out).config == network.config
    table = tmp_path / "results.csv"
    for _ in range(2):
        ssl["ssl_train"].append_result(table, hparams, "linear-probe", network, figures, 0.1)
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2
    assert float(lines[0]["macro_clean"]) == pytest.approx(figures["macro_clean"], abs=1e-4)


def fine_tuned(ssl, corpus, fold, hparams, network, tmp_path):
    """The Brain after a run with the top block open."""
    tmp_path.mkdir(exist_ok=True)
    tune = ssl["ssl_finetune"]
    tune.open_top(network, 1)
    settings = {
        **hparams, "channel": {}, "clean_share": 0.5, "crop_samples": WINDOW, "pair_share": 0.0,
    }  # fmt: skip
    brain = ssl["ssl_train"].make_brain(
        settings,
        network,
        checkpoints=tmp_path / "checkpoints",
        parameters=tune.groups(network, 0.1),
        kind=tune.FineTuneBrain,
    )
    np.save(tmp_path / "rooms.npy", np.eye(3, 50, dtype=np.float32))
    brain.crops = tune.crops(corpus, fold[0], settings, tmp_path)
    ssl["ssl_train"].run(brain, settings, ssl["ssl_train"].Best(lambda *_: None))
    return brain


def test_fine_tuning_moves_the_open_blocks_alone_and_goes_on_from_its_checkpoint(
    ssl, corpus, encoder, fold, hparams, tmp_path
):
    import copy

    import torch

    network, _ = train(ssl, encoder, fold, hparams, tmp_path / "one.safetensors")
    straight, stopped = copy.deepcopy(network), copy.deepcopy(network)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    brain = fine_tuned(ssl, corpus, fold, hparams, straight, tmp_path / "straight")
    shares = [group["share"] for group in brain.optimizer.param_groups]
    rates = [group["lr"] for group in brain.optimizer.param_groups]
    assert shares == [1.0, 0.1]
    assert rates[1] == pytest.approx(0.1 * rates[0])
    now = straight.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, now[name])}
    assert any("encoder.network.layers.1." in name for name in moved)
    assert any(name.startswith("head.") for name in moved)
    assert not any("encoder.network.layers.0." in name or ".conv" in name for name in moved)
    # The norms stand where the head was fitted: no statistics of a batch, neither used nor kept.
    assert not any("running" in name or "num_batches" in name for name in moved)
    # The plateau of both runs outlasts their epochs, so that a shorter one is a stopped one.
    fine_tuned(ssl, corpus, fold, {**hparams, "epochs": 1}, stopped, tmp_path / "stopped")
    resumed = copy.deepcopy(network)
    fine_tuned(ssl, corpus, fold, hparams, resumed, tmp_path / "stopped")
    for name, value in now.items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_weights_between_start_and_end_lie_between(ssl, fold, encoder, hparams, tmp_path):
    import torch

    start, _ = train(ssl, encoder, fold, hparams, tmp_path / "one.safetensors")
    end, _ = train(ssl, encoder, fold, {**hparams, "seed": 4}, tmp_path / "two.safetensors")
    first = {name: value.clone() for name, value in start.state_dict().items()}
    middle = ssl["ssl_finetune"].between(start, end, 0.25).state_dict()
    for name, value in end.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(middle[name], 0.75 * first[name] + 0.25 * value)
        assert torch.equal(start.state_dict()[name], first[name])


def test_the_best_epoch_is_kept_and_a_worse_one_is_not(ssl):
    kept = []
    best = ssl["ssl_train"].Best(lambda model, figures: kept.append(figures["epoch"]))
    for epoch, error in enumerate((0.4, 0.2, 0.3), start=1):
        best(None, epoch, {"macro_clean": error, "macro_g711": error})
    best(None, 4, {"train_loss": 0.1})
    assert kept == [1, 2]
    assert best.figures["epoch"] == 2


def test_of_an_encoder_of_convolutions_the_upper_ones_open(ssl):
    from voiceguard.features.ssl.distillmos import DistillMOSEncoder
    from voiceguard.models.ssl_network import SSLNetwork, frame_network

    encoder = DistillMOSEncoder(layers=[0])
    head = frame_network("mlp", dim=1024, n_layers=1, frames=13, hidden=4)
    network = SSLNetwork(encoder, head, back_end="mlp")
    ssl["ssl_finetune"].open_top(network, 2)
    opened = [all(p.requires_grad for p in one.parameters()) for one in encoder.convolutions]
    assert opened == [False, False, False, False, True, True]
    assert all(p.requires_grad for p in head.parameters())


def test_networks_on_one_encoder_share_what_it_hears_and_score_as_alone(
    ssl, encoder, fold, hparams, tmp_path
):
    import torch

    network, _ = train(ssl, encoder, fold, hparams, tmp_path / "one.safetensors")
    other, _ = train(ssl, encoder, fold, {**hparams, "seed": 4}, tmp_path / "two.safetensors")
    windows = np.random.default_rng(0).normal(0, 0.1, (11, WINDOW)).astype(np.float32)
    ears = ssl["ssl_judge"].Ears({"some": windows[:3], "all": windows})
    for one in (network, other):
        heard = ears.scores(one)
        with torch.inference_mode():
            alone = one.score(one(torch.from_numpy(windows))).numpy()
        np.testing.assert_allclose(heard["all"], alone, atol=1e-2)
        np.testing.assert_array_equal(heard["some"].shape, (3,))
    frames = ears.frames["all"]
    ears.scores(network)
    assert ears.frames["all"] is frames
    with torch.no_grad():
        network.encoder.network.conv1.bias.add_(1.0)
    ears.scores(network)
    assert ears.frames["all"] is not frames
