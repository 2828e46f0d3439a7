"""`tna predict`: what a network takes one's own images or recordings for."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnacli.cli import options
from tnacli.cli.console import Output

if TYPE_CHECKING:
    from tnacli.cli.documents.predict import Guess, Predict, Prediction
    from tnacli.data.source import OnProgress
    from tnacli.deploy.predictor import Predictor


def predict(
    file: Annotated[
        Path,
        typer.Argument(help="A packed file (.safetensors), a checkpoint (.pt), the folder of a run, or an ONNX file."),
    ],
    samples: Annotated[
        list[Path],
        typer.Argument(metavar="SAMPLE...", help="Images or recordings, and folders that hold some, also in folders."),
    ],
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="The K likeliest classes of each sample.")] = 1,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV to stdout: sample, rank, label, class, probability, logit.")
    ] = False,
    trust_build: options.TrustBuild = None,
    batch_size: options.BatchSize = 64,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what FILE takes each SAMPLE for. Samples are read as those of its data set were; what was done to them is said.

    Probabilities are the softmax of the logits, as in training. On the CPU.

    Examples:

      tna predict digits.safetensors photo.png

      tna predict runs/quickstart/tna_t_snn-seed0-0123456789 scans/ --top 3

      tna predict digits.onnx scans/ --csv > labels.csv
    """
    from tnacli.cli.data_view import DataView
    from tnacli.data.folders import passed_over_note
    from tnacli.data.own_samples import sample_files
    from tnacli.errors import UsageError
    from tnacli.storage import is_archive, network_file

    output = Output(as_json, quiet)
    if as_csv and as_json:
        raise UsageError("--csv and --json both replace the table; give one of them")
    network = network_file(file)
    if is_archive(network):
        from tnacli.cli.loading import load_torch

        load_torch()
    else:
        options.refuse_trust(trust_build)
    from tnacli.deploy.predictor import load_predictor

    predictor = load_predictor(network, trusted=trust_build)
    if top > len(predictor.labels):
        raise UsageError(f"--top {top} is more than the {len(predictor.labels)} classes of {network}")
    wanted = predictor.wanted
    found, passed_over = sample_files(samples, wanted.suffixes)
    with DataView(output) as view:
        show: OnProgress = view.show if output.live else lambda *_: None
        predictions, done = _predictions(predictor, found, top=top, batch_size=batch_size, on_progress=show)
    notes = [f"{what}: {_of(number, len(found))}" for what, number in done.items()]
    notes += passed_over_note([str(path) for path in passed_over], wanted.kind)
    if as_json:
        output.document(_document(network, predictor, predictions=predictions, notes=notes))
        return
    for note in notes:
        output.say(note)
    if as_csv:
        _csv(output, predictions)
    else:
        _table(output, predictions, top)


def _predictions(
    predictor: Predictor, files: list[Path], *, top: int, batch_size: int, on_progress: OnProgress
) -> tuple[list[Prediction], Counter[str]]:
    """What the network takes each of `files` for, and what was done to how many of them."""
    from tnacli.cli.documents.predict import Guess, Prediction
    from tnacli.data.folders import readable
    from tnacli.likeliest import likeliest, probabilities

    predictions: list[Prediction] = []
    done: Counter[str] = Counter()
    for start in range(0, len(files), batch_size):
        on_progress("predicting", start, len(files))
        paths = files[start : start + batch_size]
        inputs, changes = predictor.wanted.batch(paths)
        for change in changes:
            done.update(change)
        logits = predictor.logits(inputs)
        shares = probabilities(logits)
        best = likeliest(logits, top)
        for path, row, share, order in zip(paths, logits, shares, best.tolist(), strict=True):
            guesses = [
                Guess(label=predictor.labels[i], index=i, probability=float(share[i]), logit=float(row[i]))
                for i in order
            ]
            predictions.append(Prediction(sample=readable(str(path)), top=guesses))
    return predictions, done


def _of(number: int, there: int) -> str:
    return ("the sample" if there == 1 else f"all {there:,}") if number == there else f"{number:,} of {there:,}"


def _document(file: Path, predictor: Predictor, *, predictions: list[Prediction], notes: list[str]) -> Predict:
    from tnacli.cli.documents.predict import Predict

    origin, spec = predictor.origin, predictor.input
    return Predict(
        file=file, kind=predictor.kind, data=origin.data_set, recipe=origin.recipe, run=origin.run, seed=origin.seed,
        input=f"{spec.kind} {spec.channels}x{spec.size[0]}x{spec.size[1]}", classes=predictor.labels,
        notes=tuple(notes), predictions=predictions,
    )  # fmt: skip


def _rows(predictions: list[Prediction]) -> list[tuple[str, int, Guess]]:
    return [(one.sample, rank, guess) for one in predictions for rank, guess in enumerate(one.top, start=1)]


def _csv(output: Output, predictions: list[Prediction]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sample", "rank", "label", "class", "probability", "logit"])
    for sample, rank, guess in _rows(predictions):
        writer.writerow([sample, rank, guess.label, guess.index, f"{guess.probability:.6g}", f"{guess.logit:.9g}"])
    output.stdout.file.write(text.getvalue())


def _table(output: Output, predictions: list[Prediction], top: int) -> None:
    ranked = top > 1
    rows = [
        [sample, *([rank] if ranked else []), guess.label, f"{100 * guess.probability:.2f}",
         f"{guess.logit:.4f}"]
        for sample, rank, guess in _rows(predictions)
    ]  # fmt: skip
    columns = ["sample", *(["rank"] if ranked else []), "label", "probability %", "logit"]
    output.table("", columns, rows, right=("rank", "probability %", "logit"))
