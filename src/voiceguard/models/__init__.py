"""Networks in torch: waveform (batch, n) to logits and embedding; and back ends on encoder frames.

Needs the ``train`` extra. Modules are imported when :func:`build` or :func:`build_back_end` first
needs them. What is no network stands in modules of its own: Gaussian mixtures in
:mod:`voiceguard.models.gmm`, the linear probe in :mod:`voiceguard.models.probe`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from voiceguard.errors import MissingExtraError, ParameterError, UnknownModelError

if TYPE_CHECKING:
    from voiceguard.models.aasist import AASIST
    from voiceguard.models.conformer_tcm import ConformerTCM
    from voiceguard.models.covariance import CovarianceProbe
    from voiceguard.models.lcnn import LCNN
    from voiceguard.models.mhfa import MHFA
    from voiceguard.models.modulation import ModulationProbe
    from voiceguard.models.nes2net import Nes2Net
    from voiceguard.models.probe import MLP
    from voiceguard.models.rawgat_st import RawGATST
    from voiceguard.models.rawnet2 import RawNet2
    from voiceguard.models.resnet import ResNet18
    from voiceguard.models.sls import SLS
    from voiceguard.models.spectral_aasist import SpectralAASIST
    from voiceguard.models.ssl_aasist import SSLAASIST

Network: TypeAlias = "AASIST | SpectralAASIST | RawNet2 | RawGATST | LCNN | ResNet18"
"""Any network: a module with ``front_end``, ``config``, ``embedding_dim`` and ``score``."""

BackEnd: TypeAlias = (
    "SSLAASIST | SLS | Nes2Net | MHFA | ConformerTCM | MLP | CovarianceProbe | ModulationProbe"
)
"""Any back end: a module with ``takes_layers``, ``config``, ``embedding_dim`` and ``score``."""

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
# The same for back ends, and the options that the name fixes.
_BACK_ENDS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "ssl-aasist": ("ssl_aasist", "SSLAASIST", "SSLAASISTConfig", {}),
    "sls": ("sls", "SLS", "SLSConfig", {}),
    "nes2net": ("nes2net", "Nes2Net", "Nes2NetConfig", {"weighted": False}),
    "nes2net-x": ("nes2net", "Nes2Net", "Nes2NetConfig", {"weighted": True}),
    "mhfa": ("mhfa", "MHFA", "MHFAConfig", {}),
    "conformer-tcm": ("conformer_tcm", "ConformerTCM", "ConformerTCMConfig", {}),
    "mlp": ("probe", "MLP", "MLPConfig", {}),
    "covariance": ("covariance", "CovarianceProbe", "CovarianceConfig", {}),
    "modulation": ("modulation", "ModulationProbe", "ModulationConfig", {}),
}


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


def back_ends() -> tuple[str, ...]:
    """Names that :func:`build_back_end` knows."""
    return tuple(_BACK_ENDS)


def build_back_end(name: str, **options: Any) -> BackEnd:
    """Make an untrained back end on encoder frames by name.

    Parameters
    ----------
    name : str
        One of :func:`back_ends`.
    **options
        Fields of the configuration beside the class, for example
        :class:`~voiceguard.models.ssl_aasist.SSLAASISTConfig`; ``dim`` is the width of the
        encoder's frames.

    Returns
    -------
    BackEnd

    Raises
    ------
    UnknownModelError
        If no back end has that name.
    MissingExtraError
        If torch is absent.
    ParameterError
        If an option is unknown or out of range.
    """
    if name not in _BACK_ENDS:
        raise UnknownModelError(
            f"No back end is named {name!r}; there are {', '.join(_BACK_ENDS)}."
        )
    path, back_end_class, config_class, fixed = _BACK_ENDS[name]
    try:
        module = import_module(f"voiceguard.models.{path}")
        config = getattr(module, config_class)(**fixed, **options)
    except ImportError as error:
        raise MissingExtraError(f"back end {name!r}", "train") from error
    except TypeError as error:
        raise ParameterError(f"Back end {name!r} does not take these options: {error}.") from error
    back_end: BackEnd = getattr(module, back_end_class)(config)
    return back_end
