"""`tna evaluate`: the accuracy of a checkpoint or a packed file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tnacli.cli import completion, options
from tnacli.cli.console import Output, duration_text, size_text

if TYPE_CHECKING:
    from tnacli.data.batches import Batches
    from tnacli.evaluation.accuracy import Evaluation
    from tnacli.evaluation.energy import Activity, Prices
    from tnacli.packed.document import Document
    from tnacli.packed.model import PackedNetwork
    from tnacli.recipe.data_section import Data
    from tnacli.snn.network import Network

    Measured = tuple[dict[str, Any], Evaluation, Network | PackedNetwork, Batches]


def evaluate(
    file: Annotated[Path, typer.Argument(help="A checkpoint (.pt) or a packed file (.safetensors).")],
    ternary: Annotated[
        bool,
        typer.Option(
            "--ternary",
            help="Evaluate with ternary weights: compress a full-precision checkpoint first, without training.",
        ),
    ] = False,
    delta: Annotated[
        float | None,
        typer.Option("--delta", min=0, help="Delta of --ternary: weights within ± this become 0 (default: 0.1)."),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            help="test, train or validation.",
            autocompletion=completion.words("test", "train", "validation"),
        ),
    ] = "test",
    samples: options.Limit = None,
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
        typer.Option("--mac-pj", min=0, help="With --activity: energy of a multiply-accumulate in pJ (default: 4.6)."),
    ] = None,
    addition_pj: Annotated[
        float | None,
        typer.Option("--addition-pj", min=0, help="With --activity: energy of an addition in pJ (default: 0.9)."),
    ] = None,
    data_root: options.DataRoot = None,
    trust_build: options.TrustBuild = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 64,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate FILE on the data set that it was trained on. A packed file needs neither checkpoint nor recipe.

    Examples:

      tna evaluate runs/quickstart/tna_t_snn-seed0-0123456789/last.pt

      tna evaluate model.safetensors --json

      tna evaluate last.pt --ternary --split test --data-root ~/data

      tna evaluate model.safetensors --activity --plot activity.png
    """
    from tnacli.cli.common import require_network
    from tnacli.errors import UsageError
    from tnacli.evaluation.samples import SPLITS
    from tnacli.training.checkpoint import is_checkpoint

    output = Output(as_json, quiet)
    if split not in SPLITS:
        raise UsageError(f"--split is one of {', '.join(SPLITS)}, not {split!r}")
    if delta is not None and not ternary:
        raise UsageError("--delta has no effect without --ternary")
    prices = _prices(activity, plot, mac_pj, addition_pj)
    require_network(file)
    started = time.perf_counter()
    if is_checkpoint(file):
        about, result, measured, batches = _checkpoint(
            file, ternary, delta or 0.1, split, samples, network, data_root, device, batch_size, trust_build
        )
    else:
        options.refuse_trust(trust_build)
        if network != "base":
            raise UsageError("a packed file holds one network; --network applies to checkpoints")
        about, result, measured, batches = _packed(output, file, split, samples, data_root, batch_size)
    activities = None if prices is None else _activity(measured, batches, prices)
    if plot is not None and activities is not None:
        _draw(plot, activities, measured, batches, f"{file.name}, {about['data']}")
    seconds = time.perf_counter() - started
    record: dict[str, Any] = {
        "command": "evaluate", "version": 1, "file": str(file), **about, "split": split, "samples": result.samples,
        "accuracy": result.accuracy, "top5": result.top5, "loss": result.loss, "firing_rate": result.firing_rate,
        "seconds": seconds,
    }  # fmt: skip
    if activities is not None:
        record |= {"activity": activities.as_json()}
    if as_json:
        output.document(record)
        return
    output.table(
        "",
        ["file", "weights", "size", "data", "split", "samples", "accuracy %", "top-5 %", "loss", "time"],
        [[file, about["weights"], size_text(file.stat().st_size), about["data"], split, result.samples,
          f"{result.accuracy:.2f}", f"{result.top5:.2f}", f"{result.loss:.4f}", duration_text(seconds)]],
        right=("size", "samples", "accuracy %", "top-5 %", "loss", "time"),
    )  # fmt: skip
    if activities is not None:
        _show(output, activities)
    elif result.firing_rate:
        from tnacli.snn.network import Network

        spiking = not isinstance(measured, Network) or measured.model.spiking
        what = "firing rate" if spiking else "share above 0"
        rows = [[name, f"{rate:.4f}"] for name, rate in result.firing_rate.items()]
        output.table("", ["layer", what], rows, right=(what,))
    if about["altered"]:
        output.say(f"trained {'; '.join(about['altered'])}")


def _checkpoint(
    file: Path, ternary: bool, delta: float, split: str, samples: int | None, name: str, data_root: str | None,
    device: str, batch_size: int, trusted: str | None,
) -> Measured:  # fmt: skip
    from tnacli.errors import UsageError
    from tnacli.evaluation.accuracy import evaluate_network
    from tnacli.exporting import checkpoint_batches
    from tnacli.quant.weights import compress, compression_mode
    from tnacli.recipe.compression_section import Ternary
    from tnacli.training.checkpoint import load_checkpoint, restore_network
    from tnacli.training.device import resolve_device

    checkpoint = load_checkpoint(file)
    if name not in checkpoint.networks():
        raise UsageError(f"{file} has no network {name!r}; it has {', '.join(checkpoint.networks())}")
    restored = restore_network(checkpoint, name, trusted=trusted, source=str(file))
    mode = compression_mode(restored)
    if ternary and mode == "binary":
        raise UsageError(f"{file} has binary weights; --ternary applies to full-precision or ternary checkpoints")
    if ternary and mode is None:
        compress(restored, Ternary(delta=delta), refuse_silent=True)
    target = resolve_device(device)
    batches = checkpoint_batches(
        checkpoint, split=split, samples=samples, data_root=data_root, batch_size=batch_size, device=target
    )
    about = checkpoint.about
    facts = {
        "kind": "checkpoint", "network": name, "weights": compression_mode(restored) or "fp32", "data": about["data"]["name"],
        "recipe": about["recipe"], "run": about["run"], "seed": about["seed"], "altered": about["altered"],
        "epoch": about["state"]["epoch"], "device": str(target),
    }  # fmt: skip
    restored.to(target)
    return facts, evaluate_network(restored, batches.epoch(0)), restored, batches


