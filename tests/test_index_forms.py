"""Every kind of index, read and written, against NumPy and PyTorch; gather and its like."""

from __future__ import annotations

import random
import warnings
from typing import Any

import backtrail as bt
import numpy as np
import pytest


def draw(rng: random.Random, shape: tuple[int, ...], plain: bool) -> list[Any]:
    """Parts of an index of an array, as Python and NumPy objects; `plain`: at most one array."""
    parts: list[Any] = []
    left = list(shape)
    arrays = 0
    length = rng.choice((1, 2, 3))
    while left and rng.random() < 0.85:
        size = left[0]
        kind = rng.choice(("int", "slice", "slice", "array", "list", "mask", "none", "range", "np"))
        if kind in ("array", "list", "mask", "range") and plain and arrays:
            kind = "slice"
        if kind == "none":
            parts.append(None)
            continue
        left.pop(0)
        arrays += kind in ("array", "list", "mask", "range")
        if kind in ("int", "np"):
            i = rng.randrange(-size, size)
            parts.append(i if kind == "int" else np.int64(i))
        elif kind == "slice":
            bounds = [rng.choice((None, *range(-size - 1, size + 2))) for _ in range(2)]
            parts.append(slice(*bounds, rng.choice((None, 1, 2, 3))))
        elif kind == "mask":
            mask = np.zeros(size, bool)
            mask[rng.sample(range(size), min(length, size))] = True
            parts.append(mask if mask.sum() == length else slice(None))
        elif kind == "range":
            parts.append(range(min(length, size)) if length <= size else 0)
        else:
            index = [rng.randrange(-size, size) for _ in range(length)]
            parts.append(index if kind == "list" else np.array(index))
    if rng.random() < 0.3:  # in the middle it stands for nothing, so all must have been drawn
        parts.insert(len(parts) if left else rng.randrange(len(parts) + 1), Ellipsis)
    return parts


def ours(parts: list[Any], rng: random.Random) -> Any:
    """The index with some arrays as tensors; alone, an index of one part need not be a tuple."""
    made = [bt.tensor(p) if isinstance(p, np.ndarray) and rng.random() < 0.7 else p for p in parts]
    return tuple(made)


