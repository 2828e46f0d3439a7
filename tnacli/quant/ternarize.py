"""Ternary and binary weights on anybody's module: `ternarize`, `restore`, and the shares that come of it.

The parametrizations are those of `tnacli.quant.quantisers`. They live on `layer.weight`, which is then what the layer
computes with, so that a training loop needs no change.
"""

from __future__ import annotations

import copy as copies
import difflib
import fnmatch
from collections.abc import Collection, Mapping
from typing import Literal, TypeVar

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from tnacli.errors import DivergedError, UsageError
from tnacli.quant.quantisers import PowerOfTwoScale, quantiser_for
from tnacli.quant.weights import Shares, put_on, quantiser_of, shares_of, silent_layers
from tnacli.recipe.schema.compression import Binary, Ternary

AnyModule = TypeVar("AnyModule", bound=nn.Module)
Layers = dict[str, _ConvNd | nn.Linear]


def ternarize(
    module: AnyModule,
    *,
    threshold: float | Literal["mean", "learned"] = "mean",
    mode: Literal["ternary", "binary"] = "ternary",
    share: float | None = None,
    scale: bool = True,
    skip_first_and_last: bool = True,
    layers: Collection[str] | None = None,
    copy: bool = False,
) -> AnyModule:
    """Put ternary weights on the convolutions and linear layers of `module`, and return it.

    A weight becomes -1, 0 or +1 with Delta as the threshold (Eq. 6): a number, a `share` of the layer's mean |w| at every step
    ("mean"; Li and Liu 2016), or learned from there ("learned"). The default share is 0.7. With `mode="binary"` it becomes its
    sign. With `scale` it is then multiplied by a power of two near the mean |w| of the weights that are not 0, taken once: leave
    it on where no batch norm follows a layer; off is what the paper does.

    All convolutions and linear layers are taken, in the order in which they were assigned, but the first and the last
    (section 4.2); or those whose names (as in `named_modules`) or patterns (`features.*`) are in `layers`. For settings that
    differ between layers, call it once for each. With `copy` the module stays as it is, and a copy is changed and returned.

    The latent weights stay the module's parameters, the same objects as before: an optimiser made before or after moves them,
    with its state. They are called `layer.parametrizations.weight.original` in a state_dict, which fits any module that was
    ternarized in the same way. "learned" adds a parameter `log_delta` to each layer, which the optimiser has to be given. Where
    a layer has a bias, the order of its two parameters changes: make what pairs parameters by position (an AveragedModel, an
    optimiser that loads its state) after this call. Wrap a module in DistributedDataParallel after it, and anew after each
    call: PyTorch forgets the hooks that the wrapper put on the parameters. Where one batch reads weights many times, once for
    each timestep, `with torch.nn.utils.parametrize.cached():` around the batch computes them once.

    Raises UsageError if a setting makes no sense or would have no effect, if no layer is left, or if a layer cannot be
    ternarized; DivergedError if all weights of a layer would become 0. The module is as it was then.
    """
    compression = _compression(mode, threshold, share)
    if any(isinstance(part, DistributedDataParallel) for part in module.modules()):
        # register_parametrization calls set_ on the parameter, which drops its gradient accumulator.
        raise UsageError("ternarize what DistributedDataParallel wraps (its .module), then wrap that anew")
    if copy:
        module = copies.deepcopy(module)
    chosen = _chosen(module, layers, skip_first_and_last)
    for name, layer in chosen.items():
        _require_plain(name, layer)
    quantisers = {name: quantiser_for(layer.weight.detach(), compression) for name, layer in chosen.items()}
    silent = silent_layers(chosen, quantisers)
    if silent:
        reached = ", ".join(f"{name} (largest |w| {largest:.3g})" for name, largest in silent.items())
        lower = "a threshold below the values shown" if isinstance(threshold, float | int) else "a smaller share"
        raise DivergedError(
            f"every weight of these layers would become 0: {reached}; take {lower}, or ternarize after more training"
        )
    latent = {name: layer.weight.detach() for name, layer in chosen.items()}
    put_on(chosen, quantisers)
    if scale:
        with torch.no_grad():
            for name, layer in chosen.items():
                parametrize.register_parametrization(
                    layer, "weight", PowerOfTwoScale.fitted(latent[name], layer.weight.detach())
                )
    return module


