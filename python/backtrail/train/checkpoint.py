"""What a checkpoint of `fit` holds, and how a run goes on from one."""

from __future__ import annotations

from typing import Any

from ..dtypes import float64
from ..functions.creation import tensor
from ..functions.random import Generator, set_rng_state
from ..nn import Module
from ..optim import Optimizer
from ..serialization import CheckpointError, load
from ..tensor import Tensor
from .batches import Batches, Place
from .callbacks import Callback
from .history import History, numbers
from .likeness import check_history, check_like, check_optimizer, check_place
from .schedule import Scheduler

RandomState = tuple[int, int]  # seed, offset


def contents(
    model: Module,
    optimizer: Optimizer,
    scheduler: Scheduler | None,
    callbacks: list[Callback],
    history: History,
    random_state: RandomState,
    place: Place,
    extra: Any,
) -> dict[str, Any]:
    """Return what is saved of a run."""
    began, index, passes = place
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict() if scheduler else None,
        "callbacks": [[type(c).__qualname__, c.state_dict()] for c in callbacks],
        "random_state": _packed(random_state),
        "batches": {
            "random_state": None if began is None else _packed(began),
            "index": index,
            "passes": passes,
        },
        "losses": tensor(history.losses, dtype=float64),
        "evaluations": history.evaluations,
        "epochs": history.epochs,
        "seconds": history.seconds,
        "tokens": history.tokens,
        "extra": extra,
    }


def restore(
    path: str,
    model: Module,
    optimizer: Optimizer,
    scheduler: Scheduler | None,
    callbacks: list[Callback],
    history: History,
    source: Batches,
) -> None:
    """Take all of it over from the file; raises CheckpointError where that cannot be."""
    state = load(path)
    if not isinstance(state, dict):
        raise CheckpointError(f"fit: {path} is not a checkpoint of `fit`")
    try:
        model.load_state_dict(state["model"])
        if type(optimizer)._update is not Optimizer._update:  # not one with a step of the user's
            check_optimizer(state["optimizer"], optimizer)
        optimizer.load_state_dict(state["optimizer"])
        if scheduler:
            check_like(state["scheduler"], scheduler.state_dict(), "scheduler")
            scheduler.load_state_dict(state["scheduler"])
        kept = list(state["callbacks"])
        for callback in callbacks:  # those that were there before, in their order
            for i, (kind, of_callback) in enumerate(kept):
                if kind == type(callback).__qualname__:
                    callback.load_state_dict(of_callback)
                    del kept[i]
                    break
        history.losses = state["losses"].tolist()
        optimizer._opt_called = bool(history.losses)  # it stepped before the schedule did
        history.evaluations = [(int(step), numbers(value)) for step, value in state["evaluations"]]
        history.epochs = list(state["epochs"])
        history.seconds, history.tokens = state["seconds"], state["tokens"]
        check_history(history)
        place = state["batches"]
        check_place(place["index"], place["passes"], len(history.losses))
        began = place["random_state"]
        source.go_to((None if began is None else _unpacked(began), place["index"], place["passes"]))
        set_rng_state(state["random_state"])
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"fit: cannot resume from {path}: {what}") from error


def _packed(state: RandomState) -> Tensor:
    generator = Generator()
    generator._seed, generator._offset = state
    return generator.get_state()


def _unpacked(state: Tensor) -> RandomState:
    generator = Generator().set_state(state)
    return generator._seed, generator._offset
