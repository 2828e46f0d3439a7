"""The exported NIR file, stepped by the neurons of norse and sinabs: their own importers lack nodes (docs/deployment.md)."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.deploy.conftest import Quickstart
from tnacli.deploy.nir import DT, nir_graph, nir_write

nir = pytest.importorskip("nir", reason="needs the extra nir")

pytestmark = pytest.mark.filterwarnings("ignore")  # norse's, sinabs' and nirtorch's own


def weighted(module: nn.Module, node: Any) -> nn.Module:
    module.weight.data, module.bias.data = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
    return module


def plain(node: Any) -> nn.Module:
    """The PyTorch module of a node that holds no state."""
    match node:
        case nir.Conv2d():
            out, inside, *kernel = node.weight.shape
            return weighted(nn.Conv2d(inside, out, kernel, padding=(int(node.padding[0]), int(node.padding[1]))), node)
        case nir.Affine():
            return weighted(nn.Linear(*reversed(node.weight.shape)), node)
        case nir.AvgPool2d():
            return nn.AvgPool2d((int(node.kernel_size[0]), int(node.kernel_size[1])))
        case nir.Flatten():
            return nn.Flatten(1)
    raise AssertionError(f"no module for {type(node).__name__}")


def chain(file: Path, neurons: Callable[[Any], nn.Module]) -> tuple[nn.ModuleList, int]:
    """The modules of a file in their order, and its number of timesteps."""
    graph = nir.read(file)
    following, name, modules = dict(graph.edges), "input", nn.ModuleList()
    while (name := following[name]) != "output":
        node = graph.nodes[name]
        modules.append(neurons(node) if isinstance(node, nir.LIF | nir.LI) else plain(node))
    return modules, int(graph.metadata["tnacli_timesteps"])


def check(logits: Tensor, quickstart: Quickstart) -> None:
    assert torch.equal(logits.argmax(1), quickstart.expected.argmax(1))
    torch.testing.assert_close(logits, quickstart.expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_norse_predicts_every_digit_alike(quickstart: Quickstart, tmp_path: Path) -> None:
    """Its LIF has no r, so the current is multiplied by it before."""
    norse = pytest.importorskip("norse.torch", reason="not installed")

    def neurons(node: Any) -> nn.Module:
        rate = torch.tensor(1 / node.tau.flat[0])
        if isinstance(node, nir.LI):
            return norse.LIBoxCell(norse.LIBoxParameters(tau_mem_inv=rate), dt=DT)
        threshold = torch.tensor(node.v_threshold.flat[0])
        return norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=rate, v_th=threshold), dt=DT)

    file = tmp_path / "net.nir"
    nir_write(file, nir_graph(quickstart.packed))
    modules, timesteps = chain(file, neurons)
    gain = float(nir.read(file).nodes["conv1_neurons"].r.flat[0])
    states: dict[int, Any] = {}
    logits = torch.zeros(())
    for _ in range(timesteps):
        x = quickstart.inputs
        for place, module in enumerate(modules):
            if isinstance(module, norse.LIFBoxCell | norse.LIBoxCell):
                x, states[place] = module(gain * x, states.get(place))
            else:
                x = module(x)
        logits = logits + x
    check(logits, quickstart)


@torch.no_grad()
def test_sinabs_predicts_every_digit_alike(quickstart: Quickstart, tmp_path: Path) -> None:
    """It has time constants in steps and decays exponentially; spikes are single and reset to 0 only when asked to."""
    layers = pytest.importorskip("sinabs.layers", reason="not installed")
    from sinabs.activation import MembraneReset, SingleSpike

    samples = len(quickstart.inputs)

    def neurons(node: Any) -> nn.Module:
        known = {"tau_mem": -1 / log(1 - DT / node.tau.flat[0]), "norm_input": False, "batch_size": samples}
        if isinstance(node, nir.LI):
            return layers.ExpLeakSqueeze(**known)
        threshold = torch.tensor(node.v_threshold.flat[0])
        return layers.LIFSqueeze(spike_threshold=threshold, spike_fn=SingleSpike, reset_fn=MembraneReset(), **known)

    nir_write(tmp_path / "net.nir", nir_graph(quickstart.packed))
    modules, timesteps = chain(tmp_path / "net.nir", neurons)
    # It takes samples and their timesteps on one axis.
    x = quickstart.inputs[:, None].expand(-1, timesteps, -1, -1, -1).flatten(0, 1)
    check(nn.Sequential(*modules)(x).unflatten(0, (samples, timesteps)).sum(1), quickstart)
