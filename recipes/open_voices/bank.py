"""A bank of training crops with what a pretrained speech encoder hears in each of them.

The frozen convolutions of DistillMOS (MIT; a speech-quality network distilled from XLS-R) hear one
crop of each clip in each pass: clean, by telephone, through any channel. The student then learns
from targets of the very sound that it is given, and a probe on them knows telephones too.

    pip install --no-deps distillmos xls-r-sqa
    python bank.py --data_folder ../../../shared/corpus --work work --passes clean telephone channel

A pass is ``work/bank/<pass>/``: ``crops.npy`` (int16), ``pooled.npy`` (mean and deviation over time
of the encoder's 1,024 outputs) and ``frames.npy`` (its outputs every 80 ms, in 128 principal axes).
Row i is clip i of the manifest. A killed pass goes on where it stopped.
"""

from __future__ import annotations

import argparse
import io
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from voiceguard.training.augment import ChannelConfig, ChannelSimulator, crop, to_peak
from voiceguard.training.corpus import Corpus, open_corpus
from voiceguard.training.rooms import room_bank

CROP = 32_160
AXES = 128
BATCH = 8
FULL_SCALE = 32_767.0
SPAN = 4
"""Encoder frames (20 ms) to one step of the student (80 ms)."""

CHANNELS = {
    "telephone": ChannelConfig(
        room=0.08, noise=0.3, colour=0.3, clip=0.03, narrowband=1.0, snr_db=(12.0, 45.0)
    ),
    "channel": ChannelConfig(
        room=0.2, noise=0.5, narrowband=0.3, wide_codec=0.5, snr_db=(8.0, 45.0)
    ),
    "rough": ChannelConfig(
        room=0.25,
        noise=0.45,
        clip=0.12,
        narrowband=0.25,
        wide_codec=0.6,
        second_codec=0.3,
        resample=0.5,
        snr_db=(2.0, 40.0),
    ),
    "crowd": ChannelConfig(
        room=0.5,
        noise=0.4,
        babble=0.6,
        clip=0.1,
        narrowband=0.3,
        wide_codec=0.4,
        resample=0.5,
        snr_db=(0.0, 35.0),
    ),
    "cleaned": ChannelConfig(
        room=0.1,
        noise=0.35,
        suppress=0.9,
        compress=0.4,
        narrowband=0.3,
        wide_codec=0.4,
        dither=0.2,
        resample=0.5,
        snr_db=(8.0, 40.0),
    ),
    "app": ChannelConfig(
        room=0.2,
        noise=0.3,
        suppress=0.4,
        gate=0.5,
        compress=0.3,
        narrowband=0.2,
        wide_codec=0.85,
        second_codec=0.3,
        dither=0.2,
        resample=0.4,
        snr_db=(8.0, 40.0),
    ),
}
ROOMS = {"crowd": ("halls.npy", (0.15, 1.0))}
"""File and reverberation times, s, of a kind's rooms where they are not the usual ones."""

Samples = npt.NDArray[np.float32]


