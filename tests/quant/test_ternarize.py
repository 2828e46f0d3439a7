"""`tnacli.ternarize` on modules that know nothing of us, inside loops that know nothing of it."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.optim.swa_utils import AveragedModel

import tnacli
from tnacli.errors import DivergedError, UsageError
from tnacli.quant.quantisers import LearnedTernaryWeight, MeanTernaryWeight, PowerOfTwoScale, TernaryWeight

WAYS: list[dict[str, Any]] = [
    {},
    {"threshold": 0.05},
    {"threshold": "learned", "share": 0.5},
    {"mode": "binary"},
    {"scale": False},
]
X, LABELS = torch.randn(16, 2, 8, 8), torch.arange(16) % 5


def module() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(96, 12),
        nn.ReLU(),
        nn.Linear(12, 5),
    )


HIDDEN = ["2.0", "4"]


def weight(of: nn.Module, name: str) -> Tensor:
    found = of.get_submodule(name).weight
    assert isinstance(found, Tensor)
    return found


def step(of: nn.Module, optimiser: torch.optim.Optimizer) -> float:
    optimiser.zero_grad()
    loss = F.cross_entropy(of(X), LABELS)
    loss.backward()
    optimiser.step()
    return loss.item()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_all_but_the_first_and_the_last_layer_become_ternary(way: dict[str, Any]) -> None:
    ours, before = module(), module()
    assert tnacli.ternarize(ours, **way) is ours
    shares = tnacli.shares(ours)
    assert list(shares) == HIDDEN
    for name in HIDDEN:
        magnitudes = set(weight(ours, name).abs().unique().tolist()) - {0.0}
        (magnitude,) = magnitudes
        signs = weight(ours, name) / magnitude
        share = shares[name]
        assert share.negative + share.zero + share.positive == pytest.approx(1)
        assert (share.zero == 0) == (way.get("mode") == "binary")
        assert share.positive == pytest.approx(float((signs == 1).float().mean()))
        if not way.get("scale", True):
            assert magnitude == 1
    for name in ("0", "6"):
        assert torch.equal(weight(ours, name), weight(before, name))


def test_the_scale_is_the_power_of_two_nearest_to_the_mean_of_what_is_left() -> None:
    latent = torch.tensor([0.9, -0.7, 0.01, 0.2, -0.02])
    assert PowerOfTwoScale.fitted(latent, torch.tensor([1.0, -1, 0, 0, 0])).scale == 1.0  # 0.8, between 1/2 and 1
    assert PowerOfTwoScale.fitted(latent, torch.tensor([0.0, 0, 0, 1, 0])).scale == 0.25  # 0.2
    ours, before = module(), module()
    tnacli.ternarize(ours)
    for name in HIDDEN:
        latent, kept = weight(before, name).detach(), weight(ours, name).detach() != 0
        mean, scale = float(latent[kept].abs().mean()), float(weight(ours, name).detach().max())
        assert 2**-0.5 <= scale / mean <= 2**0.5
        assert torch.frexp(torch.tensor(scale)).mantissa == 0.5


def test_gradients_reach_latent_weights_unchanged_through_the_scale() -> None:
    ours = tnacli.ternarize(module())
    outward = torch.randn_like(weight(ours, "4"))
    latent = ours.get_parameter("4.parametrizations.weight.original")
    (grad,) = torch.autograd.grad(weight(ours, "4"), latent, outward)
    assert torch.equal(grad, outward)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_optimiser_made_before_goes_on_with_the_same_parameters_and_its_state(way: dict[str, Any]) -> None:
    ours = module()
    before = {id(parameter) for parameter in ours.parameters()}
    adam = torch.optim.Adam(ours.parameters(), lr=0.01)
    step(ours, adam)
    tnacli.ternarize(ours, **way)
    new = {name for name, parameter in ours.named_parameters() if id(parameter) not in before}
    learned = way.get("threshold") == "learned"
    assert new == ({f"{name}.parametrizations.weight.0.log_delta" for name in HIDDEN} if learned else set())
    assert before <= {id(parameter) for parameter in ours.parameters()}
    latent = ours.get_parameter("4.parametrizations.weight.original")
    held, moments = latent.detach().clone(), adam.state[latent]["exp_avg"].clone()
    step(ours, adam)
    assert not torch.equal(latent, held)
    assert not torch.equal(adam.state[latent]["exp_avg"], moments)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_restore_gives_back_the_same_parameters(way: dict[str, Any]) -> None:
    ours = module()
    before, names = list(ours.parameters()), set(ours.state_dict())
    values = {name: value.clone() for name, value in ours.state_dict().items()}
    assert tnacli.restore(tnacli.ternarize(ours, **way)) is ours
    assert {id(p) for p in ours.parameters()} == {id(p) for p in before}
    assert set(ours.state_dict()) == names
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in values.items())
    assert type(ours[4]) is nn.Linear
    with pytest.raises(UsageError, match="Sequential has ternary or binary weights: nothing to restore"):
        tnacli.restore(ours)


def test_restored_weights_may_stay_ternary() -> None:
    ours = tnacli.ternarize(module())
    expected = {name: weight(ours, name).clone() for name in HIDDEN}
    tnacli.restore(ours, keep_ternary=True)
    assert tnacli.shares(ours) == {}
    assert all(torch.equal(weight(ours, name), expected[name]) for name in HIDDEN)
    assert set(ours.state_dict()) == set(module().state_dict())


def test_a_copy_is_changed_and_the_module_is_not() -> None:
    ours = module()
    other = tnacli.ternarize(ours, copy=True)
    assert other is not ours
    assert tnacli.shares(ours) == {}
    assert list(tnacli.shares(other)) == HIDDEN
    assert set(ours.state_dict()) == set(module().state_dict())


def test_layers_are_chosen_by_name_and_pattern_with_settings_of_their_own() -> None:
    ours = module()
    tnacli.ternarize(ours, layers=["2.*"], threshold=0.03)
    tnacli.ternarize(ours, layers="4", mode="binary")
    tnacli.ternarize(ours, layers=["0"], skip_first_and_last=False, threshold="learned")
    assert list(tnacli.shares(ours)) == ["0", "2.0", "4"]
    assert tnacli.shares(ours)["4"].zero == 0
    kinds = [type(ours.get_submodule(f"{name}.parametrizations.weight.0")) for name in ("0", "2.0")]
    assert kinds == [LearnedTernaryWeight, TernaryWeight]
    tnacli.ternarize(ours, skip_first_and_last=False)
    assert list(tnacli.shares(ours)) == ["0", "2.0", "4", "6"]
    assert isinstance(ours.get_submodule("6.parametrizations.weight.0"), MeanTernaryWeight)


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(3, 4, 3), nn.Conv3d(2, 3, 3), nn.ConvTranspose2d(3, 2, 3), nn.Bilinear(3, 3, 3)], ids=str
)
def test_every_kind_of_convolution_is_taken_and_nothing_else(layer: nn.Module) -> None:
    ours = nn.ModuleList([nn.Linear(2, 2), layer, nn.Linear(2, 2)])
    if isinstance(layer, nn.Bilinear):
        with pytest.raises(UsageError, match="ModuleList has 2 convolutions and linear layers; the first and the last"):
            tnacli.ternarize(ours)
    else:
        assert list(tnacli.shares(tnacli.ternarize(ours))) == ["1"]


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ({"layers": ["3"]}, "'3' is no convolution or linear layer of the module; there are: 0, 2.0, 4, 6"),
        ({"layers": ["2.9"]}, "did you mean '2.0'"),
        ({"layers": []}, "names none"),
        ({"layers": ["0", "4"]}, "layers: 0: first or last, .* skip_first_and_last=False"),
        ({"mode": "ternery"}, "mode='ternery': must be 'ternary' or 'binary'"),
        ({"mode": "binary", "share": 0.7}, "no effect with mode='binary'"),
        ({"mode": "binary", "threshold": 0.1}, "no effect with mode='binary'"),
        ({"threshold": 0.1, "share": 0.7}, "share has no effect"),
        ({"threshold": 0}, "threshold=0: must be above 0"),
        ({"threshold": float("nan")}, "threshold=nan: must be above 0"),
        ({"threshold": "fixed"}, "threshold='fixed': must be a number above 0, 'mean' or 'learned'"),
        ({"share": -1}, "share=-1: must be above 0"),
    ],
    ids=str,
)
def test_a_call_that_makes_no_sense_is_refused_and_changes_nothing(way: dict[str, Any], message: str) -> None:
    ours = module()
    with pytest.raises(UsageError, match=message):
        tnacli.ternarize(ours, **way)
    assert tnacli.shares(ours) == {}


def test_what_cannot_be_ternarized_is_named() -> None:
    normed, lazy, whole = module(), module(), module()
    parametrizations.weight_norm(normed[4])
    lazy[4] = nn.LazyLinear(12)
    whole[4].weight = nn.Parameter(torch.ones(12, 96, dtype=torch.int8), requires_grad=False)
    for one, message in (
        (normed, "4: its weight is made from other"),
        (lazy, "4: .* no shape yet"),
        (whole, "4: .*int8"),
    ):
        with pytest.raises(UsageError, match=message):
            tnacli.ternarize(one)
        assert tnacli.shares(one) == {}


def test_a_second_time_needs_other_layers_or_a_restoration() -> None:
    ours = tnacli.ternarize(module())
    with pytest.raises(UsageError, match=r"4 convolutions and linear layers, 2 of them ternary .*tnacli\.restore"):
        tnacli.ternarize(ours, threshold=0.2)
    with pytest.raises(UsageError, match=r"layers: 4: ternary or binary already"):
        tnacli.ternarize(ours, layers=["4"])


def test_a_layer_that_would_be_silent_is_refused() -> None:
    ours = module()
    with pytest.raises(DivergedError, match=r"4 \(largest .w. 0\.1\d*\); take a threshold below the values shown"):
        tnacli.ternarize(ours, threshold=0.15)
    with pytest.raises(DivergedError, match=r"2\.0 .*take a smaller share"):
        tnacli.ternarize(ours, share=50.0)
    assert tnacli.shares(ours) == {}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_state_dict_goes_to_a_module_ternarized_the_same_way(way: dict[str, Any]) -> None:
    ours = tnacli.ternarize(module(), **way)
    step(ours, torch.optim.SGD(ours.parameters(), lr=0.5))
    other = nn.Sequential(*(copy.deepcopy(part) for part in module()))
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    tnacli.ternarize(other, **way)
    other.load_state_dict(ours.state_dict())
    assert torch.equal(other.eval()(X), ours.eval()(X))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_average_of_weights_is_one_of_latent_weights_made_ternary(way: dict[str, Any]) -> None:
    ours = tnacli.ternarize(module(), **way)
    average = AveragedModel(ours)
    sgd = torch.optim.SGD(ours.parameters(), lr=0.5)
    latents = []
    for _ in range(3):
        step(ours, sgd)
        average.update_parameters(ours)
        latents.append(ours.get_parameter("4.parametrizations.weight.original").detach().clone())
    latent = average.module.get_parameter("4.parametrizations.weight.original")
    torch.testing.assert_close(latent, torch.stack(latents).mean(0))
    assert list(tnacli.shares(average)) == [f"module.{name}" for name in HIDDEN]
    assert len(weight(average.module, "4").abs().unique()) == (1 if way.get("mode") == "binary" else 2)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_autocast_computes_with_the_very_same_ternary_weights(way: dict[str, Any]) -> None:
    ours = tnacli.ternarize(module(), **way)
    adam = torch.optim.Adam(ours.parameters(), lr=0.01)
    seen: list[Tensor] = []
    adam.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        assert weight(ours, "4").dtype == torch.float32
        assert torch.equal(weight(ours, "4"), weight(ours, "4").bfloat16().float())
        ours[4].register_forward_hook(lambda layer, given, out: seen.append(out))
        loss = F.cross_entropy(ours(X), LABELS)
    loss.backward()
    adam.step()
    assert seen[0].dtype == torch.bfloat16
    assert all(parameter.grad is not None and parameter.dtype == torch.float32 for parameter in ours.parameters())


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_compiled_module_is_one_graph_and_learns_the_same(way: dict[str, Any]) -> None:
    ours, plain = tnacli.ternarize(module(), **way), tnacli.ternarize(module(), **way)
    compiled: Any = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for one, run in ((ours, compiled), (plain, plain)):
        sgd = torch.optim.SGD(one.parameters(), lr=0.1)
        for _ in range(2):
            step(run, sgd)
    for (name, value), other in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, msg=name)


def test_a_module_compiled_before_computes_with_ternary_weights_after() -> None:
    ours = module().eval()
    compiled: Any = torch.compile(ours, backend="aot_eager")
    before = compiled(X)
    tnacli.ternarize(ours)
    torch.testing.assert_close(compiled(X), ours(X))
    assert not torch.allclose(compiled(X), before)
    tnacli.restore(compiled)
    torch.testing.assert_close(compiled(X), before)


def test_weights_of_many_timesteps_are_computed_once_where_they_are_cached() -> None:
    ours = tnacli.ternarize(module())
    computed: list[object] = []
    ours.get_submodule("4.parametrizations.weight.0").register_forward_hook(lambda *given: computed.append(given))
    with parametrize.cached():
        loss = torch.stack([ours(X) for _ in range(4)]).square().sum()
        loss.backward()
    assert len(computed) == 1


PROCESS = """\
import sys, torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
import tnacli, tnacli.errors
from tests.quant.test_ternarize import module

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
x, labels = torch.randn(16, 2, 8, 8), torch.arange(16) % 5
model = tnacli.ternarize(module().eval(), layers=["4"], threshold="learned")
wrapped = DistributedDataParallel(model)
sgd = torch.optim.SGD(wrapped.parameters(), lr=0.5)
for step in range(4):
    if step == 2:
        try:
            tnacli.ternarize(wrapped)
        except tnacli.errors.UsageError:
            wrapped = DistributedDataParallel(tnacli.ternarize(wrapped.module))
    sgd.zero_grad()
    logits = wrapped(x[rank::2])
    (F.cross_entropy(logits, labels[rank::2]) + tnacli.twin_loss(logits, torch.zeros_like(logits), alpha=0.1)).backward()
    sgd.step()
torch.save(model.state_dict(), f"{sys.argv[2]}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    """With a learned threshold from the beginning in one layer, and one that follows the mean, which comes late, in another."""
    torch.manual_seed(0)
    x, labels = torch.randn(16, 2, 8, 8), torch.arange(16) % 5
    ours = tnacli.ternarize(module().eval(), layers=["4"], threshold="learned")
    sgd = torch.optim.SGD(ours.parameters(), lr=0.5)
    for at in range(4):
        if at == 2:
            tnacli.ternarize(ours)
        sgd.zero_grad()
        logits = ours(x)
        (F.cross_entropy(logits, labels) + tnacli.twin_loss(logits, torch.zeros_like(logits), alpha=0.1)).backward()
        sgd.step()
    started = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)], cwd=Path(__file__).parents[2])
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name, value in ours.state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, msg=name)
