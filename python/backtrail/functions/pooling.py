"""Pooling over one or two dimensions: the largest element or the mean of every window."""

from __future__ import annotations

from typing import Any

from .. import dtypes
from .._core import Node, full
from ..tensor import Tensor, apply, ops
from .convolution import Numbers, numbers, of_integers
from .rules import rule

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_max_pool1d",
    "avg_pool1d",
    "max_pool1d",
    "max_pool2d",
]

_MAX, _MAX_BACKWARD = ops["max_pool"], ops["max_pool_backward"]
_AVG, _AVG_BACKWARD = ops["avg_pool"], ops["avg_pool_backward"]


def _check_input(name: str, dims: int, input: Tensor) -> None:
    if input.ndim not in (dims + 1, dims + 2):
        raise RuntimeError(
            f"{name}: input has shape {tuple(input.shape)}; expected {dims + 2} dimensions, "
            f"or {dims + 1} without a batch"
        )
    if 0 in input.shape[1 if input.ndim == dims + 2 else 0 :]:
        raise RuntimeError(
            f"{name}: input has shape {tuple(input.shape)}; only the batch may be empty"
        )


def _windows(
    name: str, dims: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any,
    dilation: Any, ceil_mode: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """Return the attributes of the ops: kernel, stride, padding, dilation and the output's size."""
    _check_input(name, dims, input)
    kernel = numbers(name, "kernel_size", kernel_size, dims, 1)
    # None or, as in PyTorch, an empty list: windows side by side.
    stride = kernel if stride is None or stride in ([], ()) else stride
    stride = numbers(name, "stride", stride, dims, 1)
    padding = numbers(name, "padding", padding, dims)
    dilation = numbers(name, "dilation", dilation, dims, 1)
    size = []
    for n, k, s, p, d in zip(input.shape[-dims:], kernel, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        if p > k // 2:
            raise RuntimeError(
                f"{name}: padding={padding} must be at most half of kernel_size={kernel}"
            )
        out = (n + 2 * p - reach + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (out - 1) * s >= n + p:  # the last window must begin inside
            out -= 1
        if out < 1:
            raise RuntimeError(
                f"{name}: input has shape {tuple(input.shape)}, kernel_size={kernel}, "
                f"padding={padding}, dilation={dilation}: the window must not be larger than the "
                f"padded input"
            )
        size.append(out)
    return kernel, stride, padding, dilation, tuple(size)


def _max(
    name: str, dims: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any,
    dilation: Any, ceil_mode: bool, return_indices: bool,
) -> Any:  # fmt: skip
    windows = _windows(name, dims, input, kernel_size, stride, padding, dilation, ceil_mode)
    y, where = apply(_MAX, (of_integers(input),), windows)
    y = y if y.dtype is input.dtype else y.to(input.dtype)
    return (y, where.to(dtypes.int64)) if return_indices else y


def max_pool1d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the largest element of every window: (N, C, L) -> (N, C, L').

    L' = (L + 2 * padding - dilation * (kernel_size - 1) - 1) / stride + 1, rounded down or, with
    `ceil_mode`, up. Padding counts as -inf. With `return_indices` the result is a pair: the
    elements, and their places along L.
    """
    return _max(
        "max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def max_pool2d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the largest element of every window: (N, C, H, W) -> (N, C, H', W').

    Sizes as in max_pool1d. With `return_indices` the result is a pair: the elements, and their
    places in their plane, h * W + w.
    """
    return _max(
        "max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def avg_pool1d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Average every window: (N, C, L) -> (N, C, L'), sizes as in max_pool1d.

    Zeros of the padding count as elements unless `count_include_pad` is False.
    """
    windows = _windows("avg_pool1d", 1, input, kernel_size, stride, padding, 1, ceil_mode)
    y = apply(_AVG, (of_integers(input),), (*windows, count_include_pad, 0))
    return y if y.dtype is input.dtype else y.to(input.dtype)


def avg_pool2d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average every window: (N, C, H, W) -> (N, C, H', W'), sizes as in max_pool1d.

    Zeros of the padding count as elements unless `count_include_pad` is False; sums are divided by
    `divisor_override` instead when it is given.
    """
    if divisor_override == 0:
        raise RuntimeError("avg_pool2d: divisor_override must not be 0")
    windows = _windows("avg_pool2d", 2, input, kernel_size, stride, padding, 1, ceil_mode)
    attributes = (*windows, count_include_pad, divisor_override or 0)
    y = apply(_AVG, (of_integers(input),), attributes)
    return y if y.dtype is input.dtype else y.to(input.dtype)


def _evenly(name: str, dims: int, input: Tensor, output_size: Any) -> tuple[Any, ...]:
    """Return the attributes of adaptive pooling, which are those of a kernel of 0."""
    _check_input(name, dims, input)
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * dims
    if len(given) == dims:
        kept = zip(given, input.shape[-dims:], strict=True)
        given = [n if size is None else size for size, n in kept]
    size = numbers(name, "output_size", given, dims, 1)
    none, one = (0,) * dims, (1,) * dims
    return none, one, none, one, size


def adaptive_avg_pool1d(input: Tensor, output_size: Numbers) -> Tensor:
    """Average (N, C, L) over output_size windows: window i is [i * L / size, (i + 1) * L / size).

    The beginning is rounded down, the end up.
    """
    return apply(_AVG, (input,), _evenly("adaptive_avg_pool1d", 1, input, output_size))


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Average (N, C, H, W) over windows as in adaptive_avg_pool1d; None keeps a size."""
    return apply(_AVG, (input,), _evenly("adaptive_avg_pool2d", 2, input, output_size))


def adaptive_max_pool1d(input: Tensor, output_size: Numbers, return_indices: bool = False) -> Any:
    """Take the largest element of windows as in adaptive_avg_pool1d, and its place if asked."""
    y, where = apply(_MAX, (input,), _evenly("adaptive_max_pool1d", 1, input, output_size))
    return (y, where.to(dtypes.int64)) if return_indices else y


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Take the largest element of windows as in adaptive_avg_pool2d, and its place if asked."""
    y, where = apply(_MAX, (input,), _evenly("adaptive_max_pool2d", 2, input, output_size))
    return (y, where.to(dtypes.int64)) if return_indices else y


# ---- rules


def _resized(op: Any, node: Node, grad: Tensor, *inputs: Tensor) -> Tensor:
    """Apply an op with the node's attributes, to make what is as large as the node's input."""
    attrs = node.attrs
    size = tuple(node.shape(0)[-len(attrs[4]) :])
    return apply(op, (grad, *inputs), (*attrs[:4], size, *attrs[5:]))


@rule("max_pool")
def _max_pool(node: Node, grads: list[Tensor | None]) -> Any:
    (where,) = node.saved
    return (None if grads[0] is None else _resized(_MAX_BACKWARD, node, grads[0], where),)


@rule("max_pool_backward")
def _max_pool_backward(node: Node, grad: Tensor) -> Any:
    """The elements at the places found: how a gradient was sent there."""
    (where,) = node.saved
    dims = len(node.attrs[4])
    planes = grad.flatten(-dims) if grad.ndim > dims else grad.reshape(1, -1)
    planes = planes.reshape(-1, planes.shape[-1])
    place = where.to(dtypes.int64).reshape(planes.shape[0], -1)
    taken = apply(ops["gather"], (planes, place.clamp(min=0)), (1,)).reshape(where.shape)
    return apply(ops["where"], (where >= 0, taken, full((), 0, grad.dtype))), None


@rule("avg_pool")
def _avg_pool(node: Node, grad: Tensor) -> Any:
    return (_resized(_AVG_BACKWARD, node, grad),)


@rule("avg_pool_backward")
def _avg_pool_backward(node: Node, grad: Tensor) -> Any:
    return (_resized(_AVG, node, grad),)