class Encoder:
    """The encoder's convolutions in ONNX Runtime, twice as fast as eager."""

    def __init__(self, threads: int = 2) -> None:
        import onnxruntime
        from distillmos.sqa import DEFAULT_WEIGHTS_CHKPT, _complex_compressed, _ComplexSpecCNN

        state = torch.load(DEFAULT_WEIGHTS_CHKPT, map_location="cpu", weights_only=True)["model"]
        network = _ComplexSpecCNN(256, 6)
        network.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("cnn.")})
        buffer = io.BytesIO()
        torch.onnx.export(
            network.cnn.eval(),
            (torch.zeros(1, 2, 161, CROP // 160),),
            buffer,
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "batch", 3: "time"}},
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(buffer.getvalue(), options)
        self.transform = _complex_compressed

    def __call__(self, waveforms: Samples) -> Samples:
        """(batch, n) to (batch, 1024, frames); each waveform is scaled to a peak of one."""
        peak = np.max(np.abs(waveforms), axis=1, keepdims=True) + 1e-8
        x = torch.from_numpy(waveforms / peak)
        spectrogram = self.transform(x, 160, 320).permute(0, 3, 1, 2).contiguous().numpy()
        y = self.session.run(None, {"x": spectrogram})[0]
        return y.reshape(len(y), 1024, -1)


def rooms(work: Path, seed: int, kind: str = "") -> Samples:
    """The simulated rooms of a kind of pass, made once [shape=(rooms, taps)]."""
    name, reverberation_s = ROOMS.get(kind, ("rooms.npy", None))
    path = work / name
    if not path.is_file():
        np.save(path, room_bank(200, seed=seed, reverberation_s=reverberation_s))
    found: Samples = np.load(path)
    return found


class Pass:
    """Draws the crop of each clip in one pass; a pure function of (pass, seed, clip)."""

    def __init__(self, name: str, corpus: Corpus, work: Path) -> None:
        kind, _, number = name.partition("-")
        self.corpus = corpus
        self.seed = [sum(name.encode()), int(number or 0)]
        config = CHANNELS.get(kind)
        self.channel = None
        if config is not None:
            self.channel = ChannelSimulator(config, rooms(work, 1, kind), self.voice)

    @cached_property
    def people(self) -> list[int]:
        """Rows of the corpus' people."""
        return [i for i, row in enumerate(self.corpus.rows) if row["label"] == "bonafide"]

    def voice(self, rng: np.random.Generator) -> Samples:
        """Some person of the corpus, for babble."""
        return self.corpus.clip(self.people[int(rng.integers(len(self.people)))])

    def __call__(self, index: int) -> Samples:
        """The crop of clip `index`, (CROP,)."""
        rng = np.random.default_rng([*self.seed, index])
        x = crop(self.corpus.clip(index), CROP, rng)
        return to_peak(x, rng.uniform(-30.0, 0.0)) if self.channel is None else self.channel(x, rng)


def quantised(x: Samples) -> npt.NDArray[np.int16]:
    """16-bit samples."""
    return np.round(np.clip(x, -1.0, 1.0) * FULL_SCALE).astype(np.int16)


def frame_axes(corpus: Corpus, encoder: Encoder, work: Path) -> dict[str, Any]:
    """Principal axes of the encoder's frames, from 512 clips clean and by telephone; made once."""
    path = work / "bank" / "axes.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = np.random.default_rng(0).choice(len(corpus), 512, replace=False)
        draws = [Pass("clean", corpus, work), Pass("telephone", corpus, work)]
        crops = [draws[i % 2](int(row)) for i, row in enumerate(rows)]
        batches = [np.stack(crops[i : i + BATCH]) for i in range(0, len(crops), BATCH)]
        frames = np.concatenate([encoder(b).transpose(0, 2, 1).reshape(-1, 1024) for b in batches])
        mean, scale = frames.mean(0), frames.std(0) + 1e-3
        spread, axes = np.linalg.eigh(np.cov(((frames - mean) / scale).T))
        order = np.argsort(spread)[::-1][:AXES]
        np.savez(path, mean=mean, scale=scale, axes=axes[:, order].T, spread=np.sqrt(spread[order]))
    return dict(np.load(path))


def targets(y: Samples, basis: dict[str, Any]) -> tuple[Samples, Samples]:
    """Pooled features (batch, 2048) and whitened frames every 80 ms (batch, steps, AXES)."""
    pooled = np.concatenate([y.mean(-1), y.std(-1)], axis=1)
    smooth = torch.nn.functional.avg_pool1d(
        torch.from_numpy(y), SPAN + 1, SPAN, padding=SPAN // 2, count_include_pad=False
    )
    frames = (smooth.numpy().transpose(0, 2, 1) - basis["mean"]) / basis["scale"]
    return pooled, frames @ basis["axes"].T / basis["spread"]


def run_pass(name: str, corpus: Corpus, encoder: Encoder, work: Path) -> None:
    """Fill one pass from where it stands."""
    basis = frame_axes(corpus, encoder, work)
    folder = work / "bank" / name
    folder.mkdir(parents=True, exist_ok=True)
    n, steps = len(corpus), (CROP // 160 // 2) // SPAN + 1
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        "crops": ((n, CROP), "i2"),
        "pooled": ((n, 2048), "f2"),
        "frames": ((n, steps, AXES), "f2"),
    }
    stamp = folder / "done.txt"
    done = int(stamp.read_text()) if stamp.is_file() else 0
    arrays = {
        key: np.lib.format.open_memmap(
            folder / f"{key}.npy", mode="r+" if done else "w+", dtype=dtype, shape=shape
        )
        for key, (shape, dtype) in shapes.items()
    }
    draw = Pass(name, corpus, work)
    for start in range(done, n, BATCH):
        stop = min(start + BATCH, n)
        crops = quantised(np.stack([draw(i) for i in range(start, stop)]))
        pooled, frames = targets(encoder(crops.astype(np.float32) / FULL_SCALE), basis)
        arrays["crops"][start:stop], arrays["pooled"][start:stop] = crops, pooled
        arrays["frames"][start:stop] = frames
        if stop % (32 * BATCH) == 0 or stop == n:
            for array in arrays.values():
                array.flush()
            stamp.write_text(str(stop))
            print(f"{name}: {stop} of {n} clips", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--passes", nargs="+", default=["clean", "telephone", "channel"])
    args = parser.parse_args()
    corpus = open_corpus(args.data_folder, args.work / "cache")
    encoder = Encoder()
    for name in args.passes:
        run_pass(name, corpus, encoder, args.work)


if __name__ == "__main__":
    main()
