"""What the modules of SpikingJelly, snnTorch, sinabs and norse compute.

They are known by the names of their classes and packages, so that none has to be installed. Written from the libraries' own
code: SpikingJelly 2.0, snnTorch 1.0, sinabs 2.0 and 3.1, norse 1.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from tnacli.errors import NetworkError
from tnacli.importing.parts import Leaky, Neurons, Part, Same, Vote, pool, refused
from tnacli.packed.steps import MOST_SPIKES

Module = Any
"""A module of another library, whose attributes are looked up by name."""


def number(value: Any, what: str) -> float:
    """A constant that all neurons of a layer share."""
    tensor = torch.as_tensor(value).detach().double()
    if tensor.numel() != 1:
        if not bool((tensor == tensor.reshape(-1)[0]).all()):
            raise NetworkError(f"its {what} differs between neurons; a packed file has one for all")
        tensor = tensor.reshape(-1)[0]
    return float(tensor)


def _jelly(decay: Callable[[Module], float], gain: Callable[[Module, float], float]) -> Callable[[Module], Neurons]:
    """Neurons of SpikingJelly: H = V + (X - (V - V_reset)) / tau, or without X in what decays; V = V_reset at first."""

    def describe(module: Module) -> Neurons:
        kept, threshold = decay(module), float(module.v_threshold)
        if module.v_reset is None:
            return Neurons(kept, threshold, gain(module, kept), subtract=threshold)
        return Neurons(kept, threshold - float(module.v_reset), gain(module, kept))

    return describe


def _tau(module: Module) -> float:
    return 1 - 1 / number(module.tau, "decay")


def _plif(module: Module) -> float:
    return 1 - float(torch.sigmoid(module.w.detach().double()))


def _of_decayed_input(module: Module, decay: float) -> float:
    return 1 - decay if module.decay_input else 1.0


def _non_spiking(module: Module) -> Leaky:
    if getattr(module, "decode", None) is not None:
        raise NetworkError(f"decode={module.decode!r}; a packed readout sums potentials over time")
    tau = float(module.tau)
    return Leaky(1 - 1 / tau, 1 / tau)


def _snntorch(module: Module) -> Neurons | Leaky:
    beta = min(max(number(module.beta, "beta"), 0.0), 1.0)
    mechanism = module.reset_mechanism
    if module.inhibition or module.state_quant:
        raise NetworkError("inhibition or quantised states")
    if mechanism == "none":
        return Leaky(beta, output=1)
    if number(module.graded_spikes_factor, "graded spikes' factor") != 1:
        raise NetworkError("graded spikes; packed ones are 0 or 1")
    threshold = number(module.threshold, "threshold")
    if mechanism == "zero":
        return Neurons(beta, threshold, strict=True)
    # What is left of u after a spike decays first and loses the threshold then.
    if not module.reset_delay or not beta:
        raise NetworkError(
            "a soft reset without delay, or of neurons that keep nothing (reset_mechanism='subtract', reset_delay, beta); take "
            "reset_delay=True, or reset_mechanism='zero'"
        )
    return Neurons(beta, threshold, strict=True, subtract=threshold / beta)


def _sinabs(module: Module) -> Neurons | Leaky:
    if getattr(module, "tau_syn", None) is not None or getattr(module, "alpha_syn", None) is not None:
        raise NetworkError("synaptic currents with a time constant (tau_syn)")
    decay = number(module.alpha_mem_calculated, "tau_mem")
    gain = 1 - decay if module.norm_input else 1.0
    lowest = None if module.min_v_mem is None else number(module.min_v_mem, "min_v_mem")
    if module.spike_fn is None and lowest is None:
        return Leaky(decay, gain)
    if module.spike_fn is None or (lowest or 0) > 0:
        raise NetworkError(
            "a lower bound of the potential that is above 0, or of neurons that do not spike (min_v_mem)"
        )
    kind = getattr(module.spike_fn, "__name__", type(module.spike_fn).__name__)
    if kind not in ("SingleSpike", "MultiSpike", "MaxSpike"):
        raise NetworkError(f"spikes by {kind}; take SingleSpike, MultiSpike or MaxSpike of sinabs.activation")
    most = {"SingleSpike": 1, "MultiSpike": MOST_SPIKES}.get(kind) or int(module.spike_fn.max_num_spikes_per_bin)
    threshold, reset = number(module.spike_threshold, "threshold"), module.reset_fn
    if type(reset).__name__ == "MembraneSubtract":
        taken = threshold if reset.subtract_value is None else number(reset.subtract_value, "subtract_value")
        return Neurons(decay, threshold, gain, subtract=taken, most=most, lowest=lowest)
    if type(reset).__name__ != "MembraneReset" or reset.reset_value != 0:
        raise NetworkError(
            "a reset to another value than 0; take sinabs.activation.MembraneReset() or MembraneSubtract()"
        )
    if most > 1:
        raise NetworkError(
            "several spikes in one timestep with a reset to 0; take sinabs.activation.MembraneSubtract()"
        )
    return Neurons(decay, threshold, gain, lowest=lowest)


def _norse(module: Module) -> Neurons:
    p, rate = module.p, float(module.dt) * number(module.p.tau_mem_inv, "tau_mem_inv")
    if hasattr(p, "tau_syn_inv") and not math.isclose(float(module.dt) * number(p.tau_syn_inv, "tau_syn_inv"), 1):
        raise NetworkError("synaptic currents with a time constant (tau_syn_inv); LIFBoxCell has none")
    leak, reset = number(p.v_leak, "v_leak"), number(p.v_reset, "v_reset")
    threshold, method = number(p.v_th, "v_th"), getattr(getattr(p, "reset_method", None), "__name__", "reset_value")
    if method == "reset_subtract":
        return Neurons(1 - rate, threshold - leak, rate, strict=True, subtract=threshold)
    if method != "reset_value":
        raise NetworkError(f"a reset by {method}; take norse's reset_value or reset_subtract")
    if leak != reset:
        raise NetworkError("a reset to another potential than the resting one (v_reset, v_leak)")
    return Neurons(1 - rate, threshold - leak, rate, strict=True)


def _norse_leaky(module: Module) -> Leaky:
    rate = float(module.dt) * number(module.p.tau_mem_inv, "tau_mem_inv")
    if number(module.p.v_leak, "v_leak") != 0:
        raise NetworkError("a resting potential other than 0 (v_leak)")
    return Leaky(1 - rate, rate)


_OTHER = "its dynamics, which are not those of LIF neurons (Eq. 1)"
THEIRS: dict[tuple[str, str], Callable[[Any], Part]] = {
    ("LIFNode", "spikingjelly"): _jelly(_tau, _of_decayed_input),
    ("IFNode", "spikingjelly"): _jelly(lambda module: 1.0, lambda module, decay: 1.0),
    ("ParametricLIFNode", "spikingjelly"): _jelly(_plif, _of_decayed_input),
    ("OTTTLIFNode", "spikingjelly"): _jelly(_tau, _of_decayed_input),
    ("NonSpikingLIFNode", "spikingjelly"): _non_spiking,
    ("Dropout", "spikingjelly"): lambda module: Same(),
    ("Dropout2d", "spikingjelly"): lambda module: Same(),
    ("VotingLayer", "spikingjelly"): lambda module: Vote(module.voting_size),
    ("Leaky", "snntorch"): _snntorch,
    ("LIF", "sinabs"): _sinabs,
    ("LIFSqueeze", "sinabs"): _sinabs,
    ("IAF", "sinabs"): _sinabs,
    ("IAFSqueeze", "sinabs"): _sinabs,
    ("ExpLeak", "sinabs"): _sinabs,
    ("ExpLeakSqueeze", "sinabs"): _sinabs,
    ("SumPool2d", "sinabs"): lambda module: pool(
        module.kernel_size, stride=module.stride, padding=0, ceil_mode=module.ceil_mode, summed=True
    ),
    ("LIF", "norse"): _norse,
    ("LIFCell", "norse"): _norse,
    ("LIFBoxCell", "norse"): _norse,
    ("LIBoxCell", "norse"): _norse_leaky,
    **{
        (name, "snntorch"): refused(_OTHER)
        for name in ("Synaptic", "Alpha", "Lapicque", "RLeaky", "RSynaptic", "SLSTM")
    },
    **{(name, "sinabs"): refused(_OTHER) for name in ("ALIF", "LIFRecurrent", "IAFRecurrent", "ALIFRecurrent")},
    **{
        (name, "norse"): refused(_OTHER)
        for name in (
            "LI",
            "LICell",
            "LILinearCell",
            "LIFRecurrentCell",
            "LIFRefracCell",
            "LSNNCell",
            "LIFAdExCell",
            "LIFExCell",
            "IzhikevichCell",
        )
    },
    **{
        (name, "spikingjelly"): refused(
            "weights that are standardised at each use; what is made of ternary ones has no magnitude of its own"
        )
        for name in ("WSConv2d", "WSLinear")
    },
    **{
        (name, "spikingjelly"): refused("attention; a packed file multiplies spikes by weights alone")
        for name in ("SpikingSelfAttention", "QKAttention", "TokenQKAttention", "ChannelQKAttention")
    },
}
