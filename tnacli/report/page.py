"""A self-contained HTML page of a recipe or a run: tables, curves, shares of ternary weights, spike activity.

Pictures are inline SVG, styles are inside; nothing is fetched, nothing is executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from tnacli.report.cells import Cell, named_apart
from tnacli.report.curves import METRICS, curves, last_epoch_table, missing_curves
from tnacli.report.difference_plot import Line
from tnacli.report.difference_plot import svg as drawn_differences
from tnacli.report.plots import svg
from tnacli.report.settings import settings_table
from tnacli.report.table import Table
from tnacli.report.tables import accuracy_table, twin_table

_CSS = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 76rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } .quiet { color: #555; font-size: .88rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem }
.n, .whole { white-space: nowrap }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top }
th { border-bottom: 2px solid #888 } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.bar { display: inline-flex; width: 16rem; height: .95rem; border: 1px solid #888; vertical-align: middle; background: #fff }
.bar i { display: block; height: 100% } .neg { background: #21618c } .zero { background: #eee } .pos { background: #e08e2b }
.rate { background: #555 } svg { max-width: 100%; min-width: 44rem; height: auto }
@media (prefers-color-scheme: dark) {
  body { color: #e4e4e4; background: #161616 } .quiet { color: #aaa } th, td { border-color: #3a3a3a }
  svg { background: #fff; border-radius: 4px } .zero { background: #555 } .bar { background: #161616 } .rate { background: #bbb }
  .neg { background: #5b9bd0 }
}
@media print { body { margin: 0 } h2 { break-after: avoid } }
"""

_SIGNS = {"negative": "neg", "zero": "zero", "positive": "pos"}


def page(
    title: str, description: str, cells: Sequence[Cell], effects: Sequence[Table] = (), *,
    lines: Mapping[str, Sequence[Line]], made_by: str,
) -> str:  # fmt: skip
    """The page as text, with the tables of `effects` and the picture of their `lines`, if there are any.

    `made_by` says which program wrote it.

    Raises UsageError without matplotlib.
    """
    found = curves(cells)
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(description)}</p>" if description else ""]
    split = cells[0].split
    parts.append(_table(accuracy_table(cells, title=f"{split.capitalize()} accuracy")))
    twins = twin_table(cells)
    if twins is not None:
        parts.append(_table(twins))
    parts += [_table(table) for table in effects]
    if lines:
        parts.append(f'<div class="wide">{drawn_differences(lines, split=split)}</div>')
    if found:
        parts += ["<h2>Training curves</h2>", f'<div class="wide">{svg(found, list(METRICS))}</div>']
        parts.append('<p class="quiet">Mean over the finished seeds, or those begun while none is finished; bands span '
                     "their range. Dashed upright line: the weights are compressed.</p>")  # fmt: skip
        if missing := [f"{cell.name}: {why}" for cell, why in missing_curves(cells)]:
            parts.append(f'<p class="quiet">Without a curve: {escape("; ".join(missing))}.</p>')
        parts.append(_table(last_epoch_table(cells, "Last epoch")))
    else:
        parts.append("<p>No run has finished an epoch yet.</p>")
    parts += _layers(cells)
    parts += [_settings(cells), "<h2>Runs</h2>", _runs(cells), f'<p class="quiet">{escape(made_by)}</p>']
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _settings(cells: Sequence[Cell]) -> str:
    """The settings that all runs share, and those in which they differ from the first."""
    cells = named_apart(cells)
    return _table(settings_table(cells, cells[0], "Settings"))


def _table(table: Table) -> str:
    table = table.for_people()
    heads = "".join(f"<th{_n(column.number)}>{escape(column.title)}</th>" for column in table.columns)
    rows = "".join(
        "<tr>"
        + "".join(f"<td{_n(c.number)}>{_whole(cell)}</td>" for cell, c in zip(row, table.columns, strict=True))
        + "</tr>\n"
        for row in table.texts()
    )
    notes = "".join(f"<li>{_whole(note)}</li>" for note in table.notes)
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody>\n'
        f'</table></div>\n<ul class="quiet">{notes}</ul>'
    )


