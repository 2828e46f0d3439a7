"""From anybody's module to a packed network: what a recorded run computes, checked against the run's own logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tnacli.deploy.library import Model, packed_model
from tnacli.errors import NetworkError, UsageError
from tnacli.importing.layers import layers_of
from tnacli.importing.packing import packed_network
from tnacli.importing.recording import Recorder
from tnacli.packed.codec import ENCODINGS
from tnacli.packed.document import explain
from tnacli.packed.engine import PackedSNN
from tnacli.packed.network import PackedNetwork
from tnacli.packed.spec import InputSpec, Origin
from tnacli.snn.arithmetic import exact

CLOSE = 1e-3
"""By how much logits may differ, as a share of the largest: sums in fp32 in another order."""
TIPPED = 0.01
"""The largest share of samples whose logits may differ by more: a neuron a rounding error away from its threshold."""
_AT_ONCE = 64


def from_module(
    module: nn.Module,
    sample: Tensor,
    *,
    forward: Callable[[Tensor], Tensor] | None = None,
    labels: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    data_set: str | None = None,
    encoding: str = "ternary2",
) -> Model:
    """The network that `module` is, as a function of samples that can be saved as a packed file, C, ONNX and NIR.

    `sample` are inputs as the network takes them, float32 images [N, C, H, W] or event frames [N, T, C, H, W]. `forward` maps
    them to logits [N, classes]: whatever is around `module`, a loop over timesteps, a reset, a mean over time; without it,
    `module` does so itself. It is called once in evaluation mode, and what it does is recorded: convolutions and linear layers
    (hidden ones ternary or binary, as `tnacli.ternarize` makes them), batch norm, LIF neurons with a hard or a soft reset,
    average, sum and maximum pooling, residual sums of currents or of spikes, and a last layer without neurons, with leaky ones
    that never spike, or with neurons whose spikes are the logits, summed or averaged over time. Modules of PyTorch, SpikingJelly,
    snnTorch, sinabs, norse and our own are known.

    `labels` name the classes, in the order of the logits. `mean` and `std` by channel say how uint8 pixels were normalised to
    what `sample` is: (pixel / 255 - mean) / std. `data_set` is the name of one that `tna evaluate` is to measure the file on.
    `encoding` is "ternary2", 2 bits a weight, or "ternary5", five weights in a byte.

    Raises NetworkError that names the first module or operation that no packed file can say, or if the packed network's logits
    of `sample` are not the network's own, or no neuron of a layer spikes on it; UsageError if the arguments make no sense.
    """
    packed, logits = described(
        module, sample, forward=forward, labels=labels, mean=mean, std=std, data_set=data_set, encoding=encoding
    )
    require_same(PackedSNN(packed), sample, logits)
    return packed_model(packed, sample)


def described(
    module: nn.Module,
    sample: Tensor,
    *,
    forward: Callable[[Tensor], Tensor] | None = None,
    labels: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    data_set: str | None = None,
    encoding: str = "ternary2",
) -> tuple[PackedNetwork, Tensor]:
    """What `from_module` makes of its arguments, before it is compared, and the logits that it has to give for `sample`.

    Raises as `from_module` does.
    """
    kind = {4: "images", 5: "events"}.get(sample.dim())
    if kind is None or not len(sample) or sample.dtype != torch.float32:
        given = "x".join(map(str, sample.shape)) or "a single number"
        raise UsageError(
            f"sample has to be float32 images [N, C, H, W] or event frames [N, T, C, H, W]; it is {sample.dtype} {given}"
        )
    if encoding not in ENCODINGS:
        raise UsageError(f"encoding={encoding!r}: must be one of {', '.join(map(repr, ENCODINGS))}")
    try:
        inputs = InputSpec.model_validate(
            {
                "kind": kind,
                "channels": sample.shape[-3],
                "size": tuple(sample.shape[-2:]),
                "mean": None if mean is None else tuple(mean),
                "std": None if std is None else tuple(std),
            }
        )
    except ValidationError as error:
        raise UsageError(f"sample, mean and std: {explain(error)}") from None
    origin = Origin(
        data_set=data_set or "unknown", recipe="from_module", run=type(module).__name__, seed=0, identity=""
    )
    return recognised(module, sample, forward or module, inputs=inputs, labels=labels, origin=origin, encoding=encoding)


@torch.no_grad()
@exact()
def recognised(
    module: nn.Module,
    sample: Tensor,
    forward: Callable[[Tensor], Tensor],
    *,
    inputs: InputSpec,
    labels: Sequence[str] | None,
    origin: Origin,
    encoding: str,
) -> tuple[PackedNetwork, Tensor]:
    """The packed form of what `forward` does with `sample` by the parts of `module`, not compared yet, and its logits.

    Raises NetworkError that names the first thing that no packed file can say, UsageError if there are not as many labels as
    logits.
    """
    recorder = Recorder(sample)
    logits = _run(module, sample, forward, recorder)
    output = recorder.of(logits)
    if output is None:
        raise NetworkError("the logits do not come from the sample by anything that was recorded")
    layers, readout, timesteps = layers_of(output, len(sample))
    names = tuple(map(str, range(logits.shape[1]))) if labels is None else tuple(labels)
    if len(names) != logits.shape[1]:
        raise UsageError(f"labels: {len(names)} names for {logits.shape[1]} logits")
    packed = packed_network(
        layers, readout, inputs=inputs, labels=names, timesteps=timesteps, encoding=encoding, origin=origin
    )
    return packed, logits


def _run(module: nn.Module, sample: Tensor, forward: Callable[[Tensor], Tensor], recorder: Recorder) -> Tensor:
    """The logits, in evaluation mode; `module` is in the mode that it was in afterwards."""
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with recorder.watching(module):
            logits: object = forward(sample)
    finally:
        for part, was in training:
            part.training = was
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(sample):
        given = "x".join(map(str, logits.shape)) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UsageError(
            f"forward gives {given}, not logits [N, classes] of the {len(sample)} samples; give one that does, "
            f"with its loop over timesteps and the sum of its outputs over time"
        )
    return logits


@torch.no_grad()
def require_same(engine: PackedSNN, samples: Tensor, logits: Tensor) -> Tensor:
    """The packed network's logits of `samples`, which are to be `logits`, the module's own.

    Raises NetworkError if they are not, but for rounding, or if no neuron of a layer spikes, so that they would show nothing.
    """
    spiking: set[str] = set()

    def observe(layer: str, spikes: Tensor) -> None:
        if bool(spikes.any()):
            spiking.add(layer)

    found = torch.cat([engine(part.cpu(), observe) for part in samples.split(_AT_ONCE)])
    expected = logits.detach().float().cpu()
    silent = [layer.name for layer in engine.about.layers if layer.name not in spiking]
    if silent:
        raise NetworkError(
            f"no neuron of {', '.join(silent)} spikes on {len(samples)} samples, so that its logits show nothing; give real "
            f"samples, of a trained network"
        )
    difference = (found - expected).abs().amax(1)
    odd = int((difference > CLOSE * expected.abs().max()).sum())
    if odd > TIPPED * len(samples) or not bool(torch.isfinite(expected).all()):
        raise NetworkError(
            f"the logits of {odd} of {len(samples)} samples differ from the network's own by up to "
            f"{float(difference.max()):.3g} (the largest is {float(expected.abs().max()):.3g}): it does something that is not to "
            f"be seen from its modules and operations, such as states that are not reset before each sample, a delay, or a last "
            f"output instead of a sum"
        )
    return found
