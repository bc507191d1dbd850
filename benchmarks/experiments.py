"""How the bundled models came to be: the recipe's tables of runs, printed and drawn.

    python benchmarks/experiments.py --out docs

Of ``recipes/open_voices``: ``results.csv`` (training runs), ``judged.csv`` (recipes on folders that
nobody trained on), ``ablations.csv`` (probes in cross-validation) and ``ssl_judged.csv`` (back ends
on frozen encoders). A table that is absent is passed over, with its picture. Nothing is measured.
A recipe that was judged anew is a position of its own; of a probe or back end the last row counts.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Sequence
from csv import DictReader
from pathlib import Path
from typing import Any

import numpy as np

from _held_out import CHANNEL_TITLES, ROOT, Floats, percent, table

Row = dict[str, str]
COLOURS = {"clean": "#0072b2", "g711": "#d55e00"}
REFERENCES = {
    "target": ("-", {"clean": 18.0, "g711": 23.0}),
    "ASVspoof 5 AASIST, published": ("--", {"clean": 29.4, "g711": 34.3}),
    "AASIST of 2019, published": (":", {"clean": 41.1, "g711": 42.1}),
}
"""Style and EER % of the lines to compare with; docs/reproduce.md measures the published."""
WILD = "wild-dev"
TRIED = ("probe", "settings", "passes", "folds")
"""Columns that say which trial a row of ``ablations.csv`` is."""
OFFSET = 0.15  # from the middle of a position to each of its channels


def read(path: Path) -> list[Row]:
    """Rows of a table; none where it is absent."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(DictReader(file))


def by_date(rows: Sequence[Row]) -> list[Row]:
    """Oldest first; rows of a day as they stand."""
    return sorted(rows, key=lambda row: row["date"])


def recipes(rows: Sequence[Row]) -> list[Row]:
    """Rows of ``judged.csv``, those of a recipe and folder side by side, oldest first."""
    found: list[Row] = []
    newest: dict[tuple[str, ...], Row] = {}
    for row in by_date(rows):
        same = {name: row[name] for name in ("date", "system", "data")}
        key, channel = tuple(same.values()), row["channel"]
        if key not in newest or f"eer_{channel}" in newest[key]:
            newest[key] = same
            found.append(same)
        newest[key] |= {f"{name}_{channel}": cell for name, cell in row.items() if name not in same}
    return found


def probes(rows: Sequence[Row]) -> list[Row]:
    """Rows of ``ablations.csv``, the least mean error of both channels first."""
    last = {tuple(row[name] for name in TRIED): row for row in by_date(rows)}
    return sorted(last.values(), key=lambda row: sum(number(row, f"eer_{c}") for c in COLOURS))


def back_ends(rows: Sequence[Row]) -> list[Row]:
    """Rows of ``ssl_judged.csv``, the least error first."""
    judged = {row["system"]: row for row in rows if row["eer_clean"]}
    return sorted(judged.values(), key=lambda row: number(row, "eer_clean"))


def number(row: Row, name: str) -> float:
    """A cell; NaN where it is empty."""
    return float(row.get(name) or "nan")


def interval(row: Row, channel: str) -> tuple[float, float, float]:
    """EER and the ends of its interval."""
    value, low, high = (number(row, f"{name}_{channel}") for name in ("eer", "eer_low", "eer_high"))
    return value, low, high


def told(row: Row, channel: str) -> str:
    """EER in per cent with its interval."""
    value, *ends = interval(row, channel)
    return percent(value, (ends[0], ends[1]))


def told_held_out(row: Row, channel: str) -> str:
    """EER of a training run in per cent."""
    return percent(number(row, f"held_out_eer_{channel}"))


def told_both(row: Row, channel: str) -> str:
    """EER in per cent, in brackets with families alike."""
    plain, alike = (percent(number(row, f"{kind}_{channel}")) for kind in ("eer", "macro"))
    return f"{plain} ({alike})"


def draw_recipes(rows: Sequence[Row], folder: Path) -> None:
    """EER on wild-dev with intervals, a recipe a position, oldest on top."""
    rows = [row for row in rows if row["data"] == WILD]
    figure, axes = _canvas(2.2 + 0.55 * len(rows))
    for (channel, colour), side in zip(COLOURS.items(), (-1, 1), strict=True):
        for style, limits in REFERENCES.values():
            axes.axvline(limits[channel], color=colour, linestyle=style, linewidth=1)
        for at, row in enumerate(rows):
            value, low, high = 100 * np.array(interval(row, channel))
            if np.isnan(value):
                continue
            y = at + side * OFFSET
            axes.plot([low, high], [y, y], color=colour, linewidth=2, alpha=0.5)
            axes.plot(value, y, "o", color=colour)
            text = axes.text(value, y + side * 0.22, f"{value:.1f}", ha="center", fontsize=7)
            text.set(va="center", bbox={"color": "white", "pad": 0.5}, clip_on=True)
        axes.plot([], [], "o-", color=colour, label=CHANNEL_TITLES[channel])
    for name, (style, limits) in REFERENCES.items():
        label = f"{name} (clean {limits['clean']}, G.711 {limits['g711']})"
        axes.plot([], [], style, color="0.3", linewidth=1, label=label)
    axes.set(xlabel=f"EER on {WILD} (%), 95 % intervals")
    _name_lines(axes, [(row["system"], row["date"]) for row in rows])
    _save(figure, folder / "experiments_wild_dev.png")


