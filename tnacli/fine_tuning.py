"""The run that compresses a trained checkpoint and fine-tunes it."""

from __future__ import annotations

from pydantic import ValidationError

from tnacli.errors import UsageError
from tnacli.recipe.compression_section import Binary, Ternary
from tnacli.recipe.epochs import in_epochs
from tnacli.recipe.identity import Run
from tnacli.recipe.objective_section import Solo, Twin
from tnacli.recipe.schema import Schedule, Settings, Train
from tnacli.training.checkpoint import Checkpoint
from tnacli.training.schedule import learning_rate as rate_at

COMPRESSION_POINT = 0.6
"""Where the paper compresses: epoch 150 of 250."""

TWIN_ALPHA = 1e-4


def compression_run(
    checkpoint: Checkpoint,
    *,
    source: str,
    mode: str = "ternary",
    delta: float | None = None,
    epochs: int | None = None,
    twin: bool | None = None,
    alpha: float | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
) -> Run:
    """The run that starts from the weights of `checkpoint`, compresses its base at once and trains `epochs` more.

    Left out, `epochs` and `learning_rate` replay the paper's phase after compression: two epochs for every three before,
    the rate as the checkpoint's own schedule has it at 60 % of its epochs, falling as often as it would have. A twin keeps
    its weights if the checkpoint has it and starts fresh if not. Raises UsageError if that does not fit the checkpoint.
    """
    before = checkpoint.settings
    if checkpoint.about["compressed"]:
        assert before.compression is not None
        raise UsageError(f"{source} has {before.compression.mode} weights already; give a full-precision checkpoint")
    if mode not in ("ternary", "binary"):
        raise UsageError(f"--mode is ternary or binary, not {mode!r}")
    if mode == "binary" and delta is not None:
        raise UsageError("--delta applies to ternary weights; binary ones are the sign")
    trained = before.train.epochs
    try:
        compression = Ternary(delta=0.1 if delta is None else delta, start=0) if mode == "ternary" else Binary(start=0)
        train = _schedule(before.train, round(trained * 2 / 3) if epochs is None else epochs, learning_rate)
        settings = Settings(
            data=before.data,
            model=before.model,
            objective=_objective(before, twin, alpha),
            compression=compression,
            train=train,
            runtime=before.runtime,
        )
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"this does not make a run: {reasons}") from None
    about = checkpoint.about
    return Run(
        about["recipe"], f"{about['run']}-{mode}", about["seed"] if seed is None else seed, settings,
        tuple(about["altered"]), initial=checkpoint.digest,
    )  # fmt: skip


def _objective(before: Settings, twin: bool | None, alpha: float | None) -> Solo | Twin:
    objective = before.objective if isinstance(before.objective, Twin) else None
    if twin is None:
        twin = objective is not None
    if not twin:
        if alpha is not None:
            raise UsageError("--alpha has no effect without a twin; add --twin")
        return Solo()
    update = {} if alpha is None else {"alpha": alpha}
    return (objective or Twin(alpha=TWIN_ALPHA)).model_copy(update=update)


def _schedule(before: Train, epochs: int, learning_rate: float | None) -> Train:
    rest = (1 - COMPRESSION_POINT) * before.epochs
    decays = rest / in_epochs(before.schedule.every, before.epochs) if before.epochs else 1.0
    share = min(100.0, 100 / max(decays, 1.0))
    rate = rate_at(before, COMPRESSION_POINT * before.epochs, None) if learning_rate is None else learning_rate
    schedule = Schedule(gamma=before.schedule.gamma, every="100%" if share == 100 else f"{share:.4f}%")
    return Train.model_validate({**before.model_dump(), "epochs": epochs, "learning_rate": rate, "schedule": schedule})
