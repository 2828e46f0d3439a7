"""The part of a recipe that says what of the paper its runs answer to: numbers, and differences between runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pydantic import Field, model_validator

from tnacli.recipe.schema.misfit import Misfit, refuse
from tnacli.recipe.schema.section import Positive, Section


def unknown_runs(named: Iterable[tuple[str, str]], known: tuple[str, ...]) -> Iterator[Misfit]:
    """Of pairs of a key and the run that it names, those whose run is none of the `known` ones of the recipe."""
    for key, name in named:
        if name not in known:
            yield Misfit(f"is no run of this recipe; runs: {', '.join(known)}", (key,), name, known)


class Effect(Section):
    """A difference in test accuracy from which the paper draws a conclusion, judged by `tna report` over paired seeds.

    With `margin` the conclusion is that there is none.
    """

    run: str = Field(description="the run whose accuracy counts")
    minus: str | None = Field(None, description="the run whose accuracy is taken from it")
    minus_sibling: Positive | None = Field(
        None, description="in place of minus: the sibling of the run itself whose accuracy is taken from it"
    )
    paper: float | None = Field(
        None, description="the paper's difference in percentage points (default: that of its accuracies)"
    )
    margin: float | None = Field(
        None,
        gt=0,
        description="the paper finds no difference; ours is none if its 95 % interval is less than this from 0 at both ends, in "
        "percentage points",
    )

    @model_validator(mode="after")
    def _one(self) -> Effect:
        if (self.minus is None) == (self.minus_sibling is None):
            refuse([Misfit("needs one of minus (another run) and minus_sibling (a sibling of the run)")])
        if self.minus == self.run:
            refuse([Misfit("is the run itself; name another", ("minus",))])
        if self.paper == 0 and self.margin is None:
            refuse(
                [
                    Misfit(
                        "is 0, and where the paper finds no difference, margin says how small ours must be", ("paper",)
                    )
                ]
            )
        return self


class Reproduces(Section):
    """Which numbers of the paper the runs of a recipe answer to."""

    tables: tuple[int, ...] = Field((), strict=False, description="numbers of the paper's tables")
    figures: tuple[str, ...] = Field((), strict=False, description="numbers of the paper's figures, such as 3a")
    sections: tuple[str, ...] = Field((), strict=False, description="sections of the paper, such as 5.3.1")
    accuracy: dict[str, float] = Field({}, description="the paper's accuracy in % for runs of this recipe")
    tolerance: float = Field(1.0, gt=0, description="percentage points within which a result counts as reproduced")
    effects: tuple[Effect, ...] = Field(
        (), strict=False, description="the differences between runs from which the paper draws conclusions"
    )

    def papers_difference(self, effect: Effect) -> float | None:
        """The paper's difference in percentage points, as stated or from its accuracies; None where it gives neither."""
        if effect.paper is not None:
            return effect.paper
        first, second = self.accuracy.get(effect.run), self.accuracy.get(effect.minus or "")
        # Accuracies are printed with two decimals, so their difference has no more.
        return None if first is None or second is None else round(first - second, 6)

    def misfits(self, siblings: Mapping[str, int]) -> Iterator[Misfit]:
        """What does not fit the runs of the recipe; `siblings` says how many each has. Keys as seen from the recipe."""
        known = tuple(siblings)
        yield from unknown_runs(((f"reproduces.accuracy.{name}", name) for name in self.accuracy), known)
        for number, effect in enumerate(self.effects):
            place = f"reproduces.effects.{number}"
            named = {"run": effect.run} | ({} if effect.minus is None else {"minus": effect.minus})
            yield from unknown_runs(((f"{place}.{key}", name) for key, name in named.items()), known)
            count = siblings.get(effect.run)
            if effect.minus_sibling is not None and count is not None and effect.minus_sibling > count:
                has = f"has {count}" if count else "has none"
                yield Misfit(f"is {effect.minus_sibling}, and {effect.run} {has}", (f"{place}.minus_sibling",))
            stated = {effect.run, effect.minus} <= set(self.accuracy)
            if effect.paper is not None and stated:
                yield Misfit(
                    "has no effect: the difference is that of reproduces.accuracy; leave it out", (f"{place}.paper",)
                )
            elif effect.margin is None and not self.papers_difference(effect):
                yield Misfit("does not say what the paper finds: give paper, its difference in percentage points, or margin "
                             "where it finds none", (place,))  # fmt: skip
