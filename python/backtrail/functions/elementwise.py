"""Pointwise functions: one for every pointwise op of the registry, made here, and those whose
PyTorch signature needs a line of Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from .. import dtypes
from .._core import check_fill, empty, pointwise_info, result_type
from ..tensor import Op, Tensor, apply, apply_, method, ops
from .creation import tensor
from .forms import compile_functions, in_place, into
from .indexing import nonzero

__all__ = [
    "allclose",
    "bitwise_not",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "clone",
    "div",
    "divide",
    "fill",
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


def _unary(op: Op) -> tuple[Any, Any, Any]:
    def function(input: Tensor, *, out: Any = None) -> Tensor:
        if out is not None:
            return _into(op.name, out, apply(op, (input,)))
        return apply(op, (input,))

    def method(self: Tensor) -> Tensor:
        return apply(op, (self,))

    def method_(self: Tensor) -> Tensor:
        return apply_(op, (self,), (), self)

    return function, method, method_


def _binary(op: Op) -> tuple[Any, Any, Any]:
    def function(input: Any, other: Any, *, out: Any = None) -> Tensor:
        if out is not None:
            return _into(op.name, out, apply(op, (input, other)))
        return apply(op, (input, other))

    def method(self: Tensor, other: Any) -> Tensor:
        return apply(op, (self, other))

    def method_(self: Tensor, other: Any) -> Tensor:
        return apply_(op, (self, other), (), self)

    return function, method, method_


def _scaled(op: Op) -> tuple[Any, Any, Any]:
    """The forms of sum and difference. An old order of arguments is add(x, 2, y): x + 2 * y."""

    def function(
        input: Any, other: Any, _last: Any = None, *, alpha: Any = 1, out: Any = None
    ) -> Tensor:
        if out is not None:
            return _into(op.name, out, function(input, other, _last, alpha=alpha))
        if _last is not None:
            other, alpha = _last, other
        if type(alpha) is float:
            _check_factor(op.name, input, other, alpha)
        return apply(op, (input, other), (alpha,))

    def method(self: Tensor, other: Any, _last: Any = None, *, alpha: Any = 1) -> Tensor:
        if _last is not None:
            other, alpha = _last, other
        if type(alpha) is float:
            _check_factor(op.name, self, other, alpha)
        return apply(op, (self, other), (alpha,))

    def method_(self: Tensor, other: Any, _last: Any = None, *, alpha: Any = 1) -> Tensor:
        if _last is not None:
            other, alpha = _last, other
        if type(alpha) is float:
            _check_factor(op.name, self, other, alpha)
        return apply_(op, (self, other), (alpha,), self)

    return function, method, method_


def _check_factor(name: str, input: Any, other: Any, alpha: float) -> None:
    if not result_type(input, other).is_floating_point:
        raise RuntimeError(f"{name}: alpha is {alpha}; of integers it must be an integer")


def _scaled_pair(op: Op) -> tuple[Any, Any, Any]:
    """The forms of addcmul and addcdiv. An old order of arguments is (input, value, a, b)."""

    def function(
        input: Any,
        tensor1: Any,
        tensor2: Any,
        _last: Any = None,
        *,
        value: Any = 1,
        out: Any = None,
    ) -> Tensor:
        if out is not None:
            return _into(op.name, out, function(input, tensor1, tensor2, _last, value=value))
        if _last is not None:
            tensor1, tensor2, value = tensor2, _last, tensor1
        return apply(op, (input, tensor1, tensor2), (value,))

    def method(
        self: Tensor, tensor1: Any, tensor2: Any, _last: Any = None, *, value: Any = 1
    ) -> Tensor:
        return function(self, tensor1, tensor2, _last, value=value)

    def method_(
        self: Tensor, tensor1: Any, tensor2: Any, _last: Any = None, *, value: Any = 1
    ) -> Tensor:
        if _last is not None:
            tensor1, tensor2, value = tensor2, _last, tensor1
        return apply_(op, (self, tensor1, tensor2), (value,), self)

    return function, method, method_


def _compiled(op: Op, inputs: Sequence[str]) -> tuple[Any, Any, Any]:
    """The forms of an op with attributes, or with inputs of names of its own."""
    attrs = pointwise_info(op)["attrs"]
    known: dict[str, Any] = {"_op": op, "_apply": apply, "_apply_": apply_, "_into": _into}
    known |= {f"_d{i}": value for i, value in enumerate(attrs.values())}
    named = [f"{name}: float = _d{i}" for i, name in enumerate(attrs)]
    shown = ", ".join([*(f"{n}: {'Any' if inputs[1:] else 'Tensor'}" for n in inputs), *named])
    values = f"({''.join(f'{name}, ' for name in attrs)})"
    call = f"_apply(_op, ({', '.join(inputs)},), {values})"
    place = f"_apply_(_op, ({', '.join(['self', *inputs[1:]])},), {values}, self)"
    made = compile_functions(
        f"from __future__ import annotations\n"
        f"def function({shown}, *, out: Any = None) -> Tensor:\n"
        f" return {call} if out is None else _into(_op.name, out, {call})\n"
        f"def method({shown}) -> Tensor: return {call}\n"
        f"def method_({shown.replace(inputs[0], 'self', 1)}) -> Tensor: return {place}",
        **known,
    )
    return made["function"], made["method"], made["method_"]


def _into(name: str, out: Any, result: Tensor) -> Tensor:
    written: Tensor = into(name, out, result)
    return written


def forms_of(op: Op, inputs: Sequence[str] = ()) -> tuple[Any, Any, Any]:
    """Return the function of a pointwise op (with `out=`), its method and its in-place method.

    `inputs` are the names of an op of a library; those of the others are PyTorch's.
    """
    attrs = tuple(pointwise_info(op)["attrs"])
    if inputs:
        forms = _compiled(op, inputs)
    elif not attrs and op.n_inputs <= 2:
        forms = _unary(op) if op.n_inputs == 1 else _binary(op)
    elif op.n_inputs > 1 and attrs in (("alpha",), ("value",)):
        forms = _scaled(op) if attrs == ("alpha",) else _scaled_pair(op)
    else:
        forms = _compiled(op, ["input", "other", "weight"][: op.n_inputs])
    for form, name in zip(forms, (op.name, op.name, op.name + "_"), strict=True):
        form.__name__ = form.__qualname__ = name
        form.__doc__ = op.__doc__ if form is not forms[2] else f"{op.__doc__} In place."
        form.__module__ = "backtrail.functions.functional"
    return forms


def publish(op: Op) -> Any:
    """Make a pointwise op a function, a method and (where it can be) an in-place method."""
    info = pointwise_info(op)
    function, method, method_ = forms_of(op)
    if op.name not in ("where", "gelu", "gelu_tanh", "fill", "binary_cross_entropy_terms"):
        setattr(Tensor, op.name, method)
        if any(info["mask_inputs"]) or info["mask_output"]:  # its result is converted
            method_ = in_place(method)
        if not op.name.startswith("is"):
            setattr(Tensor, op.name + "_", method_)
    return function


for _op in ops.values():
    if _op.kind == "pointwise" and _op.name not in __all__:
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
    setattr(Tensor, _alias, getattr(Tensor, _name))
    if hasattr(Tensor, _name + "_"):
        setattr(Tensor, _alias + "_", getattr(Tensor, _name + "_"))


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
    return apply(ops["trunc_divide"], (input, other))


_divide_in_place = in_place(div)


@method
def div_(self: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """Divide by other in place."""
    if rounding_mode is None:
        return apply_(ops["div"], (self, other), (), self)
    result: Tensor = _divide_in_place(self, other, rounding_mode=rounding_mode)
    return result


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
            input = apply(ops["clamp_min"], (input, min))
        return input if max is None else apply(ops["clamp_max"], (input, max))
    low = -float("inf") if min is None else min
    high = float("inf") if max is None else max
    return apply(ops["clamp"], (input,), (low, high))


_clamp_in_place = in_place(clamp)


@method
def clamp_(self: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Limit the elements to [min, max] in place; either may be None, a number or a tensor."""
    if self.dtype.is_floating_point and isinstance(min, float) and isinstance(max, float):
        return apply_(ops["clamp"], (self,), (min, max), self)
    result: Tensor = _clamp_in_place(self, min, max)
    return result


