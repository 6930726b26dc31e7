"""How a run can end before its last step."""

from __future__ import annotations

from .history import History


class NonFiniteError(FloatingPointError):
    """The loss, a gradient or a weight became NaN or infinite; the message names the step.

    `history` is what the run has done; the model is as it was before the step.
    """

    def __init__(self, message: str, history: History) -> None:
        self.history = history
        super().__init__(message)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped the run after `step` whole steps; `checkpoint`, if any, continues it.

    `history` is what the run has done. In a notebook or at a prompt, where the exception was not
    caught, it is found in `sys.last_value`.
    """

    def __init__(self, step: int, checkpoint: str | None, history: History) -> None:
        self.step, self.checkpoint, self.history = step, checkpoint, history
        where = f"; {checkpoint} continues from there with resume=True" if checkpoint else ""
        super().__init__(f"stopped after step {step}{where}")
