"""Exact arithmetic and dtypes of results; sizes that overflow and arguments that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail.nn import functional as F


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_remainders_are_exact_for_any_quotient(dtype: str) -> None:
    rng = np.random.default_rng(0)
    largest = 37 if dtype == "float32" else 300
    a = rng.standard_normal(3001) * 10.0 ** rng.integers(-largest, largest, 3001)
    b = rng.standard_normal(3001) * 10.0 ** rng.integers(-largest, largest, 3001)
    with np.errstate(all="ignore"):
        a, b = a.astype(dtype), b.astype(dtype)
    a[:4], b[:4] = [1e10, -6, 6, 5], [3, 3, -3, math.inf]
    left, right = bt.tensor(a), bt.tensor(b)
    exact = np.array([math.fmod(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)])
    np.testing.assert_array_equal(bt.fmod(left, right).numpy(), exact.astype(dtype))
    floored = np.where((exact != 0) & ((exact < 0) != (b < 0)), exact.astype(dtype) + b, exact)
    np.testing.assert_array_equal((left % right).numpy(), floored.astype(dtype))
    assert (bt.tensor([1e9, 1e10]) % 3).tolist() == [1, 1]
    assert math.copysign(1, bt.fmod(bt.tensor(-6.0), 3.0).item()) == -1
    for bad in ((math.inf, 1.0), (1.0, 0.0), (math.nan, 1.0)):
        assert math.isnan(bt.fmod(bt.tensor(bad[0]), bad[1]).item())


def test_integers() -> None:
    assert (10 ** bt.tensor([-2, 0, 3])).tolist() == [0, 1, 1000]
    base, power = bt.tensor([5, 2, -1, 1, -1, 0]), bt.tensor([-2, -1, -3, -9, -2, -1])
    assert (base**power).tolist() == [0, 0, -1, 1, 1, 0]
    x = bt.tensor([2, 3])
    assert x.pow_(bt.tensor([-1, 2])).tolist() == [0, 9]
    cut = bt.div(bt.tensor([7, -7, 100000001]), 3, rounding_mode="trunc")
    assert cut.tolist() == [2, -2, 33333333]
    assert bt.div(bt.tensor([7]), 2.5, rounding_mode="trunc").dtype is bt.float32
    assert bt.div(7.5, bt.tensor([2]), rounding_mode="trunc").tolist() == [3.0]
    narrow = bt.tensor([[1, 2]], dtype=bt.int32)
    assert ((narrow @ narrow.t()).tolist(), (narrow @ narrow.t()).dtype) == ([[5]], bt.int32)
    wrapped = bt.tensor([[200, 2]], dtype=bt.uint8) @ bt.tensor([[3], [4]], dtype=bt.uint8)
    assert (wrapped.item(), wrapped.dtype) == ((600 + 8) % 256, bt.uint8)
    image, kernel = bt.arange(16).reshape(1, 1, 4, 4), bt.ones(1, 1, 2, 2, dtype=bt.int64)
    assert F.conv2d(image, kernel)[0, 0, 0].tolist() == [10, 14, 18]
    assert F.conv_transpose2d(image, kernel).dtype is bt.int64
    assert F.max_pool2d(image, 2).flatten().tolist() == [5, 7, 13, 15]
    assert F.avg_pool2d(image, 2, stride=()).flatten().tolist() == [2, 4, 10, 12]
    assert F.linear(bt.tensor([[1, 2]]), bt.tensor([[3, 4]]), bt.tensor([5])).tolist() == [[16]]


DIVISIONS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a // b,
    lambda a, b: a % b,
    bt.fmod,
    lambda a, b: bt.div(a, b, rounding_mode="trunc"),
]


@pytest.mark.parametrize("divide", DIVISIONS)
def test_integers_are_not_divided_by_zero(divide: Callable[[Any, Any], Any]) -> None:
    a, zeros = bt.tensor([5, 6]), bt.tensor([1, 0])
    for divisor in (0, zeros, zeros.to(bt.int32), zeros[1], bt.tensor([[0, 0], [1, 1]]).t()):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            divide(a, divisor)
    assert divide(bt.zeros(0, dtype=bt.int64), 0).shape == (0,)
    assert not math.isfinite(divide(bt.tensor(5.0), 0).item())
    compiled = bt.compile(lambda x, y: divide(x + 1, y - 1) * 2)
    assert compiled(a, bt.tensor([3, 3])).tolist() == (divide(a + 1, 2) * 2).tolist()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            compiled(a, bt.tensor([3, 1]))


def test_dtypes_of_results() -> None:
    whole = bt.tensor([[1, 2], [3, 4]])
    assert bt.addmm(whole, whole, whole, alpha=0.5, beta=1.9).tolist() == whole.tolist()
    assert bt.baddbmm(whole[None], whole[None], whole[None], alpha=2.6).dtype is bt.int64
    assert bt.logspace(0, 3, 4, dtype=bt.int64).tolist() == [1, 10, 100, 1000]
    assert bt.linspace(4.3, -3, 5, dtype=bt.int64).tolist() == [4, 2, 0, -1, -3]
    assert bt.linspace(0, 10, 4, dtype=bt.int32).tolist() == [0, 3, 6, 10]
    assert bt.arange(0.0, -8.000001, -4.0, dtype=bt.int64).tolist() == [0, -4]
    assert whole.cumsum(0, dtype=bt.int32).dtype is bt.int32
    assert whole.cumprod(0, dtype=bt.int32).dtype is bt.int32
    assert whole.prod(dtype=bt.bool).dtype is bt.bool
    assert F.hardtanh(bt.tensor([-3, 0, 3]), -1.9, 1.9).tolist() == [-1, 0, 1]
    assert bt.tensor([True]).square().dtype is bt.int64
    assert bt.tensor([1, 0], dtype=bt.uint8).any().dtype is bt.uint8
    assert bt.tensor([1, 0], dtype=bt.uint8).all(0).dtype is bt.uint8
    assert F.prelu(bt.tensor(-2.0), bt.tensor([0.5])).shape == ()
    p = bt.tensor([0.5], requires_grad=True)
    assert bt.autograd.grad(bt.bernoulli(p).sum(), p)[0].tolist() == [0]
    assert bt.tensor([1.0, 4.0, 9.0]).diff(prepend=bt.zeros(1), append=bt.ones(2)).tolist() == [
        1, 3, 5, -8, 0,
    ]  # fmt: skip
    assert bt.tensor([True, False, False]).diff().tolist() == [True, False]
    assert bt.tensordot(bt.ones(2, 1), bt.ones(3, 2), dims=([1], [0])).tolist() == [[3, 3]] * 2


BIG = 2**62
REFUSED: dict[str, Callable[[], Any]] = {
    "expand": lambda: bt.ones(1).expand(2**32, 2**32),
    "expand 2": lambda: bt.ones(1).expand(BIG + 1, 4),
    "as_strided": lambda: bt.zeros(4).as_strided((9,), (2**61,)),
    "as_strided numel": lambda: bt.zeros(4).as_strided((2**32, 2**32), (0, 0)),
    "reshape": lambda: bt.zeros(4).reshape(BIG + 1, 4),
    "view": lambda: bt.zeros(0).view(2**32, 2**32),
    "unfold": lambda: bt.ones(1).expand(2**40).unfold(0, 2**39, 1),
    "repeat_interleave": lambda: bt.ones(4).repeat_interleave(BIG),
    "diag": lambda: bt.ones(2).diag(-(2**63)),
    "diag_embed": lambda: bt.diag_embed(bt.ones(2), 2**63 - 1),
    "movedim": lambda: bt.ones(1, 2, 3).movedim(5, 0),
    "movedim twice": lambda: bt.ones(1, 2, 3).movedim((0, 0), (0, 1)),
    "flatten": lambda: bt.ones(1, 2, 3).flatten(5),
    "unflatten": lambda: bt.tensor(1.0).unflatten(0, (1, 1)),
    "tensordot": lambda: bt.tensordot(bt.ones(2, 2), bt.ones(2, 2), dims=([5], [0])),
    "hardtanh": lambda: F.hardtanh(bt.ones(1), 2, 1),
    "huber": lambda: F.huber_loss(bt.ones(1), bt.ones(1), delta=0),
    "exponential": lambda: bt.ones(1).exponential_(0),
    "isclose": lambda: bt.isclose(bt.ones(1), bt.ones(1), rtol=-0.4),
    "isclose number": lambda: bt.isclose(bt.ones(1), 2),  # type: ignore[arg-type]
    "cat None": lambda: bt.cat([bt.ones(1), None]),  # type: ignore[list-item]
    "diff": lambda: bt.ones(3).diff(-1),
    "roll": lambda: bt.tensor(1.0).roll(1, 0),
    "narrow": lambda: bt.ones(3).narrow(0, bt.tensor(True), 1),
    "prelu": lambda: F.prelu(bt.ones(2, 2), bt.ones(2, 2)),
    "max_pool1d": lambda: F.max_pool1d(bt.ones(0, 10), 1),
    "neg": lambda: -bt.tensor([True]),
    "sub": lambda: bt.tensor([True]) - bt.tensor([True]),
    "abs": lambda: bt.tensor([True]).abs(),
    "kthvalue": lambda: bt.ones(3).kthvalue(4),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises((RuntimeError, IndexError, ValueError, TypeError, MemoryError)) as refusal:
        REFUSED[name]()
    assert not isinstance(refusal.value, (AttributeError, StopIteration, ZeroDivisionError))
    assert str(refusal.value)


def test_the_largest_diagonals_and_steps() -> None:
    square = bt.ones(3, 3)
    assert square.tril(2**63 - 1).sum().item() == 9
    assert square.triu(2**63 - 1).sum().item() == 0
    assert square.tril(-(2**63)).sum().item() == 0
    assert square.triu(-(2**63)).sum().item() == 9
    assert bt.arange(5)[:: 2**63 - 1].tolist() == [0]
    one = bt.ones(1, 1, 3)
    for far in (2**31, BIG):
        assert F.conv1d(one, bt.ones(1, 1, 3), stride=far).tolist() == [[[3]]]
        assert F.conv1d(one, bt.ones(1, 1, 1), dilation=far).tolist() == [[[1, 1, 1]]]
        assert F.max_pool1d(one, 3, stride=far).tolist() == [[[1]]]
        assert F.avg_pool1d(one, 3, stride=far).tolist() == [[[1]]]
        x = bt.ones(1, 1, 3, requires_grad=True)
        F.conv1d(x, bt.ones(1, 1, 3), stride=far).sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [[[1, 1, 1]]]


def test_one_piece_and_none() -> None:
    """Where a list of pieces is expected and there is one; where a piece is empty."""
    for shape, dim in (((2, 3), 0), ((2, 3, 4), 1), ((5,), 0)):
        for cut in (
            lambda x, d: x.split(9, d)[0],
            lambda x, d: x.chunk(1, d)[0],
            lambda x, d: x.split([x.shape[d]], d)[0],
            lambda x, d: bt.cat([x], d),
            lambda x, d: bt.stack([x], d),
        ):
            x = bt.ones(*shape, dtype=bt.float64, requires_grad=True)
            (g,) = bt.autograd.grad((cut(x, dim) ** 3).sum(), x, create_graph=True)
            (h,) = bt.autograd.grad(g.sum(), x)
            assert g.tolist() == bt.full(shape, 3.0).tolist()
            assert h.tolist() == bt.full(shape, 6.0).tolist()
    nothing = bt.zeros(0, requires_grad=True)
    other = bt.ones(2, 2, requires_grad=True)
    grads = bt.autograd.grad(bt.cat([nothing, other], 1).sum(), (nothing, other))
    assert [g.shape for g in grads] == [(0,), (2, 2)]
    x, y = bt.ones(2, 3, 0), bt.ones(0, 4, requires_grad=True)
    assert bt.autograd.grad((x @ y).sum(), y)[0].shape == (0, 4)
    number = bt.tensor(2.0, requires_grad=True)
    assert bt.autograd.grad(number.prod(0), number)[0].item() == 1
    weight = bt.ones(2, 0, requires_grad=True)
    assert bt.autograd.grad(F.linear(bt.ones(3, 0), weight).sum(), weight)[0].shape == (2, 0)


def test_as_strided_of_any_layout() -> None:
    x = bt.arange(6.0).reshape(2, 3).t().requires_grad_()
    weights = bt.tensor([1.0, 2.0])
    (g,) = bt.autograd.grad((x.as_strided((2,), (1,), 1) * weights).sum(), x)
    assert g.tolist() == [[0, 0], [1, 0], [2, 0]]
    base = bt.arange(10.0)
    part = base[4:8].requires_grad_()
    (g,) = bt.autograd.grad(part.as_strided((2, 2), (1, 1), 5).sum(), part)
    assert g.tolist() == [0, 1, 2, 1]
    (g,) = bt.autograd.grad(part.as_strided((3,), (3,), 0).sum(), part)  # beyond it, in the storage
    assert g.tolist() == [0, 0, 1, 0]
