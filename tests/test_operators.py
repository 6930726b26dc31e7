"""Python's operators: with numbers on either side, in place, and with foreign operands."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import backtrail as bt
import numpy as np
import pytest

FLOATS = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"]
BITS = ["and_", "or_", "xor", "lshift", "rshift"]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]


def in_place(name: str) -> Callable[[Any, Any], Any]:
    f: Callable[[Any, Any], Any] = getattr(operator, "i" + name.rstrip("_"))
    return f


def binary(name: str) -> Callable[[Any, Any], Any]:
    f: Callable[[Any, Any], Any] = getattr(operator, name)
    return f


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("dtype", [bt.float32, bt.float64])
def test_arithmetic_is_numpys(name: str, dtype: Any) -> None:
    f = binary(name)
    x, y = bt.tensor([0.5, 2.0, 3.5], dtype=dtype), bt.tensor([1.5, 0.5, 2.0], dtype=dtype)
    a, b = x.numpy(), y.numpy()
    for got, expected in ((f(x, y), f(a, b)), (f(x, 2.5), f(a, 2.5)), (f(2.5, x), f(2.5, a))):
        assert got.dtype is dtype
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", [*FLOATS, *BITS])
def test_in_place_keeps_object_memory_and_dtype(name: str) -> None:
    for dtype in (bt.int64, bt.int32, bt.uint8, *([bt.float32] if name in FLOATS else [])):
        x = bt.tensor([9, 5, 2], dtype=dtype)
        if name == "truediv" and not dtype.is_floating_point:
            with pytest.raises(RuntimeError, match="cannot be stored in place"):
                in_place(name)(x, 2)
            continue
        for other in (2, bt.tensor([2, 1, 3], dtype=bt.int64), bt.tensor(2)):
            y = x.clone()
            whole, expected = y[:], binary(name)(x, other).to(dtype)
            result = in_place(name)(y, other)
            assert result is y
            assert y.dtype is dtype
            assert whole.tolist() == expected.tolist()  # the memory is what it was


@pytest.mark.parametrize("name", [*FLOATS, *BITS])
def test_in_place_refusals(name: str) -> None:
    shared = bt.ones(1, dtype=bt.int64 if name in BITS else bt.float32).expand(3)
    with pytest.raises(RuntimeError, match="share one element"):
        in_place(name)(shared, 1)
    if name in FLOATS:
        leaf = bt.ones(2, requires_grad=True)
        with pytest.raises(RuntimeError, match="leaf"):
            in_place(name)(leaf, 2)
        with pytest.raises(RuntimeError, match="cannot be stored in place as int64"):
            in_place(name)(bt.tensor([4, 2]), 0.5)
    else:
        with pytest.raises(RuntimeError, match="not defined for float32"):
            in_place(name)(bt.ones(2), 1)
    with pytest.raises(TypeError, match="unsupported operand"):
        in_place(name)(bt.tensor([1]), [1])


@pytest.mark.parametrize("name", FLOATS)
def test_in_place_gradients_are_those_of_the_operator(name: str) -> None:
    def slope(f: Callable[[Any, Any], Any]) -> list[Any]:
        x = bt.tensor([1.5, 2.5], dtype=bt.float64, requires_grad=True)
        y = bt.tensor([2.0, 0.75], dtype=bt.float64, requires_grad=True)
        (f(x * 1.0, y) * bt.tensor([1.0, 3.0], dtype=bt.float64)).sum().backward()
        return [None if t.grad is None else t.grad.tolist() for t in (x, y)]

    assert slope(in_place(name)) == slope(binary(name))


def test_masks_change_where_they_are() -> None:
    mask = bt.tensor([True, True, False])
    same = mask
    mask &= bt.tensor([False, True, True])
    assert same is mask
    assert mask.tolist() == [False, True, False]
    mask |= True
    assert same.tolist() == [True, True, True]
    with pytest.raises(RuntimeError, match="cannot be stored in place as bool"):
        mask |= 1


def test_bits_with_numbers_on_the_left() -> None:
    t = bt.tensor([3, 4])
    assert (3 | t).tolist() == [3, 7]
    assert (6 & t).tolist() == [2, 4]
    assert (1 ^ t).tolist() == [2, 5]
    assert (2 << t).tolist() == [16, 32]
    assert (64 >> t).tolist() == [8, 4]
    mask = bt.tensor([True, False])
    assert (True & mask).tolist() == [True, False]
    assert (True | mask).dtype is bt.bool


@pytest.mark.parametrize("dtype", [bt.int64, bt.int32])
def test_shifts_beyond_the_width(dtype: Any) -> None:
    t = bt.tensor([3, -3], dtype=dtype)
    assert (t << 1).tolist() == [6, -6]
    assert (t >> 1).tolist() == [1, -2]
    assert (t << 64).tolist() == [0, 0]
    assert (t << 40).tolist() == ([0, 0] if dtype is bt.int32 else [3 << 40, -3 << 40])
    assert (t >> 64).tolist() == [0, -1]
    assert (t << -1).tolist() == [0, 0]
    assert (t >> -1).tolist() == [0, -1]
    assert bt.bitwise_left_shift(t, 2).tolist() == [12, -12]
    assert bt.bitwise_right_shift(t, bt.tensor([1, 0], dtype=dtype)).tolist() == [1, -3]


def test_shifts_of_bytes_and_bools() -> None:
    t = bt.tensor([200], dtype=bt.uint8)
    assert (t << 1).tolist() == [144]
    assert (t >> 1).tolist() == [100]
    assert (t << 1).dtype is bt.uint8
    assert (bt.tensor([True, False]) << 1).tolist() == [2, 0]
    with pytest.raises(RuntimeError, match="not defined for float32"):
        bt.ones(1) << 1


def test_bools_are_no_numbers_to_a_minus() -> None:
    mask = bt.tensor([True, False])
    refused: list[Callable[[], Any]] = [
        lambda: -mask,
        lambda: mask - mask,
        lambda: mask - 1,
        lambda: 1 - mask,
        lambda: bt.ones(2) - mask,
        lambda: abs(mask),
        lambda: +mask,
        lambda: mask.neg(),
        lambda: bt.sub(mask, mask),
    ]
    for f in refused:
        with pytest.raises(RuntimeError, match="not defined for bools"):
            f()


class Foreign:
    """Answers every operator with its name, on either side."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    setattr(Foreign, f"__r{_name}__", lambda self, other, n=_name: n)
