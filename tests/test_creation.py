"""Functions that make tensors."""

from __future__ import annotations

from typing import Any

import backtrail as bt
import numpy as np
import pytest


def test_dtype_of_python_data() -> None:
    cases: list[tuple[Any, Any]] = [
        (1, bt.int64),
        (True, bt.bool),
        (1.0, bt.float32),
        ([1, 2.5], bt.float32),
        ([True, 2], bt.int64),
        ([], bt.float32),
        ([[], []], bt.float32),
        ((1, 2), bt.int64),
        (range(3), bt.int64),
        ([bt.tensor(1), bt.tensor(2)], bt.int64),
        ([bt.tensor(1.0, dtype=bt.float64)], bt.float64),
        (np.float64(1.5), bt.float64),
        (np.float32(1.5), bt.float32),
        (np.int32(3), bt.int32),
        (np.zeros(2), bt.float64),
        (np.zeros(2, np.float16), bt.float32),
        (np.zeros(2, np.int16), bt.int32),
        (np.zeros(2, bool), bt.bool),
        ([np.float32(1.0), 2.0], bt.float32),
        ([np.arange(2), np.arange(2)], bt.int64),
    ]
    for data, want in cases:
        assert bt.tensor(data).dtype is want, data
        assert bt.tensor(data, dtype=bt.float64).dtype is bt.float64


def test_tensor_copies() -> None:
    a = np.ones(3)
    x = bt.tensor(a)
    a[0] = 9
    assert x.tolist() == [1, 1, 1]
    y = bt.tensor(x)
    y[0] = 5
    assert x[0].item() == 1
    assert bt.as_tensor(x) is x
    assert bt.tensor([1.0], requires_grad=True).requires_grad
    assert bt.tensor(a[::-1]).tolist() == [1, 1, 9]
    assert bt.tensor(np.array([1.0, 2.0], dtype=">f8")).tolist() == [1, 2]


def test_shapes_of_nested_data() -> None:
    assert bt.tensor([[[1], [2]]]).shape == (1, 2, 1)
    assert bt.tensor([[], []]).shape == (2, 0)
    for ragged in ([[1], [2, 3]], [1, [2]], [[1], 2], [[[1]], [[1, 2]]]):
        with pytest.raises(ValueError, match=r"length|sequence"):
            bt.tensor(ragged)
    for wrong in ("text", [None], {1: 2}, [object()], 1j, b"x"):
        with pytest.raises(TypeError, match="tensor"):
            bt.tensor(wrong)
    with pytest.raises(ValueError, match="64 bits"):
        bt.tensor(2**70)


def test_class_constructors() -> None:
    assert bt.Tensor([1, 2]).dtype is bt.float32
    assert bt.Tensor(2, 3).shape == (2, 3)
    assert bt.FloatTensor([1, 2]).dtype is bt.float32
    assert bt.LongTensor([1, 2]).dtype is bt.int64
    assert bt.is_tensor(bt.ones(1))
    assert not bt.is_tensor([1])


@pytest.mark.parametrize("dtype", [bt.float32, bt.float64, bt.int64, bt.int32, bt.uint8, bt.bool])
def test_fills(dtype: Any) -> None:
    for shape in ((), (0,), (3,), (2, 3), (17, 65)):
        assert bt.zeros(*shape, dtype=dtype).tolist() == np.zeros(shape).tolist()
        assert bt.ones(shape, dtype=dtype).tolist() == np.ones(shape).tolist()
        assert bt.full(shape, 1, dtype=dtype).shape == shape
        assert bt.empty(shape, dtype=dtype).dtype is dtype
    x = bt.ones(2, 3, dtype=dtype)
    for made in (bt.zeros_like(x), bt.ones_like(x), bt.empty_like(x), bt.full_like(x, 1)):
        assert made.shape == x.shape
        assert made.dtype is dtype
    assert x.new_zeros(4).dtype is dtype
    assert x.new_tensor([1]).dtype is dtype
    assert x.new_full((2,), 1).tolist() == [1, 1]


