"""What a packed file says of its network besides the tensors: one JSON document, every key checked.

The same models are what an export is given and what an inspection shows. docs/packed-format.md describes each
key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import prod
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from tnacli.packed.codec import ENCODINGS
from tnacli.packed.container import parse_json
from tnacli.recipe.layout import strided
from tnacli.recipe.section import Section

FORMAT: Literal["tnacli-packed"] = "tnacli-packed"
VERSIONS = (1, 2)
"""The versions that are read. A network that needs nothing of version 2 is written as version 1."""

_IN_VERSION_2 = {"stride", "shortcut"}

Count = Annotated[int, Field(ge=1, le=1 << 32)]
Side = Annotated[int, Field(ge=1, le=1 << 14)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
# What has to stay a normal, positive number once it is rounded to fp32.
Positive32 = Annotated[float, Field(ge=2.0**-126, le=2.0**127)]
Finite32 = Annotated[float, Field(ge=-(2.0**127), le=2.0**127)]
Share = Annotated[float, Field(ge=0, le=1)]


class InputFacts(Section):
    """What the network takes: images [channels, *size], or T event frames of that shape.

    `mean` and `std` are per channel, of pixels scaled to [0, 1]; None where inputs are not normalised.
    """

    kind: Literal["images", "events"]
    channels: Count
    size: tuple[Side, Side]
    mean: tuple[Finite32, ...] | None = None
    std: tuple[Positive32, ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> InputFacts:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together")
        if self.mean is not None and self.std is not None:
            if self.kind == "events":
                raise ValueError("event frames are counts and are not normalised")
            if not len(self.mean) == len(self.std) == self.channels:
                raise ValueError(f"mean and std need one value for each of the {self.channels} channels")
        return self


class NeuronFacts(Section):
    """The constants of every hidden neuron (Eq. 1)."""

    decay: Share
    threshold: Positive32


class ConvolutionFacts(Section):
    """The ternary convolution of a shortcut; `weight` is (out, in, kernel, kernel)."""

    weight: tuple[Count, Count, Count, Count]
    stride: Literal[1, 2]
    encoding: Literal["ternary2", "ternary5"]
    binary: bool

    @property
    def fan_in(self) -> int:
        return prod(self.weight[1:])

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape of its weights as stored: rows of bytes."""
        return self.weight[0], ENCODINGS[self.encoding].row_bytes(self.fan_in)


class ShortcutFacts(Section):
    """What a layer's neurons receive besides: the spikes behind the pooling of the earlier layer `source`.

    They are a current as they are, or go through a convolution.
    """

    source: Name
    convolution: ConvolutionFacts | None


class LayerFacts(Section):
    """One layer of weights and spiking neurons; `weight` is (out, in, kernel, kernel) or (out, in).

    `stride` and `shortcut` are in version 2 alone.
    """

    name: Name
    kind: Literal["conv", "fc"]
    weight: tuple[Count, Count] | tuple[Count, Count, Count, Count]
    pool: Literal[1, 2, 4, 8] = 1
    encoding: Literal["fp32", "ternary2", "ternary5"]
    binary: bool = False
    stride: Literal[1, 2] = 1
    shortcut: ShortcutFacts | None = None

    @property
    def fan_in(self) -> int:
        return prod(self.weight[1:])

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape of its weights as stored: their own in fp32, else rows of bytes."""
        if self.encoding == "fp32":
            return self.weight
        return self.weight[0], ENCODINGS[self.encoding].row_bytes(self.fan_in)


class ReadoutFacts(Section):
    """The output layer; `weight` is (classes, features), `leak` the share of the potential kept from step to
    step.
    """

    weight: tuple[Count, Count]
    leak: Share


class Origin(Section):
    """Where a network came from. Nothing here changes what it computes.

    `identity` is that of the run (`tnacli.recipe.identity`), `altered` its overlays and overrides, `accuracy`
    in % on all of the run's test samples at export. `format`, `binning`, `sensor` and `test_samples` are the
    run's own settings of its data (`tnacli.recipe.schema.Data`): with them the file is measured on the samples
    that its checkpoint was.
    """

    data_set: str
    recipe: str
    run: str
    seed: int
    identity: str
    altered: tuple[str, ...] = ()
    accuracy: Annotated[float, Field(ge=0, le=100)] | None = None
    format: Literal["auto", "official", "folder", "generated"] = "auto"
    binning: Literal["count", "time"] = "count"
    sensor: tuple[Side, Side] | None = None
    test_samples: Count | None = None


def version_for(layers: Iterable[LayerFacts]) -> Literal[1, 2]:
    """The version of a document with these layers: 2 if any has a stride or a shortcut."""
    return 2 if any(layer.stride != 1 or layer.shortcut is not None for layer in layers) else 1


class Document(Section):
    """Everything in a packed file but its tensors."""

    format: Literal["tnacli-packed"] = FORMAT
    version: Literal[1, 2] = 1
    created_by: str
    input: InputFacts
    labels: tuple[str, ...] = Field(min_length=1)
    timesteps: Annotated[int, Field(ge=1, le=1000)]
    neuron: NeuronFacts
    layers: tuple[LayerFacts, ...] = Field(min_length=1)
    readout: ReadoutFacts
    origin: Origin

    @model_validator(mode="after")
    def _fits_together(self) -> Document:
        if self.version != version_for(self.layers):
            raise ValueError(f"its layers are those of version {version_for(self.layers)}, not {self.version}")
        names = [layer.name for layer in self.layers]
        if len({*names, "readout"}) != len(names) + 1:
            raise ValueError("two layers have the same name")
        features = prod(self.out_shapes()[-1])
        if self.readout.weight != (len(self.labels), features):
            raise ValueError(
                f"readout: weight is {self.readout.weight}, but {len(self.labels)} labels and {features} "
                f"features need {(len(self.labels), features)}"
            )
        return self

    def out_shapes(self) -> list[tuple[int, ...]]:
        """What leaves each layer behind its pooling, for one sample and timestep: (C, H, W) or (features,).

        Raises ValueError where a layer does not fit the one before it.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        shape: tuple[int, ...] = (self.input.channels, *self.input.size)
        for number, layer in enumerate(self.layers):
            if (layer.encoding == "fp32") != (number == 0):
                raise ValueError(f"layer {layer.name}: the first layer is fp32, the others are ternary")
            if layer.binary and layer.encoding == "fp32":
                raise ValueError(f"layer {layer.name}: fp32 weights are not binary")
            out = _neurons(layer, shape)
            if layer.shortcut is not None:
                _check_shortcut(layer, layer.shortcut, shapes, out)
            shape = _pooled(layer, out)
            shapes[layer.name] = shape
        return list(shapes.values())


