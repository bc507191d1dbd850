"""A small head on what the bank's encoder heard, behind that encoder: where fine-tuning starts.

    python bank_probe.py --data_folder ../../../shared/corpus --work work --fold 3 \
        --encoder work/encoders/distillmos.safetensors --halving 3 --out work/base4/init.safetensors

Learns from the pooled features of ``bank.py`` in seconds, all passes together, labels alone. A head
that fits before the encoder is opened keeps the first gradients from tearing at what the encoder
knows (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from judge import macro_eer
from split import family, sampling_weights, split

from voiceguard.features.ssl import load_encoder
from voiceguard.features.ssl.distillmos import DistillMOSEncoder, halved_earlier
from voiceguard.metrics import eer
from voiceguard.models.probe import MLP, MLPConfig
from voiceguard.models.ssl_network import FrameNetwork, SSLNetwork, save_ssl_network
from voiceguard.training.bank import Bank, open_bank
from voiceguard.training.corpus import Corpus, open_corpus
from voiceguard.training.losses import label_loss

BATCH = 128
PASSES_OVER_CLIPS = 12
RATE = 5e-4
WEIGHT_DECAY = 0.1
SMOOTHING = 0.05


def standardise(head: MLP, pooled: list[npt.NDArray[np.float32]]) -> None:
    """Set the head's norm to means and variances of the training features; it stays there."""
    features = torch.from_numpy(np.concatenate(pooled))
    assert head.bn.running_mean is not None and head.bn.running_var is not None
    head.bn.running_mean.copy_(features.mean(0))
    # Features that barely move must not be blown up.
    head.bn.running_var.copy_(features.var(0) + 1e-6)


def answer(head: MLP, pooled: torch.Tensor) -> torch.Tensor:
    """Logits from features that are pooled already, (batch, 2 * dim) to (batch, 2)."""
    embedding = head.drop(head.bn(pooled))
    if head.hidden is not None:
        embedding = torch.relu(head.hidden(embedding))
    logits: torch.Tensor = head.out_layer(head.drop(embedding))
    return logits


def fit(head: MLP, bank: Bank, corpus: Corpus, train: npt.NDArray[np.int64], *, seed: int) -> None:
    """Train the head on the pooled features of every pass."""
    bonafide = torch.tensor([row["label"] == "bonafide" for row in corpus.rows]).float()
    weights = sampling_weights([corpus.rows[i] for i in train])
    pooled = [np.asarray(one[train], np.float32) for one in bank.pooled]
    standardise(head, pooled)
    rng = np.random.default_rng(seed)
    steps = PASSES_OVER_CLIPS * len(train) // BATCH
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    head.train()
    head.bn.eval()
    for _ in range(steps):
        places = rng.choice(len(train), BATCH, p=weights)
        batch = torch.from_numpy(pooled[rng.integers(len(pooled))][places])
        loss = label_loss(answer(head, batch), bonafide[train[places]], smoothing=SMOOTHING)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    head.eval()


def report(
    head: MLP, bank: Bank, corpus: Corpus, rows: npt.NDArray[np.int64], names: list[str]
) -> None:
    """Print the held-out error of each pass, plain and with families weighted alike."""
    bonafide = np.array([corpus.rows[i]["label"] == "bonafide" for i in rows])
    families = [family(corpus.rows[i]) for i in rows]
    for name, features in zip(names, bank.pooled, strict=True):
        with torch.inference_mode():
            logits = answer(head, torch.from_numpy(np.asarray(features[rows], np.float32)))
        s = (logits[:, 1] - logits[:, 0]).double().numpy()
        plain = float(eer(s[bonafide], s[~bonafide]).value)
        macro = macro_eer(s, bonafide, families)
        print(f"{name}: EER {100 * plain:.1f} %, macro {100 * macro:.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=3)
    parser.add_argument("--released", nargs="*", default=[])
    parser.add_argument("--passes", nargs="+", default=["clean", "telephone", "channel"])
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--halving", type=int, default=5, help="convolution that halves the frames")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    corpus = open_corpus(args.data_folder, args.work / "cache")
    sides = split(corpus.rows, args.fold, released=args.released)
    bank = open_bank(args.work / "bank", args.passes)
    torch.manual_seed(args.seed)
    encoder = load_encoder(args.encoder, layers=[0])
    if not isinstance(encoder, DistillMOSEncoder):
        parser.error(f"{args.encoder}: the bank holds what DistillMOS hears, not {encoder!r}")
    head = MLP(MLPConfig(dim=encoder.dim, hidden=args.hidden, dropout=args.dropout))
    fit(head, bank, corpus, sides.train, seed=args.seed)
    report(head, bank, corpus, sides.held_out, args.passes)
    network = SSLNetwork(
        halved_earlier(encoder, args.halving), FrameNetwork(1, head), back_end="mlp"
    )
    save_ssl_network(network, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
