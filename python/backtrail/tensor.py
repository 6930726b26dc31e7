"""The Tensor: an array with its gradient and its place in the graph.

`apply(op, inputs, attributes)` is the single door of every operation: it computes, and records a
node when a gradient is needed. Functions over tensors live in the modules below `functional`; those
decorated with `@method` are methods of Tensor as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from . import dtypes
from ._core import (
    Op,
    TensorBase,
    apply,
    apply_,
    first_gradient,
    full,
    get_default_dtype,
    item as _item,
    ops,
    part_of_many,
    set_types,
    storage_bytes,
    storage_serial,
    to_dlpack,
    tolist as _tolist,
)
from .dtypes import CPU, device, dtype
from .operators import Operators

__all__ = ["Op", "Tensor", "apply", "apply_", "is_tensor", "method", "ops"]

F = TypeVar("F", bound=Callable[..., Any])

_EQ, _AS_STRIDED = ops["eq"], ops["as_strided"]
_ALIAS, _CLONE, _CAST = (ops[n] for n in ("alias", "clone", "cast"))
_TRANSPOSE, _SELECT = ops["transpose"], ops["select"]


class Tensor(Operators):
    """A multi-dimensional array that remembers the operations that made it.

    `Tensor(data)` makes a tensor of the default dtype from nested sequences; `Tensor(2, 3)` an
    uninitialised one of that shape. `backtrail.tensor(data)` infers the dtype and is what most
    programs want.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, device: Any = None) -> Tensor:
        from .functions.legacy import legacy

        return TensorBase.__new__(cls, legacy(get_default_dtype(), args, device))

    @classmethod
    def _make_subclass(cls, kind: type, data: Tensor, requires_grad: bool = False) -> Any:
        """Return a `kind` (a subclass of Tensor) on the elements of `data`, outside the graph."""
        made: Any = TensorBase.__new__(kind, data)
        made.requires_grad = requires_grad
        return made

    # ---- as a Python value

    def item(self) -> Any:
        """Return the one element as a Python number."""
        return _item(self)

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers."""
        return _tolist(self)

    def __bool__(self) -> bool:
        if self._numel != 1:
            raise RuntimeError(
                f"bool: a tensor of shape {tuple(self.shape)} has no single truth value; use "
                f".any() or .all()"
            )
        return bool(_item(self))

    def __float__(self) -> float:
        return float(_item(self) if self._numel == 1 else _only_one(self))

    def __int__(self) -> int:
        return int(_item(self) if self._numel == 1 else _only_one(self))

    def __complex__(self) -> complex:
        return complex(_item(self) if self._numel == 1 else _only_one(self))

    def __index__(self) -> int:
        if self.dtype.is_floating_point or self._numel != 1:
            raise TypeError("only integer tensors of one element can be an index")
        return int(_item(self))

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len: a 0-dim tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Any:
        if self.ndim == 0:
            raise TypeError("iter: a 0-dim tensor cannot be iterated over")
        rows = [apply(_SELECT, (self,), (0, i)) for i in range(self.shape[0])]
        return iter(part_of_many(rows))

    def __reversed__(self) -> Tensor:
        return apply(ops["flip"], (self,), ((0,),)) if self.ndim else self

    def __contains__(self, value: Any) -> bool:
        if not isinstance(value, (TensorBase, int, float)) and not hasattr(value, "dtype"):
            raise RuntimeError(f"in: expected a tensor or a number; got {type(value).__name__}")
        return bool(apply(_EQ, (self, value)).any())

    def __repr__(self) -> str:
        from .formatting import tensor_repr

        return tensor_repr(self)

    def __format__(self, spec: str) -> str:
        if self.ndim == 0 and type(self) is Tensor:
            return format(_item(self), spec)
        return object.__format__(self, spec)

    def __reduce__(self) -> tuple[Any, ...]:
        from .serialization import rebuild

        return rebuild, (type(self), *_state(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self.grad_fn is not None:
            raise RuntimeError(
                "deepcopy: only tensors that no recorded operation made can be copied deeply; use "
                "x.detach()"
            )
        # By memory: views of one tensor that are copied together stay views of one.
        key = "memory of a tensor", storage_serial(self)
        memory = memo.get(key)  # type: ignore[call-overload]
        if memory is None:
            n = storage_bytes(self) // self.dtype.itemsize
            memory = apply(_CLONE, (apply(_AS_STRIDED, (self.detach(),), ((n,), (1,), 0)),))
            memo[key] = memory  # type: ignore[index]
        place = self.shape, self._strides, self._offset
        copy = Tensor._make_subclass(type(self), apply(_AS_STRIDED, (memory,), place))
        copy.requires_grad = self.requires_grad
        if self.grad is not None:
            copy.grad = self.grad.__deepcopy__(memo)
        memo[id(self)] = copy
        return copy

    def __copy__(self) -> Any:
        """Return another tensor on the same elements, a leaf."""
        return Tensor._make_subclass(type(self), self.detach(), self.requires_grad)

    # ---- NumPy and DLPack

    def numpy(self, *, force: bool = False) -> Any:
        """Return a NumPy array on the same memory; changes show on both sides.

        Raises RuntimeError when the tensor requires grad (`force=True` detaches it), TypeError for
        bfloat16.
        """
        import numpy as np

        return np.asarray(memoryview(self.detach() if force else self))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy as np

        array = np.asarray(memoryview(self))
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **_: Any) -> Any:
        if self.requires_grad:
            raise RuntimeError(
                "dlpack: a tensor that requires grad cannot be shared: use x.detach()"
            )
        return to_dlpack(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    # ---- the graph

    def detach(self) -> Tensor:
        """Return a tensor on the same elements, outside the graph."""
        return TensorBase.__new__(Tensor, self)

    @property
    def data(self) -> Tensor:
        """The same elements, outside the graph; its changes in place are not counted as changes."""
        return self._data()

    @data.setter
    def data(self, other: Tensor) -> None:
        self._assign(other)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for gradients of this leaf (or no longer), in place."""
        self.requires_grad = requires_grad
        return self

    def _ones_like(self) -> Tensor:
        if self.ndim == 0 and self.dtype is dtypes.float32:
            return first_gradient()
        return full(self.shape, 1, self.dtype)

    # ---- what it is

    @property
    def device(self) -> device:
        return CPU

    @property
    def T(self) -> Tensor:
        """The dimensions in reverse order."""
        if self.ndim == 2:
            return apply(_TRANSPOSE, (self,), (0, 1))
        return apply(ops["permute"], (self,), (tuple(range(self.ndim))[::-1],))

    @property
    def mT(self) -> Tensor:
        """The last two dimensions exchanged."""
        return apply(_TRANSPOSE, (self,), (-2, -1))

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self._numel * self.dtype.itemsize

    @property
    def real(self) -> Tensor:
        return self

    is_cuda = False
    is_xpu = False
    is_mps = False
    is_sparse = False
    is_quantized = False
    layout = dtypes.strided

    def numel(self) -> int:
        """Return the number of elements."""
        return self._numel

    nelement = numel

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self.ndim

    ndimension = dim

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def stride(self, dim: int | None = None) -> Any:
        """Return the step of every dimension in elements, or of one."""
        return self._strides if dim is None else self._strides[dim]

    def storage_offset(self) -> int:
        """Return where in the storage the first element lies."""
        return self._offset

    def data_ptr(self) -> int:
        """Return the address of the first element."""
        return self._data_ptr

    def element_size(self) -> int:
        """Return the bytes of one element."""
        return self.dtype.itemsize

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """Return whether the elements are dense and in order."""
        return self._contiguous

    def is_floating_point(self) -> bool:
        """Return whether the dtype is a floating point type."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Return False: there are no complex tensors."""
        return False

    # ---- other dtypes, same device

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the tensor with another dtype; a device must be the CPU. `copy=True` copies.

        to(dtype), to(device), to(device, dtype) or to(other), then non_blocking and copy.
        """
        target: dtype | None = None
        copy = kwargs.pop("copy", False)
        kwargs.pop("non_blocking", None)
        kwargs.pop("memory_format", None)
        flags = [arg for arg in args if isinstance(arg, bool)]  # non_blocking, copy
        if len(flags) > 1:
            copy = flags[1]
        for arg in (*args, *(kwargs.pop(n, None) for n in ("device", "dtype", "other"))):
            if isinstance(arg, dtype):
                target = arg
            elif isinstance(arg, TensorBase):
                target = arg.dtype
            elif arg is float or arg is int or arg is bool:
                target = dtypes.as_dtype(arg)
            elif arg is not None and not isinstance(arg, bool):
                dtypes.check_device(arg)
        if kwargs:
            raise TypeError(f"to: unexpected arguments {', '.join(kwargs)}")
        if target is None or target is self.dtype:
            return apply(_CLONE, (self,)) if copy else self
        return apply(_CAST, (self,), (target.code,))

    def type_as(self, other: Tensor) -> Tensor:
        """Return the tensor with the dtype of `other`."""
        return self.to(other.dtype)

    def cpu(self, memory_format: Any = None) -> Tensor:
        return self

    def cuda(self, *_: Any, **__: Any) -> Tensor:
        raise RuntimeError("cuda: backtrail computes on the CPU only")

    def pin_memory(self) -> Tensor:
        return self


def _only_one(x: Tensor) -> Any:
    # matplotlib and others try float(x), and go on with its elements after a ValueError.
    raise ValueError(
        f"only tensors of one element can be converted to a Python number; this one has shape "
        f"{tuple(x.shape)}"
    )


def _state(t: Tensor) -> tuple[Any, ...]:
    from ._core import to_bytes

    return to_bytes(t.detach()), t.dtype.name, tuple(t.shape), t.requires_grad


def is_tensor(obj: object) -> bool:
    """Return whether `obj` is a Tensor."""
    return isinstance(obj, TensorBase)


def method(function: F) -> F:
    """Make a function whose first argument is a tensor a method of Tensor as well."""
    setattr(Tensor, function.__name__, function)
    return function


set_types(Tensor, dtypes.ALL)
