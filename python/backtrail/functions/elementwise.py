"""Pointwise functions: one for every pointwise op of the registry, made here, and those whose
PyTorch signature needs a line of Python."""

from __future__ import annotations

from typing import Any, overload

from .. import dtypes
from .._core import empty, pointwise_info, result_type
from ..tensor import Op, Tensor, apply, apply_, method, ops
from .creation import tensor
from .indexing import nonzero

__all__ = [
    "allclose",
    "bitwise_not",
    "clamp",
    "clip",
    "clone",
    "div",
    "divide",
    "isclose",
    "lerp",
    "masked_fill",
    "nan_to_num",
    "pow",
    "promote_types",
    "round",
    "true_divide",
    "where",
]

_PLAIN: dict[str, Any] = {}


def pointwise_function(op: Op) -> Any:
    """Return the Python function of a pointwise op: inputs, then attributes by name or position."""
    info = pointwise_info(op)
    n, names = op.n_inputs, tuple(info["attrs"])
    if not names and n == 1:

        def function(input: Tensor) -> Tensor:
            return apply(op, (input,))

    elif not names and n == 2:

        def function(input: Any, other: Any) -> Tensor:  # type: ignore[misc]
            return apply(op, (input, other))

    else:
        defaults = tuple(info["attrs"].values())

        def function(*args: Any, **kwargs: Any) -> Tensor:  # type: ignore[misc]
            if len(args) < n or len(args) > n + len(names):
                raise TypeError(
                    f"{op.name}: got {len(args)} positional arguments; expected {n} inputs"
                    + (f", then {', '.join(names)}" if names else "")
                )
            if len(args) == n and not kwargs:
                return apply(op, args)
            values = list(args[n:]) + list(defaults[len(args) - n :])
            for key, value in kwargs.items():
                if key not in names:
                    raise TypeError(f"{op.name}: unknown argument {key!r}; it has {names}")
                values[names.index(key)] = value
            return apply(op, args[:n], tuple(values))

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = op.__doc__
    return function


def in_place_function(op: Op) -> Any:
    """Return the method that writes a pointwise op's result into its first input."""
    n, names = op.n_inputs, tuple(pointwise_info(op)["attrs"])
    defaults = tuple(pointwise_info(op)["attrs"].values())

    def function(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        values = list(args[n - 1 :]) + list(defaults[max(0, len(args) - n + 1) :])
        for key, value in kwargs.items():
            if key not in names:
                raise TypeError(f"{op.name}_: unknown argument {key!r}; it has {names}")
            values[names.index(key)] = value
        return apply_(op, (self, *args[: n - 1]), tuple(values), self)

    function.__name__ = function.__qualname__ = op.name + "_"
    function.__doc__ = f"{op.__doc__} In place."
    return function


def publish(op: Op) -> Any:
    """Make a pointwise op a function, a method and (where it can be) an in-place method."""
    info = pointwise_info(op)
    function = pointwise_function(op)
    if op.name not in ("where", "gelu", "gelu_tanh", "fill", "binary_cross_entropy_terms"):
        setattr(Tensor, op.name, function)
        if not any(info["mask_inputs"]) and not info["mask_output"]:
            setattr(Tensor, op.name + "_", in_place_function(op))
    return function


for _op in ops.values():
    if _op.kind == "pointwise":
        _PLAIN[_op.name] = publish(_op)

_ALIASES = {
    "negative": "neg",
    "absolute": "abs",
    "multiply": "mul",
    "subtract": "sub",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arctan2": "atan2",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "fix": "trunc",
}
for _alias, _name in _ALIASES.items():
    _PLAIN[_alias] = _PLAIN[_name]
    setattr(Tensor, _alias, _PLAIN[_name])


# ---- signatures of their own


@method
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """Divide input by other; `rounding_mode` is None, "trunc" or "floor"."""
    if rounding_mode is None:
        return apply(ops["div"], (input, other))
    if rounding_mode == "floor":
        return apply(ops["floor_divide"], (input, other))
    if rounding_mode != "trunc":
        raise RuntimeError(
            f"div: rounding_mode is {rounding_mode!r}; expected None, trunc or floor"
        )
    quotient = apply(ops["trunc"], (apply(ops["div"], (input, other)),))
    if isinstance(input, Tensor) and not input.dtype.is_floating_point:
        return quotient.to(input.dtype)
    return quotient


@method
def pow(input: Any, exponent: Any) -> Tensor:
    """Raise input to a power; a power of 2, 0.5, 1 or -1 takes the short road."""
    power: Tensor = input**exponent
    return power


@method
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Limit input to [min, max]; either may be None, a number or a tensor."""
    if min is None and max is None:
        raise RuntimeError("clamp: at least one of min and max must be given")
    if (
        isinstance(min, Tensor)
        or isinstance(max, Tensor)
        or (isinstance(input, Tensor) and not input.dtype.is_floating_point)
    ):
        if min is not None:
            input = apply(ops["maximum"], (input, min))
        return input if max is None else apply(ops["minimum"], (input, max))
    low = -float("inf") if min is None else min
    high = float("inf") if max is None else max
    return apply(ops["clamp"], (input,), (low, high))


@method
def clamp_(self: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Limit the elements to [min, max] in place."""
    low = -float("inf") if min is None else min
    high = float("inf") if max is None else max
    return apply_(ops["clamp"], (self,), (low, high), self)


@overload
def where(condition: Tensor) -> tuple[Tensor, ...]: ...
@overload
def where(condition: Tensor, input: Any, other: Any) -> Tensor: ...
def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """Take input where condition is true, other elsewhere; alone: the indices of what is true."""
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    return apply(ops["where"], (condition, input, other))


def _where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    return apply(ops["where"], (condition, self, other))


setattr(Tensor, "where", _where_method)  # noqa: B010  (mypy: the method has another signature)


@method
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """Put value where mask is true."""
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"masked_fill: the mask is {mask.dtype}; expected bool")
    if isinstance(value, Tensor) and value.ndim:
        raise RuntimeError(f"masked_fill: value has shape {tuple(value.shape)}; expected a number")
    result = apply(ops["where"], (mask, value, input))
    return result if result.dtype is input.dtype else result.to(input.dtype)


