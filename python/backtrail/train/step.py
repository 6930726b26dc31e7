"""One training step: the gradients and the update, captured if that can be."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from .. import capture
from ..functions.random import default_generator
from ..nn import Module
from ..nn.utils import clip_grad_norm_
from ..optim import Optimizer
from ..tensor import Tensor
from .checkpoint import State


class HalfSteps:
    """The two halves of a step, captured if that can be: the gradients, and the update.

    Between them the loop looks at the loss, which a captured function could not.
    """

    def __init__(
        self,
        model: Module,
        loss_fn: Callable[[Any, Any], Tensor],
        optimizer: Optimizer,
        clip: float | None,
        compiled: bool,
    ) -> None:
        def gradients(batch: Any) -> tuple[Tensor, Tensor | None]:
            optimizer.zero_grad()
            loss = loss_fn(model, batch)
            loss.backward()
            return loss, None if clip is None else clip_grad_norm_(model.parameters(), clip)

        self._model, self._eager = model, gradients
        self._gradients = capture.compile(gradients) if compiled else gradients
        # Others are the user's, or have been given a step of the user's.
        captured = compiled and bool(optimizer._live_settings) and "step" not in vars(optimizer)
        self.update = capture.compile(optimizer.step) if captured else optimizer.step

    def gradients(self, batch: Any, start: State) -> tuple[Tensor, Tensor | None]:
        """Return the loss, and the norm of the gradients where they are clipped."""
        drawn = default_generator._offset  # the batch was drawn since the step's start
        try:
            return self._gradients(batch)
        except capture.CaptureError as error:
            warnings.warn(f"fit: {error}. The run goes on without capture", stacklevel=3)
            self._gradients = self._eager
            start.restore(self._model)  # what half a step drew and counted
            default_generator._offset = drawn
            return self._gradients(batch)
