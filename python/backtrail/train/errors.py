"""How a run can end before its last step."""

from __future__ import annotations

import signal

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
        self.status = 128 + signal.SIGINT
        super().__init__(_stopped(step, checkpoint))


class Terminated(SystemExit):
    """SIGTERM or SIGHUP stopped the run, as Ctrl-C does.

    Where no one catches it, the process ends with the `status` that a shell gives a process that
    was ended so: 128 and the number of the signal.
    """

    def __init__(self, step: int, checkpoint: str | None, history: History, number: int) -> None:
        self.step, self.checkpoint, self.history = step, checkpoint, history
        self.status = 128 + number
        super().__init__(f"{signal.Signals(number).name}: {_stopped(step, checkpoint)}")
        self.code = self.status


def _stopped(step: int, checkpoint: str | None) -> str:
    where = f"; {checkpoint} continues from there with resume=True" if checkpoint else ""
    return f"stopped after step {step}{where}"
