"""`tna recipes`: what can be trained by name, and what a recipe says."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tnacli.cli import completion, options
from tnacli.cli.console import Output
from tnacli.errors import UsageError


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Print the file of this recipe or overlay.", autocompletion=completion.listed)
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a recipe file, for editors.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List the shipped recipes and overlays, or print one: what a recipe says, what an overlay changes.

    Examples:

      tna recipes

      tna recipes table1_cifar100 > my_recipe.yaml

      tna recipes laptop
    """
    from tnacli.recipe.parse import find_listed, json_schema, list_overlays, list_recipes

    output = Output(as_json)
    if schema:
        typer.echo(json.dumps(json_schema(), indent=2))
        return
    if name is not None and as_json:
        raise UsageError("a recipe is printed as its file stands, in YAML; leave --json out, or NAME")
    if name is not None:
        typer.echo(find_listed(name).read_text(encoding="utf-8"), nl=False)
        return
    found, overlays = list_recipes(), list_overlays()
    if as_json:
        from tnacli.cli.documents.lists import Entry, Recipes

        listed, laid_over = ([Entry.model_validate(one) for one in entries] for entries in (found, overlays))
        output.document(Recipes(recipes=listed, overlays=laid_over))
        return
    output.table("recipes", ["name", "what it is"], [[entry.name, entry.title] for entry in found])
    output.table("overlays (--with)", ["name", "what it does"], [[entry.name, entry.title] for entry in overlays])
