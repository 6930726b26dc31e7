"""Functions that make tensors from values, shapes and other libraries' arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, isfinite
from operator import index
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
    "ones",
    "ones_like",
    "set_default_dtype",
    "tensor",
    "to_dlpack",
    "zeros",
    "zeros_like",
]


def tensor(
    data: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Make a tensor that copies `data`: a number, nested sequences of numbers, or an array.

    The dtype is that of the array or of NumPy's numbers; for Python's bool, int64 or the default
    float type. Raises ValueError for ragged sequences, TypeError for what is no number,
    RuntimeError for numbers that do not fit in `dtype`.
    """
    if device is not None:
        dtypes.check_device(device)
    if isinstance(data, Tensor):
        made = apply(ops["clone"], (data.detach(),))
    elif hasattr(data, "__array_interface__") and hasattr(data, "__len__"):  # no mere number
        made = apply(ops["clone"], (_from_array(data),))
    else:
        made = _core.from_data(data, dtype, get_default_dtype())
    if dtype is not None:
        made = made.to(dtypes.as_dtype(dtype, "tensor: dtype"))
    if requires_grad:
        made.requires_grad = True
    return made


def _from_array(array: Any) -> Tensor:
    """A tensor on a NumPy array's memory, converting what has no type of ours."""
    if not hasattr(array, "dtype"):  # another library's, by its interface
        import numpy as np

        array = np.asarray(array)
    name = array.dtype.name
    if array.dtype.kind not in "biuf":
        raise TypeError(f"tensor: cannot make elements from an array of dtype {name}")
    if name in ("float16", "longdouble", "float128"):
        array = array.astype("float32" if name == "float16" else "float64")
    elif name in ("int16", "int8", "uint16"):
        array = array.astype("int32")
    elif name in ("uint32", "uint64"):
        if array.size and array.max() > 2**63 - 1:
            raise RuntimeError(f"tensor: {array.max()} of {name} does not fit in int64")
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
    kind = getattr(ndarray, "dtype", None)
    if kind is not None and getattr(kind, "kind", "f") not in "biuf":
        raise TypeError(f"from_numpy: an array of dtype {kind} has no counterpart")
    return _core.from_buffer(ndarray)


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """Make a tensor of data, sharing its memory where that is possible."""
    dtypes.check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtypes.as_dtype(dtype))
    if hasattr(data, "__array_interface__"):
        made = _from_array(data)
        return made if dtype is None else made.to(dtypes.as_dtype(dtype))
    return tensor(data, dtype=dtype)


