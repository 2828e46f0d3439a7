"""What `benchmarks.forms` measures of the quickstart's network, and the tables of README.md and docs/deployment.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.document import with_table
from tnacli.cli.console import size_text
from tnacli.evaluation.energy import Prices

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "deployment.md")
RECORD = ROOT / "docs" / "forms.json"

FLOATS = Prices()
WHOLE = Prices(mac_pj=0.3, addition_pj=0.1)
"""Of whole numbers, from the same source: a multiplication of 8 bits 0.2 pJ, an addition of 32 bits 0.1 pJ."""


@dataclass(frozen=True)
class Form:
    """A form as the tables call it, in words and as an option; None of the page that leaves it out.

    `hidden_bits` and `outer_bits` are those of a weight that is read, of the hidden layers, and of the first and the readout.
    """

    words: str
    option: str | None
    hidden_bits: int
    outer_bits: int = 32
    prices: Prices = FLOATS


FORMS = {
    "checkpoint": Form("checkpoint, with optimiser and twin", "checkpoint (PyTorch)", 32),
    "packed": Form("packed, 2 bits", "`packed`", 2),
    "onnx": Form("ONNX, integer (ONNX Runtime)", "`onnx`", 8),
    "onnx float": Form("ONNX, float", "`onnx --onnx-ops float`", 32),
    "nir": Form("NIR (our own steps)", "`nir`", 32),
    "c": Form("C, compiled", "`c`", 2),
    "c integer": Form("C, whole numbers", "`c --integer`", 2, 8, WHOLE),
    "fp32": Form("for comparison: in full precision (`tna`)", None, 32),
    "ann": Form("for comparison: the same layers as an ANN", None, 32),
}


@dataclass(frozen=True)
class Outcome:
    """One form: bytes of its files, times in ms, equal predictions, energy of a digit in nJ, alone and with memory."""

    form: str
    energy_nj: float
    with_memory_nj: float
    size_bytes: int | None = None
    single_ms: float | None = None
    batch_ms: float | None = None
    agreeing: int | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None


def recorded() -> tuple[dict[str, Any], list[Outcome]]:
    """What docs/forms.json says of the machine, and the forms in their order."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    return record["machine"], [Outcome(**outcome) for outcome in record["outcomes"]]


def tables(about: dict[str, Any], outcomes: list[Outcome]) -> dict[str, str]:
    """By its name in the pages, each table."""
    return {"forms": _in_words(outcomes), "forms by option": _by_option(about, outcomes)}


def _in_words(outcomes: list[Outcome]) -> str:
    lines = [
        "| form | size | one digit | each, in a batch of 360 | energy a digit | with memory |",
        "|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        words, size = FORMS[o.form].words, "" if o.size_bytes is None else size_text(o.size_bytes)
        if o.flash_bytes is not None and o.ram_bytes is not None:
            words, size = f"{words}: {size_text(o.flash_bytes)} flash, {size_text(o.ram_bytes)} RAM", f"{size} source"
        batch = "" if o.batch_ms is None else f"{1000 * o.batch_ms:.0f} µs"
        cells = [words, size, "" if o.single_ms is None else f"{o.single_ms:.2f} ms", batch]
        lines.append(
            f"| {' | '.join([*cells, f'{o.energy_nj:.0f} nJ', f'{o.with_memory_nj:.0f} nJ'])} |".replace("  ", " ")
        )
    return "\n".join(lines)


def _by_option(about: dict[str, Any], outcomes: list[Outcome]) -> str:
    lines = [
        "| form | files | one digit alone | in a batch of 360 | predictions equal | nJ a digit | nJ with memory |",
        "|---|---|---|---|---|---|---|",
    ]
    notes = {
        "checkpoint": ", with Adam's state and the twin",
        "packed": " (2bit)",
        "c": " of text",
        "c integer": " of text",
    }
    for o in outcomes:
        option = FORMS[o.form].option
        if option is None or o.size_bytes is None or o.single_ms is None:
            continue
        single = f"{o.single_ms:.3f} ms (`gcc -O2`)" if o.flash_bytes is not None else f"{o.single_ms:.2f} ms"
        batch = "" if o.batch_ms is None else f"{o.batch_ms:.3f} ms"
        equal = "" if o.agreeing is None else f"{o.agreeing} of 360"
        files = f"{size_text(o.size_bytes)}{notes.get(o.form, '')}"
        cells = [option, files, single, batch, equal, f"{o.energy_nj:.1f}", f"{o.with_memory_nj:.1f}"]
        lines.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    versions = about["versions"]
    lines += [
        "",
        f"Time a digit on one core of an {about['processor']}, maybe with other work: the shortest of 30 runs (100 for single",
        f"digits; C: of 30 runs over the 360 digits). PyTorch {versions['torch']}, ONNX Runtime {versions['onnxruntime']}, "
        f"{about['compiler']}.",
    ]
    return "\n".join(lines)


def page(text: str, about: dict[str, Any], outcomes: list[Outcome]) -> str:
    """A page's `text` with the tables that it has marks for."""
    for name, made in tables(about, outcomes).items():
        text = with_table(text, name, made)
    return text
