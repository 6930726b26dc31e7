"""Every op of the registry inside a captured function: the same bits as eager, gradients too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail._core import ops
from backtrail.capture import CaptureError
from backtrail.tensor import apply
from capture_models import same
from samples import SAMPLES, Sample
from test_ops import FLOATS, INTEGERS, POINTWISE, draw, some_attrs

CASES = [
    pytest.param(name, sample, id=f"{name}{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
]
READ_VALUES = {"nonzero", "unique"}


def tensors(value: Any) -> list[bt.Tensor]:
    if isinstance(value, bt.Tensor):
        return [value]
    return [t for v in value for t in tensors(v)] if isinstance(value, (list, tuple)) else []


def with_gradients(function: Callable[..., Any], xs: Sequence[Any]) -> list[Any]:
    """What the function returns, and the gradients of its floating inputs if there are any."""
    leaves = [
        x.detach().requires_grad_() if x is not None and x.dtype.is_floating_point else x
        for x in xs
    ]
    outs = tensors(function(*leaves))
    ends = [t for t in outs if t.requires_grad]
    if not ends:
        return outs
    inputs = [x for x in leaves if x is not None and x.requires_grad]
    slopes = [bt.ones_like(t) * 0.75 for t in ends]
    return [*outs, *bt.autograd.grad(ends, inputs, slopes, allow_unused=True)]


def compare(function: Callable[..., Any], calls: Sequence[Sequence[Any]], name: str) -> Any:
    """Hold a captured function against itself run as it is, on several inputs of one form."""
    captured = bt.compile(function)
    for xs in calls:
        want, got = tensors(function(*xs)), tensors(captured(*xs))
        assert len(want) == len(got)
        for i, (a, b) in enumerate(zip(want, got, strict=True)):
            assert a.dtype is b.dtype
            assert a.stride() == b.stride()
            assert same(a, b), f"result {i} of {name}: {a} and, captured, {b}"
    assert captured.captures == 1
    assert captured.plan.runs == len(calls) - 1
    return captured.plan


def like(sample: Sample, dtype: bt.dtype, turn: int) -> list[Any]:
    """Inputs of the same form: floats keep order and sign; the same indices in another order."""
    found: list[Any] = []
    for a in sample.inputs:
        if a is None:
            found.append(None)
        elif a.dtype.kind == "f":
            found.append(bt.tensor(a * (1 - 0.23 * turn)).to(dtype))
        else:
            found.append(bt.tensor(np.ascontiguousarray(np.roll(a, turn))))
    return found


@pytest.mark.parametrize("dtype", [bt.float32, bt.float64, bt.bfloat16], ids=str)
@pytest.mark.parametrize(("name", "sample"), CASES)
def test_op(name: str, sample: Sample, dtype: bt.dtype) -> None:
    op = ops[name]

    def function(*xs: Any) -> Any:
        if op.differentiable:
            return with_gradients(lambda *leaves: apply(op, leaves, sample.attrs), xs)
        return apply(op, xs, sample.attrs)

    calls = [like(sample, dtype, turn) for turn in range(3)]
    if name in READ_VALUES:
        with pytest.raises(CaptureError, match=name):
            bt.compile(function)(*calls[0])
        return
    compare(function, calls, name)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", FLOATS)
def test_pointwise_op(name: str, dtype: str) -> None:
    """Alone, and between others that it is computed together with; with numbers for inputs."""
    op, info = ops[name], POINTWISE[name]
    low, high = info["range"]
    middle = float(min(max(low, 0.5), high))

    def function(*xs: bt.Tensor) -> Any:
        found = []
        for attrs in some_attrs(name):
            found.append(apply(op, tuple(xs), attrs))
            moved = [x if x.dtype is bt.bool else x * 0.5 + 0.5 * middle for x in xs]
            y = apply(op, tuple(moved), attrs)
            found.append(y if y.dtype is bt.bool else y * 2 + y)
            if len(xs) > 1 and not info["mask_inputs"][-1]:
                found.append(apply(op, (*xs[:-1], middle), attrs))
        return found

    def whole(*xs: bt.Tensor) -> Any:
        return with_gradients(function, xs)

    kind = "float64" if dtype == "bfloat16" else dtype
    first = [bt.tensor(a) for a in draw(name, (3, 70), kind)]
    calls = [
        [x.roll(turn, 1).to(bt.bool if x.dtype is bt.bool else getattr(bt, dtype)) for x in first]
        for turn in range(3)
    ]
    compare(whole if op.differentiable else function, calls, name)


@pytest.mark.parametrize("name", INTEGERS)
def test_pointwise_op_on_integers(name: str) -> None:
    masks = POINTWISE[name]["mask_inputs"]
    for dtype in (bt.int64, bt.uint8, bt.bool):
        calls = []
        for _ in range(3):
            whole = [bt.randint(1, 5, (4, 9)) for _ in masks]
            calls.append([x > 2 if m else x.to(dtype) for x, m in zip(whole, masks, strict=True)])
        try:
            apply(ops[name], tuple(calls[0]))
        except (TypeError, RuntimeError):
            continue
        compare(lambda *xs: apply(ops[name], xs), calls, name)


def test_random_numbers_go_on() -> None:
    """Each op that draws, from the default generator and from one of the user's."""
    generator = bt.Generator()
    x = bt.rand(5, 7)

    def function() -> Any:
        return (
            bt.rand(3, 5),
            bt.randn(3, 5, generator=generator),
            bt.randint(0, 9, (4,)),
            bt.randperm(17),
            bt.bernoulli(x),
            bt.multinomial(x, 3),
            bt.empty(4).uniform_(-1, 1),
            bt.empty(4).normal_(generator=generator),
            bt.nn.functional.dropout(x, 0.4),
            bt.rand_like(x),
        )

    captured = bt.compile(function)
    streams = []
    for run in (function, captured):
        bt.manual_seed(3)
        generator.manual_seed(4)
        found = [tensors(run()) for _ in range(4)]
        streams.append([*found, [bt.get_rng_state(), generator.get_state(), bt.rand(9)]])
    for a, b in zip(*streams, strict=True):
        assert all(same(s, t) for s, t in zip(a, b, strict=True))
    assert not same(streams[1][2][0], streams[1][3][0])
    assert captured.plan.runs == 3


