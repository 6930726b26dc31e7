"""When a learning-rate schedule is stepped, and with what."""

from __future__ import annotations

from typing import Any, Protocol


class Scheduler(Protocol):
    """What `fit` asks of a learning-rate schedule: any class of `optim.lr_scheduler` will do."""

    # () -> None, or (metric) -> None as that of ReduceLROnPlateau
    @property
    def step(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


def takes_a_metric(scheduler: Scheduler) -> bool:
    """Return whether `step` cannot be called without one, as that of ReduceLROnPlateau."""
    from inspect import Parameter, signature

    by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature(scheduler.step).parameters.values()
    return any(p.default is p.empty and p.kind in by_position for p in parameters)


def schedule_by(scheduler: Scheduler | None, every: str, evaluates: bool, passes: bool) -> str:
    """Return after what the schedule is stepped: "step", "epoch", "evaluation" or "never".

    `evaluates`: whether there is a metric; `passes`: whether there are epochs.
    """
    if every not in ("step", "epoch"):
        raise ValueError(f'fit: scheduler_every must be "step" or "epoch", not {every!r}')
    if scheduler is None:
        return "never"
    if takes_a_metric(scheduler):
        if not evaluates:
            raise ValueError(
                f"fit: {type(scheduler).__name__} goes by a metric: give evaluate=, whose value it "
                "is stepped with"
            )
        return "evaluation"
    if every == "epoch" and not passes:
        raise ValueError(
            'fit: scheduler_every="epoch" needs batches with an end, such as a list or a '
            "DataLoader; a function of the step has no epochs"
        )
    return every
