"""Python's operators on tensors: arithmetic, comparison and bits, reflected and in place.

An operand that is no tensor and no number is left to its own class: the operator answers
NotImplemented, and Python asks the other side. With an array NumPy computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import dtypes
from ._core import Op, TensorBase, apply, apply_, ops

if TYPE_CHECKING:
    from .tensor import Tensor

    Operator = Callable[[Any, Any], Tensor]

_SQUARE, _SQRT, _RECIPROCAL = ops["square"], ops["sqrt"], ops["reciprocal"]
_POW, _CLONE, _NEG, _ABS = ops["pow"], ops["clone"], ops["neg"], ops["abs"]
_XOR, _NOT = ops["bitwise_xor"], ops["logical_not"]


def _foreign(name: str, self: Any, other: Any) -> Any:
    """Answer an operator whose other operand its op refused with the TypeError that is handled."""
    if isinstance(other, (TensorBase, int, float)):
        raise
    if not hasattr(other, "__array_interface__"):
        return NotImplemented
    import numpy as np

    if self.requires_grad:
        raise RuntimeError(
            f"{name}: a tensor that requires grad meets an array of NumPy; make a tensor of the "
            f"array with from_numpy() first"
        )
    result = getattr(np.asarray(self), name)(other)
    return result if result is NotImplemented else _from_numpy(result)


def _from_numpy(array: Any) -> Tensor:
    import numpy as np

    from .functions.creation import from_numpy

    return from_numpy(np.asarray(array))


def _forward(name: str, op: Op) -> Operator:
    def operator(self: Any, other: Any) -> Tensor:
        try:
            return apply(op, (self, other))
        except TypeError:
            result: Tensor = _foreign(name, self, other)
            return result

    return _named(operator, name)


def _reflected(name: str, op: Op) -> Operator:
    def operator(self: Any, other: Any) -> Tensor:
        try:
            return apply(op, (other, self))
        except TypeError:
            result: Tensor = _foreign(name, self, other)
            return result

    return _named(operator, name)


def _in_place(name: str, op: Op) -> Operator:
    def operator(self: Any, other: Any) -> Any:
        try:
            return apply_(op, (self, other), (), self)
        except TypeError:
            if isinstance(other, (TensorBase, int, float)):
                raise
            return NotImplemented  # Python goes on with the one that makes a new tensor

    return _named(operator, name)


def _named(operator: Operator, name: str) -> Operator:
    operator.__name__ = name
    operator.__qualname__ = f"Operators.{name}"
    return operator


def _arithmetic(name: str, op: str) -> tuple[Operator, Operator, Operator]:
    return (
        _forward(f"__{name}__", ops[op]),
        _reflected(f"__r{name}__", ops[op]),
        _in_place(f"__i{name}__", ops[op]),
    )


class Operators(TensorBase):
    """What Python's operators do with a tensor; the class Tensor is made of it."""

    __slots__ = ()

    __add__, __radd__, __iadd__ = _arithmetic("add", "add")
    __sub__, __rsub__, __isub__ = _arithmetic("sub", "sub")
    __mul__, __rmul__, __imul__ = _arithmetic("mul", "mul")
    __truediv__, __rtruediv__, __itruediv__ = _arithmetic("truediv", "div")
    __floordiv__, __rfloordiv__, __ifloordiv__ = _arithmetic("floordiv", "floor_divide")
    __mod__, __rmod__, __imod__ = _arithmetic("mod", "remainder")
    __and__, __rand__, __iand__ = _arithmetic("and", "bitwise_and")
    __or__, __ror__, __ior__ = _arithmetic("or", "bitwise_or")
    __xor__, __rxor__, __ixor__ = _arithmetic("xor", "bitwise_xor")
    __lshift__, __rlshift__, __ilshift__ = _arithmetic("lshift", "bitwise_left_shift")
    __rshift__, __rrshift__, __irshift__ = _arithmetic("rshift", "bitwise_right_shift")
    __div__, __rdiv__, __idiv__ = __truediv__, __rtruediv__, __itruediv__
    __matmul__ = _forward("__matmul__", ops["matmul"])
    __rmatmul__ = _reflected("__rmatmul__", ops["matmul"])

    if TYPE_CHECKING:  # object says that they return a bool

        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
    else:
        __eq__ = _forward("__eq__", ops["eq"])
        __ne__ = _forward("__ne__", ops["ne"])
        __lt__ = _forward("__lt__", ops["lt"])
        __le__ = _forward("__le__", ops["le"])
        __gt__ = _forward("__gt__", ops["gt"])
        __ge__ = _forward("__ge__", ops["ge"])
    __hash__ = object.__hash__

    def __pow__(self, other: Any) -> Tensor:
        if type(other) is int or type(other) is float:
            if other == 2:
                return apply(_SQUARE, (self,))
            if self.dtype.is_floating_point:
                if other == 0.5:
                    return apply(_SQRT, (self,))
                if other == -1:
                    return apply(_RECIPROCAL, (self,))
                if other == 1:
                    return apply(_CLONE, (self,))
        _check_power(self, other)
        return _power(self, other)

    def __ipow__(self, other: Any) -> Any:
        _check_power(self, other)
        return _power_in_place(self, other)

    __rpow__ = _reflected("__rpow__", _POW)

    def __neg__(self) -> Tensor:
        return apply(_NEG, (self,))

    def __pos__(self) -> Tensor:
        if self.dtype is dtypes.bool_:
            raise RuntimeError("+: not defined for bools")
        return self  # type: ignore[return-value]

    def __abs__(self) -> Tensor:
        return apply(_ABS, (self,))

    def __invert__(self) -> Tensor:
        if self.dtype is dtypes.bool_:
            return apply(_NOT, (self,))
        if self.dtype.is_floating_point:
            raise TypeError(f"~: not defined for {self.dtype}; expected integers or bools")
        return apply(_XOR, (self, -1 if self.dtype.is_signed else 255))

    __array_priority__ = 1000  # NumPy's operators give way to ours

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return _from_numpy(array)  # what a function of NumPy has made of a tensor


_power, _power_in_place = _forward("__pow__", _POW), _in_place("__ipow__", _POW)


def _check_power(base: Any, exponent: Any) -> None:
    if isinstance(exponent, int) and exponent < 0 and not base.dtype.is_floating_point:
        raise RuntimeError(f"pow: {base.dtype} to the power {exponent}: convert with .float()")