def test_floating_point_operations_are_counted() -> None:
    def flops(function: Callable[..., Any], *xs: bt.Tensor) -> list[float]:
        captured = bt.compile(function)
        captured(*xs)
        return [node["flops"] for node in captured.plan._replay.nodes()["nodes"]]

    F = bt.nn.functional
    x, w = bt.randn(2, 3, 5), bt.randn(7, 5)
    assert flops(lambda x: x @ x.mT, x) == [2 * 2 * 3 * 3 * 5]
    assert flops(F.linear, x, w) == [2 * 6 * 7 * 5]
    assert flops(lambda x, w: F.linear(x, w).relu(), x, w) == [2 * 6 * 7 * 5 + 6 * 7]
    q = bt.randn(2, 3, 4, 8)
    assert flops(F.scaled_dot_product_attention, q, q, q) == [2 * 6 * 16 * 16]
    causal = flops(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), q)
    assert causal == [2 * 6 * 10 * 16]
    image, filters = bt.randn(2, 4, 6, 5), bt.randn(8, 2, 3, 3)
    conv = flops(lambda x, w: F.conv2d(x, w, padding=1, groups=2), image, filters)
    assert conv == [2 * 2 * 8 * 30 * 2 * 9]
    lstm = bt.nn.LSTM(3, 4)
    with bt.no_grad():
        assert max(flops(lambda x: lstm(x)[0], bt.randn(5, 2, 3))) == 2 * 10 * 16 * (3 + 4)

    def steps(x: bt.Tensor, w: bt.Tensor) -> Any:
        leaf, weight = (t.detach().requires_grad_() for t in (x, w))
        return bt.autograd.grad(F.linear(leaf, weight).sum(), (leaf, weight))

    assert max(flops(steps, x, w)) == 2 * 2 * 6 * 7 * 5
