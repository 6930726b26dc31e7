"""The training loop: it learns, resumes bit for bit, and survives Ctrl-C, kill -9 and NaN."""

from __future__ import annotations

import io
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import backtrail as bt
import backtrail.nn.functional as F
import pytest
from backtrail import Tensor, nn
from backtrail.examples import gpt
from backtrail.serialization import CheckpointError
from backtrail.train import History, Interrupted, NonFiniteError, fit

NAMES = ["anna", "hannah", "nan", "ana", "hana", "nanna", "ann", "hanna"]


@pytest.fixture(autouse=True)
def default_sigint() -> Iterator[None]:
    """Hear Ctrl-C, here and in children, even where a shell has its background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # fit puts it back
    signal.signal(signal.SIGINT, before)


class Net(nn.Module):
    """A model with all that makes resuming hard: dropout, and a buffer that each step changes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(2, 8), nn.Linear(8, 1)
        self.register_buffer("steps", bt.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps.add_(1)
        return self.fc2(F.dropout(bt.tanh(self.fc1(x)), 0.3, self.training))


class Shuffled:
    """Batches in an order drawn from the random state whenever a pass begins, as a DataLoader's."""

    def __init__(self) -> None:
        self.x = bt.tensor([[math.sin(i), math.cos(3 * i)] for i in range(22)])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = bt.randperm(22).tolist()
        for i in range(0, 22, 4):
            x = self.x[bt.tensor(order[i : i + 4])]
            yield x, x.sum(dim=1, keepdim=True)


def mse(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def run(steps: int = 20, loss_fn: Callable[..., Tensor] = mse, **options: Any) -> tuple:
    bt.manual_seed(1)
    model = Net()
    optimizer = bt.optim.Adam(model.parameters(), lr=0.05)
    options = {"batches": Shuffled(), "evaluate_every": 4, "progress": False, **options}
    history = fit(
        model,
        loss_fn,
        options.pop("batches"),
        optimizer,
        steps=steps,
        scheduler=bt.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.97**step),
        clip_grad_norm=1.0,
        evaluate=lambda model: mse(model, next(iter(Shuffled()))),
        **options,
    )
    return history, contents(model), bt.rand(3).tolist()


def contents(model: nn.Module) -> dict[str, Any]:
    return {name: value.tolist() for name, value in model.state_dict().items()}


def same(one: tuple, other: tuple) -> bool:
    """Whether two runs have the same losses, evaluations, weights, buffers and random state."""
    (a, *rest_a), (b, *rest_b) = one, other
    return (a.losses, a.evaluations, rest_a) == (b.losses, b.evaluations, rest_b)


@pytest.fixture(scope="module")
def whole() -> tuple:
    return run()


# Learning


def test_a_line_is_learned() -> None:
    bt.manual_seed(0)
    model = nn.Linear(1, 1)
    x = bt.linspace(-1, 1, 16).reshape(16, 1)
    optimizer = bt.optim.SGD(model.parameters(), lr=0.5)
    history = fit(model, mse, [(x, 2 * x + 1)], optimizer, steps=100, progress=False)
    assert history.losses[-1] < 1e-8
    assert model.weight.item() == pytest.approx(2, abs=1e-3)
    assert model.bias.item() == pytest.approx(1, abs=1e-3)


def test_a_gpt_learns_names() -> None:
    """The frequencies of letters give 1.28 nats, of pairs 0.92; perfection would be 0.41."""
    bt.manual_seed(0)
    tokenizer = gpt.Tokenizer("".join(NAMES))
    model = gpt.GPT(tokenizer.vocab_size, block_size=8)
    batches = gpt.Documents(NAMES, tokenizer, 8, batch_size=8)
    optimizer = bt.optim.Adam(model.parameters(), lr=0.01, betas=(0.85, 0.99))
    history = fit(
        model,
        gpt.loss_fn,
        batches,
        optimizer,
        steps=150,
        count_tokens=gpt.count_tokens,
        progress=False,
    )
    assert history.losses[0] == pytest.approx(math.log(tokenizer.vocab_size), abs=0.3)
    assert history.mean_loss(10) < 0.62
    assert history.tokens == 150 * sum(len(name) + 1 for name in NAMES)
    assert history.seconds > 0


def test_the_history(whole: tuple) -> None:
    history: History = whole[0]
    assert len(history.losses) == 20
    assert [step for step, _ in history.evaluations] == [4, 8, 12, 16, 20]
    assert math.isnan(History().mean_loss())


def test_evaluation_leaves_training_as_it_is(whole: tuple) -> None:
    without = run(evaluate_every=10**9)
    assert (without[0].losses, without[1]) == (whole[0].losses, whole[1])


def test_on_step_and_functions_of_the_step() -> None:
    seen: list[int] = []
    batches = [(bt.ones(1, 2) * step, bt.ones(1, 1)) for step in range(5)]
    calls: list[tuple[int, float]] = []

    def batch(step: int) -> tuple[Tensor, Tensor]:
        seen.append(step)
        return batches[step]

    history = run(steps=5, batches=batch, on_step=lambda *call: calls.append(call))[0]
    assert seen == [0, 1, 2, 3, 4]
    assert calls == list(enumerate(history.losses, 1))


# Resuming


@pytest.mark.parametrize("stop", [1, 5, 6, 12, 19])
def test_resuming_gives_the_same_bits(tmp_path: Path, whole: tuple, stop: int) -> None:
    path = tmp_path / "run.safetensors"

    def stop_here(step: int, _: float) -> None:
        if step == stop:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=f"stopped after step {stop}; .*resume=True") as stopped:
        run(checkpoint=path, on_step=stop_here)
    assert (stopped.value.step, stopped.value.checkpoint) == (stop, str(path))
    assert same(run(checkpoint=path, resume=True), whole)
    assert same(run(checkpoint=path, resume=True), whole)  # a finished run has nothing left to do


