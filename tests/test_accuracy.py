"""The error bounds that the headers of the vector mathematics state, in units in the last place."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail._core import build_info, ops
from backtrail.tensor import apply

ISA = build_info()["isa"]
OTHERS = [isa for isa in build_info()["available"].split() if isa not in (ISA, "v3")]
WIDE = np.longdouble
HEADERS = Path(__file__).parents[1] / "csrc" / "include" / "backtrail"

Bounds = dict[str, tuple[float, float]]


def stated(fma: bool) -> Bounds:
    """The bounds of each function for float and double, as its comment says."""
    found: Bounds = {}
    number = r"(\d+\.\d+)"
    form = re.compile(
        rf"// (\w+)(?: = [^:]+)?: largest error {number} ULP(?: \(float\), {number} \(double\))?"
        rf"(?:; without FMA {number}(?:, {number})?)?"
    )
    for header in sorted(HEADERS.glob("vmath*.h")):
        for name, a, b, c, d in form.findall(header.read_text()):
            single, double = a, b or a
            if not fma and c:
                single, double = c, d or c
            found[name] = (float(single), float(double))
    return found


BOUNDS = stated(fma=ISA not in ("v2", "base"))


def erf_small(x: Any) -> Any:
    """2 / sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (2n+1)!!, whose terms have one sign."""
    term = total = x
    for n in range(1, 80):
        term = term * 2 * x * x / (2 * n + 1)
        total = total + term
    return (
        WIDE(2)
        / np.sqrt(WIDE("3.14159265358979323846264338327950288"))
        * exp_of_minus_square(x)
        * total
    )


def exp_of_minus_square(x: Any) -> Any:
    high = x.astype(np.float32).astype(WIDE)
    return np.exp(-high * high) * np.exp(-(x - high) * (x + high))


def erfc_large(x: Any) -> Any:
    """The continued fraction of erfc for x >= 2, from its far end."""
    f = x
    for k in range(150, 0, -1):
        f = x + WIDE(k) / 2 / f
    return exp_of_minus_square(x) / f / np.sqrt(WIDE("3.14159265358979323846264338327950288"))


def wide_erfc(x: Any) -> Any:
    y = np.minimum(np.abs(x), 40)
    small, large = np.minimum(y, 2), np.maximum(y, 2)
    positive = np.where(y < 2, 1 - erf_small(small), erfc_large(large))
    return np.where(np.isnan(x), x, np.where(x < 0, 2 - positive, positive))


def wide_erf(x: Any) -> Any:
    y = np.minimum(np.abs(x), 40)
    positive = np.where(y < 2, erf_small(np.minimum(y, 2)), 1 - erfc_large(np.maximum(y, 2)))
    return np.where(np.isnan(x), x, np.copysign(positive, x))


WIDER: dict[str, Callable[..., Any]] = {
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "atan2": np.arctan2,
    "pow": np.power,
    "erf": wide_erf,
    "erfc": wide_erfc,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}


def samples(name: str, dtype: Any, n: int = 8_000) -> np.ndarray:
    """Numbers of every magnitude, numbers near those where something happens, and specials."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    info = np.finfo(dtype)
    unsigned = np.dtype(f"u{info.dtype.itemsize}")
    bits = random.integers(0, np.iinfo(unsigned).max, n, dtype=unsigned, endpoint=True)
    anything = bits.view(dtype)
    anything = anything[~np.isnan(anything)]
    near = [random.uniform(-a, a, n) for a in (0.1, 1.0, 3.0, 30.0, 750.0)]
    near.append(1 + random.standard_normal(n) * 10.0 ** random.uniform(-8, 0, n))
    tiny = float(info.smallest_subnormal)
    special = [0.0, -0.0, 1, -1, 0.5, 2, -2, np.inf, -np.inf, np.nan, tiny, -tiny]
    special += [float(info.tiny), float(info.max), -float(info.max), 1e-20, -1e-20]
    return np.concatenate([anything, *[a.astype(dtype) for a in near], np.array(special, dtype)])


