"""What each pointwise op computes, said again in NumPy: by its name there, or by a formula here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

erf = np.vectorize(math.erf, otypes=[float])
erfc = np.vectorize(math.erfc, otypes=[float])


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    return np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)


def elu(x: Any, alpha: float = 1.0) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _floor_divide(a: Any, b: Any) -> Any:
    # PyTorch: floor of the exact quotient, x // 0 as x / 0.
    return np.where(b == 0, a / b, np.floor_divide(a, b)) if a.dtype.kind == "f" else a // b


_OF_ANOTHER_NAME = {
    "div": np.true_divide,
    "mul": np.multiply,
    "neg": np.negative,
    "pow": np.power,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "atan2": np.arctan2,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}

_FORMULAS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b, alpha=1.0: np.add(a, b if alpha == 1 else alpha * b),
    "sub": lambda a, b, alpha=1.0: np.subtract(a, b if alpha == 1 else alpha * b),
    "floor_divide": _floor_divide,
    "trunc_divide": lambda a, b: (
        np.trunc(a / b) if a.dtype.kind == "f" else (abs(a) // abs(b)) * np.sign(a) * np.sign(b)
    ),
    "sign": lambda x: np.where(np.isnan(x), 0, np.sign(x)),
    "fill": lambda a, value: np.broadcast_to(value, np.broadcast(a, value).shape),
    "binary_cross_entropy_terms": lambda p, t: (
        -(t * np.maximum(np.log(p), -100) + (1 - t) * np.maximum(np.log(1 - p), -100))
    ),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "round": np.round,
    "clamp": lambda x, min=-np.inf, max=np.inf: np.clip(x, min, max),
    "clamp_min": np.maximum,
    "clamp_max": np.minimum,
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0: np.clip(x, min_val, max_val),
    "lerp": lambda a, b, w: np.where(abs(w) < 0.5, a + w * (b - a), b - (b - a) * (1 - w)),
    "addcmul": lambda x, a, b, value=1.0: x + value * a * b,
    "addcdiv": lambda x, a, b, value=1.0: x + value * a / b,
    "nan_to_num": lambda x, nan=0.0, posinf=3.4028234663852886e38, neginf=-3.4028234663852886e38: (
        np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)
    ),
    "erf": erf,
    "erfc": erfc,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x, negative_slope=0.01: np.where(x >= 0, x, x * negative_slope),
    "elu": elu,
    "celu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)),
    "selu": lambda x: 1.0507009873554805 * elu(x, 1.6732632423543772),
    "sigmoid": sigmoid,
    "logsigmoid": lambda x: -np.logaddexp(0, -x),
    "softplus": softplus,
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
}


def reference(name: str) -> Callable[..., Any]:
    """The NumPy function of a pointwise op; an op that has none must be given one here."""
    found = _FORMULAS.get(name) or _OF_ANOTHER_NAME.get(name) or getattr(np, name, None)
    assert found is not None, f"op {name!r}: say in tests/references.py what it computes"
    return found
