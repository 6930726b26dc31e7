"""Every creation function with every form of dtype, size and device; numbers that do not fit."""

from __future__ import annotations

import array
import copy
import ctypes
import pickle
from typing import Any

import backtrail as bt
import numpy as np
import pytest

SIZED = {
    "zeros": bt.zeros,
    "ones": bt.ones,
    "empty": bt.empty,
    "rand": bt.rand,
    "randn": bt.randn,
    "new_zeros": bt.ones(1).new_zeros,
    "new_ones": bt.ones(1).new_ones,
    "new_empty": bt.ones(1).new_empty,
}
X = bt.ones(2, 3)
CALLS: dict[str, Any] = {
    **{name: lambda f=f, **kw: f(2, 3, **kw) for name, f in SIZED.items()},
    "full": lambda **kw: bt.full((2, 3), 1, **kw),
    "new_full": lambda **kw: X.new_full((2, 3), 1, **kw),
    "new_tensor": lambda **kw: X.new_tensor([1], **kw),
    "tensor": lambda **kw: bt.tensor([1.0], **kw),
    "as_tensor": lambda **kw: bt.as_tensor([1.0], **kw),
    "asarray": lambda **kw: bt.asarray([1.0], **kw),
    "arange": lambda **kw: bt.arange(3, **kw),
    "linspace": lambda **kw: bt.linspace(0, 1, 3, **kw),
    "logspace": lambda **kw: bt.logspace(0, 1, 3, **kw),
    "eye": lambda **kw: bt.eye(2, **kw),
    "randint": lambda **kw: bt.randint(3, (2,), **kw),
    "randperm": lambda **kw: bt.randperm(3, **kw),
    "zeros_like": lambda **kw: bt.zeros_like(X, **kw),
    "ones_like": lambda **kw: bt.ones_like(X, **kw),
    "empty_like": lambda **kw: bt.empty_like(X, **kw),
    "rand_like": lambda **kw: bt.rand_like(X, **kw),
    "randn_like": lambda **kw: bt.randn_like(X, **kw),
    "full_like": lambda **kw: bt.full_like(X, 2, **kw),
    "randint_like": lambda **kw: bt.randint_like(X, 2, **kw),
    "Tensor.to": lambda **kw: X.to(**kw),
}
WITH_GRAD = sorted(CALLS.keys() - {"as_tensor", "Tensor.to"})


@pytest.mark.parametrize("name", CALLS)
def test_dtypes_of_python_and_devices(name: str) -> None:
    call = CALLS[name]
    assert call(dtype=float).dtype is bt.float64
    assert call(dtype=bt.float32).dtype is bt.float32
    for device in ("cpu", "cpu:0", bt.device("cpu"), None):
        call(device=device)
    for device in ("cuda", "cuda:1", "meta", "nonsense", bt.device("cuda")):
        with pytest.raises(RuntimeError, match="device"):
            call(device=device)
    with pytest.raises((TypeError, RuntimeError)):
        call(device=1.5)
    if name != "Tensor.to":
        for wrong in ("float32", complex, np.float32):
            with pytest.raises(TypeError, match="dtype"):
                call(dtype=wrong)


@pytest.mark.parametrize("name", WITH_GRAD)
def test_gradients_are_asked_of_floats_only(name: str) -> None:
    assert CALLS[name](dtype=bt.float64, requires_grad=True).requires_grad
    if name not in ("rand", "randn", "rand_like", "randn_like"):
        with pytest.raises(RuntimeError, match="floating point"):
            CALLS[name](dtype=int, requires_grad=True)


@pytest.mark.parametrize("name", SIZED)
def test_sizes(name: str) -> None:
    f = SIZED[name]
    for size in ((2, 3), [2, 3], bt.Size([2, 3]), (np.int64(2), bt.tensor(3))):
        assert f(size).shape == (2, 3)
        assert f(*size).shape == (2, 3)
        assert f(size=size).shape == (2, 3)
    assert f(np.int64(2)).shape == f(bt.tensor(2)).shape == (2,)
    assert f(()).shape == ()
    for wrong in (2.0, (2.0,), "a", None, (2, None)):
        with pytest.raises(TypeError, match=r"sizes must be ints|Tensor"):
            f(wrong)
    with pytest.raises(RuntimeError):
        f(-1)
    with pytest.raises(TypeError, match="twice"):
        f(2, size=(2,))


