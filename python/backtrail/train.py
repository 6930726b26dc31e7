"""The training loop: progress, schedule, evaluation, checkpoints, Ctrl-C, and resuming bit for bit.

    def loss_fn(model, batch):
        inputs, targets = batch
        return F.mse_loss(model(inputs), targets)

    fit(model, loss_fn, loader, bt.optim.Adam(model.parameters()), steps=1000,
        checkpoint="run.safetensors", checkpoint_every=100)

and, after a Ctrl-C or a crash, the same call with `resume=True`.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol

from . import capture
from .autograd import no_grad
from .dtypes import float64
from .functions.creation import tensor
from .functions.random import default_generator, get_rng_state, set_rng_state
from .nn import Module
from .nn.utils import clip_grad_norm_
from .optim import Optimizer
from .serialization import CheckpointError, check_writable, load, save
from .tensor import Tensor

Path = str | os.PathLike[str]


class Scheduler(Protocol):
    """What `fit` asks of a learning-rate schedule: any class of `optim.lr_scheduler` will do."""

    def step(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class NonFiniteError(FloatingPointError):
    """The loss, a gradient or a weight became NaN or infinite; the message names the step."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped the run after `step` whole steps; `checkpoint`, if any, continues it."""

    def __init__(self, step: int, checkpoint: str | None) -> None:
        self.step, self.checkpoint = step, checkpoint
        where = f"; {checkpoint} continues from there with resume=True" if checkpoint else ""
        super().__init__(f"stopped after step {step}{where}")


class History:
    """What a run has done so far, including what it did before it was resumed."""

    def __init__(self) -> None:
        self.losses: list[float] = []  # one a step
        self.evaluations: list[tuple[int, float]] = []  # (step, value)
        self.seconds = 0.0  # in training steps; evaluation and checkpoints are left out
        self.tokens = 0

    def mean_loss(self, last: int = 100) -> float:
        """Return the mean of the last losses, NaN if there are none."""
        losses = self.losses[-last:]
        return sum(losses) / len(losses) if losses else math.nan


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
    history, source = History(), _Batches(batches)
    if resume:
        if path is None:
            raise ValueError("fit: resume=True needs checkpoint=, the file to resume from")
        _restore(path, model, optimizer, scheduler, source, history)
        if len(history.losses) > steps:
            raise ValueError(f"fit: {path} is at step {len(history.losses)}, past steps={steps}")
    elif path is not None:
        check_writable(path)  # now rather than after an hour
    saved = len(history.losses)  # the step of the last checkpoint
    evaluated = history.evaluations[-1][0] if history.evaluations else 0
    buffers = any(True for _ in model.buffers())
    start = _State(model, source, buffers)
    half_steps = _HalfSteps(model, loss_fn, optimizer, clip_grad_norm, compile)

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
    with _CtrlC() as ctrl_c, _Progress(steps, history, progress) as bar:
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
                    start = _State(model, source, buffers)
                bar.update()
                if on_step:
                    on_step(step + 1, value)
        except KeyboardInterrupt:
            ctrl_c.raised = True  # whoever raised it: what follows is not to be interrupted
            start.restore(model)
            checkpoint_now()
            raise Interrupted(len(history.losses), path if saved else None) from None


class _HalfSteps:
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

    def gradients(self, batch: Any, start: _State) -> tuple[Tensor, Tensor | None]:
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


def _restore(
    path: str,
    model: Module,
    optimizer: Optimizer,
    scheduler: Scheduler | None,
    source: _Batches,
    history: History,
) -> None:
    state = load(path)
    if not isinstance(state, dict):
        raise CheckpointError(f"fit: {path} is not a checkpoint of `fit`")
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if scheduler:
            scheduler.load_state_dict(state["scheduler"])
        history.losses = state["losses"].tolist()
        history.evaluations = state["evaluations"]
        history.seconds, history.tokens = state["seconds"], state["tokens"]
        source.load_state_dict(state["batches"])
        set_rng_state(state["random_state"])
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"fit: cannot resume from {path}: {what}") from error


