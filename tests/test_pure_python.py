"""The engine against the scalar GPT of benchmarks/pure_python.py: the same losses and weights."""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import backtrail as bt
import pytest
from backtrail.examples import gpt

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "pure_python.py"
STEPS = 10
# Of every length up to more than a block holds.
NAMES = ["a", "bo", "cyd", "dora", "emmie", "fergus", "gwendol", "hyacinth", "abcdefghijklmnopqrst"]


@pytest.fixture(scope="module")
def pure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pure_python", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def learning_rate(step: int) -> float:
    return 0.01 * (1 - step / STEPS)


@pytest.fixture(scope="module", params=[(16, 4, 1), (8, 2, 2)], ids=["default", "two layers"])
def reference(pure: ModuleType, request: pytest.FixtureRequest) -> dict[str, list]:
    """Ten steps in pure Python: the weights at the start, the losses, the weights at the end."""
    n_embd, n_head, n_layer = request.param
    tokenizer = gpt.Tokenizer("".join(NAMES))
    model = pure.GPT(tokenizer.vocab_size, 16, n_embd, n_head, n_layer).draw(random.Random(7))
    optimizer = pure.Adam(model.parameters())

    def weights() -> list[list[list[float]]]:
        return [[[v.data for v in row] for row in matrix] for matrix in model.weights.values()]

    first, losses = weights(), []
    for step in range(STEPS):
        tokens = [tokenizer.bos, *tokenizer.encode(NAMES[step % len(NAMES)]), tokenizer.bos]
        losses.append(pure.train_step(model, optimizer, tokens, learning_rate(step)))
    return {"shape": request.param, "first": first, "losses": losses, "last": weights()}


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(bt.float64, 1e-10), (bt.float32, 1e-5)], ids=["float64", "float32"]
)
def test_ten_training_steps_agree(
    reference: dict[str, list], dtype: bt.dtype, tolerance: float
) -> None:
    n_embd, n_head, n_layer = reference["shape"]
    tokenizer = gpt.Tokenizer("".join(NAMES))
    model = gpt.GPT(tokenizer.vocab_size, 16, n_embd, n_head, n_layer).to(dtype)
    with bt.no_grad():
        for parameter, rows in zip(model.parameters(), reference["first"], strict=True):
            parameter.copy_(bt.tensor(rows, dtype=dtype))
    optimizer = bt.optim.Adam(model.parameters(), lr=0.01, betas=(0.85, 0.99))
    schedule = bt.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)

    for step, expected in enumerate(reference["losses"]):
        tokens = [tokenizer.bos, *tokenizer.encode(NAMES[step % len(NAMES)]), tokenizer.bos][:17]
        loss = gpt.loss_fn(model, (bt.tensor([tokens[:-1]]), bt.tensor([tokens[1:]])))
        assert loss.item() == pytest.approx(expected, rel=0, abs=tolerance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    # Adam divides by the root of the second moment: rounding of a tiny gradient reaches the weight.
    slack = 100 * tolerance
    for parameter, rows in zip(model.parameters(), reference["last"], strict=True):
        assert flat(parameter.tolist()) == pytest.approx(flat(rows), rel=0, abs=slack)


def flat(rows: Sequence[Sequence[float]]) -> list[float]:
    return [x for row in rows for x in row]


def test_losses_of_the_script(pure: ModuleType, tmp_path: Path) -> None:
    data = tmp_path / "names.txt"
    data.write_text("\n".join(NAMES) + "\n\n")
    command = [sys.executable, SCRIPT, "--data", data, "--steps", "4", "--names", "2"]
    run = subprocess.run(
        [*map(str, command), "--seed", "3"], capture_output=True, text=True, check=True
    )
    losses = re.findall(r"^step +\d+ +loss (\d\.\d{10})", run.stdout, re.MULTILINE)

    rng = random.Random(3)
    docs = list(NAMES)
    rng.shuffle(docs)
    tokenizer = gpt.Tokenizer("".join(NAMES))
    model = pure.GPT(tokenizer.vocab_size, 16, 16, 4, 1).draw(rng)
    optimizer = pure.Adam(model.parameters())
    for step, loss in enumerate(losses):
        tokens = [tokenizer.bos, *tokenizer.encode(docs[step]), tokenizer.bos]
        expected = pure.train_step(model, optimizer, tokens, 0.01 * (1 - step / 1000))
        assert loss == f"{expected:.10f}"
    assert len(losses) == 4


def test_gradients_of_the_scalar_engine(pure: ModuleType) -> None:
    def f(x: float, y: float) -> tuple:
        a, b = pure.Value(x), pure.Value(y)
        return ((a * b + a.exp()).log() / (b - 2) + (-a).relu() + b**3, a, b)

    out, a, b = f(0.7, 3.5)
    out.backward()
    h = 1e-6
    for value, dx, dy in ((a, h, 0), (b, 0, h)):
        slope = (f(0.7 + dx, 3.5 + dy)[0].data - f(0.7 - dx, 3.5 - dy)[0].data) / (2 * h)
        assert value.grad == pytest.approx(slope, rel=1e-6)


def test_a_deep_graph_needs_no_recursion(pure: ModuleType) -> None:
    x = pure.Value(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad == 1.0
