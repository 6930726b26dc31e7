"""Layers as functions: linear, embedding, dropout, padding."""

from __future__ import annotations

from collections.abc import Sequence

from ... import dtypes
from ...functions.creation import full, tensor
from ...functions.random import bernoulli, dropout as _dropout
from ...tensor import Tensor, apply, ops

_LINEAR, _EMBEDDING = ops["linear"], ops["embedding"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return input @ weight.T + bias: (..., in) @ (out, in).T + (out) -> (..., out)."""
    return apply(_LINEAR, (input, weight, bias))


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Look up rows of weight (V, E): indices (...) -> (..., E).

    The row `padding_idx` gets no gradient. Raises IndexError for an index outside [0, V).
    """
    if max_norm is not None or scale_grad_by_freq:
        raise NotImplementedError("embedding: max_norm and scale_grad_by_freq are not supported")
    index = input if input.dtype is dtypes.int64 else input.to(dtypes.int64)
    out = apply(_EMBEDDING, (weight, index))
    if padding_idx is not None and out.requires_grad:
        row = padding_idx % weight.shape[0]
        out = apply(ops["where"], ((index == row).unsqueeze(-1), out.detach(), out))
    return out


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


def _channel_dropout(
    name: str, input: Tensor, p: float, training: bool, inplace: bool, dims: int
) -> Tensor:
    """Zero whole channels, the dimension before the last `dims`."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: p is {p}; it must be between 0 and 1")
    if input.ndim not in (dims + 1, dims + 2):
        raise RuntimeError(
            f"{name}: expected {dims + 1} or {dims + 2} dimensions; got shape {tuple(input.shape)}"
        )
    if not training or p == 0.0:
        return input
    shape = tuple(input.shape[:-dims]) + (1,) * dims
    kept = bernoulli(full(shape, 1.0 - p, dtype=input.dtype)) / (1.0 - p) if p < 1.0 else 0.0
    return input.mul_(kept) if inplace else input * kept


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Zero whole channels of (N, C, L) or (C, L) with probability p."""
    return _channel_dropout("dropout1d", input, p, training, inplace, 1)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Zero whole channels of (N, C, H, W) or (C, H, W) with probability p."""
    return _channel_dropout("dropout2d", input, p, training, inplace, 2)


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
        for j in range(-left, size + right):
            if mode == "replicate":
                source.append(min(max(j, 0), size - 1))
            elif mode == "circular":
                source.append(j % size)
            else:
                source.append(-j if j < 0 else 2 * (size - 1) - j if j >= size else j)
        index = tensor(source, dtype=dtypes.int64)
        out = apply(ops["index_select"], (out, index), (dim,))
    return out
