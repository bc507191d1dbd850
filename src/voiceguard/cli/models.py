"""``voiceguard models``: what there is, fetching, converting, verifying."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voiceguard.cli import output
from voiceguard.errors import VoiceguardError

if TYPE_CHECKING:
    from voiceguard.detect.bundle import Bundle

_Json = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]


def register(app: typer.Typer) -> None:
    """Add the command group to an application."""
    group = typer.Typer(no_args_is_help=True, help="List, fetch, convert and verify models.")
    group.command("list")(list_models)
    group.command("info")(info)
    group.command("pull")(pull)
    group.command("import")(import_model)
    group.command("verify")(verify)
    app.add_typer(group, name="models")


def list_models(as_json: _Json = False) -> None:
    """List the models on this machine, and the models and encoders that can be pulled."""
    from voiceguard.detect import registry

    here = [_described(model.name, model.origin, model.folder) for model in registry.installed()]
    names = {model["name"] for model in here}
    there = [
        _on_record(entry.name, entry.licence, entry.description)
        for entry in registry.ENTRIES
        if entry.name not in names
    ]
    encoders = _encoders()
    if as_json:
        output.write(json.dumps(here + there + encoders, indent=2) + "\n")
        return
    output.show(_listing(here + there + encoders))
    output.write("What is on record is fetched with: voiceguard models pull NAME\n")
    output.write("Encoders give embeddings and features, no verdicts: voiceguard embed --model\n")


def info(
    name: Annotated[str, typer.Argument(help="Id of a model, or folder of a bundle.")],
    as_json: _Json = False,
) -> None:
    """Show what a model says of itself: manifest and card."""
    bundle = _read(name)
    if as_json:
        plain = {**json.loads(bundle.manifest.to_json()), "folder": str(bundle.folder)}
        output.write(json.dumps({**plain, "card": bundle.card}, indent=2) + "\n")
        return
    output.write(_facts(bundle))
    output.write("\n" + bundle.card.rstrip() + "\n")


def pull(name: Annotated[str, typer.Argument(help="A model on record.")]) -> None:
    """Fetch a published checkpoint or encoder and verify its SHA-256. Uses the network."""
    from voiceguard.detect import registry
    from voiceguard.features.ssl.registry import ENCODERS

    if name in ENCODERS:
        _pull_encoder(name)
        return
    entry = registry.entry(name)
    with _download_bar(name) as progress:
        folder = registry.pull(entry, progress=progress)
    output.write(f"{name}: {entry.licence}, from {entry.url}\nin {folder}\n")
    output.write(f"Score with it: voiceguard score FILE --model {name}\n")


def import_model(
    kind: Annotated[
        str,
        typer.Argument(
            help="aasist; or an encoder's form: whisper-ct2, distillmos, dnsmos, plcmos."
        ),
    ],
    path: Annotated[Path, typer.Argument(help="The published file; for whisper-ct2 its folder.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the bundle; for an encoder its .safetensors file.")
    ],
    variant: Annotated[
        str | None, typer.Option(help="aasist or aasist-l; told by the shapes.")
    ] = None,
) -> None:
    """Convert a published checkpoint to a bundle, or an encoder. Needs voiceguard[train]."""
    from voiceguard.features.ssl.converting import ENCODER_KINDS, import_encoder
    from voiceguard.importers import import_checkpoint

    if kind in ENCODER_KINDS:
        output.write(f"Load it with: load_encoder({str(import_encoder(kind, path, out=out))!r})\n")
        return
    folder = import_checkpoint(kind, path, out=out, variant=variant)
    output.write(_facts(_read(str(folder.absolute()))))
    output.write(f"Score with it: voiceguard score FILE --model {folder}\n")


def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Ids or folders; by default all on this machine.")
    ] = None,
) -> None:
    """Compare every file of models with the SHA-256 on record.

    Exit code 0 where all are whole, 1 where one is not.
    """
    from voiceguard.detect import registry

    chosen = names or [str(model.folder.absolute()) for model in registry.installed()]
    broken = 0
    for name in chosen:
        try:
            bundle = _read(name)
        except VoiceguardError as error:
            broken += 1
            output.write(f"broken  {output.printable(name)}: {error}\n")
        else:
            output.write(f"whole   {bundle.info.id} {bundle.info.version} {bundle.info.sha256}\n")
    if not chosen:
        output.write("There is no model on this machine.\n")
    raise typer.Exit(1 if broken else 0)


def _pull_encoder(name: str) -> None:
    from voiceguard.features.ssl.registry import encoder_entry, pull_encoder

    entry = encoder_entry(name)
    with _download_bar(name) as progress:
        pulled = pull_encoder(name, progress=progress)
    check = "as published" if pulled.verified else "UNVERIFIED: its publisher states none"
    output.write(f"{name}: {entry.licence}, from {entry.url}\nin {pulled.path}\n")
    output.write(f"SHA-256 {pulled.sha256}, {check}\n")


def _read(name: str) -> Bundle:
    from voiceguard.detect import registry
    from voiceguard.detect.bundle import read_bundle

    return read_bundle(registry.locate(name))


def _on_record(name: str, licence: str, description: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "detector",
        "origin": "on record",
        "default_for": [],
        "folder": None,
        "version": None,
        "licence": licence,
        "calibrated": False,
        "description": description,
        **more,
    }


def _encoders() -> list[dict[str, Any]]:
    """Self-supervised encoders on record; those that were pulled with their folder."""
    from voiceguard.features.ssl.registry import ENCODERS, user_encoders

    rows = []
    for entry in ENCODERS.values():
        file = user_encoders() / entry.name / entry.file_name
        there = {"origin": "user", "folder": str(file.parent)} if file.is_file() else {}
        about = f"Encoder, {entry.architecture}, {entry.size / 1e6:,.0f} MB."
        rows.append(_on_record(entry.name, entry.licence, about, kind="encoder", **there))
    return rows


def _default_for(origin: str, folder: Path) -> list[str]:
    """Uses that a bundled model is the default of."""
    from voiceguard.detect import registry

    if origin != "bundled":
        return []
    return [use.value for use in registry.Use if registry.default_model(use) == folder]


def _described(name: str, origin: str, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "kind": "detector",
        "origin": origin,
        "default_for": _default_for(origin, folder),
        "folder": str(folder),
    }
    try:
        manifest = _read(str(folder.absolute())).manifest
    except VoiceguardError as error:
        blank = {"version": None, "licence": None, "calibrated": False}
        return {**row, **blank, "description": f"broken: {error}"}
    return {
        **row,
        "version": manifest.version,
        "licence": manifest.licence,
        "calibrated": manifest.calibration is not None,
        "description": manifest.description,
    }


def _listing(models: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "where", "default for", "version", "licence", "calibrated", "description")
    for model in models:
        cells = (
            model["name"],
            model["origin"],
            ", ".join(model["default_for"]) or "-",
            model["version"] or "-",
            model["licence"] or "-",
            _calibrated(model),
            model["description"],
        )
        table.add_row(*(Text(output.printable(cell)) for cell in cells))
    return table


def _calibrated(model: dict[str, Any]) -> str:
    if model["kind"] == "encoder":
        return "-"
    return "yes" if model["calibrated"] else "no"


def _facts(bundle: Bundle) -> str:
    manifest, lines = bundle.manifest, []
    lines.append(f"{manifest.id} {manifest.version} ({manifest.licence}): {manifest.description}")
    lines.append(f"folder      {bundle.folder}")
    lines.append(f"graph       SHA-256 {bundle.info.sha256}, {len(bundle.graph):,} bytes")
    window, hop, rate = manifest.window_samples, manifest.hop_samples, manifest.sample_rate
    lines.append(f"windows     {window / rate:.2f} s every {hop / rate:.2f} s at {rate} Hz")
    fitted = manifest.calibration
    how = "none" if fitted is None else f"{fitted.method}, on {fitted.data or 'data not named'}"
    lines.append(f"calibration {how}")
    for point in manifest.operating_points:
        mark = " (default)" if point.name == manifest.default_operating_point else ""
        margin = f" +- {point.margin:.4g}" if point.margin else ""
        lines.append(
            f"point       {point.name}{mark}: threshold {point.threshold:.4g}{margin}, misses "
            f"{_rate(point.miss_rate)}, false alarms {_rate(point.false_alarm_rate)}"
        )
    lines += [f"provenance  {key}: {value}" for key, value in sorted(manifest.provenance.items())]
    return "\n".join(map(output.printable, lines)) + "\n"


def _rate(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2%}"


@contextmanager
def _download_bar(name: str) -> Iterator[Callable[[int, int], None] | None]:
    import sys

    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(f"fetching {name}", total=None)
        yield lambda received, size: bar.update(task, completed=received, total=size)
