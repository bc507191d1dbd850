"""One model as it is shipped: a folder with ``bundle.json``, ``model.onnx`` and ``CARD.md``.

Reading trusts nothing: sizes are capped, every file's SHA-256 is compared before its content is
parsed, and what is parsed are the very bytes that were hashed. Hashes that travel with the files
guard against damage, not against a forger; a registry entry pins the hash of what it downloads.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from voiceguard.detect.graph_check import check_graph
from voiceguard.detect.manifest import FORMAT, Manifest
from voiceguard.errors import BundleError, IntegrityError
from voiceguard.results import ModelInfo

__all__ = ["FORMAT", "Bundle", "Manifest", "read_bundle", "read_extra_files", "write_bundle"]

MANIFEST_NAME = "bundle.json"
GRAPH_NAME = "model.onnx"
CARD_NAME = "CARD.md"

MAX_MANIFEST_BYTES = 1 << 20
MAX_CARD_BYTES = 1 << 20
MAX_FILE_BYTES = (1 << 31) - 1
"""Largest graph or extra file; ONNX itself ends at 2 GiB."""


@dataclass(frozen=True)
class Bundle:
    """A model that was read and verified.

    Parameters
    ----------
    manifest : Manifest
        What it says of itself.
    graph : bytes
        The ONNX graph.
    card : str
        The model card, Markdown.
    folder : Path
        Where it lies.
    """

    manifest: Manifest
    graph: bytes = field(repr=False)
    card: str = field(repr=False)
    folder: Path

    @property
    def info(self) -> ModelInfo:
        """Id, version and the SHA-256 of the graph."""
        manifest = self.manifest
        return ModelInfo(manifest.id, manifest.version, manifest.files[GRAPH_NAME])


def write_bundle(
    folder: str | Path,
    *,
    graph: bytes,
    manifest: Manifest,
    card: str,
    extra_files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a bundle; it appears whole or not at all.

    Parameters
    ----------
    folder : str or Path
        Where to write it. A bundle that stands there is replaced; another folder that is not empty
        is left alone.
    graph : bytes
        The ONNX graph.
    manifest : Manifest
        Its ``files`` are filled in here.
    card : str
        The model card, Markdown.
    extra_files : mapping of str to bytes, optional
        More files, by plain name (weights as safetensors ...).

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    BundleError
        If the manifest lacks the embedding's width, the graph is refused, a file is too large, or
        the folder is taken.
    """
    target = Path(folder)
    contents = {**(extra_files or {}), GRAPH_NAME: graph, CARD_NAME: card.encode()}
    if len(contents) < 2 + len(extra_files or ()):
        raise BundleError(f"Extra files must not be named {GRAPH_NAME} or {CARD_NAME}.")
    _check_contents(manifest, contents)
    check_graph(graph)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    text = replace(manifest, files=hashes).to_json()
    _check_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = _sibling(target)
    try:
        scratch.mkdir()
        for name, content in {**contents, MANIFEST_NAME: text.encode()}.items():
            scratch.joinpath(name).write_bytes(content)
        _publish(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def read_bundle(folder: str | Path) -> Bundle:
    """Read and verify a bundle.

    Parameters
    ----------
    folder : str or Path
        The bundle's folder.

    Returns
    -------
    Bundle
        With the graph in memory; nothing is read from the folder later.

    Raises
    ------
    BundleError
        If a file is absent, too large or no plain file, or ``bundle.json`` or the graph is refused.
    IntegrityError
        If a file is not the one whose SHA-256 is on record.
    """
    home = Path(folder)
    if not home.is_dir():
        raise BundleError(f"{str(home)!r} is no bundle: it must be a folder with {MANIFEST_NAME}.")
    manifest = _manifest(_read(home, MANIFEST_NAME, MAX_MANIFEST_BYTES), home)
    for name in (GRAPH_NAME, CARD_NAME):
        if name not in manifest.files:
            raise BundleError(f"The bundle {str(home)!r} records no SHA-256 of {name}.")
    kept: dict[str, bytes] = {}
    for name, digest in manifest.files.items():
        content = _read(home, name, MAX_CARD_BYTES if name == CARD_NAME else MAX_FILE_BYTES)
        _verify(content, digest, home / name)
        if name in (GRAPH_NAME, CARD_NAME):
            kept[name] = content
    check_graph(kept[GRAPH_NAME])
    card = kept[CARD_NAME].decode("utf-8", "replace")
    return Bundle(manifest=manifest, graph=kept[GRAPH_NAME], card=card, folder=home)


def read_extra_files(bundle: Bundle) -> dict[str, bytes]:
    """Read and verify what a bundle holds beside graph and card.

    Parameters
    ----------
    bundle : Bundle
        One that was read; its folder must still be there.

    Returns
    -------
    dict of str to bytes
        By plain name, as :func:`write_bundle` takes them; empty where there are none.

    Raises
    ------
    BundleError
        If a file is absent, too large or no plain file.
    IntegrityError
        If a file is not the one whose SHA-256 is on record.
    """
    contents: dict[str, bytes] = {}
    for name, digest in bundle.manifest.files.items():
        if name not in (GRAPH_NAME, CARD_NAME):
            contents[name] = _read(bundle.folder, name, MAX_FILE_BYTES)
            _verify(contents[name], digest, bundle.folder / name)
    return contents


def _manifest(content: bytes, home: Path) -> Manifest:
    try:
        manifest = Manifest.from_json(content.decode("utf-8"))
        _check_width(manifest)
    except UnicodeDecodeError as error:
        raise BundleError(f"{MANIFEST_NAME} in {str(home)!r} is no UTF-8 text.") from error
    except BundleError as error:
        raise BundleError(f"The bundle {str(home)!r} was refused. {error}") from error
    return manifest


def _check_width(manifest: Manifest) -> None:
    if manifest.embedding_dim < 1:
        raise BundleError("The field 'embedding_dim' of a bundle must be an int >= 1. Got 0.")


def _check_contents(manifest: Manifest, contents: Mapping[str, bytes]) -> None:
    _check_width(manifest)
    for name, content in contents.items():
        limit = MAX_CARD_BYTES if name == CARD_NAME else MAX_FILE_BYTES
        if len(content) > limit:
            raise BundleError(f"{name} has {len(content)} bytes; at most {limit} are taken.")


def _read(home: Path, name: str, limit: int) -> bytes:
    path = home / name
    # A link could lead out of the folder to a file that the caller may read and others may not.
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"The bundle {str(home)!r} has no plain file {name!r}.")
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size > limit:
                raise BundleError(f"{str(path)!r} is larger than {limit} bytes.")
            content = stream.read(limit + 1)
    except OSError as error:
        raise BundleError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    if len(content) > limit:
        raise BundleError(f"{str(path)!r} is larger than {limit} bytes.")
    return content


def _verify(content: bytes, digest: str, path: Path) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise IntegrityError(
            f"{str(path)!r} is not the file on record: SHA-256 {found}, expected {digest}. "
            "Install or fetch the model again."
        )


def _check_free(target: Path) -> None:
    if target.is_dir() and not (target / MANIFEST_NAME).is_file() and any(target.iterdir()):
        raise BundleError(
            f"{str(target)!r} holds other files and is no bundle; choose another folder."
        )
    if target.exists() and not target.is_dir():
        raise BundleError(f"{str(target)!r} is a file; choose a folder.")


def _sibling(target: Path) -> Path:
    """Path beside the target, on its file system, that nothing else uses."""
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}")


def _publish(scratch: Path, target: Path) -> None:
    """Move a finished folder to its place; what stands there is moved aside first."""
    if not target.exists():
        scratch.rename(target)
        return
    aside = _sibling(target)
    target.rename(aside)
    try:
        scratch.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
