"""Which models there are: bundled in the package, pulled or imported by the user, or on record."""

from __future__ import annotations

import difflib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from voiceguard._download import Opener
from voiceguard.detect.bundle import MANIFEST_NAME, read_bundle
from voiceguard.detect.published import ENTRIES, RegistryEntry, fetch
from voiceguard.errors import MissingExtraError, ModelError, ParameterError, UnknownModelError

__all__ = [
    "DEFAULTS",
    "ENTRIES",
    "Installed",
    "RegistryEntry",
    "Use",
    "bundled_models",
    "default_model",
    "entry",
    "find",
    "installed",
    "locate",
    "pull",
    "user_models",
]

_CONVERTER = ("torch", "onnx", "safetensors")


class Use(str, Enum):
    """What a default model is chosen for."""

    FILES = "files"
    """Recordings and voicemail, judged after the fact: accuracy before speed."""

    LIVE = "live"
    """Calls judged while they run, many at once on one machine: speed before accuracy."""


DEFAULTS: Mapping[Use, str] = MappingProxyType({Use.FILES: "vg-base", Use.LIVE: "vg-small"})
"""Bundled model that applies for each use where none is named."""


@dataclass(frozen=True)
class Installed:
    """A bundle on this machine.

    Parameters
    ----------
    name : str
        Its folder's name.
    origin : str
        ``bundled`` (in the package) or ``user`` (pulled or imported).
    folder : Path
        Where it lies.
    """

    name: str
    origin: str
    folder: Path


def user_models() -> Path:
    """Folder of the user's models.

    Returns
    -------
    Path
        ``models`` under the first of ``$VOICEGUARD_HOME``, ``$XDG_DATA_HOME/voiceguard``, on
        Windows ``voiceguard`` in ``%LOCALAPPDATA%``, and ``~/.local/share/voiceguard``. It need
        not exist.
    """
    home = os.environ.get("VOICEGUARD_HOME")
    if home:
        return Path(home, "models")
    data = os.environ.get("XDG_DATA_HOME")
    if not data and os.name == "nt":
        data = os.environ.get("LOCALAPPDATA")
    return Path(data or Path.home() / ".local" / "share", "voiceguard", "models")


def bundled_models() -> Path:
    """Folder of the models that ship inside the package."""
    return Path(str(resources.files("voiceguard"))) / "assets" / "models"


def installed() -> tuple[Installed, ...]:
    """Find the models on this machine: bundled ones first, then the user's, each by name.

    Returns
    -------
    tuple of Installed
        A user's model does not hide a bundled one of the same name.
    """
    found: dict[str, Installed] = {}
    for origin, home in (("bundled", bundled_models()), ("user", user_models())):
        for folder in _bundles(home):
            found.setdefault(folder.name, Installed(folder.name, origin, folder))
    return tuple(found.values())


def default_model(use: Use | str = Use.FILES) -> Path:
    """Folder of the model that applies where none is named.

    Parameters
    ----------
    use : Use or str
        ``files`` or ``live``.

    Returns
    -------
    Path
        That of :data:`DEFAULTS`; in a package that was built without it, the first bundled one by
        name.

    Raises
    ------
    ParameterError
        If there is no such use.
    UnknownModelError
        If the package carries no model.
    """
    wanted = DEFAULTS[_use(use)]
    bundled = {folder.name: folder for folder in _bundles(bundled_models())}
    if wanted in bundled:
        return bundled[wanted]
    if bundled:
        return next(iter(bundled.values()))
    raise UnknownModelError(
        "This installation carries no bundled model. Name one, or the folder of a bundle; "
        "'voiceguard models list' shows what there is."
    )


def find(name: str) -> Path:
    """Folder of a model by name.

    Parameters
    ----------
    name : str
        Id of a bundled, pulled or imported model.

    Returns
    -------
    Path
        Its folder.

    Raises
    ------
    UnknownModelError
        If it is not on this machine; the message says how to get it, or names close matches.
    """
    here = {model.name: model.folder for model in installed()}
    if name in here:
        return here[name]
    on_record = [entry.name for entry in ENTRIES]
    if name in on_record:
        raise UnknownModelError(
            f"The model {name!r} is on record but not on this machine. Fetch it with: "
            f"voiceguard models pull {name}"
        )
    raise _unknown(name, [*here, *on_record])


