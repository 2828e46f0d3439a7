"""Runs spread over machines: the i-th of n shares of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tnacli.errors import UsageError
from tnacli.recipe.identity import Run
from tnacli.training.branches import stem_of


def shard(runs: Sequence[Run], text: str) -> tuple[Run, ...]:
    """The share `text`, `i/n` with i from 1 to n, of `runs`, by position: together the n shares are all runs, each once.

    Runs with the same teacher stay together, so that two machines never wait for the same one to be trained, and so do
    full-precision runs and the compressed ones that begin from their checkpoints, so that nothing is trained twice.
    Raises UsageError for text that is no share, or one that nothing is left for.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text!r} is no share; write I/N with I from 1 to N, such as 1/4")
    number, of, groups = int(match[1]), int(match[2]), pieces(runs)
    mine = groups[number - 1 :: of]
    if not mine:
        raise UsageError(
            f"--shard {text}: there are {len(groups)} pieces of work, so shares beyond {len(groups)} are empty"
        )
    chosen = {id(run) for group in mine for run in group}
    return tuple(run for run in runs if id(run) in chosen)


def pieces(runs: Sequence[Run]) -> list[list[Run]]:
    """`runs` in pieces of work that can be done apart: those that share something to be trained are one."""
    groups: list[tuple[set[str], list[Run]]] = []
    there = {run.identity for run in runs}
    for run in runs:
        needs, stem = {run.identity}, stem_of(run)
        if run.teacher is not None:
            needs.add(run.teacher.identity)
        if stem is not None and stem[0].identity in there:  # else no checkpoint is kept to begin from
            needs.add(stem[0].identity)
        linked = [group for group in groups if group[0] & needs]
        kept = linked[0] if linked else (set(), [])
        if not linked:
            groups.append(kept)
        for group in linked[1:]:  # joined by this run
            groups.remove(group)
            needs |= group[0]
            kept[1].extend(group[1])
        kept[0].update(needs)
        kept[1].append(run)
    return [members for _, members in groups]
