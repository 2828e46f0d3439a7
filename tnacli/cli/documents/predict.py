"""The document of tna predict."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tnacli.cli.documents.base import Count, Document, Part, Share


class Guess(Part):
    label: str
    index: Count = Field(description="of the class, from 0")
    probability: Share = Field(description="softmax of the logits")
    logit: float


class Prediction(Part):
    sample: str = Field(description="the file")
    top: list[Guess] = Field(description="the likeliest classes, as many as --top asks for, likeliest first")


class Predict(Document):
    """tna predict --json"""

    command: Literal["predict"] = "predict"
    file: Path
    kind: Literal["checkpoint", "packed", "onnx"]
    data: str = Field(description="the data set that it was trained on")
    recipe: str
    run: str
    seed: Count
    input: str = Field(description="what it takes")
    classes: tuple[str, ...] = Field(description="names, by index")
    notes: tuple[str, ...] = Field(description="what was done to samples so that they fit, and files passed over")
    predictions: list[Prediction]