def locate(name: str | os.PathLike[str] | None, *, use: Use | str = Use.FILES) -> Path:
    """Folder of a model by name, of a bundle by path, or of the default model for None.

    Parameters
    ----------
    name : str or path, optional
        Id of a model, or folder of a bundle.
    use : Use or str
        Which default applies where `name` is None.

    Returns
    -------
    Path

    Raises
    ------
    ParameterError
        If there is no such use.
    UnknownModelError
        If it is neither a model on this machine nor written like a path.
    """
    chosen = _use(use)
    if name is None:
        return default_model(chosen)
    if not isinstance(name, str):
        return Path(name)
    if any(model.name == name for model in installed()):
        return find(name)
    path = Path(name)
    if len(path.parts) > 1 or name.startswith((".", "~")) or path.is_dir():
        return path.expanduser()
    return find(name)


def entry(name: str) -> RegistryEntry:
    """Look up a published checkpoint; :class:`UnknownModelError` if it is not on record."""
    for candidate in ENTRIES:
        if candidate.name == name:
            return candidate
    raise _unknown(name, [candidate.name for candidate in ENTRIES])


def pull(
    model: str | RegistryEntry,
    *,
    progress: Callable[[int, int], None] | None = None,
    opener: Opener | None = None,
) -> Path:
    """Fetch a published checkpoint and convert it to a bundle in the user's folder.

    The file's size and SHA-256 are compared with those on record before anything parses it.

    Parameters
    ----------
    model : str or RegistryEntry
        A name on record, or an entry of the caller's own.
    progress : callable, optional
        Called with the bytes received so far and the bytes expected.
    opener : callable, optional
        Opens a URL; by default ``urllib.request.urlopen`` with a timeout, which honours the proxy
        settings of the environment.

    Returns
    -------
    Path
        The bundle's folder. A model that is there already is verified and not fetched again.

    Raises
    ------
    UnknownModelError
        If the name is not on record.
    MissingExtraError
        If the ``train`` extra, which converts, is absent; nothing is fetched then.
    ModelError
        If the file cannot be fetched or converted.
    IntegrityError
        If the file that came is not the one on record.
    """
    wanted = entry(model) if isinstance(model, str) else model
    target = user_models() / wanted.name
    if _intact(target):
        return target
    _require_converter(wanted.name)
    with tempfile.TemporaryDirectory(prefix="voiceguard-") as scratch:
        file = Path(scratch, f"{wanted.name}.pth")
        fetch(wanted, file, progress=progress, opener=opener)
        from voiceguard.importers import import_checkpoint

        return import_checkpoint(wanted.kind, file, out=target, variant=wanted.variant)


def _use(use: Use | str) -> Use:
    try:
        return Use(use)
    except ValueError:
        raise ParameterError(
            f"The 'use' parameter must be one of {[each.value for each in Use]}. "
            f"Got {use!r} instead."
        ) from None


def _bundles(home: Path) -> Iterator[Path]:
    try:
        folders = sorted(home.iterdir())
    except OSError:
        return
    for folder in folders:
        # Scratch folders of a write in progress begin with a dot.
        if not folder.name.startswith(".") and (folder / MANIFEST_NAME).is_file():
            yield folder


def _intact(folder: Path) -> bool:
    try:
        read_bundle(folder)
    except ModelError:
        return False
    return True


def _unknown(name: str, known: list[str]) -> UnknownModelError:
    close = difflib.get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return UnknownModelError(
        f"There is no model {name!r}.{hint} 'voiceguard models list' shows what there is; the "
        "folder of a bundle does too."
    )


def _require_converter(name: str) -> None:
    if any(importlib.util.find_spec(module) is None for module in _CONVERTER):
        raise MissingExtraError(f"converting {name!r}", "train")