def asarray(
    obj: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor of data, sharing its memory where that is possible unless `copy`."""
    made = as_tensor(obj, dtype, device)
    if copy or (requires_grad and made is obj):
        made = apply(ops["clone"], (made.detach(),))
    return _made(made, requires_grad)


def from_dlpack(source: Any) -> Tensor:
    """Make a tensor on the memory of any object (or capsule) that speaks DLPack."""
    return _core.from_dlpack(source.__dlpack__() if hasattr(source, "__dlpack__") else source)


def to_dlpack(t: Tensor) -> Any:
    """Return a DLPack capsule on the memory of a tensor."""
    return t.__dlpack__()


_FORMATS = {"float32": "f", "float64": "d", "int64": "q", "int32": "i", "uint8": "B", "bool": "?"}


def frombuffer(
    buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """Make a tensor on the bytes of a buffer, which it holds; changes show on both sides.

    What is read-only, bfloat16 or lies at an address that is no multiple of the element is copied.
    """
    dtype = dtypes.as_dtype(dtype, "frombuffer: dtype")
    data = memoryview(buffer).cast("B")
    length = len(data)
    if not 0 <= offset <= length:
        raise ValueError(f"frombuffer: offset is {offset}; the buffer has {length} bytes")
    n = (length - offset) // dtype.itemsize if count < 0 else count
    if n == 0:
        raise ValueError(f"frombuffer: no element in {length} bytes from {offset}, count {count}")
    if offset + n * dtype.itemsize > length or (count < 0 and (length - offset) % dtype.itemsize):
        raise ValueError(
            f"frombuffer: {length} bytes from {offset} on do not hold {n} elements of {dtype}"
        )
    data = data[offset : offset + n * dtype.itemsize]
    if dtype.name not in _FORMATS or data.readonly or offset % dtype.itemsize:
        made = _core.from_bytes(data, dtype, (n,))
    else:
        cast: Any = data.cast  # its format is any of six
        made = _core.from_buffer(cast(_FORMATS[dtype.name]))
    return _made(made, requires_grad)


def _shape(name: str, sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape given as sizes one by one or as one sequence; each an int, or as good as one."""
    if len(sizes) == 1:
        first = sizes[0]
        if isinstance(first, (tuple, list)) or (
            type(first) is not int
            and hasattr(first, "__iter__")
            and not hasattr(first, "__index__")
        ):
            sizes = first
        elif getattr(first, "ndim", 0):
            sizes = tuple(first)
    try:
        return tuple(map(index, sizes))
    except TypeError:
        wrong = next((n for n in sizes if not hasattr(n, "__index__")), sizes)
        raise TypeError(
            f"{name}: sizes must be ints; got {wrong!r} ({type(wrong).__name__})"
        ) from None


def _made(t: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        t.requires_grad = True
    return t


def _filled(
    name: str,
    sizes: tuple[Any, ...],
    value: Any,
    dtype: DType | None,
    device: Any,
    requires_grad: bool,
) -> Tensor:
    if device is not None:
        dtypes.check_device(device)
    made = _core.full(_shape(name, sizes), value, get_default_dtype() if dtype is None else dtype)
    return _made(made, requires_grad)


def _given(name: str, sizes: tuple[Any, ...], size: Any) -> tuple[Any, ...]:
    """Sizes by position, or as one sequence by the keyword `size`."""
    if size is None:
        return sizes
    if sizes:
        raise TypeError(f"{name}: sizes are given twice, by position and by the keyword size")
    return (size,)


def zeros(
    *sizes: Any,
    size: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor of zeros."""
    return _filled("zeros", _given("zeros", sizes, size), 0, dtype, device, requires_grad)


def ones(
    *sizes: Any,
    size: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor of ones."""
    return _filled("ones", _given("ones", sizes, size), 1, dtype, device, requires_grad)


def empty(
    *sizes: Any,
    size: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Make an uninitialised tensor."""
    if device is not None:
        dtypes.check_device(device)
    shape = _shape("empty", _given("empty", sizes, size))
    return _made(_core.empty(shape, get_default_dtype() if dtype is None else dtype), requires_grad)


def full(
    size: Sequence[int],
    fill_value: Any,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor of one value; its dtype is that of the value by default."""
    if not hasattr(size, "__iter__"):
        raise TypeError(f"full: size must be a sequence of ints; got {type(size).__name__}")
    if isinstance(fill_value, Tensor):
        dtype, fill_value = dtype or fill_value.dtype, fill_value.item()
    if dtype is None and isinstance(fill_value, bool):
        dtype = dtypes.bool_
    elif dtype is None and hasattr(fill_value, "__index__"):
        dtype = dtypes.int64
    return _filled("full", (size,), fill_value, dtype, device, requires_grad)


def zeros_like(input: Tensor, *, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make zeros of the shape and dtype of another tensor."""
    return _like("zeros_like", input, 0, dtype, **kwargs)


def ones_like(input: Tensor, *, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make ones of the shape and dtype of another tensor."""
    return _like("ones_like", input, 1, dtype, **kwargs)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: DType | None = None, **kwargs: Any
) -> Tensor:
    """Make a tensor of one value with the shape and dtype of another tensor."""
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    return _like("full_like", input, fill_value, dtype, **kwargs)


def empty_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Make an uninitialised tensor of the shape and dtype of another."""
    kind = dtype or input.dtype
    made = _laid_out(input, lambda shape: empty(shape, dtype=kind, device=device))
    return _made(made, requires_grad)


def _laid_out(input: Tensor, make: Callable[[Any], Tensor]) -> Tensor:
    """What `make` makes of input's shape, with its dimensions in memory in the order of input's."""
    if input._contiguous:
        return make(input.shape)
    strides = input._strides
    order = sorted(range(input.ndim), key=lambda d: -strides[d])  # the outermost first
    made = make([input.shape[d] for d in order])
    return apply(ops["permute"], (made,), ([order.index(d) for d in range(input.ndim)],))


def _like(
    name: str,
    input: Tensor,
    value: Any,
    dtype: DType | None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    kind = dtype or input.dtype
    made = _laid_out(input, lambda shape: _filled(name, (shape,), value, kind, device, False))
    return _made(made, requires_grad)


def _number(name: str, argument: str, x: Any) -> Any:
    """A number of Python: of a tensor of one element or of NumPy as well."""
    if isinstance(x, (int, float)):
        return x
    if isinstance(x, Tensor) or (hasattr(x, "item") and not isinstance(x, (str, bytes))):
        return _number(name, argument, x.item())
    raise TypeError(f"{name}: {argument} must be a number; got {type(x).__name__}")


def arange(
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Make start, start + step, ... below end; one argument is the end, counted from 0.

    The result is int64 when all are whole, else of the default float type.
    """
    dtypes.check_device(device)
    if end is None:
        start, end = 0, start
    start, end, step = (
        _number("arange", name, x) for name, x in (("start", start), ("end", end), ("step", step))
    )
    if not all(isfinite(x) for x in (start, end, step)):
        raise RuntimeError(f"arange: from {start} to {end} by {step}: all must be finite")
    if dtype is None:
        whole = all(isinstance(x, int) for x in (start, end, step))
        dtype = dtypes.int64 if whole else get_default_dtype()
    dtype = dtypes.as_dtype(dtype, "arange: dtype")
    if dtype is dtypes.int64:
        start, end, step = int(start), int(end), int(step)
    if step == 0:
        raise RuntimeError("arange: step must not be 0")
    if (end - start) * (1 if step > 0 else -1) < 0:
        raise RuntimeError(f"arange: from {start} to {end} by {step} never arrives")
    if all(isinstance(x, int) for x in (start, end, step)):
        n = -((start - end) // step)
    else:
        steps = (end - start) / step
        if steps >= 2**62:
            raise RuntimeError(f"arange: from {start} to {end} by {step} has too many elements")
        n = ceil(steps)
    if not dtype.is_floating_point:
        start, step = int(start), int(step)
    for x in (start, end):
        _core.check_fill("arange", x, dtypes.float64 if dtype.is_floating_point else dtypes.int64)
    return _made(_core.arange(start, step, n, dtype), requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Make a matrix of n rows (and m columns) with ones on its diagonal."""
    made = _filled("eye", (n, n if m is None else m), 0, dtype, device, False)
    apply(ops["diagonal"], (made,), (0, 0, 1)).fill_(1)
    return _made(made, requires_grad)


@method
def new_tensor(self: Tensor, data: Any, *, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make a tensor of data with the dtype of self."""
    return tensor(data, dtype=dtype or self.dtype, **kwargs)


@method
def new_zeros(self: Tensor, *sizes: Any, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make zeros with the dtype of self."""
    return zeros(*sizes, dtype=dtype or self.dtype, **kwargs)


@method
def new_ones(self: Tensor, *sizes: Any, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make ones with the dtype of self."""
    return ones(*sizes, dtype=dtype or self.dtype, **kwargs)


@method
def new_empty(self: Tensor, *sizes: Any, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """Make an uninitialised tensor with the dtype of self."""
    return empty(*sizes, dtype=dtype or self.dtype, **kwargs)


@method
def new_full(
    self: Tensor, size: Sequence[int], fill_value: Any, *, dtype: DType | None = None, **kwargs: Any
) -> Tensor:
    """Make a tensor of one value with the dtype of self."""
    return full(size, fill_value, dtype=dtype or self.dtype, **kwargs)


def _conversion(name: str, target: DType) -> None:
    def convert(self: Tensor, memory_format: Any = None) -> Tensor:
        return self if self.dtype is target else apply(ops["cast"], (self,), (target.code,))

    convert.__name__ = convert.__qualname__ = name
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
