"""Neurons at the threshold in every form that a network leaves in: the same spikes, so the same logits."""

from __future__ import annotations

import pytest
import torch

from tests.edges import at_the_threshold
from tnacli.deploy import c_build
from tnacli.deploy.c import c_source
from tnacli.deploy.nir import nir_graph
from tnacli.deploy.nir_steps import nir_logits
from tnacli.deploy.onnx import onnx_bytes, onnx_logits

LAYOUTS = ["3FC-2FC", "3C3-2C3-4FC", "3C3-R3"]


@pytest.mark.skipif(c_build.compiler() is None, reason="no C compiler on this machine")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_c(layout: str) -> None:
    packed, inputs, expected = at_the_threshold(layout)
    found = c_build.logits(c_source(packed), inputs.numpy(), expected.shape[1], program=str(c_build.compiler()))
    assert torch.equal(torch.tensor(found), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_onnx(layout: str) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    packed, inputs, expected = at_the_threshold(layout)
    assert torch.equal(torch.from_numpy(onnx_logits(onnx_bytes(packed), inputs.numpy())), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nir(layout: str) -> None:
    pytest.importorskip("nir", reason="needs the extra nir")
    packed, inputs, expected = at_the_threshold(layout)
    assert torch.equal(nir_logits(nir_graph(packed), inputs), expected)