for _name in ("lshift", "rshift", "matmul"):
    setattr(Foreign, f"__r{_name}__", lambda self, other, n=_name: n)
for _name in COMPARISONS:
    setattr(Foreign, f"__{_name}__", lambda self, other, n=_name: n)


@pytest.mark.parametrize("name", [*FLOATS, *BITS, "matmul"])
def test_a_foreign_object_answers_for_itself(name: str) -> None:
    x = bt.tensor([1, 2])
    foreign: Any = Foreign()
    assert binary(name)(x, foreign) == name.rstrip("_")
    assert in_place(name)(x, foreign) == name.rstrip("_")
    for other in ([1, 2], "a", object()):
        with pytest.raises(TypeError, match=r"unsupported operand|an index|not all arg"):
            binary(name)(x, other)


def test_comparisons_with_foreign_objects() -> None:
    x = bt.ones(2)
    mirror = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
    for name in COMPARISONS:
        assert binary(name)(x, Foreign()) == mirror[name]
    for other in ([1, 1], object(), None, "a"):
        assert (x == other) is False
        assert (x != other) is True
        with pytest.raises(TypeError, match="not supported between"):
            x < other  # noqa: B015
    assert x in [x, 1]


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"])
def test_arrays_of_numpy_on_either_side(name: str) -> None:
    f = binary(name)
    for x, array in (
        (bt.tensor([4.0, 9.0]), np.array([2.0, 3.0])),
        (bt.tensor([4, 9]), np.array([2, 3])),
        (bt.tensor([4, 9], dtype=bt.int32), np.array([2.5, 3.0], np.float32)),
        (bt.tensor([4.0, 9.0]), np.array(2.0)),
    ):
        for got, expected in (
            (f(x, array), f(x.numpy(), array)),
            (f(array, x), f(array, x.numpy())),
        ):
            assert isinstance(got, bt.Tensor)
            assert got.numpy().dtype == expected.dtype
            np.testing.assert_array_equal(got.numpy(), expected)
    with pytest.raises(RuntimeError, match="from_numpy"):
        f(bt.ones(2, requires_grad=True), np.ones(2))


def test_comparisons_with_arrays_and_functions_of_numpy() -> None:
    x, array = bt.tensor([1.0, 4.0]), np.array([1.0, 2.0])
    for name in COMPARISONS:
        f = binary(name)
        assert f(x, array).tolist() == f(x.numpy(), array).tolist()
        assert f(array, x).tolist() == f(array, x.numpy()).tolist()
    root = np.sqrt(x)
    assert isinstance(root, bt.Tensor)
    assert root.tolist() == [1.0, 2.0]
    assert isinstance(np.add(x, array), bt.Tensor)
    x += array  # no tensor can be an array in place: a new one, as in PyTorch
    assert x.dtype is bt.float64
    assert (bt.ones(2, 2) @ np.ones(2)).tolist() == [2.0, 2.0]


def test_numbers_of_numpy_are_numbers() -> None:
    x = bt.ones(2)
    for got in (x * np.float64(2), np.float64(2) * x, np.float32(2) * x, x + np.int64(1)):
        assert isinstance(got, bt.Tensor)
        assert got.dtype is bt.float32
        assert got.tolist() == [2.0, 2.0]


def test_reversed_and_powers() -> None:
    assert reversed(bt.tensor([1, 2, 3])).tolist() == [3, 2, 1]
    assert reversed(bt.tensor([[1, 2], [3, 4]])).tolist() == [[3, 4], [1, 2]]
    with pytest.raises(RuntimeError, match="to the power -1"):
        in_place("pow")(bt.tensor([2]), -1)
    assert (2 ** bt.tensor([3, 4])).tolist() == [8, 16]


def test_an_operator_is_one_call_of_python() -> None:
    from calls import python_calls

    x = bt.ones(2)
    assert python_calls(lambda: x + x) == 2  # the lambda, and the operator


def test_logic_takes_numbers_for_their_truth() -> None:
    x, y = bt.tensor([0.0, 2.0, -0.5]), bt.tensor([1, 0, 3])
    assert bt.logical_and(x, y).tolist() == [False, False, True]
    assert bt.logical_or(x, y).tolist() == [True, True, True]
    assert bt.logical_xor(x, y).tolist() == [True, True, False]
    assert bt.logical_not(x).tolist() == [True, False, False]
    with pytest.raises(RuntimeError, match="expected bools"):
        bt.where(x, x, x)
