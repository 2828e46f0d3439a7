"""What our own files say of a NIR graph in its metadata, checked: anyone may have written it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from tnacli.errors import FileFormatError, NetworkError
from tnacli.packed.document import explain
from tnacli.packed.spec import InputSpec, Origin, Share


class Metadata(BaseModel):
    """The metadata of a graph, as `tnacli.deploy.nir` writes it; None for what is not there. Other keys are others' own."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    timesteps: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, alias="tnacli_timesteps")
    dt: Annotated[float, Field(gt=0)] | None = Field(None, alias="tnacli_dt")
    leak: Share = Field(0.0, alias="tnacli_leak")
    labels: str | None = Field(None, alias="tnacli_labels")
    input: Json[InputSpec] | None = Field(None, alias="tnacli_input")
    origin: Json[Origin] | None = Field(None, alias="tnacli_origin")


def metadata_of(graph: Any) -> Metadata:
    """Raises FileFormatError that names each key which is not as it is to be."""
    try:
        return Metadata.model_validate({key: _plain(value) for key, value in graph.metadata.items()})
    except ValidationError as error:
        raise FileFormatError(
            f"the graph's metadata: {explain(error)}. Keys of tnacli_ are those that `tna export --format nir` writes; leave "
            "them out of a graph that others made"
        ) from None


def numbers_said(metadata: Mapping[str, Any], key: str, count: int) -> NDArray[np.float64] | None:
    """`count` numbers that a node's metadata says under `key`; None if it is not there. Raises NetworkError for others."""
    said = _plain(metadata.get(key))
    if said is None:
        return None
    found = np.asarray(said)
    if found.dtype.kind not in "fiu" or found.size != count or not np.isfinite(found).all():
        raise NetworkError(f"metadata {key}, which is to be {'one number' if count == 1 else f'{count} numbers'}")
    return found.astype(np.float64).reshape(count)


def _plain(value: Any) -> Any:
    """A number or text of a file as Python's own; bytes that are no text stay bytes, which nothing takes."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value
