"""Join trained networks on pretrained encoders: the sum of their log-odds is the model.

    python join.py work/base5/distillmos.safetensors work/base5/whisper.safetensors \
        --data_folder ../../../shared/corpus --work work --out work/base5/joined.safetensors

Each counts by one over the deviation of its scores on the held-out clips of the fold, both channels
together, so that none drowns the others. Prints the held-out error of each alone and of the sum.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from judge import HeldOut, errors, told

from voiceguard.models.ssl_ensemble import SSLEnsemble, save_ssl_ensemble
from voiceguard.models.ssl_network import load_ssl_network
from voiceguard.training.corpus import open_corpus

Scores = dict[str, np.ndarray]


def report(name: str, scores: Scores, held: HeldOut) -> None:
    """Print the error of each channel, plain and with families weighted alike."""
    for channel, s in scores.items():
        print(told(f"{name}, {channel}", *errors(s, held.bonafide, held.families)), flush=True)


def spread(scores: Scores) -> float:
    """Deviation of the scores of all channels together."""
    return float(np.std(np.concatenate(list(scores.values()))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", type=Path)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=3)
    parser.add_argument("--released", nargs="*", default=[])
    parser.add_argument("--clips", type=int, default=0, help="held-out clips; 0 for all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    corpus = open_corpus(args.data_folder, args.work / "cache")
    held = HeldOut(corpus, args.fold, released=args.released, limit=args.clips, bfloat16=args.bf16)
    members, weights, total = [], [], {}
    for path in args.networks:
        network = load_ssl_network(path).to(memory_format=torch.channels_last)
        # Alone in an ensemble, it hears each clip at the ensemble's level.
        alone = SSLEnsemble([network])
        scores = {channel: held.scores(alone, channel) for channel in held.clips}
        report(str(path), scores, held)
        members.append(network)
        weights.append(1.0 / spread(scores))
        for channel, values in scores.items():
            total[channel] = total.get(channel, 0.0) + weights[-1] * values
    report("sum", total, held)
    save_ssl_ensemble(SSLEnsemble(members, weights), args.out)
    print(f"wrote {args.out}, weights {[round(w, 3) for w in weights]}")


if __name__ == "__main__":
    main()
