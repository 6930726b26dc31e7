"""Reading and writing by index, against NumPy on drawn shapes and indices."""

from __future__ import annotations

from typing import Any

import backtrail as bt
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

SHAPES = st.lists(st.integers(0, 5), min_size=0, max_size=4).map(tuple)


def counted(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape)


@st.composite
def basic(draw: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Integers, slices with positive steps, None and ... for an array of this shape."""
    used = draw(st.integers(0, len(shape)))
    dots = draw(st.booleans())
    front = draw(st.integers(0, used)) if dots else used
    items: list[Any] = []
    for k in range(used):
        size = shape[k] if k < front else shape[len(shape) - used + k]
        if k == front and dots:
            items.append(Ellipsis)
        if draw(st.booleans()):
            items.append(None)
        bound = st.none() | st.integers(-size - 2, size + 2)
        if size and draw(st.booleans()):
            items.append(draw(st.integers(-size, size - 1)))
        else:
            items.append(slice(draw(bound), draw(bound), draw(st.none() | st.integers(1, 3))))
    if dots and Ellipsis not in items:
        items.append(Ellipsis)
    return tuple(items)


@st.composite
def advanced(draw: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Basic items with integer arrays that broadcast, or a mask, among them."""
    items: list[Any] = []
    base = draw(st.sampled_from([(), (3,), (2, 1), (2, 3)]))
    at = 0
    while at < len(shape):
        size = shape[at]
        kind = draw(st.sampled_from(["array", "slice", "mask", "stop"]))
        if kind == "stop":
            break
        if kind == "array" and size:
            own = draw(st.sampled_from([base, base[-1:], ()])) if base else ()
            count = int(np.prod(own))
            values = draw(st.lists(st.integers(-size, size - 1), min_size=count, max_size=count))
            items.append(np.array(values, dtype=np.int64).reshape(own))
        elif kind == "mask" and not any(isinstance(i, np.ndarray) for i in items):
            bits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
            items.append(np.array(bits, dtype=bool))
            items += [slice(None)] * (len(shape) - at - 1)
            break
        else:
            items.append(
                slice(
                    draw(st.none() | st.integers(0, size)),
                    None,
                    draw(st.none() | st.integers(1, 2)),
                )
            )
        at += 1
    return tuple(items)


def ours(index: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(bt.tensor(i) if isinstance(i, np.ndarray) else i for i in index)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_basic_reading_and_writing(data: Any) -> None:
    shape = data.draw(SHAPES)
    a = counted(shape)
    index = data.draw(basic(shape))
    x = bt.tensor(a)
    want = a[index]
    assert x[index].shape == want.shape
    np.testing.assert_array_equal(x[index].numpy(), want)
    a[index] = -np.arange(want.size, dtype=float).reshape(want.shape)
    x[index] = bt.tensor(-np.arange(want.size, dtype=float).reshape(want.shape))
    np.testing.assert_array_equal(x.numpy(), a)
    x[index] = 7
    a[index] = 7
    np.testing.assert_array_equal(x.numpy(), a)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_advanced_reading_and_writing(data: Any) -> None:
    shape = data.draw(SHAPES.filter(len))
    a = counted(shape)
    index = data.draw(advanced(shape))
    x = bt.tensor(a)
    want = a[index]
    got = x[ours(index)]
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.numpy(), want)
    a[index] = -1.5
    x[ours(index)] = -1.5
    np.testing.assert_array_equal(x.numpy(), a)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_gradients_of_indexing(data: Any) -> None:
    shape = data.draw(SHAPES.filter(len))
    index = data.draw(advanced(shape))
    x = bt.tensor(counted(shape), requires_grad=True)
    y = x[ours(index)]
    weight = np.arange(y.numel(), dtype=float).reshape(y.shape) + 1
    want = np.zeros(shape)
    np.add.at(want, index, weight)
    y.backward(bt.tensor(weight))
    np.testing.assert_array_equal(x.grad.numpy(), want)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_gradients_of_writing(data: Any) -> None:
    shape = data.draw(SHAPES.filter(len))
    index = data.draw(basic(shape))
    a = counted(shape)
    part = a[index].shape
    x = bt.tensor(a, requires_grad=True)
    v = bt.tensor(np.ones(part), requires_grad=True)
    y = x * 1
    y[index] = v * 2
    weight = counted(shape) + 1
    y.backward(bt.tensor(weight))
    kept = weight.copy()
    kept[index] = 0
    np.testing.assert_array_equal(x.grad.numpy(), kept)
    np.testing.assert_array_equal(v.grad.numpy(), 2 * weight[index])


def test_lists_scalars_and_numpy_indices() -> None:
    a = counted((4, 5))
    x = bt.tensor(a)
    np.testing.assert_array_equal(x[[0, 2]].numpy(), a[[0, 2]])
    np.testing.assert_array_equal(x[:, [1, 1, 0]].numpy(), a[:, [1, 1, 0]])
    np.testing.assert_array_equal(x[np.array([0, 3]), np.array([1, 4])].numpy(), a[[0, 3], [1, 4]])
    assert x[np.int64(1), bt.tensor(2)].item() == a[1, 2]
    assert x[bt.tensor([True, False, True, False])].shape == (2, 5)
    np.testing.assert_array_equal(x[x > 7].numpy(), a[a > 7])
    assert x[[]].shape == (0, 5)
    assert x[...].shape == (4, 5)


def test_a_mask_may_span_dimensions() -> None:
    a = counted((2, 3, 4))
    mask = a[:, :, 0] > 4
    x = bt.tensor(a)
    np.testing.assert_array_equal(x[bt.tensor(mask)].numpy(), a[mask])
    np.testing.assert_array_equal(x[bt.tensor(mask), 1].numpy(), a[mask, 1])
    x[bt.tensor(mask)] = 0
    a[mask] = 0
    np.testing.assert_array_equal(x.numpy(), a)
    with pytest.raises(IndexError, match=r"mask has shape \(3,\); the tensor \(2, 3, 4\)"):
        x[bt.ones(3, dtype=bt.bool)]


def test_uint8_and_int32_indices() -> None:
    x = bt.arange(5) * 10
    assert x[bt.tensor([1, 4], dtype=bt.int32)].tolist() == [10, 40]
    assert x[bt.tensor([-1])].tolist() == [40]
    with pytest.raises(IndexError, match="float32"):
        x[bt.tensor([1.0])]


def test_writing_converts_broadcasts_and_checks() -> None:
    x = bt.zeros(2, 3)
    x[:, 1] = bt.tensor([1, 2])
    x[0] = bt.tensor([[9.0, 9.0, 9.0]])
    assert x.tolist() == [[9, 9, 9], [0, 2, 0]]
    with pytest.raises(RuntimeError, match=r"expand.*\(4,?\)"):
        x[0] = bt.ones(4)
    with pytest.raises(IndexError):
        x[2] = 1
    with pytest.raises((ValueError, RuntimeError), match="step"):
        x[::-1]


def test_writing_a_view_reaches_its_base() -> None:
    x = bt.zeros(3, 4)
    x[1:, ::2][bt.tensor([1, 0]), bt.tensor([0, 1])] = bt.tensor([5.0, 6.0])
    assert x.tolist() == [[0] * 4, [0, 0, 6, 0], [5, 0, 0, 0]]
    x.t()[0] = 1
    assert x[:, 0].tolist() == [1, 1, 1]


def test_duplicate_writes_keep_the_last_and_accumulate_on_request() -> None:
    x = bt.zeros(3)
    x[bt.tensor([1, 1, 1])] = bt.tensor([1.0, 2.0, 3.0])
    assert x.tolist() == [0, 3, 0]
    assert bt.zeros(3).index_add(0, bt.tensor([1, 1]), bt.ones(2)).tolist() == [0, 2, 0]


def test_functions_that_index() -> None:
    x = bt.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    assert bt.take(x, bt.tensor([0, 5])).tolist() == [3, 4]
    assert bt.take_along_dim(x, x.argsort(1), 1).tolist() == [[1, 2, 3], [0, 4, 5]]
    assert x.median().item() == 2
    assert x.median(1).values.tolist() == [2, 4]
    assert x.kthvalue(1, 1).indices.tolist() == [1, 0]
    assert x.masked_select(x > 2).tolist() == [3, 5, 4]
    assert x.nonzero().shape == (5, 2)
    assert bt.where(x > 4)[1].tolist() == [1]
    assert bt.bucketize(bt.tensor([0.5, 2.0]), bt.tensor([1.0, 2.0])).tolist() == [0, 1]
    values, counts = bt.tensor([3, 1, 3]).unique(return_counts=True)
    assert (values.tolist(), counts.tolist()) == ([1, 3], [1, 2])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "bool"])
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 15, 16, 17, 40])
@pytest.mark.parametrize("n", [1, 2, 8, 9, 16, 17, 64, 65])
def test_gather_and_scatter_add_in_rows(n: int, size: int, dtype: str) -> None:
    rng = np.random.default_rng(n)
    p = rng.integers(-9, 9, (3, 11, size)).astype(dtype)
    index = rng.integers(0, size, (3, 11, n))
    x, at = bt.tensor(p), bt.tensor(index)
    assert np.array_equal(bt.gather(x, -1, at).numpy(), np.take_along_axis(p, index, -1))
    for wrong in (size, -1, 2**32):
        bad = index.copy()
        bad[2, 10, n - 1] = wrong
        with pytest.raises(IndexError, match=str(wrong)):
            bt.gather(x, -1, bt.tensor(bad))
        if dtype != "bool":
            with pytest.raises(IndexError, match=str(wrong)):
                bt.scatter_add(x, -1, bt.tensor(bad), bt.zeros(3, 11, n, dtype=x.dtype))
    if dtype == "bool":
        return
    source = rng.integers(-9, 9, (3, 11, n + 2)).astype(dtype)  # of which the last are not used
    expected = p.copy()
    for i, j, k in np.ndindex(index.shape):  # in order, rounded at each step
        expected[i, j, index[i, j, k]] += source[i, j, k]
    assert np.array_equal(bt.scatter_add(x, -1, at, bt.tensor(source)).numpy(), expected)


def test_scatter_add_in_rows_rounds_in_order_and_keeps_the_rest() -> None:
    p = np.array([[1e8, np.nan, -0.0, np.inf]] * 5, dtype=np.float32)
    index = np.array([[0, 0, 0, 3]] * 5)
    source = np.array([[1.0, 1.0, -1e8, 1.0]] * 5, dtype=np.float32)
    got = bt.scatter_add(bt.tensor(p), 1, bt.tensor(index), bt.tensor(source)).numpy()
    expected = p.copy()
    for i, k in np.ndindex(index.shape):
        expected[i, index[i, k]] += source[i, k]
    assert got.tobytes() == expected.tobytes()