FILLS: dict[str, Any] = {
    "full": lambda v, t: bt.full((2,), v, dtype=t),
    "full_like": lambda v, t: bt.full_like(bt.zeros(2, dtype=t), v),
    "new_full": lambda v, t: bt.zeros(1, dtype=t).new_full((2,), v),
    "tensor": lambda v, t: bt.tensor([v], dtype=t),
    "fill_": lambda v, t: bt.zeros(2, dtype=t).fill_(v),
    "setitem": lambda v, t: bt.zeros(2, dtype=t).__setitem__(0, v),
    "masked_fill": lambda v, t: bt.zeros(2, dtype=t).masked_fill(bt.tensor([True, False]), v),
    "scatter": lambda v, t: bt.zeros(2, dtype=t).scatter(0, bt.tensor([0]), v),
}


@pytest.mark.parametrize("name", FILLS)
def test_numbers_that_do_not_fit_raise(name: str) -> None:
    for value, dtype in [
        (300, bt.uint8),
        (-256, bt.uint8),
        (2**31, bt.int32),
        (-(2**31) - 1, bt.int32),
        (2**63, bt.int64),
        (2**70, bt.int64),
        (1e10, bt.int32),
        (float("inf"), bt.int64),
        (float("nan"), bt.int32),
        (np.int64(300), bt.uint8),
    ]:
        with pytest.raises(RuntimeError, match=f"does not fit in {dtype.name}"):
            FILLS[name](value, dtype)
    for value, dtype in [(255, bt.uint8), (-1, bt.uint8), (2**31 - 1, bt.int32), (2.7, bt.int64)]:
        FILLS[name](value, dtype)


def test_integers_are_exact() -> None:
    big = 2**53 + 1
    for value in (big, np.int64(big), np.uint64(big)):
        x = bt.tensor([0])
        assert (x + value).tolist() == [big]
        assert (value * (x + 1) if type(value) is int else (x + 1) * value).tolist() == [big]
        assert x.clone().fill_(value).tolist() == [big]
        assert bt.tensor([value]).tolist() == bt.full((1,), value).tolist() == [big]
        y = bt.tensor([0, 0])
        y[0] = value
        assert y.tolist() == [big, 0]
    assert bt.arange(big, big + 2).tolist() == [big, big + 1]
    for value in (2**63, -(2**63) - 1, np.uint64(2**64 - 1)):
        for op in (bt.add, bt.mul, bt.sub, bt.minimum):
            with pytest.raises(OverflowError, match="64 bits"):
                op(bt.tensor([1]), value)
    assert (bt.tensor([1.0]) + 2**63).item() == 2.0**63


def test_dtypes_of_numpys_numbers_in_lists() -> None:
    for data, want in [
        ([np.float64(1.5)], bt.float64),
        ([np.float64(1.5), 1.0], bt.float64),
        ([np.float32(1.5), 1.0], bt.float32),
        ([np.int32(1)], bt.int32),
        ([np.int32(1), 2], bt.int64),
        ([np.uint8(1)], bt.uint8),
        ([np.bool_(True)], bt.bool),
        ([np.ones(2), np.ones(2)], bt.float64),
        ([np.ones(2, "int32")], bt.int32),
        ([np.ones(2), [1, 2]], bt.float64),
        ([np.array(1.0, np.float32)], bt.float32),
        ([np.float16(1.5)], bt.float32),
        ([bt.tensor(1), 2.5], bt.float32),
        (array.array("d", [1, 2]), bt.float32),
        (array.array("i", [1, 2]), bt.int64),
        (memoryview(b"ab"), bt.int64),
        (np.array(2.0), bt.float64),
    ]:
        assert bt.tensor(data).dtype is want, data
    assert bt.tensor([np.float16(1.5), np.float16("inf"), np.float16(6e-8)]).tolist()[0] == 1.5
    assert bt.tensor([np.arange(6.0).reshape(2, 3).T]).tolist() == [[[0, 3], [1, 4], [2, 5]]]
    for data in (np.datetime64("2020-01-01"), [np.datetime64("2020-01-01")], np.array(["a"])):
        with pytest.raises(TypeError, match=r"datetime64|str"):
            bt.tensor(data)


def test_a_list_that_changes_while_it_is_read() -> None:
    class Grows:
        def __index__(self) -> int:
            items.extend([7.0] * 1000)
            return 1

    items: list[Any] = [Grows(), 0.0]
    with pytest.raises(RuntimeError, match="changed"):
        bt.tensor(items)


