"""A user's own network: made by a function that a recipe names, `model: {build: "package.module:function", args: {...}}`.

The function stands where `SpikingNetwork` does and is called with the same arguments, and those of `args`:

    def network(model: Model, *, channels: int, size: tuple[int, int], classes: int, **args) -> nn.Module

The module is looked for among installed packages, beside the recipe and in the current folder.

`model` is the recipe's own section without `build` and `args`: T, the neuron, width and so on. What comes back maps images
[N, C, H, W], or event frames [N, T, C, H, W], to logits [N, classes]. If it is a `SpikingNetwork`, of a layout that the
function has put together, everything works as for any layout. Any other module is trained, compressed, stored and measured
like one; an export runs it and recognises what its forward pass does (`tnacli.exporting`), or names what no packed file can say.

Importing a module runs code. A recipe is a request of the user, so its function is imported; a checkpoint may come from
anyone, so the function that it names is imported only if the user repeats the name (`require_trust`).
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from tnacli.errors import RecipeError, TnaError, UsageError
from tnacli.recipe.schema.model import Model
from tnacli.snn.lif import LIF
from tnacli.snn.network import Network, Weighted

__all__ = ["OverTime", "OwnNetwork", "TimeFirst", "own_network", "require_trust"]


class TimeFirst(nn.Module):
    """Inputs as the layers of a spiking network take them: images to [1, N, C, H, W], event frames to [T, N, C, H, W]."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.transpose(0, 1) if inputs.dim() == 5 else inputs.unsqueeze(0)


class OverTime(nn.Sequential):
    """Modules that know nothing of time, one after the other: [T or 1, N, ...] in and out, time counted to the batch."""

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = super().forward(x.flatten(0, 1))
        steps, samples = x.shape[:2]
        over_time: Tensor = rows.unflatten(0, (steps, samples))
        return over_time


class _Synapse:
    def __init__(self, synapse: nn.Conv2d | nn.Linear) -> None:
        self.synapse = synapse


class OwnNetwork(Network):
    """A module of the user's, as training, compression and evaluation take a network.

    Compression acts on its Conv2d and Linear modules, all but the first and the last in the order of `named_modules`, which
    is that in which they were assigned. Spikes are counted where it has `tnacli.snn.lif.LIF` modules.
    """

    def __init__(self, module: nn.Module, model: Model, *, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__(model, channels=channels, size=size, classes=classes)
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        try:
            logits: Tensor = self.module(inputs)
        except (TnaError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise _raised(f"the forward pass of {self.described.function}", error) from None
        if logits.shape != (len(inputs), self.classes):
            raise RecipeError(
                f"model.build: the network of {self.described.function} gives {_shape(logits)} for inputs of {_shape(inputs)}, "
                f"not logits of {len(inputs)}x{self.classes}, samples by classes"
            )
        return logits

    @property
    def synapses(self) -> dict[str, nn.Conv2d | nn.Linear]:
        """Its convolutions and matrix products, first to last."""
        return {name: part for name, part in self.module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(synapse.weight.shape) for name, synapse in self.synapses.items()}

    @property
    def hidden(self) -> dict[str, Weighted]:
        return {name: _Synapse(synapse) for name, synapse in list(self.synapses.items())[1:-1]}

    @property
    def neurons(self) -> dict[str, nn.Module]:
        return {name: part for name, part in self.module.named_modules() if isinstance(part, LIF)}


def _shape(x: Tensor) -> str:
    return "x".join(map(str, x.shape)) or "a single number"


def own_network(model: Model, *, channels: int, size: tuple[int, int], classes: int) -> Network:
    """The network that the function named by `model.build` makes.

    Raises RecipeError if the function cannot be imported, does not take `model.args`, raises, or makes something else.
    """
    assert model.build is not None
    function = _imported(model.build)
    given = model.model_copy(update={"build": None, "args": {}})
    try:
        call = inspect.signature(function).bind(given, channels=channels, size=size, classes=classes, **model.args)
    except TypeError as error:
        raise RecipeError(
            f"model.build: {model.function} cannot be called with its model, channels, size and classes and with model.args "
            f"({', '.join(model.args) or 'none'}): {error}"
        ) from None
    try:
        made = function(*call.args, **call.kwargs)
    except TnaError:
        raise
    except (Exception, SystemExit) as error:
        raise _raised(f"the function {model.function}", error) from None
    if isinstance(made, Network):
        made.described = model
        return made
    if not isinstance(made, nn.Module):
        raise RecipeError(f"model.build: {model.function} makes a {type(made).__name__}, not a torch.nn.Module")
    return OwnNetwork(made, model, channels=channels, size=size, classes=classes)


def _imported(build: str) -> Callable[..., object]:
    """The function `[folder/]package.module:function`, from what is installed or, after that, the folder or the current one."""
    folder, slash, name = build.rpartition("/")
    module, _, attribute = name.partition(":")
    # Behind all others: no file that happens to lie there takes the place of an installed module.
    places = [str(Path(folder or "/").expanduser().absolute())] if slash else []
    added = [place for place in [*places, str(Path.cwd())] if place not in sys.path]
    sys.path += added
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise RecipeError(
            f"model.build: {name} cannot be imported: {error}. Install the package that holds it, run in the folder where "
            f"{module.replace('.', '/')}.py lies, or name that folder: FOLDER/{name}"
        ) from None
    except (Exception, SystemExit) as error:  # whatever the module's own lines raise
        raise _raised(f"the module {module}, while it was imported,", error) from None
    finally:
        for place in added:
            sys.path.remove(place)
    if not callable(found):
        what = "has no function" if found is None else "has something else than a function named"
        raise RecipeError(f"model.build: the module {module} ({_place(module)}) {what} {attribute!r}")
    function: Callable[..., object] = found
    return function


def _raised(who: str, error: Exception | SystemExit) -> RecipeError:
    """What to raise for code of the user's that raised `error`: with its traceback, from the first line that is the user's.

    Raises `error` itself if it is the end of the process that a signal asked for meanwhile.
    """
    if isinstance(error.__cause__, TnaError):
        raise error
    traced = error.__traceback__
    while traced is not None and _is_ours(traced.tb_frame.f_code.co_filename):
        traced = traced.tb_next
    lines = "".join(traceback.format_exception(type(error), error, traced)).rstrip()
    return RecipeError(f"model.build: {who} raised {type(error).__name__}:\n{lines}")


def _is_ours(file: str) -> bool:
    return file in (__file__, importlib.__file__, nn.modules.module.__file__) or file.startswith("<frozen importlib")


def _place(module: str) -> str:
    return str(getattr(sys.modules[module], "__file__", None) or "built in")


def require_trust(model: Model, trusted: str | None, file: str) -> Model:
    """`model` as it may be made: one that a function makes only if `trusted` names that, which then says where it lies.

    A file may name any folder, so what it says of that is not heeded. Raises UsageError if `trusted` does not name the
    function that the network in `file` needs, or if that needs none.
    """
    if trusted is not None and model.build is None:
        raise UsageError(f"--trust-build has no effect: the network in {file} is made from a layout, and needs no code")
    if model.build is None:
        return model
    if trusted is None or trusted.rpartition("/")[2] != model.function:
        raise UsageError(
            f"{file} holds a network that the function {model.function} makes: its code has to be imported, which runs it, "
            f"and is not in the file. If you trust it and it is installed or lies in this folder, add --trust-build "
            f"{model.function}"
        )
    return model.model_copy(update={"build": trusted})
