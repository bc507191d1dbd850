"""What a frozen encoder hears in every clip of a fold, kept on disk for every back end.

Four parts: training clips, one random window each, clean and by telephone; held-out clips, their
first window, clean and through G.711. A part is ``frames.npy``, float16
[shape=(clips, layers, frames, dim)], with ``done.txt``; a killed encoding goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from bank import Pass
from judge import WINDOW, window
from split import family, split

from voiceguard.audio.telephony import g711_path
from voiceguard.features.ssl import SSLEncoder, load_encoder
from voiceguard.features.ssl.whisper import WhisperEncoder
from voiceguard.training.augment import crop, to_peak
from voiceguard.training.checkpoints import settle_configuration
from voiceguard.training.corpus import Corpus

BATCH = 8
FLUSH_EVERY = 16
PARTS = ("train_clean", "train_telephone", "held_clean", "held_g711")

Samples = npt.NDArray[np.float32]
Draw = Callable[[int], Samples]


class Window(Pass):
    """As the bank's passes, a whole window long."""

    def __call__(self, index: int) -> Samples:
        """The window of clip `index`, (WINDOW,)."""
        rng = np.random.default_rng([*self.seed, index])
        x = crop(self.corpus.clip(index), WINDOW, rng)
        return to_peak(x, rng.uniform(-30.0, 0.0)) if self.channel is None else self.channel(x, rng)


@dataclass(frozen=True)
class FoldRows:
    """Rows of the manifest that train and that are held out, with what is known of them."""

    train: npt.NDArray[np.int64]
    held: npt.NDArray[np.int64]
    bonafide: npt.NDArray[np.bool_]
    families: tuple[str, ...]

    @classmethod
    def of(cls, corpus: Corpus, hparams: Mapping[str, Any]) -> FoldRows:
        """The rows of the fold; ``clips`` > 0 takes so many of each side, for a trial run."""
        sides = split(corpus.rows, hparams["fold"], released=hparams["released"])
        bonafide = np.array([row["label"] == "bonafide" for row in corpus.rows])
        train, held = (
            some(side, bonafide, hparams["clips"]) for side in (sides.train, sides.held_out)
        )
        return cls(train, held, bonafide, tuple(family(row) for row in corpus.rows))


def some(
    rows: npt.NDArray[np.int64], bonafide: npt.NDArray[np.bool_], limit: int
) -> npt.NDArray[np.int64]:
    """At most `limit` rows, half of each label, by even stride; all of them for 0."""
    if not limit or limit >= len(rows):
        return rows
    halves = [rows[bonafide[rows]], rows[~bonafide[rows]]]
    picked = [half[np.linspace(0, len(half) - 1, limit // 2).astype(int)] for half in halves]
    return np.unique(np.concatenate(picked))


def open_encoder(
    path: str | Path, *, layers: list[int], context_s: float | None = None
) -> SSLEncoder:
    """The encoder; `context_s` cuts Whisper's 30 s window, the positions of the rest unused."""
    encoder = load_encoder(path, layers=layers)
    if context_s is None or not isinstance(encoder, WhisperEncoder):
        return encoder
    plain = {**encoder.config, "context_s": context_s}
    short = WhisperEncoder.from_config(plain, layers=encoder.layers)
    state = encoder.state_dict()
    name = "network.embed_positions.weight"
    state[name] = state[name][: len(short.state_dict()[name])].clone()
    short.load_state_dict(state)
    short.provenance = encoder.provenance
    return short.eval()


def frames_of(encoder: SSLEncoder, windows: Samples, *, bfloat16: bool = False) -> torch.Tensor:
    """Frames in float32 [shape=(batch, layers, frames, dim)]."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        return encoder(torch.from_numpy(windows)).layers.float()


def encode_part(
    folder: Path,
    encoder: SSLEncoder,
    rows: npt.NDArray[np.int64],
    draw: Draw,
    *,
    bfloat16: bool = False,
) -> None:
    """Fill one part from where it stands."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "done.txt"
    done = int(stamp.read_text()) if stamp.is_file() else 0
    frames = np.lib.format.open_memmap(
        folder / "frames.npy",
        mode="r+" if done else "w+",
        dtype="f2",
        shape=(len(rows), encoder.n_layers, encoder.frames(WINDOW), encoder.dim),
    )
    for start in range(done, len(rows), BATCH):
        stop = min(start + BATCH, len(rows))
        windows = np.stack([draw(int(i)) for i in rows[start:stop]])
        frames[start:stop] = frames_of(encoder, windows, bfloat16=bfloat16).numpy()
        if stop % (FLUSH_EVERY * BATCH) == 0 or stop == len(rows):
            frames.flush()
            stamp.write_text(str(stop))
            print(f"{folder.name}: {stop} of {len(rows)} clips", flush=True)


def encode_fold(
    corpus: Corpus,
    encoder: SSLEncoder,
    rows: FoldRows,
    work: Path,
    folder: Path,
    *,
    bfloat16: bool = False,
) -> dict[str, npt.NDArray[np.float16]]:
    """All parts, memory-mapped; what is there already is not encoded again.

    Raises
    ------
    ParameterError
        If `folder` holds the frames of another encoder or of other clips.
    """
    settle_configuration(
        folder,
        {
            "encoder": encoder.fingerprint(),
            "layers": encoder.layers,
            "bfloat16": bfloat16,
            "train": rows.train.tolist(),
            "held": rows.held.tolist(),
        },
    )
    draws: dict[str, tuple[npt.NDArray[np.int64], Draw]] = {
        "train_clean": (rows.train, Window("clean", corpus, work)),
        "train_telephone": (rows.train, Window("telephone", corpus, work)),
        "held_clean": (rows.held, lambda i: window(corpus.clip(i))),
        "held_g711": (rows.held, lambda i: window(g711_path(corpus.clip(i)))),
    }
    for name, (chosen, draw) in draws.items():
        encode_part(folder / name, encoder.eval(), chosen, draw, bfloat16=bfloat16)
    return {name: np.load(folder / name / "frames.npy", mmap_mode="r") for name in PARTS}
