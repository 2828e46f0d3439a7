"""A packed network as a function of arrays, as `tnacli.load` makes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli_runtime.deploy.numbers import as_inputs, fitting, numbers, values_of
from tnacli_runtime.packed.engine import PackedSNN
from tnacli_runtime.packed.file import read_packed
from tnacli_runtime.packed.spec import InputSpec

Floats = NDArray[np.float32]
_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Model:
    """A trained spiking network: samples in, logits out.

    `labels` names the classes in the order of the logits, `input` says what is taken, `timesteps` is T.
    """

    labels: tuple[str, ...]
    input: InputSpec
    timesteps: int
    run: PackedSNN = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (C, H, W) of images, (T, C, H, W) of event frames."""
        return self.input.shape(self.timesteps)

    def __call__(self, samples: Any, *, unit: bool = False, normalised: bool = False) -> Floats:
        """Logits, float32 [N, classes], of images [N, C, H, W] or event frames [N, T, C, H, W].

        Whole numbers are pixels from 0 to 255, to which the network's own mean and std are applied. Floats have to be marked:
        `unit`, pixels from 0 to 1, or `normalised`, mean and std applied already. Frames are numbers of events, of any type.
        Raises DataError for anything else.
        """
        values = values_of(unit=unit, normalised=normalised)
        given = fitting(numbers(samples), self.input.kind, self.shape, values)
        cuts = range(0, len(given), _AT_ONCE)
        parts = [self.run(as_inputs(given[cut : cut + _AT_ONCE], self.input, values)) for cut in cuts]
        return np.concatenate([np.empty((0, len(self.labels)), np.float32), *parts])

    def predict(self, samples: Any, *, unit: bool = False, normalised: bool = False) -> list[str]:
        """The label of each sample, a list of N; samples and errors as for a call."""
        return [self.labels[best] for best in self(samples, unit=unit, normalised=normalised).argmax(1)]


def load(path: str | Path, *, native: bool = True) -> Model:
    """The network in a packed file; `native=False` keeps to NumPy. Raises FileFormatError if it is none, or damaged."""
    packed = read_packed(Path(path))
    about = packed.about
    return Model(about.labels, about.input, about.timesteps, PackedSNN(packed, native=native))
