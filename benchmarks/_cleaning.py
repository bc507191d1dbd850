"""What handsets and editors do to a voice to make it cleaner: FFmpeg's filters, and WebRTC's.

FFmpeg's are none of training's: another noise suppressor, a gate, a compressor, a leveller.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from voiceguard.training.augment import SAMPLE_RATE, to_length, to_peak
from voiceguard.training.cleaning import webrtc

Samples = npt.NDArray[np.float32]

PEAK_DBFS = -1.0
FILTERS = {
    "suppression FFmpeg": ("afftdn", "nr=20:nf={floor:.0f}", 400),
    "gate": ("agate", "threshold=0.05:ratio=4:range=0.03:release=50", 0),
    "compressor 4:1": ("acompressor", "threshold=0.05:ratio=4", 0),
    "levelled": ("dynaudnorm", "framelen=250:gausssize=7", 0),
}
"""By condition: a filter, its options, and the samples by which it is late."""
_FRAME = 320
_FLOORS_DB = (-80.0, -20.0)
"""Within these the denoiser can be told where the noise lies; that of a tenth of the frames."""
WEBRTC_LEVELS = (2, 4)


def filtered(x: Samples, name: str) -> Samples:
    """`x` through one of :data:`FILTERS`, from a peak of -1 dBFS, in time and as long.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
    name : str

    Returns
    -------
    np.ndarray [shape=(n,)]
    """
    from av import AudioFrame
    from av.error import BlockingIOError, EOFError
    from av.filter import Graph

    kind, options, late = FILTERS[name]
    padded = np.pad(to_peak(x, PEAK_DBFS), (0, late))
    graph = Graph()
    nodes = [
        graph.add_abuffer(sample_rate=SAMPLE_RATE, format="fltp", layout="mono"),
        graph.add(kind, options.format(floor=_floor_db(padded))),
        graph.add("aformat", f"sample_fmts=fltp:sample_rates={SAMPLE_RATE}"),
        graph.add("abuffersink"),
    ]
    for before, after in pairwise(nodes):
        before.link_to(after)
    graph.configure()
    frame = AudioFrame.from_ndarray(padded[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    nodes[0].push(frame)
    nodes[0].push(None)
    heard: list[Samples] = []
    while True:
        try:
            heard.append(nodes[-1].pull().to_ndarray()[0])
        except (BlockingIOError, EOFError):
            break
    y = np.concatenate(heard)[late:]
    return to_length(y, len(x))


def _floor_db(x: Samples) -> float:
    """Power of the quietest tenth of the frames and 5 dB, dB relative to full scale."""
    frames = x[: len(x) // _FRAME * _FRAME].reshape(-1, _FRAME)
    quiet = np.quantile(np.square(frames).mean(axis=1), 0.1)
    return float(np.clip(10.0 * np.log10(quiet + 1e-12) + 5.0, *_FLOORS_DB))


def suppressed(x: Samples, level: int) -> Samples:
    """`x` through WebRTC's noise suppressor, from a peak of -1 dBFS."""
    return webrtc(to_peak(x, PEAK_DBFS), level=level)
