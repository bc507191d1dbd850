"""How a set of weights differs from what a network expects, for messages; it loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_HEAD = 5


def misshapen(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Tensors of another shape than expected, each as "name found for expected".

    Parameters
    ----------
    expected : mapping of str to Tensor
        The network's own state.
    weights : mapping of str to Tensor
        Holds every name of `expected`.

    Returns
    -------
    list of str
    """
    return [
        f"{key} {tuple(weights[key].shape)} for {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if weights[key].shape != tensor.shape
    ]


def first_names(names: Iterable[str]) -> str:
    """The first five names and how many more there are; "none" where there are none."""
    names = list(names)
    rest = f" and {len(names) - _HEAD} more" if len(names) > _HEAD else ""
    return ", ".join(names[:_HEAD]) + rest if names else "none"
