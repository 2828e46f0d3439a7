"""`tna evaluate`: the accuracy of checkpoints and packed files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnacli.cli import completion, options
from tnacli.cli.console import Output, duration_text, size_text

if TYPE_CHECKING:
    from tnacli.cli.documents.files import Evaluate
    from tnacli.cli.measured import Measured
    from tnacli.evaluation.energy import Activity

_SPLITS = ("test", "train", "validation")


def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Checkpoints (.pt), run folders and packed files (.safetensors), a row each."
        ),
    ],
    ternary: Annotated[
        bool,
        typer.Option(
            "--ternary",
            help="Evaluate with ternary weights: compress a full-precision checkpoint first, without training.",
        ),
    ] = False,
    delta: Annotated[
        float | None,
        typer.Option(
            "--delta",
            callback=options.above_zero,
            help="Delta of --ternary: weights from -Delta to +Delta become 0 (default: 0.1).",
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            help="test, train or validation.",
            autocompletion=completion.words(*_SPLITS),
        ),
    ] = "test",
    samples: options.Limit = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy", metavar="P", min=0, max=100, help="Exit with 6 if a file's accuracy is below P %."
        ),
    ] = None,
    network: Annotated[
        str, typer.Option("--network", help="Which network of a checkpoint: base, sibling1, ...")
    ] = "base",
    activity: Annotated[
        bool,
        typer.Option(
            "--activity", help="Also: silent and saturated channels, operations and energy by layer, beside an ANN."
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="With --activity: draw it, and one sample's spikes, into this .png, .svg or .pdf."),
    ] = None,
    mac_pj: Annotated[
        float | None,
        typer.Option(
            "--mac-pj", min=0, help="Where energy is shown: that of a multiply-accumulate in pJ (default: 4.6)."
        ),
    ] = None,
    addition_pj: Annotated[
        float | None,
        typer.Option("--addition-pj", min=0, help="Where energy is shown: that of an addition in pJ (default: 0.9)."),
    ] = None,
    timesteps: Annotated[
        str | None,
        typer.Option(
            "--timesteps",
            metavar="1..T",
            help="Also: accuracy, operations and energy after each, such as 1..4 or 1,2,4.",
        ),
    ] = None,
    exit_confidence: Annotated[
        float | None,
        typer.Option(
            "--exit-confidence",
            metavar="P",
            callback=options.share_above_zero,
            help="Also: stop each sample once its softmax reaches P (0 to 1): accuracy, timesteps, energy saved.",
        ),
    ] = None,
    memory_pj: Annotated[
        float | None,
        typer.Option(
            "--memory-pj", min=0, help="With --activity: energy of reading or writing 64 bits in pJ (default: 10)."
        ),
    ] = None,
    data_root: options.DataRoot = None,
    trust_build: options.TrustBuild = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 64,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate each FILE on the data set that it was trained on. A packed file needs neither checkpoint nor recipe.

    Examples:

      tna evaluate runs/quickstart/tna_t_snn-seed0-0123456789/last.pt

      tna evaluate last.pt model.safetensors

      tna evaluate model.safetensors --json --min-accuracy 90

      tna evaluate last.pt --ternary --split test --data-root ~/data

      tna evaluate model.safetensors --activity --plot activity.png

      tna evaluate model.safetensors --timesteps 1..4 --exit-confidence 0.9
    """
    from tnacli.cli.activity import draw, prices_asked_for
    from tnacli.cli.activity import show as show_activity
    from tnacli.cli.loading import load_torch
    from tnacli.cli.measured import measure_checkpoint, measure_packed
    from tnacli.cli.stopping import Stopping, measure_stopped, numbers_of, show_stopped
    from tnacli.errors import ToleranceError, UsageError
    from tnacli.storage import is_archive, network_file

    output = Output(as_json, quiet)
    if split not in _SPLITS:
        raise UsageError(f"--split is one of {', '.join(_SPLITS)}, not {split!r}")
    if delta is not None and not ternary:
        raise UsageError("--delta has no effect without --ternary")
    stopping = Stopping(None if timesteps is None else numbers_of(timesteps), exit_confidence)
    prices = prices_asked_for(
        activity, plot, mac_pj=mac_pj, addition_pj=addition_pj, memory_pj=memory_pj, by_timestep=bool(stopping)
    )
    if activity and len(files) > 1:
        raise UsageError("--activity shows one file; give them one at a time")
    files = [network_file(file) for file in files]
    checkpoints = [is_archive(file) for file in files]
    if device not in ("auto", "cpu") and not any(checkpoints):
        raise UsageError("a packed file runs on the CPU; --device applies to checkpoints")
    if not all(checkpoints):
        options.refuse_trust(trust_build)
        if network != "base":
            raise UsageError("a packed file holds one network; --network applies to checkpoints")
    if ternary and not any(checkpoints):
        raise UsageError("a packed file is ternary or binary already; --ternary applies to checkpoints")
    if any(checkpoints) or prices is not None:
        load_torch()
    from tnacli.evaluation.data import Selection

    selection = Selection(split, samples, data_root)
    records: list[Evaluate] = []
    for file, of_training in zip(files, checkpoints, strict=True):
        started = time.perf_counter()
        if of_training:
            measured = measure_checkpoint(
                file, selection, ternary=ternary, delta=delta, name=network, device=device, batch_size=batch_size,
                trusted=trust_build,
            )  # fmt: skip
        else:
            measured = measure_packed(file, selection, ternary=ternary, delta=delta, batch_size=batch_size)
        activities = None
        if prices is not None and activity:
            from tnacli.evaluation.activity import measure_activity

            activities = measure_activity(measured.network, measured.batches().epoch(0), prices)
            if plot is not None:
                title = f"{file.name}, {measured.about.data}"
                draw(plot, activities, network=measured.network, batches=measured.batches(), title=title)
        stopped = {} if prices is None else measure_stopped(measured, stopping, prices)
        seconds = time.perf_counter() - started
        record = _record(measured, split, seconds=seconds, min_accuracy=min_accuracy, activities=activities)
        records.append(record.model_copy(update=stopped))
        if ternary and not measured.compressed:
            output.say(f"{file} has ternary weights already; --ternary changes nothing there")
        if as_json:
            output.document(records[0] if len(files) == 1 else [*records])
    if not as_json:
        _table(output, records)
        if activities is not None:
            show_activity(output, activities)
        elif len(files) == 1 and measured.result.firing_rate:
            _rates(output, measured)
        for record in records:
            who = f"{record.file}: " if len(files) > 1 else ""
            show_stopped(output, record, who)
            if record.altered:
                output.say(f"{who}trained {'; '.join(record.altered)}")
            for note in record.notes:
                output.say(f"{who}{note}")
    low = [f"{r.file}: {r.accuracy:g} % on {r.split}" for r in records if r.enough is False]
    if low:
        raise ToleranceError(
            "\n".join([f"{len(low)} of {len(records)} files are below --min-accuracy {min_accuracy:g}:", *low])
        )


