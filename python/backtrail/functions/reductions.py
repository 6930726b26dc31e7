"""Functions along dimensions: sums, means, extremes, norms, softmax, tests over all elements."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from .._core import full, get_default_dtype
from ..tensor import Tensor, apply, method, ops
from .notice import warn_caller
from .returns import ValuesIndices, returned

__all__ = [
    "ValuesIndices",
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "diff",
    "equal",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "softmax",
    "std",
    "std_mean",
    "sum",
    "var",
    "var_mean",
]

Dims = Any  # None, an int or a sequence of ints

_SUM, _MEAN, _PROD = ops["sum"], ops["mean"], ops["prod"]
_AMAX, _AMIN = ops["amax"], ops["amin"]
_SOFTMAX, _LOG_SOFTMAX = ops["softmax"], ops["log_softmax"]


@method
def sum(
    input: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Dims = None,
    keepdims: bool = False,
) -> Tensor:
    """Add up over dimensions (all by default). Integers and bools give int64."""
    if dtype is not None:
        input = input.to(dtype)
    total = apply(_SUM, (input,), (axis if dim is None else dim, keepdim or keepdims))
    return total if dtype is None else total.to(dtype)


@method
def mean(
    input: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Dims = None,
    keepdims: bool = False,
) -> Tensor:
    """Average over dimensions (all by default) of a floating point tensor."""
    if dtype is not None:
        input = input.to(dtype)
    return apply(_MEAN, (input,), (axis if dim is None else dim, keepdim or keepdims))


@method
def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Multiply over one dimension, or over all."""
    if dtype is not None:
        input = input.to(dtype)
    product = apply(_PROD, (input,), (dim, keepdim))
    return product if dtype is None else product.to(dtype)


@method
def amax(input: Tensor, dim: Dims = (), keepdim: bool = False) -> Tensor:
    """Return the largest element over dimensions; NaN when there is one."""
    return apply(_AMAX, (input,), (dim, keepdim))


@method
def amin(input: Tensor, dim: Dims = (), keepdim: bool = False) -> Tensor:
    """Return the smallest element over dimensions; NaN when there is one."""
    return apply(_AMIN, (input,), (dim, keepdim))


