"""`tna import`: a network in the Neuromorphic Intermediate Representation as a packed file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tnacli.cli import completion, options
from tnacli.cli.common import require_free
from tnacli.cli.console import Output, size_text

_LIBRARIES = ("spikingjelly", "snntorch", "norse", "sinabs")


def import_file(
    file: Annotated[Path, typer.Argument(help="A NIR file: of `tna export --format nir`, or of another library.")],
    to: Annotated[Path, typer.Option("--output", "-o", help="The packed file to write.")] = Path("model.safetensors"),
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
        str,
        typer.Option(
            "--encoding",
            help="2bit: four weights a byte. base3: five (1.6 bits each).",
            autocompletion=completion.words("2bit", "base3"),
        ),
    ] = "2bit",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the network in FILE as a packed file, if one can say it: hidden weights ternary or binary, one decay, resets to 0.

    What cannot be said is refused with the name of the first node. The packed network and the file's own nodes, stepped one by
    one, are compared on random inputs before anything is written; measure it on real ones with `tna evaluate` and --data.

    Examples:

      tna import digits.nir -o digits.safetensors

      tna import theirs.nir --made-by snntorch --timesteps 25 --data fashion_mnist -o fashion.safetensors
    """
    from tnacli.cli.loading import load_torch
    from tnacli.errors import FileFormatError, UsageError

    load_torch()
    from tnacli.deploy.from_checkpoint import ENCODINGS
    from tnacli.deploy.nir import nir_read
    from tnacli.importing.nir import Stated, network_from_nir
    from tnacli.packed.file import write_packed
    from tnacli.packed.network import layer_sizes
    from tnacli.packed.spec import Origin

    output = Output(as_json, quiet)
    if encoding not in ENCODINGS:
        raise UsageError(f"--encoding is one of {', '.join(ENCODINGS)}, not {encoding!r}")
    require_free([to], force=force)
    try:
        graph = nir_read(file)
    except FileNotFoundError:
        raise FileFormatError(f"{file}: no such file") from None
    except (OSError, KeyError, ValueError, AssertionError, AttributeError, TypeError) as error:
        raise FileFormatError(f"{file}: not a NIR file that the package nir can read: {error}") from None
    stated = Stated(
        Origin(data_set=data or "unknown", recipe="import", run=file.stem, seed=0, identity=""), made_by, dt, timesteps,
        labels=None if labels is None else tuple(labels.split(",")), taken=_taken(data, mean, std), encoding=ENCODINGS[encoding],
    )  # fmt: skip
    try:
        packed, compared = network_from_nir(graph, stated)
    except FileFormatError as error:
        raise FileFormatError(f"{file}: {error}") from None
    write_packed(to, packed)
    about = packed.about
    ternary = sum(row.weights for row in layer_sizes(packed) if row.encoding != "fp32")
    if as_json:
        from tnacli.cli.documents.files import Import

        output.document(
            Import(
                file=file, path=to, size_bytes=to.stat().st_size, weights=ternary,
                layers=tuple(layer.name for layer in about.layers), timesteps=about.timesteps, decay=about.neuron.decay,
                threshold=about.neuron.threshold, samples=compared.samples, agreeing=compared.agreeing, silent=compared.silent,
            )
        )  # fmt: skip
        return
    output.line(
        f"{to}: {size_text(to.stat().st_size)}; {ternary:,} ternary weights, T = {about.timesteps}, "
        f"decay {about.neuron.decay:g}; {compared.agreeing} of {compared.samples} random inputs predicted as by the file's nodes"
    )
    if compared.silent:
        output.warn(
            f"no neuron of {', '.join(compared.silent)} spiked on them, so that this shows little; look at real samples"
        )


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
