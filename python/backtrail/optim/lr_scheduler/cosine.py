"""Schedules that follow a cosine, once or with restarts."""

from __future__ import annotations

import math

from ..optimizer import Optimizer
from .base import LRScheduler, Rates


class CosineAnnealingLR(LRScheduler):
    """lr - eta_min follows half a cosine down in T_max epochs, and back up in the next T_max.

    (Loshchilov and Hutter 2016, without restarts.)
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def _height(self, epoch: float) -> float:
        return 1 + math.cos(math.pi * epoch / self.T_max)

    def get_lr(self) -> Rates:
        if self.last_epoch == 0:
            return self._current()
        if self._step_count == 1:
            return self._closed_form()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            # The last rate was eta_min, from which no factor leads up again.
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [
                lr + (base - self.eta_min) * rise
                for lr, base in zip(self._current(), self.base_lrs, strict=True)
            ]
        factor = self._height(self.last_epoch) / self._height(self.last_epoch - 1)
        return [(lr - self.eta_min) * factor + self.eta_min for lr in self._current()]

    def _closed_form(self) -> Rates:
        height = self._height(self.last_epoch) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half cosines from the initial lr to eta_min, T_0 epochs long, then T_mult times longer each.

    `step(epoch)` takes fractions of an epoch (Loshchilov and Hutter 2016).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if T_0 <= 0 or not isinstance(T_0, int):
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if T_mult < 1 or not isinstance(T_mult, int):
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def _initial_step(self) -> None:
        self.step(max(self.last_epoch, 0))

    def get_lr(self) -> Rates:
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go on by one epoch, or to `epoch`, which may be fractional."""
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            if epoch < 0:
                raise ValueError(f"Expected non-negative epoch, but got {epoch}")
            self.T_i, start = self.T_0, 0
            if self.T_mult == 1:
                start = int(epoch // self.T_0) * self.T_0
            else:
                while epoch >= start + self.T_i:
                    start += self.T_i
                    self.T_i *= self.T_mult
            self.T_cur = epoch - start
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())
