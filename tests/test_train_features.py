"""What surrounds the steps of a run: epochs, metrics, schedules, callbacks, pictures."""

from __future__ import annotations

import io
import math
import signal
import sys
from pathlib import Path
from typing import Any

import backtrail as bt
import backtrail.nn.functional as F
import pytest
from backtrail import Tensor, nn
from backtrail.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from backtrail.train import Callback, EarlyStopping, History, Interrupted, NonFiniteError, Run, fit
from calls import python_calls

X = bt.tensor([[float(i), float(i * i % 7)] for i in range(10)])
BATCHES = [(X[i : i + 2], X[i : i + 2].sum(1, keepdim=True) / 20) for i in range(0, 10, 2)]


def mse(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def train(lr: float = 1e-3, batches: Any = BATCHES, loss_fn: Any = mse, **options: Any) -> tuple:
    """Return the history, and the model and optimizer of a run."""
    bt.manual_seed(1)
    model = options.pop("model", None) or nn.Linear(2, 1)
    optimizer = bt.optim.Adam(model.parameters(), lr=lr)
    scheduler = options.pop("scheduler", None)
    options["scheduler"] = scheduler(optimizer) if scheduler else None
    return fit(model, loss_fn, batches, optimizer, progress=False, **options), model, optimizer


def loss_of(model: nn.Module) -> float:
    return sum(mse(model, batch).item() for batch in BATCHES) / len(BATCHES)


# How long


def test_epochs_are_passes_over_the_batches() -> None:
    history = train(epochs=3)[0]
    assert (len(history.losses), history.epochs) == (15, [5, 10, 15])
    assert history.losses == train(steps=15)[0].losses
    assert train(steps=15)[0].epochs == [5, 10, 15]
    assert train(steps=12)[0].epochs == [5, 10]


def test_epochs_of_batches_without_a_length() -> None:
    class Unsized:
        def __iter__(self) -> Any:
            return iter(BATCHES)

    assert train(batches=Unsized(), epochs=2)[0].losses == train(epochs=2)[0].losses
    assert train(batches=iter(BATCHES), epochs=1)[0].epochs == [5]
    with pytest.raises(ValueError, match="batches ended before step 6"):
        train(batches=iter(BATCHES), epochs=2)


def test_how_long_is_said_once() -> None:
    for lengths in ({}, {"steps": 3, "epochs": 3}):
        with pytest.raises(TypeError, match=r"give steps= or epochs=, one of the two"):
            train(**lengths)
    with pytest.raises(ValueError, match="a function of the step has no epochs"):
        train(batches=lambda step: BATCHES[0], epochs=2)
    with pytest.raises(TypeError, match=r"batches must be a list.*not int"):
        train(batches=3, steps=2)


@pytest.mark.parametrize("stop", [3, 5, 8])
def test_epochs_are_resumed_to_the_same_bits(tmp_path: Path, stop: int) -> None:
    options: dict[str, Any] = {
        "epochs": 3,
        "evaluate": loss_of,
        "scheduler": lambda optimizer: StepLR(optimizer, 1, 0.5),
        "scheduler_every": "epoch",
    }
    whole, model, _ = train(**options)

    def end(step: int, _: float) -> None:
        if step == stop:
            raise KeyboardInterrupt

    path = tmp_path / "run.safetensors"
    with pytest.raises(Interrupted):
        train(**options, checkpoint=path, on_step=end)
    for _ in range(2):  # a finished run has nothing left to do
        history, again, optimizer = train(**options, checkpoint=path, resume=True)
        assert history.losses == whole.losses
        assert (history.evaluations, history.epochs) == (whole.evaluations, whole.epochs)
        assert again.weight.tolist() == model.weight.tolist()
        assert optimizer.param_groups[0]["lr"] == 1e-3 / 8
    with pytest.raises(ValueError, match="is at epoch 3, past epochs=2"):
        train(**{**options, "epochs": 2}, checkpoint=path, resume=True)


# Schedules


def rates_of(**options: Any) -> list[float]:
    class Rates(Callback):
        def on_step(self, run: Run) -> None:
            seen.append(run.optimizer.param_groups[0]["lr"])

    seen: list[float] = []
    train(callbacks=[Rates()], **options)
    return seen


def test_a_schedule_by_steps_and_one_by_epochs() -> None:
    halves = lambda optimizer: StepLR(optimizer, 1, 0.5)  # noqa: E731
    assert rates_of(scheduler=halves, steps=3, lr=1.0) == [0.5, 0.25, 0.125]
    by_epoch = rates_of(scheduler=halves, scheduler_every="epoch", epochs=2, lr=1.0)
    assert by_epoch == [1.0] * 5 + [0.5] * 5
    with pytest.raises(ValueError, match=r'must be "step" or "epoch", not "batch"|not .batch.'):
        train(scheduler=halves, scheduler_every="batch", steps=1)
    with pytest.raises(ValueError, match="needs batches with an end"):
        train(scheduler=halves, scheduler_every="epoch", steps=1, batches=lambda step: BATCHES[0])


def test_a_plateau_is_seen_in_the_evaluations() -> None:
    def plateau(optimizer: bt.optim.Optimizer) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(optimizer, factor=0.5, patience=0)

    rates = rates_of(scheduler=plateau, steps=6, evaluate=lambda _: 1.0, evaluate_every=2, lr=1.0)
    assert rates == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    metrics = {"accuracy": 0.5, "mistakes": 3}
    options = {"scheduler": plateau, "steps": 6, "evaluate": lambda _: metrics, "evaluate_every": 2}
    assert rates_of(**options, monitor="mistakes", lr=1.0) == rates
    with pytest.raises(ValueError, match=r"'accuracy', 'mistakes' and no 'loss': choose with moni"):
        train(**options)
    with pytest.raises(ValueError, match="ReduceLROnPlateau goes by a metric: give evaluate="):
        train(scheduler=plateau, steps=6)


# Metrics


def test_metrics_are_kept_as_they_are_named() -> None:
    def evaluate(model: nn.Module) -> dict[str, Any]:
        assert not model.training
        assert not bt.is_grad_enabled()
        return {"loss": bt.tensor(loss_of(model)), "answer": 42}

    history = train(epochs=2, evaluate=evaluate)[0]
    assert [step for step, _ in history.evaluations] == [5, 10]
    assert [step for step, _ in history.metric("answer")] == [5, 10]
    assert history.metric()[-1] == (10, history.evaluations[-1][1]["loss"])  # type: ignore[index]
    assert train(steps=150, evaluate=lambda _: 2)[0].evaluations == [(100, 2.0), (150, 2.0)]
    for wrong in ("good", None, {}, {"a": "b"}, bt.ones(2)):
        with pytest.raises(TypeError, match="evaluate must return a number or a dict of numbers"):
            train(steps=1, evaluate=lambda _, wrong=wrong: wrong)


# Callbacks


class Diary(Callback):
    def __init__(self, stop_at: int = 10**9) -> None:
        self.lines: list[str] = []
        self.stop_at = stop_at

    def on_start(self, run: Run) -> None:
        self.lines.append(f"start {run.step}")

    def on_step(self, run: Run) -> None:
        self.lines.append(f"step {run.step}")
        if run.step == self.stop_at:
            run.stop("seen enough")

    def on_epoch(self, run: Run) -> None:
        self.lines.append(f"epoch {run.epoch}")

    def on_evaluation(self, run: Run, value: Any) -> None:
        self.lines.append(f"evaluation {value:g}")

    def on_checkpoint(self, run: Run, path: str) -> None:
        self.lines.append(f"checkpoint {run.step} {Path(path).name}")

    def on_end(self, run: Run) -> None:
        self.lines.append("end")


def test_callbacks_are_called_at_their_points(tmp_path: Path) -> None:
    diary = Diary()
    path = tmp_path / "run"
    train(
        epochs=2,
        batches=BATCHES[:2],
        evaluate=lambda _: 7,
        callbacks=[diary],
        checkpoint=path,
        checkpoint_every=3,
    )
    assert diary.lines == [
        "start 0",
        *("step 1", "step 2", "evaluation 7", "epoch 1"),
        *("step 3", "checkpoint 3 run", "step 4", "evaluation 7", "epoch 2"),
        *("end", "checkpoint 4 run"),
    ]


def test_a_callback_stops_a_run_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "run"
    diary = Diary(stop_at=4)
    history, model, _ = train(
        steps=100, callbacks=[diary], checkpoint=path, evaluate=loss_of, evaluate_every=10
    )
    assert len(history.losses) == 4
    assert history.stopped == "seen enough"
    assert [step for step, _ in history.evaluations] == [4]
    assert diary.lines[-2:] == ["end", "checkpoint 4 run"]
    state = bt.load(path)
    assert state["model"]["weight"].tolist() == model.weight.tolist()
    assert state["losses"].tolist() == history.losses


def test_early_stopping(tmp_path: Path) -> None:
    values = [5.0, 3.0, 4.0, math.nan, 3.0, 1.0]
    given = iter(values)
    path = tmp_path / "run"
    kept: dict[int, Any] = {}

    class Keep(Callback):
        def on_evaluation(self, run: Run, value: Any) -> None:
            kept[run.step] = run.model.weight.tolist()

    stopping = EarlyStopping(3, restore_best=True)
    options: dict[str, Any] = {"steps": 100, "evaluate_every": 2, "checkpoint": path}
    history, model, _ = train(
        evaluate=lambda _: next(given), callbacks=[Keep(), stopping], **options
    )
    assert len(history.losses) == 10
    assert (stopping.best, stopping.best_step) == (3.0, 4)
    assert history.stopped == "no improvement since its best, 3.000, at step 4"
    assert model.weight.tolist() == kept[4] != kept[10]
    again = EarlyStopping(3)
    assert (
        len(train(evaluate=lambda _: 0, callbacks=[again], resume=True, **options)[0].losses) == 10
    )
    assert again.best == 3.0
    more = EarlyStopping(4)  # is as patient as it is told to be now
    assert (
        len(train(evaluate=lambda _: 9, callbacks=[more], resume=True, **options)[0].losses) == 12
    )


def test_early_stopping_of_what_is_to_grow() -> None:
    given = iter([0.5, 0.6, 0.605, 0.4, 0.9])
    stopping = EarlyStopping(2, monitor="accuracy", mode="max", min_delta=0.01)
    history = train(
        steps=9,
        evaluate=lambda _: {"accuracy": next(given), "x": 0},
        evaluate_every=1,
        callbacks=[stopping],
    )[0]
    assert len(history.losses) == 4
    assert stopping.best == 0.6
    with pytest.raises(ValueError, match="goes by evaluations"):
        train(steps=1, callbacks=[EarlyStopping()])
    with pytest.raises(ValueError, match="patience must be at least 1"):
        EarlyStopping(0)
    with pytest.raises(ValueError, match='mode must be "min" or "max"'):
        EarlyStopping(mode="up")


# What is kept when a run ends early


def test_the_history_is_kept_at_ctrl_c() -> None:
    def stop(step: int, _: float) -> None:
        if step == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as stopped:
        train(steps=9, on_step=stop)
    assert stopped.value.history.losses == train(steps=4)[0].losses


@pytest.mark.parametrize("compile", [True, False])
def test_a_loss_that_is_no_number_leaves_the_model_as_it_was(compile: bool) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.linear = nn.BatchNorm1d(2), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.norm(x))

    def contents(model: nn.Module) -> dict[str, Any]:
        return {name: value.tolist() for name, value in model.state_dict().items()}

    bad = (BATCHES[0][0] * math.inf, BATCHES[0][1])
    bt.manual_seed(3)
    model = Normed()
    start = model.state_dict()
    start = {name: value.clone() for name, value in start.items()}
    with pytest.raises(NonFiniteError, match="the loss is nan at step 4") as error:
        train(batches=[*BATCHES[:3], bad], steps=9, model=model, compile=compile)
    assert len(error.value.history.losses) == 3
    bt.manual_seed(3)
    other = Normed()
    other.load_state_dict(start)
    train(batches=BATCHES[:3], steps=3, model=other, compile=compile)
    assert contents(model) == contents(other)


