"""Networks in torch: waveform (batch, n) to logits and embedding.

Needs the ``train`` extra. Modules are imported when :func:`build` first needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voiceguard.errors import MissingExtraError, UnknownModelError

if TYPE_CHECKING:
    from voiceguard.models.aasist import AASIST
    from voiceguard.models.spectral_aasist import SpectralAASIST

_NAMES = ("aasist", "aasist-l", "spectral-aasist")


def names() -> tuple[str, ...]:
    """Names that :func:`build` knows."""
    return _NAMES


def build(name: str, **options: Any) -> AASIST | SpectralAASIST:
    """Make an untrained network by name.

    Parameters
    ----------
    name : str
        ``aasist``, ``aasist-l`` or ``spectral-aasist``.
    **options
        For the AASIST pair keyword arguments of :class:`~voiceguard.models.aasist.AASIST`; for the
        spectral one the fields of
        :class:`~voiceguard.models.spectral_aasist.SpectralAASISTConfig`.

    Returns
    -------
    AASIST or SpectralAASIST

    Raises
    ------
    UnknownModelError
        If no network has that name.
    MissingExtraError
        If torch is absent.
    ParameterError
        If an option is out of range.
    """
    if name not in _NAMES:
        raise UnknownModelError(f"No network is named {name!r}; there are {', '.join(_NAMES)}.")
    try:
        from voiceguard.models.aasist import AASIST, AASISTConfig
        from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig
    except ImportError as error:
        raise MissingExtraError(f"network {name!r}", "train") from error
    if name == "spectral-aasist":
        return SpectralAASIST(SpectralAASISTConfig(**options))
    return AASIST(AASISTConfig.AASIST if name == "aasist" else AASISTConfig.AASIST_L, **options)
