"""What a frozen encoder hears in every clip of the corpus, pooled over time, through many channels.

    python pooled.py --data_folder ../../../shared/corpus --work work \
        --encoder work/encoders/distillmos.safetensors --layers 0 --axes 96
    python pooled.py --data_folder ../../../shared/corpus --work work \
        --encoder work/encoders/whisper-tiny-en.safetensors --layers 0 1 2 --context_s 4.02
    python pooled.py --data_folder ../../../shared/corpus --work work \
        --encoder cepstra --segment 128

A pass is one window of 4 s of each clip: ``first`` and ``g711`` its first one, as recorded and by
telephone, to judge on and to train on; ``ends`` that window too, but of the clip taken to another
rate and back, so that where its band ends says nothing; ``telephone``, ``channel``, ``app`` and
other kinds of :mod:`bank` a random one through a random channel, and so ``telephone-2``,
``channel-2``, ...; ``mixed`` and ``mixed-2`` one of four kinds each. Rows [shape=(clips, layers, 2
* dim)] in float16 lie in ``work/pooled/<encoder>/<pass>.npy``; row i is clip i of the manifest.
With ``--axes 96`` they also have the covariances along so many axes (``axes.npy``, made once from
the frames of some clips) and lie in ``work/pooled/<encoder>-96/``. With ``--segment 128`` they are
modulation spectra over so many frames instead and lie in ``work/pooled/<encoder>-m128/``. The
windows themselves, at one level, lie in ``work/windows/<pass>/`` (1.3 GB a pass): the next encoder
hears the same ones, and a student learns from them. ``--frames`` keeps what is heard over time,
along the same axes, in ``work/frames/<encoder>-96/<pass>.npy`` (0.4 GB a pass), which
``imitate.py`` asks for. A killed pass goes on where it stopped. ``--bf16`` is four times faster on
some processors, and close enough for a probe.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from bank import FULL_SCALE, quantised
from judge import WINDOW, window
from ssl_frames import Window, frames_of, open_encoder

from voiceguard.audio.telephony import g711_path
from voiceguard.errors import ParameterError
from voiceguard.features.ssl import SSLEncoder
from voiceguard.models.covariance import pool_covariances, whitening_axes
from voiceguard.models.modulation import ModulationConfig, ModulationSpectrum
from voiceguard.models.probe import pool_statistics
from voiceguard.models.ssl_ensemble import at_peak
from voiceguard.training.augment import resampled
from voiceguard.training.checkpoints import settle_configuration
from voiceguard.training.corpus import Corpus, open_corpus

BATCH = 16
FLUSH_EVERY = 16
AXES_FROM = 1024
"""Clips whose frames the axes are fitted on, half of them by telephone."""
FRAME_STEP = 4
CENTRE = "centre.npy"
ENDS_SEED = 14
PASSES = ("first", "g711", "telephone", "channel", "mixed", "mixed-2")
MIXED = ("rough", "ends", "crowd", "cleaned")
"""A mixed pass gives each clip one of these at random, the second one another, up to mixed-4."""
MIXED_SEED = 15

Samples = npt.NDArray[np.float32]


def draw(name: str, corpus: Corpus, work: Path) -> Callable[[int], Samples]:
    """What gives the window of clip i in a pass."""
    if name == "first":
        return lambda i: window(corpus.clip(i))
    if name == "g711":
        return lambda i: window(g711_path(corpus.clip(i)))
    if name == "ends":
        return lambda i: window(resampled(corpus.clip(i), np.random.default_rng([ENDS_SEED, i])))
    family, _, number = name.partition("-")
    if family == "mixed":
        kinds = {kind: draw(kind, corpus, work) for kind in MIXED}
        return lambda i: kinds[kinds_of(i)[int(number or 1) - 1]](i)
    return Window(name, corpus, work)


def kinds_of(i: int) -> list[str]:
    """In which order clip i goes through the mixed passes."""
    order = np.random.default_rng([MIXED_SEED, i]).permutation(len(MIXED))
    return [MIXED[place] for place in order]


class KeptWindows:
    """The windows of a pass in 16 bits, at the level at which an ensemble hears them; made once."""

    def __init__(self, name: str, corpus: Corpus, work: Path) -> None:
        folder = work / "windows" / name
        folder.mkdir(parents=True, exist_ok=True)
        self.stamp = folder / "done.txt"
        self.done = int(self.stamp.read_text()) if self.stamp.is_file() else 0
        self.rows = np.lib.format.open_memmap(
            folder / "crops.npy",
            mode="r+" if self.done else "w+",
            dtype="i2",
            shape=(len(corpus), WINDOW),
        )
        self.drawn = draw(name, corpus, work)

    def __call__(self, start: int, stop: int) -> Samples:
        """Windows [start, stop) [shape=(stop - start, WINDOW)]."""
        if stop > self.done:
            made = np.stack([self.drawn(i) for i in range(start, stop)])
            self.rows[start:stop] = quantised(at_one_level(made))
            self.rows.flush()
            self.done = stop
            self.stamp.write_text(str(stop))
        return np.asarray(self.rows[start:stop], np.float32) / FULL_SCALE


def at_one_level(windows: Samples) -> Samples:
    """Each window at the peak at which an ensemble hears it."""
    level: Samples = at_peak(torch.from_numpy(windows)).numpy()
    return level


def pooling(
    projection: Samples | None = None, segment: int = 0
) -> Callable[[torch.Tensor], torch.Tensor]:
    """What pools the frames of a layer: to modulation spectra, or to statistics and covariances."""
    if segment:
        return ModulationSpectrum(segment)
    if projection is None:
        return pool_statistics
    axes = torch.from_numpy(projection)
    return lambda layer: torch.cat([pool_statistics(layer), pool_covariances(layer, axes)], dim=1)


def pool(frames: torch.Tensor, how: Callable[[torch.Tensor], torch.Tensor]) -> Samples:
    """Each layer pooled [shape=(batch, layers, features)]."""
    return torch.stack([how(layer) for layer in frames.unbind(1)], dim=1).numpy()


def along_axes(frames: torch.Tensor, projection: Samples, centre: Samples) -> Samples:
    """The one layer's frames along the axes, about the mean [shape=(batch, frames, axes)]."""
    found: Samples = (frames[:, 0] @ torch.from_numpy(projection).T).numpy() - centre
    return found