def _neurons(layer: LayerFacts, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the neurons of `layer` on inputs of `shape`. Raises ValueError if the two do not fit."""
    if layer.kind == "conv":
        return _convolved(f"layer {layer.name}", layer.weight, layer.stride, shape)
    if len(layer.weight) != 2 or layer.weight[1] != prod(shape):
        raise ValueError(f"layer {layer.name}: weight {layer.weight} does not fit inputs of {shape}")
    if layer.pool != 1:
        raise ValueError(f"layer {layer.name}: fully connected neurons are not pooled")
    if layer.stride != 1:
        raise ValueError(f"layer {layer.name}: fully connected neurons have no stride")
    return (layer.weight[0],)


def _convolved(what: str, weight: tuple[int, ...], stride: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(weight) != 4 or len(shape) != 3 or weight[1] != shape[0]:
        raise ValueError(f"{what}: weight {weight} does not fit inputs of {shape}")
    if weight[2] != weight[3] or weight[2] % 2 == 0:
        raise ValueError(f"{what}: a kernel of {weight[2]}x{weight[3]}, not square and odd")
    return weight[0], *strided(shape[1:], stride)


def _check_shortcut(
    layer: LayerFacts, shortcut: ShortcutFacts, before: dict[str, tuple[int, ...]], out: tuple[int, ...]
) -> None:
    """Raise ValueError unless what comes through the shortcut has the shape `out` of the layer's neurons."""
    what = f"layer {layer.name}, shortcut"
    if shortcut.source not in before:
        raise ValueError(f"{what}: there is no layer {shortcut.source} before it")
    found, convolution = before[shortcut.source], shortcut.convolution
    if convolution is not None:
        found = _convolved(what, convolution.weight, convolution.stride, found)
    if found != out or layer.kind != "conv":
        raise ValueError(f"{what}: gives {found}, which does not fit neurons of {out}")


def _pooled(layer: LayerFacts, shape: tuple[int, ...]) -> tuple[int, ...]:
    if layer.kind != "conv":
        return shape
    height, width = shape[1] // layer.pool, shape[2] // layer.pool
    if not height or not width:
        raise ValueError(f"layer {layer.name}: pool {layer.pool} leaves nothing of {shape[1]}x{shape[2]}")
    return shape[0], height, width


class WrongVersionError(ValueError):
    """A packed file of another version of the format."""


_SEAL = re.compile(r',"sha256":"([0-9a-f]{64})"}\Z')


def seal(body: str, sha256: str) -> str:
    """The text of a document from its `body` (JSON without the closing brace) and the file's digest."""
    return f'{body},"sha256":"{sha256}"}}'


def body_of(document: Document) -> str:
    """The JSON of `document` without its closing brace: the part that the digest covers."""
    left_out = {"layers": {"__all__": _IN_VERSION_2}} if document.version == 1 else None
    return document.model_dump_json(exclude=left_out)[:-1]


def unseal(text: str) -> tuple[str, str]:
    """The body and the digest of a document's text.

    Raises WrongVersionError for another version, ValueError if it is no such text.
    """
    found = parse_json(text)
    if found.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    if found.get("version") not in VERSIONS or isinstance(found["version"], bool):
        raise WrongVersionError(str(found.get("version"))[:20])
    match = _SEAL.search(text)
    if match is None:
        raise ValueError("its digest is missing")
    return text[: match.start()], match[1]


def parse(body: str) -> Document:
    """The document with `body`. Raises ValueError that names every key that is wrong."""
    try:
        document = Document.model_validate_json(body + "}")
    except ValidationError as error:
        raise ValueError(explain(error)) from None
    if document.version == 1 and any(_IN_VERSION_2 & layer.model_fields_set for layer in document.layers):
        raise ValueError(f"layers have no {' and no '.join(sorted(_IN_VERSION_2))} in version 1")
    return document


def explain(error: ValidationError) -> str:
    """Every complaint of `error` with its dotted key, on one line."""
    complaints = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        complaints.append(f"{key}: {item['msg'].removeprefix('Value error, ')}".removeprefix(": "))
    return "; ".join(complaints)
