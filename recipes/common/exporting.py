"""What every recipe's ``export.py`` does: a trained network becomes a bundle.

The calibration and the operating points rest on the dev scores that training left, so that neither
corpus nor eval part is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

from systems import (
    DEV_SCORES_NAME,
    NETWORK_NAME,
    TrainedMixture,
    TrainedNetwork,
    load_system,
    read_dev_scores,
)

from voiceguard import __version__
from voiceguard.detect import calibration
from voiceguard.detect.bundle import Manifest
from voiceguard.errors import ModelError, VoiceguardError
from voiceguard.export import export_bundle
from voiceguard.export_ssl import export_ssl_bundle
from voiceguard.models.ssl_network import SSLNetwork


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Write a trained network as a bundle.")
    parser.add_argument("--model", type=Path, required=True, help="output_folder of a training")
    parser.add_argument("--out", type=Path, required=True, help="the bundle; its name is its id")
    parser.add_argument("--licence", required=True, help="SPDX identifier of the weights' licence")
    parser.add_argument("--uncalibrated", action="store_true", help="scores stay as they are")
    return parser


def _judged(model: Path, data: str) -> dict[str, Any]:
    """Calibration and operating points of the dev scores."""
    scores, labels = read_dev_scores(model / DEV_SCORES_NAME)
    fitted = calibration.fit(scores, labels, data=data)
    llrs = fitted.slope * scores + fitted.offset
    return {
        "calibration": fitted,
        "operating_points": tuple(calibration.operating_points(llrs, labels, data=data)),
        "default_operating_point": "balanced",
    }


def _card(trained: TrainedNetwork) -> str:
    about = trained.about
    return (
        f"# {about['name']}\n\n"
        f"{about['system']}, trained on the train part of {about['corpus']} with windows of "
        f"{about['crop_samples']} samples at 16 kHz. Chosen on the dev part ({about['chosen']}), "
        f"EER there {100 * about['dev_eer']:.3f} %. Nothing here was chosen or measured on eval "
        "data; judge it on your own channel before you rely on it.\n"
    )


def _run(argv: list[str]) -> None:
    args = _parser().parse_args(argv)
    trained = load_system(args.model)
    if isinstance(trained, TrainedMixture):
        raise ModelError(
            f"{args.model} holds a Gaussian mixture system, which scores whole utterances and has "
            "no ONNX graph; use it through voiceguard.models.gmm.GMM.load."
        )
    about = trained.about
    data = f"dev part of {about['corpus']}"
    weights = (args.model / NETWORK_NAME).read_bytes()
    manifest = Manifest(
        id=args.out.name,
        version=__version__,
        licence=args.licence,
        description=f"{about['system']}, trained on {about['corpus']}.",
        sample_rate=16_000,
        window_samples=about["crop_samples"],
        hop_samples=about["crop_samples"] // 2,
        provenance={
            "recipe": f"recipes/{about['corpus']}",
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "seed": str(about["seed"]),
        },
        **({} if args.uncalibrated else _judged(args.model, data)),
    )
    export = export_ssl_bundle if isinstance(trained.network, SSLNetwork) else export_bundle
    export(trained.network, args.out, manifest=manifest, card=_card(trained))
    print(f"wrote {args.out}")


def main(argv: list[str]) -> None:
    """Exit code 2 where the model cannot be exported."""
    try:
        _run(argv)
    except VoiceguardError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
