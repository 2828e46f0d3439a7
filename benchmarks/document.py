"""docs/performance.md from the files of results: `python -m benchmarks.document [--check]`.

The prose is in `benchmarks/performance.md.in`; each line `<!-- name -->` there is replaced by what was measured. Every
docs/performance/*.json is one machine.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Record
from benchmarks.peers import PEERS
from benchmarks.results import Results, measured, read
from benchmarks.suites import LIMIT, NOT_ON_CUDA
from benchmarks.targets import GPU_TARGETS, TARGETS, Finding, Target

ROOT = Path(__file__).parent.parent
TEMPLATE, FOLDER, PAGE = (
    Path(__file__).with_name("performance.md.in"),
    ROOT / "docs/performance",
    ROOT / "docs/performance.md",
)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def with_table(text: str, name: str, made: str) -> str:
    """A page's `text` with `made` between the marks of the table `name`; as it was if it lacks one of them."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{made}\n\n{end}", text, flags=re.DOTALL)


def _reason(record: Record) -> str:
    return f"skipped: {record['skipped']}" if "skipped" in record else f"failed: {record.get('failed', '')}"


def title(results: Results) -> str:
    """What a machine is called on the page: "AMD EPYC, AVX2", or its GPU."""
    facts = results.about["machine"]
    return str(facts.get("gpu", f"{facts['processor']}, {facts['capability']}"))


def targets(machines: Sequence[Results], wanted: Sequence[Target] = TARGETS) -> str:
    """Every target, and of each machine what was measured of it, and whether that meets it; then what else there is to say."""
    findings = [[target.judge(results) for results in machines] for target in wanted]
    rows = [
        [target.what, target.wanted, *(_verdict(finding) for finding in found)]
        for target, found in zip(wanted, findings, strict=True)
    ]
    parts = [table(["what", "target", *(title(results) for results in machines)], rows)]
    for number, results in enumerate(machines):
        remarks = [
            f"- {target.what}: {found[number].remark}"
            for target, found in zip(wanted, findings, strict=True)
            if found[number].remark
        ]
        parts.append(f"{title(results)}:\n\n" + "\n".join(remarks))
    return "\n\n".join(parts)


def _verdict(finding: Finding) -> str:
    return {True: f"{finding.text}: met", False: f"{finding.text}: **missed**", None: "not measured"}[finding.met]


def machine(results: Results) -> str:
    """Where and with what it was measured."""
    facts, load = results.about["machine"], results.about["load"]
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines = [
        f"- {facts.get('gpu', facts['processor'])}, {facts['cores']} cores, {facts['capability']}, {facts['memory_gb']} GB, "
        f"{facts['system']}; PyTorch on {facts['threads']} threads; compiled kernels: {facts['kernels']}.",
        f"- {versions}.",
        f"- {results.about['date']}, suite `{results.about['suite']}`; load average {load[0]:.1f} when it began, "
        f"{load[1]:.1f} when it ended, of which this run alone makes about {facts['threads']}.",
    ]
    return "\n".join(lines)


def agreement(results: Results) -> str:
    """How far each library's network is from tnacli's."""
    rows = []
    for record in results.find("agreement"):
        about = PEERS[record["name"]]
        numbers = [_reason(record), ""]
        if "logits" in record:
            numbers = [f"{record[of]:.1e}" for of in ("logits", "gradient")]
        rows.append([record["name"], *numbers, about.surrogate, about.note])
    columns = ["library", "largest difference of logits", "of gradients, relative", "surrogate gradient", "how"]
    return table(columns, rows)


def training(results: Results) -> str:
    """A table of steps for each size, precision and device."""
    sizes: list[tuple[Any, ...]] = []
    for record in results.find("training"):
        size = tuple(record[key] for key in ("width", "batch", "precision", "device"))
        if size not in sizes:
            sizes.append(size)
    sizes.sort(key=lambda size: (size[2] != "fp32", -size[0]))
    return "\n\n".join(_steps(results, size) for size in sizes)


def _steps(results: Results, size: tuple[Any, ...]) -> str:
    """The table of one width, batch, precision and device."""
    width, batch, precision, device = size
    key = {"width": width, "batch": batch, "precision": precision, "device": device}
    title = f"Width {width:g}, batch {batch}, {precision}, {device}:\n\n"
    records = [*results.find("training", **key), *results.find("co-training", **key)]
    if not measured(records):
        reasons = sorted({_reason(record) for record in records})
        return title + "; ".join(reasons) + "."
    limit = results.one("training", name=LIMIT, **key)
    # Its turns beside the limit, or else its best: no two pairs meet the same machine.
    ours = (limit or min(measured(records), key=lambda record: float(record["ours"]["min_ms"])))["ours"]
    rows = [_row(results, "tnacli", ours, ratio=1.0, limit=limit, key=key)]
    for record in records:
        if "ratio" in record:
            rows.append(_row(results, record["name"], record["theirs"], ratio=record["ratio"], limit=limit, key=key))
        else:
            rows.append([record["name"], _reason(record), "", "", "", ""])
    return title + table(["", "min ms", "median ms", "time x tnacli", "share of the limit", "memory MB"], rows)


