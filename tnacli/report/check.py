"""What `tna report --check` makes of results: which numbers and effects were judged, and what fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tnacli.errors import ToleranceError
from tnacli.report.cells import Cell
from tnacli.report.effects import LEAST_SEEDS, Effect
from tnacli.report.table import Column, text


@dataclass(frozen=True)
class Numbers:
    """How many accuracies the paper gives, how many of ours were judged, and how many of these are within their tolerance."""

    given: int
    judged: int
    within: int


@dataclass(frozen=True)
class Effects:
    """How many effects the recipes name, how many were judged, and with which verdict."""

    given: int
    judged: int
    hold: int
    not_shown: int
    contradicted: int


@dataclass(frozen=True)
class Thresholds:
    """How many accuracies the recipes themselves ask for, how many were judged, and how many of these are reached."""

    given: int
    judged: int
    reached: int


@dataclass(frozen=True)
class Counts:
    """What was judged."""

    numbers: Numbers
    effects: Effects
    thresholds: Thresholds


def counts(cells: Sequence[Cell], effects: Sequence[Effect]) -> Counts:
    """How many numbers and effects the paper gives and thresholds the recipes, how many were judged, and with which outcome."""
    within = [cell.within for cell in cells if cell.within is not None]
    verdicts = [effect.verdict for effect in effects]
    reached = [cell.reached for cell in cells if cell.reached is not None]
    return Counts(
        Numbers(given=sum(cell.paper is not None for cell in cells), judged=len(within), within=sum(within)),
        Effects(
            given=len(verdicts), judged=len(verdicts) - verdicts.count(None), hold=verdicts.count("holds"),
            not_shown=verdicts.count("not shown"), contradicted=verdicts.count("contradicted"),
        ),
        Thresholds(given=sum(cell.threshold is not None for cell in cells), judged=len(reached), reached=sum(reached)),
    )  # fmt: skip


def check(cells: Sequence[Cell], effects: Sequence[Effect]) -> str:
    """A line that says what was judged. Raises ToleranceError unless all that was holds, or if nothing was.

    What holds: numbers within their tolerance, accuracies at the recipe's own thresholds, effects with the verdict `holds`, and
    results of one data and precision in every mean and difference.
    """
    found = counts(cells, effects)
    numbers, judged, thresholds = found.numbers, found.effects, found.thresholds
    outside = [
        f"{cell.recipe}: {cell.name} is {cell.difference:+.2f} points from the paper's {cell.paper:g} %, allowed are "
        f"±{cell.tolerance:g}" + (f" ({'; '.join(cell.marks)})" if cell.marks else "")
        for cell in cells
        if cell.within is False
    ]
    below = [
        f"{cell.recipe}: {cell.name} reaches {cell.accuracy.mean:.2f} %, and thresholds asks for {cell.threshold:g} %"
        for cell in cells
        if cell.reached is False and cell.accuracy is not None
    ]
    fallen = [_fallen(effect) for effect in effects if effect.verdict not in (None, "holds")]
    apart = [f"{cell.recipe}: {cell.name}: {cell.mixed}" for cell in cells if cell.mixed]
    apart += [
        f"{effect.first.recipe}: {effect.name}: {effect.conflict}"
        for effect in effects
        if effect.conflict and not (effect.first.mixed or effect.second.mixed)
    ]
    titles = []
    if outside:
        titles.append(f"{len(outside)} of {numbers.judged} judged numbers lie outside their tolerance")
    if below:
        titles.append(f"{len(below)} of {thresholds.judged} judged thresholds are not reached")
    if fallen:
        titles.append(f"{len(fallen)} of {judged.judged} judged effects do not hold")
    if apart:
        titles.append("results of different data or precision have no mean and no difference")
    if titles:
        lines = dict.fromkeys((*outside, *below, *fallen, *apart))
        raise ToleranceError("\n".join([f"{'; '.join(titles)}:", *lines]))
    if not numbers.given and not judged.given and not thresholds.given:
        raise ToleranceError(
            "nothing to check: these recipes name no number of the paper (`reproduces`) and none of their own (`thresholds`)"
        )
    none = [
        f"{one.given} {what}"
        for what, one in (("numbers", numbers), ("effects", judged))
        if one.given and not one.judged
    ]
    if thresholds.judged < thresholds.given:
        raise ToleranceError(
            f"{thresholds.given - thresholds.judged} of {thresholds.given} thresholds could not be judged: seeds asked for are "
            f"missing, or have no mean"
        )
    if (judged.given and not judged.judged) or not (numbers.judged or judged.judged or thresholds.judged):
        raise ToleranceError(
            f"none of {' and none of '.join(none)} could be judged: a number takes every seed of the recipe, "
            f"finished, and the paper's setting (no --with, --set or --seed that asks for something else); an effect takes "
            f"every seed asked for, at least {LEAST_SEEDS}, finished in both of its runs"
        )
    said = []
    if numbers.given:
        within = ", all within tolerance" if numbers.judged else ""
        said.append(f"{numbers.judged} of {numbers.given} numbers were judged{within}")
    if thresholds.given:
        said.append(
            f"{thresholds.given} thresholds are reached" if thresholds.given > 1 else "the threshold is reached"
        )
    if judged.given:
        said.append(f"{judged.judged} of {judged.given} effects were judged, and hold")
    return "; ".join(said)


_POINTS = Column("points", "", signed=True)
_P = Column("p", "", 4)


def _fallen(effect: Effect) -> str:
    ours: Any = effect.ours
    paper = "no difference" if effect.margin is not None else text(effect.paper, _POINTS)
    return (
        f"{effect.first.recipe}: {effect.name} is {effect.verdict}: {text(ours.difference.mean, _POINTS)} points "
        f"({text(ours.interval, _POINTS)}, p {text(ours.p_t, _P)}, Holm {text(effect.p_holm, _P)}), the paper has {paper}; "
        f"{ours.difference.count} seeds of this spread could show {ours.smallest:.2f}"
    )
