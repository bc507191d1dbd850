"""Calibrate a trained model on its held-out fold and write the bundle.

    python export.py --data_folder ../../../shared/corpus --work work \
        --network work/base9/joined.safetensors --crossed work/base9/crossed.csv.gz \
        --card ../../docs/model-card.md --out ../../src/voiceguard/assets/models/vg-base

The calibration sees each held-out clip as recorded and through four channels, so that one map
serves clean files and telephone calls, and scores of the very graph that is written. A network that
trained on every clip has none held out: it is calibrated on the cross-validated scores of
``pooled_probe.py`` (``--crossed``), and its graph compared with the network. The scores stay in
``calibration_scores.csv.gz``, from which calibration and operating points can be fitted again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import soxr
import torch
from judge import WINDOW, errors, read_scores, window, write_scores
from safetensors import safe_open
from safetensors.torch import load_file
from split import family, is_judged, split

from voiceguard import __version__
from voiceguard.audio.telephony import g711_path
from voiceguard.detect import calibration
from voiceguard.detect.bundle import Manifest, write_bundle
from voiceguard.detect.engine import OnnxEngine
from voiceguard.export import CONFIG_NAME, config_bytes, graph_bytes
from voiceguard.export_ssl import ssl_graph_bytes
from voiceguard.features.ssl.cepstra import CepstralEncoder
from voiceguard.metrics import act_dcf, cllr, min_dcf
from voiceguard.models import ssl_ensemble, ssl_network
from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig
from voiceguard.models.ssl_ensemble import SSLEnsemble, load_ssl_ensemble
from voiceguard.models.ssl_network import SSLNetwork, load_ssl_network
from voiceguard.training.augment import add_noise
from voiceguard.training.codecs import CODECS, round_trip
from voiceguard.training.corpus import Corpus, open_corpus

Samples = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Model: TypeAlias = SpectralAASIST | SSLNetwork | SSLEnsemble
ENCODERS = {
    "distillmos": "DistillMOS",
    "dnsmos": "DNSMOS",
    "plcmos": "PLCMOS",
    "whisper": "Whisper tiny.en",
}
"""Names of the encoders that ship, by architecture."""
MOST_SHIFT = 0.05
"""Share of the scores' deviation by which rounding may move them all."""
AGREE_ON = 128
SPREAD = 100
"""Clips that give convolutions in int8 their scales."""
WEIGHTS = ("float32", "float16", "int8", "static-int8")
CHANNELS = ("clean", "g711", "gsm", "opus 14 kbit/s", "noise 15 dB")


def through(x: Samples, channel: str, rng: np.random.Generator) -> Samples:
    """A clip through one of :data:`CHANNELS`."""
    if channel == "g711":
        return g711_path(x)
    if channel == "gsm":
        low = soxr.resample(x, 16_000, CODECS["gsm"].sample_rate).astype(np.float32)
        return soxr.resample(round_trip(low, "gsm"), 8_000, 16_000).astype(np.float32)
    if channel.startswith("opus"):
        return round_trip(x, "opus", bit_rate=14_000)
    return add_noise(x, 15.0, rng) if channel.startswith("noise") else x


def load_model(path: Path) -> Model:
    """What ``train.py`` wrote, a network of encoder and back end, or several joined."""
    with safe_open(path, framework="pt") as stored:
        header = stored.metadata()
    if ssl_ensemble.HEADER in header:
        return load_ssl_ensemble(path)
    if ssl_network.HEADER in header:
        return load_ssl_network(path)
    model = SpectralAASIST(SpectralAASISTConfig.from_dict(json.loads(header["config"])))
    model.load_state_dict(load_file(path))
    return model.eval()


def described(model: Model) -> str:
    """What a model is, for its manifest."""
    if isinstance(model, SpectralAASIST):
        return "Spectral AASIST"
    networks = model.networks if isinstance(model, SSLEnsemble) else (model,)
    heard = [one.encoder.architecture for one in networks if isinstance(one, SSLNetwork)]
    if len(heard) == len(networks) == 1:
        return f"A network behind the encoder of {ENCODERS.get(heard[0], heard[0])}"
    # No network is behind bands and cepstra: what is heard there is how they move.
    formulas = CepstralEncoder.architecture
    names = ", ".join(ENCODERS.get(name, name) for name in heard if name != formulas)
    parts = ["spectral AASIST"] if len(heard) < len(networks) else []
    parts += [f"probes on the lower layers of {names}, frozen"] if names else []
    parts += ["a probe on modulation spectra"] if formulas in heard else []
    told = ", and ".join(parts)
    return f"{told[0].upper()}{told[1:]}, summed"


