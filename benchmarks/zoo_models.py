"""Public models of SpikingJelly, snnTorch, norse and sinabs, made by their own code with their own defaults.

SpikingJelly and norse bring their models in the package; those of snnTorch's and sinabs' tutorials, which are notebooks, are put
together here as the notebooks do. The number of classes and of input channels is that of the data.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]
"""Samples as `tnacli.from_module` takes them to logits [N, classes]."""


@dataclass(frozen=True)
class Training:
    """Epochs in full precision and with ternary weights, and numbers of samples; without epochs a model is only looked at."""

    epochs: int = 0
    ternary_epochs: int = 0
    train: int = 0
    test: int = 0


FULL, NONE = Training(3, 2, 800, 100), Training()


@dataclass(frozen=True)
class ZooModel:
    """A model that `make` builds, with what is around it, and the data set that it is for.

    `timesteps` are those of event frames; `spiking_output` is said of models whose logits are spikes. `size` is the side of
    images that a model is made for, to which those of the data set are enlarged. `training` is how long it is trained.
    """

    library: str
    name: str
    make: Callable[[], tuple[nn.Module, Forward]]
    data: str
    timesteps: int = 1
    spiking_output: bool = False
    size: int | None = None
    training: Training = FULL

    @property
    def key(self) -> str:
        return f"{self.library} {self.name}"


def _jelly(
    place: str, steps: int = 4, *, images: bool = True, **settings: Any
) -> Callable[[], tuple[nn.Module, Forward]]:
    """`place` of SpikingJelly ("module:function") called with `settings`, all timesteps at once, its output averaged."""

    def make() -> tuple[nn.Module, Forward]:
        module, _, name = place.partition(":")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            built = getattr(importlib.import_module(f"spikingjelly.activation_based.{module}"), name)
            from spikingjelly.activation_based import functional, neuron, surrogate
        arguments = dict(settings)
        kind = arguments.pop("neurons", "LIFNode")
        if kind is not None:
            arguments["spiking_neuron"] = getattr(neuron, kind)
            arguments |= {"surrogate_function": surrogate.ATan(), "detach_reset": True}
        net = built(**arguments)
        functional.set_step_mode(net, "m")

        def forward(samples: Tensor) -> Tensor:
            functional.reset_net(net)
            over_time = samples.unsqueeze(0).repeat(steps, 1, 1, 1, 1) if images else samples.transpose(0, 1)
            logits: Tensor = net(over_time)
            return logits.mean(0)

        return net, forward

    return make


def _whole(place: str, steps: int, **settings: Any) -> Callable[[], tuple[nn.Module, Forward]]:
    """One of SpikingJelly that goes through its timesteps itself, or one that is given them one by one."""

    def make() -> tuple[nn.Module, Forward]:
        module, _, name = place.partition(":")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = getattr(importlib.import_module(f"spikingjelly.activation_based.{module}"), name)(**settings)
            from spikingjelly.activation_based import functional

        def forward(samples: Tensor) -> Tensor:
            functional.reset_net(net)
            if "T" in settings:
                logits: Tensor = net(samples)
                return logits if logits.dim() == 2 else logits.mean(0)
            return torch.stack([net(samples) for _ in range(steps)]).mean(0)

        return net, forward

    return make


def _poisson() -> tuple[nn.Module, Forward]:
    """lif_fc_mnist: pixels as random spikes, 100 timesteps, the rates of ten neurons."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from spikingjelly.activation_based import functional
        from spikingjelly.activation_based.examples.lif_fc_mnist import SNN
    net = SNN(tau=2.0)

    def forward(frames: Tensor) -> Tensor:
        functional.reset_net(net)
        return torch.stack([net(frame) for frame in frames.unbind(1)]).mean(0)

    return net, forward


