"""Weights of a bundled network from its graph, to go on from what was published.

    python reopen.py ../../src/voiceguard/assets/models/vg-small --spectral \
        --windows work/windows/telephone/crops.npy --out work/reopened.safetensors
    python reopen.py ../../src/voiceguard/assets/models/vg-base --out work/base9/joined.safetensors

The graph of a spectral AASIST has its batch norms folded into the convolutions. They are made anew,
to mean and deviation of what each convolution gives on some windows, so that the network gives what
the graph gives and trains as it did before. That of an ensemble keeps everything by name, some
weights in int8; a spectral AASIST in it needs windows too, and can be had alone. To the others
members can be added (``pooled_probe.py --beside``). What computes in int8 comes back with rounded
weights, and in float32.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from train import save

from voiceguard.detect.bundle import read_bundle
from voiceguard.export_int8 import QUANTISED, RESTORED
from voiceguard.features.ssl import native
from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig
from voiceguard.models.ssl_ensemble import (
    SPECTRAL,
    Member,
    SSLEnsemble,
    at_peak,
    save_ssl_ensemble,
)
from voiceguard.models.ssl_network import HEADER, SSLNetwork, described_network

WINDOWS = 256
BATCH = 16
_HALF = "_float16"
_INT8, _SCALE = "_int8", "_scale"
_TRACED = re.compile(r"onnx::\w+_\d+$")


def module_of(node: str) -> str:
    """Name of the module that a node was traced from: ``/model/stem/stem.0/Conv`` is stem.0."""
    parts = node.removeprefix("/model/").split("/")[:-1]
    # A Sequential is told twice, by itself and with the number of its part.
    kept = [a for a, b in zip(parts, [*parts[1:], ""], strict=True) if not b.startswith(f"{a}.")]
    return ".".join(kept)


def stored(graph: bytes) -> dict[str, Tensor]:
    """Parameters by module name; weights of linear layers as torch has them."""
    proto = onnx.load_from_string(graph).graph
    arrays = {
        each.name.removesuffix(_HALF): torch.from_numpy(numpy_helper.to_array(each).copy()).float()
        for each in proto.initializer
    }
    for name in [name for name in arrays if name.endswith(_INT8)]:
        whole = name.removesuffix(_INT8)
        arrays[whole] = arrays.pop(name) * arrays.pop(whole + _SCALE)
    for node in proto.node:
        if node.op_type == "DequantizeLinear" and node.input[0].endswith(QUANTISED):
            # Zero stands for zero, and outputs come first.
            rounded, scale, _ = (arrays.pop(name) for name in node.input)
            scale = scale.reshape(-1, *[1] * (rounded.ndim - 1))
            arrays[node.input[0].removesuffix(QUANTISED)] = rounded * scale
    found = {
        name.removeprefix("model."): array
        for name, array in arrays.items()
        if name.startswith("model.")
    }
    for node in proto.node:
        if node.op_type not in ("Conv", "MatMul", "Gemm"):
            continue
        taken = [name.removesuffix(RESTORED) for name in node.input]
        anonymous = [name for name in taken if _TRACED.match(name)]
        for name, part in zip(anonymous, ("weight", "bias"), strict=False):
            array = arrays[name]
            if node.op_type == "MatMul":
                array = array.T
            found[f"{module_of(node.name)}.{part}"] = array
    return found


def norm_of(convolution: str) -> str:
    """The batch norm behind a convolution."""
    return re.sub(r"conv(\d)$", r"bn\1", re.sub(r"\.0$", ".1", convolution))


def configuration(folder: Path) -> dict[str, Any]:
    """What a bundle's network is and its sizes."""
    plain: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    return plain


def opened(folder: Path, network: type) -> tuple[bytes, dict[str, Any]]:
    """Graph and configuration of a bundle that holds such a network."""
    bundle, plain = read_bundle(folder), configuration(folder)
    if (kind := plain.pop("network")) != network.__name__:
        raise SystemExit(f"{folder} holds a network of kind {kind}; expected {network.__name__}.")
    return bundle.graph, plain


def reopen_ensemble(folder: Path, windows: Tensor | None = None) -> SSLEnsemble:
    """The ensemble, in evaluation mode, with the weights that the graph computes with.

    Norms of a spectral AASIST in it are set by what the windows give, which others do not need.
    """
    graph, plain = opened(folder, SSLEnsemble)
    found = stored(graph)
    members: list[Member] = []
    for number, member in enumerate(plain["members"]):
        prefix = f"members.{number}."
        own = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
        if member.get("network") == SPECTRAL:
            heard = None if windows is None else at_peak(windows)
            sizes = {key: value for key, value in member.items() if key != "network"}
            members.append(_spectral(sizes, own, heard))
        else:
            members.append(_behind_encoder(member, own, folder.name))
    return SSLEnsemble(members, plain["weights"]).eval()


