"""`tnacli.from_module`: networks of other libraries and of plain PyTorch as packed ones, and what cannot be one named."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tnacli
from tnacli.errors import NetworkError, UsageError
from tnacli.recipe.schema.model import Neuron
from tnacli.snn.lif import LIF
from tnacli.snn.own import OverTime, TimeFirst
from tnacli.snn.readout import Readout

T = 4
X = torch.rand(30, 2, 8, 8, generator=torch.Generator().manual_seed(0))
Forward = Callable[[Tensor], Tensor]


def chain(neurons: Callable[[], nn.Module], *, pool: nn.Module | None = None, norm: bool = False) -> list[nn.Module]:
    """Convolutions with strides, batch norm and a bias, pooling, linear layers; enough current for spikes everywhere."""
    torch.manual_seed(1)
    parts: list[nn.Module] = [
        nn.Conv2d(2, 6, 3, padding=1),
        neurons(),
        pool or nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=not norm),
        *([nn.BatchNorm2d(8)] if norm else []),
        neurons(),
        nn.Flatten(),
        nn.Linear(32, 12),
        neurons(),
        nn.Linear(12, 5),
    ]
    with torch.no_grad():
        for part in parts:
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.weight.mul_(8)
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(0, 1)
                part.weight.uniform_(1, 3)
                part.bias.uniform_(0, 1)
    return parts


def snntorch(**settings: Any) -> tuple[nn.Module, Forward]:
    snn = pytest.importorskip("snntorch")
    wanted = {"beta": 0.7, "threshold": 0.5, "init_hidden": True, "reset_mechanism": "zero", **settings}
    net = nn.Sequential(*chain(lambda: snn.Leaky(**wanted), norm=True))

    def forward(images: Tensor) -> Tensor:
        from snntorch import utils

        utils.reset(net)
        return torch.stack([net(images) for _ in range(T)]).sum(0)

    return net, forward


def spikingjelly(**settings: Any) -> tuple[nn.Module, Forward]:
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    kind = settings.pop("kind", "LIFNode")
    net = nn.Sequential(*chain(lambda: getattr(neuron, kind)(**settings), norm=True))
    theirs = {nn.Conv2d: layer.Conv2d, nn.Linear: layer.Linear, nn.BatchNorm2d: layer.BatchNorm2d,
              nn.AvgPool2d: layer.AvgPool2d, nn.Flatten: layer.Flatten}  # fmt: skip
    for part in net:
        part.__class__ = theirs.get(type(part), type(part))
        part._step_mode = "s"  # type: ignore[assignment]
    functional.set_step_mode(net, "m")

    def forward(images: Tensor) -> Tensor:
        functional.reset_net(net)
        return net(images.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)

    return net, forward


def spikingjelly_step_by_step(**settings: Any) -> tuple[nn.Module, Forward]:
    net, _ = spikingjelly(**settings)
    from spikingjelly.activation_based import functional

    functional.set_step_mode(net, "s")

    def forward(images: Tensor) -> Tensor:
        functional.reset_net(net)
        total: Any = 0.0
        for _ in range(T):
            total += net(images)
        return total / T

    return net, forward


def sinabs(**settings: Any) -> tuple[nn.Module, Forward]:
    library = pytest.importorskip("sinabs")
    import sinabs.activation as sa
    import sinabs.layers as sl

    reset = getattr(sa, settings.get("reset_fn", "MembraneReset"))()
    settings = {name: value for name, value in settings.items() if name != "reset_fn"}
    if settings.get("spike_fn") == "MaxSpike":
        settings["spike_fn"] = sa.MaxSpike(3)
    if settings.get("spike_fn") == "MultiSpike":
        settings["spike_fn"] = sa.MultiSpike
    wanted = {"tau_mem": 3.0, "spike_fn": sa.SingleSpike, "reset_fn": reset, **settings}
    net = nn.Sequential(
        *chain(lambda: sl.LIFSqueeze(num_timesteps=T, **wanted), pool=sl.SumPool2d(2)),
        sl.ExpLeakSqueeze(tau_mem=4.0, num_timesteps=T),
    )

    def forward(images: Tensor) -> Tensor:
        library.reset_states(net)
        return net(images.repeat_interleave(T, 0)).unflatten(0, (-1, T)).sum(1)

    return net, forward


def norse(**settings: Any) -> tuple[nn.Module, Forward]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("norse").torch
        from norse.torch.functional.lif_box import LIFBoxParameters
        from norse.torch.module.leaky_integrator_box import LIBoxCell
        from norse.torch.module.lif_box import LIFBoxCell
    from norse.torch.functional import reset

    wanted = {"tau_mem_inv": torch.tensor(300.0), "v_th": torch.tensor(0.2), **settings}
    wanted["reset_method"] = getattr(reset, settings.get("reset_method", "reset_value"))
    net = library.SequentialState(*chain(lambda: LIFBoxCell(LIFBoxParameters(**wanted))), LIBoxCell())

    def forward(images: Tensor) -> Tensor:
        state, total = None, torch.zeros(len(images), 5)
        for _ in range(T):
            out, state = net(images, state)
            total = total + out
        return total

    return net, forward


def ours() -> tuple[nn.Module, None]:
    neuron = Neuron(decay=0.6)
    *first, last = chain(lambda: LIF(neuron, T))
    parts: list[nn.Module] = [part if isinstance(part, LIF) else OverTime(part) for part in first]
    readout = Readout(12, 5, 0.6)
    readout.load_state_dict(last.state_dict())
    return nn.Sequential(TimeFirst(), *parts, readout), None


NETWORKS: list[tuple[Any, dict[str, Any], float]] = [
    (snntorch, {}, 0.7),
    (snntorch, {"reset_delay": False}, 0.7),
    (spikingjelly, {}, 0.5),
    (spikingjelly, {"decay_input": False, "v_reset": -0.25, "tau": 4.0}, 0.75),
    (spikingjelly, {"kind": "IFNode"}, 1.0),
    (spikingjelly, {"kind": "ParametricLIFNode", "init_tau": 4.0, "v_threshold": 0.5}, 0.75),
    (spikingjelly_step_by_step, {}, 0.5),
    (sinabs, {}, 0.7165),
    (sinabs, {"norm_input": False, "spike_threshold": torch.tensor(0.8)}, 0.7165),
    (norse, {}, 0.7),
    (snntorch, {"reset_mechanism": "subtract"}, 0.7),
    (spikingjelly, {"v_reset": None, "v_threshold": 0.75}, 0.5),
    (spikingjelly, {"kind": "IFNode", "v_reset": None}, 1.0),
    (sinabs, {"reset_fn": "MembraneSubtract"}, 0.7165),
    (sinabs, {"min_v_mem": -0.1}, 0.7165),
    (
        sinabs,
        {"reset_fn": "MembraneSubtract", "spike_fn": "MultiSpike", "min_v_mem": -0.25, "spike_threshold": 0.5},
        0.7165,
    ),
    (sinabs, {"reset_fn": "MembraneSubtract", "spike_fn": "MaxSpike", "spike_threshold": 0.25}, 0.7165),
    (norse, {"reset_method": "reset_subtract"}, 0.7),
    (ours, {}, 0.6),
]


@pytest.mark.parametrize("encoding", ["ternary2", "ternary5"])
@pytest.mark.parametrize(("make", "settings", "decay"), NETWORKS, ids=lambda part: getattr(part, "__name__", None))
def test_logits_are_those_of_the_network(make: Any, settings: dict[str, Any], decay: float, encoding: str) -> None:
    net, forward = make(**settings)
    tnacli.ternarize(net)
    model = tnacli.from_module(net.eval(), X, forward=forward, encoding=encoding)
    assert model.packed is not None
    with torch.no_grad():
        expected = (forward or net)(X)
    torch.testing.assert_close(model(X, normalised=True), expected, rtol=1e-4, atol=1e-4)
    assert model.timesteps == T
    assert model.packed.about.neuron.decay == pytest.approx(decay, abs=1e-4)
    soft = {"reset_mechanism", "reset_fn", "reset_method"} & settings.keys() or settings.get("v_reset", 0) is None
    assert (model.packed.about.neuron.subtract is not None) == bool(soft)
    # What is pooled 2x2 counts 31 spikes of each neuron.
    several = {"MultiSpike": 31, "MaxSpike": 3}.get(settings.get("spike_fn", ""), 1)
    assert model.packed.about.neuron.most_spikes == several
    assert model.packed.about.neuron.lowest == pytest.approx(settings.get("min_v_mem"))
    assert [layer.name for layer in model.packed.about.layers] == ["conv1", "conv2", "fc1"]
    assert [(layer.pool, layer.stride) for layer in model.packed.about.layers] == [(2, 1), (1, 2), (1, 1)]
    assert {layer.encoding for layer in model.packed.about.layers} == {"fp32", encoding}
    assert len(expected.unique(dim=0)) > 10, "or logits would say little"


class Residual(nn.Module):
    """Shortcuts that add spikes, and convolve them, on the way to the neurons; at the end the whole map is averaged."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.share = share
        first, _, _, second, *_ = chain(nn.Identity)
        self.first, self.second = first, second
        self.third = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.skipping = nn.Conv2d(6, 8, 1, stride=2, bias=False)
        self.last = nn.Linear(8, 5)
        self.neurons = nn.ModuleList([LIF(Neuron(decay=0.6, threshold=0.5), T) for _ in range(3)])

    def over(self, part: nn.Module, x: Tensor) -> Tensor:
        return part(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def forward(self, images: Tensor) -> Tensor:
        x = self.neurons[0](self.over(self.first, images.unsqueeze(0)))
        x = self.neurons[1](self.over(self.second, x) + self.over(self.skipping, x))
        x = self.neurons[2](self.share * (x + self.over(self.third, x)))
        return self.last(x.mean((-2, -1))).mean(0)


def test_residual_sums_of_currents() -> None:
    net = tnacli.ternarize(Residual()).eval()
    model = tnacli.from_module(net, X)
    assert model.packed is not None
    one, two, three = model.packed.about.layers
    assert one.shortcut is None
    assert two.shortcut is not None
    assert two.shortcut.source == "conv1"
    assert two.shortcut.convolution is not None
    assert two.shortcut.convolution.weight == (8, 6, 1, 1)
    assert three.shortcut is not None
    assert (three.shortcut.source, three.shortcut.convolution, three.pool) == ("conv2", None, 4)
    torch.testing.assert_close(model(X, normalised=True), net(X), rtol=1e-4, atol=1e-4)


class SpikesAdded(nn.Module):
    """As SEW-ResNets do: blocks add spikes to those before them, or to those of other neurons, and weights meet the sums."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.share = share
        self.weights = nn.ModuleList(
            [
                nn.Conv2d(2, 6, 3, padding=1),
                nn.Conv2d(6, 6, 3, padding=1),
                nn.Conv2d(6, 8, 3, stride=2, padding=1),
                nn.Conv2d(8, 8, 3, padding=1),
                nn.Conv2d(6, 8, 1, stride=2),
            ]
        )
        self.neurons = nn.ModuleList([LIF(Neuron(decay=0.6, threshold=0.5), T) for _ in range(5)])
        self.last = nn.Linear(8, 5)
        with torch.no_grad():
            for part in self.weights:
                part.weight.mul_(8)

    def spikes(self, layer: int, x: Tensor) -> Tensor:
        return self.neurons[layer](self.weights[layer](x.flatten(0, 1)).unflatten(0, x.shape[:2]))

    def forward(self, images: Tensor) -> Tensor:
        x = self.spikes(0, images.unsqueeze(0))
        x = self.share * x + self.spikes(1, x)
        x = self.spikes(3, self.spikes(2, x)) + self.spikes(4, x)
        return self.last(x.mean((-2, -1))).mean(0)


def test_sums_of_spikes(tmp_path: Path) -> None:
    net = tnacli.ternarize(SpikesAdded()).eval()
    model = tnacli.from_module(net, X)
    assert model.packed is not None
    about = model.packed.about
    assert about.version == 4
    found = [(layer.name, layer.source, layer.added, layer.pool) for layer in about.layers]
    assert found == [
        ("conv1", None, None, 1),
        ("conv2", None, "conv1", 1),
        ("conv3", None, None, 1),
        ("conv4", None, None, 1),
        ("conv5", "conv2", "conv4", 4),
    ]
    torch.testing.assert_close(model(X, normalised=True), net(X), rtol=1e-4, atol=1e-4)
    assert len(net(X).unique(dim=0)) > 10, "or logits would say little"
    assert [path.name for path in model.save(tmp_path / "net", form="c")] == ["net.h", "net.c"]


@pytest.mark.parametrize("share", [0.25, 1.3])
def test_neurons_that_take_a_share_of_spikes(share: float) -> None:
    """As SpikingJelly's LIF neurons do: the potential is counted in units of what a spike adds."""
    net = tnacli.ternarize(Residual(share)).eval()
    model = tnacli.from_module(net, X)
    torch.testing.assert_close(model(X, normalised=True), net(X), rtol=1e-4, atol=1e-4)
    assert model.packed is not None
    *_, three = model.packed.about.layers
    assert three.neuron is not None
    assert three.neuron.threshold == pytest.approx(0.5 / share)
    assert len(net(X).unique(dim=0)) > 10, "or logits would say little"


class Resized(nn.Module):
    """Pooling by torch's function, not by a module."""

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, (4, None)) if x.shape[-1] == 4 else F.adaptive_avg_pool2d(x, 4)


