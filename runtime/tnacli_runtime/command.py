"""The command `tna-run`: what a packed network takes samples for."""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tnacli_runtime.errors import (
    DataError,
    DeviceError,
    Interrupted,
    StorageError,
    TnaError,
    UsageError,
    ran_out_of_memory,
)
from tnacli_runtime.likeliest import likeliest, probabilities
from tnacli_runtime.model import load
from tnacli_runtime.samples import read
from tnacli_runtime.version import __version__

_COLUMNS = ["sample", "rank", "label", "class", "probability", "logit"]
_Row = tuple[str, int, str, int, float, float]
_EXITS = "Exit codes: 0 done, 1 a bug, 2 usage, 4 data, 5 device, 8 damaged or unsupported file, 130 interrupted."


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run `tna-run` with `words`, those of this process if None, and exit with its code."""
    try:
        _say(_predict(_parser().parse_args(words)))
    except TnaError as error:
        _end(error)
    except KeyboardInterrupt:
        _end(Interrupted("interrupted"))
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        _end(DeviceError(f"out of memory: {error or 'Python was given no more'}. Take fewer samples at once."))
    sys.exit(0)


def _say(text: str) -> None:
    """Write `text` to stdout. Raises StorageError if it cannot be written; who reads may have seen enough."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is tried again at the end
        if not isinstance(error, BrokenPipeError):
            raise StorageError(f"stdout cannot be written: {error.strerror or error}") from None


def _end(error: TnaError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "tna-run", description="Runs the packed files of tnacli, on NumPy alone.", epilog=_EXITS
    )
    parser.add_argument("--version", action="version", version=f"tna-run {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    predict = commands.add_parser(
        "predict", help="say what a network takes samples for", epilog=_EXITS,
        description="Say what the network in FILE takes each sample for. Probabilities are the softmax of the logits.",
    )  # fmt: skip
    predict.add_argument("file", metavar="FILE", type=Path, help="a packed file, as `tna export` writes")
    predict.add_argument(
        "samples", metavar="SAMPLES", type=Path, nargs="+",
        help="arrays of NumPy (.npy), of one sample or several along the first axis: pixels from 0 to 255, or numbers of events; "
        "and images, with Pillow",
    )  # fmt: skip
    predict.add_argument("--top", metavar="K", type=int, default=1, help="the K likeliest classes of each sample")
    predict.add_argument("--csv", action="store_true", help=f"print CSV: {', '.join(_COLUMNS)}")
    values = predict.add_mutually_exclusive_group()
    values.add_argument("--unit", action="store_true", help="arrays hold floats: pixels from 0 to 1")
    values.add_argument("--normalised", action="store_true", help="arrays hold floats, mean and std applied already")
    return parser


def _predict(asked: argparse.Namespace) -> str:
    """What is printed: a table, or CSV."""
    model = load(asked.file)
    if not 1 <= asked.top <= len(model.labels):
        raise UsageError(f"--top {asked.top}: from 1 to the {len(model.labels)} classes of {asked.file}")
    rows: list[_Row] = []
    for path in asked.samples:
        names, samples, done = read(path, model, marked=asked.unit or asked.normalised)
        for change in done:
            print(f"{path}: {change}", file=sys.stderr)
        try:
            logits = model(samples, unit=asked.unit, normalised=asked.normalised)
        except DataError as error:
            said = str(error).replace("unit=True", "--unit").replace("normalised=True", "--normalised")
            raise DataError(f"{path}: {said}") from None
        shares = probabilities(logits)
        for name, row, share, order in zip(names, logits, shares, likeliest(logits, asked.top).tolist(), strict=True):
            rows += [
                (name, rank, model.labels[i], i, float(share[i]), float(row[i]))
                for rank, i in enumerate(order, start=1)
            ]
    return _csv(rows) if asked.csv else _table(rows, ranked=asked.top > 1)


def _csv(rows: list[_Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((*row[:4], f"{row[4]:.6g}", f"{row[5]:.9g}") for row in rows)
    return text.getvalue()


def _table(rows: list[_Row], *, ranked: bool) -> str:
    lines = [["sample", "rank", "label", "probability %", "logit"]]
    lines += [
        [name, str(rank), label, f"{100 * share:.2f}", f"{logit:.4f}"] for name, rank, label, _, share, logit in rows
    ]
    right = [False, True, False, True, True]
    if not ranked:
        lines, right = [[line[0], *line[2:]] for line in lines], [right[0], *right[2:]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ""
    for line in lines:
        cells = zip(line, widths, right, strict=True)
        text += "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in cells).rstrip() + "\n"
    return text
