"""What other libraries' networks have and no layout of ours: every form computes the same, bit by bit where it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.packed.described import NETWORKS, described, inputs_of, most_spikes, rates
from tests.packed.test_format_document import reader as reader
from tests.packed.test_format_document import source as source
from tnacli.deploy import c_build
from tnacli.deploy.c import c_source
from tnacli.deploy.nir import nir_graph
from tnacli.deploy.nir_steps import nir_logits
from tnacli.deploy.onnx import onnx_bytes, onnx_logits
from tnacli.deploy.whole_numbers import whole_run
from tnacli.errors import UsageError
from tnacli.evaluation.trace import trace
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import from_bytes, to_bytes, write_packed
from tnacli.packed.network import PackedNetwork

COMPILER = c_build.compiler()


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def network_of(name: str, **how: Any) -> PackedNetwork:
    return described(NETWORKS[name], **how)


@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
def test_the_page_numpy_and_compiled_code_give_the_same_bits(
    reader: Any, tmp_path: Any, name: str, events: bool
) -> None:
    network = network_of(name, events=events)
    assert network.about.version == (4 if name.startswith(("sums", "means")) else 3)
    inputs = inputs_of(network, 12)
    assert all(0.02 < rate < 0.98 for rate in rates(network, inputs).values()), "or spikes would say little"
    assert name != "several spikes" or sorted(most_spikes(network, inputs).values())[-2] > 2
    write_packed(tmp_path / "net.tna", network)
    expected = reader.run(*reader.load(tmp_path / "net.tna"), inputs)
    assert np.unique(expected, axis=0).shape[0] > 6
    for native in (False, True):
        found = PackedSNN(from_bytes(to_bytes(network)), native=native)(inputs)
        np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
def test_c_gives_the_same_bits(name: str, events: bool) -> None:
    network = network_of(name, events=events)
    inputs = inputs_of(network, 12)
    found = c_build.logits(c_source(network), inputs, 5, program=str(COMPILER))
    np.testing.assert_array_equal(found, PackedSNN(network)(inputs), strict=True)


@pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
def test_c_of_whole_numbers_computes_what_it_should(name: str, events: bool, tmp_path: Any) -> None:
    network = network_of(name, events=events)
    source = c_source(network, integer=True)
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = c_build.build(source, tmp_path, *flags, program=str(COMPILER))
    shape = (40, *network.about.input.shape(network.about.timesteps))
    inputs = np.random.default_rng(2).integers(0, 4 if events else 256, shape, dtype=np.uint8)
    found, expected = c_build.run(program, inputs, 5, unit=source.unit), whole_run(network, inputs)
    assert expected.largest < 1 << 31
    assert source.unit is not None
    np.testing.assert_array_equal(found, (expected.logits * source.unit).astype(np.float32))
    engine, seen = PackedSNN(network), dict[str, list[Any]]()
    engine(engine.normalise(inputs), lambda layer, spikes: seen.setdefault(layer, []).append(spikes.swapaxes(0, 1)))
    for layer, spikes in expected.spikes.items():
        # Rounded constants move some spikes, and those move later ones.
        apart = np.abs(np.concatenate(seen[layer]).astype(int) - spikes).mean()
        assert apart < 0.07 * max(1, spikes.mean()), layer


@pytest.mark.parametrize("floats", [False, True], ids=["integers", "floats"])
def test_onnx_gives_the_same_logits(name: str, floats: bool) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    network = network_of(name)
    inputs = inputs_of(network, 12)
    found = onnx_logits(onnx_bytes(network, floats=floats), inputs)
    np.testing.assert_allclose(found, PackedSNN(network)(inputs), rtol=1e-5, atol=1e-5)


def test_nir_gives_the_same_logits_or_says_why_not(name: str) -> None:
    pytest.importorskip("nir", reason="needs the extra nir")
    network = network_of(name)
    inputs = torch.from_numpy(inputs_of(network, 12))
    first = network.about.layers[0]
    lacking = (
        "pools by maxima, and NIR has no" if first.max_pool else "has a soft reset or a lowest potential, and NIR's"
    )
    if first.max_pool or (first.neuron and first.neuron.subtract):
        with pytest.raises(UsageError, match=f"layer conv1 {lacking}"):
            nir_graph(network)
        return
    torch.testing.assert_close(nir_logits(nir_graph(network), inputs), PackedSNN(network)(inputs), rtol=1e-5, atol=1e-5)


def test_nir_has_no_sums_of_spikes() -> None:
    pytest.importorskip("nir", reason="needs the extra nir")
    network = described([{"weight": (6, 2, 3, 3)}, {"weight": (6, 6, 3, 3), "added": "conv1"}])
    with pytest.raises(UsageError, match="layer conv2 adds the spikes of conv1 to its own"):
        nir_graph(network)


def test_a_trace_shows_the_engines_spikes(name: str) -> None:
    network = network_of(name)
    inputs = inputs_of(network, 1)
    seen: dict[str, Any] = {}
    PackedSNN(network)(inputs, lambda layer, spikes: seen.update({layer: spikes}))
    for layer in trace(network, torch.from_numpy(inputs[0])):
        np.testing.assert_array_equal(layer.spikes.numpy(), seen[layer.name].reshape(network.about.timesteps, -1) > 0)