def test_buffers() -> None:
    floats = (ctypes.c_float * 4)(1, 2, 3, 4)
    x = bt.from_numpy(floats)
    x[0] = 9
    assert floats[0] == 9
    data = bytearray(16)
    y = bt.frombuffer(data, dtype=bt.float32, offset=4, count=2)
    y.fill_(1)
    assert np.frombuffer(data, np.float32).tolist() == [0, 1, 1, 0]
    with pytest.raises(BufferError):
        data.clear()
    assert bt.frombuffer(data, dtype=bt.bfloat16).shape == (8,)
    assert bt.frombuffer(data, dtype=float, offset=8).shape == (1,)
    for kwargs in ({"offset": 17}, {"offset": 1}, {"count": 5}, {"count": 0}):
        with pytest.raises(ValueError, match="frombuffer"):
            bt.frombuffer(data, dtype=bt.float32, **kwargs)


def test_ranges() -> None:
    assert bt.arange(0.0, -8.000001, -4.0, dtype=bt.int64).tolist() == [0, -4]
    assert bt.arange(np.int64(3)).dtype is bt.arange(bt.tensor(3)).dtype is bt.int64
    assert bt.arange(bt.tensor(3.0)).dtype is bt.float32
    assert bt.arange(end=3).tolist() == [0, 1, 2]
    assert bt.linspace(4.3, -3, 5, dtype=bt.int64).tolist() == [4, 2, 0, -1, -3]
    assert bt.logspace(0, 2, 3, dtype=bt.int64).tolist() == [1, 10, 100]
    for args in ((0, 1, 1e-300), (float("nan"),), (float("inf"),), (5, 1), (0, 1, 0), (2**63,)):
        with pytest.raises(RuntimeError, match="arange"):
            bt.arange(*args)
    with pytest.raises(TypeError, match="arange: end must be a number"):
        bt.arange("a")
    assert bt.tril_indices(2, 2, dtype=bt.int32).dtype is bt.int32
    assert bt.triu_indices(2, 3, -1).tolist() == [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]


def test_devices_are_values() -> None:
    cpu, cuda = bt.device("cpu"), bt.device("cuda:1")
    assert (cuda.type, cuda.index, str(cuda)) == ("cuda", 1, "cuda:1")
    assert repr(cuda) == "device(type='cuda', index=1)"
    assert cuda == bt.device("cuda", 1) == bt.device(cuda)
    assert cpu != cuda
    assert cpu != "cpu"
    assert len({cpu, bt.device("cpu"), cuda}) == 2
    assert pickle.loads(pickle.dumps(cuda)) == copy.deepcopy(cuda) == cuda
    assert bt.ones(1).device == bt.Generator().device == cpu
    for wrong in ("nonsense", "cpu:x", "", 0):
        with pytest.raises(RuntimeError, match="device"):
            bt.device(wrong)
    with pytest.raises(RuntimeError, match="CPU only"), cuda:
        pass


def test_old_classes() -> None:
    assert bt.Tensor(np.int64(3)).shape == bt.FloatTensor(np.int64(3)).shape == (3,)
    assert bt.Tensor((2, 3)).tolist() == [2, 3]
    assert bt.LongTensor([1.5]).tolist() == [1]
    assert bt.BoolTensor([1, 0]).tolist() == [True, False]
    assert bt.IntTensor(2, 3).dtype is bt.int32
    x = bt.ones(2)
    assert isinstance(x, bt.FloatTensor)
    assert not isinstance(x, (bt.LongTensor, bt.DoubleTensor))
    assert not isinstance([1.0], bt.FloatTensor)
    assert isinstance(bt.nn.Parameter(x), bt.FloatTensor)
    assert x.type() == "torch.FloatTensor"
    for kind in (bt.DoubleTensor, "torch.DoubleTensor", "backtrail.DoubleTensor", bt.float64):
        assert x.type(kind).dtype is bt.float64
    with pytest.raises(ValueError, match="nonsense"):
        x.type("torch.nonsense")
    assert x.long().new([1]).dtype is bt.int64
    assert x.new(2, 3).shape == (2, 3)
    for wrong in (3.0, None, True, "a"):
        with pytest.raises(TypeError):
            bt.Tensor(wrong)
    for name in ("half", "short", "char"):
        with pytest.raises(RuntimeError, match="backtrail has no"):
            getattr(x, name)()


def test_numbers_of_many_elements() -> None:
    for convert in (float, int, complex):
        assert convert(bt.ones(1, 1)) == 1
        with pytest.raises(ValueError, match="one element"):
            convert(bt.ones(2))
