"""Memory shared with NumPy and through DLPack, both ways."""

from __future__ import annotations

import array
import gc
import weakref
import zlib

import backtrail as bt
import numpy as np
import pytest
from backtrail._core import memory_stats

NAMES = ["float32", "float64", "int64", "int32", "uint8", "bool"]


@pytest.mark.parametrize("name", NAMES)
def test_numpy_sees_the_same_memory(name: str) -> None:
    x = bt.ones(3, 4, dtype=getattr(bt, name))
    a = x.numpy()
    assert a.dtype == name
    assert a.ctypes.data == x.data_ptr()
    a[1, 2] = 0
    assert x[1, 2].item() == 0
    x[0, 0] = 0
    assert a[0, 0] == 0
    y = bt.from_numpy(a)
    assert y.data_ptr() == x.data_ptr()
    assert y.dtype is x.dtype


def test_strides_go_across() -> None:
    x = bt.arange(24).reshape(4, 6)
    for view in (x.t(), x[1:, ::2], x.expand(2, 4, 6), x[2, 3], x[:0]):
        np.testing.assert_array_equal(view.numpy().ravel(), view.reshape(-1).tolist())
        assert view.numpy().shape == view.shape
    a = np.arange(24.0).reshape(4, 6)
    for part in (a.T, a[1:, ::2], a[2], a[:0], np.broadcast_to(a, (2, 4, 6))):
        assert bt.from_numpy(part).shape == part.shape
        np.testing.assert_array_equal(bt.from_numpy(part).numpy(), part)
    assert bt.from_numpy(a.T).data_ptr() == a.ctypes.data
    assert bt.from_numpy(a.T).stride() == (1, 6)


def test_memory_outlives_its_maker() -> None:
    a = bt.full((1000,), 3.0).numpy()
    gc.collect()
    assert a.sum() == 3000
    x = bt.from_numpy(np.full(1000, 4.0))
    gc.collect()
    junk = [np.zeros(1000) for _ in range(10)]
    assert x.sum().item() == 4000
    assert len(junk) == 10


def test_memory_is_given_back() -> None:
    gc.collect()
    before = memory_stats()["in_use"]
    for _ in range(10):
        a = bt.ones(10_000).numpy()
        y = bt.from_dlpack(bt.ones(10_000))
        z = np.from_dlpack(bt.ones(10_000))
        c = bt.ones(10_000).__dlpack__()  # a capsule that nobody takes
        del a, y, z, c
    assert memory_stats()["in_use"] == before

    class Array(np.ndarray):
        pass

    a = np.zeros(5).view(Array)
    alive = weakref.ref(a)
    x = bt.from_numpy(a)
    y = x[1:3]
    del a, x
    assert alive() is not None
    del y
    gc.collect()
    assert alive() is None


def test_what_cannot_be_shared() -> None:
    with pytest.raises(RuntimeError, match="requires grad"):
        bt.ones(2, requires_grad=True).numpy()
    assert bt.ones(2, requires_grad=True).numpy(force=True).tolist() == [1, 1]
    assert bt.ones(2, requires_grad=True).detach().numpy().tolist() == [1, 1]
    with pytest.raises(TypeError, match="bfloat16"):
        bt.ones(2, dtype=bt.bfloat16).numpy()
    with pytest.raises(ValueError, match="negative strides"):
        bt.from_numpy(np.arange(4.0)[::-1])
    for kind in ("complex64", "float16", "int16", "uint64", "U3", "datetime64[s]"):
        with pytest.raises((TypeError, ValueError), match=r"format|support|buffer|dtype"):
            bt.from_numpy(np.zeros(2, kind))
    with pytest.raises(TypeError, match="float32"):
        bt.from_numpy(np.zeros(2, ">f4"))
    with pytest.raises((TypeError, BufferError), match=r"buffer|bytes-like|array"):
        bt.from_numpy([1, 2])