@pytest.mark.parametrize(
    "parts", [[nn.AdaptiveAvgPool2d(4)], [nn.AvgPool2d(2), nn.AdaptiveAvgPool2d((4, 4))], [nn.AdaptiveAvgPool2d(8), Resized()],
              [Resized(), Resized()]],
    ids=["module", "of its own size", "twice", "function"],
)  # fmt: skip
def test_adaptive_pooling_is_that_by_squares(parts: list[nn.Module]) -> None:
    """And nothing at all where maps have that size already, as those of VGG's last one do."""
    net, _ = ours()
    assert isinstance(net, nn.Sequential)
    net[3] = OverTime(*parts)
    tnacli.ternarize(net)
    model = tnacli.from_module(net, X)
    assert model.packed is not None
    assert [layer.pool for layer in model.packed.about.layers] == [2, 1, 1]
    torch.testing.assert_close(model(X, normalised=True), net(X), rtol=1e-4, atol=1e-4)


def whole_map(size: int) -> nn.Sequential:
    """Its last map, of `size` x `size`, is averaged."""
    torch.manual_seed(1)
    parts = [nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)]
    with torch.no_grad():
        for part in parts:
            part.weight.mul_(8)
    first, second = (LIF(Neuron(decay=0.6), T) for _ in parts)
    average = OverTime(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(
        TimeFirst(), OverTime(parts[0]), first, OverTime(parts[1]), second, average, Readout(8, 5, 0.6)
    )


@pytest.mark.parametrize("size", [3, 5, 6, 7])
def test_the_last_map_is_averaged_whatever_its_size(size: int, tmp_path: Path) -> None:
    sample, net = X[..., :size, :size], whole_map(size)
    tnacli.ternarize(net)
    model = tnacli.from_module(net, sample)
    assert model.packed is not None
    assert [layer.pool for layer in model.packed.about.layers] == [1, size]
    torch.testing.assert_close(model(sample, normalised=True), net(sample), rtol=1e-4, atol=1e-4)
    assert len(net(sample).unique(dim=0)) > 10, "or logits would say little"
    assert model.save(tmp_path / "net", form="c")


def test_weights_that_are_standardised_are_refused() -> None:
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    net, _ = ours()
    assert isinstance(net, nn.Sequential)
    net[4] = OverTime(layer.WSConv2d(6, 8, 3, stride=2, padding=1))
    tnacli.ternarize(net)
    with pytest.raises(NetworkError, match=r"4.0 \(WSConv2d\) has weights that are standardised"):
        tnacli.from_module(net, X)


@pytest.mark.parametrize("voters", [1, 3])
def test_the_last_neurons_spikes_are_logits(voters: int) -> None:
    """As SpikingJelly's networks end: in neurons, several of which vote for a class."""
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, layer

    net, _ = spikingjelly()
    assert isinstance(net, nn.Sequential)
    torch.manual_seed(2)
    last = layer.Linear(12, 5 * voters)
    with torch.no_grad():
        last.weight.mul_(16)
    net[-1] = last
    net.extend([copy.deepcopy(net[1]), *([layer.VotingLayer(voters)] if voters > 1 else [])])
    functional.set_step_mode(net, "m")
    hidden = [name for name, part in net.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)][1:]
    tnacli.ternarize(net, layers=hidden, skip_first_and_last=False)

    def forward(images: Tensor) -> Tensor:
        functional.reset_net(net)
        return net(images.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)

    net.eval()
    model = tnacli.from_module(net, X, forward=forward)
    with torch.no_grad():
        expected = forward(X)
    torch.testing.assert_close(model(X, normalised=True), expected, rtol=1e-6, atol=1e-6)
    assert [layer.name for layer in model.packed.about.layers] == ["conv1", "conv2", "fc1", "fc2"]
    assert len(expected.unique(dim=0)) > 10, "or logits would say little"


