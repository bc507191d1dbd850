"""What a training crop costs on this CPU, by number format and order of the maps in memory.

    python benchmarks/training.py --systems aasist-l aasist --seconds 1

Forward and backward of one batch on one thread, the four ways taking turns; the median CPU time a
crop, and how many times faster than float32 in planes, which is what ``train.py`` does by default.
``--precision=bf16`` and ``--channels_last true`` are its options for the others.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from voiceguard.models import build, names

RATE = 16_000
WAYS = {
    "float32": (False, False),
    "float32, channels last": (False, True),
    "bfloat16": (True, False),
    "bfloat16, channels last": (True, True),
}


def cpu_seconds(network: torch.nn.Module, batch: torch.Tensor, *, half: bool) -> float:
    """CPU seconds of this thread for forward and backward, a crop."""
    start = time.thread_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = network(batch).logits
    logits.float().sum().backward()
    return (time.thread_time() - start) / len(batch)


def measure(name: str, *, batch: int, samples: int, rounds: int) -> dict[str, float]:
    """Median of each way; the first round, in which kernels are chosen, does not count."""
    torch.manual_seed(0)
    waveforms = 0.1 * torch.randn(batch, samples)
    networks = {way: build(name).train() for way in WAYS}
    for way, (_, last) in WAYS.items():
        if last:
            networks[way].to(memory_format=torch.channels_last)
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds + 1):
        for way, (half, _) in WAYS.items():
            taken[way].append(cpu_seconds(networks[way], waveforms, half=half))
    return {way: statistics.median(seconds[1:]) for way, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", default=["aasist-l"], choices=names())
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a crop")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.systems:
        found = measure(
            name, batch=args.batch, samples=int(args.seconds * RATE), rounds=args.rounds
        )
        base = found["float32"]
        for way, seconds in found.items():
            print(f"{name}  {way:24} {seconds:7.3f} s a crop  {base / seconds:4.1f} times float32")


if __name__ == "__main__":
    main()
