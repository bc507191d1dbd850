"""What a run keeps so that it can be killed at any moment and go on as if nothing had happened."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechbrain.utils.checkpoints import (
    METAFNAME,
    Checkpoint,
    Checkpointer,
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import if_main_process

from voiceguard.errors import ParameterError

RUN_NAME = "run.json"
"""File of a run's folder that holds its configuration."""


class WholeCheckpointer(Checkpointer):  # type: ignore[misc]
    """A Checkpointer whose checkpoints exist only once they are whole.

    SpeechBrain's writes the file by which a checkpoint is recognised first, so that a process
    killed while it writes leaves one that cannot be loaded and is the newest. Here that file takes
    its name last.
    """

    def save_checkpoint(
        self,
        meta: Mapping[str, Any] | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        verbosity: int = logging.INFO,
    ) -> Checkpoint | None:
        """Write a checkpoint; see the base class."""
        saved = super().save_checkpoint(meta or {}, end_of_epoch, name, verbosity)
        if saved is not None:
            (saved.path / f"{METAFNAME}.part").replace(saved.path / METAFNAME)
        return saved

    def _save_checkpoint_metafile(
        self, fpath: Path, meta_to_include: Mapping[str, Any], end_of_epoch: bool = True
    ) -> Any:
        unfinished = fpath.with_name(f"{fpath.name}.part")
        return super()._save_checkpoint_metafile(unfinished, meta_to_include, end_of_epoch)

    def clear_unfinished(self) -> None:
        """Delete what a killed process left half-written, on the first process only."""
        if not if_main_process():
            return
        for path in self.checkpoints_dir.iterdir():
            if path.is_dir() and not (path / METAFNAME).exists():
                shutil.rmtree(path)


@register_checkpoint_hooks
class History:
    """The figures of every epoch, part of the checkpoint, so that no epoch is logged twice.

    Attributes
    ----------
    rows : list of dict
        One an epoch.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def best(self, name: str) -> float:
        """Lowest figure of that name so far; infinity where there is none."""
        return min((row[name] for row in self.rows if name in row), default=float("inf"))

    def write_csv(self, path: Path) -> None:
        """Write all rows as CSV, anew; a figure that an epoch lacks is left empty."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        unfinished = path.with_name(path.name + ".part")
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        unfinished.replace(path)

    @mark_as_saver  # type: ignore[untyped-decorator]
    def _save(self, path: Path) -> None:
        Path(path).write_text(json.dumps(self.rows), "utf-8")

    @mark_as_loader  # type: ignore[untyped-decorator]
    def _load(self, path: Path, end_of_epoch: bool) -> None:
        self.rows = json.loads(Path(path).read_text("utf-8"))


def settle_configuration(folder: Path, configuration: Mapping[str, Any]) -> bool:
    """Write a run's configuration into its folder, or hold it against the one that is there.

    Parameters
    ----------
    folder : Path
        The run's; made where it is absent.
    configuration : mapping
        Plain values, all that the outcome depends on.

    Returns
    -------
    bool
        Whether the folder was new.

    Raises
    ------
    ParameterError
        If the folder holds a run of another configuration; it names what differs.
    """
    plain = json.loads(json.dumps(dict(configuration)))
    path = folder / RUN_NAME
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".part")
        unfinished.write_text(json.dumps(plain, indent=2) + "\n", "utf-8")
        unfinished.replace(path)
        return True
    before = json.loads(path.read_text("utf-8"))
    differing = [
        f"{name}={plain.get(name)!r} (the run has {before.get(name)!r})"
        for name in sorted(set(before) | set(plain))
        if before.get(name) != plain.get(name)
    ]
    if differing:
        raise ParameterError(
            f"{folder} holds a run of another configuration: {', '.join(differing)}. Resume it "
            "with its own settings, or name another output_folder."
        )
    return False
