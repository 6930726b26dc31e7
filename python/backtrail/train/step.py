"""One training step: gradients and update, captured as one where that can be."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from .. import capture
from .._core import require_finite
from ..functions.random import default_generator
from ..nn import Module
from ..nn.utils import clip_grad_norm_
from ..optim import Optimizer
from ..optim.hooks import everywhere
from ..tensor import Tensor
from .interrupt import Signals

LossFn = Callable[[Any, Any], Tensor]
Buffers = dict[str, Tensor]


class TrainingStep:
    """`run(batch)` does a step and returns the loss; `undo()` takes back half of one.

    A loss or a gradient norm that is not finite raises ValueError before the update. When
    `run` returns, Ctrl-C is held: the caller releases it once the step is written down.
    """

    def __init__(
        self,
        model: Module,
        loss_fn: LossFn,
        optimizer: Optimizer,
        clip: float | None,
        compiled: bool,
        signals: Signals,
    ) -> None:
        self._model, self._optimizer, self._signals = model, optimizer, signals
        self._name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
        self._buffers: Buffers = {n: b.clone() for n, b in model.named_buffers()}  # at its start
        self._open = False  # between its start and its end
        self._gradients = _gradients(model, loss_fn, optimizer, clip)
        self._compiled: Any = None
        self.run: Callable[[Any], Tensor] = self._in_halves
        if compiled and _can_be_captured(optimizer):
            whole = _whole(self._gradients, model, optimizer, self._buffers)
            self._compiled, self.run = capture.compile(whole), self._as_one
        elif compiled:
            self._compiled = capture.compile(self._gradients)

    def _as_one(self, batch: Any) -> Tensor:
        self._signals.holding = self._open = True
        drawn = default_generator._offset  # the batch was drawn since the step's start
        try:
            loss: Tensor | None = self._compiled(batch)
        except capture.CaptureError as error:
            loss = self._go_on_without(error, drawn)
        if loss is None:
            self._signals.release()
            return self._in_halves(batch)
        self._open = False
        return loss

    def _in_halves(self, batch: Any) -> Tensor:
        if self._buffers:
            with self._signals.held():
                _keep(self._model, self._buffers)
        self._open = True
        loss: Tensor | None = None
        if self._compiled is not None:
            drawn = default_generator._offset
            try:
                loss = self._compiled(batch)
            except capture.CaptureError as error:
                loss = self._go_on_without(error, drawn)
        if loss is None:
            loss = self._gradients(batch)
        self._signals.holding = True  # an update is done whole or not at all
        self._optimizer.step()
        self._open = False
        return loss

    def _go_on_without(self, error: capture.CaptureError, drawn: int) -> Tensor | None:
        """Capture no more; return the loss if the call that was refused had come to its end."""
        why = str(error).replace(f"{self._compiled!r} cannot be captured: ", "")
        self._compiled, self.run = None, self._in_halves
        warnings.warn(
            f"fit: a step with {self._name} cannot be captured: {why}. The run goes on without "
            "capture, to the same losses; compile=False does from the start",
            stacklevel=6,
        )
        if isinstance(error.result, Tensor):
            return error.result
        self.undo()
        default_generator._offset = drawn
        return None

    def undo(self) -> None:
        """Put the buffers back if a step has begun and not ended."""
        if self._open:
            self._open = False
            for name, buffer in self._model.named_buffers():
                buffer.copy_(self._buffers[name])


def _gradients(
    model: Module, loss_fn: LossFn, optimizer: Optimizer, clip: float | None
) -> Callable[[Any], Tensor]:
    def gradients(batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"fit: loss_fn returned a {type(loss).__name__}; it must return a scalar tensor"
            )
        loss.backward()
        require_finite(loss, "the loss")
        if clip is not None:
            require_finite(clip_grad_norm_(model.parameters(), clip), "the gradient norm")
        return loss

    return gradients


def _whole(
    gradients: Callable[[Any], Tensor], model: Module, optimizer: Optimizer, buffers: Buffers
) -> Callable[[Any], Tensor]:
    def step(batch: Any) -> Tensor:
        _keep(model, buffers)
        loss = gradients(batch)
        optimizer.step()
        return loss

    return step


def _keep(model: Module, buffers: Buffers) -> None:
    for name, buffer in model.named_buffers():
        if name in buffers and buffers[name].shape == buffer.shape:
            buffers[name].copy_(buffer)
        else:
            buffers[name] = buffer.clone()


def _can_be_captured(optimizer: Optimizer) -> bool:
    """Whether replays do all that the optimizer's step does.

    Not those of optimizers that count in Python, of settings that are tensors, and of a `step`
    or hooks that are the user's.
    """
    hooks = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        everywhere.before,
        everywhere.after,
    )
    settings = [
        group[name] for group in optimizer.param_groups for name in optimizer._live_settings
    ]
    numbers = [x for value in settings for x in (value if isinstance(value, tuple) else [value])]
    return (
        bool(numbers)
        and all(isinstance(x, (int, float)) for x in numbers)
        and "step" not in vars(optimizer)
        and not any(hooks)
    )