def restore(module: AnyModule, *, keep_ternary: bool = False) -> AnyModule:
    """Undo `ternarize` in place: plain weights again, in full precision, the same parameters; returns `module`.

    With `keep_ternary` the weights stay what they were computed to be, for a file or a library that knows no
    parametrizations. Raises UsageError if no layer has ternary or binary weights.
    """
    found = _quantised(module)
    if not found:
        raise UsageError(f"no layer of this {type(module).__name__} has ternary or binary weights: nothing to restore")
    for layer in found.values():
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=keep_ternary)
    return module


@torch.no_grad()
def shares(module: nn.Module) -> dict[str, Shares]:
    """The shares of negative, zero and positive weights in each ternary or binary layer, by its name in `named_modules`."""
    return {name: shares_of(layer.weight) for name, layer in _quantised(module).items()}


def _layers(module: nn.Module) -> Layers:
    return {name: part for name, part in module.named_modules() if isinstance(part, _ConvNd | nn.Linear)}


def _quantised(module: nn.Module) -> Layers:
    return {name: layer for name, layer in _layers(module).items() if quantiser_of(layer) is not None}


def _compression(mode: str, threshold: float | str, share: float | None) -> Ternary | Binary:
    if mode not in ("ternary", "binary"):
        raise UsageError(f"mode={mode!r}: must be 'ternary' or 'binary'")
    if mode == "binary":
        if threshold != "mean" or share is not None:
            raise UsageError("threshold and share have no effect with mode='binary', which takes signs; leave them out")
        return Binary()
    if share is not None and not share > 0:
        raise UsageError(f"share={share!r}: must be above 0")
    if isinstance(threshold, str):
        if threshold not in ("mean", "learned"):
            raise UsageError(f"threshold={threshold!r}: must be a number above 0, 'mean' or 'learned'")
        return Ternary.model_validate({"threshold": threshold, "share": share})
    if not threshold > 0:
        raise UsageError(f"threshold={threshold!r}: must be above 0; weights within ± this become 0")
    if share is not None:
        raise UsageError("share has no effect with a threshold that is a number; leave one of them out")
    return Ternary(delta=float(threshold))


def _chosen(module: nn.Module, wanted: Collection[str] | None, skip: bool) -> Layers:
    """The layers to be made ternary, none of which is yet."""
    there = _layers(module)
    ends = {next(iter(there)), next(reversed(there))} if there and skip else set()
    done = set(_quantised(module))
    if wanted is None:
        names = set(there) - ends - done
        if not names:
            also = f", {len(done)} of them ternary or binary already (tnacli.restore undoes that)" if done else ""
            first = "; the first and the last stay as they are unless skip_first_and_last=False" if ends else ""
            raise UsageError(
                f"nothing to ternarize: this {type(module).__name__} has {len(there)} convolutions and linear layers{also}{first}"
            )
    else:
        patterns = [wanted] if isinstance(wanted, str) else wanted
        names = {name for pattern in patterns for name in _matching(pattern, there)}
        if not names:
            raise UsageError("layers names none; leave it out for all")
        for why, which in (
            ("first or last, and stays as it is unless skip_first_and_last=False", names & ends),
            ("ternary or binary already; tnacli.restore undoes that", names & done),
        ):
            if which:
                raise UsageError(f"layers: {', '.join(sorted(which))}: {why}")
    return {name: layer for name, layer in there.items() if name in names}


def _matching(pattern: str, there: Mapping[str, object]) -> list[str]:
    found = fnmatch.filter(there, pattern)
    if not found:
        near = difflib.get_close_matches(pattern, there, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(there)}"
        raise UsageError(f"layers: {pattern!r} is no convolution or linear layer of the module{hint}")
    return found


def _require_plain(name: str, layer: _ConvNd | nn.Linear) -> None:
    weight = layer._parameters.get("weight")
    if isinstance(weight, UninitializedParameter):
        raise UsageError(f"{name}: its weight has no shape yet; run the module once on a sample first")
    if weight is None:
        raise UsageError(
            f"{name}: its weight is made from other parameters (weight or spectral norm, pruning); undo that first"
        )
    if not weight.is_floating_point():
        raise UsageError(f"{name}: its weight is {str(weight.dtype).removeprefix('torch.')}, not a floating-point type")
