"""Convolutions and their transposes, with their derivatives.

Three ops, each bilinear, are one another's derivatives: `convolution` makes outputs from an image
and filters, `conv_transpose` an image from outputs and filters, `conv_weight` filters from an image
and outputs. So one rule each serves every order. All take the same attributes, the last of which
is the size of what they make.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import dtypes
from .._core import Node
from ..tensor import Op, Tensor, apply, ops
from .rules import rule

__all__ = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"]

_CONVOLUTION, _TRANSPOSE = ops["convolution"], ops["conv_transpose"]
_WEIGHT, _INDEX_ADD = ops["conv_weight"], ops["index_add"]
Numbers = int | Sequence[int]


def numbers(name: str, what: str, value: Any, dims: int, least: int = 0) -> tuple[int, ...]:
    """Return one number a dimension from an integer, or from as many."""
    if isinstance(value, int):
        found: tuple[int, ...] = (value,) * dims
    else:
        found = tuple(value)
        if len(found) == 1:
            found *= dims
    if len(found) != dims or any(n < least for n in found):
        raise RuntimeError(
            f"{name}: {what} is {value!r}; expected {dims} numbers of at least {least}, or one"
        )
    return found


def batch_of(name: str, input: Tensor, dims: int) -> tuple[Tensor, bool]:
    """Return the input with a batch dimension, and whether it had one."""
    if input.ndim == dims + 2:
        return input, True
    if input.ndim == dims + 1:
        return input.unsqueeze(0), False
    raise RuntimeError(
        f"{name}: input has shape {tuple(input.shape)}; expected {dims + 2} dimensions, "
        f"or {dims + 1} without a batch"
    )


def _check(
    name: str, dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, groups: int,
    channels: int, out_channels: int,
) -> None:  # fmt: skip
    w = tuple(weight.shape)
    if len(w) != dims + 2 or 0 in w:
        raise RuntimeError(f"{name}: weight has shape {w}; expected {dims + 2} dimensions, none 0")
    if groups < 1 or w[0] % groups:
        raise RuntimeError(
            f"{name}: weight has shape {w}; its first dimension must divide into {groups} groups"
        )
    if input.shape[1] != channels:
        raise RuntimeError(
            f"{name}: input has shape {tuple(input.shape)} and weight {w}, groups={groups}: "
            f"expected {channels} input channels; got {input.shape[1]}"
        )
    if bias is not None and tuple(bias.shape) != (out_channels,):
        raise RuntimeError(
            f"{name}: bias has shape {tuple(bias.shape)}; expected ({out_channels},) for weight {w}"
        )


def of_integers(x: Tensor) -> Tensor:
    """Return integers as float64, which holds them exactly up to 2**53; floats as they are."""
    return x if x.dtype.is_floating_point or x.dtype is dtypes.bool_ else x.to(dtypes.float64)


def _product(op: Op, x: Tensor, weight: Tensor, bias: Tensor | None, attributes: Any) -> Tensor:
    kinds = {t.dtype for t in (x, weight, bias) if t is not None}
    if x.dtype.is_floating_point or len(kinds) > 1:
        return apply(op, (x, weight, bias), attributes)
    wide = (of_integers(x), of_integers(weight), None if bias is None else of_integers(bias))
    return apply(op, wide, attributes).to(x.dtype)


def _conv(
    name: str, dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any,
    padding: Any, dilation: Any, groups: int,
) -> Tensor:  # fmt: skip
    x, batched = batch_of(name, input, dims)
    w = weight.shape
    _check(name, dims, x, weight, bias, groups, w[1] * groups if len(w) > 1 else 0, w[0])
    stride = numbers(name, "stride", stride, dims, 1)
    dilation = numbers(name, "dilation", dilation, dims, 1)
    reach = [d * (k - 1) for d, k in zip(dilation, w[2:], strict=True)]
    if padding == "same":
        if any(s != 1 for s in stride):
            raise RuntimeError(f"{name}: padding='same' needs a stride of 1; got {stride}")
        before, size = tuple(r // 2 for r in reach), tuple(x.shape[2:])
    else:
        if padding == "valid":
            padding = 0
        elif isinstance(padding, str):
            raise RuntimeError(f"{name}: padding is {padding!r}; expected same, valid or numbers")
        before = numbers(name, "padding", padding, dims)
        size = tuple(
            (n + 2 * p - r - 1) // s + 1
            for n, p, r, s in zip(x.shape[2:], before, reach, stride, strict=True)
        )
    if any(n < 1 for n in size):
        raise RuntimeError(
            f"{name}: input has shape {tuple(input.shape)}, weight {tuple(w)}, padding={before}, "
            f"dilation={dilation}: the filter must not be larger than the padded input"
        )
    y = _product(_CONVOLUTION, x, weight, bias, (stride, before, dilation, groups, size))
    return y if batched else y.squeeze(0)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """Correlate (N, C, L) with filters (O, C / groups, K), and add bias (O): (N, O, L').

    L' = (L + 2 * padding - dilation * (K - 1) - 1) // stride + 1. `padding` is a number of zeros
    on both sides, "valid" for none, or "same" for L' = L. The batch dimension may be left out.
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """Correlate (N, C, H, W) with filters (O, C / groups, K, K'), and add bias (O): (N, O, H', W').

    H' = (H + 2 * padding - dilation * (K - 1) - 1) // stride + 1, and so W'; one number serves
    both, or give a pair. `padding` may also be "valid" for none, or "same" for H' = H and W' = W.
    Channels and filters fall into `groups` that do not see each other. The batch dimension may be
    left out.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(
    name: str, dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any,
    padding: Any, output_padding: Any, groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    x, batched = batch_of(name, input, dims)
    w = weight.shape
    _check(name, dims, x, weight, bias, groups, w[0], w[1] * groups if len(w) > 1 else 0)
    stride = numbers(name, "stride", stride, dims, 1)
    padding = numbers(name, "padding", padding, dims)
    extra = numbers(name, "output_padding", output_padding, dims)
    dilation = numbers(name, "dilation", dilation, dims, 1)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise RuntimeError(
            f"{name}: output_padding={extra} must be smaller than stride={stride} or "
            f"dilation={dilation}"
        )
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(
            x.shape[2:], stride, padding, dilation, w[2:], extra, strict=True
        )
    )
    if any(n < 1 for n in size) or any(n < 1 for n in x.shape[2:]):
        raise RuntimeError(
            f"{name}: input has shape {tuple(input.shape)}, weight {tuple(w)}, padding={padding}: "
            f"the output would have size {size}"
        )
    y = _product(_TRANSPOSE, x, weight, bias, (stride, padding, dilation, groups, size))
    return y if batched else y.squeeze(0)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
) -> Tensor:
    """Apply the transpose of conv1d: (N, C, L), filters (C, O / groups, K), bias (O) -> (N, O, L').

    L' = (L - 1) * stride - 2 * padding + dilation * (K - 1) + output_padding + 1.
    """
    own = stride, padding, output_padding, groups, dilation
    return _conv_transpose("conv_transpose1d", 1, input, weight, bias, *own)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
) -> Tensor:
    """Apply conv2d's transpose: (N, C, H, W), filters (C, O / groups, K, K') -> (N, O, H', W').

    H' = (H - 1) * stride - 2 * padding + dilation * (K - 1) + output_padding + 1, and so W'.
    """
    own = stride, padding, output_padding, groups, dilation
    return _conv_transpose("conv_transpose2d", 2, input, weight, bias, *own)


# ---- rules


def _of(op: Any, node: Node, a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """Apply one of the three ops with the node's attributes, to make what is shaped as `like`."""
    inputs = (a, b) if op is _WEIGHT else (a, b, None)
    return apply(op, inputs, (*node.attrs[:4], tuple(like.shape[2:])))


def _bias(node: Node, grad: Tensor) -> Tensor | None:
    if node.edges[2] is None:
        return None
    return grad.flatten(2).sum(2).sum(0)  # in two steps: the first one runs along memory


@rule("convolution")
def _convolution(node: Node, grad: Tensor) -> Any:
    x, w = node.saved
    return (
        _of(_TRANSPOSE, node, grad, w, x) if node.edges[0] is not None else None,
        _of(_WEIGHT, node, x, grad, w) if node.edges[1] is not None else None,
        _bias(node, grad),
    )


@rule("conv_transpose")
def _conv_transpose_rule(node: Node, grad: Tensor) -> Any:
    g, w = node.saved
    return (
        _of(_CONVOLUTION, node, grad, w, g) if node.edges[0] is not None else None,
        _of(_WEIGHT, node, grad, g, w) if node.edges[1] is not None else None,
        _bias(node, grad),
    )


@rule("conv_weight")
def _conv_weight(node: Node, grad: Tensor) -> Any:
    x, g = node.saved
    return (
        _of(_TRANSPOSE, node, g, grad, x) if node.edges[0] is not None else None,
        _of(_CONVOLUTION, node, x, grad, g) if node.edges[1] is not None else None,
    )
