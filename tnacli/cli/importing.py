"""`tna import`: a network in the Neuromorphic Intermediate Representation as a packed file or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tnacli.cli import completion, options
from tnacli.cli.common import require_free
from tnacli.cli.console import Output, size_text

if TYPE_CHECKING:
    from tnacli.importing.nir import Compared, Graph

_LIBRARIES = ("spikingjelly", "snntorch", "norse", "sinabs")


def import_file(
    file: Annotated[Path, typer.Argument(help="A NIR file: of `tna export --format nir`, or of another library.")],
    to: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write: NAME.pt is a checkpoint, every other name a packed file (default: model.safetensors, "
            "or model.pt where weights are in full precision).",
            show_default=False,
        ),
    ] = None,
    timesteps: Annotated[
        int | None,
        typer.Option(
            "--timesteps",
            min=1,
            max=1000,
            help="T, the steps of a sample (default: what the file says).",
            show_default=False,
        ),
    ] = None,
    made_by: Annotated[
        str | None,
        typer.Option(
            "--made-by",
            help="The library whose exporter wrote the file, which says how its equations become steps: "
            f"{', '.join(_LIBRARIES)} (default: tnacli, or NIR's definition in Euler steps of 0.0001 s).",
            autocompletion=completion.words(*_LIBRARIES),
            show_default=False,
        ),
    ] = None,
    dt: Annotated[
        float | None,
        typer.Option(
            "--dt",
            callback=options.above_zero,
            help="Seconds of a step (default: as --made-by has it).",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="NAME", help="The data set that it is for: its shape and how its pixels are normalised."
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            "--mean", metavar="M,...", help="By channel, of pixels from 0 to 1, where --data does not say it."
        ),
    ] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="S,...", help="The standard deviation, likewise.")] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="NAME,...", help="The classes (default: what the file says, or 0,1,...)."),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            help="Of a packed file. 2bit (default): four weights a byte. base3: five (1.6 bits each).",
            autocompletion=completion.words("2bit", "base3"),
            show_default=False,
        ),
    ] = None,
    data_root: options.DataRoot = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the network in FILE as a packed file or a checkpoint: LIF neurons that are reset to 0.

    A packed file has ternary or binary hidden weights. A checkpoint has any, with one decay for all neurons, for
    `tna evaluate`, `tna ternarize` and `train.initial`; where --data is there, its training samples give batch norms their
    statistics, so that training begins where the network is.

    What cannot be said is refused with the name of the first node. What is written and the file's own nodes, stepped one by
    one, are compared on random inputs first; measure it on real ones with `tna evaluate` and --data.

    Examples:

      tna import digits.nir -o digits.safetensors

      tna import theirs.nir --made-by snntorch --timesteps 25 --data fashion_mnist -o fashion.safetensors

      tna import theirs.nir --made-by norse --timesteps 25 --data nmnist -o nmnist.pt
    """
    from tnacli.cli.loading import load_torch
    from tnacli.errors import FileFormatError, NetworkError, UsageError

    load_torch()
    from tnacli.deploy.from_checkpoint import ENCODINGS
    from tnacli.deploy.nir import nir_read
    from tnacli.importing.checkpoint import run_name
    from tnacli.importing.layers import threshold
    from tnacli.importing.nir import Stated, read_graph
    from tnacli.packed.spec import Origin

    output = Output(as_json, quiet)
    if encoding is not None and encoding not in ENCODINGS:
        raise UsageError(f"--encoding is one of {', '.join(ENCODINGS)}, not {encoding!r}")
    if to is not None:
        require_free([to], force=force)
    try:
        graph = nir_read(file)
    except FileNotFoundError:
        raise FileFormatError(f"{file}: no such file") from None
    except (OSError, KeyError, ValueError, AssertionError, AttributeError, TypeError) as error:
        raise FileFormatError(f"{file}: not a NIR file that the package nir can read: {error}") from None
    origin = Origin(data_set=data or "unknown", recipe="import", run=run_name(file.stem), seed=0, identity="")
    stated = Stated(
        origin, made_by, dt, timesteps, labels=None if labels is None else tuple(labels.split(",")),
        taken=_taken(data, mean, std),
    )  # fmt: skip
    try:
        found = read_graph(graph, stated)
    except FileFormatError as error:
        raise FileFormatError(f"{file}: {error}") from None
    if to is None:
        to = Path("model.safetensors" if found.full_precision is None else "model.pt")
        require_free([to], force=force)
    kind: Literal["checkpoint", "packed"] = "checkpoint" if to.suffix.lower() == ".pt" else "packed"
    if kind == "checkpoint":
        if encoding is not None:
            raise UsageError(f"--encoding applies to packed files, and {to} is a checkpoint")
        done = _write_checkpoint(output, found, to, data_root)
    else:
        if found.full_precision is not None:
            raise NetworkError(
                f"the weights of {found.full_precision} are in full precision, and a packed file has ternary or binary ones; "
                f"-o {to.with_suffix('.pt')} makes a checkpoint, for tna ternarize"
            )
        done = _write_packed(found, to, ENCODINGS[encoding or "2bit"])
    ternary, compared = done
    if as_json:
        from tnacli.cli.documents.files import Import

        output.document(
            Import(
                file=file, path=to, kind=kind, size_bytes=to.stat().st_size,
                weights=ternary, layers=tuple(layer.name for layer in found.layers), timesteps=found.reading.timesteps,
                decay=found.layers[0].neurons.decay, threshold=threshold(found.layers[0].neurons), samples=compared.samples,
                agreeing=compared.agreeing, silent=compared.silent,
            )
        )  # fmt: skip
        return
    weights = f"{ternary:,} ternary weights" if ternary else "weights in full precision"
    output.line(
        f"{to}: {size_text(to.stat().st_size)}; {weights}, T = {found.reading.timesteps}, decay "
        f"{found.layers[0].neurons.decay:g}; {compared.agreeing} of {compared.samples} random inputs predicted as by the file's "
        f"nodes"
    )
    if compared.silent:
        output.warn(
            f"no neuron of {', '.join(compared.silent)} spiked on them, so that this shows little; look at real samples"
        )


