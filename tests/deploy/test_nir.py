"""The exported NIR file: run by our own steps over its nodes, and by SpikingJelly, to which it was handed unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.deploy.conftest import KINDS, Quickstart
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.deploy.nir import DT, nir_graph, nir_logits, nir_read, nir_write
from tnacli.packed.engine import PackedSNN

nir = pytest.importorskip("nir", reason="needs the extra nir")


@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
@pytest.mark.parametrize("kind", [*KINDS, {"decay": 0.0}], ids=lambda kind: str(kind.get("layout", kind)))
def test_logits_are_the_engines(kind: dict[str, Any], events: bool, tmp_path: Path) -> None:
    network = make_network(**kind)
    packed = make_packed(network, events=events)
    inputs = make_inputs(network, 12, events=events)
    expected = PackedSNN(packed)(inputs)
    assert len(expected.unique(dim=0)) > 3
    nir_write(tmp_path / "net.nir", nir_graph(packed))
    found = nir_logits(nir_read(tmp_path / "net.nir"), inputs, network.timesteps)
    # The folded scale rounds each product; that moves no spike here, but the last bits of the readout.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_every_digit_is_predicted_as_by_the_packed_file(quickstart: Quickstart, tmp_path: Path) -> None:
    nir_write(tmp_path / "net.nir", nir_graph(quickstart.packed))
    found = nir_logits(nir_read(tmp_path / "net.nir"), quickstart.inputs, 4)
    assert torch.equal(found.argmax(1), quickstart.expected.argmax(1))


class _LeakyIntegrator(nn.Module):
    """NIR's LI in Euler steps of DT: the one node of ours that SpikingJelly has no module for."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self.keep = float(1 - DT / node.tau[0])
        self.gain = float(node.r[0] * DT / node.tau[0])

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        potential = self.gain * x if state is None else self.keep * state + self.gain * x
        return potential, potential


@pytest.mark.filterwarnings("ignore")  # nirtorch's and SpikingJelly's own
def test_spikingjelly_predicts_every_digit_alike(quickstart: Quickstart, tmp_path: Path) -> None:
    nirtorch = pytest.importorskip("nirtorch", reason="not installed")
    importer = pytest.importorskip("spikingjelly.activation_based.nir_exchange.from_nir", reason="not installed")
    nir_write(tmp_path / "net.nir", nir_graph(quickstart.packed))
    modules = {**importer._NodeMapper(dt=DT).map_dict, nir.LI: _LeakyIntegrator}
    network = nirtorch.nir_to_torch(nir.read(tmp_path / "net.nir"), modules)
    logits, state = torch.zeros(()), None
    with torch.no_grad():
        for _ in range(4):
            potential, state = network(quickstart.inputs, state)
            logits = logits + potential
    assert torch.equal(logits.argmax(1), quickstart.expected.argmax(1))
    torch.testing.assert_close(logits, quickstart.expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # snnTorch's own
def test_snntorch_predicts_alike(quickstart: Quickstart, tmp_path: Path) -> None:
    """Its modules take one sample without a batch axis, and its neurons spike above the threshold, not at it."""
    importer = pytest.importorskip("snntorch.import_nir", reason="not installed")
    nir_write(tmp_path / "net.nir", nir_graph(quickstart.packed))
    graph = nir.read(tmp_path / "net.nir")
    following, name, modules = dict(graph.edges), "input", []
    while name != "readout":
        name = following[name]
        modules.append(importer._nir_to_snntorch_module(graph.nodes[name]))
    readout = _LeakyIntegrator(graph.nodes["readout_neurons"])
    for sample, expected in zip(quickstart.inputs[:40], quickstart.expected, strict=False):
        potentials: dict[int, Tensor] = {}
        logits, state = torch.zeros(()), None
        with torch.no_grad():
            for _ in range(4):
                x = sample
                for place, module in enumerate(modules):
                    if type(module).__name__ == "Leaky":
                        x, potentials[place] = module(x, potentials.get(place, torch.zeros_like(x)))
                    else:
                        x = module(x)
                potential, state = readout(x, state)
                logits = logits + potential
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_ternary_weights_can_be_taken_out_again(quickstart: Quickstart) -> None:
    graph = nir_graph(quickstart.packed)
    for name, weights in list(quickstart.packed.weights.items())[1:]:
        node = graph.nodes[name]
        scale = node.metadata["tnacli_scale"].reshape(-1, *[1] * (node.weight.ndim - 1))
        np.testing.assert_array_equal(node.weight / scale, weights.ternary())


def test_shapes_fit_from_node_to_node() -> None:
    packed = make_packed(make_network(layout="3C3-AP2-4C3-AP2-6FC", size=(9, 11)))
    graph = nir_graph(packed)
    graph.infer_types()
    assert graph.nodes["conv2_neurons"].input_type["input"].tolist() == [4, 4, 5]
    assert graph.nodes["fc1"].weight.shape == (6, 4 * 2 * 2)


@pytest.mark.parametrize("decay", [n / 64 for n in range(64)] + [0.1, 0.3, 0.7, 0.9, 0.95, 0.99, 0.999])
def test_an_euler_step_keeps_the_decay_and_takes_the_current_whole(decay: float) -> None:
    """v + dt / tau * (r * I - v), the equation of NIR's LIF, is decay * v + I in fp32."""
    packed = make_packed(make_network(layout="2C3-3FC", decay=decay))
    node = nir_graph(packed).nodes["conv1_neurons"]
    assert np.float32(1 - DT / node.tau.flat[0]) == np.float32(decay)
    assert np.float32(node.r.flat[0] * DT / node.tau.flat[0]) == 1
    assert not node.v_leak.any()
    assert not node.v_reset.any()