def test_what_loss_fn_must_return() -> None:
    with pytest.raises(TypeError, match="loss_fn returned a float; it must return a scalar"):
        train(steps=1, loss_fn=lambda model, batch: 1.0)


# History


def test_the_history_describes_itself() -> None:
    history = History()
    assert repr(history) == "<History: 0 steps; 0 s>"
    history.losses, history.epochs = [2.0, 1e-7], [2]
    history.evaluations.append((2, {"accuracy": 0.987654}))
    history.seconds, history.stopped = 1.5, "enough"
    assert repr(history) == (
        "<History: 2 steps; 1 epoch; loss 1.000, the mean of the last 2; accuracy 0.9877; 1.5 s; "
        "stopped: enough>"
    )


def test_the_history_draws_itself() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    history = History()
    history.losses = [1 / (i + 1) for i in range(200)]
    history.evaluations = [(i, {"validation loss": 0.5, "accuracy": 0.1}) for i in (100, 200)]
    axes = history.plot()
    left, right = axes.figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        *("loss", "moving average", "validation loss", "accuracy"),
    ]
    assert left is axes
    assert right.get_ylabel() == "accuracy"
    assert axes.get_lines()[1].get_xdata().tolist() == [100, 200]
    own = axes.figure.add_subplot()
    assert History().plot(own) is own  # also of a run without a step


