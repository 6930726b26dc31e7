"""`bt.testing.assert_close`: what is close, and what it says of what is not."""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail.testing import assert_close

T = bt.tensor
NAN, INF = float("nan"), float("inf")


def message(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assert_close(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("actual", "expected", "options"),
    [
        (T([1.0, 0.1]), T([1.0, 0.1]).cos().acos(), {}),
        (T([]), T([]), {}),
        (T(2), T(2), {}),
        (T([True, False]), T([True, False]), {}),
        (T([INF, -INF]), T([INF, -INF]), {}),
        (T([NAN]), T([NAN]), {"equal_nan": True}),
        (T([1.0]), T([1.0], dtype=bt.float64), {"check_dtype": False}),
        (T([1]), T([1.0]), {"check_dtype": False}),
        (T([100.0]), T([101.0]), {"rtol": 0.1, "atol": 0}),
        (T([1.0], dtype=bt.bfloat16), T([1.01], dtype=bt.bfloat16), {}),
        (bt.ones(2, 3).T, bt.ones(3, 2), {}),
        (bt.nn.Parameter(T([1.0])), T([1.0]), {}),
        (T([1.0], requires_grad=True), T([1.0]), {}),
        (1.0, 1.0 + 1e-8, {}),
        (1, 1.0, {"check_dtype": False}),
        (NAN, NAN, {"equal_nan": True}),
        (None, None, {}),
        (True, np.bool_(True), {}),
        (np.float64(2), 2.0, {}),
        (np.ones(3), np.ones(3), {}),
        ([T([1.0]), 2.0], (T([1.0]), 2.0), {}),
        (OrderedDict(a=T([1.0]), b=[1, None]), {"b": [1, None], "a": T([1.0])}, {}),
    ],
    ids=str,
)
def test_close(actual: Any, expected: Any, options: dict[str, Any]) -> None:
    assert_close(actual, expected, **options)


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"),
    [(bt.float64, 1e-7, 1e-7), (bt.float32, 1.3e-6, 1e-5), (bt.bfloat16, 1.6e-2, 1e-5)],
    ids=str,
)
def test_default_tolerances(dtype: bt.dtype, rtol: float, atol: float) -> None:
    for expected in (0.0, 64.0):
        allowed = atol + rtol * expected
        x = T([expected], dtype=dtype)
        assert_close((x.double() + 0.9 * allowed).to(dtype), x)
        assert "not close" in message((x.double() + 1.5 * allowed).to(dtype), x)
    mixed = T([1.0 + 1e-6], dtype=bt.float64)
    assert_close(mixed, T([1.0]), check_dtype=False)  # the larger tolerances of the two


def test_the_message_counts_and_says_where() -> None:
    actual, expected = bt.zeros(2, 3), bt.zeros(2, 3)
    actual[1, 2], expected[1, 2] = 3.0, 2.0
    actual[0, 1], expected[0, 1] = 0.5, 0.125
    assert message(actual, expected) == (
        "Tensor-likes are not close!\n\n"
        "Mismatched elements: 2 / 6 (33.3%)\n"
        "Greatest absolute difference: 1.0 at index (1, 2) (up to 1e-05 allowed)\n"
        "Greatest relative difference: 3.0 at index (0, 1) (up to 1.3e-06 allowed)"
    )
    assert message(T([1, 2]), T([1, 5])) == (
        "Tensor-likes are not equal!\n\n"
        "Mismatched elements: 1 / 2 (50.0%)\n"
        "Greatest absolute difference: 3 at index (1,)\n"
        "Greatest relative difference: 0.6000000238418579 at index (1,)"
    )
    assert message(2.0, 1.0) == (
        "Scalars are not close!\n\n"
        "Expected 1.0 but got 2.0.\n"
        "Absolute difference: 1.0 (up to 1e-07 allowed)\n"
        "Relative difference: 1.0 (up to 1e-07 allowed)"
    )
    equal = functools.partial(assert_close, rtol=0, atol=0)
    with pytest.raises(AssertionError, match="Scalars are not equal"):
        equal(T(1.0), T(1.5))


@pytest.mark.parametrize(
    ("actual", "expected", "options", "text"),
    [
        (bt.ones(2), bt.ones(3), {}, "'shape' do not match"),
        (bt.ones(2), bt.ones(2).double(), {}, "'dtype' do not match"),
        (bt.ones(2, 3).T, bt.ones(3, 2), {"check_stride": True}, r"'stride\(\)' do not match"),
        (T([NAN]), T([NAN]), {}, "nan"),
        (T([INF]), T([-INF]), {"equal_nan": True}, "Mismatched elements: 1 / 1"),
        (T([INF]), T([1e38]), {"rtol": 1e9, "atol": 0.0}, "Mismatched elements"),
        (T([255], dtype=bt.uint8), T([0], dtype=bt.uint8), {}, "difference: 255 at index"),
        (1, 1.0, {}, r"The \(d\)types do not match"),
        (True, False, {}, "Booleans mismatch"),
        (None, 1, {}, "None mismatch"),
        ([1, 2], [1], {}, "length of the sequences mismatch: 2 != 1"),
        ({"a": 1, "c": 2}, {"b": 1, "c": 2}, {}, r"Missing keys .*: \['b'\]\nAdditional .*\['a'\]"),
        ([{"w": T([1.0])}], [{"w": T([2.0])}], {}, r"for item \[0\]\['w'\]"),
    ],
    ids=str,
)
def test_not_close(actual: Any, expected: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        assert_close(actual, expected, **options)


def test_the_message_can_be_replaced_or_added_to() -> None:
    assert message(1.0, 2.0, msg="mine") == "mine"
    text = message([1.0], [2.0], msg=lambda found: f"first\n{found}\nlast")
    assert text.startswith("first\nScalars")
    assert text.endswith("item [0]\nlast")


def test_what_cannot_be_compared() -> None:
    with pytest.raises(TypeError, match="cannot compare"):
        assert_close(np.ones(2), bt.ones(2))
    with pytest.raises(TypeError, match="cannot compare"):
        assert_close("a", "a")
    with pytest.raises(TypeError, match="cannot compare"):
        assert_close(bt.nn.Parameter(bt.ones(2)), bt.ones(2), allow_subclasses=False)
    for given in ({"rtol": 1.0}, {"atol": 1.0}):
        with pytest.raises(ValueError, match="give both"):
            assert_close(1.0, 1.0, **given)


@pytest.mark.peer
def test_messages_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = [
        (rng.integers(-3, 3, (4, 3)) * 1.0, rng.integers(-3, 3, (4, 3)) * 1.0),
        (np.array([1.0, NAN, INF, 0, 2]), np.array([1.0, NAN, -INF, 1e-3, 2.5])),
        (np.array(3.0), np.array(3.5)),
        (np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]])),
    ]
    kinds = ("float32", "float64", "int64", "uint8", "bool")
    options: list[dict[str, Any]] = [{}, {"equal_nan": True}, {"rtol": 0, "atol": 0}]
    options += [{"rtol": 0.1, "atol": 0.5}, {"check_dtype": False}]
    for (a, b), one, two, kwargs in itertools.product(arrays, kinds, kinds, options):
        with np.errstate(all="ignore"):
            x, y = a.astype(one), b.astype(two)
        if "bool" in (one, two) and one != two:
            continue  # both give numbers, in other types
        found = []
        for library in (torch, bt):
            try:
                library.testing.assert_close(library.tensor(x), library.tensor(y), **kwargs)
                found.append("")
            except AssertionError as error:
                found.append(str(error).replace("torch.", "backtrail."))
        assert found[1] == found[0], (x, y, kwargs)
