"""PyTorch's old ways to make and name tensors: FloatTensor and its like, `type`, `new`."""

from __future__ import annotations

from typing import Any

from .. import _core, dtypes
from ..dtypes import Size, dtype as DType
from ..tensor import Tensor, is_tensor, method
from .creation import _shape, tensor

__all__ = [
    "BFloat16Tensor",
    "BoolTensor",
    "ByteTensor",
    "DoubleTensor",
    "FloatTensor",
    "IntTensor",
    "LongTensor",
]


def legacy(kind: DType, args: tuple[Any, ...], device: Any = None) -> Tensor:
    """Return what a class called on sizes, on a sequence, on a tensor or on nothing makes."""
    dtypes.check_device(device)
    if len(args) == 1 and not isinstance(args[0], Size):
        data = args[0]
        if isinstance(data, Tensor):
            return data
        if hasattr(data, "__len__"):
            return tensor(data, dtype=kind)
        if isinstance(data, bool) or not hasattr(data, "__index__"):
            raise TypeError(
                f"Tensor: expected sizes or a sequence of numbers; got {type(data).__name__}"
            )
    return _core.empty(_shape("Tensor", args or (0,)), kind)


class _TensorType(type):
    """The class of FloatTensor and its like: to call one makes a tensor of its dtype."""

    dtype: DType

    def __call__(cls, *args: Any, device: Any = None) -> Tensor:
        made = legacy(cls.dtype, args, device)
        if made.dtype is not cls.dtype:
            raise TypeError(f"{cls.__name__}: got a tensor of {made.dtype}; use .to({cls.dtype})")
        return made

    def __instancecheck__(cls, x: object) -> bool:
        return is_tensor(x) and x.dtype is cls.dtype  # type: ignore[attr-defined]


class FloatTensor(metaclass=_TensorType):
    """Tensors of float32; called, it makes one from data or sizes."""

    dtype = dtypes.float32


class DoubleTensor(metaclass=_TensorType):
    """Tensors of float64; called, it makes one from data or sizes."""

    dtype = dtypes.float64


class BFloat16Tensor(metaclass=_TensorType):
    """Tensors of bfloat16; called, it makes one from data or sizes."""

    dtype = dtypes.bfloat16


class LongTensor(metaclass=_TensorType):
    """Tensors of int64; called, it makes one from data or sizes."""

    dtype = dtypes.int64


class IntTensor(metaclass=_TensorType):
    """Tensors of int32; called, it makes one from data or sizes."""

    dtype = dtypes.int32


class ByteTensor(metaclass=_TensorType):
    """Tensors of uint8; called, it makes one from data or sizes."""

    dtype = dtypes.uint8


class BoolTensor(metaclass=_TensorType):
    """Tensors of bool; called, it makes one from data or sizes."""

    dtype = dtypes.bool_


_TYPES = (
    FloatTensor,
    DoubleTensor,
    BFloat16Tensor,
    LongTensor,
    IntTensor,
    ByteTensor,
    BoolTensor,
)


def _type(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """Return the tensor as another type: a dtype, a class such as FloatTensor, or its name.

    Without an argument, the name of its own type, "torch.FloatTensor": what programs compare with.
    """
    if dtype is None:
        return "torch." + next(t.__name__ for t in _TYPES if t.dtype is self.dtype)
    if isinstance(dtype, str):
        module, _, name = dtype.rpartition(".")
        known = [t for t in _TYPES if t.__name__ == name]
        if module not in ("torch", "backtrail") or not known:
            raise ValueError(f"type: {dtype!r} is no type of backtrail's")
        dtype = known[0]
    return self.to(dtype.dtype if dtype in _TYPES else dtypes.as_dtype(dtype, "type"))


setattr(Tensor, "type", _type)  # noqa: B010


@method
def new(self: Tensor, *args: Any, device: Any = None) -> Tensor:
    """Make a tensor of the dtype of self from sizes, a sequence or a tensor."""
    made = legacy(self.dtype, args, device)
    if made.dtype is not self.dtype:
        raise TypeError(f"new: got a tensor of {made.dtype}; expected {self.dtype}")
    return made.detach()


def _missing(name: str, kind: str) -> None:
    def convert(self: Tensor, memory_format: Any = None) -> Tensor:
        raise RuntimeError(
            f"{name}: backtrail has no {kind}; its dtypes are "
            f"{', '.join(kind.name for kind in dtypes.ALL)}"
        )

    convert.__name__ = convert.__qualname__ = name
    convert.__doc__ = f"Raise RuntimeError: there is no {kind}."
    setattr(Tensor, name, convert)


for _name, _kind in {
    "half": "float16",
    "short": "int16",
    "char": "int8",
    "cfloat": "complex64",
    "cdouble": "complex128",
}.items():
    _missing(_name, _kind)