def ulp_errors(got: np.ndarray, want: Any) -> np.ndarray:
    """Distance in units of the last place of the result; infinite where one is NaN or infinite."""
    rounded = want.astype(got.dtype)
    with np.errstate(all="ignore"):
        errors = np.abs(got.astype(want.dtype) - want) / np.spacing(np.abs(rounded)).astype(
            want.dtype
        )
        errors = np.where(got == rounded, np.minimum(np.nan_to_num(errors, nan=0.0), 0.5), errors)
        errors = np.where(np.isnan(got) & np.isnan(rounded), 0, errors)
        # The last finite number and infinity are neighbours.
        limit = np.finfo(got.dtype).max
        border = (np.abs(want) > limit * (1 - 1e-6)) & (np.abs(want) < WIDE(limit) * (1 + 1e-6))
        errors = np.where(border & (np.abs(got) > limit * (1 - 1e-6)), 0, errors)
    return np.nan_to_num(errors.astype(float), nan=np.inf)


def test_every_function_states_a_bound() -> None:
    assert set(WIDER) <= set(BOUNDS)
    assert len(BOUNDS) >= 24
    assert max(max(pair) for pair in BOUNDS.values()) <= 2.5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BOUNDS)
def test_largest_error(name: str, dtype: str) -> None:
    if dtype == "float64" and np.finfo(WIDE).nmant <= 52:
        pytest.skip("this machine's long double is a double")
    kind = np.dtype(dtype).type
    inputs = [samples(name, kind)]
    if ops[name].n_inputs == 2:
        n = len(inputs[0])
        inputs.append(np.random.default_rng(1).permutation(np.resize(samples(name + "2", kind), n)))
        if name == "pow":  # results within range
            with np.errstate(all="ignore"):
                fitting = np.random.default_rng(3).uniform(-700, 700, n) / np.log(np.abs(inputs[0]))
            inputs = [
                np.concatenate([inputs[0], np.abs(inputs[0])]),
                np.concatenate([inputs[1], fitting.astype(kind)]),
            ]
    got = apply(ops[name], tuple(bt.tensor(a) for a in inputs)).numpy()
    wide = [a.astype(WIDE if dtype == "float64" else np.float64) for a in inputs]
    wide = [a.astype(WIDE) for a in inputs] if name in ("erf", "erfc", "pow") else wide
    with np.errstate(all="ignore"):
        want = WIDER.get(name, getattr(np, name, None))(*wide)
        errors = ulp_errors(got, want)
    worst = int(errors.argmax())
    bound = BOUNDS[name][dtype == "float64"]
    assert errors[worst] <= bound + 0.05, (
        f"{name}{tuple(a[worst] for a in inputs)} is {got[worst]!r}, should be {want[worst]!r}"
    )
    assert errors.max() > 0.2  # the test sees errors at all


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [n for n in BOUNDS if n not in ("pow", "atan2")])
def test_signs_of_zeros_and_symmetry(name: str, dtype: str) -> None:
    x = bt.tensor([0.0, -0.0], dtype=getattr(bt, dtype))
    got = apply(ops[name], (x,)).numpy()
    with np.errstate(all="ignore"):
        want = (
            np.array([math.erf(0.0), math.erf(-0.0)])
            if name == "erf"
            else WIDER.get(name, getattr(np, name, None))(x.numpy().astype(WIDE))
        )
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
    odd = ("sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "erf")
    if name in odd:
        a = samples(name, np.dtype(dtype).type, 1000)
        plus, minus = (apply(ops[name], (bt.tensor(v),)).numpy() for v in (a, -a))
        np.testing.assert_array_equal(plus, -minus)


@pytest.mark.parametrize("isa", OTHERS)
def test_the_same_bounds_on_another_instruction_set(isa: str) -> None:
    """v3 has v4's bits (test_threads); the others are measured by this file, run again."""
    if os.environ.get("BACKTRAIL_ISA"):
        pytest.skip("already the inner run")
    command = [sys.executable, "-m", "pytest", __file__, "-q", "-x", "-k", "largest_error"]
    environment = {**os.environ, "BACKTRAIL_ISA": isa}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
