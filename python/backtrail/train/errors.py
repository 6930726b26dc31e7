"""How a run can end before its last step."""

from __future__ import annotations


class NonFiniteError(FloatingPointError):
    """The loss, a gradient or a weight became NaN or infinite; the message names the step."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped the run after `step` whole steps; `checkpoint`, if any, continues it."""

    def __init__(self, step: int, checkpoint: str | None) -> None:
        self.step, self.checkpoint = step, checkpoint
        where = f"; {checkpoint} continues from there with resume=True" if checkpoint else ""
        super().__init__(f"stopped after step {step}{where}")