def test_full_takes_its_dtype_from_the_value() -> None:
    assert bt.full((2,), 3).dtype is bt.int64
    assert bt.full((2,), 3.0).dtype is bt.float32
    assert bt.full((2,), True).dtype is bt.bool
    assert bt.zeros(2, 3, requires_grad=True).requires_grad
    assert bt.zeros([2, 3]).shape == (2, 3)
    assert bt.zeros(bt.Size([2])).shape == (2,)
    assert bt.full((), -0.0).item() == 0
    assert np.signbit(bt.full((1,), -0.0).item())


@pytest.mark.parametrize(
    "args",
    [
        (5,),
        (2, 7),
        (2, 9, 3),
        (9, 2, -3),
        (0,),
        (3, 3),
        (0.0, 1.0, 0.1),
        (1.0, 0.0, -0.25),
        (2.5,),
        (-3, 4, 2),
    ],
)
def test_arange(args: tuple[Any, ...]) -> None:
    want = np.arange(*args)
    got = bt.arange(*args)
    assert got.dtype is (bt.int64 if want.dtype.kind == "i" else bt.float32)
    assert got.shape == want.shape
    np.testing.assert_allclose(bt.arange(*args, dtype=bt.float64).numpy(), want, atol=1e-15)


def test_arange_errors() -> None:
    with pytest.raises(RuntimeError, match="step must not be 0"):
        bt.arange(0, 5, 0)
    with pytest.raises(RuntimeError, match="never arrives"):
        bt.arange(5, 0)
    assert bt.arange(2**53 + 1, 2**53 + 3).tolist() == [2**53 + 1, 2**53 + 2]


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 100])
def test_linspace(steps: int) -> None:
    got = bt.linspace(-1.5, 3, steps, dtype=bt.float64)
    np.testing.assert_allclose(got.numpy(), np.linspace(-1.5, 3, steps), rtol=1e-15, atol=1e-15)
    if steps > 1:
        assert got[-1].item() == 3
    with pytest.raises(RuntimeError, match="steps"):
        bt.linspace(0, 1, -1)


def test_logspace_eye_meshgrid_and_triangles() -> None:
    np.testing.assert_allclose(bt.logspace(0, 3, 4).numpy(), [1, 10, 100, 1000], rtol=1e-6)
    for n, m in ((3, None), (2, 4), (4, 2), (0, 3)):
        assert bt.eye(n, m).tolist() == np.eye(n, m).tolist()
    for indexing in ("ij", "xy"):
        got = bt.meshgrid(bt.arange(3), bt.arange(4), bt.arange(2), indexing=indexing)
        want = np.meshgrid(np.arange(3), np.arange(4), np.arange(2), indexing=indexing)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a.numpy(), b)
    for offset in (-1, 0, 1):
        assert (
            bt.tril_indices(3, 4, offset).tolist()
            == np.stack(np.tril_indices(3, offset, 4)).tolist()
        )
        assert (
            bt.triu_indices(3, 4, offset).tolist()
            == np.stack(np.triu_indices(3, offset, 4)).tolist()
        )


def test_memory_is_aligned_and_reused() -> None:
    for n in (1, 7, 1000, 100_003):
        assert bt.empty(n).data_ptr() % 64 == 0
    stats = bt._core.memory_stats()
    x = bt.empty(1000)
    assert bt._core.memory_stats()["in_use"] > stats["in_use"]
    del x
    assert bt._core.memory_stats()["in_use"] == stats["in_use"]


def test_only_the_cpu() -> None:
    assert bt.zeros(1, device="cpu").device == bt.device("cpu")
    for make in (bt.zeros, bt.ones, bt.empty):
        with pytest.raises(RuntimeError, match="CPU only"):
            make(1, device="cuda")
