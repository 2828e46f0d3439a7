"""Train spiking neural networks that end up tiny: Twin Network Augmentation, ternary weights, packed 2-bit files.

    import tnacli

    model = tnacli.load("model.safetensors")  # or a checkpoint, last.pt
    model.predict(images)  # uint8 [N, C, H, W] -> N labels

Importing the package loads no torch; the first `load` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tnacli.version import __version__

if TYPE_CHECKING:
    from tnacli.deploy.library import Model
    from tnacli.deploy.library import load_model as load

__all__ = ["Model", "__version__", "load"]

_LAZY = {"Model": "Model", "load": "load_model"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from tnacli.deploy import library

        return getattr(library, _LAZY[name])
    raise AttributeError(f"module 'tnacli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