def _write_packed(found: Graph, to: Path, encoding: str) -> tuple[int, Compared]:
    """The number of its ternary weights, and how it compared."""
    from tnacli.importing.nir import packed_of
    from tnacli.packed.file import write_packed
    from tnacli.packed.network import layer_sizes

    packed, compared = packed_of(found, encoding)
    write_packed(to, packed)
    return sum(row.weights for row in layer_sizes(packed) if row.encoding != "fp32"), compared


def _write_checkpoint(output: Output, found: Graph, to: Path, data_root: str | None) -> tuple[int, Compared]:
    from tnacli.importing.checkpoint import checkpoint_of
    from tnacli.training.checkpoint import save_checkpoint

    checkpoint, compared, seen = checkpoint_of(found, data_root)
    save_checkpoint(to, checkpoint)
    if not seen:
        name = checkpoint.metadata.data.name
        output.warn(
            f"{name} is not there: batch norms have no statistics of it, and training would begin elsewhere than the network is "
            f"now; --data-root says where it is"
        )
    return 0, compared


def _taken(data: str | None, mean: str | None, std: str | None) -> dict[str, object] | None:
    """What is said of the inputs, by the keys of `tnacli.packed.spec.InputSpec`; None if nothing is."""
    from tnacli.errors import UsageError
    from tnacli.recipe.datasets import DATASETS

    if (mean is None) != (std is None):
        raise UsageError("--mean and --std belong together")
    if data is not None and data not in DATASETS:
        raise UsageError(f"--data {data}: not one of {', '.join(DATASETS)}")
    found: dict[str, object] = {}
    if data is not None:
        spec = DATASETS[data]
        found = {"kind": spec.kind, "mean": spec.mean, "std": spec.std}
        if spec.channels is not None and spec.size is not None:
            found |= {"channels": spec.channels, "size": spec.size}
    try:
        for name, text in (("mean", mean), ("std", std)):
            if text is not None:
                found[name] = tuple(map(float, text.split(",")))
    except ValueError:
        raise UsageError("--mean and --std are numbers with commas between them") from None
    return found or None
