"""From the text of recipes, overlays and overrides to settings. Other rooms import from here, not from the files within."""

from __future__ import annotations

from tnacli.recipe.parse.describe import Resolved, json_schema, resolved
from tnacli.recipe.parse.fields import choices, setting_fields
from tnacli.recipe.parse.find import find_listed, find_recipe, list_overlays, list_recipes, shipped_folder
from tnacli.recipe.parse.layers import read_file
from tnacli.recipe.parse.load import Loaded, load, plan, plan_coming
from tnacli.recipe.parse.located import located
from tnacli.recipe.parse.node import plain, refuse_all
from tnacli.recipe.parse.sweep import Sweep, value_text
from tnacli.recipe.parse.yaml_strict import read_yaml

__all__ = [
    "Loaded",
    "Resolved",
    "Sweep",
    "choices",
    "find_listed",
    "find_recipe",
    "json_schema",
    "list_overlays",
    "list_recipes",
    "load",
    "located",
    "plain",
    "plan",
    "plan_coming",
    "read_file",
    "read_yaml",
    "refuse_all",
    "resolved",
    "setting_fields",
    "shipped_folder",
    "value_text",
]
