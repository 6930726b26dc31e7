"""`fit`: step after step, with evaluation, checkpoints and Ctrl-C between them."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from ..autograd import no_grad
from ..dtypes import float64
from ..functions.creation import tensor
from ..functions.random import get_rng_state, set_rng_state
from ..nn import Module
from ..optim import Optimizer
from ..serialization import check_writable, save
from ..tensor import Tensor
from .batches import Batches
from .checkpoint import State, restore
from .errors import Interrupted, NonFiniteError
from .history import History
from .interrupt import CtrlC
from .progress import Progress
from .schedule import Scheduler
from .step import HalfSteps

Path = str | os.PathLike[str]


def fit(
    model: Module,
    loss_fn: Callable[[Any, Any], Tensor],
    batches: Callable[[int], Any] | Iterable[Any],
    optimizer: Optimizer,
    *,
    steps: int,
    scheduler: Scheduler | None = None,
    clip_grad_norm: float | None = None,
    evaluate: Callable[[Any], float] | None = None,
    evaluate_every: int = 100,
    checkpoint: Path | None = None,
    checkpoint_every: int = 1000,
    resume: bool = False,
    extra: Any = None,
    count_tokens: Callable[[Any], int] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    progress: bool = True,
    compile: bool = True,
) -> History:
    """Train `model` for `steps` steps, counted from the very start of the run.

    `loss_fn(model, batch)` returns a scalar. `batches` is a function of the step (0, 1, ...), or
    something to go through again and again, such as a list or a DataLoader. `evaluate(model)` is
    called without gradients, in eval mode, and does not touch the random state of training.

    A checkpoint is written every `checkpoint_every` steps, at the end and at Ctrl-C. It holds the
    weights, the optimizer, the schedule, the random state, the place in the batches, the history
    and `extra` (anything `save` can write). `resume=True` goes on from it to the same bits as if
    the run had never stopped, given that the order of `batches` follows from the step or from the
    random state.

    A step is captured and replayed (`backtrail.compile`): `loss_fn` and the model run as Python
    only for batches of a new form. Where that cannot be, because they look at values or keep
    state in Python, a warning says why and the run goes on without; `compile=False` does from the
    start. The losses are the same, to the bit.

    Raises:
        Interrupted: at Ctrl-C, a KeyboardInterrupt. The step that was under way is undone.
        NonFiniteError: the loss, the gradient norm or a weight is not finite. Nothing is saved.
        CheckpointError: the checkpoint to resume from is malformed or of another model.
    """
    path = None if checkpoint is None else os.fspath(checkpoint)
    history, source = History(), Batches(batches)
    if resume:
        if path is None:
            raise ValueError("fit: resume=True needs checkpoint=, the file to resume from")
        restore(path, model, optimizer, scheduler, source, history)
        if len(history.losses) > steps:
            raise ValueError(f"fit: {path} is at step {len(history.losses)}, past steps={steps}")
    elif path is not None:
        check_writable(path)  # now rather than after an hour
    saved = len(history.losses)  # the step of the last checkpoint
    evaluated = history.evaluations[-1][0] if history.evaluations else 0
    buffers = any(True for _ in model.buffers())
    start = State(model, source, buffers)
    half_steps = HalfSteps(model, loss_fn, optimizer, clip_grad_norm, compile)

    def checkpoint_now() -> None:
        nonlocal saved
        step = len(history.losses)
        if path is None or step == saved:
            return
        for name, parameter in model.named_parameters():
            if not parameter.detach().isfinite().all().item():
                raise NonFiniteError(f"{name} is not finite after step {step}{_kept(path, saved)}")
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict() if scheduler else None,
            "random_state": start.random_state,
            "batches": start.batches,
            "losses": tensor(history.losses, dtype=float64),
            "evaluations": history.evaluations,
            "seconds": history.seconds,
            "tokens": history.tokens,
            "extra": extra,
        }
        save(state, path)
        saved = step

    model.train()
    with CtrlC() as ctrl_c, Progress(steps, history, progress) as bar:
        try:
            while True:
                step = len(history.losses)
                if evaluate and step > evaluated and _due(step, evaluate_every, steps):
                    history.evaluations.append((step, _evaluate(evaluate, model)))
                    evaluated = step
                if _due(step, checkpoint_every, steps):
                    with ctrl_c.held():
                        checkpoint_now()
                if step == steps:
                    return history

                began = time.perf_counter()
                batch = source(step)
                loss, grad_norm = half_steps.gradients(batch, start)
                value = loss.item()
                if not math.isfinite(value):
                    raise NonFiniteError(
                        f"the loss is {value} at step {step + 1}{_kept(path, saved)}"
                    )
                if grad_norm is not None:
                    norm = grad_norm.item()
                    if not math.isfinite(norm):
                        raise NonFiniteError(
                            f"the gradient norm is {norm} at step {step + 1}{_kept(path, saved)}"
                        )
                with ctrl_c.held():  # a step is done whole or not at all
                    half_steps.update()
                    if scheduler:
                        scheduler.step()
                    history.losses.append(value)
                    history.tokens += count_tokens(batch) if count_tokens else 0
                    history.seconds += time.perf_counter() - began
                    start = State(model, source, buffers)
                bar.update()
                if on_step:
                    on_step(step + 1, value)
        except KeyboardInterrupt:
            ctrl_c.raised = True  # whoever raised it: what follows is not to be interrupted
            start.restore(model)
            checkpoint_now()
            raise Interrupted(len(history.losses), path if saved else None) from None


def _due(step: int, every: int, steps: int) -> bool:
    return step > 0 and (step % every == 0 or step == steps)


def _kept(path: str | None, saved: int) -> str:
    kept = f"; {path} still holds step {saved}" if path and saved else ""
    return f"{kept}. A lower learning rate or clip_grad_norm often helps"


def _evaluate(evaluate: Callable[[Any], float], model: Module) -> float:
    random_state = get_rng_state()
    model.eval()
    try:
        with no_grad():
            return float(evaluate(model))
    finally:
        model.train()
        set_rng_state(random_state)