# What one sees


class Notebook(io.StringIO):
    """A stream as those that a kernel puts in the place of stdout and stderr."""


Notebook.__module__ = "ipykernel.iostream"


def test_a_bar_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Notebook(), Notebook()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    bt.manual_seed(1)
    model = nn.Linear(2, 1)
    optimizer = bt.optim.SGD(model.parameters(), lr=1e-3)
    fit(model, mse, BATCHES, optimizer, epochs=2, evaluate=lambda _: {"score": 0.25})
    assert err.getvalue() == ""  # it would be red
    last = out.getvalue().split("\r")[-1]
    assert "10/10" in last
    assert "loss " in last
    assert "score 0.2500" in last


def test_small_losses_are_seen(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Linear(2, 1)
    optimizer = bt.optim.SGD(model.parameters(), lr=0.0)
    fit(model, lambda model, batch: mse(model, batch) * 0 + 1.23456e-9, BATCHES, optimizer, steps=1)
    assert "loss 1.235e-09" in capsys.readouterr().err


# What it costs


def test_a_step_is_one_call_and_little_python() -> None:
    """One replay, and no more calls of Python around it than these; as counted, not timed."""

    def run(steps: int) -> Any:
        return lambda: train(steps=steps, batches=lambda step: BATCHES[0])

    run(3)()
    few, more = python_calls(run(20)), python_calls(run(120))
    assert more - few <= 100 * 9