def folder_of(work: Path, architecture: str, axes: int, segment: int = 0) -> Path:
    """Where the rows of an encoder lie."""
    kind = f"-{axes}" if axes else f"-m{segment}" if segment else ""
    return work / "pooled" / f"{architecture}{kind}"


def frame_axes(
    folder: Path, axes: int, corpus: Corpus, encoder: SSLEncoder, work: Path, *, bfloat16: bool
) -> Samples:
    """Axes along which covariances are taken [shape=(axes, dim)]; made once.

    Raises
    ------
    ParameterError
        If the encoder gives several layers.
    """
    if encoder.n_layers != 1:
        raise ParameterError(
            f"--axes must go with one layer. Got {encoder.n_layers} layers instead; leave out "
            "--axes or all --layers but one."
        )
    path = folder / "axes.npy"
    if not path.is_file():
        drawn = [draw(name, corpus, work) for name in ("first", "telephone")]
        rows = np.linspace(0, len(corpus) - 1, min(AXES_FROM, len(corpus))).astype(int)
        frames = []
        for start in range(0, len(rows), BATCH):
            some = range(start, min(start + BATCH, len(rows)))
            windows = at_one_level(np.stack([drawn[k % 2](int(rows[k])) for k in some]))
            heard = frames_of(encoder, windows, bfloat16=bfloat16)[:, 0, ::FRAME_STEP]
            frames.append(heard.flatten(0, 1).numpy())
        whole = np.concatenate(frames)
        found = whitening_axes(whole, axes)
        # What they start from, for frames kept in 16 bits: far from zero those are coarse.
        np.save(folder / CENTRE, found @ whole.mean(axis=0, dtype=np.float64).astype(np.float32))
        np.save(path, found)
    return np.load(path)


