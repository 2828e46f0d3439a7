"""What a recipe may say. Other rooms import from here, not from the files within."""

from __future__ import annotations

from tnacli.recipe.schema.compression import MEAN_SHARE, Binary, Gradual, Ternary
from tnacli.recipe.schema.data import Augmentation, Data
from tnacli.recipe.schema.epochs import in_epochs
from tnacli.recipe.schema.matching import matching_weight, weight_in_batch_means
from tnacli.recipe.schema.misfit import MisfitError
from tnacli.recipe.schema.model import Model, Neuron
from tnacli.recipe.schema.objective import (
    DEFAULT_TEMPERATURE,
    Distill,
    Features,
    Logits,
    Match,
    Matching,
    Reduction,
    Solo,
    Twin,
)
from tnacli.recipe.schema.patterns import DEVICE, PATTERNS
from tnacli.recipe.schema.recipe import Recipe, Runtime, Schedule, Settings, Train, as_json
from tnacli.recipe.schema.reproduces import Reproduces
from tnacli.recipe.schema.section import Section
from tnacli.recipe.schema.siblings import matched_layers, models_of

__all__ = [
    "DEFAULT_TEMPERATURE",
    "DEVICE",
    "MEAN_SHARE",
    "PATTERNS",
    "Augmentation",
    "Binary",
    "Data",
    "Distill",
    "Features",
    "Gradual",
    "Logits",
    "Match",
    "Matching",
    "MisfitError",
    "Model",
    "Neuron",
    "Recipe",
    "Reduction",
    "Reproduces",
    "Runtime",
    "Schedule",
    "Section",
    "Settings",
    "Solo",
    "Ternary",
    "Train",
    "Twin",
    "as_json",
    "in_epochs",
    "matched_layers",
    "matching_weight",
    "models_of",
    "weight_in_batch_means",
]
