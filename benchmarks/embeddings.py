"""Speed and peak memory of embedding one hour, each model in a fresh process on one thread.

    python benchmarks/embeddings.py                     # every model that is at hand
    python benchmarks/embeddings.py --models lfcc log-mel vg-base --minutes 60

The frames go to an HDF5 file. Seconds are those that the processor worked, which a busy machine
does not stretch; the real-time factor is seconds of work a second of audio. Memory is the peak of
the process, and what stands above the first row's, which only reads the audio, is the model's and
its libraries'. Encoders are given by name or by the file of their weights;
``random:xls-r-300m`` is a network of that published shape with random weights: as fast, and of no
other use.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16_000
MODELS = (
    "log-mel", "mfcc", "lfcc", "log-spectrogram", "cqcc-asvspoof2021", "cqcc", "vg-base",
    "random:wav2vec2-base", "random:xls-r-300m",
)  # fmt: skip
READ = "voiceguard.read(path)"
EMBED = """
import torch; torch.set_num_threads(1)
from voiceguard import Embedder
if model.startswith("random:"):
    from voiceguard.features.ssl.torchaudio_encoders import WaveEncoder
    from voiceguard.features.ssl.wave_config import WAVE_CONFIGS
    model = WaveEncoder(WAVE_CONFIGS[model.removeprefix("random:")])
embedder = Embedder(model)
embedder.embed((np.zeros(48_000, np.float32), 16_000))
start = time.process_time()
(row,) = embedder.embed_many([path], out=path + ".h5")
if row.error is not None:
    raise row.error
"""
BUNDLE = EMBED.replace("import torch; torch.set_num_threads(1)\n", "")
# Not getrusage: a child's peak there starts with the memory of the process that forked it.
CHILD = """
import sys, time
import numpy as np
import voiceguard
path, model = sys.argv[1:]
start = time.process_time()
{work}
seconds = time.process_time() - start
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(seconds, int(peak) / 1024)
"""


def measure(work: str, path: Path, model: str) -> tuple[float, float]:
    """Seconds and peak MiB of a fresh interpreter."""
    code = CHILD.format(work=work)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), model], capture_output=True, text=True, check=False
    )
    path.with_name(path.name + ".h5").unlink(missing_ok=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    seconds, peak = done.stdout.split()[-2:]
    return float(seconds), float(peak)


def is_bundle(model: str) -> bool:
    from voiceguard.detect.bundle import MANIFEST_NAME
    from voiceguard.detect.registry import installed

    return model in {each.name for each in installed()} or Path(model, MANIFEST_NAME).is_file()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--models", nargs="+", default=MODELS)
    args = parser.parse_args()
    length = args.minutes * 60
    print(f"{'model':<24}{'s':>10}{'real-time factor':>18}{'peak MiB':>10}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "long.wav")
        noise = np.random.default_rng(0).normal(0, 0.05, int(length * SAMPLE_RATE))
        soundfile.write(path, noise, SAMPLE_RATE, subtype="PCM_16")
        for model in ("", *args.models):
            work = READ if not model else BUNDLE if is_bundle(model) else EMBED
            try:
                seconds, peak = measure(work, path, model)
            except RuntimeError as error:
                print(f"{model:<24}{error}", flush=True)
                continue
            title = model or "(reading alone)"
            print(f"{title:<24}{seconds:10.1f}{seconds / length:18.4f}{peak:10.0f}", flush=True)


if __name__ == "__main__":
    main()