def run_pass(
    name: str,
    corpus: Corpus,
    encoder: SSLEncoder,
    work: Path,
    *,
    axes: int = 0,
    segment: int = 0,
    bfloat16: bool = False,
    keep_frames: bool = False,
) -> Path:
    """Fill one pass from where it stands; its file.

    With `keep_frames` the frames along the axes are kept too, in 16 bits.
    """
    folder = folder_of(work, encoder.architecture, axes, segment)
    wanted = {"encoder": encoder.fingerprint(), "layers": encoder.layers, "clips": len(corpus)}
    settle_configuration(folder, wanted)
    projection = None
    if axes:
        projection = frame_axes(folder, axes, corpus, encoder, work, bfloat16=bfloat16)
    path, stamp = folder / f"{name}.npy", folder / f"{name}.txt"
    done = int(stamp.read_text()) if stamp.is_file() else 0
    width = 2 * encoder.dim + axes * (axes + 1) // 2
    if segment:
        width = ModulationConfig(encoder.dim, segment).pooled_dim
    how = pooling(projection, segment)
    rows = np.lib.format.open_memmap(
        path,
        mode="r+" if done else "w+",
        dtype="f2",
        shape=(len(corpus), encoder.n_layers, width),
    )
    windows = KeptWindows(name, corpus, work)
    kept = centre = None
    if keep_frames:
        centre = np.load(folder / CENTRE)
        (work / "frames" / folder.name).mkdir(parents=True, exist_ok=True)
        kept = np.lib.format.open_memmap(
            work / "frames" / folder.name / f"{name}.npy",
            mode="r+" if done else "w+",
            dtype="f2",
            shape=(len(corpus), encoder.frames(WINDOW), axes),
        )
    for start in range(done, len(corpus), BATCH):
        stop = min(start + BATCH, len(corpus))
        frames = frames_of(encoder, windows(start, stop), bfloat16=bfloat16)
        rows[start:stop] = pool(frames, how)
        if kept is not None and projection is not None and centre is not None:
            kept[start:stop] = along_axes(frames, projection, centre)
        if stop % (FLUSH_EVERY * BATCH) == 0 or stop == len(corpus):
            rows.flush()
            if kept is not None:
                kept.flush()
            stamp.write_text(str(stop))
            print(f"{name}: {stop} of {len(corpus)} clips", flush=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--encoder", required=True, help="a file, or cepstra")
    parser.add_argument("--layers", type=int, nargs="+", default=[0])
    parser.add_argument("--axes", type=int, default=0, help="of the covariances; 0 for none")
    parser.add_argument("--segment", type=int, default=0, help="of modulation spectra; 0 for none")
    parser.add_argument("--frames", action="store_true", help="keep frames along the axes too")
    parser.add_argument("--context_s", type=float, help="cuts the 30 s window of Whisper")
    parser.add_argument("--passes", nargs="+", default=PASSES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    if args.frames and not args.axes:
        parser.error("--frames keeps them along axes: add --axes.")
    if args.segment and args.axes:
        parser.error("--segment and --axes are two ways to pool: leave one out.")
    torch.set_num_threads(args.threads)
    corpus = open_corpus(args.data_folder, args.work / "cache")
    encoder = open_encoder(args.encoder, layers=args.layers, context_s=args.context_s)
    encoder = encoder.to(memory_format=torch.channels_last).freeze().eval()
    for name in args.passes:
        run_pass(
            name, corpus, encoder, args.work,
            axes=args.axes, segment=args.segment, bfloat16=args.bf16, keep_frames=args.frames,
        )  # fmt: skip


if __name__ == "__main__":
    main()