@pytest.mark.parametrize("stop", [7, 13])
def test_half_a_step_is_undone(tmp_path: Path, whole: tuple, stop: int) -> None:
    """Ctrl-C after the forward pass has drawn random numbers and changed a buffer."""
    path = tmp_path / "run.safetensors"
    calls = 0

    def interrupted_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal calls
        loss = mse(model, batch)
        calls += model.training
        if model.training and calls == stop:
            signal.raise_signal(signal.SIGINT)
        return loss

    with pytest.raises(Interrupted, match=f"after step {stop - 1};"):
        run(loss_fn=interrupted_loss, checkpoint=path, checkpoint_every=5, compile=False)
    assert bt.load(path)["model"]["steps"].item() == stop - 1
    assert same(run(checkpoint=path, resume=True), whole)


def test_a_ctrl_c_in_the_update_waits_for_its_end(
    tmp_path: Path, whole: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.safetensors"
    real, calls = bt.optim.Adam.step, 0

    def step(self: Any, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        real(self, *args)

    monkeypatch.setattr(bt.optim.Adam, "step", step)
    with pytest.raises(Interrupted, match="after step 6"):
        run(checkpoint=path, compile=False)
    monkeypatch.undo()
    assert same(run(checkpoint=path, resume=True), whole)


def test_a_ctrl_c_in_a_checkpoint_waits_for_its_end(
    tmp_path: Path, whole: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.safetensors"
    real = os.replace

    def replace(*args: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        real(*args)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(Interrupted, match="after step 3"):
        run(checkpoint=path, checkpoint_every=3)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [path.name]
    assert same(run(checkpoint=path, resume=True), whole)


def test_a_ctrl_c_without_a_checkpoint() -> None:
    def stop(step: int, _: float) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match=r"^stopped after step 1$") as stopped:
        run(on_step=stop)
    assert stopped.value.checkpoint is None


def test_a_ctrl_c_before_the_first_step_saves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    run(checkpoint=path)
    before = path.read_bytes()

    def stop(model: nn.Module, batch: Any) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"^stopped after step 0$"):
        run(loss_fn=stop, checkpoint=path)
    assert path.read_bytes() == before


def test_training_in_a_thread(whole: tuple) -> None:
    results: list[tuple] = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join()
    assert same(results[0], whole)


def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    with pytest.raises(FileNotFoundError):
        run(checkpoint=path, resume=True)
    with pytest.raises(ValueError, match="resume=True needs checkpoint="):
        run(resume=True)
    run(steps=8, checkpoint=path)
    with pytest.raises(ValueError, match="is at step 8, past steps=5"):
        run(steps=5, checkpoint=path, resume=True)

    model = nn.Linear(3, 3)
    optimizer = bt.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match=r"cannot resume from .*run\.safetensors"):
        fit(model, mse, Shuffled(), optimizer, steps=9, checkpoint=path, resume=True)
    for foreign, why in ((bt.ones(2), "is not a checkpoint of"), ({}, "it has no .model.")):
        bt.save(foreign, path)
        with pytest.raises(CheckpointError, match=why):
            run(checkpoint=path, resume=True)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="empty"):
        run(checkpoint=path, resume=True)


def test_where_no_checkpoint_can_be_written_is_known_at_once(tmp_path: Path) -> None:
    def never(*_: object) -> Tensor:
        raise AssertionError("trained before looking")

    with pytest.raises(OSError, match="no folder"):
        run(loss_fn=never, checkpoint=tmp_path / "no" / "run.safetensors")


def test_batches_that_end() -> None:
    with pytest.raises(ValueError, match="batches ended before step 7"):
        run(batches=iter(Shuffled()))
    with pytest.raises(ValueError, match="batches ended before step 1"):
        run(batches=[])


# Numbers that are none


def broken(at: int, factor: float) -> Callable[..., Tensor]:
    calls = 0

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal calls
        calls += model.training
        loss = mse(model, batch)
        return loss * factor if calls == at else loss

    return loss_fn


