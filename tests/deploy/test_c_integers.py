"""C exported with --integer: whole numbers alone, near the network, as near as the user asks."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.cli.conftest import Tna
from tests.deploy.conftest import KINDS, Quickstart
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.deploy import c_build, formats
from tnacli.deploy.c import c_source
from tnacli.deploy.c_integers import integers
from tnacli.deploy.whole_numbers import whole_run
from tnacli.errors import DataError, UsageError

COMPILER = c_build.compiler()
CC = COMPILER or ""
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
SOFT = ("arm-none-eabi-gcc", "-mcpu=cortex-m0plus", "-mthumb", "-mfloat-abi=soft", "-Os")
FLOATING = re.compile(r"\b(?:float|double)\b|\b\d+\.\d*|\b\d+[eE][-+]?\d+|\.\d+")


@needs_compiler
@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.get("layout", "plain"))
def test_logits_are_those_of_the_same_whole_numbers(kind: dict[str, Any], events: bool) -> None:
    network = make_network(**kind)
    packed = make_packed(network, events=events)
    shape = make_inputs(network, 9, events=events).shape
    inputs = np.random.default_rng(0).integers(0, 6 if events else 256, shape, np.uint8)
    source = c_source(packed, integer=True)
    assert source.unit is not None
    run = whole_run(packed, inputs)
    expected = run.logits
    found = c_build.logits(source, inputs, expected.shape[1], program=CC)
    assert np.unique(expected, axis=0).shape[0] > 4
    np.testing.assert_array_equal(found, (expected * source.unit).astype(np.float32))
    assert run.largest < 1 << 31


def test_numbers_near_the_bound_of_32_bits_stay_within(tmp_path: Path) -> None:
    """All neurons spike at every timestep, weights and currents have one sign."""
    network = make_network("3C3-AP8-2C3-4FC", size=(48, 40), norm="none", decay=1.0)
    with torch.no_grad():
        network.spiking["conv1"].synapse.bias.fill_(9.0)
        network.hidden["conv2"].synapse.parametrizations.weight.original.fill_(-3.0)
    packed = make_packed(network)
    inputs = np.full((2, *packed.steps.input.out), 255, np.uint8)
    inputs[1] = 0
    assert 1 << 27 < whole_run(packed, inputs).largest < 1 << 31


def test_constants_are_the_networks_own_but_for_their_rounding(quickstart: Quickstart) -> None:
    packed = quickstart.packed
    made = integers(packed)
    for name, weights in packed.weights.items():
        factors, one = made.factors[name], 2.0 ** (made.potential_bits + made.factors[name].down)
        assert np.abs(factors.scale).max() > 1 << 8
        if name != "conv1":
            counts_to = 4  # what leaves each layer before them is pooled 2x2
            np.testing.assert_allclose(factors.scale / one, weights.scale / counts_to, rtol=1e-3)
            np.testing.assert_allclose((factors.shift - (1 << factors.down) / 2) / one, weights.shift, atol=1e-4)
    first, factors = packed.weights["conv1"], made.factors["conv1"]
    one = 2.0 ** (made.potential_bits + factors.down)
    unit = (factors.scale / one / 2.0**made.first_dropped)[:, None, None, None]  # of a weight, for a pixel of 0 to 255
    assert packed.about.input.mean is not None
    assert packed.about.input.std is not None
    expected = first.stored * first.scale[:, None, None, None] / (255 * packed.about.input.std[0])
    assert np.all(np.abs(made.first_weights * unit - expected) <= 0.505 * np.abs(unit))
    # A map of the mean pixel is a current of `shift`; dropped bits and the last shift are halves on average.
    left = 255 * packed.about.input.mean[0] - made.offsets[0]
    assert abs(left) <= 0.5
    sums = (made.first_weights.sum((1, 2, 3)) * left - (2.0**made.first_dropped - 1) / 2) / 2.0**made.first_dropped
    currents = (factors.scale * sums + factors.shift - (1 << factors.down) / 2) / one
    np.testing.assert_allclose(currents, first.shift, atol=1e-4)
    readout = made.readout_weights * made.unit * made.readout_one
    np.testing.assert_allclose(readout, packed.readout_weight, atol=made.unit * made.readout_one / 2 * 1.0001)
    np.testing.assert_allclose(made.readout_bias * made.unit, packed.readout_bias, atol=made.unit)
    assert {(decay.numerator, decay.bits) for decay in made.decays.values()} == {(1, 1)}


def test_currents_are_rounded_to_the_nearest_number(quickstart: Quickstart) -> None:
    made, weights = integers(quickstart.packed), quickstart.packed.weights["conv2"]
    factors, sums = made.factors["conv2"], np.arange(-40, 41)[:, None]
    found = (sums * factors.scale.astype(np.int64) + factors.shift) >> factors.down
    exact = (sums / 4 * weights.scale.astype(np.float64) + weights.shift) * (1 << made.potential_bits)
    assert np.abs(found - exact).max() < 0.55


def test_no_line_has_a_float(quickstart: Quickstart) -> None:
    whole, floats = (c_source(quickstart.packed, integer=integer) for integer in (True, False))
    comments = re.compile(r"/\*.*?\*/", re.DOTALL)
    for text in (whole.source, whole.header):
        assert not FLOATING.search(comments.sub("", text))
    assert FLOATING.search(comments.sub("", floats.source))
    assert FLOATING.search(comments.sub("", floats.header))


@pytest.mark.skipif(shutil.which(SOFT[0]) is None, reason="needs arm-none-eabi-gcc (Debian: gcc-arm-none-eabi)")
def test_a_processor_without_floats_calls_nothing_for_them(quickstart: Quickstart, tmp_path: Path) -> None:
    called = {}
    for integer in (True, False):
        c_build.write(c_source(quickstart.packed, "net", integer=integer), tmp_path)
        subprocess.run([*SOFT, "-std=c99", "-c", "-o", tmp_path / "net.o", tmp_path / "net.c"], check=True)
        listed = subprocess.run(
            ["arm-none-eabi-nm", "-u", tmp_path / "net.o"], capture_output=True, text=True, check=True
        )
        called[integer] = {line.split()[-1] for line in listed.stdout.splitlines()}
    assert "__aeabi_fmul" in called[False]
    # Divisions and long shifts are of whole numbers; memcpy and its like come with every library.
    assert called[True] <= {"__aeabi_idiv", "__aeabi_idivmod", "memcpy", "memset", "memmove"}


@needs_compiler
@pytest.mark.parametrize(
    "flags",
    [("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"), ("-O3", "-Wconversion", "-Wshadow")],
    ids=["sanitizers", "optimised"],
)
def test_it_compiles_without_complaint_and_overflows_nowhere(
    quickstart: Quickstart, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    source = c_source(quickstart.packed, integer=True)
    program = c_build.build(source, tmp_path, *flags, program=CC)
    found = c_build.run(program, quickstart.pixels[:60].numpy(), 10, unit=source.unit)
    expected = whole_run(quickstart.packed, quickstart.pixels[:60].numpy()).logits
    assert source.unit is not None
    np.testing.assert_array_equal(found, (expected * source.unit).astype(np.float32))


@needs_compiler
def test_the_command_says_what_differs_and_refuses_more_than_is_allowed(
    tna: Tna, quickstart: Quickstart, tmp_path: Path
) -> None:
    whole = whole_run(quickstart.packed, quickstart.pixels.numpy()).logits
    differing = int((whole.argmax(1) != quickstart.expected.argmax(1).numpy()).sum())
    export = ("export", quickstart.checkpoint, "--format", "c", "--integer", "-o", tmp_path / "net")
    done = tna(*export, "--max-different", 20, "--json")
    assert done.code == 0, done.err
    assert (done.json["samples"], done.json["agreeing"], done.json["integer"]) == (360, 360 - differing, True)
    assert 0 < differing < 36  # of a network that was trained for a moment and is unsure of many
    for path in (tmp_path / "net.c", tmp_path / "net.h"):
        path.unlink()
    refused = tna(*export, "--max-different", 100 * (differing - 0.5) / 360)
    assert refused.code == 6
    assert f"predicts {differing} of 360 samples ({differing / 360:.2%}) otherwise" in refused.err
    assert not list(tmp_path.iterdir())
    shown = tna(*export, "--max-different", 100 * (differing + 0.5) / 360)
    assert shown.code == 0, shown.err
    assert f"{360 - differing} of 360 predictions equal, {differing / 360:.2%} different when run by" in shown.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "onnx", "--integer"], "--integer applies to --format c, not onnx"),
        (["--max-different", "1"], "--max-different has no effect on packed files"),
    ],
)
def test_options_without_effect_are_refused(tna: Tna, quickstart: Quickstart, arguments: list[str], said: str) -> None:
    done = tna("export", quickstart.checkpoint, *arguments)
    assert done.code == 2
    assert said in done.err


def test_bounds_where_none_was_set() -> None:
    assert formats.Wishes(integer=True).allows(7, 360)
    assert not formats.Wishes(integer=True).allows(8, 360)
    assert not formats.Wishes().allows(4, 360)
    assert formats.Wishes().allows(1, 5)
    assert not formats.Wishes(max_different=0.0).allows(1, 5)


def test_samples_come_back_as_the_bytes_that_they_were(quickstart: Quickstart) -> None:
    spec = quickstart.packed.about.input
    assert torch.equal(formats.as_bytes(spec, quickstart.inputs), quickstart.pixels)
    with pytest.raises(DataError, match="are not bytes"):
        formats.as_bytes(spec, quickstart.inputs + 0.01)


def test_numbers_that_leave_too_few_bits_are_refused(quickstart: Quickstart) -> None:
    arrays = dict(quickstart.packed.arrays)
    arrays["conv2.shift"] = np.full_like(arrays["conv2.shift"], 1e8)
    with pytest.raises(UsageError, match="export without --integer"):
        c_source(type(quickstart.packed)(quickstart.packed.about, arrays), integer=True)
