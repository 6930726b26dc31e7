"""Operands that lie in memory in every way: each has a road of its own through the loops."""

from __future__ import annotations

import itertools

import backtrail as bt
import numpy as np
import pytest

SHAPES = (
    (1, 1),
    (3, 5),
    (40, 17),
    (17, 300),
    (300, 17),
    (70, 64),
    (33, 1024),
    (9, 130),
    (130, 2100),
)
LAYOUTS = (
    "dense",
    "transposed",
    "row",
    "column",
    "column apart",
    "number",
    "every other",
    "shifted",
)


def laid_out(values: np.ndarray, layout: str) -> tuple[bt.Tensor, np.ndarray]:
    """A tensor that broadcasts to the shape of `values` and lies as named, and what it holds."""
    rows, columns = values.shape
    if layout == "transposed":
        return bt.tensor(values.T.copy()).T, values
    if layout == "row":
        return bt.tensor(values[:1].copy())[0], values[:1]
    if layout == "column":
        return bt.tensor(values[:, :1].copy()), values[:, :1]
    if layout == "column apart":
        return bt.tensor(values)[:, :1], values[:, :1]
    if layout == "number":
        return bt.tensor(values[0, 0].item(), dtype=bt.from_numpy(values).dtype), values[:1, :1]
    if layout == "every other":
        wide = np.zeros((rows, 2 * columns), values.dtype)
        wide[:, ::2] = values
        return bt.tensor(wide)[:, ::2], values
    if layout == "shifted":
        wide = np.zeros((rows, columns + 3), values.dtype)
        wide[:, 1:-2] = values
        return bt.tensor(wide)[:, 1:-2], values
    return bt.tensor(values), values


def numbers(shape: tuple[int, int], dtype: str, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9, 9, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_operands(shape: tuple[int, int], dtype: str) -> None:
    a, b = numbers(shape, dtype, 0), numbers(shape, dtype, 1)
    for first, second in itertools.product(LAYOUTS, LAYOUTS):
        x, p = laid_out(a, first)
        y, q = laid_out(b, second)
        assert np.array_equal((x - y).numpy(), (p - q).reshape((x - y).shape)), (first, second)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_matrix_with_row_or_column(name: str, dtype: str) -> None:
    ours, theirs = getattr(bt, name), getattr(np, name)
    for rows, columns in itertools.product((1, 2, 5, 40), (7, 8, 9, 15, 16, 17, 31, 33, 48, 100)):
        values = np.random.default_rng(columns).standard_normal((rows, columns)).astype(dtype)
        x = bt.tensor(values)
        for layout in ("row", "column", "column apart"):
            y, q = laid_out(values + 3, layout)
            assert np.array_equal(ours(x, y).numpy(), theirs(values, q)), (layout, columns)
            assert np.array_equal(ours(y, x).numpy(), theirs(q, values)), (layout, columns)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_into_every_layout(shape: tuple[int, int]) -> None:
    a, b = numbers(shape, "float32", 0), numbers(shape, "float32", 1)
    for target, source in itertools.product(("transposed", "every other", "shifted"), LAYOUTS):
        x, p = laid_out(a, target)
        y, q = laid_out(b, source)
        assert np.array_equal(x.add_(y).numpy(), p + q), (target, source)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mask_and_two_types(shape: tuple[int, int]) -> None:
    mask, a, b = numbers(shape, "bool", 0), numbers(shape, "float32", 1), numbers(shape, "int64", 2)
    for first, second in itertools.product(LAYOUTS, LAYOUTS):
        m, n = laid_out(mask, first)
        x, p = laid_out(a, second)
        y, q = laid_out(b, "transposed")
        assert np.array_equal(
            bt.where(m, x, 2.0 * x).numpy().reshape(np.broadcast(n, p).shape), np.where(n, p, 2 * p)
        ), (first, second)
        assert np.array_equal((x + y).numpy(), p + q), second


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_copies(shape: tuple[int, int], dtype: str) -> None:
    values = numbers(shape, dtype, 0)
    for layout in LAYOUTS:
        x, p = laid_out(values, layout)
        dense = x.expand(shape).contiguous()
        assert dense.is_contiguous()
        assert np.array_equal(dense.numpy(), np.broadcast_to(p, shape)), layout
        assert np.array_equal(x.expand(shape).T.contiguous().numpy(), np.broadcast_to(p, shape).T)


def test_four_dimensions() -> None:
    x = bt.randn(3, 5, 70, 33)
    p = x.numpy()
    for order in itertools.permutations(range(4)):
        assert np.array_equal(x.permute(order).contiguous().numpy(), p.transpose(order)), order
        y = bt.randn(*(p.shape[i] for i in order))
        assert np.array_equal((y + x.permute(order)).numpy(), y.numpy() + p.transpose(order)), order


@pytest.mark.parametrize("columns", [1, 2, 7, 8, 9, 16, 31, 33, 64, 100, 1025])
def test_rows_that_are_moved(columns: int) -> None:
    x = bt.randn(37, columns)
    p = x.numpy()
    index = np.random.default_rng(0).integers(0, columns, 19)
    chosen = np.random.default_rng(1).integers(0, columns, (37, 5))
    parts, arrays = (x, x[:, :0], x[:, :1], x), (p, p[:, :1], p)
    assert np.array_equal(bt.cat(parts, 1).numpy(), np.concatenate(arrays, 1))
    assert np.array_equal(bt.cat((x, x[:, :0], x, x), 1).numpy(), np.concatenate((p, p, p), 1))
    for shift in (0, 1, columns // 2, -1):
        assert np.array_equal(bt.roll(x, shift, 1).numpy(), np.roll(p, shift, 1))
    assert np.array_equal(bt.index_select(x, 1, bt.tensor(index)).numpy(), p[:, index])
    assert np.array_equal(
        bt.gather(x, 1, bt.tensor(chosen)).numpy(), np.take_along_axis(p, chosen, 1)
    )
    with pytest.raises(IndexError, match=str(columns)):
        bt.gather(x, 1, bt.tensor(np.where(np.arange(5) == 4, columns, chosen)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 3, 16, 17, 32, 33, 60])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 12, 13, 16, 17, 60, 64, 200, 500, 5000])
