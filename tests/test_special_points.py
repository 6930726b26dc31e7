"""Values and derivatives of functions at 0, at kinks and ties, at infinities and NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail.nn import functional as F

INF, NAN = math.inf, math.nan
Function = Callable[[Any], Any]


def slopes(f: Function, x: Any, dtype: Any = bt.float64) -> tuple[list[float], list[float]]:
    """The first and second derivative of a pointwise function; the first from both roads."""
    a = bt.tensor(x, dtype=dtype, requires_grad=True)
    (plain,) = bt.autograd.grad(f(a).sum(), a)
    (first,) = bt.autograd.grad(f(a).sum(), a, create_graph=True)
    np.testing.assert_allclose(plain.numpy(), first.detach().numpy(), rtol=1e-5, atol=1e-30)
    second = bt.zeros_like(a)
    if first.requires_grad:
        (second,) = bt.autograd.grad(first.sum(), a)
    return first.tolist(), second.tolist()


def gradient(f: Callable[..., Any], *inputs: Any) -> list[Any]:
    xs = [bt.tensor(x, dtype=bt.float64, requires_grad=True) for x in inputs]
    return [g.tolist() for g in bt.autograd.grad(f(*xs).sum(), xs)]


# At 0: the first and the second derivative.
AT_ZERO: dict[str, tuple[Function, float, float]] = {
    "elu": (lambda x: F.elu(x, 1.5), 1.5, 0),
    "celu": (lambda x: F.celu(x, 1.5), 1, 0),
    "selu": (F.selu, 1.7580993408473766, 0),
    "relu": (F.relu, 0, 0),
    "relu6": (F.relu6, 0, 0),
    "leaky_relu": (F.leaky_relu, 0.01, 0),
    "sigmoid": (bt.sigmoid, 0.25, 0),
    "silu": (F.silu, 0.5, 0.5),
    "mish": (F.mish, 0.6, 0.64),
    "gelu": (F.gelu, 0.5, math.sqrt(2 / math.pi)),
    "gelu tanh": (lambda x: F.gelu(x, "tanh"), 0.5, math.sqrt(2 / math.pi)),
    "softplus": (F.softplus, 0.5, 0.25),
    "softplus beta": (lambda x: F.softplus(x, 2.0), 0.5, 0.5),
    "logsigmoid": (F.logsigmoid, 0.5, -0.25),
    "hardtanh": (F.hardtanh, 1, 0),
    "hardsigmoid": (F.hardsigmoid, 1 / 6, 0),
    "hardswish": (F.hardswish, 0.5, 1 / 3),
    "abs": (bt.abs, 0, 0),
    "sign": (bt.sign, 0, 0),
    "copysign": (lambda x: bt.copysign(x, bt.tensor(-2.0)), 0, 0),
    "softsign": (F.softsign, 1, 0),
    "logits loss": (
        lambda x: F.binary_cross_entropy_with_logits(x, bt.ones_like(x), reduction="none"),
        -0.5,
        0.25,
    ),
    "huber": (lambda x: F.huber_loss(x, bt.zeros_like(x), reduction="none"), 0, 1),
    "smooth l1": (lambda x: F.smooth_l1_loss(x, bt.zeros_like(x), reduction="none"), 0, 1),
    "square": (bt.square, 0, 2),
}


@pytest.mark.parametrize("name", AT_ZERO)
def test_derivatives_at_zero(name: str) -> None:
    f, first, second = AT_ZERO[name]
    for dtype in (bt.float64, bt.float32):
        got = slopes(f, [0.0, -0.0], dtype)
        tolerance = 1e-12 if dtype is bt.float64 else 1e-6
        np.testing.assert_allclose(got[0], [first] * 2, atol=tolerance, err_msg=f"{name} {dtype}")
        np.testing.assert_allclose(got[1], [second] * 2, atol=tolerance, err_msg=f"{name} {dtype}")


def test_curvature_far_from_zero_keeps_its_digits() -> None:
    """s'' of the logistic family is exp(-|x|) to leading order on both sides."""
    for x in (-30.0, 30.0):
        (_, [bend]) = slopes(lambda t: F.softplus(t, threshold=50.0), [x], bt.float32)
        assert bend == pytest.approx(math.exp(-30.0), rel=1e-5)
        (_, [bend]) = slopes(F.logsigmoid, [x], bt.float32)
        assert bend == pytest.approx(-math.exp(-30.0), rel=1e-5)
    for x in (-800.0, -88.0, 88.0, 800.0, 1e30, -1e30):
        for f in (F.silu, F.softplus, F.logsigmoid, F.mish, F.gelu, lambda t: F.gelu(t, "tanh")):
            first, second = slopes(f, [x])
            assert math.isfinite(first[0])
            assert second[0] == pytest.approx(0, abs=1e-30)


def test_slopes_at_edges_and_ties() -> None:
    assert slopes(F.hardtanh, [-1.0, 1.0, 0.5, NAN])[0][:3] == [0, 0, 1]
    assert slopes(F.relu6, [0.0, 6.0, 3.0])[0] == [0, 0, 1]
    assert slopes(lambda x: x.clamp(-1, 1), [-1.0, 1.0, 2.0])[0] == [1, 1, 0]
    assert gradient(bt.maximum, [2.0, 1, 3], [2.0, 2, 1]) == [[0.5, 0, 1], [0.5, 1, 0]]
    assert gradient(bt.minimum, [2.0, 1, 3], [2.0, 2, 1]) == [[0.5, 1, 0], [0.5, 0, 1]]
    assert gradient(bt.maximum, [NAN, 1.0], [1.0, NAN]) == [[1, 1], [1, 1]]
    low = [1.0, 2.0, 0.0]
    assert gradient(lambda x, m: x.clamp(min=m), [1.0, 1, 1], low) == [[1, 0, 1], [0, 1, 0]]
    assert gradient(lambda x, m: x.clamp(max=m), [1.0, 1, 1], low) == [[1, 1, 0], [0, 0, 1]]
    assert gradient(lambda x: x.max(), [2.0, 2.0, 1.0]) == [[0.5, 0.5, 0]]
    assert gradient(lambda x: x.max(), [NAN, 2.0, NAN]) == [[0.5, 0, 0.5]]
    assert gradient(lambda x: x.median(), [2.0, 1.0, 2.0]) == [[0.5, 0, 0.5]]
    assert gradient(lambda x: x.median(), [2.0, NAN, NAN]) == [[0, 0.5, 0.5]]
    assert gradient(lambda x: x.median(0)[0], [2.0, 1.0, 2.0])[0].count(1.0) == 1


def test_atan2_slopes_at_the_origin_and_at_extremes() -> None:
    assert gradient(bt.atan2, [0.0], [0.0]) == [[0], [0]]
    dy, dx = gradient(bt.atan2, [1e-200, 1e200, 3.0], [1e-200, 1e200, 4.0])
    np.testing.assert_allclose(dy, [0.5e200, 0.5e-200, 0.16], rtol=1e-12)
    np.testing.assert_allclose(dx, [-0.5e200, -0.5e-200, -0.12], rtol=1e-12)


def test_division_by_zero_leaves_other_slopes_alone() -> None:
    assert gradient(bt.div, [1.0], [0.0]) == [[INF], [-INF]]
    x, a, b = gradient(lambda x, a, b: bt.addcdiv(x, a, b), [1.0], [1.0], [0.0])
    assert (x, a, b) == ([1], [INF], [-INF])
    assert gradient(lambda x, a, b: bt.addcmul(x, a, b), [1.0], [INF], [2.0])[0] == [1]
    start, end, weight = gradient(bt.lerp, [0.0], [INF], [0.25])
    assert (start, end, weight) == ([0.75], [0.25], [INF])


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, 4.5, INF, -INF, -1, -2, "fro"])
def test_norm_of_a_zero_vector(p: Any) -> None:
    for f in (
        lambda x: x.norm(p),
        lambda x: x.norm(p, 0),
        lambda x: bt.linalg.vector_norm(x, 2 if p == "fro" else p),
        lambda x: x.norm(p, 0, True),
    ):
        first, second = slopes(f, [0.0, 0.0, 0.0])
        assert first == [0, 0, 0]
        assert second == [0, 0, 0]
    one = 0.0 if p in (-INF, -1, -2) else 1.0
    assert gradient(lambda x: x.norm(p), [0.0, 3.0, 0.0]) == [[0, pytest.approx(one), 0]]
    assert gradient(lambda x: x.norm(p, 1), [[0.0, 0.0], [0.0, 0.0]]) == [[[0, 0], [0, 0]]]


def test_what_divides_by_a_norm_or_a_deviation() -> None:
    assert gradient(lambda x: x.norm(0), [0.0, 3.0]) == [[0, 0]]
    for f in (lambda x: x.std(1), lambda x: bt.std_mean(x, 1)[0], lambda x: x.std(1, False)):
        assert gradient(f, [[1.0, 1.0, 1.0]]) == [[[0, 0, 0]]]
    assert np.isnan(gradient(lambda x: x.std(), [1.0])).all()  # no degree of freedom
    assert gradient(lambda x: F.normalize(x), [[0.0, 0.0]]) == [[[1e12, 1e12]]]
    a, b = gradient(F.cosine_similarity, [[0.0, 0.0]], [[3.0, 4.0]])
    np.testing.assert_allclose(a, [[0.6e8, 0.8e8]])
    assert b == [[0, 0]]
    assert bt.tensor([1e30, -1e30, 2e30]).std().item() == pytest.approx(1.5275252e30)
    var, mean = bt.var_mean(bt.tensor([[1.0, 3.0]]), False)
    assert (var.item(), mean.item()) == (1, 2)


def test_matrix_norms() -> None:
    a = np.array([[3.0, 1.0], [2.0, 6.0], [-1.0, 0.5]])
    for order in (None, "fro", "nuc", 1, -1, 2, -2, INF, -INF):
        got = bt.linalg.norm(bt.tensor(a), order)
        assert got.item() == pytest.approx(np.linalg.norm(a, order), rel=1e-12)
        batch = bt.tensor(np.stack([a, 2 * a]))
        norms = bt.linalg.matrix_norm(batch, "fro" if order is None else order, keepdim=True)
        assert norms.shape == (2, 1, 1)
        np.testing.assert_allclose(norms.flatten().numpy(), [got.item(), 2 * got.item()])
    for order in ("nuc", 2, -2, 1, INF):
        norm = partial(bt.linalg.norm, ord=order)
        x = bt.tensor(a, requires_grad=True)
        assert bt.autograd.gradcheck(norm, (x,))
        assert bt.autograd.gradgradcheck(norm, (x,))
    assert bt.linalg.norm(bt.zeros(0, 5), -1).item() == 0
    assert bt.linalg.norm(bt.zeros(0, 5), INF).item() == 0
    with pytest.raises(RuntimeError, match="not a norm"):
        bt.linalg.norm(bt.ones(2, 2), 3)
    with pytest.raises(RuntimeError, match="vectors and matrices"):
        bt.linalg.norm(bt.ones(2, 2, 2), 2)


def test_median_sees_nan() -> None:
    x = bt.tensor([[1.0, NAN, 3.0, NAN], [4.0, 2.0, 1.0, 3.0]])
    assert math.isnan(bt.tensor([1.0, NAN, 3.0]).median().item())
    values, indices = x.median(1)
    assert math.isnan(values[0].item())
    assert values[1].item() == 2
    assert indices.tolist() == [1, 1]
    assert bt.tensor(5.0).median(0).values.item() == 5
    assert bt.tensor(5.0).kthvalue(1).indices.item() == 0
    assert math.isnan(bt.zeros(0).median().item())


def test_signs_and_interpolation() -> None:
    assert bt.tensor([NAN, -0.0, 2.0, -INF]).sign().tolist() == [0, 0, 1, -1]
    assert bt.lerp(bt.tensor(0.1), bt.tensor(0.7), 1.0).item() == bt.tensor(0.7).item()
    assert bt.lerp(bt.tensor(1.0), bt.tensor(INF), 0.25).item() == INF
