"""What a plan computes together: runs of pointwise ops with what follows them, in L1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import backtrail as bt
import pytest
from backtrail.nn import functional as F
from capture_models import same
from hypothesis import given, settings, strategies as st

Op = Callable[[bt.Tensor, bt.Tensor], Any]

# New tensors, changes in place of the first, and what stands between two runs of pointwise ops.
OPS: list[Op] = [
    lambda a, b: a + b,
    lambda a, b: a * b.tanh(),
    lambda a, b: (a - b).abs() + 0.5,
    lambda a, b: bt.where(a > b, a, b * 0.5),
    lambda a, b: a.double().sin().float() * b,
    lambda a, b: a.clone(),
    lambda a, b: a.mul_(0.5),
    lambda a, b: a.add_(b, alpha=0.25),
    lambda a, b: a.copy_(b),
    lambda a, b: a.clamp_(-2, 2),
    lambda a, b: a[1:].add_(b[:-1]),
    lambda a, b: (a @ b).tanh(),
    lambda a, b: (a * 2 - b).sum(0) * 0.01 + b,
    lambda a, b: a - (a * b).mean(1, keepdim=True),
    lambda a, b: a / ((b * b).amax() + 1),
    lambda a, b: a.exp().clamp(max=3).prod(1, keepdim=True).clamp(max=2) + b,
    lambda a, b: a * ((a - b) ** 2).sum((0, 1), keepdim=True).sqrt() * 0.01,
    lambda a, b: (a.tanh() * b).amin(0) + a,
    lambda a, b: F.softmax(a * 2, 1) + b,
    lambda a, b: a.T.contiguous(),
]

instruction = st.tuples(st.integers(0, len(OPS) - 1), *(st.integers(0, 3) for _ in range(3)))


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(
    program=st.lists(instruction, min_size=2, max_size=20),
    n=st.sampled_from([1, 3, 40, 150]),
    kept=st.integers(0, 3),
)
def test_temporaries(program: list[tuple[int, int, int, int]], n: int, kept: int) -> None:
    """Values that are overwritten, changed in place and dropped, all but one."""

    def run(x: bt.Tensor, y: bt.Tensor) -> bt.Tensor:
        slots = [x * 1, y + 0, x - y, x * y]
        for op, to, i, j in program:
            made = OPS[op](slots[i], slots[j])
            if made.shape == (n, n):
                slots[to] = made
        return slots[kept]

    captured = bt.compile(run)
    for _ in range(3):
        x, y = bt.randn(n, n), bt.randn(n, n)
        assert same(captured(x, y), run(x, y))
    assert captured.plan.runs == 2


def test_a_temporary_that_two_runs_change() -> None:
    """What is in memory when a run begins is not taken for a block in L1."""

    @bt.compile
    def f(x: bt.Tensor, w: bt.Tensor) -> tuple[bt.Tensor, bt.Tensor]:
        t = x.exp() * 2
        u = w @ w
        t.add_(1)
        return t * 3, u

    x, w = bt.randn(100, 30), bt.randn(8, 8)
    for _ in range(3):
        assert same(f(x, w)[0], (x.exp() * 2 + 1) * 3)


def computed_together(f: Any) -> list[list[str]]:
    """Names of the ops of each node of a plan."""
    return [node["ops"] for node in f.plan._replay.nodes()["nodes"]]


REDUCTIONS: list[tuple[str, Callable[[bt.Tensor], bt.Tensor]]] = [
    ("sum", lambda x: x.sum()),
    ("sum", lambda x: x.sum(-1)),
    ("sum", lambda x: x.sum(0, keepdim=True)),
    ("mean", lambda x: x.mean((-1, -2))),
    ("prod", lambda x: x.prod(1)),
    ("amax", lambda x: x.amax(-1)),
    ("amin", lambda x: x.amin(0)),
]


@pytest.mark.parametrize(("name", "reduction"), REDUCTIONS)
@pytest.mark.parametrize(
    "shape", [(3, 5), (7, 300), (3, 4, 5), (2, 20_000), (600, 200), (30, 3000)]
)
@pytest.mark.parametrize("dtype", [bt.float32, bt.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_reductions_take_blocks_from_l1(
    name: str, reduction: Any, shape: tuple[int, ...], dtype: Any, threads: int
) -> None:
    def f(x: bt.Tensor, y: bt.Tensor) -> bt.Tensor:
        return reduction((x - y).abs() * 1.5)

    before = bt.get_num_threads()
    bt.set_num_threads(threads)
    try:
        captured = bt.compile(f)
        for _ in range(2):
            x, y = bt.randn(shape, dtype=dtype), bt.randn(shape[-1], dtype=dtype)
            assert same(captured(x, y), f(x, y))
    finally:
        bt.set_num_threads(before)
    nodes = computed_together(captured)
    columns = len(shape) == 2 and name in ("sum", "amin") and reduction(x).numel() == shape[-1]
    if not columns or (shape[-1] <= 1024 and shape[-1] * min(shape[0], 256) <= 65536):
        assert nodes == [["sub", "abs", "mul", name]]


def test_a_reduction_of_a_value_that_is_needed_again() -> None:
    @bt.compile
    def f(x: bt.Tensor) -> tuple[bt.Tensor, bt.Tensor]:
        y = x.exp() + 1
        return y.sum(1), y

    for _ in range(2):
        x = bt.randn(70, 400)
        total, y = f(x)
        assert same(y, x.exp() + 1)
        assert same(total, y.sum(1))
    assert computed_together(f)[0] == ["exp", "add", "sum"]


def test_a_loss_and_its_gradients() -> None:
    """A sum in the forward pass, and those that undo broadcasts in the backward pass."""
    w, b = bt.randn(30, requires_grad=True), bt.randn(200, 1, requires_grad=True)

    def step(x: bt.Tensor) -> bt.Tensor:
        w.grad = b.grad = None
        loss = ((x * w + b).tanh() ** 2).mean()
        loss.backward()
        return loss

    captured = bt.compile(step)
    x = bt.randn(200, 30)
    for _ in range(3):
        loss = captured(x)
        grads = [w.grad, b.grad]
        assert same(loss, step(x))
        for got, want in zip(grads, (w.grad, b.grad), strict=True):
            assert same(got, want)
    assert math.isfinite(loss.item())
