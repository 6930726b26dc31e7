"""Four ops as a user would write them, each in one file of tests/extensions: checked, trained
through and captured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail import cpp_extension
from backtrail._core import equal_bytes
from backtrail.testing import assert_close, opcheck

FOLDER = Path(__file__).parent / "extensions"
LINES = {"snake": 8, "quantile_loss": 20, "sparsemax": 30, "selective_scan": 100}  # at most


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    kept = tmp_path_factory.mktemp("examples")

    def loaded(name: str) -> Any:
        ops = cpp_extension.load(FOLDER / f"{name}.cpp", build_directory=kept)
        return getattr(ops, name)

    return loaded


@pytest.fixture(scope="module")
def snake(load: Callable[[str], Any]) -> Any:
    return load("snake")


@pytest.fixture(scope="module")
def quantile_loss(load: Callable[[str], Any]) -> Any:
    return load("quantile_loss")


@pytest.fixture(scope="module")
def sparsemax(load: Callable[[str], Any]) -> Any:
    return load("sparsemax")


@pytest.fixture(scope="module")
def selective_scan(load: Callable[[str], Any]) -> Any:
    return load("selective_scan")


def test_each_is_one_short_file() -> None:
    files = {f.stem: f.read_text().count("\n") for f in FOLDER.glob("*.cpp")}
    assert files.keys() == LINES.keys()
    assert all(files[name] <= most for name, most in LINES.items()), files


def gradients(function: Callable[..., bt.Tensor], *inputs: bt.Tensor) -> list[bt.Tensor]:
    """The value, and the gradients of a sum that weighs every element differently."""
    leaves = [x.detach().requires_grad_(x.dtype.is_floating_point) for x in inputs]
    y = function(*leaves)
    weights = (bt.arange(y.numel(), dtype=y.dtype) * 0.7).sin().reshape(y.shape)
    found = bt.autograd.grad(y, [x for x in leaves if x.requires_grad], weights)
    return [y.detach(), *(g for g in found if g is not None)]


def train(step: Callable[[], bt.Tensor], parameters: Any, steps: int, lr: float) -> list[float]:
    """Losses of a captured training step."""
    optimizer = bt.optim.Adam(parameters, lr=lr)

    def whole() -> bt.Tensor:
        optimizer.zero_grad()
        loss = step()
        loss.backward()
        optimizer.step()
        return loss

    captured = bt.compile(whole)
    losses = [captured().item() for _ in range(steps)]
    assert captured.captures <= 2  # gradients and the optimizer's state are made in the first
    return losses


# ---- snake: pointwise, with a parameter


def test_snake(snake: Any) -> None:
    assert opcheck(snake).passed
    for dtype in (bt.float32, bt.float64):
        x = bt.randn(50, dtype=dtype)
        for a in (0.5, 1.0, 3.0):
            got = gradients(lambda x, a=a: snake(x, a=a), x)
            want = gradients(lambda x, a=a: x + (a * x).sin() ** 2 / a, x)
            assert_close(got, want)
    assert equal_bytes(x.snake(a=3.0), got[0])
    assert equal_bytes(bt.snake(x, 3.0), got[0])


def test_a_network_learns_with_snake(snake: Any) -> None:
    x = bt.linspace(-3, 3, 64).unsqueeze(1)
    y = (2 * x).sin() + x
    first, last = bt.nn.Linear(1, 16), bt.nn.Linear(16, 1)
    losses = train(
        lambda: ((last(snake(first(x), a=2.0)) - y) ** 2).mean(),
        [*first.parameters(), *last.parameters()],
        steps=150,
        lr=0.02,
    )
    assert losses[-1] < 0.02 * losses[0]


def test_snake_fuses_into_a_captured_step(snake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    @bt.compile
    def captured(x: bt.Tensor) -> bt.Tensor:
        return snake(x * 2 + 1, a=0.5) * 3

    x = bt.randn(1000)
    for _ in range(3):
        assert equal_bytes(captured(x), snake(x * 2 + 1, a=0.5) * 3)
    captured.plan.describe()
    assert "mul + add + snake + mul" in capsys.readouterr().out


# ---- quantile_loss: pointwise, of two inputs


def test_quantile_loss(quantile_loss: Any) -> None:
    assert opcheck(quantile_loss).passed
    x, target = bt.randn(4, 5, dtype=bt.float64), bt.randn(5, dtype=bt.float64)
    for q in (0.1, 0.5, 0.9):
        error = target.numpy() - x.numpy()
        want = np.maximum(q * error, (q - 1) * error)
        np.testing.assert_allclose(quantile_loss(x, target, q=q).numpy(), want, rtol=1e-6)
    assert_close(quantile_loss(x, 0.0), 0.5 * x.abs())
    with pytest.raises(ValueError, match="quantile_loss: q must lie between 0 and 1"):
        quantile_loss(x, target, q=1.5)


def test_the_loss_finds_a_quantile(quantile_loss: Any) -> None:
    numbers = bt.randn(2000)
    estimate = bt.zeros(1, requires_grad=True)
    train(lambda: quantile_loss(estimate, numbers, q=0.9).mean(), [estimate], steps=400, lr=0.01)
    assert abs(estimate.item() - np.quantile(numbers.numpy(), 0.9)) < 0.03


# ---- sparsemax: row-wise


def sparsemax_of(x: np.ndarray) -> np.ndarray:
    """By bisection for tau along the last dimension."""
    low, high = x.max(-1, keepdims=True) - 1, x.max(-1, keepdims=True)
    for _ in range(100):
        middle = (low + high) / 2
        above = np.maximum(x - middle, 0).sum(-1, keepdims=True) >= 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.maximum(x - low, 0)


def test_sparsemax(sparsemax: Any) -> None:
    assert opcheck(sparsemax).passed
    for shape in ((7,), (5, 1), (4, 33), (2, 3, 100)):
        x = bt.randn(*shape, dtype=bt.float64)
        want = sparsemax_of(x.numpy())
        np.testing.assert_allclose(sparsemax(x).numpy(), want, atol=1e-12)
        np.testing.assert_allclose(sparsemax(x.float()).numpy(), want, atol=1e-5)
        if x.ndim > 1:
            want = np.moveaxis(sparsemax_of(np.moveaxis(x.numpy(), 0, -1)), -1, 0)
            np.testing.assert_allclose(sparsemax(x, dim=0).numpy(), want, atol=1e-12)
    y, grad = gradients(sparsemax, bt.randn(6, 20, dtype=bt.float64))
    weights = np.sin(np.arange(120.0) * 0.7).reshape(6, 20)
    on = y.numpy() > 0
    mean = (weights * on).sum(-1, keepdims=True) / on.sum(-1, keepdims=True)
    np.testing.assert_allclose(grad.numpy(), np.where(on, weights - mean, 0), atol=1e-12)


def test_weights_learn_through_sparsemax(sparsemax: Any) -> None:
    """Which of eight columns the target is made of: the others get a weight of 0."""
    columns = bt.randn(100, 8)
    target = columns[:, 2] * 0.7 + columns[:, 5] * 0.3
    scores = bt.zeros(8, requires_grad=True)
    losses = train(
        lambda: ((columns @ sparsemax(scores) - target) ** 2).mean(), [scores], steps=200, lr=0.03
    )
    assert losses[-1] < 1e-3
    weights = sparsemax(scores)
    assert abs(weights[2].item() - 0.7) < 0.03
    assert (weights == 0).sum().item() >= 3


# ---- selective_scan: opaque, with its own backward


def scan_inputs(
    batch: int, length: int, channels: int, states: int, dtype: bt.dtype = bt.float64
) -> tuple[bt.Tensor, ...]:
    return (
        bt.randn(batch, length, channels, dtype=dtype),
        bt.rand(batch, length, channels, dtype=dtype) * 0.5 + 0.1,
        -bt.rand(channels, states, dtype=dtype) - 0.2,
        bt.randn(batch, length, states, dtype=dtype),
        bt.randn(batch, length, states, dtype=dtype),
    )


def scan_of(x: bt.Tensor, dt: bt.Tensor, A: bt.Tensor, B: bt.Tensor, C: bt.Tensor) -> bt.Tensor:
    """In tensor operations, one step after the other."""
    h = bt.zeros(x.shape[0], x.shape[2], A.shape[1], dtype=x.dtype)
    found = []
    for t in range(x.shape[1]):
        step = dt[:, t].unsqueeze(-1)
        h = (step * A).exp() * h + step * x[:, t].unsqueeze(-1) * B[:, t].unsqueeze(1)
        found.append((h * C[:, t].unsqueeze(1)).sum(-1))
    return bt.stack(found, 1)


def test_selective_scan(selective_scan: Any) -> None:
    assert opcheck(selective_scan, scan_inputs(2, 5, 3, 4)).passed
    for sizes in ((1, 1, 1, 1), (3, 20, 5, 2), (2, 33, 17, 16)):
        inputs = scan_inputs(*sizes)
        assert_close(gradients(selective_scan, *inputs), gradients(scan_of, *inputs))
        single = [x.float() for x in inputs]
        tolerance = {"rtol": 1e-4, "atol": 1e-4}
        assert_close(gradients(selective_scan, *single), gradients(scan_of, *single), **tolerance)


def test_its_shape_rule(selective_scan: Any) -> None:
    x, dt, A, B, C = scan_inputs(2, 5, 3, 4)
    with pytest.raises(ValueError, match=r"selective_scan: A must be .* got \(4, 4\)"):
        selective_scan(x, dt, bt.randn(4, 4, dtype=bt.float64), B, C)
    with pytest.raises(ValueError, match=r"x and dt must be .* both; got \(2, 5, 3\) and \(5, 3\)"):
        selective_scan(x, dt[0], A, B, C)
    with pytest.raises(ValueError, match=r"B and C must be .* here \(2, 5, 4\)"):
        selective_scan(x, dt, A, B, C[:, :2])


def test_a_scan_learns_to_remember(selective_scan: Any) -> None:
    """The running sum of the inputs, forgotten by a third at every step."""
    x = bt.randn(8, 24, 1)
    want, total = [], bt.zeros(8, 1)
    for t in range(24):
        total = total * (2 / 3) + x[:, t]
        want.append(total)
    target = bt.stack(want, 1)
    dt = bt.ones(8, 24, 1)
    log_a = bt.full((1, 2), -2.0, requires_grad=True)
    b = bt.tensor([0.5, 0.1], requires_grad=True)

    def loss() -> bt.Tensor:
        B = b.expand(8, 24, 2)
        y = selective_scan(x, dt, -log_a.exp(), B, bt.ones(8, 24, 2))
        return ((y - target) ** 2).mean()

    losses = train(loss, [log_a, b], steps=300, lr=0.03)
    assert losses[-1] < 0.01 * losses[0]
