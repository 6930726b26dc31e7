"""Functions that make tensors from values, shapes and other libraries' arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import _core, dtypes
from .._core import get_default_dtype, set_default_dtype
from ..dtypes import dtype as DType
from ..tensor import Tensor, apply, method, ops

__all__ = [
    "arange",
    "as_tensor",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "from_numpy",
    "frombuffer",
    "full",
    "full_like",
    "get_default_dtype",
    "linspace",
    "logspace",
    "meshgrid",
    "ones",
    "ones_like",
    "set_default_dtype",
    "tensor",
    "to_dlpack",
    "tril_indices",
    "triu_indices",
    "zeros",
    "zeros_like",
]


def tensor(
    data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Make a tensor that copies `data`: a number, nested sequences of numbers, or an array.

    The dtype is that of the array; for Python numbers bool, int64 or the default float type.
    Raises ValueError for ragged sequences, TypeError for what is no number.
    """
    if device is not None:
        dtypes.device(device)
    if isinstance(data, Tensor):
        made = apply(ops["clone"], (data.detach(),))
    elif hasattr(data, "__array_interface__"):
        made = apply(ops["clone"], (_from_array(data),))
    else:
        made = _core.from_data(data, dtype, get_default_dtype())
    if dtype is not None:
        made = made.to(dtype)
    if requires_grad:
        made.requires_grad = True
    return made


def _from_array(array: Any) -> Tensor:
    """A tensor on a NumPy array's memory, converting what has no type of ours."""
    name = getattr(array.dtype, "name", "")
    if name in ("float16", "longdouble", "float128"):
        array = array.astype("float32" if name == "float16" else "float64")
    elif name in ("int16", "int8", "uint16"):
        array = array.astype("int32")
    elif name in ("uint32", "uint64"):
        array = array.astype("int64")
    if not array.flags.aligned or min(array.strides, default=0) < 0:
        array = array.copy()
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return _core.from_buffer(array)


def from_numpy(ndarray: Any) -> Tensor:
    """Make a tensor on the memory of a NumPy array; changes show on both sides.

    A read-only array is copied. Raises TypeError for dtypes that have no counterpart.
    """
    return _core.from_buffer(ndarray)


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """Make a tensor of data, sharing its memory where that is possible."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if hasattr(data, "__array_interface__"):
        made = _from_array(data)
        return made if dtype is None else made.to(dtype)
    return tensor(data, dtype=dtype, device=device)


asarray = as_tensor


def from_dlpack(source: Any) -> Tensor:
    """Make a tensor on the memory of any object (or capsule) that speaks DLPack."""
    return _core.from_dlpack(source.__dlpack__() if hasattr(source, "__dlpack__") else source)


def to_dlpack(t: Tensor) -> Any:
    """Return a DLPack capsule on the memory of a tensor."""
    return t.__dlpack__()


def frombuffer(
    buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """Make a tensor from the bytes of a buffer, copied."""
    data = memoryview(buffer).cast("B")[offset:]
    n = len(data) // dtype.itemsize if count < 0 else count
    made = _core.from_bytes(data[: n * dtype.itemsize], dtype, (n,))
    made.requires_grad = requires_grad
    return made


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    if len(size) == 1 and not isinstance(size[0], int) and hasattr(size[0], "__iter__"):
        size = tuple(size[0])
    return tuple(int(n) for n in size)


def _made(t: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        t.requires_grad = True
    return t


def _filled(
    size: tuple[Any, ...], value: Any, dtype: DType | None, device: Any, requires_grad: bool
) -> Tensor:
    if device is not None:
        dtypes.device(device)
    made = _core.full(_shape(size), value, get_default_dtype() if dtype is None else dtype)
    return _made(made, requires_grad)


def zeros(
    *size: Any, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Make a tensor of zeros."""
    return _filled(size, 0, dtype, device, requires_grad)