def _record(
    measured: Measured, split: str, *, seconds: float, min_accuracy: float | None, activities: Activity | None
) -> Evaluate:
    from tnacli.cli.documents.files import Evaluate

    result = measured.result
    return Evaluate.model_validate({
        **dict(measured.about), "split": split, "samples": result.samples, "accuracy": result.accuracy, "top5": result.top5,
        "loss": result.loss, "firing_rate": result.firing_rate, "seconds": seconds, "min_accuracy": min_accuracy,
        "enough": None if min_accuracy is None else result.accuracy >= min_accuracy,
        "activity": None if activities is None else activities.as_json(),
    })  # fmt: skip


def _table(output: Output, records: Sequence[Evaluate]) -> None:
    """A row a file; where all were evaluated on the same samples, the title says which."""
    split = records[0].split
    same = len({(r.data, r.samples) for r in records}) == 1 and output.stdout.is_terminal
    title = f"{records[0].data}: {records[0].samples} {split} samples" if same else ""
    columns = [
        "file",
        "weights",
        "size",
        *([] if same else ["data", "samples"]),
        f"{split} accuracy %",
        "top-5 %",
        "loss",
        "time",
    ]
    rows = [
        [r.file, r.weights, size_text(r.file.stat().st_size), *([] if same else [r.data, r.samples]),
         f"{r.accuracy:.2f}", f"{r.top5:.2f}", f"{r.loss:.4f}", duration_text(r.seconds)]
        for r in records
    ]  # fmt: skip
    output.table(title, columns, rows, right=("size", "samples", *columns[-4:]))


def _rates(output: Output, measured: Measured) -> None:
    from tnacli.packed.network import PackedNetwork

    network = measured.network
    spiking = isinstance(network, PackedNetwork) or network.model.spiking
    what = "firing rate" if spiking else "share above 0"
    rows = [[name, f"{rate:.4f}"] for name, rate in measured.result.firing_rate.items()]
    output.table("", ["layer", what], rows, right=(what,))
