"""What the co-trained networks of a run are, and which of their layers can be matched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tnacli.recipe.layout import LayerShape, layer_shapes
from tnacli.recipe.schema.misfit import Misfit
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Distill, Features, Solo, Twin


def models_of(model: Model, objective: Solo | Twin | Distill) -> dict[str, Model]:
    """The networks that a run trains: base, and with a twin sibling1, sibling2 and so on."""
    models = {"base": model}
    if isinstance(objective, Twin):
        models |= {f"sibling{number}": one.model(model) for number, one in enumerate(objective.siblings, 1)}
    return models


def matched_layers(base: Sequence[LayerShape], sibling: Sequence[LayerShape], features: Features) -> tuple[str, ...]:
    """The names of the hidden layers to match, first to last.

    A layer can be matched if both networks have one of its name and, for the rates of neurons, their maps after pooling
    are of the same size. Raises ValueError, in words fit for the user, if none can, or one of those asked for cannot.
    """
    ours, theirs = ({shape.name: shape for shape in shapes[:-1]} for shapes in (base, sibling))
    asked = tuple(ours) if features.layers is None else features.layers
    reasons = {name: _why_not(name, ours, theirs, features) for name in asked}
    if features.layers is not None and (odd := next((name for name in asked if reasons[name]), None)):
        raise ValueError(f"{odd} cannot be matched: {reasons[odd]}")
    found = tuple(name for name in asked if not reasons[name])
    if not found:
        first = next(iter(asked))
        raise ValueError(f"no layer can be matched; {first}, for one: {reasons[first]}")
    return found


def _why_not(name: str, ours: dict[str, LayerShape], theirs: dict[str, LayerShape], features: Features) -> str:
    for whose, layers in (("the base", ours), ("the sibling", theirs)):
        if name not in layers:
            return f"{whose} has no hidden layer of that name; its layers: {', '.join(layers)}"
    sizes = ["x".join(map(str, layers[name].pooled[1:])) for layers in (ours, theirs)]
    if features.rates == "neuron" and sizes[0] != sizes[1]:
        return f"its maps are {sizes[0]} in the base and {sizes[1]} in the sibling; rates: map compares their means"
    return ""


def twin_misfits(
    model: Model, twin: Twin, *, channels: int, size: tuple[int, int] | None, events: bool
) -> Iterator[Misfit]:
    """What is wrong with the siblings beside a base that is `model`, and with the features to match."""
    features = twin.features
    shapes = None if size is None else _shapes(model, channels, size)
    for number, (name, sibling) in enumerate(models_of(model, twin).items()):
        if name == "base":
            continue
        which = f"number {number} " if len(twin.siblings) > 1 else ""
        if events and sibling.timesteps != model.timesteps:
            text = (
                f"{which}has other timesteps than the base, and event frames are binned for the base's; leave them out"
            )
            yield Misfit(text, ("objective.siblings", "data.name"))
        own = None
        if size is not None:
            try:
                own = layer_shapes(sibling.layout, width=sibling.width, channels=channels, size=size, classes=2)
            except ValueError as error:
                # That of the base is reported where its layout stands.
                if sibling.build is None and sibling.layout != model.layout:
                    yield Misfit(f"{which}does not fit: {error}", ("objective.siblings", "data.size", "data.name"))
        if features is not None and (model.build or sibling.build):
            text = "reads layers by their names in a layout, and a network of model.build has none; leave it out"
            yield Misfit(text, ("objective.features", "model.build"))
        elif features is not None and shapes is not None and own is not None:
            try:
                matched_layers(shapes, own, features)
            except ValueError as error:
                key = "objective.features" if features.layers is None else "objective.features.layers"
                yield Misfit(f"does not fit sibling {number}: {error}", (key, "objective.siblings"))


def _shapes(model: Model, channels: int, size: tuple[int, int]) -> tuple[LayerShape, ...] | None:
    try:
        return layer_shapes(model.layout, width=model.width, channels=channels, size=size, classes=2)
    except ValueError:
        return None  # reported where the layout stands