def exported(
    model: Model, probe: Samples, *, weights: str = "float32", calibration: Samples | None = None
) -> tuple[bytes, OnnxEngine]:
    """The graph, and what runs it."""
    how = {"window_samples": WINDOW, "probe": probe, "weights": weights}
    if isinstance(model, SpectralAASIST):
        graph = graph_bytes(model, **how)
    else:
        graph = ssl_graph_bytes(model, **how, calibration=calibration)
    return graph, OnnxEngine(graph, window_samples=WINDOW, embedding_dim=model.embedding_dim)


def spread_windows(corpus: Corpus) -> Samples:
    """Windows of clips from all over the corpus, through each of :data:`CHANNELS` in turn."""
    rng = np.random.default_rng(1)
    rows = np.linspace(0, len(corpus) - 1, min(SPREAD, len(corpus))).astype(int)
    turns = enumerate(rows)
    return np.stack(
        [window(through(corpus.clip(i), CHANNELS[n % len(CHANNELS)], rng)) for n, i in turns]
    )


def score_clips(engine: OnnxEngine, clips: list[Samples]) -> npt.NDArray[np.float64]:
    """Raw score of the first window of each clip."""
    scores = []
    for start in range(0, len(clips), 16):
        batch = np.stack([window(x) for x in clips[start : start + 16]])
        scores.append(engine.run(batch)[0].astype(np.float64))
    return np.concatenate(scores)


def held_out_scores(
    engine: OnnxEngine, corpus: Corpus, rows: npt.NDArray[np.int64], seed: int
) -> tuple[npt.NDArray[np.bool_], dict[str, npt.NDArray[np.float64]]]:
    """Labels (True for bona fide) and scores by channel."""
    bonafide = np.array([corpus.rows[i]["label"] == "bonafide" for i in rows])
    scores = {}
    for number, channel in enumerate(CHANNELS):
        rng = np.random.default_rng([seed, number])
        scores[channel] = score_clips(engine, [through(corpus.clip(i), channel, rng) for i in rows])
    return bonafide, scores


def report(
    bonafide: npt.NDArray[np.bool_],
    llrs: dict[str, npt.NDArray[np.float64]],
    families: Sequence[str],
) -> None:
    """Print the held-out figures by channel.

    ``macro`` weights each family and origin alike; ``own`` is the Cllr of a map that was fitted on
    the channel alone: what knowing the channel could be worth.
    """
    head = ("EER %", "macro %", "minDCF", "actDCF", "Cllr", "own")
    print(f"{'channel':<16}" + "".join(f"{name:>9}" for name in head))
    labels = ["bonafide" if good else "spoof" for good in bonafide]
    for channel, llr in llrs.items():
        b, s = llr[bonafide], llr[~bonafide]
        plain, macro = errors(llr, bonafide, families)
        own = calibration.fit(llr, labels).apply(llr)
        costs = (min_dcf(b, s), act_dcf(b, s), cllr(b, s), cllr(own[bonafide], own[~bonafide]))
        cells = [f"{100 * plain:9.1f}{100 * macro:9.1f}", *(f"{c.value:9.3f}" for c in costs)]
        print(f"{channel:<16}" + "".join(cells))


def agreement(model: Model, engine: OnnxEngine, clips: list[Samples]) -> None:
    """Compare the graph that ships with the network whose scores were calibrated.

    Rounding may add noise; where it moved all scores one way the calibration would not hold.
    """
    with torch.inference_mode():
        batches = torch.from_numpy(np.stack([window(x) for x in clips])).split(16)
        before = torch.cat([model.score(model(batch)) for batch in batches]).double().numpy()
    moved = score_clips(engine, clips) - before
    shift, spread = float(moved.mean()), float(before.std())
    print(
        f"the graph moves scores by {moved.std() / spread:.3f} of their deviation, "
        f"all of them by {shift / spread:+.3f}"
    )
    if abs(shift) > MOST_SHIFT * spread:
        raise SystemExit("Rounding moved the scores one way; export with other weights.")