def _behind_encoder(member: dict[str, Any], graph: dict[str, Tensor], name: str) -> SSLNetwork:
    """A member of encoder and back end, from its configuration and its tensors in the graph."""
    described = {
        "format": native.FORMAT,
        "architecture": member["architecture"],
        "config": member["encoder"],
        "layers": member["layers"],
        "provenance": {},
    }
    head = {"back_end": member["back_end"], "options": member["options"]}
    text = {native.HEADER: json.dumps(described), HEADER: json.dumps(head)}
    return described_network(text, _as_trained(graph), name=name)


def _as_trained(graph: dict[str, Tensor]) -> dict[str, Tensor]:
    """A member's tensors under the names that it trains with, without what tracing added."""
    state = {
        # Whisper's blocks are run one by one, past the network that holds them.
        name.replace("encoder.layers.", "encoder.network.layers."): array
        for name, array in graph.items()
        if ".log_mel." not in name
    }
    if "head.back_end.weight" in state:
        # Of no module: what a covariance probe's axes are multiplied by.
        state["head.back_end.axes.weight"] = state.pop("head.back_end.weight")
    for norm in [name.removesuffix(".running_mean") for name in graph if "running_mean" in name]:
        # A probe's norm has neither; the graph's are ones and zeros.
        del state[f"{norm}.weight"], state[f"{norm}.bias"]
        state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    return state


def reopen(folder: Path, windows: Tensor | None) -> SpectralAASIST:
    """The spectral AASIST, in evaluation mode, its norms set by what the windows give."""
    graph, plain = opened(folder, SpectralAASIST)
    return _spectral(plain, stored(graph), windows)


def _spectral(
    plain: dict[str, Any], graph: dict[str, Tensor], windows: Tensor | None
) -> SpectralAASIST:
    """A spectral AASIST from its configuration, its tensors in the graph and what it hears."""
    if windows is None:
        raise SystemExit("The norms of a spectral AASIST are told from windows: add --windows.")
    model = SpectralAASIST(SpectralAASISTConfig.from_dict(plain)).eval()
    found = dict(graph)
    modules = dict(model.named_modules())
    folded = {
        name: found.pop(f"{name}.bias")
        for name, module in modules.items()
        if isinstance(module, nn.Conv2d) and f"{name}.bias" in found
    }
    norms = {name: modules[norm_of(name)] for name in folded}
    for norm in norms.values():
        nn.init.constant_(norm.running_var, 1.0 - norm.eps)
    # What the graph does not name are the folded norms, told from the windows below.
    model.load_state_dict({**model.state_dict(), **found})
    for name, norm in norms.items():
        with torch.no_grad():
            norm.bias.copy_(folded[name])
    _settle(model, norms, windows)
    return model


def _settle(model: SpectralAASIST, norms: dict[str, nn.Module], windows: Tensor) -> None:
    """Give each norm the mean and deviation of what it takes, and undo them behind it."""
    sums: dict[str, list[Tensor]] = {name: [] for name in norms}

    def keep(name: str):  # type: ignore[no-untyped-def]
        def hook(_: nn.Module, taken: tuple[Tensor, ...]) -> None:
            x = taken[0].double()
            sums[name].append(torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))]))

        return hook

    hooks = [norm.register_forward_pre_hook(keep(name)) for name, norm in norms.items()]
    with torch.inference_mode():
        for batch in windows.split(BATCH):
            model(batch)
    for hook in hooks:
        hook.remove()
    for name, norm in norms.items():
        mean, square = torch.stack(sums[name]).mean(0)
        variance = square - mean.square()
        with torch.no_grad():
            norm.bias.add_(mean.float())
            norm.weight.copy_(torch.sqrt(variance + norm.eps))
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)


def _some(path: Path) -> Tensor:
    """As many of the kept windows as norms are told from [shape=(windows, n)]."""
    kept = np.load(path, mmap_mode="r")
    rows = np.linspace(0, len(kept) - 1, min(WINDOWS, len(kept))).astype(int)
    return torch.from_numpy(kept[rows].astype(np.float32) / 32_767.0)


def lone(ensemble: SSLEnsemble) -> SpectralAASIST:
    """The spectral AASIST of an ensemble."""
    found = [member for member in ensemble.networks if isinstance(member, SpectralAASIST)]
    if len(found) != 1:
        raise SystemExit(f"--spectral takes one spectral AASIST out. There are {len(found)}.")
    return found[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--windows", type=Path, help="of pooled.py, for a spectral AASIST")
    parser.add_argument("--spectral", action="store_true", help="that of an ensemble alone")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    windows = None if args.windows is None else _some(args.windows)
    model: SpectralAASIST | SSLEnsemble
    if configuration(args.bundle)["network"] == SSLEnsemble.__name__:
        ensemble = reopen_ensemble(args.bundle, windows)
        model = lone(ensemble) if args.spectral else ensemble
    else:
        model = reopen(args.bundle, windows)
    if isinstance(model, SSLEnsemble):
        save_ssl_ensemble(model, args.out)
    else:
        save(model, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
