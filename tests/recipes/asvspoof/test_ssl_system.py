"""SSL systems of the ASVspoof recipes: frozen, opened from the top, open throughout, exported."""

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the small encoder is Whisper's")
torch = pytest.importorskip("torch")

BLOCK = "front_end.encoder.network.layers.{}."
RUNS = {"frozen": ("ssl_frozen", 0), "top": ("ssl_aasist", 1), "open": ("ssl_aasist", "all")}


@pytest.fixture(scope="module")
def encoder(bench):
    from voiceguard.features.ssl import save_encoder
    from voiceguard.features.ssl.whisper import WhisperConfig, WhisperEncoder

    torch.manual_seed(0)
    config = WhisperConfig(dim=64, depth=2, heads=2, feedforward=32, mels=20, positions=25)
    whole = WhisperEncoder(config, layers=(0, 1, 2), context_s=0.5).eval()
    return save_encoder(whole, bench / "encoder.safetensors"), whole


@pytest.fixture(scope="module")
def runs(bench, encoder):
    def options(blocks, back_end):
        return {"encoder": str(encoder[0]), "back_end": back_end, "open_blocks": blocks}

    steps = {}
    for name, (hparams, blocks) in RUNS.items():
        back_end = "nes2net-x" if hparams == "ssl_frozen" else "ssl-aasist"
        place = ("--encoder", str(encoder[0]), "--learning_rate", "0.001")
        # The one that is exported learns enough for its scores not to lie upside down by chance.
        long = {"epochs": 6, "batch_size": 4} if name == "open" else {}
        steps[name] = bench.network(
            hparams, f"ssl_{name}", *place, options=options(blocks, back_end), **long
        )
    place = ("--encoder", str(encoder[0]))
    steps["too many"] = bench.network(
        "ssl_frozen", "ssl_too_many", *place, options=options(3, "nes2net-x")
    )
    steps["export"] = ["exporting", [[
        "--model", "ssl_open", "--out", "ssl-bundle", "--licence", "LicenseRef-mine",
    ]]]  # fmt: skip
    return bench.run(steps)


def test_every_run_ends_and_more_blocks_than_there_are_are_refused(runs):
    for name in (*RUNS, "export"):
        assert runs[name][0] == 0, runs[name][1]
    code, said = runs["too many"]
    assert code == 2
    assert "[0, 2], the blocks of this encoder. Got 3" in said


@pytest.mark.parametrize("name", RUNS)
def test_what_is_open_moves_and_nothing_else(bench, runs, encoder, name):
    trained, before = bench.weights(f"ssl_{name}"), encoder[1].state_dict()
    moved = {
        key.removeprefix("front_end.encoder.")
        for key, value in trained.items()
        if key.startswith("front_end.encoder.")
        and not np.array_equal(value, before[key.removeprefix("front_end.encoder.")].numpy())
    }
    lower = {key for key in moved if not key.startswith("network.layers.1.")}
    assert bool(moved) == (name != "frozen")
    if name == "top":
        assert all("layer_norm" in key for key in lower)
    if name == "open":
        assert any("conv1" in key for key in lower)


def test_the_bundle_scores_as_the_trained_network(bench, runs, encoder):
    from safetensors.torch import load_file

    from voiceguard.detect.bundle import read_bundle
    from voiceguard.detect.engine import OnnxEngine
    from voiceguard.features.ssl import load_encoder
    from voiceguard.models.ssl_network import SSLNetwork, frame_network

    head = frame_network("ssl-aasist", dim=64, n_layers=1, frames=25)
    network = SSLNetwork(load_encoder(encoder[0], layers=[-1]), head, back_end="ssl-aasist").eval()
    network.load_state_dict(load_file(bench / "ssl_open" / "model.safetensors"))
    bundle = read_bundle(bench / "ssl-bundle")
    engine = OnnxEngine(
        bundle.graph, window_samples=8_000, embedding_dim=bundle.manifest.embedding_dim
    )
    windows = 0.1 * np.random.default_rng(0).standard_normal((3, 8_000)).astype(np.float32)
    with torch.inference_mode():
        expected = network.score(network(torch.from_numpy(windows))).numpy()
    np.testing.assert_allclose(engine.run(windows)[0], expected, atol=1e-3)
