"""Spectral front ends in torch: waveform (batch, n) to (batch, coefficients, frames).

Needs the ``train`` extra. Modules are imported when a name of theirs is first used.
"""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from voiceguard.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    from voiceguard.features._base import FrontEnd

_FRONT_ENDS = {
    "compressed": "voiceguard.features.compressed:CompressedSpectrogram",
    "sinc": "voiceguard.features.sinc:SincEnvelope",
    "log_spectrogram": "voiceguard.features.spectrum:LogSpectrogram",
    "log_mel": "voiceguard.features.mel:LogMel",
    "mfcc": "voiceguard.features.mel:MFCC",
    "lfcc_asvspoof2019": "voiceguard.features.lfcc:LFCC.asvspoof2019",
    "lfcc_lcnn2021": "voiceguard.features.lfcc:LFCC.lcnn2021",
    "lfcc_gmm2021": "voiceguard.features.lfcc:LFCC.gmm2021",
    "cqt": "voiceguard.features.constant_q:CQT",
    "cqcc_asvspoof2019": "voiceguard.features.constant_q:CQCC.asvspoof2019",
    "cqcc_asvspoof2021": "voiceguard.features.constant_q:CQCC.asvspoof2021",
}


def front_ends() -> tuple[str, ...]:
    """Names that :func:`build_front_end` knows."""
    return tuple(_FRONT_ENDS)


def build_front_end(name: str, **options: Any) -> FrontEnd:
    """Make a front end by name.

    Parameters
    ----------
    name : str
        One of :func:`front_ends`.
    **options
        Keyword arguments of the class.

    Returns
    -------
    FrontEnd

    Raises
    ------
    MissingExtraError
        If torch or torchaudio is absent.
    ParameterError
        If the name or an option is unknown, or an option is out of range.
    """
    if name not in _FRONT_ENDS:
        raise ParameterError(
            f"The 'name' parameter of build_front_end must be one of {sorted(_FRONT_ENDS)}. "
            f"Got {name!r} instead."
        )
    module, attribute = _FRONT_ENDS[name].split(":")
    try:
        factory = attrgetter(attribute)(import_module(module))
    except ImportError as error:
        raise MissingExtraError(f"front end {name!r}", "train") from error
    try:
        front_end: FrontEnd = factory(**options)
    except TypeError as error:
        raise ParameterError(f"Front end {name!r} does not take these options: {error}.") from error
    return front_end