class _Batches:
    """The batches of a run in order, and the place that the run has reached in them."""

    def __init__(self, source: Callable[[int], Any] | Iterable[Any]) -> None:
        self.source = source
        self.iterator: Iterator[Any] | None = None
        self.random_state: Tensor | None = None  # when this pass began: it gives the pass its order
        self.index = 0  # batches taken from this pass

    def __call__(self, step: int) -> Any:
        """Return the batch of `step`, starting the next pass when one ends."""
        if callable(self.source):
            return self.source(step)
        for _ in range(2):
            if self.iterator is None:
                self.random_state, self.index = get_rng_state(), 0
                self.iterator = iter(self.source)
            for batch in self.iterator:
                self.index += 1
                return batch
            self.iterator = None
        raise ValueError(
            f"fit: the batches ended before step {step + 1}; give a list, a DataLoader, or a "
            "function of the step"
        )

    def state_dict(self) -> dict[str, Any] | None:
        if self.random_state is None:
            return None
        return {"random_state": self.random_state, "index": self.index}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        if state is None or callable(self.source):
            return
        self.random_state, self.index = state["random_state"], state["index"]
        set_rng_state(self.random_state)
        self.iterator = iter(self.source)
        next(islice(self.iterator, self.index, self.index), None)  # skip


class _State:
    """What a step changes before its update: kept from the step's start, to undo half a step."""

    def __init__(self, model: Module, source: _Batches, buffers: bool) -> None:
        self.random_state = get_rng_state()
        self.batches = source.state_dict()
        named = model.named_buffers() if buffers else ()  # a walk through all modules
        self.buffers = {name: buffer.clone() for name, buffer in named}

    def restore(self, model: Module) -> None:
        set_rng_state(self.random_state)
        if self.buffers:
            for name, buffer in model.named_buffers():
                buffer.copy_(self.buffers[name])


class _CtrlC:
    """Ctrl-C as a KeyboardInterrupt: raised at once or, inside `with held():`, at its end.

    Only the first one counts: a second finds the checkpoint being written. Only the main thread
    gets signals; in another one, and where Ctrl-C is ignored, nothing changes.
    """

    def __init__(self) -> None:
        self.holding = self.pending = self.raised = False
        self.previous: Any = None

    def __enter__(self) -> _CtrlC:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if previous not in (None, signal.SIG_IGN):
                self.previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)

    def _on_signal(self, *_: object) -> None:
        self.pending = True
        if not self.holding:
            self._raise()

    def _raise(self) -> None:
        if not self.raised:
            self.raised = True
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        self.holding = True
        try:
            yield
        finally:
            self.holding = False
        if self.pending:
            self._raise()


class _Progress:
    """A bar with loss and speed or, where there is no terminal, a line now and then."""

    def __init__(self, steps: int, history: History, show: bool) -> None:
        self.steps, self.history, self.show = steps, history, show
        self.shown = len(history.losses)
        self.tokens, self.seconds = history.tokens, history.seconds  # before this session
        self.at = -math.inf
        self.bar: Any = None

    def __enter__(self) -> _Progress:
        if self.show and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return self
            self.bar = tqdm(
                total=self.steps,
                initial=self.shown,
                unit="step",
                dynamic_ncols=True,
                mininterval=0,  # `update` below sees to how often
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self._draw()
            self.bar.close()

    def update(self) -> None:
        if not self.show:
            return
        step, now = len(self.history.losses), time.monotonic()
        if self.bar is not None:
            if now - self.at > 0.1:
                self.at = now
                self._draw()
        elif step % max(1, self.steps // 10) == 0 or step == self.steps or now - self.at > 60:
            self.at = now
            print(f"step {step:,}/{self.steps:,}  {self._figures()}", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        step = len(self.history.losses)
        self.bar.set_postfix_str(self._figures(), refresh=False)
        self.bar.update(step - self.shown)
        self.shown = step

    def _figures(self) -> str:
        text = f"loss {self.history.mean_loss():.4f}"
        tokens = self.history.tokens - self.tokens
        if tokens:
            text += f", {tokens / (self.history.seconds - self.seconds):,.0f} tokens/s"
        return text
