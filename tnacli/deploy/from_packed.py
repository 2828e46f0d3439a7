"""A packed file written in another form, after its predictions on the test samples of its own data set were compared."""

from __future__ import annotations

from pathlib import Path

import torch

from tnacli.deploy.formats import WITHOUT, Deployed, Wishes, deploy
from tnacli.evaluation.data import WHOLE_TEST_SET, Selection
from tnacli.evaluation.packed_samples import packed_batches
from tnacli.packed.file import read_packed


def deploy_packed(
    source: Path, destination: Path, form: str, *, selection: Selection = WHOLE_TEST_SET, wishes: Wishes = WITHOUT
) -> Deployed:
    """Write the packed file `source` as "nir", "onnx" or "c", as `deploy` does; with 0 samples unverified.

    Raises what `read_packed`, `packed_batches` and `deploy` raise.
    """
    packed = read_packed(source)
    about = packed.about
    if selection.samples == 0:
        inputs = torch.empty(0, *about.input.shape(about.timesteps))
    else:
        inputs = torch.cat([batch.inputs for batch in packed_batches(source, about, selection).epoch(0)])
    return deploy(packed, form, destination, inputs, wishes=wishes)
