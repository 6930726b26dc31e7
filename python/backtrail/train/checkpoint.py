"""What a checkpoint of `fit` restores, and what half a step undoes."""

from __future__ import annotations

from ..functions.random import get_rng_state, set_rng_state
from ..nn import Module
from ..optim import Optimizer
from ..serialization import CheckpointError, load
from .batches import Batches
from .history import History
from .schedule import Scheduler


def restore(
    path: str,
    model: Module,
    optimizer: Optimizer,
    scheduler: Scheduler | None,
    source: Batches,
    history: History,
) -> None:
    state = load(path)
    if not isinstance(state, dict):
        raise CheckpointError(f"fit: {path} is not a checkpoint of `fit`")
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if scheduler:
            scheduler.load_state_dict(state["scheduler"])
        history.losses = state["losses"].tolist()
        history.evaluations = state["evaluations"]
        history.seconds, history.tokens = state["seconds"], state["tokens"]
        source.load_state_dict(state["batches"])
        set_rng_state(state["random_state"])
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"fit: cannot resume from {path}: {what}") from error


class State:
    """What a step changes before its update: kept from the step's start, to undo half a step."""

    def __init__(self, model: Module, source: Batches, buffers: bool) -> None:
        self.random_state = get_rng_state()
        self.batches = source.state_dict()
        named = model.named_buffers() if buffers else ()  # a walk through all modules
        self.buffers = {name: buffer.clone() for name, buffer in named}

    def restore(self, model: Module) -> None:
        set_rng_state(self.random_state)
        if self.buffers:
            for name, buffer in model.named_buffers():
                buffer.copy_(self.buffers[name])
