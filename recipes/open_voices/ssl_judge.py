"""Export the networks of a run as bundles and judge them on a folder that nobody trained on.

    python ssl_judge.py work/ssl_whisper/*.safetensors --data_folder ../../../shared/corpus \
        --work work --judge ../../../shared/wild-dev

Each network becomes ``work/bundles/<name>``, calibrated on held-out clips, clean and G.711; with
``--int8`` a second time with the encoder's linear layers in int8. Printed for each: EER with its
95 % interval on the first window of each clip, clean and G.711; parameters, milliseconds a window
on one core, megabytes. Without ``--judge`` only the held-out EER. Networks on one frozen encoder
share what it hears; an int8 graph hears for itself.
Judge a recipe once: whoever chooses by this folder has trained on it.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import evaluate
import numpy as np
import numpy.typing as npt
import torch
from judge import WINDOW, HeldOut, window
from safetensors import safe_open

from voiceguard import __version__
from voiceguard.detect import calibration
from voiceguard.detect.bundle import Manifest
from voiceguard.detect.calibration import Calibration
from voiceguard.detect.detector import Detector
from voiceguard.detect.engine import OnnxEngine
from voiceguard.errors import ModelError
from voiceguard.export_int8 import to_int8
from voiceguard.export_ssl import export_ssl_bundle, ssl_graph_bytes
from voiceguard.features.ssl import SSLEncoder
from voiceguard.features.ssl.reading import file_sha256
from voiceguard.metrics import eer
from voiceguard.models.ssl_network import SSLNetwork, load_ssl_network
from voiceguard.results import OperatingPoint
from voiceguard.training.corpus import open_corpus

Scores = dict[str, npt.NDArray[np.float64]]
TIMED = 15
BATCH = 8


class Ears:
    """What each encoder hears in every set of windows, kept for the networks on top of it.

    Parameters
    ----------
    windows : mapping of str to np.ndarray [shape=(clips, WINDOW)]
        Sets by name.
    """

    def __init__(self, windows: dict[str, npt.NDArray[np.float32]]) -> None:
        self.windows = windows
        self.encoder = ""
        self.frames: dict[str, npt.NDArray[np.float16]] = {}

    def scores(self, network: SSLNetwork) -> Scores:
        """Raw score of each window by set."""
        self._listen(network.encoder)
        found = {}
        with torch.inference_mode():
            for name, frames in self.frames.items():
                parts = [
                    network.score(network.head(torch.from_numpy(frames[i : i + BATCH]).float()))
                    for i in range(0, len(frames), BATCH)
                ]
                found[name] = torch.cat(parts).double().numpy()
        return found

    def _listen(self, encoder: SSLEncoder) -> None:
        """Encode all sets, unless this encoder was the last to hear them."""
        if self.encoder == encoder.fingerprint():
            return
        self.frames = {}
        with torch.inference_mode():
            for name, windows in self.windows.items():
                batches = [windows[i : i + BATCH] for i in range(0, len(windows), BATCH)]
                heard = [encoder(torch.from_numpy(x)).layers.half().numpy() for x in batches]
                self.frames[name] = np.concatenate(heard)
        self.encoder = encoder.fingerprint()


def graph_scores(graph: bytes, width: int, windows: dict[str, npt.NDArray[np.float32]]) -> Scores:
    """Raw score of each window by set, from a graph."""
    engine = OnnxEngine(graph, window_samples=WINDOW, embedding_dim=width)
    return {name: engine.run(clips)[0].astype(np.float64) for name, clips in windows.items()}


def milliseconds(folder: Path) -> float:
    """Median time of one window on one core."""
    engine = Detector.load(folder).engine
    noise = np.random.default_rng(0).normal(0.0, 0.1, (1, WINDOW)).astype(np.float32)
    times = []
    for _ in range(TIMED):
        start = time.perf_counter()
        engine.run(noise)
        times.append(time.perf_counter() - start)
    return 1_000 * float(np.median(times))


def card(network: SSLNetwork, notes: dict[str, str]) -> str:
    """What the bundle says of itself."""
    config, provenance = network.config, network.encoder.provenance
    lines = [f"# {config.back_end} on {config.architecture}, layers {list(config.layers)}", ""]
    lines += ["Trained on the open-voices corpus by recipes/open_voices, as teacher and reference."]
    lines += ["", "| | |", "| --- | --- |"]
    lines += [f"| {key} | {value} |" for key, value in sorted({**provenance, **notes}.items())]
    return "\n".join(lines) + "\n"


def own_notes(path: Path) -> dict[str, str]:
    """Figures that the training left in the file."""
    with safe_open(path, framework="pt") as stored:
        return {k: v for k, v in stored.metadata().items() if not k.startswith("voiceguard_")}


def fitted(
    scores: Scores, held: HeldOut, fold: int
) -> tuple[Calibration, tuple[OperatingPoint, ...]]:
    """Calibration and operating points on the held-out sets."""
    labels = ["bonafide" if good else "spoof" for good in np.tile(held.bonafide, len(held.clips))]
    data = f"open-voices fold {fold}, held-out engines and recordings, {', '.join(held.clips)}"
    pooled = np.concatenate([scores[name] for name in held.clips])
    found = calibration.fit(pooled, labels, data=data)
    llrs = found.slope * pooled + found.offset
    return found, calibration.operating_points(llrs, labels, data=data)


def bundle(
    path: Path, network: SSLNetwork, scores: Scores, held: HeldOut, folder: Path, fold: int,
    *, int8: bool,
) -> Path:  # fmt: skip
    """Export one network, calibrated on its scores of the held-out sets."""
    found, points = fitted(scores, held, fold)
    name = f"{path.parent.name}-{path.stem}{'-int8' if int8 else ''}".lower().replace("_", "-")
    manifest = Manifest(
        id=name,
        version=__version__,
        licence=network.encoder.provenance.get("licence", "unknown"),
        description=f"{network.config.back_end} on {network.config.architecture}, 4 s windows.",
        sample_rate=16_000,
        window_samples=WINDOW,
        hop_samples=WINDOW // 2,
        calibration=found,
        operating_points=points,
        default_operating_point="balanced",
        provenance={"recipe": "recipes/open_voices", "weights_sha256": file_sha256(path)},
    )
    return export_ssl_bundle(
        network, folder / name, manifest=manifest, card=card(network, own_notes(path)),
        probe=held.clips["clean"][:2],
        weights="dynamic-int8" if int8 else "float32",
    )  # fmt: skip


def scores_of(network: SSLNetwork, ears: Ears, held: HeldOut, *, int8: bool) -> Scores:
    """Scores of all sets: by shared frames, or in int8 by the rounded graph."""
    if not int8:
        return ears.scores(network)
    graph = ssl_graph_bytes(network, window_samples=WINDOW, probe=held.clips["clean"][:2])
    return graph_scores(to_int8(graph), network.embedding_dim, ears.windows)


def describe(
    out: Path, network: SSLNetwork, scores: Scores, held: HeldOut, trials: evaluate.Trials | None
) -> dict[str, object]:
    """Figures of a bundle: size, speed, held-out error, and that on the judged folder."""
    row: dict[str, object] = {
        "system": out.name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "ms_a_window": round(milliseconds(out), 1),
        "megabytes": round((out / "model.onnx").stat().st_size / 1e6, 1),
    }
    for channel in held.clips:
        s = scores[channel]
        row[f"held_out_{channel}"] = round(float(eer(s[held.bonafide], s[~held.bonafide]).value), 4)
    for channel in evaluate.CHANNELS if trials else ():
        judged = scores[f"judged {channel}"]
        withheld = np.zeros(len(judged), bool)
        numbers = evaluate.figures(
            evaluate.Scores(judged, withheld, calibrated=False), trials.bonafide, trials.groups
        )
        for name in ("eer", "eer_low", "eer_high"):
            row[f"{name}_{channel}"] = round(numbers[name], 4)
    return row


def write_table(path: Path, table: list[dict[str, object]]) -> None:
    """Append to the table of judged networks, with a header where it is new."""
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        if new:
            writer.writeheader()
        writer.writerows(table)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", type=Path, nargs="+", help="files of ssl_train, ssl_finetune")
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=3)
    parser.add_argument("--clips", type=int, default=0, help="held-out clips; 0 for all")
    parser.add_argument("--int8", action="store_true", help="export in int8 too")
    parser.add_argument("--judge", type=Path, help="folder to judge on")
    parser.add_argument("--judge_clips", type=int, default=0, help="by even stride; 0 for all")
    parser.add_argument("--results", type=Path, default=Path("ssl_judged.csv"))
    return parser.parse_args()


def trials(folder: Path, limit: int) -> evaluate.Trials:
    """The clips to judge on, their first four seconds."""
    whole = evaluate.Trials.read(folder, 4.0)
    if not limit or limit >= len(whole.rows):
        return whole
    kept = np.linspace(0, len(whole.rows) - 1, limit).astype(int)
    return evaluate.Trials(
        [whole.rows[i] for i in kept],
        [whole.clips[i] for i in kept],
        whole.bonafide[kept],
        whole.groups[kept],
    )


def main() -> None:
    args = arguments()
    corpus = open_corpus(args.data_folder, args.work / "cache")
    held = HeldOut(corpus, args.fold, limit=args.clips)
    windows = dict(held.clips)
    judged = trials(args.judge, args.judge_clips) if args.judge else None
    for channel, path in evaluate.CHANNELS.items() if judged else ():
        windows[f"judged {channel}"] = np.stack([window(path(x)) for x in judged.clips])
    ears, table = Ears(windows), []
    for path in args.networks:
        network = load_ssl_network(path)
        for int8 in (False, True) if args.int8 else (False,):
            try:
                scores = scores_of(network, ears, held, int8=int8)
                out = bundle(
                    path, network, scores, held, args.work / "bundles", args.fold, int8=int8
                )
            except ModelError as error:
                if not int8:
                    raise
                print(f"{path.name}, int8: {error}")
                continue
            table.append(describe(out, network, scores, held, judged))
            print(table[-1], flush=True)
    write_table(args.results, table)


if __name__ == "__main__":
    main()
