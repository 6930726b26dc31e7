"""`fit`: step after step, with evaluation, checkpoints and signals between them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from ..autograd import no_grad
from ..functions.random import default_generator, get_rng_state, set_rng_state
from ..nn import Module
from ..optim import Optimizer
from ..serialization import check_writable, save
from ..tensor import Tensor
from .batches import END, Batches
from .callbacks import Callback
from .checkpoint import contents, restore
from .errors import NonFiniteError
from .history import History, number, numbers
from .interrupt import Signals
from .progress import Progress
from .schedule import Scheduler, schedule_by
from .step import TrainingStep

Path = str | os.PathLike[str]


def fit(
    model: Module,
    loss_fn: Callable[[Any, Any], Tensor],
    batches: Callable[[int], Any] | Iterable[Any],
    optimizer: Optimizer,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    scheduler: Scheduler | None = None,
    scheduler_every: str = "step",
    clip_grad_norm: float | None = None,
    evaluate: Callable[[Any], Any] | None = None,
    evaluate_every: int | None = None,
    monitor: str | None = None,
    callbacks: Iterable[Callback] = (),
    checkpoint: Path | None = None,
    checkpoint_every: int = 1000,
    resume: bool = False,
    extra: Any = None,
    count_tokens: Callable[[Any], int] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    progress: bool = True,
    compile: bool = True,
) -> History:
    """Train `model` and return what happened: losses, evaluations, time.

    The loss:
        loss_fn: `loss_fn(model, batch)` returns the loss of a batch, a scalar tensor.
        batches: what the batches come from, in any form that `loss_fn` takes: something to go
            through again and again, such as a list or a DataLoader, or a function of the step
            (0, 1, ...).
        optimizer: of the model's parameters. Its gradients are zeroed before each step.
        clip_grad_norm: the most that the norm of all gradients together may be; they are scaled.

    How long: one of the two, counted from the very start of the run, also of a resumed one.
        steps: how many batches.
        epochs: how many passes over the batches.

    The learning rate:
        scheduler: any class of `optim.lr_scheduler`. ReduceLROnPlateau, and others whose `step`
            takes a metric, are stepped after each evaluation, with its value.
        scheduler_every: when others are stepped: after each "step" (of the optimizer), or each
            "epoch".

    How good is it?
        evaluate: `evaluate(model)` returns a number, or a dict of numbers by name. It is called
            without gradients, in eval mode, and does not touch the random state of training. Its
            values are shown, and kept in `History.evaluations`.
        evaluate_every: steps between evaluations; the last step is always followed by one. Unless
            given: each epoch with `epochs`, else 100 steps.
        monitor: which number of a dict ReduceLROnPlateau goes by ["loss"].

    What else happens:
        callbacks: objects whose methods are called at points of the run, and may end it:
            `Callback`, `EarlyStopping`.
        on_step: `on_step(step, loss)` is called after each step, from 1 on.
        progress: whether to show a bar, or lines where no bar can be shown.
        count_tokens: `count_tokens(batch)` says how much a batch holds; the speed is shown.

    Checkpoints:
        checkpoint: the file to keep the run in. It is written every `checkpoint_every` steps, at
            the end and at Ctrl-C, SIGTERM and SIGHUP, and holds the weights, the optimizer, the
            schedule, the random state, the place in the batches, the callbacks, the history and
            `extra` (anything `save` can write).
        resume: go on from it, to the same bits as if the run had never stopped, given that the
            order of `batches` follows from the step or from the random state.

    A step is captured and replayed (`backtrail.compile`): `loss_fn` and the model run as Python
    only for batches of a new form, so that what they print is printed once. Where that cannot be,
    because they look at values or keep state in Python, a warning says why and the run goes on
    without; `compile=False` does from the start. The losses are the same, to the bit.

    Raises:
        Interrupted: at Ctrl-C, a KeyboardInterrupt; its `history` is what was done. The step that
            was under way is ended if it is captured, else undone.
        Terminated: at SIGTERM and SIGHUP, unless the program handles those; a SystemExit, likewise.
        NonFiniteError: the loss, the gradient norm or a weight is not finite. Nothing is saved.
        CheckpointError: the checkpoint to resume from is malformed or of another model.
    """
    run = Run(model, optimizer, scheduler, evaluate, list(callbacks), Batches(batches))
    run.steps, run.epochs = _length(steps, epochs, run.batches)
    run.scheduler_every = schedule_by(
        scheduler, scheduler_every, evaluate is not None, run.batches.has_passes
    )
    run.evaluate_every = evaluate_every or (None if epochs is not None else 100)
    run.checkpoint_every, run.monitor, run.extra = checkpoint_every, monitor, extra
    run.count_tokens, run.on_step = count_tokens, on_step
    if checkpoint is not None:
        run.path = os.fspath(checkpoint)
    if resume:
        run.resume()
    elif run.path is not None:
        check_writable(run.path)  # now rather than after an hour
    with Signals() as signals, Progress(run.steps, run.history, progress) as bar:
        step = TrainingStep(model, loss_fn, optimizer, clip_grad_norm, compile, signals)
        return run.go(step, signals, bar)


def _length(
    steps: int | None, epochs: int | None, batches: Batches
) -> tuple[int | None, int | None]:
    """Return how many steps there will be, if that is known, and how many epochs."""
    if (steps is None) == (epochs is None):
        raise TypeError("fit: give steps= or epochs=, one of the two")
    if epochs is None:
        return steps, None
    if not batches.has_passes:
        raise ValueError("fit: a function of the step has no epochs; give steps=")
    return (None if batches.length is None else epochs * batches.length), epochs


class Run:
    """A run of `fit` under way, as its callbacks see it."""

    steps: int | None  # how many there will be, if that is known
    epochs: int | None
    scheduler_every: str
    evaluate_every: int | None
    checkpoint_every: int
    monitor: str | None
    extra: Any
    count_tokens: Callable[[Any], int] | None
    on_step: Callable[[int, float], None] | None

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        scheduler: Scheduler | None,
        evaluate: Callable[[Any], Any] | None,
        callbacks: list[Callback],
        batches: Batches,
    ) -> None:
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.evaluate, self.callbacks, self.batches = evaluate, callbacks, batches
        self.history = History()
        self.path: str | None = None  # of the checkpoint
        self._saved = 0, 0  # the step and epoch of the last checkpoint
        self._evaluated = 0  # the step of the last evaluation
        self._over = False

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.history.losses)

    @property
    def epoch(self) -> int:
        """Passes over the batches done."""
        return self.batches.place[2]

    def stop(self, why: str) -> None:
        """End the run after this step, as if it had been the last."""
        self.history.stopped = why
        self._over = True

    # ---- from here on for `fit` alone

    def resume(self) -> None:
        """Take over the checkpoint."""
        if self.path is None:
            raise ValueError("fit: resume=True needs checkpoint=, the file to resume from")
        restore(
            self.path,
            self.model,
            self.optimizer,
            self.scheduler,
            self.callbacks,
            self.history,
            self.batches,
        )
        if self.epochs is None and self.steps is not None and self.step > self.steps:
            raise ValueError(f"fit: {self.path} is at step {self.step}, past steps={self.steps}")
        if self.epochs is not None and self.epoch > self.epochs:
            raise ValueError(
                f"fit: {self.path} is at epoch {self.epoch}, past epochs={self.epochs}"
            )
        self._saved = self.step, self.epoch
        if self.history.evaluations:
            self._evaluated = self.history.evaluations[-1][0]

    def go(self, step: TrainingStep, signals: Signals, bar: Progress) -> History:
        """Do all steps; return the history."""
        self._work, self._signals, self._bar = step, signals, bar
        self._remember()
        self.model.train()
        try:
            for callback in self.callbacks:
                callback.on_start(self)
            while not self._over and not self._is_done():
                self._go_on()
                self._pause()
            if self._is_done() and self.batches.is_over():
                self._end_epoch()
            for callback in self.callbacks:
                callback.on_end(self)
            with signals.held():
                self._save()
        except KeyboardInterrupt:
            signals.raised = True  # whoever raised it: what follows is not to be interrupted
            self._undo()
            self._save()
            kept = self.path if self._saved[0] else None
            raise signals.stopped(self.step, kept, self.history) from None
        except ValueError as error:
            found = re.match("the (loss|gradient norm) is (nan|inf|-inf)", str(error))
            if not found:
                raise
            self._undo()
            raise self._non_finite(f"{found[0]} at step {self.step + 1}") from None
        return self.history

    def _is_done(self) -> bool:
        if self.epochs is not None:
            return self.epoch >= self.epochs
        return self.steps is not None and self.step >= self.steps

    def _go_on(self) -> None:
        """Do steps until something else is due."""
        history, losses, until = self.history, self.history.losses, self._next_pause()
        batches, work, bar, signals = self.batches, self._work, self._bar, self._signals
        take, clock, generator = batches.take, time.perf_counter, default_generator
        count, on_step = self.count_tokens, self.on_step
        schedule = self.scheduler.step if self.scheduler_every == "step" else None  # type: ignore[union-attr]
        hooks = [c.on_step for c in self.callbacks if type(c).on_step is not Callback.on_step]
        done = len(losses)
        before = clock()
        while done < until:
            batch = take(done)
            if batch is END:
                self._end_epoch()
                return
            value = work.run(batch).item()
            # Ctrl-C is held until all that belongs to the step is written down.
            if schedule is not None:
                schedule()
            losses.append(value)
            done += 1
            if count is not None:
                history.tokens += count(batch)
            now = clock()
            history.seconds += now - before
            before = now
            self._state = generator._seed, generator._offset
            self._place = batches.place
            signals.holding = False
            if signals.pending:
                signals.release()
            if now >= bar.next_time:
                bar.update()
                before = clock()
            if hooks or on_step is not None:
                if on_step is not None:
                    on_step(done, value)
                for hook in hooks:
                    hook(self)
                if self._over:
                    return
                before = clock()

    def _next_pause(self) -> float:
        """Return the step after which something else is due."""
        step = self.step
        until = [self._bar.next_step]
        for every in (self.checkpoint_every, self.evaluate_every):
            if every:
                until.append(step - step % every + every)
        if self.epochs is None and self.steps is not None:
            until.append(self.steps)
        return min(until)

    def _pause(self) -> None:
        """Do what is due after a step: evaluation, checkpoint, a line."""
        step, last = self.step, self._over or self._is_done()
        every = self.evaluate_every
        if step and (last or (every and step % every == 0)):
            self._evaluate()
        if step >= self._bar.next_step or (last and self.steps is None):
            self._bar.update()
        if step and step % self.checkpoint_every == 0 and not last:
            with self._signals.held():
                self._save()

    def _end_epoch(self) -> None:
        """Do what is due after a pass over the batches."""
        if self.evaluate_every is None:
            self._evaluate()
        with self._signals.held():
            self.history.epochs.append(self.step)
            if self.scheduler is not None and self.scheduler_every == "epoch":
                self.scheduler.step()
            self._remember()
        for callback in self.callbacks:
            callback.on_epoch(self)

    def _evaluate(self) -> None:
        """Evaluate, if there is something to evaluate with that was not at this step."""
        if self.evaluate is None or self._evaluated == self.step:
            return
        random_state = get_rng_state()
        self.model.eval()
        try:
            with no_grad():
                value = numbers(self.evaluate(self.model))
        finally:
            self.model.train()
            set_rng_state(random_state)
        with self._signals.held():
            if self.scheduler is not None and self.scheduler_every == "evaluation":
                self.scheduler.step(number(value, self.monitor))
            self.history.evaluations.append((self.step, value))
            self._evaluated = self.step
        for callback in self.callbacks:
            callback.on_evaluation(self, value)

    def _remember(self) -> None:
        """Keep what the next step changes before its update."""
        self._state = default_generator._seed, default_generator._offset
        self._place = self.batches.place

    def _undo(self) -> None:
        """Take back half a step."""
        default_generator._seed, default_generator._offset = self._state
        self._work.undo()

    def _save(self) -> None:
        """Write a checkpoint, unless the last one is of this very moment."""
        now = self.step, self._place[2]
        if self.path is None or now == self._saved:
            return
        for name, parameter in self.model.named_parameters():
            if not parameter.detach().isfinite().all().item():
                raise self._non_finite(f"{name} is not finite after step {self.step}")
        state = contents(
            self.model,
            self.optimizer,
            self.scheduler,
            self.callbacks,
            self.history,
            self._state,
            self._place,
            self.extra,
        )
        save(state, self.path)
        self._saved = now
        for callback in self.callbacks:
            callback.on_checkpoint(self, self.path)

    def _non_finite(self, what: str) -> NonFiniteError:
        kept = ""
        if self.path and self._saved[0]:
            kept = f"; {self.path} still holds step {self._saved[0]}"
        return NonFiniteError(
            f"{what}{kept}. A lower learning rate or clip_grad_norm often helps", self.history
        )
