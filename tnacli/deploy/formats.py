"""The forms besides the packed file in which a network leaves: each written only after its predictions were compared.

A form is written from the packed network, turned back into something that runs, and run on real samples. The first layer's
and the readout's sums are rounded in another order there than here, which may tip a neuron that is a rounding error away
from its threshold; so a few predictions in many may differ, and how many do is said. More than that is refused. C of whole
numbers is near the network on purpose, and compared in the same way.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tnacli.data.batches import Batch
from tnacli.deploy import c_build
from tnacli.deploy.c import c_source
from tnacli.deploy.c_projects import project_files
from tnacli.deploy.c_stack import Stack
from tnacli.deploy.nir import nir_graph, nir_read, nir_write
from tnacli.deploy.nir_steps import nir_logits
from tnacli.deploy.onnx import onnx_bytes, onnx_logits
from tnacli.deploy.vectors import VECTOR_ENDINGS, vector_files
from tnacli.errors import DataError, FileFormatError, ToleranceError, UsageError
from tnacli.evaluation.activity import measure_activity, most_activity
from tnacli.evaluation.energy import Activity
from tnacli.packed.engine import PackedSNN
from tnacli.packed.network import PackedNetwork
from tnacli.packed.spec import InputSpec, Origin
from tnacli.storage import write_atomically

TOLERATED, TOLERATED_INTEGER = 0.01, 0.02
"""The largest share of predictions that may differ where nothing else is asked for; one sample always may then."""

_AT_ONCE = 64
_COUNTED = 1000  # samples that operations are counted on, which takes as long as to run them


@dataclass(frozen=True)
class Deployed:
    """A network that has been written in another form, and what was verified before.

    Of `samples` predictions `agreeing` were those of the packed network, logits within `largest_difference`. `memory_bytes`
    has what the form can say of it: C its "flash" and "ram" (static), and `stack`, when compiled by `compiled_by`.
    """

    form: str
    paths: tuple[Path, ...]
    size_bytes: int
    weights: int
    samples: int
    agreeing: int
    largest_difference: float
    ran_on: str | None
    memory_bytes: dict[str, int]
    stack: Stack | None = None
    compiled_by: str | None = None


@dataclass(frozen=True)
class Wishes:
    """What a form may be asked for.

    `max_different`: the largest share of predictions that may differ, None for `TOLERATED` or `TOLERATED_INTEGER`. Of ONNX:
    `onnx_floats`, no operator of integers; `batch`, how many samples it takes at once, None for any number. Of C:
    `integer`, whole numbers alone; `vectors`, how many samples to write for tests; `target_cc`, the compiler of the machine that
    memory is measured for, None for this one's; `project`, one of `PROJECTS` to write build files for.
    """

    max_different: float | None = None
    integer: bool = False
    vectors: int = 0
    target_cc: str | None = None
    project: str | None = None
    onnx_floats: bool = False
    batch: int | None = None

    def allows(self, differing: int, samples: int) -> bool:
        """Whether so many of the predictions may differ."""
        if self.max_different is not None:
            return differing <= self.max_different * samples
        return differing <= max(1, (TOLERATED_INTEGER if self.integer else TOLERATED) * samples)


WITHOUT = Wishes()
"""Nothing besides."""


@dataclass(frozen=True)
class _Written:
    """Files by what is added to the destination's name; `logits` runs what was made of them, [N, ...] to [N, classes]."""

    files: dict[str, bytes]
    logits: Callable[[Tensor], Tensor]
    ran_on: str
    sizes: dict[str, int]
    stack: Stack | None = None
    compiled_by: str | None = None


