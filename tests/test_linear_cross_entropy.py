"""The output head in chunks: what linear and cross_entropy give, in less memory."""

from __future__ import annotations

from typing import Any

import backtrail as bt
import backtrail.nn.functional as F
import numpy as np
import pytest
from backtrail._core import equal_bytes, memory_stats, reset_peak


def two_functions(
    input: bt.Tensor, linear_weight: bt.Tensor, target: bt.Tensor, **rest: Any
) -> bt.Tensor:
    bias = rest.pop("linear_bias", None)
    return F.cross_entropy(F.linear(input, linear_weight, bias), target, **rest)


def operands(
    n: int, classes: int, width: int, dtype: bt.dtype = bt.float32
) -> tuple[bt.Tensor, bt.Tensor, bt.Tensor]:
    """input, linear_weight and target, of which every seventh label is ignored."""
    bt.manual_seed(3)
    target = bt.randint(0, classes, (n,))
    target[::7] = -100
    return bt.randn(n, width, dtype=dtype), bt.randn(classes, width, dtype=dtype), target


def gradients(function: Any, grad: Any, *leaves: bt.Tensor) -> list[bt.Tensor]:
    """The loss, then the gradient of each leaf."""
    xs = [x.detach().requires_grad_() for x in leaves]
    loss = function(*xs)
    loss.backward(grad)
    return [loss.detach(), *[x.grad for x in xs]]


@pytest.mark.parametrize("how", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [bt.float32, bt.float64])
@pytest.mark.parametrize(
    ("n", "classes", "width"),
    [(1, 1, 1), (5, 1, 3), (0, 4, 3), (7, 9, 0), (256, 4100, 8), (257, 4100, 8), (771, 4099, 5)],
)
def test_same_as_the_two_functions(
    n: int, classes: int, width: int, dtype: bt.dtype, how: str
) -> None:
    """The same bits where one chunk holds all rows, which are 256 for so many classes."""
    tolerance = 1e-5 if dtype is bt.float32 else 1e-14
    x, w, target = operands(n, classes, width, dtype)
    grad = bt.rand(n, dtype=dtype) if how == "none" else None
    for function in (
        lambda f: gradients(lambda x, w: f(x, w, target, reduction=how), grad, x, w),
        lambda f: gradients(lambda x: f(x, w, target, reduction=how), grad, x),
        lambda f: gradients(lambda w: f(x, w, target, reduction=how), grad, w),
    ):
        got, want = function(F.linear_cross_entropy), function(two_functions)
        for a, b in zip(got, want, strict=True):
            assert a.shape == b.shape
            if n > 256:
                np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)
            else:
                assert equal_bytes(a, b) or (a.isnan().all() and b.isnan().all())


def test_bias_class_weights_smoothing_and_scale() -> None:
    x, w, target = operands(600, 3000, 6, bt.float64)
    bias, share = bt.randn(3000, dtype=bt.float64), bt.rand(3000, dtype=bt.float64)
    rest = {"weight": share, "label_smoothing": 0.1}
    got, want = (
        gradients(
            lambda x, w, b, f=f: f(x, w, target, linear_bias=b, **rest) * 0.37, None, x, w, bias
        )
        for f in (F.linear_cross_entropy, two_functions)
    )
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-14)


def test_backward_twice_and_what_is_ignored() -> None:
    x, w, target = operands(9, 5, 3)
    x.requires_grad_()
    loss = F.linear_cross_entropy(x, w, target)
    loss.backward(retain_graph=True)
    once = x.grad.clone()
    loss.backward()
    assert equal_bytes(x.grad, once * 2)
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        loss.backward()
    none = F.linear_cross_entropy(x, w, bt.full((9,), 4), ignore_index=4)
    assert none.isnan().item()
    x.grad = None
    none.backward()
    assert x.grad.abs().sum().item() == 0
    other = F.linear_cross_entropy(x.detach(), w, target, reduction="sum")
    assert not other.requires_grad


def test_shapes_that_the_two_functions_serve() -> None:
    x, w, _ = operands(4, 6, 3)
    one = F.linear_cross_entropy(x[0], w, bt.tensor(2), reduction="none")
    assert one.shape == ()
    assert equal_bytes(one, two_functions(x[0], w, bt.tensor(2), reduction="none"))
    soft = bt.rand(4, 6).softmax(1)
    assert equal_bytes(F.linear_cross_entropy(x, w, soft), two_functions(x, w, soft))
    grid, labels = w.reshape(3, 2, 3), bt.tensor([[0, 2], [1, 1], [2, 0], [0, 1]])
    logits = F.linear(x, w).reshape(4, 3, 2)
    assert equal_bytes(F.linear_cross_entropy(x, grid, labels), F.cross_entropy(logits, labels))


def test_bfloat16() -> None:
    x, w, target = operands(300, 4000, 8)
    got = gradients(
        lambda x, w: F.linear_cross_entropy(x, w, target), None, x.bfloat16(), w.bfloat16()
    )
    want = gradients(
        lambda x, w: F.linear_cross_entropy(x, w, target),
        None,
        x.bfloat16().float(),
        w.bfloat16().float(),
    )
    for a, b in zip(got, want, strict=True):
        assert a.dtype is bt.bfloat16
        assert equal_bytes(a, b.bfloat16())


def test_errors_name_the_rule() -> None:
    x, w, target = operands(4, 6, 3)
    with pytest.raises(RuntimeError, match=r"linear_weight \(6, 2\): expected"):
        F.linear_cross_entropy(x, w[:, :2], target)
    with pytest.raises(IndexError, match=r"target\[1\] is 6, but there are 6 classes"):
        F.linear_cross_entropy(x, w, bt.tensor([0, 6, 0, 0]))
    with pytest.raises(ValueError, match="target has shape"):
        F.linear_cross_entropy(x, w, target[:3])
    with pytest.raises(RuntimeError, match=r"linear_bias \(3,\)"):
        F.linear_cross_entropy(x, w, target, linear_bias=bt.zeros(3))
    with pytest.raises(RuntimeError, match="needs input of shape"):
        F.linear_cross_entropy(x[0], w.reshape(3, 2, 3), bt.tensor([0, 1]))
    with pytest.raises(RuntimeError, match="target has shape"):
        F.linear_cross_entropy(x, w, bt.zeros(4, 2, dtype=bt.int64))
    with pytest.raises(ValueError, match="reduction"):
        F.linear_cross_entropy(x, w, target, reduction="avg")
    with pytest.raises(RuntimeError, match="label_smoothing is 2"):
        F.linear_cross_entropy(x, w, target, label_smoothing=2)
    with pytest.raises(RuntimeError, match="ignore_index is for labels"):
        F.linear_cross_entropy(x, w, bt.rand(4, 6), ignore_index=1)


def test_memory_is_that_of_a_chunk() -> None:
    """1024 x 8192 logits would take 32 MiB, and their gradient as much again."""
    x, w, target = operands(1024, 8192, 16)
    peaks = []
    for f in (two_functions, F.linear_cross_entropy):
        before = memory_stats()["in_use"]
        reset_peak()
        gradients(lambda x, w, f=f: f(x, w, target), None, x, w)
        peaks.append(memory_stats()["peak"] - before)
    assert peaks[0] > 64 << 20
    assert peaks[1] < 12 << 20
