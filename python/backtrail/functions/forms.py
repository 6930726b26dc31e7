"""The further forms of a function: with `out=`, and in place as a method `name_`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import dtypes
from .._core import (
    TensorBase,
    apply,
    apply_,
    empty,
    full,
    is_grad_enabled,
    overlaps_itself,
    refuse_value,
    set_grad_enabled,
)
from ..tensor import Tensor, ops
from .notice import warn_caller
from .publish import complain

__all__ = [
    "compile_functions",
    "in_place",
    "into",
    "view_in_place",
    "with_numpy_names",
    "with_out",
]

Function = Callable[..., Any]
_CLONE, _CAST = ops["clone"], ops["cast"]


def compile_functions(text: str, **known: Any) -> dict[str, Function]:
    """Return the functions that a text defines, by name; they find what is `known` as globals."""
    space = {"__name__": __name__, "Any": Any, "Tensor": Tensor, **known}
    exec(compile(text, f"{__file__}:made", "exec"), space)
    return {n: f for n, f in space.items() if getattr(f, "__globals__", None) is space}


def _form(form: Function, plain: Function, name: str, doc: str) -> Function:
    """Make a form look like what it is a form of; `plain` tells whoever asks for parameters."""
    form.__name__ = form.__qualname__ = name
    form.__doc__ = f"{(plain.__doc__ or '').splitlines()[0]} {doc}".strip()
    form.__module__ = plain.__module__
    form.__dict__["plain"] = getattr(plain, "plain", plain)
    return form


# ---- out=


def with_out(plain: Function, exact: bool = False) -> Function:
    """Return a function that takes `out=`: a tensor, or a tuple of them, to write the result to.

    The result is converted to the dtype of `out` where arithmetic would; `exact` asks for the very
    dtype. A function that has a parameter `dtype` computes in that of `out`.
    """
    code, name = plain.__code__, plain.__name__
    adopts = not exact and "dtype" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    def form(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is not None and adopts:
            kwargs["dtype"] = _dtype(name, kwargs.get("dtype"), out)
        try:
            result = plain(*args, **kwargs)
        except (AttributeError, TypeError):
            result = _renamed(plain, args, kwargs)
        return result if out is None else into(name, out, result, exact)

    return _form(form, plain, name, "`out=` takes a tensor to write to.")


# ---- NumPy's names of parameters, which PyTorch knows as well

NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input"}
NUMPY_NAMES["x2"] = "other"


def with_numpy_names(plain: Function) -> Function:
    """Return a function that knows `axis` as `dim`, `keepdims` as `keepdim`."""

    def form(*args: Any, **kwargs: Any) -> Any:
        try:
            return plain(*args, **kwargs)
        except (AttributeError, TypeError):
            return _renamed(plain, args, kwargs)

    return _form(form, plain, plain.__name__, "")


def _renamed(plain: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call again with PyTorch's names for NumPy's, after an error; raise that one if none is."""
    renamed = {NUMPY_NAMES.get(name, name): value for name, value in kwargs.items()}
    if renamed.keys() == kwargs.keys() or len(renamed) < len(kwargs):
        complain(plain, args, kwargs)
        raise
    return plain(*args, **renamed)


def _dtype(name: str, dtype: Any, out: Any) -> Any:
    if isinstance(out, TensorBase) and dtype is not None and dtype is not out.dtype:
        raise RuntimeError(f"{name}: dtype is {dtype.name}, out {out.dtype.name}; they must agree")
    return out.dtype if isinstance(out, TensorBase) else dtype