def deploy(
    packed: PackedNetwork,
    form: str,
    destination: Path,
    inputs: Tensor,
    *,
    expected: Tensor | None = None,
    wishes: Wishes = WITHOUT,
) -> Deployed:
    """Write `packed` in `form` to `destination` if it predicts `inputs` (normalised, float32 [N, ...], N may be 0) alike.

    `expected` are the packed network's logits of them, [N, classes], where they are known already.

    Raises UsageError for an unknown form, a wish that it cannot fulfil or a missing package or compiler, ToleranceError if more
    predictions differ than `wishes` allow (FileFormatError where no bound was set and they should not), StorageError if it
    cannot be written.
    """
    if form not in FORMATS:
        raise UsageError(f"--format is packed, {', '.join(FORMATS)}, not {form!r}")
    if wishes.integer and form != "c":
        raise UsageError(f"--integer is a kind of --format c, not of {form}")
    if wishes.target_cc is not None and form != "c":
        raise UsageError(f"--target-cc compiles --format c, not {form}")
    if wishes.project is not None and form != "c":
        raise UsageError(f"--for is of --format c, not of {form}")
    if form != "onnx" and (wishes.onnx_floats or wishes.batch is not None):
        raise UsageError(f"--onnx-ops and --batch are of --format onnx, not of {form}")
    if wishes.vectors > (len(inputs) if form == "c" else 0):
        raise UsageError(
            f"--vectors {wishes.vectors} needs --format c and as many samples to verify it on; here are {len(inputs)}"
        )
    projects = _project(packed.about.origin, destination, wishes)
    written = FORMATS[form](packed, destination, inputs, wishes)
    agreeing, largest = _compare(packed, written.logits, inputs, expected)
    differing = len(inputs) - agreeing
    if not wishes.allows(differing, len(inputs)):
        if wishes.integer or wishes.max_different is not None:
            allowed = TOLERATED_INTEGER if wishes.max_different is None else wishes.max_different
            raise ToleranceError(
                f"the network as {form} predicts {differing} of {len(inputs)} samples ({differing / len(inputs):.2%}) otherwise "
                f"than the checkpoint, and {allowed:.2%} may differ; nothing was written; --max-different allows more"
            )
        raise FileFormatError(
            f"the network as {form} predicts {differing} of {len(inputs)} samples otherwise than the checkpoint when run by "
            f"{written.ran_on} (logits differ by up to {largest:.3g}); nothing was written; please report this"
        )
    files = written.files
    if wishes.vectors:
        fed = as_bytes(packed.about.input, inputs[: wishes.vectors]).numpy()
        files = files | vector_files(packed, fed, destination.name, integer=wishes.integer)
    contents = {destination.with_name(destination.name + ending): data for ending, data in files.items()} | projects
    for path, data in contents.items():
        write_atomically(path, data)
    return Deployed(
        form=form,
        paths=tuple(contents),
        size_bytes=sum(map(len, contents.values())),
        weights=0,
        samples=len(inputs),
        agreeing=agreeing,
        largest_difference=largest,
        ran_on=written.ran_on if len(inputs) else None,
        memory_bytes=written.sizes,
        stack=written.stack,
        compiled_by=written.compiled_by,
    )


def as_bytes(spec: InputSpec, inputs: Tensor) -> Tensor:
    """The pixels, or numbers of events, uint8, that normalised `inputs` [N, ...] were made of.

    Raises DataError if they were made of something else.
    """
    if spec.kind == "events":
        raw = inputs
    else:
        mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean or (0.0,), spec.std or (1.0,)))
        raw = (inputs * std + mean) * 255
    found = raw.round().clamp(0, 255)
    if float((found - raw).abs().max()) > 0.1:
        raise DataError(
            "the samples to verify --integer with are not bytes, which is all that it takes; use --samples 0"
        )
    return found.to(torch.uint8)


def destinations(form: str, destination: Path, wishes: Wishes = WITHOUT) -> list[Path]:
    """The files that `deploy` would write. Raises UsageError for a wish that it cannot fulfil."""
    if form != "c":
        return [destination]
    endings = (".h", ".c", *(VECTOR_ENDINGS if wishes.vectors else ()))
    origin = Origin(data_set="", recipe="", run="", seed=0, identity="")
    return [
        *(destination.with_name(destination.name + ending) for ending in endings),
        *_project(origin, destination, wishes),
    ]


