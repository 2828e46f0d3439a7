"""Runs the packed files of tnacli, spiking networks with ternary or binary weights, on NumPy alone.

import tnacli_runtime

model = tnacli_runtime.load("digits.safetensors")
model.predict(images)  # uint8 [N, C, H, W] -> N labels
"""

from tnacli_runtime.model import Model, load
from tnacli_runtime.version import __version__

__all__ = ["Model", "__version__", "load"]
