"""The exported NIR file, run by our own steps over its nodes; test_nir_consumers.py hands it to other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.deploy.conftest import KINDS, Quickstart
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.deploy.nir import nir_graph, nir_read, nir_write
from tnacli.deploy.nir_steps import DT, nir_logits
from tnacli.packed.engine import PackedSNN
from tnacli.packed.spec import Origin

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
    found = nir_logits(nir_read(tmp_path / "net.nir"), inputs)
    # The folded scale rounds each product; that moves no spike here, but the last bits of the readout.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_every_digit_is_predicted_as_by_the_packed_file(quickstart: Quickstart, tmp_path: Path) -> None:
    nir_write(tmp_path / "net.nir", nir_graph(quickstart.packed))
    found = nir_logits(nir_read(tmp_path / "net.nir"), quickstart.inputs)
    assert torch.equal(found.argmax(1), quickstart.expected.argmax(1))


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
    """v + dt / tau * (r * I - v), the equation of NIR's LIF, is decay * v + I of the current that the weights make elsewhere."""
    packed = make_packed(make_network(layout="2C3-3FC", decay=decay))
    graph = nir_graph(packed)
    node, ours = graph.nodes["conv1_neurons"], packed.weights["conv1"]
    assert np.float32(1 - DT / node.tau.flat[0]) == np.float32(decay)
    assert (node.r == 1).all()
    assert not node.v_leak.any()
    assert not node.v_reset.any()
    gain = DT / node.tau.flat[0]
    np.testing.assert_allclose(graph.nodes["conv1"].bias * gain, ours.shift, rtol=2**-23)
    np.testing.assert_allclose(
        graph.nodes["conv1"].weight * gain, ours.stored * ours.scale[:, None, None, None], rtol=2**-22
    )


def test_only_nodes_that_importers_know_are_made() -> None:
    """The nodes that nirtorch, SpikingJelly, snnTorch and norse have modules for, in common."""
    for layout in ("4C3-R4-AP2-R6x2/2-11FC", "3C3-AP2-4C3-AP2-6FC"):
        nodes = nir_graph(make_packed(make_network(layout=layout, size=(12, 12)))).nodes.values()
        kinds = {type(node).__name__ for node in nodes}
        assert kinds <= {"Input", "Output", "Conv2d", "Affine", "SumPool2d", "Flatten", "LIF"}


def test_the_file_says_what_to_do_with_its_output(tmp_path: Path) -> None:
    packed = make_packed(make_network(decay=0.25))
    nir_write(tmp_path / "net.nir", nir_graph(packed))
    about = nir.read(tmp_path / "net.nir").metadata
    assert (float(about["tnacli_leak"]), int(about["tnacli_timesteps"])) == (0.25, packed.about.timesteps)
    said = {name: text.decode() if isinstance(text, bytes) else text for name, text in about.items()}
    assert "tnacli_leak * potential + output" in said["tnacli_readout"]
    assert Origin.model_validate_json(said["tnacli_origin"]) == packed.about.origin
