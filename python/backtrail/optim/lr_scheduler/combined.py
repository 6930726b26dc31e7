"""Schedules made of schedules: one after another, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ..optimizer import Optimizer
from .base import LRScheduler, Rates
from .plateau import ReduceLROnPlateau


def _check(name: str, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> Optimizer:
    """Return the one optimizer of all `schedulers`, or raise ValueError."""
    if len(schedulers) == 0:
        raise ValueError(f"{name} expects at least one scheduler, but got none")
    if optimizer is None:
        optimizer = schedulers[0].optimizer
    for i, scheduler in enumerate(schedulers):
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError(f"{name} does not support ReduceLROnPlateau: its step needs a metric")
        if scheduler.optimizer is not optimizer:
            raise ValueError(
                f"{name} expects all schedulers to belong to the same optimizer, but the "
                f"scheduler at index {i} belongs to another"
            )
    return optimizer


def _saved(combined: LRScheduler, schedulers: Sequence[LRScheduler]) -> dict[str, Any]:
    state = {
        key: value
        for key, value in combined.__dict__.items()
        if key not in ("optimizer", "_schedulers")
    }
    state["_schedulers"] = [scheduler.state_dict() for scheduler in schedulers]
    return state


def _load(combined: LRScheduler, schedulers: list[LRScheduler], state: dict[str, Any]) -> None:
    combined.__dict__.update({key: value for key, value in state.items() if key != "_schedulers"})
    for scheduler, saved in zip(schedulers, state["_schedulers"], strict=True):
        scheduler.load_state_dict(saved)


class SequentialLR(LRScheduler):
    """Step `schedulers[i]` from epoch milestones[i - 1] until milestones[i].

    Each of them counts its own epochs from 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        _check("SequentialLR", schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                "SequentialLR expects one milestone between each two schedulers, but got "
                f"{len(schedulers)} schedulers and {len(milestones)} milestones"
            )
        self.optimizer = optimizer
        self._schedulers = list(schedulers)
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        # Every scheduler has set its first rate on construction; only the first may have.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for scheduler in self._schedulers:
            scheduler._undo()
        self._initial_step()

    def _initial_step(self) -> None:
        self._schedulers[0]._initial_step()
        self._last_lr = self._schedulers[0].get_last_lr()

    def _undo(self) -> None:
        for scheduler in self._schedulers:
            scheduler._undo()

    def step(self, epoch: Any = None) -> None:
        """Step the scheduler whose turn it is."""
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[turn]
        if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
            scheduler.step(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        return _saved(self, self._schedulers)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        _load(self, self._schedulers, state_dict)


class ChainedScheduler(LRScheduler):
    """Step all `schedulers`, in order, so that their factors multiply."""

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self.optimizer = _check("ChainedScheduler", schedulers, optimizer)
        self._schedulers = list(schedulers)
        self._last_lr: Rates = self._current()

    def _initial_step(self) -> None:
        for scheduler in self._schedulers:
            scheduler._initial_step()
        self._last_lr = self._current()

    def _undo(self) -> None:
        for scheduler in self._schedulers:
            scheduler._undo()

    def step(self, epoch: Any = None) -> None:
        """Step every scheduler."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._current()

    def state_dict(self) -> dict[str, Any]:
        return _saved(self, self._schedulers)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        _load(self, self._schedulers, state_dict)
