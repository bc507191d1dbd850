"""What the student learns from besides labels: pooled features of a pretrained speech encoder.

The frozen convolutions of DistillMOS (MIT; a speech-quality network distilled from XLS-R) see one
clean 2.5 s crop of each clip. Kept for each clip: its pooled features in the leading principal axes
of the training clips (whitened), and the logit of a linear probe that never trained on the clip's
engine family or recording origin. Held-out clips of the chosen fold take part in nothing.

    pip install --no-deps distillmos xls-r-sqa
    python teacher.py --data_folder ../../../shared/corpus --work work --fold 3
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from split import N_FOLDS, sampling_weights, split

from voiceguard.training.bank import Bank
from voiceguard.training.corpus import Corpus, open_corpus
from voiceguard.training.targets import TeacherTargets

CROP = 40_000
AXES = 128
BATCH = 8


def centre_crop(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """2.5 s from the middle; a shorter clip is repeated. Scaled to a peak of one."""
    if len(x) < CROP:
        x = np.resize(x, CROP)
    start = (len(x) - CROP) // 2
    x = x[start : start + CROP]
    return x / (np.max(np.abs(x)) + 1e-8)


def encoder_session():  # type: ignore[no-untyped-def]
    """The encoder's convolutions in ONNX Runtime, twice as fast as eager, and its transform."""
    import onnxruntime
    from distillmos.sqa import DEFAULT_WEIGHTS_CHKPT, _complex_compressed, _ComplexSpecCNN

    state = torch.load(DEFAULT_WEIGHTS_CHKPT, map_location="cpu", weights_only=True)["model"]
    network = _ComplexSpecCNN(256, 6)
    network.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("cnn.")})
    spectrogram = torch.zeros(1, 2, 161, CROP // 160)
    buffer = io.BytesIO()
    torch.onnx.export(
        network.cnn.eval(),
        (spectrogram,),
        buffer,
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "batch"}},
    )
    return onnxruntime.InferenceSession(buffer.getvalue()), _complex_compressed


def pooled_features(corpus: Corpus) -> npt.NDArray[np.float32]:
    """Mean and standard deviation over time of the encoder's output, for each clip.

    Returns
    -------
    np.ndarray [shape=(n_clips, 2048)]
    """
    session, transform = encoder_session()
    features = np.zeros((len(corpus), 2048), dtype=np.float32)
    for start in range(0, len(corpus), BATCH):
        stop = min(start + BATCH, len(corpus))
        x = torch.from_numpy(np.stack([centre_crop(corpus.clip(i)) for i in range(start, stop)]))
        spectrogram = transform(x, 160, 320).permute(0, 3, 1, 2).contiguous().numpy()
        y = session.run(None, {"x": spectrogram})[0].reshape(stop - start, 1024, -1)
        features[start:stop] = np.concatenate([y.mean(-1), y.std(-1)], axis=1)
        if start % (100 * BATCH) == 0:
            print(f"encoded {stop} of {len(corpus)} clips", flush=True)
    return features


def whitened(
    features: npt.NDArray[np.float32], train: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """The leading principal components, unit variance on `train`."""
    mean, scale = features[train].mean(0), features[train].std(0) + 1e-3
    standard = (features - mean) / scale
    axes = np.linalg.svd(standard[train], full_matrices=False)[2][:AXES]
    z = standard @ axes.T
    return np.asarray(z / z[train].std(0), dtype=np.float32)


def probe_logits(
    z: npt.NDArray[np.float32], rows: list[dict[str, str]], fold: int
) -> npt.NDArray[np.float32]:
    """Logits (bona fide positive) of probes that did not hear the clip's family or origin.

    NaN where no such probe exists (clips that every inner fold trains on, and held-out clips).
    """
    from sklearn.linear_model import LogisticRegression

    bonafide = np.array([row["label"] == "bonafide" for row in rows])
    outer = split(rows, fold).train
    total, count = np.zeros(len(rows)), np.zeros(len(rows))
    for inner in (k for k in range(N_FOLDS) if k != fold):
        train = np.intersect1d(outer, split(rows, inner).train)
        unheard = np.setdiff1d(outer, train)
        weight = sampling_weights([rows[i] for i in train]) * len(train)
        probe = LogisticRegression(C=0.03, max_iter=500)
        probe.fit(z[train], bonafide[train], sample_weight=weight)
        total[unheard] += probe.decision_function(z[unheard])
        count[unheard] += 1
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count, dtype=np.float32)