def test_event_frames_have_timesteps_of_their_own() -> None:
    net, _ = ours()
    tnacli.ternarize(net)
    frames = torch.randint(0, 4, (20, T, 2, 8, 8)).float()
    model = tnacli.from_module(net, frames)
    assert model.input.kind == "events"
    torch.testing.assert_close(model(frames), net(frames), rtol=1e-4, atol=1e-4)


def test_its_files_predict_alike(tmp_path: Path) -> None:
    net, forward = snntorch()
    tnacli.ternarize(net)
    model = tnacli.from_module(net, X, forward=forward, labels="abcde", mean=(0.5, 0.5), std=(0.25, 0.5))
    (packed,) = model.save(tmp_path / "net.safetensors")
    loaded = tnacli.load(packed)
    assert loaded.labels == tuple("abcde")
    assert loaded.input.std == (0.25, 0.5)
    assert torch.equal(loaded(X, normalised=True), model(X, normalised=True))
    assert [path.name for path in model.save(tmp_path / "net", form="c")] == ["net.h", "net.c"]
    for form in ("onnx", "nir"):
        if importlib.util.find_spec(form):
            assert model.save(tmp_path / f"net.{form}", form=form)[0].stat().st_size > 100
    with pytest.raises(UsageError, match="give a sample"):
        loaded.save(tmp_path / "again", form="c")
    with pytest.raises(UsageError, match="'tflite'"):
        model.save(tmp_path / "net.tflite", form="tflite")