@method
def max(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    other: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    """Return the largest element; with a dim (values, indices); with a tensor `maximum`."""
    if dim is None:
        dim = axis if other is None else other
        if dim is None:
            return apply(_AMAX, (input,), (None, False))
    if isinstance(dim, Tensor):
        return apply(ops["maximum"], (input, dim))
    return returned("max")(*apply(ops["max_dim"], (input,), (dim, keepdim or keepdims)))


@method
def min(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    other: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    """Return the smallest element; with a dim (values, indices); with a tensor `minimum`."""
    if dim is None:
        dim = axis if other is None else other
        if dim is None:
            return apply(_AMIN, (input,), (None, False))
    if isinstance(dim, Tensor):
        return apply(ops["minimum"], (input, dim))
    return returned("min")(*apply(ops["min_dim"], (input,), (dim, keepdim or keepdims)))


@method
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Return the index of the first largest element, of the flattened tensor by default."""
    return apply(ops["argmax"], (input,), (dim, keepdim))


@method
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Return the index of the first smallest element, of the flattened tensor by default."""
    return apply(ops["argmin"], (input,), (dim, keepdim))


@method
def any(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Test whether some element is true (not 0)."""
    if input._numel == 0:
        return _truth(input, input.to(dtypes.bool_).sum(dim, keepdim) != 0)
    return _truth(input, apply(_AMAX, (input != 0,), (dim, keepdim)))


@method
def all(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Test whether every element is true (not 0)."""
    if input._numel == 0:
        return _truth(input, (input == 0).sum(dim, keepdim) == 0)
    return _truth(input, apply(_AMIN, (input != 0,), (dim, keepdim)))


def _truth(input: Tensor, found: Tensor) -> Tensor:
    """PyTorch answers in uint8 for uint8, its bools of old."""
    return found.to(dtypes.uint8) if input.dtype is dtypes.uint8 else found


@method
def count_nonzero(input: Tensor, dim: Dims = None) -> Tensor:
    """Count the elements that are not 0."""
    return (input != 0).sum(dim)


def _count(input: Tensor, dim: Dims) -> int:
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return input._numel
    n = 1
    for d in dim if isinstance(dim, Sequence) else (dim,):
        n *= input.shape[d] if input.ndim else 1
    return n


@method
def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Return the variance: squared deviations from the mean, summed, over n - correction."""
    return _variance(input, dim, unbiased, keepdim, correction, input.dtype)


def _variance(
    input: Tensor, dim: Any, unbiased: bool, keepdim: bool, correction: Any, squares: dtypes.dtype
) -> Tensor:
    """`var` with its squares formed and added up in the dtype `squares`."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    degrees = (1 if unbiased else 0) if correction is None else correction
    n = _count(input, dim)
    deviation = input - input.mean(dim, True)
    if input.dtype is not squares:
        deviation = deviation.to(squares)
    total = (deviation * deviation).sum(dim, keepdim)
    return total / builtins.max(n - degrees, 0)


@method
def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Return the standard deviation, the square root of `var`; its slope where it is 0 is 0.

    Squares of float32 are formed in float64, where they do not overflow.
    """
    squares = dtypes.float64 if input.dtype is dtypes.float32 else input.dtype
    root = safe_root(_variance(input, dim, unbiased, keepdim, correction, squares))
    return root if squares is input.dtype else root.to(input.dtype)


def safe_root(square: Tensor, power: float = 0.5) -> Tensor:
    """Return square ** power, or 0 with the slope 0 where it is 0: PyTorch's rule for norms."""
    zero = square.detach() == 0
    root = apply(ops["where"], (zero, _number(1, square), square)) ** power
    return apply(ops["where"], (zero, _number(0, square), root))


def _number(value: float, like: Tensor) -> Tensor:
    return full((), value, like.dtype)


def var_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the variance and the mean."""
    mean = input.mean(None if isinstance(dim, bool) else dim, keepdim)
    return var(input, dim, unbiased, keepdim, correction=correction), mean


def std_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the standard deviation and the mean."""
    mean = input.mean(None if isinstance(dim, bool) else dim, keepdim)
    return std(input, dim, unbiased, keepdim, correction=correction), mean


@method
def logsumexp(input: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """Return log(sum(exp(input))) without overflow."""
    if not input.dtype.is_floating_point:
        input = input.to(get_default_dtype())
    top = amax(input.detach(), dim, True)
    top = apply(ops["where"], (apply(ops["isinf"], (top,)), 0.0, top)).to(input.dtype)
    total = (input - top).exp().sum(dim, True).log() + top
    return total if keepdim else _drop(total, input, dim)


def _along_last(op: Any, input: Tensor, dim: int | None) -> Tensor:
    """Run a row-wise op along any dimension."""
    last = input.ndim - 1
    if dim is None:  # PyTorch's rule, and its warning
        dim = 0 if input.ndim in (0, 1, 3) else 1
        warn_caller(f"{op.name}: no dim was given; {dim} is taken: name it")
    if input.ndim == 0:
        return apply(op, (input.reshape(1),)).reshape(())
    if dim in (-1, last):
        return apply(op, (input,))
    return apply(op, (input.transpose(dim, -1),)).transpose(dim, -1).contiguous()


@method
def softmax(
    input: Tensor,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: Any = None,
    *,
    axis: int | None = None,
) -> Tensor:
    """Return exp(input) over its sum along a dimension."""
    dim = axis if dim is None else dim
    return _along_last(_SOFTMAX, input if dtype is None else input.to(dtype), dim)


@method
def log_softmax(
    input: Tensor,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: Any = None,
    *,
    axis: int | None = None,
) -> Tensor:
    """Return the logarithm of softmax along a dimension."""
    dim = axis if dim is None else dim
    return _along_last(_LOG_SOFTMAX, input if dtype is None else input.to(dtype), dim)


def _drop(reduced: Tensor, input: Tensor, dim: Dims) -> Tensor:
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return reduced.reshape(())
    dims = [d % builtins.max(input.ndim, 1) for d in (dim if isinstance(dim, Sequence) else (dim,))]
    return reduced.reshape([n for d, n in enumerate(reduced.shape) if d not in dims])


@method
def norm(
    input: Tensor, p: Any = "fro", dim: Dims = None, keepdim: bool = False, dtype: Any = None
) -> Tensor:
    """Return the vector p-norm over dimensions; "fro" is the 2-norm of all elements."""
    if dtype is not None:
        input = input.to(dtype)
    if p in ("fro", 2, 2.0, None):
        return safe_root((input * input).sum(dim, keepdim))
    if not isinstance(p, (int, float)):
        raise RuntimeError(f"norm: p is {p!r}; expected 'fro' or a number")
    if (p < 0 or p == float("inf")) and _count(input, dim) == 0:
        raise RuntimeError(
            f"norm: p={p} of no elements, shape {tuple(input.shape)}, is not defined"
        )
    if p == float("inf"):
        return amax(input.abs(), () if dim is None else dim, keepdim)
    if p == -float("inf"):
        return amin(input.abs(), () if dim is None else dim, keepdim)
    if p == 1:
        return input.abs().sum(dim, keepdim)
    if p == 0:
        one = apply(ops["fill"], (input, 1))  # in the graph, with slope 0
        return apply(ops["where"], (input.detach() != 0, one, _number(0, one))).sum(dim, keepdim)
    if p > 2:
        return safe_root((input.abs() ** p).sum(dim, keepdim), 1.0 / p)
    zero = input.detach() == 0  # where a power has no slope, or an infinite one
    size = apply(ops["where"], (zero, _number(1, input), input.abs())) ** p
    size = apply(ops["where"], (zero, _number(0 if p > 0 else float("inf"), size), size))
    return safe_root(size.sum(dim, keepdim), 1.0 / p)


@method
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Return the running sum along a dimension."""
    running = apply(ops["cumsum"], (input if dtype is None else input.to(dtype),), (dim,))
    return running if dtype is None else running.to(dtype)


@method
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Return the running product along a dimension."""
    running = apply(ops["cumprod"], (input if dtype is None else input.to(dtype),), (dim,))
    return running if dtype is None else running.to(dtype)


@method
def equal(input: Tensor, other: Tensor) -> bool:
    """Test whether two tensors have the same shape and equal elements."""
    return input.shape == other.shape and bool((input == other).all())


@method
def diff(
    input: Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """Return the differences of neighbours along a dimension, n times over.

    `prepend` and `append` are joined to the input first. Bools differ by exclusive or.
    """
    if n < 0:
        raise RuntimeError(f"diff: n is {n}; it must not be negative")
    if not input.ndim:
        raise RuntimeError("diff: expected a tensor of at least one dimension")
    if n == 0:
        return input.clone()
    parts = tuple(x for x in (prepend, input, append) if x is not None)
    if len(parts) > 1:
        input = apply(ops["cat"], parts, (dim,))
    step = ops["bitwise_xor" if input.dtype is dtypes.bool_ else "sub"]
    for _ in range(builtins.min(n, input.shape[dim])):
        size = input.shape[dim]
        later, earlier = input.narrow(dim, 1, size - 1), input.narrow(dim, 0, size - 1)
        input = apply(step, (later, earlier))
    return input
