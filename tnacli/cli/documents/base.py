"""What all documents have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, WithJsonSchema, model_serializer
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

Count = Annotated[int, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Identity = Annotated[str, Field(pattern=r"^[0-9a-f]{10}$", description="of what is computed: equal for equal runs")]


class Part(BaseModel):
    # No docstring: it would stand in every schema. A field whose default is None is left out of the document where it is None,
    # any other is always there. What is made of an object takes its attributes.
    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True, defer_build=True)

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, dump: SerializerFunctionWrapHandler) -> Any:
        fields = type(self).model_fields
        return {key: value for key, value in dump(self).items() if fields[key].is_required() or value is not None}


Kind = Literal[
    "UsageError", "RecipeError", "NetworkError", "DataError", "DeviceError", "ToleranceError", "DivergedError", "FileFormatError",
    "StorageError", "RunBusyError", "Stopped", "Interrupted", "Bug",
]  # fmt: skip


class Error(Part):
    kind: Kind
    message: str = Field(description="what is on stderr, too, but for the traceback of a bug")
    exit_code: Literal[1, 2, 3, 4, 5, 6, 7, 8, 75, 130]


class Document(Part):
    version: Literal[1] = 1
    error: Annotated[Error | None, WithJsonSchema({"type": "object"})] = Field(
        None, description="if the exit code is not 0: as in error.json"
    )

    def plain(self) -> dict[str, Any]:
        """The document as JSON values: `command` and `version` first, `error` last."""
        values = self.model_dump(mode="json")
        first, last = {"command": values.pop("command")}, {key: values.pop(key) for key in ("error",) if key in values}
        return {**first, **values, **last}


class Failed(Document):
    """A command that has ended with another exit code than 0 before there was a document of its own."""

    command: str | None = Field(description="as it was given; null if none was")
    error: Error
    finished: list[dict[str, Any]] | None = Field(
        None, description="of several files to evaluate, the documents of those that were"
    )


class Spread(Part):
    """A mean over seeds with the sample standard deviation; null of a single seed."""

    mean: float
    std: float | None
    count: Annotated[int, Field(ge=1)]


class Interval(Part):
    low: float
    high: float


class Diverged(Part):
    recipe: str
    run: str
    seed: Count
    identity: Identity
    message: str


class JsonSchema(GenerateJsonSchema):
    """Without titles, which repeat the keys, and open to keys that later versions add."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        inner = field["schema"]
        return inner["type"] != "default" or inner["default"] is not None

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        made = super().model_schema(schema)
        made.pop("additionalProperties", None)
        made.pop("title", None)
        return made