def open_probe_logits(
    z: npt.NDArray[np.float32], rows: list[dict[str, str]], train: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Logits of one probe that trained on all training clips: a smooth function to imitate.

    NaN for clips that are held out.
    """
    from sklearn.linear_model import LogisticRegression

    bonafide = np.array([row["label"] == "bonafide" for row in rows])
    weight = sampling_weights([rows[i] for i in train]) * len(train)
    probe = LogisticRegression(C=0.03, max_iter=500)
    probe.fit(z[train], bonafide[train], sample_weight=weight)
    logits = np.full(len(rows), np.nan, dtype=np.float32)
    logits[train] = probe.decision_function(z[train])
    return logits


class PooledAxes:
    """Pooled features standardised, in their leading principal axes, with unit variance.

    Parameters
    ----------
    features : np.ndarray [shape=(n, d)]
        What the axes are fitted on.
    """

    def __init__(self, features: npt.NDArray[np.float32], axes: int = AXES) -> None:
        self.mean, self.scale = features.mean(0), features.std(0) + 1e-3
        standard = (features - self.mean) / self.scale
        spread, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
        # Axes along which nothing moves stay at nothing.
        spread = np.maximum(spread[::-1][:axes], 1e-6)
        self.deviations = np.sqrt(spread)
        self.axes = vectors[:, ::-1][:, :axes] / self.deviations

    def __call__(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(n, d) to (n, axes)."""
        return np.asarray((features - self.mean) / self.scale @ self.axes, dtype=np.float32)


def bank_targets(
    bank: Bank, rows: list[dict[str, str]], train: npt.NDArray[np.int64]
) -> TeacherTargets:
    """What the encoder hears in each crop of a bank, and what a probe on it believes.

    The probe and the axes are fitted on the training clips' crops of all passes together, so that
    they know telephones. The belief in a clip is the mean over its crops: what is plain in the
    clean one holds for the one by telephone. Clips that are held out have a NaN logit.
    """
    from sklearn.linear_model import LogisticRegression

    pooled = [part[train].astype(np.float32) for part in bank.pooled]
    axes = PooledAxes(np.concatenate(pooled))
    bonafide = np.array([row["label"] == "bonafide" for row in rows])[train]
    weight = sampling_weights([rows[i] for i in train]) * len(train)
    z = [axes(part) for part in pooled]
    n = len(z)
    probe = LogisticRegression(C=0.03, max_iter=300)
    probe.fit(np.concatenate(z), np.tile(bonafide, n), sample_weight=np.tile(weight, n))
    features = np.zeros((n, bank.n_clips, AXES), dtype=np.float32)
    logits = np.full((n, bank.n_clips), np.nan, dtype=np.float32)
    beliefs = np.mean([probe.decision_function(part) for part in z], axis=0)
    for number, part in enumerate(z):
        features[number, train], logits[number, train] = part, beliefs
    return TeacherTargets(
        torch.from_numpy(features.reshape(-1, AXES)),
        torch.from_numpy(logits.reshape(-1)),
        np.concatenate(bank.frames),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=3)
    parser.add_argument("--released", nargs="*", default=[], help="parts of the fold to train on")
    parser.add_argument("--out", type=Path, help="by default WORK/teacher_foldK.npz")
    parser.add_argument("--open", action="store_true", help="one probe of all training clips")
    args = parser.parse_args()
    corpus = open_corpus(args.data_folder, args.work / "cache")
    stored = args.work / "teacher_features.npy"
    if not stored.is_file():
        np.save(stored, pooled_features(corpus).astype(np.float16))
    features = np.load(stored).astype(np.float32)
    train = split(corpus.rows, args.fold, released=args.released).train
    z = whitened(features, train)
    if args.open:
        logits = open_probe_logits(z, corpus.rows, train)
    else:
        logits = probe_logits(z, corpus.rows, args.fold)
    out = args.out or args.work / f"teacher_fold{args.fold}.npz"
    np.savez(out, features=z, logits=logits)
    heard = np.isfinite(logits)
    print(f"teacher targets for {heard.sum()} clips, features for {len(z)}")


if __name__ == "__main__":
    main()