@method
def masked_fill_(self: Tensor, mask: Tensor, value: Any) -> Tensor:
    """Put value where mask is true, in place."""
    return self.copy_(masked_fill(self, mask, value))


@method
def lerp(input: Tensor, end: Any, weight: Any) -> Tensor:
    """Interpolate: input + weight * (end - input)."""
    return apply(ops["lerp"], (input, end, weight))


@method
def lerp_(self: Tensor, end: Any, weight: Any) -> Tensor:
    """Interpolate towards end, in place."""
    return apply_(ops["lerp"], (self, end, weight), (), self)


@method
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Round to `decimals` places; halves go to the even neighbour."""
    if not input.dtype.is_floating_point:
        return input
    if decimals == 0:
        return apply(ops["round"], (input,))
    scale = 10.0**decimals
    return apply(ops["round"], (input * scale,)) / scale


@method
def nan_to_num(
    input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """Replace NaN and the infinities; by default with 0 and the largest finite numbers."""
    if not input.dtype.is_floating_point:
        return input
    limits = dtypes.finfo(input.dtype)
    high = limits.max if posinf is None else posinf
    low = limits.min if neginf is None else neginf
    return apply(ops["nan_to_num"], (input,), (nan, high, low))


@method
def bitwise_not(input: Tensor) -> Tensor:
    """Flip every bit of integers; negate bools."""
    return ~input


@method
def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Test |input - other| <= atol + rtol * |other|, element by element."""
    if rtol == 0 and atol == 0:  # integers would wrap in what follows
        same = input == other
        return same | ((input != input) & (other != other)) if equal_nan else same
    close = (input == other) | ((input - other).abs() <= atol + rtol * other.abs())
    close = close & ~((input != other) & (input.isinf() | other.isinf()))
    return close | ((input != input) & (other != other)) if equal_nan else close


@method
def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Test whether all elements are close, as `isclose` says."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


@method
def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Copy src, broadcast and converted, into the elements of self."""
    if not isinstance(src, Tensor):
        src = tensor(src, dtype=self.dtype)
    if src.dtype is not self.dtype:
        src = src.to(self.dtype)
    if src.shape != self.shape:
        src = src.expand(*self.shape)
    return apply_(ops["clone"], (src,), (), self)


@method
def fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to value, converted to the dtype of the tensor."""
    if isinstance(value, (int, float)) and not self.dtype.is_floating_point:
        value = bool(value) if self.dtype is dtypes.bool_ else int(value)
    return apply_(ops["fill"], (self, value), (), self)


@method
def zero_(self: Tensor) -> Tensor:
    """Set every element to 0."""
    return apply_(ops["fill"], (self, 0), (), self)


@method
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """Return a dense copy, in the graph."""
    return apply(ops["clone"], (input,))


def promote_types(type1: dtypes.dtype, type2: dtypes.dtype) -> dtypes.dtype:
    """Return the smallest dtype that holds both."""
    return result_type(empty((1,), type1), empty((1,), type2))


setattr(Tensor, "div_", in_place_function(ops["div"]))  # noqa: B010
for _name, _function in {
    "divide": div,
    "true_divide": div,
    "clip": clamp,
    "clip_": clamp_,
    "remainder": _PLAIN["remainder"],
}.items():
    setattr(Tensor, _name, _function)
divide = true_divide = div
clip = clamp


# By name, without those that have a signature of their own above.
FROM_REGISTRY = {name: f for name, f in _PLAIN.items() if name not in __all__}