@pytest.mark.parametrize("seed", range(6))
def test_random_indices_against_numpy(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(150):
        shape = tuple(rng.choice((1, 2, 3, 4)) for _ in range(rng.randrange(1, 5)))
        a = np.arange(int(np.prod(shape))).reshape(shape)
        parts = draw(rng, shape, plain=True)
        # A number beside an array is an array to NumPy, which moves its dimension; not to PyTorch.
        has_array = any(isinstance(p, (np.ndarray, list, range)) for p in parts)
        if has_array:
            parts = [
                slice(p, p + 1 or None) if isinstance(p, (int, np.int64)) else p for p in parts
            ]
        index = ours(parts, rng)
        x = bt.tensor(a)
        want = a[tuple(parts)]
        assert x[index].tolist() == want.tolist(), (shape, parts)
        b = a.copy()
        values = -np.arange(want.size).reshape(want.shape) - 1
        b[tuple(parts)] = values
        x[index] = bt.tensor(values)
        assert x.tolist() == b.tolist(), (shape, parts)
        b[tuple(parts)] = 7
        x[index] = 7
        assert x.tolist() == b.tolist(), (shape, parts)


@pytest.mark.peer
@pytest.mark.parametrize("seed", range(6))
def test_random_indices_against_pytorch(seed: int) -> None:
    import torch

    rng = random.Random(100 + seed)
    for _ in range(200):
        shape = tuple(rng.choice((1, 2, 3, 4)) for _ in range(rng.randrange(0, 4)))
        parts = draw(rng, shape, plain=False)
        extra = rng.choice((None, True, False, "bool tensor", "byte tensor", "byte mask"))
        if extra == "byte mask" and shape:
            parts[:1] = [np.array([rng.randrange(2) for _ in range(shape[0])], np.uint8)]
        elif isinstance(extra, bool):
            parts.insert(rng.randrange(len(parts) + 1), extra)
        elif extra in ("bool tensor", "byte tensor"):
            kind = bool if extra == "bool tensor" else np.uint8
            parts.insert(0, np.array(rng.randrange(2), kind))

        def index(module: Any, parts: list[Any] = parts) -> Any:
            return tuple(module.tensor(p) if isinstance(p, np.ndarray) else p for p in parts)

        a = np.arange(int(np.prod(shape))).reshape(shape)
        x, t = bt.tensor(a), torch.tensor(a)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                want = t[index(torch)]
            except Exception as error:
                with pytest.raises(type(error)):
                    x[index(bt)]
                continue
            assert x[index(bt)].tolist() == want.tolist(), (shape, parts)
            assert tuple(x[index(bt)].shape) == tuple(want.shape), (shape, parts)
            if not any(isinstance(p, (list, np.ndarray)) for p in parts):  # no place comes twice
                t[index(torch)] = -torch.arange(want.numel()).reshape(want.shape)
                x[index(bt)] = -bt.arange(want.numel()).reshape(tuple(want.shape))
            try:
                t[index(torch)] = 77
            except RuntimeError:  # its masked_fill_ refuses the masks of uint8 that it reads
                continue
            x[index(bt)] = 77
        assert x.tolist() == t.tolist(), (shape, parts)


def test_conditions() -> None:
    x = bt.tensor(3.0)
    x[x > 10] = 10.0
    assert x.item() == 3
    x[x > 2] = 10.0
    assert x.item() == 10
    y = bt.zeros(3)
    for no in (False, bt.tensor(False), bt.tensor(0, dtype=bt.uint8)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y[no] = 5.0
            assert y.tolist() == [0, 0, 0]
            assert y[no].shape == (0, 3)
    assert y[True].shape == (1, 3)
    assert y[:, None][:, True].shape == (3, 1, 1)
    assert bt.tensor(5)[bt.tensor(True)].tolist() == [5]
    assert bt.ones(3, 4)[True, [0, 1]].shape == (2, 4)


def test_masks_of_uint8_and_lists_of_sequences_warn() -> None:
    x = bt.tensor([1.0, -2.0, 3.0])
    with pytest.warns(UserWarning, match="uint8"):
        assert x[(x > 0).byte()].tolist() == [1, 3]
    with pytest.warns(UserWarning, match="uint8"):
        x[(x > 0).byte()] = 0.0
    assert x.tolist() == [0, -2, 0]
    with pytest.warns(UserWarning, match="tuple"):
        assert bt.arange(12).reshape(3, 4)[[[0, 1], [1, 0]]].tolist() == [1, 4]
    with pytest.raises(RuntimeError, match="masked_select"):
        x.masked_select(bt.ones(3, dtype=bt.uint8))


def test_a_number_in_a_tensor_gives_a_view() -> None:
    x = bt.arange(12).reshape(3, 4)
    x[bt.tensor(1)][0] = 99
    assert x[1, 0].item() == 99
    assert x[bt.tensor(1) : bt.tensor(2)].shape == (1, 4)


def test_wrong_indices() -> None:
    x = bt.ones(3, 4)
    for index in (1.5, {}, object(), bt.tensor([1.5]), 3, [3], (0, 0, 0), bt.ones(2, 2) > 0):
        with pytest.raises(IndexError, match="index"):
            x[index]
    for index in ("a", slice("a", 2), slice(1.0, 2)):
        with pytest.raises(TypeError):
            x[index]


def test_results_are_copies() -> None:
    x = bt.ones(3)
    for copied in (
        x.repeat(1),
        x.tile((1,)),
        x.tile(()),
        bt.nn.functional.pad(x, (0, 0)),
        bt.nn.functional.pad(x, (-1, 0)),
        x.to(bt.float32, False, True),
        x.to("cpu", bt.float32, False, True),
        x.to(copy=True),
    ):
        copied.zero_()
        assert x.tolist() == [1, 1, 1]
    y = bt.zeros(3).repeat(2, 1)
    y[0, 0] = 7
    assert y.tolist() == [[7, 0, 0], [0, 0, 0]]


def test_gather_scatter_forms() -> None:
    x, at = bt.tensor([1.0, 2.0, 3.0]), bt.tensor([0, 2, 0], dtype=bt.int32)
    assert x.gather(0, at).tolist() == [1, 3, 1]
    two = bt.tensor([2.0, 3.0, 5.0])
    assert x.scatter(0, at, two, reduce="add").tolist() == [8, 2, 6]
    assert x.scatter(0, at, two, reduce="multiply").tolist() == [10, 2, 9]
    assert x.clone().scatter_(0, at, value=2.0, reduce="multiply").tolist() == [4, 2, 6]
    assert x.scatter_add(0, at, two).tolist() == [8, 2, 6]
    with pytest.raises(RuntimeError, match="reduce"):
        x.scatter(0, at, two, reduce="mean")
    assert bt.repeat_interleave(bt.tensor([1, 0, 2])).tolist() == [0, 2, 2]
    assert x.repeat_interleave(bt.tensor([2]), output_size=6).tolist() == [1, 1, 2, 2, 3, 3]
    for bad in (bt.tensor([1, 0]), bt.tensor([1, -1, 1]), bt.tensor([1.0, 1, 1])):
        with pytest.raises(RuntimeError, match="repeats"):
            x.repeat_interleave(bad)
    m = bt.tensor([[5, 1], [2, 8]])
    assert bt.take_along_dim(m, bt.tensor([3, 0])).tolist() == [8, 5]
    assert m.take_along_dim(bt.tensor([[-1], [0]]), dim=1).tolist() == [[1], [2]]
    assert bt.take_along_dim(m[:1], bt.tensor([[1], [0]]), 1).tolist() == [[1], [5]]
    s = bt.tensor([5, 1, 3])
    got = bt.searchsorted(s, bt.tensor([2, 5]), sorter=s.argsort(), out_int32=True)
    assert (got.tolist(), got.dtype) == ([1, 2], bt.int32)
    with pytest.raises(RuntimeError, match="side"):
        bt.searchsorted(s, 1, side="left", right=True)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("shape", [(6, 2), (2, 6), (0, 2), (3, 1, 2), (1, 5)])
def test_unique_slices(dim: int, shape: tuple[int, ...]) -> None:
    a = np.random.default_rng(0).integers(0, 2, shape)
    if not a.size and dim != 0:
        dim = 0
    want = np.unique(a, axis=dim, return_inverse=True, return_counts=True)
    got = bt.unique(bt.tensor(a), dim=dim, return_inverse=True, return_counts=True)
    assert got[0].shape == want[0].shape
    for g, w in zip(got, want, strict=True):
        assert g.tolist() == w.reshape(tuple(g.shape)).tolist()


def test_no_dimensions() -> None:
    x = bt.tensor(3.0)
    assert [i.tolist() for i in x.nonzero(as_tuple=True)] == [[0]]
    assert x.masked_select(bt.tensor(True)).tolist() == [3]
    assert x.unfold(0, 1, 1).tolist() == [3]
    assert x.movedim(0, 0).item() == 3
    assert bt.hstack([x, x]).tolist() == [3, 3]
    assert [y.tolist() for y in bt.atleast_1d(x, bt.ones(2))] == [[3], [1, 1]]
    assert bt.atleast_1d(x).tolist() == [3]
    for call in (lambda: x.chunk(1), lambda: x.narrow(0, 0, 1), lambda: x.split(1)):
        with pytest.raises(RuntimeError, match="at least one dimension"):
            call()
    assert bt.broadcast_shapes(2, (3, 1), ()) == (3, 2)
    assert bt.broadcast_shapes() == ()
    for dims in ((5, 0), ((0, 0), (0, 1))):
        with pytest.raises((IndexError, RuntimeError), match="movedim"):
            bt.ones(2, 3).movedim(*dims)


def test_numpys_integers_as_numbers() -> None:
    x, n = bt.tensor([1, 2]), np.int64(2)
    assert x.repeat(n).tolist() == x.repeat(bt.tensor(2)).tolist() == [1, 2, 1, 2]
    assert x.roll(np.int64(1), np.int64(0)).tolist() == x.roll(bt.tensor(1)).tolist() == [2, 1]
    assert len(x.split(bt.tensor(1))) == len(x.chunk(n)) == len(x.chunk(bt.tensor(2))) == 2
    assert x.expand(n, -1).shape == (2, 2)
