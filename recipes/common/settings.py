"""The settings of a training: a recipe's YAML file, the defaults that it leaves out, overrides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml

from voiceguard.errors import ParameterError

DEFAULTS = """
seed: 1234
options: {}
crop_samples: 64600
perturb: []
spec_augment: null

objective_options: {}
batch_size: 24
grad_accumulation_factor: 1
optimiser: adam
optimiser_options: {}
weight_decay: 0.0
schedule: constant
schedule_options: {}
max_grad_norm: .inf
average: none
judge_every: 1
dev_limit: 0

cache: ""
workers: 0
threads: 0
eval_batch_size: 32
ckpt_interval_steps: 500
precision: fp32
channels_last: false
noprogressbar: true
"""
"""What holds where a file says nothing. Clipping is off: the published systems do not clip."""

_REQUIRED = ("name", "system", "data_folder", "output_folder")
_OF_NETWORKS = ("objective", "epochs", "learning_rate")
_KEY = re.compile(r"^(\w+):", re.MULTILINE)

# Settings that change where and how fast a training runs, and not what comes out.
_NOT_CONFIGURATION = {
    *("data_folder", "output_folder", "cache", "workers", "threads", "eval_batch_size"),
    *("ckpt_interval_steps", "noprogressbar"),
}
_RUN_OPTIONS = (
    *("precision", "grad_accumulation_factor", "max_grad_norm", "ckpt_interval_steps"),
    "noprogressbar",
)


def read_settings(path: str | Path, overrides: str = "") -> dict[str, Any]:
    """Plain values of a YAML file, with defaults and overrides.

    Raises
    ------
    ParameterError
        If the file is absent or malformed, an override names no setting, or a setting is missing.
    """
    if not Path(path).is_file():
        raise ParameterError(f"{path} is no file: pass one of the recipe's hparams/*.yaml.")
    text = Path(path).read_text("utf-8")
    given = set(_KEY.findall(text))
    lines = [line for line in DEFAULTS.splitlines() if line and line.split(":")[0] not in given]
    try:
        settings: dict[str, Any] = load_hyperpyyaml("\n".join([text, *lines]), overrides)
    except (KeyError, ValueError, TypeError) as error:
        raise ParameterError(f"{path} with these overrides cannot be used: {error}") from error
    required = _REQUIRED if settings.get("system") == "gmm" else (*_REQUIRED, *_OF_NETWORKS)
    lacking = [name for name in required if name not in settings]
    if lacking:
        raise ParameterError(f"{path} must set {', '.join(lacking)}.")
    return settings


def runtime(settings: dict[str, Any], run_opts: Any) -> dict[str, Any]:
    """The settings with SpeechBrain's own options, such as ``--precision=bf16``, put in.

    Raises
    ------
    ParameterError
        If a checkpoint would fall between two steps of the optimiser.
    """
    overridden = getattr(run_opts, "overridden_args", run_opts)
    taken = {name: run_opts[name] for name in _RUN_OPTIONS if name in overridden}
    merged = {**settings, **taken}
    if merged["ckpt_interval_steps"] % merged["grad_accumulation_factor"]:
        raise ParameterError(
            "The 'ckpt_interval_steps' parameter must be a multiple of grad_accumulation_factor, "
            f"{merged['grad_accumulation_factor']}. Got {merged['ckpt_interval_steps']} instead."
        )
    return merged


def configuration(settings: dict[str, Any], *, corpus: str, processes: int) -> dict[str, Any]:
    """What the outcome of a training depends on."""
    kept = {k: v for k, v in settings.items() if k not in _NOT_CONFIGURATION}
    return {**kept, "corpus": corpus, "processes": processes}
