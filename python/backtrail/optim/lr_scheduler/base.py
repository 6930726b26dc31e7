"""LRScheduler: what every schedule keeps, and the step that sets the rates."""

from __future__ import annotations

import warnings
from typing import Any

from ..optimizer import Optimizer

Rates = list[float]


class LRScheduler:
    """Keep the epoch, and set each group's rate to what `get_lr` returns for it.

    The rates at construction are kept as `group["initial_lr"]`. To resume with a `last_epoch`
    other than -1 each group must have it already, or KeyError is raised.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        if not getattr(optimizer, "_scheduled", False):  # from here on the order matters
            optimizer._scheduled = True
            optimizer._opt_called = False
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming "
                    "scheduler"
                )
        self.base_lrs: Rates = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch: float = last_epoch
        self._step_count = 0
        self._last_lr: Rates = []
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        LRScheduler.step(self)

    def _undo(self) -> None:
        """Take back the epoch of the initial step, for a schedule that is to start later."""
        self.last_epoch -= 1

    def _current(self) -> Rates:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _scaled(self, factor: float) -> Rates:
        return [lr * factor for lr in self._current()]

    def get_lr(self) -> Rates:
        """Return the rate of each group for `last_epoch`."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr")

    def _closed_form(self) -> Rates:
        """Return the rates for `last_epoch` from the initial ones alone."""
        return self.get_lr()

    def step(self, epoch: Any = None) -> None:
        """Go to the next epoch, or to `epoch`, and set the rates."""
        if self._step_count == 1 and not self.optimizer._opt_called:
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`. In PyTorch "
                "1.1.0 and later, you should call them in the opposite order: `optimizer.step()` "
                "before `lr_scheduler.step()`. Failure to do this will result in skipping the "
                "first value of the learning rate schedule.",
                stacklevel=2,
            )
        self._step_count += 1
        if epoch is None:
            self.last_epoch += 1
            rates = self.get_lr()
        else:
            self.last_epoch = epoch
            rates = self._closed_form()
        self._set(rates)

    def _set(self, rates: Rates) -> None:
        self._last_lr = list(rates)
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr

    def get_last_lr(self) -> Rates:
        """Return the rates last set."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes or was configured, without the optimizer and plain functions."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.__dict__.update(state_dict)