def draw_probes(rows: Sequence[Row], folder: Path) -> None:
    """Errors in cross-validation, a probe and its passes a line, the best on top."""
    figure, axes = _canvas(1.6 + 0.5 * len(rows))
    for (channel, colour), side in zip(COLOURS.items(), (-1, 1), strict=True):
        y = np.arange(len(rows)) + side * OFFSET
        for kind, title, face in (("eer", "", colour), ("macro", ", families alike", "white")):
            x = [100 * number(row, f"{kind}_{channel}") for row in rows]
            label = CHANNEL_TITLES[channel] + title
            axes.plot(x, y, "o", color=colour, markerfacecolor=face, label=label)
    axes.set(xlabel="EER (%), mean over folds of held-out engine families")
    # Settings stand in the second line, so that a name is shown without those it carries.
    names = [re.sub(r"::[^ ]*", "", row["probe"]) for row in rows]
    tried = ["; ".join(row[each] for each in TRIED[1:]) for row in rows]
    _name_lines(axes, list(zip(names, tried, strict=True)))
    _save(figure, folder / "experiments_ablations.png")


def draw_back_ends(rows: Sequence[Row], folder: Path) -> None:
    """EER on wild-dev, clean, against milliseconds a window; each point has its name."""
    figure, axes = _canvas(6.5)
    axes.set(xlabel="milliseconds a window, one core")
    axes.set(ylabel=f"EER on {WILD}, clean (%), 95 % intervals")
    names = [re.sub(r"^ssl-|-seed1\b", "", row["system"]).partition("-") for row in rows]
    colours = {name: f"C{i}" for i, name in enumerate(sorted({each[0] for each in names}))}
    for encoder, colour in colours.items():
        axes.plot([], [], "o", color=colour, label=f"on {encoder}")
    texts = []
    for row, (encoder, _, name) in zip(rows, names, strict=True):
        x, (y, *ends), colour = number(row, "ms_a_window"), interval(row, "clean"), colours[encoder]
        axes.plot([x, x], 100 * np.array(ends), color=colour, linewidth=1, alpha=0.35)
        axes.plot(x, 100 * y, "o", color=colour)
        thread = {"arrowstyle": "-", "linewidth": 0.5, "color": colour, "shrinkB": 5}
        text = axes.annotate(name or encoder, (x, 100 * y), (0, 0), arrowprops=thread, fontsize=7.5)
        text.set(ha="center", va="center", anncoords="offset points", in_layout=False)
        texts.append(text)
    axes.margins(0.12, 0.05)
    figure.draw_without_rendering()
    sizes = np.array([text.get_window_extent().size for text in texts])
    dots = axes.transData.transform([text.xy for text in texts])
    for text, move in zip(texts, spots(dots, sizes + 4) * 72 / figure.dpi, strict=True):
        text.set_position(move)
    _save(figure, folder / "experiments_back_ends.png")


def spots(dots: Floats, sizes: Floats) -> Floats:
    """From each dot to the middle of its label, clear of labels, dots and the threads between.

    All are np.ndarray [shape=(n, 2)], in pixels; beside a dot is better than above, off its bar.
    """
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    along = np.linspace(0.1, 0.9, 9)[:, None]
    moves, threads = np.zeros_like(dots), np.empty((0, 2))
    for i, (dot, size) in enumerate(zip(dots, sizes, strict=True)):
        steps = np.concatenate([ring * (size / 2 + reach) for reach in range(8, 200, 8)])
        middles, others = (dot + steps)[:, None], np.delete(dots, i, axis=0)
        points = np.abs(middles - np.concatenate([others, threads])) < size / 2 + 4
        labels = np.abs(middles - (dots + moves)[:i]) < (size + sizes[:i]) / 2
        passed = np.linalg.norm((dot + along * steps[:, None])[:, :, None] - others, axis=-1) < 6
        clashes = [points.all(-1).sum(1), labels.all(-1).sum(1), passed.any(1).sum(1)]
        moves[i] = steps[np.argmin(10_000 * sum(clashes) + np.linalg.norm(steps * (1, 3), axis=1))]
        threads = np.concatenate([threads, dot + along * moves[i]])
    return moves


def _canvas(height: float) -> tuple[Any, Any]:
    """A figure that belongs to no global state; inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.8, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _name_lines(axes: Any, names: Sequence[tuple[str, str]]) -> None:
    """Positions from the top down, each with two lines of text, long ones wrapped."""
    wrapped = ["\n".join(textwrap.fill(t, 62, break_on_hyphens=False) for t in n) for n in names]
    axes.set_yticks(range(len(names)), wrapped, fontsize=7.0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", color="0.92")


def _save(figure: Any, path: Path) -> None:
    """Set the legend below the axes and write the file."""
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


TABLES = (
    ("results", "training runs, held-out", "name date fold minutes", by_date, told_held_out, None),
    ("judged", "recipes (95 %)", "system date data", recipes, told, draw_recipes),
    ("ablations", "probes (families alike)", " ".join(TRIED), probes, told_both, draw_probes),
    ("ssl_judged", "back ends (95 %)", "system ms_a_window", back_ends, told, draw_back_ends),
)
"""File, title and columns; how rows are ordered and an error is told; the picture."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--tables", type=Path, default=ROOT / "recipes" / "open_voices")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, title, columns, prepare, tell, draw in TABLES:
        rows = prepare(read(args.tables / f"{name}.csv"))
        if not rows:
            print(f"{name}.csv: no rows, passed over\n")
            continue
        head = [*columns.split(), *(f"EER %, {each}" for each in CHANNEL_TITLES.values())]
        cells = [
            [*(row[each] for each in columns.split()), *(tell(row, c) for c in COLOURS)]
            for row in rows
        ]
        print(table(title, head, cells, markdown=args.markdown))
        if draw:
            draw(rows, args.out)


if __name__ == "__main__":
    main()