def _packed(
    output: Output, file: Path, split: str, samples: int | None, data_root: str | None, batch_size: int
) -> Measured:
    from tnacli.evaluation.accuracy import measure
    from tnacli.evaluation.samples import evaluation_batches
    from tnacli.packed.engine import PackedSNN
    from tnacli.packed.file import read_packed

    packed = read_packed(file)
    about = packed.about
    batches = evaluation_batches(
        _data(file, about), about.timesteps, classes=about.labels,
        channels=about.input.channels, mean=about.input.mean, std=about.input.std, split=split, samples=samples,
        data_root=data_root, batch_size=batch_size,
    )  # fmt: skip
    engine = PackedSNN(packed)
    for layer, reason in engine.fallbacks.items():
        output.say(f"{layer} runs in fp32: {reason}")
    facts = {
        "kind": "packed", "network": "base", "weights": "binary" if any(layer.binary for layer in about.layers) else "ternary",
        "data": about.origin.data_set, "recipe": about.origin.recipe, "run": about.origin.run, "seed": about.origin.seed,
        "altered": list(about.origin.altered), "device": "cpu",
    }  # fmt: skip
    return facts, measure(engine, batches.epoch(0)), packed, batches


def _data(file: Path, about: Document) -> Data:
    """The samples that the run of a packed file was measured on."""
    from pydantic import ValidationError

    from tnacli.errors import FileFormatError
    from tnacli.packed.document import explain
    from tnacli.recipe.data_section import Data

    origin = about.origin
    try:
        return Data(
            name=origin.data_set, size=about.input.size, format=origin.format, binning=origin.binning, sensor=origin.sensor,
            test_samples=origin.test_samples,
        )  # fmt: skip
    except ValidationError as error:
        raise FileFormatError(
            f"{file}: does not say on which data to evaluate it: {explain(error)}. Use tnacli.load to run it on your own samples."
        ) from None


def _prices(activity: bool, plot: Path | None, mac_pj: float | None, addition_pj: float | None) -> Prices | None:
    """What operations cost, or None if nobody asked; refuses options that would have no effect, and a plot that cannot be."""
    from tnacli.errors import UsageError

    given = {"--plot": plot, "--mac-pj": mac_pj, "--addition-pj": addition_pj}
    idle = [name for name, value in given.items() if value is not None]
    if not activity:
        if idle:
            raise UsageError(f"{idle[0]} has no effect without --activity")
        return None
    from tnacli.evaluation.activity_plot import PICTURES, require_matplotlib
    from tnacli.evaluation.energy import Prices

    if plot is not None:
        if plot.suffix.lower()[1:] not in PICTURES:
            raise UsageError(f"--plot writes .{', .'.join(PICTURES)} files, not {plot.name!r}")
        require_matplotlib()
    standard = Prices()
    return Prices(
        standard.mac_pj if mac_pj is None else mac_pj, standard.addition_pj if addition_pj is None else addition_pj
    )


def _activity(network: Network | PackedNetwork, batches: Batches, prices: Prices) -> Activity:
    from tnacli.evaluation.activity import measure_activity

    return measure_activity(network, batches.epoch(0), prices)


def _draw(plot: Path, activity: Activity, network: Network | PackedNetwork, batches: Batches, title: str) -> None:
    from tnacli.evaluation.activity_plot import draw_activity
    from tnacli.evaluation.trace import threshold_of, trace
    from tnacli.storage import write_atomically

    sample = next(iter(batches.epoch(0))).inputs[0]
    picture = draw_activity(
        activity, trace(network, sample), threshold_of(network), plot.suffix.lower()[1:], title=title
    )
    write_atomically(plot, picture)


def _show(output: Output, activity: Activity) -> None:
    def share(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}"

    rows = [
        [layer.name, "" if layer.firing_rate is None else f"{layer.firing_rate:.4f}", share(layer.silent),
         share(layer.saturated), f"{layer.macs:,.0f}", f"{layer.additions:,.0f}", f"{layer.additions_nonzero:,.0f}",
         f"{layer.energy_pj(activity.prices) / 1000:,.2f}", f"{layer.ann_macs:,.0f}",
         f"{layer.ann_macs * activity.prices.mac_pj / 1000:,.2f}"]
        for layer in activity.layers
    ]  # fmt: skip
    totals = [f"{activity.total(of):,.0f}" for of in ("macs", "additions", "additions_nonzero")]
    rows.append(
        ["sum", "", "", "", *totals, f"{activity.energy_nj:,.2f}", f"{activity.total('ann_macs'):,.0f}",
         f"{activity.ann_energy_nj:,.2f}"]
    )  # fmt: skip
    columns = ["layer", "firing rate", "silent %", "saturated %", "MACs", "additions", "of weights not 0", "energy nJ",
               "ANN MACs", "ANN nJ"]  # fmt: skip
    output.table("", columns, rows, right=columns[1:])
    output.say(
        f"operations and energy of one sample, on average over {activity.samples}; {activity.prices.mac_pj:g} pJ a MAC, "
        f"{activity.prices.addition_pj:g} pJ an addition; arithmetic alone, no memory access"
    )
