"""Layers as functions: linear, embedding, dropout, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import dtypes
from ...autograd import Function, no_grad
from ...functions.creation import full, ones, tensor, zeros
from ...functions.notice import warn_caller
from ...functions.random import bernoulli, dropout as _dropout
from ...tensor import Tensor, apply, ops

_LINEAR, _EMBEDDING = ops["linear"], ops["embedding"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return input @ weight.T + bias: (..., in) @ (out, in).T + (out) -> (..., out)."""
    if input.dtype.is_floating_point:
        return apply(_LINEAR, (input, weight, bias))
    product = input @ weight.mT  # of integers
    return product if bias is None else product + bias


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Look up rows of weight (V, E): integers (...) -> (..., E).

    The row `padding_idx` gets no gradient. With `max_norm`, rows that are looked up and longer (in
    the p-norm of `norm_type`) are shortened to it in place. With `scale_grad_by_freq` the gradient
    of a row is divided by how often it is looked up. Raises IndexError for an index outside [0, V).
    """
    if sparse:
        raise RuntimeError("embedding: sparse=True: there are no sparse gradients; leave it out")
    if input.dtype is not dtypes.int64 and input.dtype is not dtypes.int32:
        raise RuntimeError(
            f"embedding: indices must be int64 or int32, got {input.dtype}: convert with .long()"
        )
    index = input if input.dtype is dtypes.int64 else input.to(dtypes.int64)
    if max_norm is not None:
        with no_grad():
            _shorten(weight.detach(), index.reshape(-1), float(max_norm), float(norm_type))
    out = apply(_EMBEDDING, (weight, index))
    if not out.requires_grad:
        return out
    if scale_grad_by_freq:
        flat = index.reshape(-1)
        counts = zeros(weight.shape[0], dtype=out.dtype)
        counts.index_add_(0, flat, ones(flat.shape[0], dtype=out.dtype))
        share = counts.index_select(0, flat).reshape((*index.shape, 1)).reciprocal()
        out = _ScaledGradient.apply(out, share)
    if padding_idx is not None:
        row = padding_idx % weight.shape[0]
        out = apply(ops["where"], ((index == row).unsqueeze(-1), out.detach(), out))
    return out


def _shorten(weight: Tensor, rows: Tensor, longest: float, p: float) -> None:
    """Shorten those of the given rows that are longer; a row given twice is written twice."""
    picked = weight.index_select(0, rows)
    norms = picked.norm(p, 1, True)
    scale = apply(ops["where"], (norms > longest, longest / (norms + 1e-7), 1.0))
    weight[rows] = picked * scale


class _ScaledGradient(Function):
    """The identity; the gradient is multiplied by a factor for each element."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return input

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * ctx.saved_tensors[0], None


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Return int64 vectors with a 1 at each index; classes are counted from the data by default."""
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1
    return apply(ops["one_hot"], (tensor,), (num_classes,))


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero elements with probability p and scale the others by 1 / (1 - p), when training."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p is {p}; it must be between 0 and 1")
    if not training or p == 0.0:
        return input
    out = _dropout(input, p)
    return input.copy_(out) if inplace else out


def _channel_dropout(input: Tensor, p: float, training: bool, inplace: bool, lead: int) -> Tensor:
    """Zero whole channels, numbered by the first `lead` dimensions."""
    if not training or p == 0.0:
        return input
    shape = tuple(input.shape[:lead]) + (1,) * (input.ndim - lead)
    kept = bernoulli(full(shape, 1.0 - p, dtype=input.dtype)) / (1.0 - p) if p < 1.0 else 0.0
    return input.mul_(kept) if inplace else input * kept


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Zero whole channels of (N, C, L) or (C, L) with probability p."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout1d: p is {p}; it must be between 0 and 1")
    if input.ndim not in (2, 3):
        raise RuntimeError(
            f"dropout1d: expected (N, C, L) or (C, L); got shape {tuple(input.shape)}"
        )
    return _channel_dropout(input, p, training, inplace, input.ndim - 1)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Zero whole channels of (N, C, H, W) with probability p.

    Three dimensions are taken for (N, C, L), two for a plain dropout, with PyTorch's warning.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout2d: p is {p}; it must be between 0 and 1")
    if input.ndim < 2:
        raise RuntimeError(f"dropout2d: expected (N, C, H, W); got shape {tuple(input.shape)}")
    if input.ndim == 3:
        warn_caller(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout "
            "behavior is desired - input is interpreted as shape (N, C, L), where C is the channel "
            "dim. To maintain the 1D channel-wise dropout behavior, please switch to using "
            "dropout1d instead.",
        )
    elif input.ndim != 4:
        warn_caller(
            f"dropout2d: Received a {input.ndim}-D input to dropout2d, which is deprecated and "
            "will result in an error in a future release. To retain the behavior and silence this "
            "warning, please use dropout instead.",
        )
    return _channel_dropout(input, p, training, inplace, 2)


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Pad the last dimensions: pad is (left, right) of the last one, then of the one before, ...

    Modes: constant, reflect, replicate, circular. Negative padding cuts off.
    """
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if len(pairs) > input.ndim:
        raise RuntimeError(f"pad: {len(pad)} numbers for a tensor of shape {tuple(input.shape)}")
    out = input
    for i, (left, right) in enumerate(pairs):
        dim = input.ndim - 1 - i
        size = out.shape[dim]
        if mode == "constant":
            cut_left, cut_right = max(0, -left), max(0, -right)
            out = out.narrow(dim, cut_left, size - cut_left - cut_right)
            parts = [out]
            for n, place in ((left, 0), (right, len(parts) + 1)):
                if n > 0:
                    shape = (*out.shape[:dim], n, *out.shape[dim + 1 :])
                    parts.insert(place, full(shape, value or 0.0, dtype=input.dtype))
            if len(parts) > 1:
                out = apply(ops["cat"], tuple(parts), (dim,))
            continue
        if mode not in ("reflect", "replicate", "circular"):
            raise NotImplementedError(f"pad: unknown mode {mode!r}")
        if mode == "reflect" and max(left, right) >= size:
            raise RuntimeError(f"pad: cannot reflect {max(left, right)} beyond a size of {size}")
        source = []
        # What negative padding cuts off does not come around again.
        first, last = max(0, -left), size - max(0, -right)
        if mode == "circular" and max(left, right) > last - first:
            raise RuntimeError(f"pad: {max(left, right)} wraps a size of {last - first} twice")
        for j in range(-left, size + right):
            if mode == "replicate":
                source.append(min(max(j, 0), size - 1))
            elif mode == "circular":
                source.append(first + (j - first) % (last - first))
            else:
                source.append(-j if j < 0 else 2 * (size - 1) - j if j >= size else j)
        index = tensor(source, dtype=dtypes.int64)
        out = apply(ops["index_select"], (out, index), (dim,))
    if mode == "constant" and all(n <= 0 for n in pad):  # nothing was joined: still a view
        out = apply(ops["clone"], (out,))
    return out
