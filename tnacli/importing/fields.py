"""The fields of NIR's nodes, checked before they are computed with: the package nir reads any array for any field."""

from __future__ import annotations

from typing import Any

import numpy as np

from tnacli.errors import NetworkError

_NEURONS = ("r", "tau", "v_leak", "v_threshold", "v_reset")
_SIDES = ("kernel_size", "stride", "padding", "dilation")  # two whole numbers, or one for both


def require_fields(node: Any, shape: tuple[int, ...]) -> None:
    """Raise NetworkError that names a field of `node`, which takes values of `shape`, if it is not as NIR has it."""
    kind = type(node).__name__
    if kind in ("Conv2d", "Affine", "Linear"):
        weight = _numbers(node, "weight")
        axes = 4 if kind == "Conv2d" else 2
        if weight.ndim != axes or not weight.size:
            raise NetworkError(f"weight of shape {weight.shape}, which has {axes} axes")
        if kind != "Linear" and (bias := _numbers(node, "bias")).shape != (len(weight),):
            raise NetworkError(f"bias of shape {bias.shape} for {len(weight)} outputs")
    for name in _SIDES if kind in ("Conv2d", "SumPool2d", "AvgPool2d") else ():
        if hasattr(node, name) and not (name == "padding" and isinstance(node.padding, str)):
            _whole(node, name, 2, at_least=0 if name == "padding" else 1)
    if kind == "Conv2d":
        _whole(node, "groups", 1, at_least=1)
    for name in _NEURONS if kind in ("IF", "LIF", "I", "LI") else ("scale",) if kind == "Scale" else ():
        if hasattr(node, name) and not _broadcasts(found := _numbers(node, name), shape):
            raise NetworkError(f"{name} of shape {found.shape} for values of shape {shape}")
    for name in ("tau", "v_threshold") if kind in ("IF", "LIF", "LI") else ():
        if hasattr(node, name) and not (_numbers(node, name) > 0).all():
            raise NetworkError(f"{name} that is not above 0")


def _numbers(node: Any, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    found = np.asarray(getattr(node, name))
    if found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise NetworkError(f"{name} that holds other than finite numbers")
    return found


def _whole(node: Any, name: str, count: int, *, at_least: int) -> None:
    found = _numbers(node, name)
    if found.ndim > 1 or found.size not in (1, count) or not ((found == np.rint(found)) & (found >= at_least)).all():
        raise NetworkError(
            f"{name} of {getattr(node, name)}: whole numbers from {at_least} on are known, at most {count}"
        )


def _broadcasts(found: np.ndarray[Any, np.dtype[Any]], shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(found.shape, shape) == shape
    except ValueError:
        return False
