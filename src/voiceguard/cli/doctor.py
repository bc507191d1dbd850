"""``voiceguard doctor``: whether this installation is sound."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

import typer

from voiceguard._version import __version__
from voiceguard.cli import output
from voiceguard.errors import UnknownModelError

if TYPE_CHECKING:
    from voiceguard.detect.registry import Use

_NEEDED = ("numpy", "soundfile", "soxr", "onnxruntime", "scikit-learn", "librosa", "typer", "rich")
_EXTRAS = {
    "media": ("av",),
    "train": ("torch", "torchaudio", "speechbrain", "onnx", "safetensors"),
    "plots": ("matplotlib",),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``ok`` is None for what is worth knowing and no fault."""

    what: str
    ok: bool | None
    detail: str


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("doctor")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Check versions, decoders, providers and model hashes, and score a made-up signal.

    Exit code 0 where all is sound, 1 where something is broken.
    """
    findings = [Finding("voiceguard", None, f"{__version__} on {_machine()}"), *_packages()]
    for what, check in _CHECKS.items():
        findings.append(_run(what, check))
    findings += [*_models(), *_self_tests()]
    if as_json:
        output.write(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    else:
        for finding in findings:
            mark = {True: "ok    ", False: "BROKEN", None: "      "}[finding.ok]
            output.write(f"{mark}  {finding.what:<24} {output.printable(finding.detail)}\n")
    raise typer.Exit(1 if any(finding.ok is False for finding in findings) else 0)


def _machine() -> str:
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"


def _packages() -> list[Finding]:
    found = []
    for name in _NEEDED:
        version = _version(name)
        found.append(Finding(name, version is not None, version or "missing"))
    for extra, names in _EXTRAS.items():
        absent = [name for name in names if _version(name) is None]
        state = f'not installed (pip install "voiceguard[{extra}]")' if absent else "installed"
        found.append(Finding(f"extra {extra}", None, state))
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _run(what: str, check: Callable[[], str]) -> Finding:
    """Do a check; whatever it raises is the finding."""
    try:
        return Finding(what, True, check())
    except Exception as error:
        return Finding(what, False, f"{type(error).__name__}: {error}")


def _providers() -> str:
    import onnxruntime

    return ", ".join(onnxruntime.get_available_providers())


def _decoders() -> str:
    import soundfile

    formats = soundfile.available_formats()
    return f"{soundfile.__libsndfile_version__}: {', '.join(sorted(formats))}"


def _resampler() -> str:
    import numpy as np

    from voiceguard.audio import resample

    tone = np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000).astype(np.float32)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    error = np.abs(resample(tone, source_rate=8_000, target_rate=16_000) - expected)
    if float(error[2_000:-2_000].max()) > 1e-3:
        raise ValueError("a tone does not come through the resampler")
    return "a tone comes through from 8 to 16 kHz"


def _voice_activity() -> str:
    import numpy as np

    from voiceguard.audio.quality import assess

    found = assess(np.zeros(16_000, np.float32)).overall.speech_s
    if found != 0.0:
        raise ValueError(f"found {found} s of speech in silence")
    return "finds no speech in silence"


_CHECKS: dict[str, Callable[[], str]] = {
    "ONNX Runtime providers": _providers,
    "libsndfile": _decoders,
    "resampling": _resampler,
    "voice activity": _voice_activity,
}


def _models() -> list[Finding]:
    """Verify each model on this machine, and that there is a default for each use."""
    from voiceguard.detect import registry
    from voiceguard.detect.bundle import read_bundle

    def whole(model: registry.Installed) -> Callable[[], str]:
        def check() -> str:
            info = read_bundle(model.folder).info
            return f"{info.version}, {model.origin}, SHA-256 {info.sha256}"

        return check

    found = [_run(f"model {model.name}", whole(model)) for model in registry.installed()]
    for use in registry.Use:
        found.append(_run(f"default for {use.value}", partial(_default, use)))
    return found


def _default(use: Use) -> str:
    from voiceguard.detect import registry

    return registry.default_model(use).name


def _self_tests() -> list[Finding]:
    """Test each default model once."""
    from voiceguard.detect import registry

    uses: dict[str, Use] = {}
    for use in registry.Use:
        with suppress(UnknownModelError):
            uses.setdefault(_default(use), use)
    if not uses:
        return [_run("self-test", partial(_self_test, registry.Use.FILES))]
    return [_run(f"self-test {name}", partial(_self_test, use)) for name, use in uses.items()]


def _self_test(use: Use) -> str:
    """Run a default model on noise, alone and in a batch, and the detector from end to end."""
    import numpy as np

    from voiceguard.detect.detector import Detector

    detector = Detector.load(use=use)
    length = detector.manifest.window_samples
    noise = np.random.default_rng(0).normal(0.0, 0.1, (3, length)).astype(np.float32)
    together = detector.engine.run(noise)[0]
    alone = np.concatenate([detector.engine.run(row[None])[0] for row in noise])
    difference = float(np.abs(together - alone).max())
    if difference > 1e-5:
        raise ValueError(f"a batch changes a window's score by {difference:.2g}")
    label = detector.score((np.zeros(length, np.float32), 16_000)).label.value
    if label != "inconclusive":
        raise ValueError(f"silence was called {label}")
    return "scores agree alone and in a batch; silence is inconclusive"