def test_read_only_memory_is_copied() -> None:
    a = np.arange(4.0)
    a.setflags(write=False)
    x = bt.from_numpy(a)
    x[0] = 9
    assert a[0] == 0
    assert x.tolist() == [9, 1, 2, 3]
    b = np.broadcast_to(np.arange(3.0), (2, 3))
    assert bt.from_numpy(b).tolist() == b.tolist()


def test_numpy_functions_and_operators() -> None:
    x = bt.tensor([1.0, 4.0])
    assert np.asarray(x).tolist() == [1, 4]
    assert np.array(x, dtype=np.float64).dtype == np.float64
    assert np.array(x, copy=True).ctypes.data != x.data_ptr()
    for total in (np.ones(2) + x, x + np.ones(2)):
        assert isinstance(total, bt.Tensor)
        assert total.tolist() == [2, 5]
    assert isinstance(x * np.float32(2), bt.Tensor)
    assert (np.float64(2) * x).tolist() == [2, 8]
    assert np.sqrt(x.numpy()).tolist() == [1, 2]
    np.testing.assert_array_equal(x, [1, 4])


@pytest.mark.parametrize("name", NAMES)
def test_dlpack_round_trip(name: str) -> None:
    x = bt.ones(3, 4, dtype=getattr(bt, name)).t()
    y = bt.from_dlpack(x)
    assert y.data_ptr() == x.data_ptr()
    assert (y.shape, y.stride(), y.dtype) == (x.shape, x.stride(), x.dtype)
    a = np.from_dlpack(x)
    assert a.ctypes.data == x.data_ptr()
    assert bt.from_dlpack(np.ones((2, 3), name)).tolist() == np.ones((2, 3), name).tolist()
    assert x.__dlpack_device__() == (1, 0)


def test_dlpack_offsets_bfloat16_and_used_capsules() -> None:
    x = bt.arange(10)[3:]
    assert bt.from_dlpack(x).tolist() == list(range(3, 10))
    assert bt.from_dlpack(bt.ones(2).bfloat16()).dtype is bt.bfloat16
    capsule = bt.to_dlpack(x)
    bt.from_dlpack(capsule)
    with pytest.raises(TypeError, match="unused"):
        bt.from_dlpack(capsule)
    with pytest.raises(TypeError, match="dltensor"):
        bt.from_dlpack(object())
    with pytest.raises(RuntimeError, match="requires grad"):
        bt.from_dlpack(bt.ones(1, requires_grad=True))
    with pytest.raises((TypeError, ValueError), match=r"negative|support"):
        bt.from_dlpack(np.arange(4.0)[::-1])


def test_python_buffers() -> None:
    x = bt.arange(6, dtype=bt.int32).reshape(2, 3)
    view = memoryview(x)
    assert (view.format, view.shape, view.itemsize) == ("i", (2, 3), 4)
    view[1, 2] = 70
    assert x[1, 2].item() == 70
    values = array.array("d", [1.0, 2.0])
    assert bt.from_numpy(values).tolist() == [1, 2]
    assert bt.frombuffer(b"\x01\x00\x00\x00\x02\x00\x00\x00", dtype=bt.int32).tolist() == [1, 2]
    assert bt.frombuffer(bytearray(range(8)), dtype=bt.uint8, count=2, offset=3).tolist() == [3, 4]
    with pytest.raises(BufferError, match="contiguous"):
        zlib.crc32(x.t())
    assert zlib.crc32(x) == zlib.crc32(x.numpy().tobytes())


def test_a_shared_buffer_survives_a_change_of_data() -> None:
    x = bt.ones(1000)
    a = x.numpy()
    x.data = bt.zeros(3)
    gc.collect()
    assert a.sum() == 1000


def test_bools_that_are_neither_0_nor_1_are_refused() -> None:
    odd = np.array([[0, 1], [2, 1]], np.uint8).view(bool)
    for bools in (odd, odd.T, odd[::-1].copy()):
        with pytest.raises(ValueError, match="bytes other than 0 and 1"):
            bt.from_numpy(bools)
    assert bt.from_numpy(odd[:, 1]).tolist() == [True, True]
