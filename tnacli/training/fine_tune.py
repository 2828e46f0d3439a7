"""The run that compresses a trained checkpoint and fine-tunes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from tnacli.errors import UsageError
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.compression import Binary, Gradual, Ternary
from tnacli.recipe.schema.epochs import in_epochs
from tnacli.recipe.schema.misfit import complaints
from tnacli.recipe.schema.objective import Solo, Twin
from tnacli.recipe.schema.recipe import Schedule, Settings, Train
from tnacli.training.checkpoint import Checkpoint
from tnacli.training.schedule import learning_rate as rate_at

COMPRESSION_POINT = 0.6
"""Where the paper compresses: epoch 150 of 250."""


def compression_from_options(
    mode: str = "ternary",
    *,
    delta: float | None = None,
    threshold: str | None = None,
    share: float | None = None,
    gradual: str | None = None,
) -> Ternary | Binary:
    """Compression at once, `gradual` in an order or of all layers together. Raises UsageError for what does not go together."""
    if mode not in ("ternary", "binary"):
        raise UsageError(f"--mode is ternary or binary, not {mode!r}")
    asked = {"delta": delta, "threshold": threshold, "share": share}
    given: dict[str, object] = {name: value for name, value in asked.items() if value is not None}
    if mode == "binary" and given:
        raise UsageError(f"--{next(iter(given))} applies to ternary weights; binary ones are the sign")
    kind = Ternary if mode == "ternary" else Binary
    with _refused():
        if gradual is not None:
            given["gradual"] = Gradual.model_validate({"order": gradual})
        return kind.model_validate({**given, "start": 0})


def compression_run(
    checkpoint: Checkpoint,
    compression: Ternary | Binary,
    *,
    source: str,
    epochs: int | None = None,
    twin: bool | None = None,
    alpha: float | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
) -> Run:
    """The run that starts from the weights of `checkpoint`, compresses its base as `compression` says and trains `epochs` more.

    Left out, `epochs` and `learning_rate` replay the paper's phase after compression: two epochs for every three before,
    the rate as the checkpoint's own schedule has it at 60 % of its epochs, falling as often as it would have. A twin keeps
    its weights if the checkpoint has it and starts fresh if not, matched with the paper's alpha of the data set (Table 1)
    unless `alpha` says otherwise. Raises UsageError if that does not fit the checkpoint.
    """
    before = checkpoint.settings
    metadata = checkpoint.metadata
    if metadata.compressed or metadata.state.partly:
        assert before.compression is not None
        raise UsageError(f"{source} has {before.compression.mode} weights already; give a full-precision checkpoint")
    trained = before.train.epochs
    with _refused():
        train = _schedule(before.train, round(trained * 2 / 3) if epochs is None else epochs, learning_rate)
        train = train.model_copy(update={"initial": str(Path(source).absolute())})
        settings = Settings(
            data=before.data,
            model=before.model,
            objective=_objective(before, twin, alpha),
            compression=compression,
            train=train,
            runtime=before.runtime,
        )
    name, seed = f"{metadata.run}-{compression.mode}", metadata.seed if seed is None else seed
    return Run(metadata.recipe, name, seed, settings, metadata.altered, initial=checkpoint.digest)


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise UsageError(f"this does not make a run: {'; '.join(map(str, complaints(error)))}") from None


def _objective(before: Settings, twin: bool | None, alpha: float | None) -> Solo | Twin:
    objective = before.objective if isinstance(before.objective, Twin) else None
    if twin is None:
        twin = objective is not None
    if not twin:
        if alpha is not None:
            raise UsageError("--alpha has no effect without a twin; add --twin")
        return Solo()
    if objective is not None:
        # Matching began before: what a late start or a ramp was for lies behind.
        begun = objective.model_copy(update={"start": 0, "ramp": 0})
        return begun if alpha is None else begun.model_copy(update={"alpha": alpha})
    alpha = DATASETS[before.data.name].paper_alpha if alpha is None else alpha
    if alpha is None:
        raise UsageError(
            f"the checkpoint has no twin, and the paper has no alpha for {before.data.name}: say how strongly a new twin is to "
            f"be matched with --alpha, such as --alpha 1e-3"
        )
    return Twin(alpha=alpha)


def _schedule(before: Train, epochs: int, learning_rate: float | None) -> Train:
    rest = (1 - COMPRESSION_POINT) * before.epochs
    decays = rest / in_epochs(before.schedule.every, before.epochs) if before.epochs else 1.0
    share = min(100.0, 100 / max(decays, 1.0))
    rate = rate_at(before, COMPRESSION_POINT * before.epochs, None) if learning_rate is None else learning_rate
    schedule = Schedule(gamma=before.schedule.gamma, every="100%" if share == 100 else f"{share:.4f}%")
    return Train.model_validate({**before.model_dump(), "epochs": epochs, "learning_rate": rate, "schedule": schedule})
