r"""Who sounds like whom: so that people with synthetic doubles are heard more often.

    pip install --no-deps resemblyzer webrtcvad-wheels        # GE2E, weights inside, Apache-2.0
    python voices.py --data_folder work/corpus --work work    # 11 min of one core

Some voices are those of hundreds of synthetic clips and of a few recordings of their owner (LJ
Speech): a probe then learns that the voice is synthetic. ``work/voices.npy`` has a speaker
embedding of each clip (GE2E: Wan et al., "Generalized end-to-end loss for speaker verification",
ICASSP 2018). ``pooled_probe.py --voices`` counts a human clip that trains by how far synthetic
clips outweigh people among those that train and sound like it (:class:`Voices`). Nothing else is
counted differently: to count fakes of such voices less was tried, and costs errors elsewhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from voiceguard.errors import ProtocolError
from voiceguard.training.corpus import open_corpus

NAME = "voices.npy"
WINDOW = 160
"""Frames of 10 ms that the encoder hears at once."""
HOP = 80
QUIET = 10.0**-1.5
"""Clips below this root mean square are raised to it, as the encoder's authors do."""
STRANGER, SAME = 0.75, 0.9
"""Cosines at and below which two clips are of strangers, at and above which of one voice."""
PRIOR = 4.0
"""Clips of an even voice that are taken as heard beside those that are there."""
MOST = 8.0

Floats = npt.NDArray[np.float64]
Points = npt.NDArray[np.float32]


class Voices:
    """How alike the voices of clips are, and what that makes of their weights.

    Parameters
    ----------
    embeddings : ndarray [shape=(clips, dim)]
        Of unit length.
    """

    def __init__(self, embeddings: Points) -> None:
        self.embeddings = embeddings

    @classmethod
    def load(cls, path: Path, clips: int) -> Voices:
        """From the file that this script writes.

        Raises
        ------
        ProtocolError
            If it is of another number of clips.
        """
        embeddings = np.load(path)
        if len(embeddings) != clips:
            raise ProtocolError(
                f"{path}: expected the voices of {clips} clips, got {len(embeddings)}; "
                "run voices.py on this corpus."
            )
        return cls(embeddings)

    def weigh(
        self, rows: npt.NDArray[np.int64], bonafide: npt.NDArray[np.bool_], weights: Floats
    ) -> Floats:
        """Weights of clips that train, people counted up where their doubles outweigh them.

        Parameters
        ----------
        rows : ndarray [shape=(n,)]
            The clips that train; no other is looked at.
        bonafide : ndarray [shape=(n,)]
        weights : ndarray [shape=(n,)]
            What each counts so far.

        Returns
        -------
        ndarray [shape=(n,)]
            Of the same sum in either class. Among the clips that sound like a person's, people
            have a share p of the weight: that person counts 1 / 2p times, from once to eight times.
        """
        counted = weights / weights.mean()
        heard = self.embeddings[rows]
        alike = (heard[bonafide] @ heard.T - STRANGER) / (SAME - STRANGER)
        np.clip(alike, 0.0, 1.0, out=alike)
        people = alike @ np.where(bonafide, counted, 0.0)
        fakes = alike @ np.where(bonafide, 0.0, counted)
        share = (people + PRIOR / 2.0) / (people + fakes + PRIOR)
        found = weights.copy()
        found[bonafide] *= np.clip(0.5 / share, 1.0, MOST)
        found[bonafide] *= weights[bonafide].sum() / found[bonafide].sum()
        return found


def embedded(samples: Points, encoder: torch.nn.Module) -> Points:
    """Speaker embedding of a clip at 16 kHz, the mean over its windows [shape=(dim,)]."""
    from resemblyzer.audio import wav_to_mel_spectrogram

    level = float(np.sqrt(np.mean(samples**2)))
    mel = wav_to_mel_spectrogram(samples * max(1.0, QUIET / (level + 1e-9)))
    if len(mel) < WINDOW:
        mel = np.pad(mel, ((0, WINDOW - len(mel)), (0, 0)), mode="wrap")
    starts = range(0, len(mel) - WINDOW + 1, HOP)
    with torch.inference_mode():
        heard = encoder(torch.from_numpy(np.stack([mel[s : s + WINDOW] for s in starts])))
    mean = heard.numpy().mean(axis=0)
    found: Points = (mean / np.linalg.norm(mean)).astype(np.float32)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    from resemblyzer import VoiceEncoder

    torch.set_num_threads(1)
    encoder = VoiceEncoder("cpu", verbose=False)
    corpus = open_corpus(args.data_folder, args.work / "cache")
    found = np.stack([embedded(corpus.clip(i), encoder) for i in range(len(corpus))])
    np.save(args.work / NAME, found)
    print(f"{args.work / NAME}: voices of {len(corpus)} clips")


if __name__ == "__main__":
    main()
