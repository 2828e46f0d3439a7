"""A packed file's own test samples, and the file written in another form after its predictions on them were compared."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError

from tnacli.data.batches import Batches
from tnacli.deploy.formats import WITHOUT, Deployed, Wishes, deploy
from tnacli.errors import FileFormatError
from tnacli.evaluation.data import WHOLE_TEST_SET, Selection, TrainedOn, evaluation_batches
from tnacli.packed.document import Document, explain
from tnacli.packed.file import read_packed
from tnacli.recipe.schema import Data


def packed_batches(
    source: Path, about: Document, selection: Selection = WHOLE_TEST_SET, *, batch_size: int = 64
) -> Batches:
    """`evaluation_batches` of the data that the network of the packed file `source` was trained on.

    Raises FileFormatError if the file does not say which, DataError if they are not there.
    """
    spec = about.input
    trained_on = TrainedOn(_data(source, about), about.timesteps, about.labels, spec.channels, spec.mean, spec.std)
    return evaluation_batches(trained_on, selection, batch_size=batch_size)


def deploy_packed(
    source: Path, destination: Path, form: str, *, selection: Selection = WHOLE_TEST_SET, wishes: Wishes = WITHOUT
) -> Deployed:
    """Write the packed file `source` as "nir", "onnx" or "c", as `deploy` does; with 0 samples unverified.

    Raises what `read_packed`, `packed_batches` and `deploy` raise.
    """
    packed = read_packed(source)
    about = packed.about
    if selection.samples == 0:
        frames = [] if about.input.kind == "images" else [about.timesteps]
        inputs = torch.empty(0, *frames, about.input.channels, *about.input.size)
    else:
        inputs = torch.cat([batch.inputs for batch in packed_batches(source, about, selection).epoch(0)])
    return deploy(packed, form, destination, inputs, wishes=wishes)


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
