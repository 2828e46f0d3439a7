"""`tna export`: a ternary or binary checkpoint as a packed file, NIR, ONNX or C, verified first; a packed file as the others."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnacli.cli import completion, options
from tnacli.cli.common import require_free
from tnacli.cli.console import Output, size_text

if TYPE_CHECKING:
    from tnacli.deploy.c_stack import Stack
    from tnacli.deploy.formats import Deployed

_NAMES = {"packed": "model.safetensors", "nir": "model.nir", "onnx": "model.onnx", "c": "tna_net"}
_ENDINGS = {".safetensors": "packed", ".nir": "nir", ".onnx": "onnx", ".c": "c", ".h": "c"}


def export(
    file: Annotated[
        Path,
        typer.Argument(help="A checkpoint with ternary or binary weights, the folder of its run, or a packed file."),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write, or a folder for it (FOLDER/ makes it); for c the name of both files without .h and .c "
            "(default: model.safetensors, model.nir, model.onnx, tna_net).",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="packed: tnacli's own file. nir, onnx, c: for other programs and devices "
            "(default: what the name of -o ends in says, else packed).",
            autocompletion=completion.words(*_NAMES),
            show_default=False,
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            help="Of a packed file. 2bit (default): four weights a byte. base3: five weights a byte (1.6 bits each).",
            autocompletion=completion.words("2bit", "base3"),
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", min=0, help="Compare predictions on this many test samples (default: all); 0: weights alone."
        ),
    ] = None,
    integer: Annotated[
        bool, typer.Option("--integer", help="C that computes in whole numbers alone: smaller, and near the network.")
    ] = False,
    max_different: Annotated[
        float | None,
        typer.Option(
            "--max-different",
            min=0,
            max=100,
            help="Write nothing if more predictions differ, in % (default: 1, and 2 with --integer; one always may).",
            show_default=False,
        ),
    ] = None,
    vectors: Annotated[
        int,
        typer.Option(
            "--vectors",
            min=0,
            help="Of c: write the first N test samples too, with spikes, logits and classes, as C, .npz, .mem and .json.",
            show_default=False,
        ),
    ] = 0,
    target_cc: Annotated[
        str | None,
        typer.Option(
            "--target-cc",
            help='Of c: say flash, RAM and stack as compiled by this, say "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb".',
            show_default=False,
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Of c: write what makes a library of the folder for cmake, arduino or zephyr, too.",
            autocompletion=completion.words("cmake", "arduino", "zephyr"),
            show_default=False,
        ),
    ] = None,
    onnx_ops: Annotated[
        str | None,
        typer.Option(
            "--onnx-ops",
            help="Of onnx: integer (default), or float for runtimes without ConvInteger, such as OpenCV's.",
            autocompletion=completion.words("integer", "float"),
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", min=1, help="Of onnx: a fixed number of samples at once (default: any).", show_default=False
        ),
    ] = None,
    data_root: options.DataRoot = None,
    trust_build: options.TrustBuild = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write FILE in another form. Every weight, and the predictions on real samples, are compared before it appears.

    Examples:

      tna export runs/quickstart/tna_t_snn-seed0-0123456789/last.pt -o digits.safetensors

      tna export last.pt -o small.safetensors --encoding base3 --data-root ~/data

      tna export last.pt --format c -o firmware/digits

      tna export last.pt --format c --integer --max-different 1.5 -o firmware/digits

      tna export last.pt --format c --for cmake -o firmware/digits

      tna export last.pt -o digits.onnx --json

      tna export digits.safetensors --format nir -o exported/
    """
    from tnacli.cli.loading import load_torch
    from tnacli.errors import UsageError

    load_torch()
    from tnacli.deploy.formats import Wishes, destinations
    from tnacli.deploy.from_packed import deploy_packed
    from tnacli.evaluation.data import Selection
    from tnacli.exporting import ENCODINGS, FORMATS, deploy_checkpoint, export_checkpoint
    from tnacli.packed.file import read_packed
    from tnacli.storage import is_archive, network_file

    output = Output(as_json, quiet)
    meant = None if to is None else _ENDINGS.get(Path(to).suffix.lower())
    form = form or meant or "packed"
    if form not in _NAMES:
        raise UsageError(f"--format is one of {', '.join(_NAMES)}, not {form!r}")
    if encoding is not None and form != "packed":
        raise UsageError(f"--encoding applies to packed files; --format {form} stores weights in its own way")
    if encoding is not None and encoding not in ENCODINGS:
        raise UsageError(f"--encoding is one of {', '.join(ENCODINGS)}, not {encoding!r}")
    if integer and form != "c":
        raise UsageError(f"--integer applies to --format c, not {form}")
    if vectors and (form != "c" or samples == 0):
        raise UsageError(
            "--vectors applies to --format c, verified on test samples: not to other forms and --samples 0"
        )
    if target_cc is not None and form != "c":
        raise UsageError(f"--target-cc applies to --format c, not {form}")
    if project is not None and form != "c":
        raise UsageError(f"--for applies to --format c, not {form}")
    if onnx_ops not in (None, "integer", "float"):
        raise UsageError(f"--onnx-ops is integer or float, not {onnx_ops!r}")
    if (onnx_ops is not None or batch is not None) and form != "onnx":
        raise UsageError(f"--onnx-ops and --batch apply to --format onnx, not {form}")
    if max_different is not None and form == "packed":
        raise UsageError("--max-different has no effect on packed files, whose predictions all have to be equal")
    if meant not in (None, form):
        raise UsageError(f"{to} is a name of --format {meant}, and this writes --format {form}; give one that fits")
    destination = _destination(to, form)
    wishes = Wishes(
        None if max_different is None else max_different / 100, integer, vectors, target_cc, project=project,
        onnx_floats=onnx_ops == "float", batch=batch,
    )  # fmt: skip
    require_free(destinations(form, destination, wishes), force=force)
    source = network_file(file)
    of_training = is_archive(source)
    if not of_training and form == "packed":
        read_packed(source)  # what is no packed file either is refused for that
        raise UsageError(
            f"{source} is no checkpoint: --format packed is made of those, c, nir and onnx of packed files too"
        )
    if not of_training:
        options.refuse_trust(trust_build)
    if form in FORMATS:
        if of_training:
            deployed = deploy_checkpoint(
                source, destination, form, samples=samples, data_root=data_root, trusted=trust_build, wishes=wishes
            )
        else:
            selection = Selection("test", samples, data_root)
            deployed = deploy_packed(source, destination, form, selection=selection, wishes=wishes)
        if as_json:
            from tnacli.cli.documents.files import OtherExport

            values = dataclasses.asdict(deployed)
            output.document(OtherExport(file=source, format=values.pop("form"), integer=integer, **values))
        else:
            _show(output, deployed, integer)
        return
    encoding = encoding or "2bit"
    done = export_checkpoint(
        source, destination, encoding=encoding, samples=samples, data_root=data_root, trusted=trust_build
    )
    if as_json:
        from tnacli.cli.documents.files import PackedExport

        output.document(PackedExport.model_validate({"file": source, "encoding": encoding, **dataclasses.asdict(done)}))
        return
    compared = _compared(done.weights, done.agreeing, done.samples)
    if done.accuracy is not None:
        compared += f", test accuracy {done.accuracy:.2f} %"
    output.line(f"{destination}: {size_text(done.size_bytes)}; verified: {compared}")