def ones(
    *size: Any, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Make a tensor of ones."""
    return _filled(size, 1, dtype, device, requires_grad)


def empty(
    *size: Any,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Make an uninitialised tensor."""
    if device is not None:
        dtypes.device(device)
    if not size or (len(size) == 1 and size[0] is None):
        size = ((),)
    made = _core.empty(_shape(size), get_default_dtype() if dtype is None else dtype)
    return _made(made, requires_grad)


def full(
    size: Sequence[int],
    fill_value: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor of one value; its dtype is that of the value by default."""
    if isinstance(fill_value, Tensor):
        dtype, fill_value = dtype or fill_value.dtype, fill_value.item()
    if dtype is None and isinstance(fill_value, bool):
        dtype = dtypes.bool_
    elif dtype is None and isinstance(fill_value, int):
        dtype = dtypes.int64
    return _filled((size,), fill_value, dtype, device, requires_grad)


def zeros_like(input: Tensor, *, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make zeros of the shape and dtype of another tensor."""
    return _like(input, 0, dtype, **kwargs)


def ones_like(input: Tensor, *, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make ones of the shape and dtype of another tensor."""
    return _like(input, 1, dtype, **kwargs)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: DType | None = None, **kwargs: Any
) -> Tensor:
    """Make a tensor of one value with the shape and dtype of another tensor."""
    return _like(input, fill_value, dtype, **kwargs)


def empty_like(
    input: Tensor, *, dtype: DType | None = None, requires_grad: bool = False, **_: Any
) -> Tensor:
    """Make an uninitialised tensor of the shape and dtype of another."""
    return _made(_core.empty(input.shape, dtype or input.dtype), requires_grad)


def _like(
    input: Tensor,
    value: Any,
    dtype: DType | None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    return _filled((input.shape,), value, dtype or input.dtype, device, requires_grad)


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make start, start + step, ... below end; one argument is the end, counted from 0."""
    if end is None:
        start, end = 0, start
    start, end, step = (x.item() if isinstance(x, Tensor) else x for x in (start, end, step))
    if step == 0:
        raise RuntimeError("arange: step must not be 0")
    if dtype is None:
        whole = all(isinstance(x, int) for x in (start, end, step))
        dtype = dtypes.int64 if whole else get_default_dtype()
    span = (end - start) / step
    if isinstance(start, int) and isinstance(end, int) and isinstance(step, int):
        n = max(0, -((start - end) // step))
    else:
        n = max(0, int(-(-span // 1)))
    if span < 0:
        raise RuntimeError(f"arange: from {start} to {end} by {step} never arrives")
    made = _core.arange(float(start), float(step), int(start), int(step), n, dtype)
    return _made(made, requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make `steps` evenly spaced numbers from start to end, both included."""
    if steps < 0:
        raise RuntimeError(f"linspace: steps is {steps}; it must not be negative")
    made = _core.linspace(float(start), float(end), steps, dtype or get_default_dtype())
    return _made(made, requires_grad)


def logspace(start: float, end: float, steps: int, base: float = 10.0, **kwargs: Any) -> Tensor:
    """Make `steps` numbers from base**start to base**end, evenly spaced in their logarithm."""
    return apply(ops["pow"], (base, linspace(start, end, steps, **kwargs)))


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make a matrix of n rows (and m columns) with ones on its diagonal."""
    made = zeros(n, n if m is None else m, dtype=dtype, device=device)
    apply(ops["diagonal"], (made,), (0, 0, 1)).fill_(1)
    return _made(made, requires_grad)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Make grids of coordinates from vectors; indexing is "ij" (rows first) or "xy"."""
    vectors = (
        list(tensors[0])
        if len(tensors) == 1 and not isinstance(tensors[0], Tensor)
        else list(tensors)
    )
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f"meshgrid: indexing is {indexing!r}; expected 'ij' or 'xy'")
    swap = indexing == "xy" and len(vectors) > 1
    if swap:
        vectors[:2] = vectors[1::-1]
    shape = [v._numel for v in vectors]
    grids = []
    for d, v in enumerate(vectors):
        column = v.reshape([-1 if k == d else 1 for k in range(len(vectors))])
        grids.append(column.expand(*shape))
    if swap:
        grids[:2] = grids[1::-1]
    return tuple(grids)


def tril_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """Return the row and column numbers of the lower triangle."""
    pairs = [(i, j) for i in range(row) for j in range(max(0, min(col, i + offset + 1)))]
    return tensor([[i for i, _ in pairs], [j for _, j in pairs]], dtype=dtypes.int64)


def triu_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """Return the row and column numbers of the upper triangle."""
    pairs = [(i, j) for i in range(row) for j in range(max(0, i + offset), col)]
    return tensor([[i for i, _ in pairs], [j for _, j in pairs]], dtype=dtypes.int64)


@method
def new_tensor(self: Tensor, data: Any, *, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make a tensor of data with the dtype of self."""
    return tensor(data, dtype=dtype or self.dtype, **kwargs)


@method
def new_zeros(self: Tensor, *size: Any, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make zeros with the dtype of self."""
    return zeros(*size, dtype=dtype or self.dtype, **kwargs)


@method
def new_ones(self: Tensor, *size: Any, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make ones with the dtype of self."""
    return ones(*size, dtype=dtype or self.dtype, **kwargs)


@method
def new_empty(self: Tensor, *size: Any, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make an uninitialised tensor with the dtype of self."""
    return empty(*size, dtype=dtype or self.dtype, **kwargs)


@method
def new_full(
    self: Tensor, size: Sequence[int], fill_value: Any, *, dtype: DType | None = None, **kwargs: Any
) -> Tensor:
    """Make a tensor of one value with the dtype of self."""
    return full(size, fill_value, dtype=dtype or self.dtype, **kwargs)


def _conversion(name: str, target: DType) -> None:
    def convert(self: Tensor) -> Tensor:
        return self.to(target)

    convert.__name__ = name
    convert.__doc__ = f"Return the tensor as {target.name}."
    setattr(Tensor, name, convert)


# Set here: inside the class these names would hide Python's own float, int and bool.
for _name, _target in {
    "float": dtypes.float32,
    "double": dtypes.float64,
    "bfloat16": dtypes.bfloat16,
    "long": dtypes.int64,
    "int": dtypes.int32,
    "byte": dtypes.uint8,
    "bool": dtypes.bool_,
}.items():
    _conversion(_name, _target)
