"""What is called while a run goes on, and may end it: Callback, EarlyStopping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..tensor import Tensor
from .history import Value, number, short

if TYPE_CHECKING:
    from .loop import Run


class Callback:
    """What `fit(callbacks=[...])` calls at the points of a run that its methods name.

    Override those that you need. `run` has `model`, `optimizer`, `scheduler`, `history`, `step`
    (steps done), `epoch` (passes over the batches done) and `stop(why)`, which ends the run as if
    it had reached its last step: evaluated, saved, and with its history returned.

        class Patience(Callback):
            def on_step(self, run):
                if run.history.mean_loss(20) < 0.1:
                    run.stop("the loss is low enough")
    """

    def on_start(self, run: Run) -> None:
        """Before the first step, or before the first after resuming."""

    def on_step(self, run: Run) -> None:
        """After each step."""

    def on_epoch(self, run: Run) -> None:
        """After each pass over the batches, when it was evaluated."""

    def on_evaluation(self, run: Run, value: Value) -> None:
        """After each evaluation, with what `evaluate` returned: a float, or a dict of floats."""

    def on_checkpoint(self, run: Run, path: str) -> None:
        """After each checkpoint that was written."""

    def on_end(self, run: Run) -> None:
        """When the run has ended by itself or by `stop`, before its last checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint is to keep of this callback."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned, when a run is resumed."""


class EarlyStopping(Callback):
    """End a run when its evaluation has not improved for `patience` evaluations in a row.

    `monitor` names the number that counts where `evaluate` returns several (else "loss"), `mode`
    says whether "min" or "max" is better, and an improvement is one by more than `min_delta`. With
    `restore_best` the model is given back the weights of its best evaluation at the end.
    `best` and `best_step` say which that was.
    """

    def __init__(
        self,
        patience: int = 5,
        *,
        monitor: str | None = None,
        mode: str = "min",
        min_delta: float = 0.0,
        restore_best: bool = False,
    ) -> None:
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be at least 1, got {patience}")
        if mode not in ("min", "max"):
            raise ValueError(f'EarlyStopping: mode must be "min" or "max", got {mode!r}')
        self.patience, self.monitor, self.mode = patience, monitor, mode
        self.min_delta, self.restore_best = min_delta, restore_best
        self.best: float | None = None
        self.best_step = self.waited = 0
        self._weights: dict[str, Tensor] | None = None

    def on_start(self, run: Run) -> None:
        """Refuse a run that is not evaluated; end one that had been ended before."""
        if run.evaluate is None:
            raise ValueError("EarlyStopping goes by evaluations: give fit(evaluate=...)")
        self._stop_if_due(run)

    def on_evaluation(self, run: Run, value: Value) -> None:
        """Compare with the best so far."""
        now = number(value, self.monitor)
        sign = 1 if self.mode == "min" else -1
        if now == now and (self.best is None or sign * (self.best - now) > self.min_delta):
            self.best, self.best_step, self.waited = now, run.step, 0
            if self.restore_best:
                weights = run.model.state_dict()
                self._weights = {name: w.detach().clone() for name, w in weights.items()}
        else:
            self.waited += 1
        self._stop_if_due(run)

    def _stop_if_due(self, run: Run) -> None:
        if self.waited >= self.patience:
            best = "" if self.best is None else f" its best, {short(self.best)}, at"
            run.stop(f"no improvement since{best} step {self.best_step:,}")

    def on_end(self, run: Run) -> None:
        """Give the model its best weights, if asked to."""
        if self._weights is not None:
            run.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the best evaluation, and the weights if they are to be restored."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "waited": self.waited,
            "weights": self._weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on waiting from there."""
        self.best, self.best_step = state["best"], state["best_step"]
        self.waited, self._weights = state["waited"], state["weights"]
