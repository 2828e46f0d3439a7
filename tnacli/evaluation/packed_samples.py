"""The network of a packed file measured on the samples of its run, as far as the file says them. Loads no torch by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from tnacli.data.samples import Dataset, Samples
from tnacli.errors import FileFormatError
from tnacli.evaluation.data import WHOLE_TEST_SET, Selection, TrainedOn, batches_of, evaluation_samples
from tnacli.evaluation.scores import Evaluation, Scores, SpikeCounts
from tnacli.packed.document import Document, explain
from tnacli.packed.engine import PackedSNN
from tnacli.packed.plain import Counts
from tnacli.recipe.schema.data import Data

if TYPE_CHECKING:
    from tnacli.data.batches import Batches


def packed_samples(source: Path, about: Document, selection: Selection = WHOLE_TEST_SET) -> tuple[Samples, Dataset]:
    """`evaluation_samples` of the data that the network of the packed file `source` was trained on.

    Raises FileFormatError if the file does not say which, DataError if they are not there.
    """
    spec = about.input
    trained_on = TrainedOn(_data(source, about), about.timesteps, about.labels, spec.channels, spec.mean, spec.std)
    return evaluation_samples(trained_on, selection)


def packed_batches(
    source: Path, about: Document, selection: Selection = WHOLE_TEST_SET, *, batch_size: int = 64
) -> Batches:
    """The same as batches of tensors."""
    return batches_of(*packed_samples(source, about, selection), batch_size=batch_size)


def evaluate_packed(engine: PackedSNN, samples: Samples, batch_size: int = 64) -> Evaluation:
    """Accuracy, loss and firing rates, which are those of the whole numbers that the engine counts."""
    scores, counts = Scores(), SpikeCounts()

    def observe(name: str, spikes: Counts) -> None:
        counts.add(name, np.count_nonzero(spikes), spikes.size)

    for start in range(0, len(samples), batch_size):
        inputs = engine.normalise(samples.inputs[start : start + batch_size])
        scores.add(engine(inputs, observe), samples.labels[start : start + batch_size])
    return scores.evaluation(counts.rates())


def _data(file: Path, about: Document) -> Data:
    """The samples that the run of a packed file was measured on."""
    origin = about.origin
    try:
        return Data(
            name=origin.data_set, size=about.input.size, format=origin.format, binning=origin.binning, sensor=origin.sensor,
            test_samples=origin.test_samples,
        )  # fmt: skip
    except ValidationError as error:
        raise FileFormatError(
            f"{file}: does not say on which data to evaluate it: {explain(error)}. Use `tna predict` or tnacli.load to run it on "
            "your own samples."
        ) from None