@pytest.mark.parametrize("dim", [0, 1])
def test_topk_and_sort_along_each_dimension(dim: int, n: int, k: int, dtype: str) -> None:
    k = min(k, n)
    shape = (n, 19) if dim == 0 else (19, n)
    p = np.random.default_rng(0).integers(-50, 50, shape).astype(dtype)  # with ties
    p.flat[:: max(3, p.size // 7)] = np.nan
    x = bt.tensor(p)
    order = np.argsort(np.where(np.isnan(p), np.inf, p), axis=dim, kind="stable")
    values, indices = bt.sort(x, dim, stable=True)
    assert np.array_equal(indices.numpy(), order)
    for largest in (True, False):
        values, indices = bt.topk(x, k, dim, largest)
        high = np.where(np.isnan(p), np.inf, p)
        expected = np.sort(-high if largest else high, axis=dim).take(range(k), dim)
        got = np.where(np.isnan(values.numpy()), np.inf, values.numpy())
        assert np.array_equal(-got if largest else got, expected)
        taken = np.take_along_axis(p, indices.numpy(), dim)
        assert np.array_equal(taken, values.numpy(), equal_nan=True)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
def test_searchsorted(n: int, right: bool) -> None:
    rng = np.random.default_rng(0)
    s = np.sort(rng.integers(0, 50, n)).astype("float32")
    v = rng.integers(-5, 55, (11, 13)).astype("float32")
    expected = np.searchsorted(s, v, "right" if right else "left")
    assert np.array_equal(
        bt.searchsorted(bt.tensor(s), bt.tensor(v), right=right).numpy(), expected
    )
    with_nan = np.append(s, [np.nan, np.nan]).astype("float32")
    v[0, 0] = np.inf
    got = bt.searchsorted(bt.tensor(with_nan), bt.tensor(v), right=right).numpy()
    assert np.array_equal(got, np.searchsorted(with_nan, v, "right" if right else "left"))


def test_outer_products() -> None:
    for m, n in ((1, 1), (3, 500), (500, 3), (400, 515), (1000, 64), (5000, 130)):
        a, b = bt.randn(m, 1), bt.randn(1, n)
        a[0, 0] = float("inf")
        assert np.array_equal((a @ b).numpy(), a.numpy() * b.numpy())
        assert np.array_equal((b.T @ a.T).numpy(), (a.numpy() * b.numpy()).T)
