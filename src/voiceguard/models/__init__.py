"""Networks in torch: waveform (batch, n) to logits and embedding.

Needs the ``train`` extra. Modules are imported when :func:`build` first needs them. The Gaussian
mixture systems, which are no networks, are in :mod:`voiceguard.models.gmm`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from voiceguard.errors import MissingExtraError, ParameterError, UnknownModelError

if TYPE_CHECKING:
    from voiceguard.models.aasist import AASIST
    from voiceguard.models.lcnn import LCNN
    from voiceguard.models.rawgat_st import RawGATST
    from voiceguard.models.rawnet2 import RawNet2
    from voiceguard.models.resnet import ResNet18
    from voiceguard.models.spectral_aasist import SpectralAASIST

Network: TypeAlias = "AASIST | SpectralAASIST | RawNet2 | RawGATST | LCNN | ResNet18"
"""Any network: a module with ``front_end``, ``config``, ``embedding_dim`` and ``score``."""

# Module, class, and the configuration that options are fields of.
_CONFIGURED = {
    "spectral-aasist": ("spectral_aasist", "SpectralAASIST", "SpectralAASISTConfig"),
    "rawnet2": ("rawnet2", "RawNet2", "RawNet2Config"),
    "rawgat-st": ("rawgat_st", "RawGATST", "RawGATSTConfig"),
    "lfcc-lcnn": ("lcnn", "LCNN", "LCNNConfig"),
    "lfcc-resnet18": ("resnet", "ResNet18", "ResNet18Config"),
}
_AASIST = {"aasist": "AASIST", "aasist-l": "AASIST_L"}
_NAMES = (*_AASIST, *_CONFIGURED)


def names() -> tuple[str, ...]:
    """Names that :func:`build` knows."""
    return _NAMES


def build(name: str, **options: Any) -> Network:
    """Make an untrained network by name.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    **options
        For the AASIST pair keyword arguments of :class:`~voiceguard.models.aasist.AASIST`; for the
        others the fields of the configuration beside the class, for example
        :class:`~voiceguard.models.rawnet2.RawNet2Config`.

    Returns
    -------
    Network

    Raises
    ------
    UnknownModelError
        If no network has that name.
    MissingExtraError
        If torch is absent.
    ParameterError
        If an option is unknown or out of range.
    """
    if name not in _NAMES:
        raise UnknownModelError(f"No network is named {name!r}; there are {', '.join(_NAMES)}.")
    try:
        return _make(name, options)
    except ImportError as error:
        raise MissingExtraError(f"network {name!r}", "train") from error
    except TypeError as error:
        raise ParameterError(f"Network {name!r} does not take these options: {error}.") from error


def _make(name: str, options: dict[str, Any]) -> Network:
    if name in _AASIST:
        aasist = import_module("voiceguard.models.aasist")
        network: Network = aasist.AASIST(getattr(aasist.AASISTConfig, _AASIST[name]), **options)
        return network
    path, network_class, config_class = _CONFIGURED[name]
    module = import_module(f"voiceguard.models.{path}")
    configured: Network = getattr(module, network_class)(getattr(module, config_class)(**options))
    return configured
