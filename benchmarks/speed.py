"""Speed and memory, side by side in one run, on one thread.

    python benchmarks/speed.py --aasist ../shared/fixtures/aasist/AASIST.pth

Three engines on the same audio: the bundled model and the published AASIST through ONNX Runtime,
and AASIST in eager torch. Window latency is a median over runs that take turns, so that a noisy
machine is noisy for all; the ratio is to eager AASIST. The hour goes through the whole path (gate,
windows, calibration, aggregation) for the bundled model; for the two AASIST engines it is their
window time over the same number of windows. Memory and cold start are of fresh processes. Many
files are scored with one worker and with several, taking turns; on a busy machine several also get
a larger share of it, so that only an idle one gives their worth.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from voiceguard import Detector
from voiceguard.detect.windows import plan

SAMPLE_RATE = 16_000
ROUNDS = 30
FILES = 16
WORKERS = (1, 2, 4)
# Not getrusage: a child's peak there starts with the memory of the process that forked it.
PEAK_MIB = (
    "print(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status')"
    " if line.startswith('VmHWM')))"
)


def speech_like(seconds: float, seed: int = 0) -> np.ndarray:
    """Harmonics under a syllabic envelope: something that the voice activity detector hears."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 120 * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 25))
    envelope = np.clip(np.sin(2 * np.pi * 2.5 * t), 0, None) ** 0.5
    return (0.1 * voice * envelope + 0.002 * rng.standard_normal(len(t))).astype(np.float32)


def tiled(clip: Path | None, seconds: float) -> np.ndarray:
    """Real speech repeated to a length, or something like it where there is no clip."""
    if clip is None:
        return speech_like(seconds)
    from voiceguard import read

    return np.resize(read(clip).samples[0], int(seconds * SAMPLE_RATE))


def engine_run(detector: Detector, audio: np.ndarray) -> Callable[[], object]:
    window = audio[None, : detector.manifest.window_samples]
    return lambda: detector.engine.run(window)


def eager_run(checkpoint: Path, audio: np.ndarray) -> Callable[[], object]:
    import torch

    from voiceguard.models.aasist import AASIST

    torch.set_num_threads(1)
    model = AASIST()
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    model.eval()
    window = torch.from_numpy(audio[None, :64_600])

    def run() -> object:
        with torch.inference_mode():
            return model(window)

    return run


def latencies(engines: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds a window, the engines taking turns."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for run in engines.values():
        run()
    for _ in range(ROUNDS):
        for name, run in engines.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def fresh(code: str) -> tuple[float, float]:
    """Wall seconds and peak MiB of a fresh interpreter that runs `code`."""
    measure = f"{code}\n{PEAK_MIB}"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", measure], check=True, capture_output=True, text=True
    )
    return time.perf_counter() - start, float(done.stdout.split()[-1])


def best_of(code: str, runs: int = 5) -> tuple[float, float]:
    """Median wall seconds and peak MiB over fresh interpreters."""
    values = [fresh(code) for _ in range(runs)]
    return statistics.median(v[0] for v in values), statistics.median(v[1] for v in values)


def cold_start(folder: Path, audio: np.ndarray) -> None:
    soundfile.write(folder / "ten.wav", audio[: 10 * SAMPLE_RATE], SAMPLE_RATE)
    path = str(folder / "ten.wav")
    rows = {
        "python -c 'import numpy'": "import numpy",
        "import voiceguard": "import numpy, voiceguard",
        "import, load, score a 10 s wav": f"import voiceguard; voiceguard.score({path!r})",
    }
    print(f"\n{'fresh process':<34}{'seconds':>9}{'peak MiB':>10}")
    found = {name: best_of(code) for name, code in rows.items()}
    for name, (seconds, memory) in found.items():
        print(f"{name:<34}{seconds:9.2f}{memory:10.0f}")
    first, second = found["python -c 'import numpy'"][0], found["import voiceguard"][0]
    print(f"import voiceguard costs {second - first:.3f} s over import numpy")


def many_files(folder: Path, detector: Detector, audio: np.ndarray, rounds: int = 3) -> None:
    paths = [folder / f"{i}.flac" for i in range(FILES)]
    for i, path in enumerate(paths):
        piece = np.roll(audio, -i * SAMPLE_RATE)[: 10 * SAMPLE_RATE]
        soundfile.write(path, piece, SAMPLE_RATE)
    times: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for _ in range(rounds):
        for workers in WORKERS:
            start = time.perf_counter()
            assert all(row.error is None for row in detector.score_many(paths, workers=workers))
            times[workers].append(time.perf_counter() - start)
    print(f"\n{f'{FILES} files of 10 s':<20}{'files/s':>9}{'times faster':>14}")
    alone = statistics.median(times[WORKERS[0]])
    for workers, values in times.items():
        seconds = statistics.median(values)
        title = f"workers={workers}"
        print(f"{title:<20}{FILES / seconds:9.1f}{alone / seconds:14.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aasist", type=Path, required=True, help="published AASIST.pth")
    parser.add_argument(
        "--clip", type=Path, help="a recording to repeat instead of a synthetic one"
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    from voiceguard.importers import import_checkpoint

    audio = tiled(args.clip, args.minutes * 60)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundled = Detector.load()
        published = Detector.load(import_checkpoint("aasist", args.aasist, out=folder / "aasist"))
        median = latencies(
            {
                f"{bundled.model.id}, ONNX Runtime": engine_run(bundled, audio),
                "AASIST, ONNX Runtime": engine_run(published, audio),
                "AASIST, eager torch": eager_run(args.aasist, audio),
            }
        )
        start = time.perf_counter()
        result = bundled.score((audio, SAMPLE_RATE))
        whole = time.perf_counter() - start
        windows = len(plan(len(audio), window=64_600, hop=32_300))
        seconds = [whole, *(windows * value for value in list(median.values())[1:])]
        slowest = median["AASIST, eager torch"]
        length = args.minutes * 60
        print(
            f"{'engine, one thread':<28}{'ms/window':>10}{'times faster':>13}"
            f"{f'{args.minutes:.0f} min, s':>12}{'real-time factor':>18}"
        )
        for (title, value), total in zip(median.items(), seconds, strict=True):
            print(
                f"{title:<28}{1000 * value:10.1f}{slowest / value:13.1f}"
                f"{total:12.1f}{total / length:18.4f}"
            )
        print(f"{len(result.segments)} windows through the whole path, label {result.label.value}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory of this process, torch and all audio included: {peak:.0f} MiB")
        many_files(folder, bundled, audio)
        cold_start(folder, audio)
        long_file = folder / "long.wav"
        soundfile.write(long_file, audio, SAMPLE_RATE, subtype="PCM_16")
        _, memory = fresh(f"import voiceguard; voiceguard.score({str(long_file)!r})")
        print(
            f"peak MiB of a fresh process that scores the {args.minutes:.0f} min file: {memory:.0f}"
        )


if __name__ == "__main__":
    main()
