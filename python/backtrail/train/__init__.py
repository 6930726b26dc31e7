"""The training loop: progress, schedule, evaluation, checkpoints, signals, resuming bit for bit.

    def loss_fn(model, batch):
        inputs, targets = batch
        return F.mse_loss(model(inputs), targets)

    history = fit(model, loss_fn, loader, bt.optim.Adam(model.parameters()), epochs=10,
                  checkpoint="run.safetensors")
    history.plot()

and, after a Ctrl-C or a crash, the same call with `resume=True`.
"""

from __future__ import annotations

from .callbacks import Callback, EarlyStopping
from .errors import Interrupted, NonFiniteError, Terminated
from .history import History
from .loop import Run, fit
from .schedule import Scheduler

__all__ = [
    "Callback",
    "EarlyStopping",
    "History",
    "Interrupted",
    "NonFiniteError",
    "Run",
    "Scheduler",
    "Terminated",
    "fit",
]