@pytest.mark.parametrize("factor", [math.nan, math.inf], ids=["nan", "inf"])
def test_a_loss_that_is_no_number(tmp_path: Path, factor: float) -> None:
    path = tmp_path / "run.safetensors"
    good: list[bytes] = []

    def keep(step: int, _: float) -> None:
        if step == 6:  # written after step 5
            good.append(path.read_bytes())

    with pytest.raises(NonFiniteError, match=f"loss is {factor} at step 8; .* step 5") as error:
        run(
            loss_fn=broken(8, factor),
            compile=False,
            checkpoint=path,
            checkpoint_every=5,
            on_step=keep,
        )
    assert str(path) in str(error.value)
    assert [path.read_bytes()] == good
    assert bt.load(path)["losses"].shape[0] == 5


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    """The loss of step 6 is finite, its update is not: nothing may be saved before step 7 tells."""
    path = tmp_path / "run.safetensors"

    def ruin(step: int, _: float) -> None:
        if step == 6:
            with bt.no_grad():
                model.weight.fill_(math.inf)

    model = nn.Linear(2, 1)
    optimizer = bt.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(NonFiniteError, match=r"weight is not finite after step 6; .* step 5"):
        fit(
            model,
            mse,
            Shuffled(),
            optimizer,
            steps=9,
            checkpoint=path,
            checkpoint_every=1,
            on_step=ruin,
            progress=False,
        )
    assert bt.load(path)["losses"].shape[0] == 5


def test_a_gradient_that_is_no_number(tmp_path: Path) -> None:
    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (mse(model, batch) * 0).sqrt()  # 0, and its slope is infinite

    with pytest.raises(NonFiniteError, match=r"gradient norm is .* at step 1"):
        run(loss_fn=loss_fn)


# What one sees


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run(steps=40, progress=True, count_tokens=lambda batch: len(batch[0]))
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert 10 <= len(lines) <= 11
    assert lines[-1].startswith("step 40/40  loss ")
    assert lines[-1].endswith("tokens/s")


def test_a_bar_where_there_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    run(steps=40, progress=True, count_tokens=lambda batch: len(batch[0]))
    text = sys.stderr.getvalue()
    assert "40/40" in text
    assert "loss " in text
    assert "tokens/s" in text


# Processes that die

SCRIPT = """
    import sys, time
    import backtrail as bt
    import backtrail.nn.functional as F
    from backtrail.train import fit

    path, steps, pause, resume = sys.argv[1:]
    bt.manual_seed(3)
    model = bt.nn.Sequential(bt.nn.Linear(64, 64), bt.nn.Dropout(0.1), bt.nn.Linear(64, 1))

    def batch(step):
        time.sleep(float(pause))
        return bt.randn(4, 64)

    print("ready", flush=True)
    fit(model, lambda model, x: model(x).square().mean(), batch, bt.optim.Adam(model.parameters()),
        steps=int(steps), checkpoint=path, checkpoint_every=1, resume=resume == "1", progress=False)
"""


def start(tmp_path: Path, path: Path, steps: int, pause: float, resume: bool) -> subprocess.Popen:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    process = subprocess.Popen(
        [sys.executable, script, path, str(steps), str(pause), str(int(resume))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    """Killed again and again, a run loses nothing but the step it was at."""
    rng = random.Random(0)
    path, steps, kills, at = tmp_path / "run.safetensors", 200, 0, 0
    while at < steps:
        process = start(tmp_path, path, steps, 0.002, path.exists())
        try:
            process.wait(rng.uniform(0.02, 0.15) if kills < 6 else 60)
        except subprocess.TimeoutExpired:
            process.kill()  # SIGKILL
            process.wait()
            kills += 1
        if path.exists():
            now = len(bt.load(path)["losses"])  # whole, whenever the kill came
            assert now >= at
            at = now
        process.communicate()
    assert kills > 1

    straight = tmp_path / "straight.safetensors"
    _, error = start(tmp_path, straight, steps, 0.0, False).communicate(timeout=60)
    assert error == ""
    one, other = bt.load(path), bt.load(straight)
    for name in ("model", "optimizer", "losses", "random_state"):
        assert repr(plain(one[name])) == repr(plain(other[name])), name


def plain(thing: Any) -> Any:
    if isinstance(thing, Tensor):
        return thing.tolist()
    if isinstance(thing, dict):
        return {key: plain(value) for key, value in thing.items()}
    return [plain(value) for value in thing] if isinstance(thing, (list, tuple)) else thing


def test_ctrl_c_stops_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    process = start(tmp_path, path, 10**9, 0.2, False)
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # most likely within a step
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert time.monotonic() - began < 1
    step = len(bt.load(path)["losses"])
    assert step >= 1
    assert f"Interrupted: stopped after step {step}; {path} continues" in error
    assert [p.name for p in tmp_path.glob(".*")] == []
