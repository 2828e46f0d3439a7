"""`python -m benchmarks`: tnacli beside other libraries and beside the hardware's limit.

Contenders take turns in one process, A B A B, so that a drifting machine slows both; ratios are medians over neighbouring
turns. Peak memory is measured in a process of its own. A peer that is not installed is left out with its reason
(the extra `bench` brings them), and one that fails costs its own row alone. With --json, results are kept after
every measurement, so that a suite may be cut off; a whole one begins the file anew. With --only or --match what is measured again
takes the place of the old results there, and --missing measures what they lack.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Measurement, Record, measured, prepare
from benchmarks.results import Results, read
from benchmarks.suites import KINDS, NOT_ON_CUDA, SUITES, evaluated, plan
from benchmarks.worker import Worker

_PIPE_WIDTH = 200
SLOW_BF16 = "this device has no bf16 arithmetic that is faster than fp32; ask with --precision bf16"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--suite",
        choices=SUITES,
        default="quick",
        help="quick: two minutes; full: a quarter of an hour, on two quiet cores",
    )
    parser.add_argument("--only", nargs="+", choices=KINDS, metavar="KIND", help=f"only these of: {', '.join(KINDS)}")
    parser.add_argument("--match", default="", metavar="TEXT", help="only contenders whose name holds TEXT")
    parser.add_argument("--missing", action="store_true", help="only what the file given by --json has no results of")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:1")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("fp32", "bf16"),
        help="default: fp32, and bf16 where the device is good at it",
    )
    parser.add_argument(
        "--json",
        type=Path,
        help="keep results in this file, or in a folder under the processor's name; the page shows docs/performance",
    )
    return parser.parse_args()


def main() -> None:
    arguments, began = _arguments(), time.monotonic()
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)  # rich cuts tables to 80 in a pipe
    with Worker() as worker:
        machine = worker.call("machine", arguments.device)
    if arguments.json and arguments.json.is_dir():
        arguments.json /= file_name(machine)
    results = _begun(arguments, machine)
    with tempfile.TemporaryDirectory() as folder:
        chosen = _chosen(arguments, machine, Path(folder), results)
        if any({"evaluation", "process"} & {what.key["kind"], what.key.get("task")} for what in chosen):
            prepare([evaluated(arguments.suite, arguments.device, Path(folder))], console.log)
        for number, what in enumerate(chosen, 1):
            record = measured(what)
            results.add(record)
            results.about["load"][1] = os.getloadavg()[0]
            if arguments.json:
                results.write(arguments.json)
            place = f"[{number}/{len(chosen)}, {time.monotonic() - began:.0f} s] "
            console.print(place + _line(record), markup=False, soft_wrap=True)
    _show(console, results, [what.key for what in chosen])
    if arguments.device != "cpu":
        console.print(*(f"not there: {what}: {why}" for what, why in NOT_ON_CUDA.items()), sep="\n", markup=False)


def file_name(machine: dict[str, Any]) -> str:
    """Of the results of a machine: "amd-epyc-avx512.json", or its GPU's name."""
    words = re.findall(r"[a-z0-9]+", str(machine.get("gpu", f"{machine['processor']} {machine['capability']}")).lower())
    return "-".join(words) + ".json"


def _begun(arguments: argparse.Namespace, machine: dict[str, Any]) -> Results:
    """The results that this run adds to: those of the file if it measures a part again, else none."""
    file, load, results = arguments.json, os.getloadavg()[0], Results({})
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        if (arguments.only or arguments.match or arguments.missing) and file.exists():
            results = read(file)
    if results.about and results.about["machine"] != machine:
        sys.exit(f"{file} holds results of another machine or other versions; give another file, or move it away")
    results.about = {
        "date": datetime.date.today().isoformat(), "suite": results.about.get("suite", arguments.suite), "machine": machine,
        "load": [load, load],
    }  # fmt: skip
    return results


def _chosen(
    arguments: argparse.Namespace, machine: dict[str, Any], folder: Path, results: Results
) -> list[Measurement]:
    """What is to be measured; bf16 that nobody asked for and the device is slow at is noted in `results` as skipped."""
    precisions = arguments.precision or (["fp32", "bf16"] if machine["fast_bf16"] else ["fp32"])
    if not arguments.precision and "bf16" not in precisions:
        for what in plan(arguments.suite, arguments.device, ["bf16"], folder):
            if what.key.get("precision") == "bf16" and what.key["kind"] in ("training", "evaluation"):
                results.add({**what.key, "skipped": SLOW_BF16})
    return [
        what
        for what in plan(arguments.suite, arguments.device, precisions, folder)
        if (not arguments.only or what.key["kind"] in arguments.only)
        and arguments.match in what.key["name"]
        and not (arguments.missing and results.one(**what.key))
    ]


def _size(record: Record) -> str:
    if "width" not in record:
        return ""
    return f"width {record['width']:g}, batch {record['batch']}, {record['precision']}, {record['device']}"


def _answer(record: Record) -> str:
    if "skipped" in record:
        return f"skipped: {record['skipped']}"
    if "failed" in record:
        return f"failed: {record['failed']}"
    kind = record["kind"]
    if kind == "memory":
        return f"{record['mb']:.0f} MB"
    if kind == "agreement":
        return f"logits differ by {record['logits']:.1e}, gradients by {record['gradient']:.1e}"
    if kind == "profile":
        return ", ".join(f"{name} {share:.0f} %" for name, share in list(record["parts"].items())[:4])
    if kind == "process":
        return f"{record['min_ms'] / 1000:.2f} s, median {record['median_ms'] / 1000:.2f} s"
    same = f", {record['equal_predictions']} of {record['samples']} predictions the same" if "samples" in record else ""
    return f"{record['ratio']:.2f} times the time of {record['against']}{same}"


def _line(record: Record) -> str:
    return " | ".join(part for part in (record["kind"], record["name"], _size(record), _answer(record)) if part)


def _show(console: Console, results: Results, keys: list[Record]) -> None:
    """A table for each kind and size, in the order of measuring."""
    tables: dict[str, Table] = {}
    for key in keys:
        for record in results.find(**key):
            title = ", ".join(part for part in (record["kind"], _size(record)) if part)
            if title not in tables:
                tables[title] = Table(title=title, title_justify="left")
                for column in ("", "min ms", "median ms", "result"):
                    tables[title].add_column(column, justify="right" if column.endswith("ms") else "left")
            times: dict[str, Any] = record.get("theirs", record)
            shown = [f"{times[name]:.1f}" if name in times else "" for name in ("min_ms", "median_ms")]
            tables[title].add_row(record["name"], *shown, _answer(record))
    for table in tables.values():
        console.print(table)


if __name__ == "__main__":
    main()
