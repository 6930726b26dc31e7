"""The training loop: progress, schedule, evaluation, checkpoints, Ctrl-C, and resuming bit for bit.

    def loss_fn(model, batch):
        inputs, targets = batch
        return F.mse_loss(model(inputs), targets)

    fit(model, loss_fn, loader, bt.optim.Adam(model.parameters()), steps=1000,
        checkpoint="run.safetensors", checkpoint_every=100)

and, after a Ctrl-C or a crash, the same call with `resume=True`.
"""

from __future__ import annotations

from .errors import Interrupted, NonFiniteError
from .history import History
from .loop import fit
from .schedule import Scheduler

__all__ = ["History", "Interrupted", "NonFiniteError", "Scheduler", "fit"]
