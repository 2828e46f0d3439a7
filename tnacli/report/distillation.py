"""TNA against knowledge distillation (section 5.3.3): which runs to compare, and the tables of what they came to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from tnacli.errors import UsageError
from tnacli.recipe.identity import Run
from tnacli.recipe.parse import Loaded, plan
from tnacli.recipe.schema.objective import Distill, Matching, Solo, Twin
from tnacli.recipe.schema.recipe import Settings
from tnacli.report.alike import disagreement
from tnacli.report.marks import marks
from tnacli.report.published import kd_differences
from tnacli.report.statistics import Paired, paired, spread
from tnacli.report.table import Column, Table, Value
from tnacli.report.tables import alpha_text, shown_alpha
from tnacli.runs.result import RunResult

PAPER_ALPHAS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
PAPER_TNA_ALPHA = 1e-4
# Ours: the divergence of softened distributions is a few units at most, where squared differences of logits reach hundreds.
KL_ALPHAS = (1.0, 0.1, 0.01)
KL_TNA_ALPHA = 0.1


@dataclass(frozen=True)
class Method:
    """One row of the comparison: the same settings over the seeds. `kind` is baseline, teacher, KD, KD + CE or TNA."""

    kind: str
    alpha: float | None
    runs: tuple[Run, ...]

    @property
    def label(self) -> str:
        return self.kind if self.alpha is None or self.kind == "KD" else f"{self.kind}, α {alpha_text(self.alpha)}"


@dataclass(frozen=True)
class Outcomes:
    """What a method's runs came to: stored results by seed.

    `missing` says of every run without a result why it has none.
    """

    method: Method
    results: Mapping[int, RunResult]
    missing: tuple[str, ...] = ()

    @property
    def mixed(self) -> str | None:
        """Why the results of the seeds have no mean, where they differ in data or precision."""
        return disagreement(self.results)

    def accuracies(self) -> dict[int, float]:
        """Test accuracy in % by seed; empty where there is no mean."""
        return {} if self.mixed else {seed: result.accuracy["base"] for seed, result in self.results.items()}

    def apart(self, other: Outcomes) -> str | None:
        """Why the two methods cannot be compared, where their data or precision differ."""
        named = {one.method.label: next(iter(one.results.values())) for one in (self, other) if one.results}
        return self.mixed or other.mixed or disagreement(named, ", ".join)

    def minus(self, other: Outcomes) -> Paired | None:
        """The difference over the seeds that both have; None if they have none or cannot be compared."""
        return None if self.apart(other) else paired(self.accuracies(), other.accuracies())


def methods(
    loaded: Loaded,
    *,
    alphas: Sequence[float] = (),
    tna_alpha: float | None = None,
    match: str | None = None,
    temperature: float | None = None,
    seeds: Sequence[int] = (),
) -> tuple[Method, ...]:
    """Baseline, teacher, KD, KD + CE for each alpha, and TNA, for the recipe's seeds or `seeds`.

    What the recipe describes is taken as it stands, but for what the arguments say; the rest is derived from its
    baseline, which is a run with full-precision weights and nothing but cross-entropy. Alphas that neither gives are the
    paper's. Raises UsageError if there is no baseline, RecipeError for arguments that do not fit.
    """
    full = {name: s for name, s in loaded.recipe.runs.items() if s.compression is None}
    baselines = {name: s for name, s in full.items() if isinstance(s.objective, Solo)}
    if not baselines:
        raise UsageError(
            f"{loaded.recipe.name} has no baseline to compare with: a run with full-precision weights and no objective, "
            f"such as `baseline: {{}}`; its runs: {', '.join(loaded.recipe.runs)}"
        )
    base = baselines.get("baseline", next(iter(baselines.values())))
    twins = [s.objective for s in full.values() if isinstance(s.objective, Twin) and len(s.objective.siblings) == 1]
    taught = [s.objective for s in full.values() if isinstance(s.objective, Distill)]
    kd = [objective for objective in taught if not objective.cross_entropy]
    kd_ce = [objective for objective in taught if objective.cross_entropy]
    kl = match == "kl"

    def matching(objective: Matching, alpha: float | None) -> dict[str, Any]:
        kept = {**objective.model_dump(), **({} if alpha is None else {"alpha": alpha})}
        if match is not None:
            kept |= {"match": match, "temperature": temperature if kl else None}
        return kept

    # The alphas of a recipe belong to its own matching loss.
    own = None if match is None or not kl else KL_TNA_ALPHA
    twin = matching(twins[0] if twins else Twin(alpha=PAPER_TNA_ALPHA), tna_alpha if tna_alpha is not None else own)
    alone = matching(kd[0] if kd else Distill(alpha=1.0, cross_entropy=False), None)
    helped = kd_ce[0] if kd_ce else Distill(alpha=1.0)
    sweep = tuple(alphas) or (KL_ALPHAS if kl else PAPER_ALPHAS)
    wanted: list[tuple[str, str, Settings]] = [("baseline", "baseline", base)]
    wanted.append(("KD", "kd", base.model_copy(update={"objective": Distill.model_validate(alone)})))
    for alpha in sweep:
        settings = base.model_copy(update={"objective": Distill.model_validate(matching(helped, alpha))})
        wanted.append(("KD + CE", f"kd_ce_{alpha_text(alpha)}", settings))
    wanted.append(("TNA", "tna", base.model_copy(update={"objective": Twin.model_validate(twin)})))

    chosen = plan(loaded, runs=[next(iter(loaded.recipe.runs))], seeds=seeds)
    found: list[Method] = []
    for kind, name, settings in wanted:
        runs = tuple(replace(run, name=name, settings=settings, initial=None) for run in chosen)
        objective = settings.objective
        if kind == "KD":
            teachers = {teacher.identity: teacher for run in runs if (teacher := run.teacher) is not None}
            found.append(Method("teacher", None, tuple(teachers.values())))
        found.append(Method(kind, None if isinstance(objective, Solo) else objective.alpha, runs))
    return tuple(found)


def best_alpha(outcomes: Iterable[Outcomes]) -> Outcomes | None:
    """The KD + CE of the best mean accuracy: chosen on the test set, as its table says."""
    swept = [one for one in outcomes if one.method.kind == "KD + CE" and one.accuracies()]
    return max(swept, key=lambda one: spread(list(one.accuracies().values())).mean, default=None)


def comparison_table(outcomes: Sequence[Outcomes], extra: Mapping[str, int | None]) -> Table:
    """Accuracy, difference to the baseline and cost of every method. `extra`: parameters held besides the base's, by label."""
    by_kind = {one.method.kind: one for one in outcomes}
    baseline, teacher, best = by_kind["baseline"], by_kind["teacher"], best_alpha(outcomes)
    taught_s = _mean_seconds(teacher)
    columns = (
        Column("method", "method"), Column("alpha", "α", number=True), Column("accuracy", "test accuracy %", number=True),
        Column("seeds", "seeds", number=True), Column("difference", "- baseline", signed=True, number=True),
        Column("p_t", "p (paired t)", 3, number=True), Column("seconds", "training s", 1, number=True),
        Column("teacher_seconds", "teacher s", 1, number=True), Column("extra_parameters", "extra parameters", number=True),
        Column("peak_beyond_start_mb", "peak MB above start", 0, number=True), Column("notes", "notes"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for one in outcomes:
        kind = one.method.kind
        against = None if kind in ("baseline", "teacher") else one.minus(baseline)
        values = list(one.accuracies().values())
        said = []
        if one is best and sum(other.method.kind == "KD + CE" for other in outcomes) > 1:
            said.append("best α, chosen on the test set")
        first = one.method.runs[0]
        said += [apart] if against is None and (apart := one.apart(baseline)) else []
        said += [*one.missing, *marks(first.settings, first.altered, list(one.results.values()))]
        rows.append((
            kind, shown_alpha(one.method.alpha), spread(values) if values else None, len(values),
            against.difference if against else None, against.p_t if against else None, _mean_seconds(one),
            taught_s if kind.startswith("KD") else None, extra.get(one.method.label), _mean_peak_mb(one),
            "; ".join(said),
        ))  # fmt: skip
    notes = (
        "- baseline: paired over the seeds, percentage points, mean ± sample standard deviation",
        "extra parameters: of other networks held while training; a twin is trained, a teacher is frozen",
        "training s: mean of a run; teacher s: once for all runs that it teaches",
        "peak MB above start: beyond Python, torch and the data, held before; networks, optimiser and activations; the first run "
        "of a process loads some 20 MB more",
    )
    return Table("TNA against knowledge distillation", columns, tuple(rows), notes)


def differences_table(outcomes: Sequence[Outcomes]) -> Table:
    """The differences that the paper gives for CIFAR-100 (Figure 3b), ours beside, paired over the seeds."""
    by_kind = {one.method.kind: one for one in outcomes if one.method.kind != "KD + CE"}
    if (best := best_alpha(outcomes)) is not None:
        by_kind["KD + CE"] = best
    columns = (
        Column("first", "method"), Column("second", "minus"), Column("paper", "paper (CIFAR-100)", signed=True, number=True),
        Column("ours", "ours", signed=True, number=True), Column("seeds", "seeds", number=True),
        Column("same_sign", "same sign"), Column("p_t", "p (paired t)", 3, number=True),
        Column("p_signs", "p (sign flips)", 3, number=True), Column("notes", "notes"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for stated in kd_differences():
        first, second = by_kind.get(stated.first), by_kind.get(stated.second)
        ours = first.minus(second) if first and second else None
        notes = [f"paper: {stated.note}"] if stated.note else []
        notes += [apart] if first and second and (apart := first.apart(second)) else []
        notes += [f"{one.method.label}: {why}" for one in (first, second) if one for why in one.missing]
        # Every difference in the file is above 0.
        same = None if ours is None else ours.difference.mean > 0
        rows.append((
            stated.first, stated.second, stated.points, ours.difference if ours else None, ours.difference.count if ours else 0,
            same, ours.p_t if ours else None, ours.p_signs if ours else None, "; ".join(notes),
        ))  # fmt: skip
    return Table("Differences in test accuracy, percentage points", columns, tuple(rows))


def _mean_seconds(one: Outcomes) -> float | None:
    return fmean(result.seconds for result in one.results.values()) if one.results else None


def _mean_peak_mb(one: Outcomes) -> float | None:
    """None where it could not be measured of every seed."""
    peaks = [result.peak_beyond_start_mb for result in one.results.values()]
    known = [peak for peak in peaks if peak is not None]
    return fmean(known) if known and len(known) == len(peaks) else None
