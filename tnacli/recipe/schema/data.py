"""The part of a recipe that says which samples a run learns from and is measured on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, field_validator, model_validator

from tnacli.recipe.datasets import DATASETS, OWN
from tnacli.recipe.schema.misfit import Misfit, refuse
from tnacli.recipe.schema.section import Positive, Section


class Augmentation(Section):
    """Random changes to training samples. Fields left out take the data set's own defaults."""

    crop_padding: int | None = Field(
        None, ge=0, description="pixels of zero padding before a random crop back to size (images)"
    )
    flip: float | None = Field(None, ge=0, le=1, description="probability of a horizontal flip (images)")
    rotation: float | None = Field(
        None, ge=0, le=180, description="random rotation within ± this many degrees (events)"
    )
    shear: float | None = Field(None, ge=0, lt=90, description="random shear within ± this many degrees (events)")


class Data(Section):
    """Which samples a run learns from and is measured on."""

    name: str = Field("digits", description=f"the data set: {', '.join(DATASETS)}")
    root: str | None = Field(
        None, description="folder that holds the data sets, as seen from this file (default: $TNA_DATA, or ./data)"
    )
    format: Literal["auto", "official", "folder", "generated"] = Field(
        "auto",
        description="official files, {train,test}/<class>/ folders, or generated samples of the same shape; "
        "auto takes the official files if they are there, else the folders",
    )
    download: bool = Field(False, description="fetch the data set if it is not there")
    train_samples: Positive | None = Field(
        None, description="use only this many training samples, balanced over classes"
    )
    test_samples: Positive | None = Field(None, description="use only this many test samples, balanced over classes")
    validation_samples: int = Field(
        0, ge=0, description="training samples held out for validation, balanced over classes"
    )
    size: tuple[int, int] | None = Field(
        None, strict=False, description="[height, width] fed to the network (default: the data set's own)"
    )
    sensor: tuple[int, int] | None = Field(
        None,
        strict=False,
        description="[height, width] of the camera, where recordings of one's own do not say (event_folder)",
    )
    binning: Literal["count", "time"] = Field(
        "count",
        description="open: how a recording becomes T frames: frames of equally many events, or equally long ones (events)",
    )
    normalise: Literal["auto", "measure", "none"] = Field(
        "auto",
        description="per-channel normalisation: the data set's known statistics, those of the training samples, or none",
    )
    augmentation: Augmentation = Field(Augmentation(), description="random changes to training samples")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in DATASETS:
            text = f"unknown data set {name!r}; known: {', '.join(DATASETS)}"
            refuse([Misfit(text, got=name, among=tuple(DATASETS))])
        return name

    @model_validator(mode="after")
    def _fits(self) -> Data:
        refuse(self._misfits())
        return self

    def _misfits(self) -> Iterator[Misfit]:
        spec, augmentation = DATASETS[self.name], self.augmentation
        for key in ("crop_padding", "flip") if spec.is_events else ("rotation", "shear"):
            if getattr(augmentation, key):
                acts, holds = ("images", "events") if spec.is_events else ("events", "images")
                yield Misfit(
                    f"acts on {acts}, and {self.name} holds {holds}; leave it out, or set it to 0",
                    (f"augmentation.{key}", "name"),
                )
        if spec.is_events and self.normalise == "measure":
            yield Misfit("does not apply to events, which are counted; leave it at auto", ("normalise", "name"))
        if self.name == "digits" and self.format != "generated":
            for key in ("root", "download", "format"):
                if getattr(self, key) not in (None, False, "auto"):
                    yield Misfit("has no effect: digits are embedded", (key, "name"))
        if self.name in OWN:
            if self.format == "official":
                yield Misfit(f"is {self.format}, and {self.name} reads class folders", ("format", "name"))
            if self.format == "generated" and self.size is None:
                yield Misfit(f"is not said, and generated samples of {self.name} need one", ("size", "format", "name"))
            if self.download:
                yield Misfit(f"has no effect: {self.name} stands for files of one's own", ("download", "name"))
        asked, classes = self.train_samples, spec.classes
        if asked is not None and classes is not None and asked < classes and self.format != "generated":
            text = f"is {asked}, fewer than the {classes} classes of {self.name}; every class needs one"
            yield Misfit(text, ("train_samples", "name"))
        for key, pair in (("size", self.size), ("sensor", self.sensor)):
            if pair is not None and min(pair) < 1:
                yield Misfit("must be [height, width], both at least 1", (key,))
        if self.sensor is not None and self.name != "event_folder":
            yield Misfit(f"belongs to event_folder; the camera of {self.name} is known", ("sensor", "name"))
        if self.binning != "count" and not spec.is_events:
            yield Misfit(f"makes frames of event recordings, and {self.name} holds images", ("binning", "name"))
        sensor = self.sensor or spec.camera
        if sensor and self.size and (self.size[0] > sensor[0] or self.size[1] > sensor[1]):
            yield Misfit(
                f"may not be larger than the camera's {list(sensor)}: events can only be brought closer together",
                ("size", "sensor"),
            )