def _row(results: Results, name: str, times: Record, *, ratio: float, limit: Record | None, key: Record) -> list[str]:
    memory = results.one("memory", task="training", name=name, **key)
    # Two networks have twice the limit's work.
    of_limit = "" if limit is None else f"{100 * limit['ratio'] / ratio * (2 if name == 'tnacli, TNA' else 1):.0f} %"
    mb = "" if memory is None else f"{memory['mb']:.0f}"
    return [name, f"{times['min_ms']:.0f}", f"{times['median_ms']:.0f}", f"{ratio:.2f}", of_limit, mb]


def evaluation(results: Results) -> str:
    """Engines beside the packed one."""
    rows = []
    for record in sorted(results.find("evaluation"), key=lambda r: "ratio" not in r):
        name = record["name"] + (" bf16" if record["precision"] == "bf16" else "")
        if "ratio" not in record:
            rows.append([name, _reason(record), "", "", "", "", ""])
            continue
        if not rows:
            rows.append([record["against"], *_times(record["ours"]), "1", "", "", _mb(results, record["against"])])
        same = f"{record['equal_predictions']} of {record['samples']}"
        memory = _mb(results, name)
        rows.append(
            [name, *_times(record["theirs"]), f"{record['ratio']:.2f}", same, f"{record['difference']:.1e}", memory]
        )
    works = results.find("evaluation")
    title = f"Width {works[0]['width']:g}, batch {works[0]['batch']}:\n\n" if works else ""
    columns = [
        "",
        "min ms",
        "median ms",
        "time x packed",
        "same predictions",
        "largest difference of logits",
        "memory MB",
    ]
    return title + table(columns, rows)


def _times(times: Record) -> list[str]:
    return [f"{times['min_ms']:.0f}", f"{times['median_ms']:.0f}"]


def _mb(results: Results, name: str) -> str:
    found = results.one("memory", task="evaluation", name=name)
    return "" if found is None else f"{found['mb']:.0f}"


def profile(results: Results) -> str:
    """Where the time of a step goes."""
    found = results.one("profile")
    if found is None:
        return "Not measured."
    title = f"tnacli at width {found['width']:g}, batch {found['batch']}, {found['ms']:.0f} ms a step under the profiler:\n\n"
    parts = [[name, f"{share:.1f}"] for name, share in found["parts"].items()]
    largest = ", ".join(f"`{name}` {share:.1f} %" for name, share in list(found["operators"].items())[:6])
    return title + table(["part", "% of the time"], parts) + f"\n\nThe largest operators by their own time: {largest}."


SECTIONS: dict[str, Callable[[Results], str]] = {
    "machine": machine,
    "agreement": agreement,
    "training": training,
    "evaluation": evaluation,
    "profile": profile,
}


def render(template: str, machines: Sequence[Results]) -> str:
    """The page: each `<!-- section -->` of the template with every CPU's results, `<!-- section of GPUs -->` with every GPU's."""
    kinds: dict[str, list[Results]] = {"": [], "GPUs": []}
    for results in machines:
        kinds["GPUs" if "gpu" in results.about["machine"] else ""].append(results)
    lines = []
    for line in template.splitlines():
        if line == "<!-- targets -->":
            lines.append(targets(kinds[""]))
        elif line == "<!-- targets of GPUs -->":
            lines.append(targets(kinds["GPUs"], GPU_TARGETS) if kinds["GPUs"] else "Not measured.")
        elif line == "<!-- not on CUDA -->":
            lines += [f"- {what}: {why}" for what, why in NOT_ON_CUDA.items()]
        elif line.startswith("<!-- ") and line.endswith(" -->"):
            section, _, kind = line[5:-4].partition(" of ")
            parts = [f"### {title(one)}\n\n{SECTIONS[section](one)}" for one in kinds[kind]]
            lines.append("\n\n".join(parts) or "Not measured.")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def page() -> str:
    """docs/performance.md as the files of results render to."""
    machines = [read(path) for path in sorted(FOLDER.glob("*.json"))]
    return render(TEMPLATE.read_text(encoding="utf-8"), machines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.document", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is not up to date")
    if parser.parse_args().check:
        if PAGE.read_text(encoding="utf-8") == page():
            return 0
        print(
            "docs/performance.md is not what its results render to; run `python -m benchmarks.document`",
            file=sys.stderr,
        )
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
