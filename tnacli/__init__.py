"""Train spiking neural networks that end up tiny: Twin Network Augmentation, ternary weights, packed 2-bit files."""

from tnacli.version import __version__

__all__ = ["__version__"]