def into(name: str, out: Any, result: Any, exact: bool = False) -> Any:
    """Write a result into `out`, which takes its shape; returns `out`.

    Raises RuntimeError when the dtype cannot hold the result, when a gradient would be wanted and
    when elements of `out` share memory. A tensor that has elements of another shape warns.
    """
    if isinstance(result, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            raise TypeError(f"{name}: out must be a tuple of {len(result)} tensors")
        pairs = zip(out, result, strict=True)
        written = [into(name, to, part, exact) for to, part in pairs]
        return type(result)(*written) if hasattr(result, "_fields") else tuple(written)
    if not isinstance(out, TensorBase):
        raise TypeError(f"{name}: out is {type(out).__name__}; expected a Tensor")
    if is_grad_enabled() and (out.requires_grad or result.requires_grad):
        raise RuntimeError(
            f"{name}: functions with out= do not support automatic differentiation, but one of "
            f"the arguments requires grad"
        )
    if result.dtype is not out.dtype:
        if exact or _category(result.dtype) > _category(out.dtype):
            raise RuntimeError(
                f"{name}: the result is {result.dtype.name} and cannot be stored in out, which is "
                f"{out.dtype.name}"
            )
        result = apply(_CAST, (result,), (out.dtype.code,))
    if out.shape != result.shape:
        _resize(name, out, result.shape)
    target: Any = out
    before = set_grad_enabled(False)
    try:
        return apply_(_CLONE, (result,), (), target, name)
    finally:
        set_grad_enabled(before)


def _category(dtype: dtypes.dtype) -> int:
    """Rank bools, integers and floating point numbers: each can hold those before."""
    return 2 if dtype.is_floating_point else int(dtype is not dtypes.bool_)


def _resize(name: str, out: Any, shape: Any) -> None:
    refuse_value(f"{name} with an out= of another shape")
    if out._numel:
        warn_caller(
            f"{name}: out had shape {tuple(out.shape)} and takes the shape {tuple(shape)} of the "
            f"result; give it that shape, or no elements, before",
        )
    out._assign(empty(shape, out.dtype))


# ---- in place


def in_place(plain: Function, name: str = "") -> Function:
    """Return the method `name_` that writes what a function makes of a tensor into that tensor."""
    name = name or plain.__name__

    def form(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        try:
            return _store(name, self, plain(_source(name, self), *args, **kwargs))
        except (AttributeError, TypeError):
            complain(plain, (self, *args), kwargs)
            raise

    return _form(form, plain, name + "_", "In place.")


def view_in_place(plain: Function, name: str = "") -> Function:
    """Return the method `name_` that makes a tensor itself the view that a function gives of it."""
    name = name or plain.__name__

    def form(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        refuse_value(name + "_")
        _check_leaf(name, self)
        became: Tensor = self._become(plain(self, *args, **kwargs))
        return became

    return _form(form, plain, name + "_", "In place.")


def _check_leaf(name: str, self: Any) -> bool:
    """Return whether the change will be recorded; refuse it of a leaf."""
    recorded = is_grad_enabled() and self.requires_grad
    if recorded and self.is_leaf:
        raise RuntimeError(
            f"{name}_: a leaf tensor that requires grad cannot be changed in place; do it under "
            f"no_grad()"
        )
    return recorded


def _source(name: str, self: Any) -> Tensor:
    """What to compute from: a copy where a derivative may read it after it was overwritten."""
    if overlaps_itself(self):
        raise RuntimeError(
            f"{name}_: several indices of the target (shape {tuple(self.shape)}) share one "
            f"element; use clone() first"
        )
    return apply(_CLONE, (self,)) if _check_leaf(name, self) else self


def _store(name: str, self: Any, result: Tensor) -> Tensor:
    if result.shape != self.shape:
        raise RuntimeError(
            f"{name}_: the result has shape {tuple(result.shape)}; it does not fit in place into "
            f"{tuple(self.shape)}"
        )
    if result.dtype is not self.dtype and _category(result.dtype) <= _category(self.dtype):
        result = apply(_CAST, (result,), (self.dtype.code,))
    if self.requires_grad and not result.requires_grad and is_grad_enabled():
        # The slope of a comparison is 0.
        result = apply(ops["where"], (full((), False, dtypes.bool_), self, result))
    return apply_(_CLONE, (result,), (), self, name)
