"""SIGTERM, SIGHUP and broken output: `fit` and `backtrail train` end saved, or go on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import backtrail as bt
import pytest
from backtrail import Tensor, nn
from backtrail.train import Interrupted, Terminated, fit

SIGNALS = [signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    usual = dict.fromkeys(SIGNALS, signal.SIG_DFL)
    before = {number: signal.signal(number, usual[number]) for number in SIGNALS}
    yield
    for number in SIGNALS:
        assert signal.getsignal(number) == usual[number]  # fit puts it back
        signal.signal(number, before[number])


def train(steps: int = 12, **options: Any) -> list[Any]:
    bt.manual_seed(1)
    model = nn.Linear(2, 1)

    def loss_fn(model: nn.Module, x: Tensor) -> Tensor:
        return model(x).square().mean()

    optimizer = bt.optim.Adam(model.parameters(), lr=0.1)
    fit(model, loss_fn, lambda _: bt.randn(4, 2), optimizer, steps=steps, **options)
    return [p.tolist() for p in model.parameters()]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_saves_the_run(tmp_path: Path, number: int, times: int) -> None:
    path = tmp_path / "run.safetensors"

    def stop(step: int, _: float) -> None:
        if step == 5:
            for _ in range(times):
                os.kill(os.getpid(), number)

    with pytest.raises(Terminated, match=r"stopped after step 5; .*resume=True") as stopped:
        train(on_step=stop, checkpoint=path, progress=False)
    assert (stopped.value.step, stopped.value.checkpoint) == (5, str(path))
    assert stopped.value.code == stopped.value.status == 128 + number
    assert len(stopped.value.history.losses) == 5
    assert isinstance(stopped.value, SystemExit)
    assert train(checkpoint=path, resume=True, progress=False) == train(progress=False)


def test_the_first_signal_says_how_it_ended() -> None:
    def stop(step: int, _: float) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted) as stopped:
        train(on_step=stop, progress=False)
    assert stopped.value.status == 130


@pytest.mark.parametrize("number", SIGNALS)
def test_handlers_of_the_program_stay(number: int) -> None:
    heard: list[int] = []

    def stop(step: int, _: float) -> None:
        os.kill(os.getpid(), number)

    before = signal.signal(number, lambda n, _: heard.append(n))
    train(steps=2, on_step=stop, progress=False)
    signal.signal(number, signal.SIG_IGN)
    train(steps=2, on_step=stop, progress=False)
    signal.signal(number, before)
    assert heard == [number, number]


class Broken(io.StringIO):
    """A stream that no one reads."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, _: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("stderr", [Broken(False), Broken(True), None], ids=repr)
def test_progress_that_cannot_be_shown(monkeypatch: pytest.MonkeyPatch, stderr: Any) -> None:
    straight = train(progress=False)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert train() == straight


SCRIPT = """
    import os, signal, sys
    import backtrail as bt
    from backtrail.train import fit
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    model = bt.nn.Linear(1, 1)
    def stop(step, _):
        if step == 3:
            os.kill(os.getpid(), int(sys.argv[1]))
    fit(model, lambda model, x: model(x).sum(), lambda _: bt.ones(1, 1),
        bt.optim.SGD(model.parameters(), lr=0.1), steps=9, checkpoint=sys.argv[2],
        on_step=stop, progress=False)
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_the_status_of_a_script(tmp_path: Path, number: int) -> None:
    out = tmp_path / "run.safetensors"
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(int(number)), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (128 + number, "")
    assert len(bt.load(out)["losses"]) == 3


def test_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "names.safetensors"
    command = [
        sys.executable,
        "-m",
        "backtrail.cli",
        "train",
        "--steps",
        "20000",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.send_signal(signal.SIGTERM)
    error = process.stderr.read()
    assert process.wait(30) == 143
    process.stderr.close()
    assert "is saved. To go on:" in error
    assert len(bt.load(out)["losses"]) >= 1
