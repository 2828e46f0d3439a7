"""Every named layout leaves in every form: the same predictions as its packed file, and that the same logits as the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.deploy import c_build
from tnacli.deploy.c import c_source
from tnacli.deploy.nir import nir_graph
from tnacli.deploy.nir_steps import nir_logits
from tnacli.deploy.onnx import onnx_bytes, onnx_logits
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import from_bytes, to_bytes
from tnacli.packed.network import PackedNetwork
from tnacli.recipe.layout import NAMED_LAYOUTS

Case = tuple[PackedNetwork, torch.Tensor, torch.Tensor]


@pytest.fixture(params=NAMED_LAYOUTS, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    """A packed network read back from its bytes, inputs of few bits, and the network's own logits of them."""
    network = make_network(request.param, width=1 / 16, channels=3, size=(16, 16), classes=10, timesteps=2)
    inputs = make_inputs(network, 6)
    with torch.no_grad():
        return from_bytes(to_bytes(make_packed(network))), inputs, network(inputs)


def test_the_packed_file_gives_the_networks_logits(case: Case) -> None:
    packed, inputs, logits = case
    assert len(logits.unique(dim=0)) > 3
    assert torch.equal(PackedSNN(packed)(inputs), logits)


@pytest.mark.skipif(c_build.compiler() is None, reason="no C compiler on this machine")
def test_c_gives_the_same_logits(case: Case) -> None:
    packed, inputs, logits = case
    found = c_build.logits(c_source(packed), inputs.numpy(), 10, program=str(c_build.compiler()))
    np.testing.assert_array_equal(found, logits.numpy())


def test_onnx_gives_the_same_logits(case: Case) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    packed, inputs, logits = case
    found = torch.from_numpy(onnx_logits(onnx_bytes(packed), inputs.numpy()))
    torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-5)


def test_nir_gives_the_same_logits(case: Case) -> None:
    pytest.importorskip("nir", reason="needs the extra nir")
    packed, inputs, logits = case
    # NIR folds the scale into the weights, which rounds each product: it moves no spike here.
    torch.testing.assert_close(nir_logits(nir_graph(packed), inputs), logits, rtol=1e-5, atol=1e-5)