def _project(origin: Origin, destination: Path, wishes: Wishes) -> dict[Path, bytes]:
    """The build files that are asked for."""
    if wishes.project is None:
        return {}
    files = project_files(wishes.project, destination.name, origin, vectors=bool(wishes.vectors))
    return {destination.parent / path: data for path, data in files.items()}


def _compare(
    packed: PackedNetwork, logits: Callable[[Tensor], Tensor], inputs: Tensor, expected: Tensor | None
) -> tuple[int, float]:
    if not len(inputs):
        return 0, 0.0
    if expected is None:
        engine = PackedSNN(packed)
        expected = torch.cat([engine(part) for part in inputs.split(_AT_ONCE)])
    given = logits(inputs)
    if given.shape != expected.shape or not bool(torch.isfinite(given).all()):
        raise FileFormatError(
            "the exported network gives no logits for every sample; nothing was written; please report this"
        )
    agreeing = int((given.argmax(1) == expected.argmax(1)).sum())
    return agreeing, float((given - expected).abs().max())


def _nir(packed: PackedNetwork, destination: Path, samples: Tensor, wishes: Wishes) -> _Written:
    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder, "network.nir")
        nir_write(aside, nir_graph(packed))
        graph, data = nir_read(aside), aside.read_bytes()

    def logits(inputs: Tensor) -> Tensor:
        parts = [nir_logits(graph, part) for part in inputs.split(_AT_ONCE)]
        return torch.cat(parts)

    return _Written({"": data}, logits, "Euler steps over the file's nodes", {})


def _onnx(packed: PackedNetwork, destination: Path, samples: Tensor, wishes: Wishes) -> _Written:
    data = onnx_bytes(packed, floats=wishes.onnx_floats, batch=wishes.batch)
    return _Written({"": data}, lambda inputs: torch.from_numpy(onnx_logits(data, inputs.numpy())), "ONNX Runtime", {})


def _c(packed: PackedNetwork, destination: Path, samples: Tensor, wishes: Wishes) -> _Written:
    program = c_build.compiler()
    if program is None and len(samples):
        raise UsageError(
            "the C export is compiled and run before it is written, and there is no C compiler here (Debian: apt install gcc; "
            "or name one in CC). `--samples 0` writes it unverified."
        )
    source = c_source(packed, destination.name, integer=wishes.integer, activity=_operations(packed, samples))
    sizes = {"tables": source.table_bytes, "ram": source.ram_bytes}
    measured_by = wishes.target_cc or program
    compiled = None
    if wishes.target_cc is not None:
        compiled = c_build.target_footprint(source, wishes.target_cc)
    elif program is not None:
        compiled = c_build.footprint(source, program=program)
    if compiled is not None:
        sizes |= {"flash": compiled.flash_bytes, "ram": compiled.static_bytes}

    def logits(inputs: Tensor) -> Tensor:
        assert program is not None
        fed = as_bytes(packed.about.input, inputs) if wishes.integer else inputs
        found = c_build.logits(source, fed.numpy(), len(packed.about.labels), program=program)
        return torch.from_numpy(np.array(found))

    files = {".h": source.header.encode("ascii"), ".c": source.source.encode("ascii")}
    by = None if compiled is None or measured_by is None else c_build.shown(measured_by)
    ran_on, stack = f"a program compiled by {c_build.shown(program or 'cc')}", compiled.stack if compiled else None
    return _Written(files, logits, ran_on, sizes, stack, by)


def _operations(packed: PackedNetwork, samples: Tensor) -> Activity:
    """Those of the first of `samples` [N, ...]; of none, the most that there can be."""
    if not len(samples):
        return most_activity(packed)
    samples = samples[:_COUNTED]
    return measure_activity(
        packed, [Batch(part, torch.zeros(len(part)), len(part)) for part in samples.split(_AT_ONCE)]
    )


FORMATS: dict[str, Callable[[PackedNetwork, Path, Tensor, Wishes], _Written]] = {"nir": _nir, "onnx": _onnx, "c": _c}
"""The forms by what `tna export --format` calls them."""