class FullyConnected(nn.Module):
    """snnTorch's tutorial 5: two layers of leaky neurons, 25 timesteps, the spikes of the last ones counted."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch as snn

        self.fc1, self.lif1 = nn.Linear(28 * 28, 1000), snn.Leaky(beta=0.95)
        self.fc2, self.lif2 = nn.Linear(1000, 10), snn.Leaky(beta=0.95)

    def forward(self, images: Tensor) -> Tensor:
        first, second, spikes = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for _ in range(25):
            spiked, first = self.lif1(self.fc1(images.flatten(1)), first)
            spiked, second = self.lif2(self.fc2(spiked), second)
            spikes.append(spiked)
        return torch.stack(spikes).sum(0)


def _tutorial_5() -> tuple[nn.Module, Forward]:
    net = FullyConnected()
    return net, net


def _convolutional(
    channels: int, hidden: int, beta: float, steps: int | None
) -> Callable[[], tuple[nn.Module, Forward]]:
    """snnTorch's tutorials 6 (50 timesteps of an image) and 7 (event frames): 12C5-MP2-64C5-MP2-10FC, or 32C5."""

    def make() -> tuple[nn.Module, Forward]:
        import snntorch as snn
        from snntorch import surrogate, utils

        side = ((28 if channels == 1 else 34) - 4) // 2 - 4
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings = {"beta": beta, "spike_grad": surrogate.fast_sigmoid(), "init_hidden": True}
            net = nn.Sequential(
                nn.Conv2d(channels, 12, 5), nn.MaxPool2d(2), snn.Leaky(**settings),
                nn.Conv2d(12, hidden, 5), nn.MaxPool2d(2), snn.Leaky(**settings),
                nn.Flatten(), nn.Linear((side // 2) ** 2 * hidden, 10), snn.Leaky(**settings, output=True),
            )  # fmt: skip

        def forward(samples: Tensor) -> Tensor:
            utils.reset(net)
            frames = [samples] * steps if steps is not None else samples.unbind(1)
            return torch.stack([net(frame)[0] for frame in frames]).sum(0)

        return net, forward

    return make


def _norse(place: str, **settings: Any) -> Callable[[], tuple[nn.Module, Forward]]:
    """One of norse.torch.models, 32 timesteps [T, N, C, H, W]; the largest potential of each class is its logit."""

    def make() -> tuple[nn.Module, Forward]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module, _, name = place.partition(":")
            net = getattr(importlib.import_module(f"norse.torch.models.{module}"), name)(**settings)

        def forward(images: Tensor) -> Tensor:
            over_time: Tensor = net(images.unsqueeze(0).repeat(32, 1, 1, 1, 1))
            return over_time.amax(0)

        return net, forward

    return make


def _sinabs(channels: int, side: int, *, steps: int) -> Callable[[], tuple[nn.Module, Forward]]:
    """The network of sinabs' tutorials, 20C5-AP2-32C5-AP2-128C3-AP2-500FC-10FC, made spiking by `from_model`."""

    def make() -> tuple[nn.Module, Forward]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import sinabs
            from sinabs.from_torch import from_model
        left = (((side - 4) // 2 - 4) // 2 - 2) // 2
        ann = nn.Sequential(
            nn.Conv2d(channels, 20, 5, bias=False), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(20, 32, 5, bias=False), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(32, 128, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(128 * left * left, 500, bias=False), nn.ReLU(), nn.Linear(500, 10, bias=False),
        )  # fmt: skip
        net = from_model(ann, num_timesteps=steps).spiking_model

        def forward(samples: Tensor) -> Tensor:
            sinabs.reset_states(net)
            frames = samples.repeat_interleave(steps, 0) if samples.dim() == 4 else samples.flatten(0, 1)
            logits: Tensor = net(frames)
            return logits.view(-1, steps, 10).sum(1)

        return net, forward

    return make


_PLIF: dict[str, Any] = {"neurons": "ParametricLIFNode"}
_TEN: dict[str, Any] = {"num_classes": 10}
MODELS = (
    ZooModel("SpikingJelly", "lif_fc_mnist.SNN", _poisson, "fashion_mnist", 100, spiking_output=True),
    ZooModel(
        "SpikingJelly", "conv_fashion_mnist.CSNN",
        _whole("examples.conv_fashion_mnist:CSNN", 4, T=4, channels=128), "fashion_mnist", spiking_output=True,
    ),
    ZooModel(
        "SpikingJelly", "parametric_lif_net.FashionMNISTNet", _jelly("model.parametric_lif_net:FashionMNISTNet", **_PLIF),
        "fashion_mnist", spiking_output=True,
    ),
    ZooModel(
        "SpikingJelly", "parametric_lif_net.NMNISTNet", _jelly("model.parametric_lif_net:NMNISTNet", images=False, **_PLIF),
        "nmnist", 10, spiking_output=True, training=NONE,
    ),
    ZooModel(
        "SpikingJelly", "parametric_lif_net.CIFAR10Net", _jelly("model.parametric_lif_net:CIFAR10Net", **_PLIF),
        "cifar10", spiking_output=True, training=NONE,
    ),
    *(
        ZooModel(
            "SpikingJelly", f"spiking_vgg.{name}", _jelly(f"model.spiking_vgg:{name}", **_TEN), "cifar10", size=224, training=NONE
        )
        for name in ("spiking_vgg11", "spiking_vgg11_bn")
    ),
    *(
        ZooModel("SpikingJelly", f"{module}.{name}", _jelly(f"model.{module}:{name}", **more), "cifar10", training=NONE)
        for module, name, more in (
            ("spiking_resnet", "spiking_resnet18", _TEN),
            ("spiking_resnet", "spiking_resnet50", _TEN),
            ("spiking_resnet", "spiking_resnext50_32x4d", _TEN),
            ("sew_resnet", "sew_resnet18", {**_TEN, "cnf": "ADD"}),
        )
    ),
    *(
        ZooModel(
            "SpikingJelly", f"{module}.{name}", _whole(f"model.{module}:{name}", 4, T=4, **_TEN), "cifar10", training=NONE
        )
        for module, name in (
            ("ms_resnet", "ms_resnet18"),
            ("ms_resnet", "max_resnet18"),
            ("masnn", "att_ms_resnet18"),
            ("spikformer", "spikformer_cifar10"),
            ("spike_driven_transformer", "sdt_8_384"),
            ("qkformer", "qkformer_10_384"),
            ("maxformer", "maxformer_cifar"),
        )
    ),
    *(
        ZooModel("SpikingJelly", f"spiking_vggws_ottt.{name}", _whole(f"model.spiking_vggws_ottt:{name}", 6, **_TEN), "cifar10",
                 size=size, training=NONE)
        for name, size in (("ottt_spiking_vggws", None), ("ottt_spiking_vgg11", 224))
    ),
    ZooModel("snnTorch", "tutorial 5", _tutorial_5, "fashion_mnist", spiking_output=True),
    ZooModel("snnTorch", "tutorial 6", _convolutional(1, 64, 0.5, 50), "fashion_mnist", spiking_output=True),
    ZooModel("snnTorch", "tutorial 7", _convolutional(2, 32, 0.5, None), "nmnist", 10, spiking_output=True),
    ZooModel("norse", "models.conv.ConvNet", _norse("conv:ConvNet"), "fashion_mnist"),
    ZooModel("norse", "models.conv.ConvNet4", _norse("conv:ConvNet4"), "fashion_mnist"),
    ZooModel("norse", "models.mobilenet_v2", _norse("mobilenet:mobilenet_v2", num_classes=10), "cifar10", training=NONE),
    ZooModel("sinabs", "from_model, images", _sinabs(1, 28, steps=10), "fashion_mnist"),
    ZooModel("sinabs", "from_model, N-MNIST", _sinabs(2, 34, steps=10), "nmnist", 10),
)  # fmt: skip