@method
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """Limit input from below, by a number or a tensor."""
    return clamp(input, min)


@method
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """Limit input from above, by a number or a tensor."""
    return clamp(input, None, max)


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
    if not isinstance(value, Tensor):
        check_fill("masked_fill", value, input.dtype)
    result = apply(ops["where"], (mask, value, input))
    return result if result.dtype is input.dtype else result.to(input.dtype)


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
    if decimals == 0:
        return apply(ops["round"], (input,))
    if not input.dtype.is_floating_point:
        return apply(ops["clone"], (input,))
    scale = 10.0**decimals
    return apply(ops["round"], (input * scale,)) / scale


@method
def nan_to_num(
    input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """Replace NaN and the infinities; by default with 0 and the largest finite numbers."""
    if not input.dtype.is_floating_point:
        return apply(ops["clone"], (input,))
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
    if not isinstance(input, Tensor) or not isinstance(other, Tensor):
        kinds = f"{type(input).__name__} and {type(other).__name__}"
        raise TypeError(f"isclose: expected two Tensors; got {kinds}")
    if rtol < 0 or atol < 0:
        raise RuntimeError(f"isclose: rtol {rtol} and atol {atol} must not be negative")
    exact = input.dtype is dtypes.bool_ or other.dtype is dtypes.bool_
    if exact or (rtol == 0 and atol == 0):  # integers would wrap in what follows
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
    if self.grad_fn is not None and self._base is None:  # what was there has a gradient: 0
        return apply_(ops["fill"], (self, src), (), self)
    return apply_(ops["clone"], (src,), (), self)


def fill(input: Tensor, value: Any) -> Tensor:
    """Return a tensor like input with every element set to value."""
    return apply(ops["fill"], (input, value))


@method
def fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to value, converted to the dtype of the tensor."""
    if not isinstance(value, Tensor):
        check_fill("fill_", value, self.dtype)
    if isinstance(value, (int, float)) and not self.dtype.is_floating_point:
        value = bool(value) if self.dtype is dtypes.bool_ else int(value)
    if isinstance(value, Tensor) and value.ndim:
        raise RuntimeError(f"fill_: value has shape {tuple(value.shape)}; expected a number")
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


for _name in ("divide", "true_divide"):
    setattr(Tensor, _name, div)
    setattr(Tensor, _name + "_", div_)
setattr(Tensor, "clip", clamp)  # noqa: B010
setattr(Tensor, "clip_", clamp_)  # noqa: B010
divide = true_divide = div
clip = clamp


# By name, without those that have a signature of their own above.
FROM_REGISTRY = {name: f for name, f in _PLAIN.items() if name not in __all__}
