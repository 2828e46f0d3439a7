"""The samples that the network of a packed file is measured on: those of its run, as far as the file says them."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from tnacli.data.batches import Batches
from tnacli.errors import FileFormatError
from tnacli.evaluation.data import WHOLE_TEST_SET, Selection, TrainedOn, evaluation_batches
from tnacli.packed.document import Document, explain
from tnacli.recipe.schema.data import Data


def packed_batches(
    source: Path, about: Document, selection: Selection = WHOLE_TEST_SET, *, batch_size: int = 64
) -> Batches:
    """`evaluation_batches` of the data that the network of the packed file `source` was trained on.

    Raises FileFormatError if the file does not say which, DataError if they are not there.
    """
    spec = about.input
    trained_on = TrainedOn(_data(source, about), about.timesteps, about.labels, spec.channels, spec.mean, spec.std)
    return evaluation_batches(trained_on, selection, batch_size=batch_size)


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