def _destination(to: str | None, form: str) -> Path:
    """Where to write: in a folder under the usual name; for c without an ending, as it stands for two files."""
    name = Path(_NAMES[form])
    if to is None:
        return name
    path = Path(to)
    if to.endswith(("/", os.sep)) or path.is_dir():
        return path / name
    return path.with_suffix("") if form == "c" and path.suffix in (".c", ".h") else path


def _show(output: Output, deployed: Deployed, integer: bool) -> None:
    compared = _compared(deployed.weights, deployed.agreeing, deployed.samples, integer=integer)
    if deployed.samples:
        compared += f" when run by {deployed.ran_on}"
    files = ", ".join(map(str, deployed.paths))
    output.line(f"{files}: {size_text(deployed.size_bytes)}; verified: {compared or 'nothing'}")
    sizes, stack = deployed.memory_bytes, deployed.stack
    if sizes:
        compiled = f"code and constants, compiled by {deployed.compiled_by}"
        meaning = {"flash": compiled, "tables": "constants alone", "ram": "static buffers"}
        parts = [f"{meaning[key]} {sizes[key]:,} bytes" for key in meaning if key in sizes]
        output.line("memory: " + ", ".join(parts if stack is None else [*parts, _stack_text(stack)]))


def _compared(weights: int, agreeing: int, samples: int, *, integer: bool = False) -> str:
    """What was compared before a file was written; "" for nothing."""
    parts = [f"{weights:,} weights equal"] if weights else []
    if samples:
        differing = samples - agreeing
        why = f", {differing / samples:.2%} different" if integer else " (the others are a matter of rounding)"
        parts.append(f"{agreeing} of {samples} predictions equal{why if differing else ''}")
    return ", ".join(parts)


def _stack_text(stack: Stack) -> str:
    least = f"stack {stack.size_bytes:,} bytes or more, since {stack.unbounded}"
    text = f"stack at most {stack.size_bytes:,} bytes" if stack.unbounded is None else least
    if stack.library is None:
        return f"{text} and those of the compiler's library, if it is called"
    names = stack.library if len(stack.library) < 4 else (f"{len(stack.library)} functions of the compiler's library",)
    return f"{text} and those of {', '.join(names)}" if names else text
