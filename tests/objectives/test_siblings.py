"""Siblings that differ from the base, and the matching of hidden layers, each against its definition."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tnacli.build import build_objective
from tnacli.errors import RecipeError
from tnacli.objectives.features import FeatureMatching
from tnacli.objectives.objective import TwinObjective
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Features, Sibling, Twin
from tnacli.recipe.schema.recipe import Settings
from tnacli.snn.network import SpikingNetwork

MODEL = Model(layout="4C3-AP2-6C3-AP2-8FC", timesteps=3, dropout=0.0)
INPUTS, LABELS = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0])


def twin_of(*siblings: Sibling, features: Features | None = None, model: Model = MODEL) -> TwinObjective:
    # The data set whose size only its files tell, so that the schema lets all through and the build has to look.
    settings = Settings.model_construct(
        data=Data(), model=model, objective=Twin(alpha=0.01, siblings=siblings, features=features)
    )
    made = build_objective(settings, channels=3, size=(8, 8), classes=5, seed=3)
    assert isinstance(made, TwinObjective)
    return made


def net(twin: TwinObjective, name: str) -> SpikingNetwork:
    return cast("SpikingNetwork", twin.networks[name])


def rates_by_hand(network: SpikingNetwork) -> dict[str, Tensor]:
    """Mean spikes over time of each layer, pooled, of a pass through the uncompiled layers."""
    rates: dict[str, Tensor] = {}
    for name, layer in network.spiking.items():
        layer.compiled = False

        def hook(module: object, given: object, out: Tensor, *, name: str = name, pool: int = layer.pool) -> None:
            mean = out.mean(0)
            rates[name] = F.avg_pool2d(mean, pool) if pool > 1 else mean

        layer.neurons.register_forward_hook(hook)
    return rates


SIBLINGS = {
    "width": Sibling(width=2.0),
    "share": Sibling(width="50%"),
    "layout": Sibling(layout="5C3-AP2-R7-GAP"),
    "timesteps": Sibling(timesteps=7),
    "fewer timesteps": Sibling(timesteps=1),
    "ANN": Sibling(spiking=False),
    "all": Sibling(width=0.5, layout="8C3-AP2-8C3-16FC", timesteps=2, spiking=False),
}


@pytest.mark.parametrize("sibling", SIBLINGS.values(), ids=SIBLINGS)
def test_a_sibling_is_what_it_says_and_the_base_as_without_it(sibling: Sibling) -> None:
    twin, plain = twin_of(sibling), twin_of(Sibling())
    base, other = net(twin, "base"), net(twin, "sibling1")
    assert base.model == MODEL
    assert all(torch.equal(value, net(plain, "base").state_dict()[name]) for name, value in base.state_dict().items())
    assert other.timesteps == (sibling.timesteps or 3)
    assert other.model.spiking == (sibling.spiking is not False)
    width = {None: 1.0, "50%": 0.5}.get(sibling.width, sibling.width)  # type: ignore[arg-type]
    first = {None: 4, "5C3-AP2-R7-GAP": 5, "8C3-AP2-8C3-16FC": 8}[sibling.layout]
    assert other.shapes[0].weight[0] == round(first * cast("float", width))


@pytest.mark.parametrize("sibling", SIBLINGS.values(), ids=SIBLINGS)
def test_equation_5_holds_for_every_sibling_with_logits_as_they_are(sibling: Sibling) -> None:
    twin = twin_of(sibling, Sibling()).train()
    losses = twin(INPUTS, LABELS)
    logits = losses.logits
    expected = sum(F.cross_entropy(one, LABELS) for one in logits.values()) + 0.01 * sum(
        (logits["base"] - logits[name]).square().sum(1).mean() for name in ("sibling1", "sibling2")
    )
    torch.testing.assert_close(losses.total, expected)
    losses.parts["matching"].backward()
    for network in twin.networks.values():
        assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("rates", ["neuron", "map"])
@pytest.mark.parametrize("sibling", SIBLINGS.values(), ids=SIBLINGS)
def test_the_loss_of_hidden_layers_is_its_definition(sibling: Sibling, rates: str) -> None:
    """The mean over layers of the mean squared difference of rates, mapped by the learned W where the docs say so."""
    features = Features(alpha=0.3, rates=rates)  # type: ignore[arg-type]
    twin = twin_of(sibling, features=features).train()
    matching = twin.auxiliary["features"]
    assert isinstance(matching, FeatureMatching)
    ours, theirs = rates_by_hand(net(twin, "base")), rates_by_hand(net(twin, "sibling1"))
    losses = twin(INPUTS, LABELS)
    layers = matching.layers["sibling1"]
    assert layers == {
        "5C3-AP2-R7-GAP": ("conv1",) if rates == "neuron" else ("conv1", "conv2"),
        "8C3-AP2-8C3-16FC": ("conv1", "fc1") if rates == "neuron" else ("conv1", "conv2", "fc1"),
    }.get(sibling.layout or "", ("conv1", "conv2", "fc1"))
    each = []
    for layer in layers:
        one, two = ours[layer], theirs[layer]
        if rates == "map" and one.dim() == 4:
            one, two = one.flatten(2).mean(2), two.flatten(2).mean(2)
        mapped = one.shape[1] != two.shape[1] or sibling.spiking is False
        assert (layer in matching.projections["sibling1"]) == mapped  # type: ignore[operator]
        if mapped:
            weight = matching.get_parameter(f"projections.sibling1.{layer}.weight")
            two = torch.einsum("oc,nc...->no...", weight, two)
        each.append((one - two).square().mean())
    expected = torch.stack(each).mean()
    torch.testing.assert_close(losses.parts["feature_matching"], expected)
    logits_alone = (
        losses.parts["cross_entropy"] + losses.parts["sibling_cross_entropy"] + 0.01 * losses.parts["matching"]
    )
    torch.testing.assert_close(losses.total, logits_alone + 0.3 * expected)

    losses.parts["feature_matching"].backward()
    for name in ("base", "sibling1"):
        assert net(twin, name).spiking[layers[-1]].synapse.weight.grad is not None
    assert all(parameter.grad is not None for parameter in matching.parameters())


def test_rates_are_read_before_dropout_and_with_the_compiled_kernels() -> None:
    twin = twin_of(Sibling(), features=Features(alpha=1.0), model=MODEL.model_copy(update={"dropout": 0.9}))
    plain = twin_of(Sibling(), features=Features(alpha=1.0))
    assert torch.equal(
        twin.train()(INPUTS, LABELS).parts["feature_matching"], plain.train()(INPUTS, LABELS).parts["feature_matching"]
    )


def test_only_the_layers_asked_for_are_matched() -> None:
    twin = twin_of(Sibling(width=2.0), features=Features(alpha=1.0, layers=("conv2",)))
    assert [name for name, _ in twin.auxiliary.named_parameters()] == ["features.projections.sibling1.conv2.weight"]


def test_the_maps_between_features_are_of_the_seed_and_no_network_changes_with_them() -> None:
    one, two = (twin_of(Sibling(width=2.0), features=Features(alpha=1.0)) for _ in range(2))
    plain = twin_of(Sibling(width=2.0))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.equal(v, plain.networks.state_dict()[n]) for n, v in one.networks.state_dict().items())


@pytest.mark.parametrize(
    ("sibling", "features", "message"),
    [
        (Sibling(layout="4C3-AP4-6C3-8FC"), Features(alpha=1, layers=("conv1",)), "conv1 cannot be matched: its maps are 4x4 "),
        (Sibling(layout="4C3-AP4-6C3-GAP"), Features(alpha=1), "no layer can be matched; conv1, for one: its maps are 4x4 in"),
        (Sibling(layout="4C3-GAP"), Features(alpha=1, layers=("fc1",), rates="map"), "the sibling has no hidden layer of that"),
        (Sibling(), Features(alpha=1, layers=("conv9",)), "the base has no hidden layer of that name; its layers: conv1, conv2"),
    ],
)  # fmt: skip
def test_layers_that_cannot_be_matched_are_refused_with_the_reason(
    sibling: Sibling, features: Features, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        twin_of(sibling, features=features)
