"""Networks in torch: waveform (batch, n) to logits and embedding.

Needs the ``train`` extra. Modules are imported when :func:`build` first needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voiceguard.errors import UnknownModelError

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
    ParameterError
        If an option is out of range.
    """
    if name in ("aasist", "aasist-l"):
        from voiceguard.models.aasist import AASIST, AASISTConfig

        config = AASISTConfig.AASIST if name == "aasist" else AASISTConfig.AASIST_L
        return AASIST(config, **options)
    if name == "spectral-aasist":
        from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig

        return SpectralAASIST(SpectralAASISTConfig(**options))
    raise UnknownModelError(f"No network is named {name!r}; there are {', '.join(_NAMES)}.")
