"""Accuracy, operations and energy after each timestep: against networks made with fewer, and samples that leave early."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.evaluation.test_activity import LAYOUTS
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.data.batches import Batch
from tnacli.errors import UsageError
from tnacli.evaluation.activity import measure_activity
from tnacli.evaluation.energy import Prices
from tnacli.evaluation.timesteps import by_timestep
from tnacli.packed.engine import PackedSNN
from tnacli.snn.network import SpikingNetwork

N = 7
PRICES = Prices(mac_pj=3, addition_pj=0.5)


def labelled(inputs: Tensor, classes: int) -> list[Batch]:
    labels = torch.arange(len(inputs)) % classes
    return [Batch(*part, len(inputs)) for part in zip(inputs.split(3), labels.split(3), strict=True)]


def shortened(settings: dict[str, Any], network: SpikingNetwork, timesteps: int) -> SpikingNetwork:
    """The network with a smaller T, made anew."""
    made = make_network(**{**settings, "timesteps": timesteps})
    made.load_state_dict(network.state_dict())
    return made


@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
@pytest.mark.parametrize("settings", LAYOUTS, ids=lambda settings: settings.get("layout", "plain"))
def test_each_timestep_is_a_network_with_that_many(settings: dict[str, Any], events: bool) -> None:
    settings = {"timesteps": 4, **settings}
    network = make_network(**settings)
    inputs = make_inputs(network, N, events=events)
    found = by_timestep(network, labelled(inputs, network.classes), PRICES)
    for t in range(1, network.timesteps + 1):
        short = shortened(settings, network, t)
        cut = inputs[:, :t] if events else inputs
        with torch.no_grad():
            logits = short(cut)
        assert torch.equal(found.logits[t - 1], logits)
        activity = measure_activity(short, labelled(cut, network.classes), PRICES)
        after = found.after(t)
        assert after.timesteps == t
        assert after.accuracy == 100 * int((logits.argmax(1) == found.labels).sum()) / N
        assert after.loss == pytest.approx(float(F.cross_entropy(logits, found.labels)))
        assert after.macs == pytest.approx(activity.total("macs"))
        assert after.additions_nonzero == pytest.approx(activity.total("additions_nonzero"))
        assert after.energy_nj == pytest.approx(activity.energy_nj)


@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
@pytest.mark.parametrize("settings", LAYOUTS, ids=lambda settings: settings.get("layout", "plain"))
def test_a_packed_file_does_so_bit_by_bit(settings: dict[str, Any], events: bool) -> None:
    settings = {"timesteps": 4, **settings}
    network = make_network(**settings)
    inputs = make_inputs(network, N, events=events)
    found = by_timestep(make_packed(network, events=events), labelled(inputs, network.classes))
    for t in range(1, network.timesteps + 1):
        short = PackedSNN(make_packed(shortened(settings, network, t), events=events))
        assert torch.equal(found.logits[t - 1], short(inputs[:, :t] if events else inputs))
    of_network = by_timestep(network, labelled(inputs, network.classes))
    assert torch.equal(found.additions, of_network.additions)
    assert torch.equal(found.macs, of_network.macs)


def test_samples_leave_as_soon_as_they_are_sure() -> None:
    network = make_network(timesteps=4)
    inputs = make_inputs(network, N)
    found = by_timestep(network, labelled(inputs, network.classes), PRICES)
    sure = found.logits.softmax(-1).amax(-1)
    # A confidence that one sample just has after its second timestep.
    confidence = float(sure[1].median())
    stops, right = [], 0
    for n in range(N):
        t = next((t for t in range(1, 4) if float(sure[t - 1, n]) >= confidence), 4)
        stops.append(t)
        right += int(found.logits[t - 1, n].argmax() == found.labels[n])
    assert len(set(stops)) > 1
    left = found.leaving(confidence)
    assert left.timesteps == pytest.approx(sum(stops) / N)
    assert left.accuracy == pytest.approx(100 * right / N)
    # Each sample costs what a network with as many timesteps needs for it.
    alone = [
        measure_activity(shortened({}, network, t), [Batch(inputs[n : n + 1], found.labels[n : n + 1], 1)], PRICES)
        for n, t in enumerate(stops)
    ]
    assert left.energy_nj == pytest.approx(sum(one.energy_nj for one in alone) / N)
    assert left.additions_nonzero == pytest.approx(sum(one.total("additions_nonzero") for one in alone) / N)
    assert found.leaving(1e-9) == found.after(1)
    beyond = float(found.logits.softmax(-1).max()) * 1.001
    assert found.leaving(beyond) == found.after(4)  # who is never sure stays to the end


def test_a_network_without_timesteps_is_refused() -> None:
    network = make_network()
    network.model = network.model.model_copy(update={"spiking": False})
    with pytest.raises(UsageError, match="an artificial network gives one set of logits"):
        by_timestep(network, [])
