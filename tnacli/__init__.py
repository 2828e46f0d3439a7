"""Train spiking neural networks that end up tiny: Twin Network Augmentation, ternary weights, packed 2-bit files.

    import tnacli

    model = tnacli.load("model.safetensors")  # or a checkpoint, last.pt
    model.predict(images)  # uint8 [N, C, H, W], PIL images or paths -> N labels

    (result,) = tnacli.train("quickstart", run="tna_t_snn")  # with curves to plot

    network = tnacli.ternarize(network)  # any torch module, in a training loop of your own
    loss = ce(logits, labels) + ce(other, labels) + tnacli.twin_loss(logits, other, alpha=1e-3)

Importing the package loads no torch; the first use of a function does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tnacli.version import __version__

if TYPE_CHECKING:
    from tnacli.deploy.library import Model
    from tnacli.deploy.library import load_model as load
    from tnacli.importing.from_module import from_module
    from tnacli.objectives.twin_loss import twin_loss
    from tnacli.quant.ternarize import restore, shares, ternarize
    from tnacli.scripting import Result, train

__all__ = [
    "Model",
    "Result",
    "__version__",
    "from_module",
    "load",
    "restore",
    "shares",
    "ternarize",
    "train",
    "twin_loss",
]

_LAZY = {
    "Model": ("tnacli.deploy.library", "Model"),
    "Result": ("tnacli.scripting", "Result"),
    "from_module": ("tnacli.importing.from_module", "from_module"),
    "load": ("tnacli.deploy.library", "load_model"),
    "restore": ("tnacli.quant.ternarize", "restore"),
    "shares": ("tnacli.quant.ternarize", "shares"),
    "ternarize": ("tnacli.quant.ternarize", "ternarize"),
    "train": ("tnacli.scripting", "train"),
    "twin_loss": ("tnacli.objectives.twin_loss", "twin_loss"),
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'tnacli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