def _whole(text: str) -> str:
    """`text` for HTML, in which no word with a number, such as 1e-2, -0.5 or 2026-11-25, is broken at its hyphen."""
    return re.sub(r"\S{0,20}-\d\S{0,20}", lambda word: f'<span class="whole">{word[0]}</span>', escape(text))


def _n(number: bool) -> str:
    return ' class="n"' if number else ""


def _layers(cells: Sequence[Cell]) -> Iterator[str]:
    """Shares and firing rates by layer, of the first seed that has any, at the last epoch that has them."""
    shares, rates = (
        [(cell, row) for cell in cells if (row := _last_row(cell, key)) is not None]
        for key in ("shares", "firing_rate")
    )
    if shares:
        yield "<h2>Shares of compressed weights by layer</h2>"
        yield ('<p class="quiet"><span class="bar" style="width:2rem"><i class="neg" style="width:100%"></i></span> -1 &nbsp; '
               '<span class="bar" style="width:2rem"><i class="zero" style="width:100%"></i></span> 0 &nbsp; '
               '<span class="bar" style="width:2rem"><i class="pos" style="width:100%"></i></span> +1; '
               "first seed, last epoch</p>")  # fmt: skip
        yield _bars([
            (cell.name, layer, "".join(_bit(kind, share[key]) for key, kind in _SIGNS.items()),
             " / ".join(f"{100 * share[key]:.1f}" for key in _SIGNS))
            for cell, row in shares for layer, share in row["shares"].items()
        ], "-1 / 0 / +1 in %")  # fmt: skip
    if rates:
        yield "<h2>Spike activity by layer</h2>"
        yield '<p class="quiet">Spikes a neuron and timestep of the base, first seed, last epoch evaluated.</p>'
        yield _bars([
            (cell.name, layer, _bit("rate", rate), f"{rate:.3f}")
            for cell, row in rates for layer, rate in row["firing_rate"].items()
        ], "firing rate")  # fmt: skip


def _last_row(cell: Cell, key: str) -> dict[str, Any] | None:
    """The last epoch that has values by layer under `key`."""
    for seed in (*cell.results, *cell.folders):
        rows = [row for row in cell.folders[seed].metrics() if row[key]]
        if rows:
            return rows[-1]
    return None


def _bit(kind: str, share: float) -> str:
    return f'<i class="{kind}" style="width:{100 * share:.2f}%"></i>'


def _bars(rows: Sequence[tuple[str, str, str, str]], heading: str) -> str:
    """One bar a layer; the run is named beside its first layer only."""
    lines = []
    for number, (run, layer, bar, numbers) in enumerate(rows):
        shown = "" if number and rows[number - 1][0] == run else escape(run)
        lines.append(
            f'<tr><td>{shown}</td><td>{escape(layer)}</td><td><span class="bar">{bar}</span></td>'
            f'<td class="n">{numbers}</td></tr>'
        )
    head = f'<tr><th>run</th><th>layer</th><th></th><th class="n">{escape(heading)}</th></tr>'
    return f'<div class="wide"><table><thead>{head}</thead><tbody>\n' + "\n".join(lines) + "\n</tbody></table></div>"


def _runs(cells: Sequence[Cell]) -> str:
    """Where each number comes from: identity, data, versions, folder."""
    lines = []
    for cell in cells:
        for seed, folder in cell.folders.items():
            begun = folder.begun
            known = ("", "", "") if begun is None else (
                begun.identity, f"{begun.data.name} ({begun.data.source})",
                ", ".join(f"{name} {number}" for name, number in begun.versions if number is not None),
            )  # fmt: skip
            values = [cell.name, seed, folder.status, *known, folder.path]
            lines.append("<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in values) + "</tr>")
    heads = "".join(f"<th>{name}</th>" for name in ("run", "seed", "status", "identity", "data", "versions", "folder"))
    return (
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )
