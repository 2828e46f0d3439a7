"""What training changes, by name: the parameters that the optimiser moves, and the tensors that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tnacli.objectives.objective import Objective
from tnacli.quant.weights import latent_parameters, latent_state, load_latent_state
from tnacli.training.checkpoint import Checkpoint

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_SCALE = {"scale": "scale", "growth_tracker": "_growth_tracker"}


def trained_parameters(objective: Objective) -> dict[str, nn.Parameter]:
    """Everything trainable of `objective`, by a name that compression does not change."""
    helpers = {f"auxiliary.{name}": parameter for name, parameter in objective.auxiliary.named_parameters()}
    return {**latent_parameters(objective.networks), **helpers}


def add_new_parameters(adam: torch.optim.Adam, parameters: Mapping[str, nn.Parameter]) -> None:
    """Let `adam` also move those of `parameters` that it does not know, as those that compression has brought."""
    known = {id(parameter) for group in adam.param_groups for parameter in group["params"]}
    if new := [parameter for parameter in parameters.values() if id(parameter) not in known]:
        adam.add_param_group({"params": new})


def kept_tensors(objective: Objective, adam: torch.optim.Adam, best: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, wherever they are: networks, helpers, the best weights so far, Adam's moments."""
    tensors: dict[str, Tensor] = {}
    for name, network in objective.networks.items():
        tensors |= {f"networks/{name}/{key}": value for key, value in latent_state(network).items()}
    tensors |= {f"auxiliary/{key}": value for key, value in objective.auxiliary.state_dict().items()}
    tensors |= {f"best/{key}": value for key, value in best.items()}
    for name, parameter in trained_parameters(objective).items():
        for key, value in adam.state.get(parameter, {}).items():
            tensors[f"adam/{key}/{name}"] = value
    return {name: value.detach() for name, value in tensors.items()}


def copied_to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, rows in order, as a checkpoint holds them, of what training goes on to change.

    From CUDA they go to pinned memory, and may still be on their way: `arrival` says when they are there.
    """
    return {
        name: torch.empty(value.shape, dtype=value.dtype, pin_memory=value.device.type == "cuda").copy_(
            value, non_blocking=True
        )
        for name, value in tensors.items()
    }


def arrival(device: torch.device) -> Callable[[], None]:
    """A function that waits until what `device` has been asked for so far is done, and for nothing that comes later."""
    if device.type != "cuda":
        return lambda: None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event.synchronize


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first that holds NaN or an infinite value, if any does; looked at where they are, with one wait for all."""
    floats = {name: value for name, value in tensors.items() if value.is_floating_point() and value.numel()}
    if not floats:
        return None
    device = next(iter(floats.values())).device
    # The least and the greatest value tell, as NaN passes through both.
    ends = torch.stack([torch.stack(torch.aminmax(value)).double().to(device) for value in floats.values()])
    finite = ends.isfinite().all(1).cpu().tolist()
    return next((name for name, whole in zip(floats, finite, strict=True) if not whole), None)


def load_training_state(objective: Objective, adam: torch.optim.Adam, checkpoint: Checkpoint) -> None:
    """The opposite of `kept_tensors`, but for the best weights. Raises RuntimeError or KeyError if something does not fit."""
    for name, network in objective.networks.items():
        load_latent_state(network, checkpoint.under(f"networks/{name}"))
    objective.auxiliary.load_state_dict(checkpoint.under("auxiliary"))
    for name, parameter in trained_parameters(objective).items():
        kept = {key: checkpoint.tensors.get(f"adam/{key}/{name}") for key in _MOMENTS}
        if kept["step"] is not None:
            adam.state[parameter] = {
                key: _like(value, parameter) if key != "step" else value.to(parameter.device)
                for key, value in kept.items()
                if value is not None
            }


def kept_scale(scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """What a loss in fp16 is scaled by, and the steps since that last changed; nothing in other precisions."""
    state = scaler.state_dict()
    return {f"scaler/{key}": torch.tensor(state[name], dtype=torch.float64) for key, name in _SCALE.items() if state}


def load_scale(scaler: torch.amp.GradScaler, checkpoint: Checkpoint) -> None:
    """The opposite of `kept_scale`. Raises KeyError where a scaler is to go on that the checkpoint does not have."""
    if not scaler.is_enabled():
        return
    state, kept = scaler.state_dict(), checkpoint.under("scaler")
    state["scale"], state["_growth_tracker"] = float(kept["scale"]), int(kept["growth_tracker"])
    scaler.load_state_dict(state)


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """`value` on the parameter's device and in its memory format, so that fused updates run over equal strides."""
    return torch.empty_like(parameter).copy_(value)