def calibrated(
    args: argparse.Namespace, corpus: Corpus, model: Model, graph_of: OnnxEngine, held_out: Rows
) -> tuple[npt.NDArray[np.bool_], dict[str, npt.NDArray[np.float64]], list[str], str]:
    """Scores to calibrate on: labels, by channel, families, and what they are."""
    if args.crossed:
        bonafide, scores = read_scores(args.crossed)
        rows = [row for row in corpus.rows if is_judged(row)]
        rng = np.random.default_rng(0)
        some = rng.choice(len(corpus), min(AGREE_ON, len(corpus)), replace=False)
        agreement(model, graph_of, [corpus.clip(int(i)) for i in some])
        data = "open-voices, cross-validated over five folds of engines and recordings"
        return bonafide, scores, [family(row) for row in rows], f"{data}, {', '.join(scores)}"
    bonafide, scores = held_out_scores(graph_of, corpus, held_out, args.fold)
    data = f"open-voices fold {args.fold}, held-out engines and recordings, {', '.join(CHANNELS)}"
    return bonafide, scores, [family(corpus.rows[i]) for i in held_out], data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--network", type=Path, required=True, help="trained weights")
    parser.add_argument("--fold", type=int, help="held out; none with --crossed alone")
    parser.add_argument("--released", nargs="*", default=[], help="as in the run's hparams")
    parser.add_argument("--crossed", type=Path, help="of pooled_probe.py, to calibrate on")
    parser.add_argument("--clips", type=int, default=0, help="held-out clips; 0 for all")
    parser.add_argument("--weights", choices=WEIGHTS, default="float32")
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scores", type=Path, default=Path("calibration_scores.csv.gz"))
    args = parser.parse_args()
    if args.fold is None and not args.crossed:
        parser.error("--fold says which clips were held out; without it --crossed must be given")
    corpus = open_corpus(args.data_folder, args.work / "cache")
    model = load_model(args.network)
    held_out = np.arange(len(corpus))
    if args.fold is not None:
        held_out = split(corpus.rows, args.fold, released=args.released).held_out
    if args.clips and args.clips < len(held_out):
        held_out = held_out[np.linspace(0, len(held_out) - 1, args.clips).astype(int)]
    probe = np.stack([window(corpus.clip(i)) for i in held_out[:4]])
    ranges = spread_windows(corpus) if args.weights == "static-int8" else None
    graph, engine = exported(model, probe, weights=args.weights, calibration=ranges)
    bonafide, scores, families, data = calibrated(args, corpus, model, engine, held_out)
    write_scores(args.scores, bonafide, scores)
    labels = ["bonafide" if good else "spoof" for good in np.tile(bonafide, len(scores))]
    fitted = calibration.fit(np.concatenate(list(scores.values())), labels, data=data)
    llrs = {channel: fitted.slope * s + fitted.offset for channel, s in scores.items()}
    report(bonafide, llrs, families)
    points = calibration.operating_points(np.concatenate(list(llrs.values())), labels, data=data)
    manifest = Manifest(
        id=args.out.name,
        version=__version__,
        licence="Apache-2.0",
        description=f"{described(model)}, trained on the open-voices corpus; 4 s windows, 16 kHz.",
        sample_rate=16_000,
        window_samples=WINDOW,
        hop_samples=WINDOW // 2,
        calibration=fitted,
        operating_points=tuple(points),
        default_operating_point="balanced",
        provenance={
            "recipe": "recipes/open_voices",
            "weights_sha256": hashlib.sha256(args.network.read_bytes()).hexdigest(),
            "held_out_fold": "none" if args.fold is None else str(args.fold),
            "released": " ".join(args.released),
        },
    )
    write_bundle(
        args.out,
        graph=graph,
        manifest=replace(manifest, embedding_dim=model.embedding_dim),
        card=args.card.read_text("utf-8"),
        extra_files={CONFIG_NAME: config_bytes(model)},
    )
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
