"""``voiceguard data check``: a corpus held against its protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from voiceguard.protocols import DataReport

_LISTED = 20


def register(app: typer.Typer) -> None:
    """Add the command group to an application."""
    group = typer.Typer(no_args_is_help=True, help="Corpora and protocols.")
    group.command("check")(check)
    group.callback()(_group)
    app.add_typer(group, name="data")


def _group() -> None:
    """Corpora and protocols."""


def check(
    path: Annotated[Path, typer.Argument(help="Protocol file, or folder of classes.")],
    format: Annotated[
        str | None, typer.Option("--format", "-f", help="Protocol format; told by its first line.")
    ] = None,
    subset: Annotated[
        str | None, typer.Option(help="eval, progress, hidden or all; needed where there are any.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(help="train, dev, eval or all: hold the counts against the published ones."),
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Folder of the audio; the folder itself for 'folder'.")
    ] = None,
    suffix: Annotated[
        str, typer.Option(help="Suffix of the audio where the protocol names no file.")
    ] = ".flac",
    decode: Annotated[bool, typer.Option("--decode", help="Decode every file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Check trial counts, names, missing and extra files and, with --decode, every file's audio.

    Exit code 0 where all is well, 1 where something is amiss, 2 where the check cannot be made.
    """
    from voiceguard.errors import VoiceguardError

    try:
        report = _check(path, format, subset, part, audio, suffix, decode)
    except VoiceguardError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        plain = asdict(report) | {"ok": report.ok, "problems": report.problems()}
        typer.echo(json.dumps(plain, indent=2))
    else:
        _print(report)
    raise typer.Exit(0 if report.ok else 1)


def _check(
    path: Path,
    format: str | None,
    subset: str | None,
    part: str | None,
    audio: Path | None,
    suffix: str,
    decode: bool,
) -> DataReport:
    from voiceguard import protocols
    from voiceguard.errors import ParameterError

    kind = format or protocols.guess_format(path)
    folder = path if kind == "folder" and audio is None else audio
    if decode and folder is None:
        raise ParameterError("--decode needs the folder of the audio: --audio DIR.")
    expected = None
    if part is not None:
        expected = protocols.PUBLISHED_COUNTS.get(f"{kind}/{part}")
        if expected is None:
            known = ", ".join(protocols.PUBLISHED_COUNTS)
            raise ParameterError(f"No published counts for {kind}/{part}. There are: {known}.")
    trials = list(protocols.read_trials(path, kind, subset=subset))
    with _progress(len(trials) if decode else 0) as advance:
        return protocols.check(
            trials,
            audio=folder,
            suffix=suffix,
            expected=expected,
            decode=_decoder() if decode else None,
            progress=advance,
        )


def _decoder() -> Callable[[Path], Any]:
    from voiceguard import audio

    return audio.read


def _progress(total: int) -> AbstractContextManager[Callable[[int], None] | None]:
    """Draw a bar while files are decoded, on a terminal only."""
    from rich.console import Console

    console = Console(stderr=True)
    if total == 0 or not console.is_terminal:
        return nullcontext(None)
    return _Bar(console, total)


class _Bar(AbstractContextManager[Callable[[int], None]]):
    def __init__(self, console: Any, total: int) -> None:
        from rich.progress import Progress

        self._bar = Progress(console=console, transient=True)
        self._task = self._bar.add_task("decoding", total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return lambda done: self._bar.update(self._task, completed=done)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _print(report: DataReport) -> None:
    counts = report.counts
    typer.echo(
        f"{counts.total} trials: {counts.bonafide} bona fide, {counts.spoof} spoof, "
        f"{counts.unlabelled} unlabelled"
    )
    if report.expected is not None and report.expected == counts:
        typer.echo("as published")
    if report.n_decoded:
        typer.echo(f"{report.n_decoded} files decoded, {len(report.undecodable)} failed")
    for problem in report.problems():
        typer.echo(f"Amiss: {problem}")
    undecodable = tuple(f"{name}: {reason}" for name, reason in report.undecodable)
    _list("named more than once", report.duplicates)
    _list("missing", report.missing)
    _list("not decodable", undecodable)
    _list("in the folder, not in the protocol (no fault)", report.extra)
    if report.ok:
        typer.echo("All is well.")


def _list(what: str, names: tuple[str, ...]) -> None:
    if not names:
        return
    typer.echo(f"{what}: {len(names)}")
    for name in names[:_LISTED]:
        typer.echo(f"  {name}")
    if len(names) > _LISTED:
        typer.echo(f"  ... and {len(names) - _LISTED} more")