def replaced(at: int, by: nn.Module) -> Callable[[], tuple[nn.Module, None]]:
    def make() -> tuple[nn.Module, None]:
        net, _ = ours()
        assert isinstance(net, nn.Sequential)
        net[at] = by if isinstance(by, LIF) else OverTime(by)
        return net, None

    return make


def pooled_by_three() -> tuple[nn.Module, None]:
    """Before the second convolution, not before the last layer."""
    net = whole_map(8)
    net[3] = OverTime(nn.AvgPool2d(3), *net[3].children())
    return net, None


class OneSpikeOnItsOwn(SpikesAdded):
    """The spikes of the second layer go on with others added, and without."""

    def forward(self, images: Tensor) -> Tensor:
        first = self.spikes(0, images.unsqueeze(0))
        second = self.spikes(1, first)
        x = self.spikes(3, self.spikes(2, first + second)) + self.spikes(4, second)
        return self.last(x.mean((-2, -1))).mean(0)


class CurrentsOfCurrents(SpikesAdded):
    """As MS-ResNets do: currents are added to the sum of currents before, which goes on without neurons."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.weights[0](images).unsqueeze(0)
        x = x + self.weights[1](self.neurons[0](x).flatten(0, 1)).unflatten(0, (T, -1))
        x = x + self.weights[1](self.neurons[1](x).flatten(0, 1)).unflatten(0, (T, -1))
        x = self.spikes(4, self.neurons[2](x))
        return self.last(x.mean((-2, -1))).mean(0)


class OfTheSample(SpikesAdded):
    """Weights of a second layer meet the sample, too."""

    def forward(self, images: Tensor) -> Tensor:
        first = self.spikes(0, images.unsqueeze(0))
        x = self.spikes(2, self.neurons[1](self.weights[0](images).unsqueeze(0)) + first)
        return self.last(x.mean((-2, -1))).mean(0)


CANNOT: list[tuple[Callable[[], tuple[nn.Module, Any]], str]] = [
    (lambda: snntorch(reset_mechanism="subtract", reset_delay=False), r"1 \(Leaky\) has a soft reset without delay"),
    (
        lambda: snntorch(reset_mechanism="subtract", beta=0.0),
        r"1 \(Leaky\) has a soft reset without delay, or of neurons",
    ),
    (lambda: snntorch(beta=torch.linspace(0.5, 0.9, 8)[:, None, None].expand(8, 1, 1)), "differs between neurons"),
    (lambda: spikingjelly(kind="QIFNode"), r"1 \(QIFNode\) calls torch's"),
    (lambda: sinabs(tau_syn=2.0), "synaptic currents with a time constant"),
    (
        lambda: sinabs(spike_fn=pytest.importorskip("sinabs.activation").MultiSpike),
        "several spikes .* with a reset to 0",
    ),
    (lambda: sinabs(min_v_mem=0.5), "a lower bound of the potential that is above 0"),
    (lambda: norse(v_reset=torch.tensor(-0.5)), "reset to another potential than the resting one"),
    (replaced(3, nn.MaxPool2d(2, ceil_mode=True)), r"3.0 \(MaxPool2d\) has maximum pooling .* ceil_mode=True"),
    (replaced(3, nn.MaxPool2d(3, dilation=2)), r"3.0 \(MaxPool2d\) has maximum pooling .* dilation \(2, 2\)"),
    (replaced(3, nn.AdaptiveMaxPool2d(4)), r"3.0 \(AdaptiveMaxPool2d\) has maximum pooling of that kind"),
    (lambda: (SpikesAdded(0.5), None), "adds to spikes what is no number of earlier neurons' spikes"),
    (lambda: (OneSpikeOnItsOwn(), None), r"spikes of neurons\.1 \(LIF\) are taken with others added in one place"),
    (
        lambda: (CurrentsOfCurrents(), None),
        r"adds 2 values, neither spikes to spikes nor currents to currents before neurons",
    ),
    (lambda: (OfTheSample(), None), r"receives 1 currents of which none has weights that meet spikes"),
    (replaced(3, nn.AvgPool2d(3, 2)), "pooling of 3x3 with stride 2"),
    (pooled_by_three, r"what follows 2 \(LIF\) pools 3x3; packed files pool by 2, 4 or 8"),
    (replaced(3, nn.AdaptiveAvgPool2d(3)), r"3.0 \(AdaptiveAvgPool2d\) has pooling of 8x8 to 3x3"),
    (replaced(3, nn.AdaptiveAvgPool2d((4, 2))), "pooling of 8x8 to 4x2"),
    (replaced(3, nn.AdaptiveAvgPool2d(16)), "pooling of 8x8 to 16x16"),
    (replaced(4, nn.Conv2d(6, 8, 3, stride=2, padding=(1, 0))), r"4.0 \(Conv2d\) has padding \(1, 0\)"),
    (
        replaced(4, nn.Conv2d(6, 8, 3, stride=2, padding=3)),
        r"4.0 \(Conv2d\) has padding \(3, 3\); .* less than the kernel",
    ),
    (replaced(4, nn.Conv2d(6, 8, 3, stride=2, padding=2, dilation=2)), "its dilation"),
    (replaced(5, nn.ReLU()), r"5.0 \(ReLU\) calls torch's relu"),
    (replaced(5, nn.Identity()), r"the output of 4.0 \(Conv2d\) meets no spiking neurons"),
]


class Pooling(nn.Module):
    """Maxima by modules and by torch's own function, of spikes and of currents, before neurons of several kinds."""

    def __init__(self, *, pools: tuple[Any, Any]) -> None:
        super().__init__()
        self.first, _, _, self.second, _, _, self.third, _, self.last = chain(nn.Identity)
        self.pools = pools
        kinds = [Neuron(decay=0.6, threshold=0.5), Neuron(decay=0.9, threshold=0.75), Neuron(decay=0.6, threshold=0.5)]
        self.neurons = nn.ModuleList([LIF(kind, T) for kind in kinds])

    def over(self, part: Any, x: Tensor) -> Tensor:
        return part(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def forward(self, images: Tensor) -> Tensor:
        before, after = self.pools
        currents = self.over(self.first, images.unsqueeze(0))
        x = self.neurons[0](self.over(before, currents))
        x = self.over(after, x)
        x = self.neurons[1](self.over(self.second, x))
        x = self.neurons[2](self.third(x.flatten(2)))
        return self.last(x).mean(0)


POOLS: list[tuple[Any, Any, dict[str, Any]]] = [
    (nn.Identity(), nn.MaxPool2d(2), {"of": "spikes", "size": 2, "stride": 2, "padding": 0}),
    (nn.Identity(), nn.MaxPool2d(3, 2, 1), {"of": "spikes", "size": 3, "stride": 2, "padding": 1}),
    (nn.Identity(), lambda x: F.max_pool2d(x, 3, stride=2, padding=1), {"of": "spikes", "size": 3, "stride": 2, "padding": 1}),
    (nn.MaxPool2d(2), nn.Identity(), {"of": "currents", "size": 2, "stride": 2, "padding": 0}),
    (lambda x: F.max_pool2d(x, 2, 2), nn.Identity(), {"of": "currents", "size": 2, "stride": 2, "padding": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "said"), POOLS, ids=range(len(POOLS)))
def test_maximum_pooling_and_constants_of_each_layer(before: Any, after: Any, said: dict[str, Any]) -> None:
    net = tnacli.ternarize(Pooling(pools=(before, after))).eval()
    model = tnacli.from_module(net, X)
    torch.testing.assert_close(model(X, normalised=True), net(X), rtol=1e-4, atol=1e-4)
    assert model.packed is not None
    one, two, three = model.packed.about.layers
    assert one.max_pool is not None
    assert one.max_pool.model_dump() == said
    assert one.neuron is None
    assert two.neuron is not None
    assert (two.neuron.decay, two.neuron.threshold, three.neuron) == (0.9, 0.75, None)
    assert len(net(X).unique(dim=0)) > 10, "or logits would say little"


@pytest.mark.parametrize(
    ("conv", "padding", "groups"),
    [
        (nn.Conv2d(6, 8, 3, stride=1, padding=0), 0, 1),
        (nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2), None, 2),
        (nn.Conv2d(6, 12, 3, stride=1, padding="valid", groups=6), 0, 6),
        (nn.Conv2d(6, 8, 5, stride=2, padding=2), None, 1),
        (nn.Conv2d(6, 8, 3, padding="same"), None, 1),
        (nn.Conv2d(6, 8, 1, stride=2, padding=0, groups=2), None, 2),
    ],
)
def test_padding_and_groups(conv: nn.Conv2d, padding: int | None, groups: int) -> None:
    torch.manual_seed(3)
    conv.reset_parameters()
    net, _ = replaced(4, conv)()
    assert isinstance(net, nn.Sequential)
    linear = nn.Linear(net[:6](X).flatten(2).shape[-1], 12)
    with torch.no_grad():
        for part in (conv, linear):
            part.weight.mul_(8)
    net[7] = OverTime(linear)
    tnacli.ternarize(net).eval()
    model = tnacli.from_module(net, X)
    torch.testing.assert_close(model(X, normalised=True), net(X), rtol=1e-4, atol=1e-4)
    assert model.packed is not None
    layer = model.packed.about.layers[1]
    assert (layer.padding, layer.groups, layer.weight) == (padding, groups, tuple(conv.weight.shape))
    assert len(net(X).unique(dim=0)) > 10, "or logits would say little"


@pytest.mark.parametrize(("make", "message"), CANNOT, ids=[message for _, message in CANNOT])
def test_what_no_packed_file_can_say_is_named(make: Callable[[], tuple[nn.Module, Any]], message: str) -> None:
    net, forward = make()
    tnacli.ternarize(net)
    with pytest.raises(NetworkError, match=message):
        tnacli.from_module(net, X, forward=forward)
    assert net.training


def test_full_precision_and_silent_networks_are_refused() -> None:
    net, _ = ours()
    with pytest.raises(NetworkError, match=r"weights of 4.0 \(Conv2d\) are in full precision"):
        tnacli.from_module(net, X)
    for part in net.modules():
        if isinstance(part, LIF):
            part.neuron = Neuron(decay=0.6, threshold=1000.0)
    with pytest.raises(NetworkError, match="no neuron of conv1, conv2, fc1 spikes"):
        tnacli.from_module(tnacli.ternarize(net), X)


def test_ternary_weights_without_parametrizations_will_do() -> None:
    net, _ = ours()
    tnacli.ternarize(net)
    expected = tnacli.from_module(net, X)
    tnacli.restore(net, keep_ternary=True)
    assert torch.equal(tnacli.from_module(net, X)(X, normalised=True), expected(X, normalised=True))


def test_a_network_that_does_what_cannot_be_seen_is_found_by_its_logits() -> None:
    """States that go on from sample to sample, and a last output in place of a sum."""
    net, forward = snntorch()
    tnacli.ternarize(net)
    forward(X)
    with pytest.raises(NetworkError, match=r"of 30 samples differ .* not reset"):
        tnacli.from_module(net, X, forward=lambda images: torch.stack([net(images) for _ in range(T)]).sum(0))
    with pytest.raises(NetworkError, match="of 30 samples differ"):
        tnacli.from_module(net, X, forward=lambda images: (forward(images), net(images))[1])


def test_arguments_that_make_no_sense_are_refused() -> None:
    net, forward = snntorch()
    tnacli.ternarize(net)
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"sample": X[0]}, "float32 images .* 2x8x8"),
        ({"sample": X.double()}, "it is torch.float64"),
        ({"sample": X, "encoding": "int8"}, "encoding='int8'"),
        ({"sample": X, "labels": "ab"}, "2 names for 5 logits"),
        ({"sample": X, "mean": (0.5,)}, "mean and std belong together"),
        ({"sample": X, "forward": lambda images: torch.stack([net(images), net(images)])}, "not logits"),
    )
    for how, message in wrong:
        with pytest.raises(UsageError, match=message):
            tnacli.from_module(net, **{"forward": forward, **how})
