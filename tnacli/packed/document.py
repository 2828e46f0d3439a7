"""What a packed file says of its network besides the tensors: one JSON document, every key checked.

The same models are what an export is given and what an inspection shows. docs/packed-format.md describes each
key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from tnacli.packed.container import parse_json
from tnacli.packed.spec import EXACT_POOLS, InputSpec, LayerSpec, NeuronSpec, Origin, ReadoutSpec
from tnacli.packed.steps import Steps, resolve
from tnacli.recipe.schema.section import Section, Whole

FORMAT: Literal["tnacli-packed"] = "tnacli-packed"
VERSIONS = (1, 2, 3, 4)
"""The versions that are read. A network is written in the lowest that can say it."""

_Version = Literal[1, 2, 3, 4]
_SINCE: dict[str, tuple[_Version, int | None]] = {
    "stride": (2, 1), "shortcut": (2, None), "max_pool": (3, None), "neuron": (3, None),
    "padding": (3, None), "groups": (3, 1), "source": (4, None), "added": (4, None),
}  # fmt: skip
"""The version that brought each key of a layer, and what it is where it changes nothing; all others are in every version."""

_NEURON_SINCE_3 = {"subtract", "most_spikes", "lowest"}


def version_for(neuron: NeuronSpec, layers: Sequence[LayerSpec]) -> _Version:
    """The version of a document with these layers: the lowest that has all keys that say something in one of them."""
    used = [version for layer in layers for key, (version, idle) in _SINCE.items() if getattr(layer, key) != idle]
    if (neuron.subtract, neuron.most_spikes, neuron.lowest) != (None, 1, None):
        used.append(3)
    if any(layer.pool not in EXACT_POOLS for layer in layers):
        used.append(4)
    return max(used, default=1)


class Document(Section):
    """Everything in a packed file but its tensors."""

    format: Literal["tnacli-packed"] = FORMAT
    version: Annotated[_Version, Whole] = 1
    created_by: str
    input: InputSpec
    labels: tuple[str, ...] = Field(min_length=1)
    timesteps: Annotated[int, Field(ge=1, le=1000)]
    neuron: NeuronSpec
    layers: tuple[LayerSpec, ...] = Field(min_length=1)
    readout: ReadoutSpec
    origin: Origin

    @model_validator(mode="after")
    def _fits_together(self) -> Document:
        lowest = version_for(self.neuron, self.layers)
        if self.version != lowest:
            raise ValueError(f"its layers are those of version {lowest}, not {self.version}")
        names = [layer.name for layer in self.layers]
        if len({*names, "readout"}) != len(names) + 1:
            raise ValueError("two layers have the same name")
        features = prod(self.steps().readout.source.out)
        if self.readout.weight != (len(self.labels), features):
            raise ValueError(
                f"readout: weight is {self.readout.weight}, but {len(self.labels)} labels and {features} "
                f"features need {(len(self.labels), features)}"
            )
        return self

    def steps(self) -> Steps:
        """What the network computes, in order. Raises ValueError where a layer does not fit what it takes."""
        return resolve(self.input, self.neuron, self.layers, self.readout, timesteps=self.timesteps)


class WrongVersionError(ValueError):
    """A packed file of another version of the format."""


_SEAL = re.compile(r',"sha256":"([0-9a-f]{64})"}\Z')


def seal(body: str, sha256: str) -> str:
    """The text of a document from its `body` (JSON without the closing brace) and the file's digest."""
    return f'{body},"sha256":"{sha256}"}}'


def body_of(document: Document) -> str:
    """The JSON of `document` without its closing brace: the part that the digest covers."""
    left_out: dict[str, Any] = {"layers": {"__all__": _not_in(document.version)}}
    if document.version < 3:
        left_out["neuron"] = _NEURON_SINCE_3
    return document.model_dump_json(exclude=left_out)[:-1]


def _not_in(version: int) -> set[str]:
    """Keys of layers that later versions brought."""
    return {key for key, (since, _) in _SINCE.items() if since > version}


def unseal(text: str) -> tuple[str, str]:
    """The body and the digest of a document's text.

    Raises WrongVersionError for another version, ValueError if it is no such text.
    """
    found = parse_json(text)
    if found.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    version = found.get("version")
    if type(version) is not int or version not in VERSIONS:
        raise WrongVersionError(str(version)[:20])
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
    if odd := sorted(_not_in(document.version) & {key for layer in document.layers for key in layer.model_fields_set}):
        raise ValueError(f"layers have no {' and no '.join(odd)} in version {document.version}")
    if document.version < 3 and (odd := sorted(_NEURON_SINCE_3 & document.neuron.model_fields_set)):
        raise ValueError(f"neurons have no {' and no '.join(odd)} in version {document.version}")
    return document


def explain(error: ValidationError) -> str:
    """Every complaint of `error` with its dotted key, on one line."""
    complaints = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        complaints.append(f"{key}: {item['msg'].removeprefix('Value error, ')}".removeprefix(": "))
    return "; ".join(complaints)
