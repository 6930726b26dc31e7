"""Functions that put values at places of a tensor: along an index, under a mask, on a diagonal."""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..tensor import Tensor, apply, method, ops
from .creation import arange, full
from .elementwise import masked_fill
from .forms import in_place
from .indexing import scatter
from .shaping import broadcast_tensors

__all__ = ["index_copy", "index_fill", "masked_scatter"]


def _along(name: str, input: Tensor, dim: int, index: Tensor) -> tuple[Tensor, Tensor]:
    """A 1-d index of a dimension as `scatter` takes it, and the tensor with that dimension."""
    if index.dtype not in (dtypes.int64, dtypes.int32) or index.ndim > 1:
        raise IndexError(
            f"{name}: the index is {index.dtype.name} with {index.ndim} dimensions; expected a "
            f"vector of int64"
        )
    held = input if input.ndim else input.reshape(1)
    shape = list(held.shape)
    if not -len(shape) <= dim < len(shape):
        raise IndexError(
            f"{name}: dimension {dim} is out of range: expected one in "
            f"[{-len(shape)}, {len(shape) - 1}]"
        )
    lined = [1] * len(shape)
    lined[dim] = shape[dim] = index._numel
    return held, index.to(dtypes.int64).reshape(lined).expand(*shape)


@method
def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """Put value in the slices of a dimension that a 1-d index names."""
    if isinstance(value, Tensor) and value.ndim:
        raise RuntimeError(f"index_fill: value has shape {tuple(value.shape)}; expected a number")
    held, places = _along("index_fill", input, dim, index)
    places = apply(ops["where"], (places < 0, places + held.shape[dim], places))
    number = value if isinstance(value, Tensor) else full((), value, dtype=input.dtype)
    source = number.to(input.dtype).expand(*places.shape)
    return scatter(held, dim, places, source).reshape(input.shape)


@method
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """Put the slices of source in those of a dimension that a 1-d index names."""
    held, places = _along("index_copy", input, dim, index)
    if source.dtype is not input.dtype:
        raise RuntimeError(
            f"index_copy: the source is {source.dtype.name}, the tensor {input.dtype.name}; they "
            f"must agree"
        )
    given = source if source.ndim else source.reshape(1)
    if given.shape != places.shape:
        raise IndexError(
            f"index_copy: the source has shape {tuple(source.shape)}; expected "
            f"{tuple(places.shape)}: that of the tensor with the index's length along {dim}"
        )
    return scatter(held, dim, places, given).reshape(input.shape)


@method
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """Put the elements of source, one after the other, where mask is true."""
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"masked_scatter: the mask is {mask.dtype.name}; expected bool")
    if source.dtype is not input.dtype:
        raise RuntimeError(
            f"masked_scatter: the source is {source.dtype.name}, the tensor {input.dtype.name}; "
            f"they must agree"
        )
    input, mask = broadcast_tensors(input, mask)
    wanted = int(mask.sum())
    if wanted > source._numel:
        raise RuntimeError(
            f"masked_scatter: the mask has {wanted} places for the {source._numel} elements of "
            f"the source"
        )
    if not wanted:
        return apply(ops["clone"], (input,))
    order = (mask.reshape(-1).cumsum(0) - 1).clamp(0)
    taken = source.reshape(-1).index_select(0, order).reshape(input.shape)
    return apply(ops["where"], (mask, taken, input))


def _fill_diagonal(input: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Set the main diagonal to a value; with `wrap` it starts anew below a tall matrix."""
    sizes = tuple(input.shape)
    if len(sizes) < 2 or (len(sizes) > 2 and len(set(sizes)) > 1):
        raise RuntimeError(
            f"fill_diagonal_: the tensor has shape {sizes}; expected two dimensions, or more of "
            f"one size"
        )
    step = 1  # from one element of the diagonal to the next, in elements
    for size in reversed(sizes[1:]):
        step = step * size + 1
    end = input._numel if wrap and len(sizes) == 2 else min(sizes) * step
    places = arange(input._numel)
    mask = (places % step == 0) & (places < end) if step else places < 0
    return masked_fill(input, mask.reshape(sizes), fill_value)


setattr(Tensor, "fill_diagonal_", in_place(_fill_diagonal, "fill_diagonal"))  # noqa: B010
