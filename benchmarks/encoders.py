"""What the speech encoders cost: seconds and peak memory for 4 s and for 60 s of audio.

    python benchmarks/encoders.py                        # XLS-R 300M, random weights
    python benchmarks/encoders.py --encoder FILE ...     # encoders of your own, in chunks they take

Each row runs in a process of its own, so that its peak memory is its own, on one thread, in
float32. The last column is how many times faster than the audio plays.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

LENGTHS_S = (4.0, 60.0)
RATE = 16000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, nargs="*", default=[], help="files or folders")
    parser.add_argument("--architecture", default="xls-r-300m", help="for random weights")
    parser.add_argument("--lengths", type=float, nargs="+", default=LENGTHS_S, help="seconds")
    parser.add_argument("--layers", type=int, nargs="+", help="all by default")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    args = parser.parse_args()
    sources = args.encoder or [args.architecture]
    # A fresh interpreter a row: a fork would inherit this one's peak.
    context = multiprocessing.get_context("spawn")
    jobs = [(str(source), length, args.layers) for source in sources for length in args.lengths]
    if not args.json:
        print(f"{'encoder':24}{'audio s':>8}{'shape':>22}{'s':>9}{'peak MB':>9}{'x real':>8}")
    for job in jobs:
        with context.Pool(1) as pool:
            row = pool.apply(measure, job)
        print(json.dumps(row) if args.json else as_line(row))


def measure(source: str, length_s: float, layers: list[int] | None) -> dict[str, Any]:
    """One row: the median of three passes after one that is not counted; one above 30 s."""
    import torch

    torch.set_num_threads(1)
    encoder = build(source, layers)
    samples = int(length_s * RATE)
    chunk = min(samples, encoder.max_samples or samples)
    torch.manual_seed(0)
    pieces = (0.1 * torch.randn(1, samples)).split(chunk, dim=1)
    idle = peak_mb()
    seconds, frames, shape = [], 0, []
    with torch.inference_mode():
        for _ in range(4 if length_s <= 30 else 1):
            start, frames = time.perf_counter(), 0
            for piece in pieces:
                if piece.shape[1] >= encoder.min_samples:
                    shape = list(encoder(piece).layers.shape)
                    frames += shape[2]
            seconds.append(time.perf_counter() - start)
    taken = sorted(seconds[1:] or seconds)[len(seconds[1:]) // 2]
    return {
        "encoder": Path(source).name,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "audio_s": length_s,
        "shape": [1, shape[1], frames, shape[3]],
        "seconds": taken,
        "peak_mb": peak_mb(),
        "idle_mb": idle,
        "times_real": length_s / taken,
    }


def build(source: str, layers: list[int] | None) -> Any:
    from voiceguard.features.ssl import load_encoder
    from voiceguard.features.ssl.torchaudio_encoders import WaveEncoder
    from voiceguard.features.ssl.wave_config import WAVE_CONFIGS

    if source in WAVE_CONFIGS:
        return WaveEncoder(WAVE_CONFIGS[source], layers=layers).eval()
    return load_encoder(source, layers=layers)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def as_line(row: dict[str, Any]) -> str:
    shape = " x ".join(map(str, row["shape"]))
    return (
        f"{row['encoder']:24}{row['audio_s']:8.0f}{shape:>22}{row['seconds']:9.2f}"
        f"{row['peak_mb']:9.0f}{row['times_real']:8.1f}"
    )


if __name__ == "__main__":
    main()
