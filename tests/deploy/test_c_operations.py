"""What the header of exported C says of operations: the numbers of `tna evaluate --activity`, or what there can be at most."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Tna
from tests.deploy.conftest import Quickstart
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.data.batches import Batch
from tnacli.deploy import c_build, formats
from tnacli.deploy.c import c_source
from tnacli.evaluation.activity import measure_activity, most_activity

_ROW = re.compile(r" \*   (\w+) +([\d,]+) +([\d,]+) +([\d,]+)\n")


def said(header: str) -> dict[str, tuple[int, ...]]:
    """By layer: multiply-adds, additions of weights that are not 0, and all of them."""
    return {name: tuple(int(count.replace(",", "")) for count in counts) for name, *counts in _ROW.findall(header)}


def counted(activity: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The same of a document of --activity."""
    rows = [*activity["layers"], {"name": "sum", **activity}]
    return {row["name"]: tuple(round(row[of]) for of in ("macs", "additions_nonzero", "additions")) for row in rows}


@pytest.mark.skipif(c_build.compiler() is None, reason="no C compiler on this machine")
@pytest.mark.parametrize("samples", [["--samples", "7"], []], ids=["seven", "all"])
@pytest.mark.parametrize("integer", [[], ["--integer"]], ids=["floats", "whole numbers"])
def test_a_header_says_what_evaluate_counts(
    tna: Tna, quickstart: Quickstart, tmp_path: Path, samples: list[str], integer: list[str]
) -> None:
    bound = ["--max-different", "100"] if integer else []
    done = tna("export", quickstart.checkpoint, "--format", "c", "-o", tmp_path / "net", *samples, *integer, *bound)
    assert done.code == 0, done.err
    header = (tmp_path / "net.h").read_text()
    of_checkpoint = tna("evaluate", quickstart.checkpoint, "--activity", *samples, "--json").json
    of_packed = tna("evaluate", quickstart.file, "--activity", *samples, "--json").json
    assert said(header) == counted(of_packed["activity"]) == counted(of_checkpoint["activity"])
    assert list(said(header)) == ["conv1", "conv2", "fc1", "readout", "sum"]
    assert f"on average over {of_packed['samples']} samples:" in header


def test_without_samples_a_header_says_what_there_can_be_at_most(
    tna: Tna, quickstart: Quickstart, tmp_path: Path
) -> None:
    assert tna("export", quickstart.file, "--format", "c", "-o", tmp_path / "net", "--samples", "0").code == 0
    header = (tmp_path / "net.h").read_text()
    assert "counts them, at most (every neuron spikes at every timestep):" in header
    # T = 4; a kernel of 3x3 meets 100 of 144 places of a 4x4 map, the rest lies beyond its border.
    weights = quickstart.packed.weights
    nonzero = 4 * int((weights["fc1"].values() != 0).sum())
    assert said(header)["conv2"][::2] == (0, 4 * 32 * 16 * 100)
    assert said(header)["fc1"] == (0, nonzero, 4 * 64 * 128)
    assert said(header)["readout"] == (4 * 10 * 64, 0, 0)


@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
@pytest.mark.parametrize("layout", ["5C3-R5-AP2-R7x2/2-11FC", "4C3-AP4-3C3-5FC", "9FC-8FC"])
def test_the_most_is_reached_where_all_neurons_spike_and_else_not(layout: str, events: bool) -> None:
    network = make_network(layout, size=(16, 13))
    packed, inputs = make_packed(network, events=events), make_inputs(network, 6, events=events)

    def operations(activity: Any) -> list[tuple[float, ...]]:
        return [(layer.macs, layer.additions, layer.additions_nonzero) for layer in activity.layers]

    batches = [Batch(inputs, torch.zeros(6), 6)]
    most, seen = operations(most_activity(packed)), operations(measure_activity(packed, batches))
    assert all(a <= b for some, all_ in zip(seen, most, strict=True) for a, b in zip(some, all_, strict=True))
    assert seen != most
    # Currents so large that every neuron spikes at every timestep.
    shifts = {name: abs(array) + 1e6 for name, array in packed.arrays.items() if name.endswith(".shift")}
    eager = dataclasses.replace(packed, arrays={**packed.arrays, **shifts})
    assert operations(measure_activity(eager, batches)) == most


def test_no_more_than_a_thousand_samples_are_counted(quickstart: Quickstart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_COUNTED", 9)
    counted = formats._operations(quickstart.packed, quickstart.inputs)
    first = Batch(quickstart.inputs[:9], torch.zeros(9), 9)
    assert counted.as_json() == measure_activity(quickstart.packed, [first]).as_json()


def test_an_activity_is_not_asked_for() -> None:
    assert said(c_source(make_packed(make_network())).header) == {}
