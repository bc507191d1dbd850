"""Speak with engines whose weights lie inside packages, to add systems to the corpus.

    python engines.py --data_folder ../../../shared/corpus --out work/engines --packages archives
    python engines.py --data_folder ../../../shared/corpus --out work/engines --engines tiny-tts

Writes FLAC clips (16 kHz, 16 bit, 2 to 4.1 s) and ``manifest.csv`` with the corpus' columns. An
engine that is absent is named together with the commands that bring it, and the others go on. A
killed run goes on where it stopped. Copies have the group of the human clip they were made from and
name it in ``derived_from``, as the corpus does; of a group, two clips are copied at most, of an
origin four. What an engine gives is refused where it is muted, hardly speaks, only hums or does not
follow the recording it should copy; the reason is printed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from manifest import COLUMNS, write
from speaking import ENGINES
from speaking.engine import (
    SAMPLE_RATE,
    SHORTEST_S,
    Copier,
    Engine,
    MissingEngineError,
    Samples,
    Speaker,
    UnsuitableError,
    checked_copy,
    finished,
)
from split import source_name

Row = dict[str, str]
SENTENCES = Path(__file__).parent / "speaking" / "sentences.csv"
MOST_OF_A_GROUP, MOST_OF_AN_ORIGIN = 2, 4


@dataclass(frozen=True)
class Task:
    """One clip to make: its name, and what is spoken by whom, or the recording to copy."""

    name: str
    text: str = ""
    voice: str = ""
    human: Row | None = None


def order(*parts: str) -> str:
    """A fixed shuffle: the digest that a thing is sorted by."""
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def humans(rows: list[Row], system: str) -> list[Row]:
    """Human clips of 2 s and more in an order of the system's own: one of each origin in turn.

    Of a group there are two at most, of an origin four.
    """
    kept: list[tuple[int, str, Row]] = []
    of_group: Counter[str] = Counter()
    of_origin: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: order(system, row["file"])):
        group, origin = row["group"], row["origin"]
        if row["kind"] != "human" or float(row["duration_s"]) < SHORTEST_S:
            continue
        if of_group[group] < MOST_OF_A_GROUP and of_origin[origin] < MOST_OF_AN_ORIGIN:
            kept.append((of_origin[origin], order(system, origin), row))
            of_group[group] += 1
            of_origin[origin] += 1
    return [row for *_, row in sorted(kept, key=lambda one: one[:2])]


def tasks(engine: Engine, rows: list[Row]) -> Iterator[Task]:
    """What to make, more than is needed, as some of it may prove unsuitable."""
    system = engine.about.system
    if isinstance(engine, Speaker):
        with SENTENCES.open(encoding="utf-8", newline="") as file:
            spoken = [r["text"] for r in csv.DictReader(file)
                      if r["language"] == engine.about.language]  # fmt: skip
        spoken.sort(key=lambda text: order(system, text))
        for i in range(2 * engine.clips):
            voice = engine.voices[i % len(engine.voices)]
            yield Task(f"{system}_{i:04d}", text=spoken[i % len(spoken)], voice=voice)
    else:
        for row in humans(rows, system)[: 2 * engine.clips]:
            yield Task(f"{system}_{Path(row['file']).stem}", human=row)


def made(engine: Engine, task: Task, corpus: Path) -> tuple[Samples, str]:
    """The clip of a task at 16 kHz, and what was varied."""
    rng = np.random.default_rng(int(order(task.name)[:8], 16))
    if task.human is not None and isinstance(engine, Copier):
        x, rate = sf.read(corpus / task.human["file"], dtype="float32")
        if rate != SAMPLE_RATE:
            raise UnsuitableError(f"{task.human['file']} has {rate} Hz.")
        y, varied = engine.copy(x, rng)
        checked_copy(y, engine.about.rate, x)
    elif isinstance(engine, Speaker):
        y, varied = engine.speak(task.text, task.voice, rng)
    else:
        raise TypeError(f"{engine.about.system} neither speaks nor copies.")
    return finished(y, engine.about.rate), varied


def described(engine: Engine, task: Task, file: str, length: int, varied: str) -> Row:
    """The manifest's row of a clip."""
    about, human = engine.about, task.human
    row = dict.fromkeys(COLUMNS, "")
    row |= {
        "file": file,
        "label": "spoof",
        "kind": about.kind,
        "system": about.system,
        "method": f"{about.method}; {varied}" if varied else about.method,
        "speaker": human["speaker"] if human else f"{about.system}:{task.voice}",
        "group": human["group"] if human else f"{about.system}|{task.voice}",
        "language": human["language"] if human else about.language,
        "source": "generated",
        "origin": about.origin,
        "licence": about.licence,
        "orig_rate": str(about.rate),
        "orig_codec": "pcm",
        "stored": "flac",
        "duration_s": f"{length / SAMPLE_RATE:.2f}",
        "joined": "0",
        "derived_from": source_name(human) if human else "",
    }
    if human:
        row["licence"] += f"; source clip: {human['licence']}"
    return row


def read(file: Path) -> list[Row]:
    """Rows of a manifest; none if there is no such file."""
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def generate(engine: Engine, corpus: Path, out: Path, humans_of: list[Row]) -> int:
    """Make the clips that `out` does not have yet; how many it has in the end."""
    manifest = out / "manifest.csv"
    rows = read(manifest)
    there = {row["file"] for row in rows}
    count = sum(row["system"] == engine.about.system for row in rows)
    for task in tasks(engine, humans_of):
        file = f"spoof/{task.name}.flac"
        if count >= engine.clips:
            break
        if file in there:
            continue
        try:
            y, varied = made(engine, task, corpus)
        except UnsuitableError as error:
            print(f"{task.name}: {error}")
            continue
        (out / "spoof").mkdir(parents=True, exist_ok=True)
        sf.write(out / file, y, SAMPLE_RATE, subtype="PCM_16")
        rows.append(described(engine, task, file, len(y), varied))
        write(manifest, rows)
        count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data_folder", type=Path, required=True, help="the corpus")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--packages", type=Path, default=Path("work/packages"), help="archives")
    parser.add_argument("--engines", nargs="+", choices=sorted(ENGINES), default=list(ENGINES))
    args = parser.parse_args()
    work = args.packages / "unpacked"
    work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    corpus = read(args.data_folder / "manifest.csv")
    for name in args.engines:
        try:
            engine = ENGINES[name](args.packages, work)
        except MissingEngineError as error:
            print(error)
            continue
        print(f"{name}: {generate(engine, args.data_folder, args.out, corpus)} clips")


if __name__ == "__main__":
    main()
