"""Every pointwise op at 0, at kinks and ties, at huge, tiny, infinite and NaN arguments: its value
and two derivatives beside PyTorch's. Run with `-m peer`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail._core import pointwise_info
from backtrail.tensor import apply, ops

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

INF, NAN = math.inf, math.nan
POINTS = [
    0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 6.0, 20.0, -20.0, 21.0, 88.0, -88.0,
    100.0, -100.0, 800.0, -800.0, 1e-30, -1e-30, 1e30, -1e30, 1e-4, -1e-4, 1e10, math.pi,
    INF, -INF, NAN,
]  # fmt: skip

# PyTorch's functions where the name is another one.
TF = torch.nn.functional
THEIRS: dict[str, Callable[..., Any]] = {
    "trunc_divide": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "floor_divide": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "clamp": lambda x: torch.clamp(x, -1, 1),
    "fill": lambda x, y: y * 1,
    "gelu_tanh": lambda x: TF.gelu(x, approximate="tanh"),
    "binary_cross_entropy_terms": lambda p, t: TF.binary_cross_entropy(p, t, reduction="none"),
}
# The value (0), the first or the second derivative (1, 2) where PyTorch is wrong, or we differ on
# purpose. True for a point: it is not compared there.
EXCEPT: dict[tuple[str, int], tuple[Callable[..., Any], str]] = {
    ("fmod", 0): (lambda a, b: abs(a / b) > 1e38, "PyTorch's float32 quotient overflows to NaN"),
    ("remainder", 0): (lambda a, b: abs(a / b) > 1e38, "the same"),
    ("pow", 1): (lambda a, b: (a == 0) & np.isinf(b), "PyTorch has NaN at 0 ** inf"),
    ("pow", 2): (lambda a, b: (a == 0), "PyTorch has NaN at a base of 0"),
    ("copysign", 1): (lambda a, b: np.isinf(a) | np.isnan(a), "PyTorch has inf / inf"),
    ("copysign", 2): (lambda a, b: True, "PyTorch's first derivative is 0 / 0 of its result"),
    ("gelu", 0): (lambda x: x < -1, "PyTorch's float32 has lost digits"),
    ("gelu_tanh", 0): (lambda x: x < -1, "the same"),
    ("binary_cross_entropy_terms", 1): (
        lambda p, t: (p < 1e-6) | (p == 1), "ours is that of the logarithms cut off at -100"
    ),
    ("binary_cross_entropy_terms", 2): (
        lambda p, t: (p < 1e-6) | (p == 1), "PyTorch adds 1e-12 to a denominator"
    ),
    ("gelu", 1): (np.isinf, "PyTorch has NaN; the limit is 1 or 0"),
    ("gelu", 2): (lambda x: abs(x) > 1e20, "the same"),
    ("gelu_tanh", 1): (lambda x: abs(x) > 1e10, "the same"),
    ("gelu_tanh", 2): (lambda x: abs(x) > 5, "the same, and PyTorch has few digits"),
    ("elu", 1): (np.isnan, "PyTorch has the slope 1 at NaN"),
    ("elu", 2): (np.isnan, "and the second derivative 0"),
    ("celu", 1): (np.isnan, "the same"),
    ("celu", 2): (np.isnan, "the same"),
    ("selu", 1): (np.isnan, "the same"),
    ("selu", 2): (np.isnan, "the same"),
    ("hardswish", 1): (np.isnan, "the same"),
    ("hardswish", 2): (np.isnan, "the same"),
    ("hardsigmoid", 1): (lambda x: abs(x) < 3, "PyTorch's 1/6 is that of float32"),
    ("hardsigmoid", 2): (lambda x: True, "PyTorch has no second derivative"),
    ("mish", 2): (lambda x: x > 90, "PyTorch has NaN"),
    ("softplus", 2): (lambda x: x >= 20, "PyTorch's is linear from 20 on"),
    ("logsigmoid", 2): (lambda x: abs(x) > 5, "PyTorch has lost all or half of its digits"),
    ("silu", 2): (lambda x: x > 5, "the same"),
    ("nan_to_num", 0): (np.isinf, "the op's own defaults are float32's; the function's are right"),
    ("atan2", 1): (lambda a, b: True, "PyTorch's squares over- and underflow"),
    ("atan2", 2): (lambda a, b: True, "the same"),
    ("floor_divide", 1): (lambda a, b: True, "PyTorch records zeros as no gradient"),
    ("trunc_divide", 1): (lambda a, b: True, "the same"),
    ("floor_divide", 2): (lambda a, b: True, "the same"),
    ("trunc_divide", 2): (lambda a, b: True, "the same"),
}  # fmt: skip


def theirs(name: str) -> Callable[..., Any]:
    found = THEIRS.get(name) or getattr(torch, name, None) or getattr(TF, name, None)
    assert found is not None, f"PyTorch's function for the op {name} must be named here"
    return found


def ours(name: str) -> Callable[..., Any]:
    attributes = (-1.0, 1.0) if name == "clamp" else ()
    return lambda *x: apply(ops[name], x, attributes)


def points(name: str, dtype: str) -> Any:
    n = ops[name].n_inputs
    found = np.array(list(itertools.product(POINTS, repeat=min(n, 2))), dtype=dtype).T
    if n == 3:
        found = np.concatenate([found, np.full((1, found.shape[1]), 0.25, dtype)])
    if name == "binary_cross_entropy_terms":
        found = found[:, ((found >= 0) & (found <= 1)).all(0)]
    return found


def orders(grad: Any, f: Any, xs: list[Any]) -> list[Any]:
    """The value, then the derivatives for each input, then those of their sum."""
    y = f(*xs)
    found = [y.detach().numpy(force=True)]
    if not y.requires_grad:
        return found
    first = grad(y.sum(), xs, create_graph=True, allow_unused=True)
    found += [None if g is None else g.detach().numpy(force=True) for g in first]
    for g in first:
        again = [None] * len(xs)
        if g is not None and g.requires_grad:
            with suppress(RuntimeError):  # "not implemented": of some PyTorch has none
                again = grad(g.sum(), xs, allow_unused=True, retain_graph=True)
        found += [None if h is None else h.numpy(force=True) for h in again]
    return found


NAMES = [
    name
    for name, op in ops.items()
    if op.kind == "pointwise"
    and pointwise_info(op)["floats"]
    and not any(pointwise_info(op)["mask_inputs"])
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_special_points(name: str, dtype: str) -> None:
    at = points(name, dtype)
    n = len(at)
    t = orders(torch.autograd.grad, theirs(name), [torch.tensor(p, requires_grad=True) for p in at])
    xs = [bt.tensor(p, requires_grad=True) for p in at]
    b = orders(bt.autograd.grad, ours(name), xs)
    plain = ours(name)(*xs)
    if plain.requires_grad:  # the fused road of the first derivatives
        fused = [g.numpy() for g in bt.autograd.grad(plain.sum(), xs)]
    for k, (x, y) in enumerate(itertools.zip_longest(t, b)):
        order = 0 if k == 0 else 1 if k <= n else 2
        zeros = np.zeros(at.shape[1], dtype)
        x, y = zeros if x is None else x, zeros if y is None else y
        rtol = {"float32": (1e-5, 3e-5, 1e-3), "float64": (1e-12, 1e-10, 1e-7)}[dtype][order]
        with np.errstate(all="ignore"):
            close = np.isclose(x.astype(float), y.astype(float), rtol, 1e-30, equal_nan=True)
            if order == 1 and x is not zeros:
                same = np.isclose(fused[k - 1], y, rtol, 1e-30, equal_nan=True)
                assert same.all(), (name, k, at[:, ~same][:, :4], fused[k - 1][~same][:4])
            if (name, order) in EXCEPT:
                close |= EXCEPT[name, order][0](*at.astype(float))
        bad = np.nonzero(~close)[0][:4]
        assert close.all(), [(*at[:, i], "torch", x[i], "ours", y[i]) for i in bad]
