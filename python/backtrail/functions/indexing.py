"""Reading and writing elements: x[...], gather, scatter, sort, search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import dtypes
from .._core import broadcast_shape, stands_in
from ..tensor import Tensor, apply, apply_, method, ops
from .creation import arange, full, tensor
from .forms import in_place
from .indices import WHOLE, parse
from .returns import ValuesIndices, returned
from .shaping import broadcast_tensors

__all__ = [
    "argsort",
    "bucketize",
    "gather",
    "index_add",
    "index_select",
    "kthvalue",
    "masked_select",
    "median",
    "nonzero",
    "scatter",
    "scatter_add",
    "searchsorted",
    "sort",
    "take",
    "take_along_dim",
    "topk",
    "unique",
]

_BASIC, _INDEX, _INDEX_PUT = ops["basic_index"], ops["index"], ops["index_put"]
_SELECT, _NONZERO = ops["select"], ops["nonzero"]
_WHERE = ops["where"]


def _basic(x: Tensor, spec: list[int]) -> Tensor:
    if all(spec[i] == WHOLE for i in range(0, len(spec), 4)):
        return x
    return apply(_BASIC, (x,), (tuple(spec),))


def _arrange(
    x: Tensor, tensors: list[tuple[int, Tensor]]
) -> tuple[Tensor, int, tuple[Tensor, ...]]:
    """Bring the indexed dimensions side by side; returns the first and the broadcast indices."""
    places = [d for d, _ in tensors]
    first = places[0]
    if places != list(range(first, first + len(places))):
        rest = [d for d in range(x.ndim) if d not in places]
        x, first = x.permute(places + rest), 0
    try:
        return x, first, tuple(broadcast_tensors(*(t for _, t in tensors)))
    except RuntimeError:
        shapes = ", ".join(str(tuple(t.shape)) for _, t in tensors)
        raise IndexError(f"index: indices of shapes {shapes} do not broadcast together") from None


def _getitem(self: Tensor, index: Any) -> Tensor:
    if type(index) is int:
        return apply(_SELECT, (self,), (0, index))
    spec, tensors = parse(self, index)
    x = _basic(self, spec)
    if not tensors:
        return apply(ops["alias"], (self,)) if x is self else x
    x, first, indices = _arrange(x, tensors)
    found = apply(_INDEX, (x, *indices), (first,))
    if indices[0].ndim == 0:
        stands_in(found)
    return found


def _setitem(self: Tensor, index: Any, value: Any) -> None:
    if isinstance(index, Tensor) and index.dtype is dtypes.bool_ and index.shape == self.shape:
        value = _value(self, value)
        if self.ndim and value.ndim == 0:  # no need to know where the mask is true
            apply_(_WHERE, (index, value, self), (), self, "index_put")
            return
    spec, tensors = parse(self, index)
    value = _value(self, value)
    target = _basic(self, spec)
    if not tensors:
        if not _is_same_view(value, target):  # x[i] += 1 has done it already
            target.copy_(_fit(value, target.shape))
        return
    target, first, indices = _arrange(target, tensors)
    shape = (*target.shape[:first], *indices[0].shape, *target.shape[first + len(indices) :])
    apply_(_INDEX_PUT, (target, _fit(value, shape), *indices), (first, 0), target)


def _is_same_view(value: Tensor, target: Tensor) -> bool:
    """Whether both are views of one base that show the same elements, in the graph too."""
    return (
        value._base is not None
        and value._base is target._base
        and value._offset == target._offset
        and value._strides == target._strides
        and value.shape == target.shape
    )


def _value(self: Tensor, value: Any) -> Tensor:
    new: Tensor = value if isinstance(value, Tensor) else tensor(value, dtype=self.dtype)
    return new if new.dtype is self.dtype else new.to(self.dtype)


def _fit(value: Tensor, shape: Sequence[int]) -> Tensor:
    while value.ndim > len(shape) and value.shape[0] == 1:
        value = value.squeeze(0)
    return value if tuple(value.shape) == tuple(shape) else value.expand(*shape)


setattr(Tensor, "__getitem__", _getitem)  # noqa: B010
setattr(Tensor, "__setitem__", _setitem)  # noqa: B010


@method
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Return the indices of the elements that are not 0: one row each, or a tuple of columns."""
    if as_tuple and input.ndim == 0:
        input = input.reshape(1)
    found = apply(_NONZERO, (input,))
    return tuple(found.unbind(1)) if as_tuple else found


@method
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """Return the elements where mask is true, as one dimension."""
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"masked_select: the mask is {mask.dtype}; expected bool")
    input, mask = broadcast_tensors(input, mask)
    return _getitem(input, mask)


@method
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """Take the element at index[i] along dim, for every position of index."""
    return apply(ops["gather"], (input, _whole(index)), (dim,))


def _whole(index: Tensor) -> Tensor:
    return index.to(dtypes.int64) if index.dtype in (dtypes.int32, dtypes.uint8) else index


def _source(input: Tensor, index: Tensor, src: Any) -> Tensor:
    if isinstance(src, Tensor):
        return src
    return full(index.shape, src, dtype=input.dtype)


@method
def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
) -> Tensor:
    """Put src (a tensor or a number) at index along dim; `reduce` is "add" or "multiply"."""
    source, index = _source(input, index, value if src is None else src), _whole(index)
    if reduce is None:
        return apply(ops["scatter"], (input, index, source), (dim,))
    if reduce == "add":
        return apply(ops["scatter_add"], (input, index, source), (dim,))
    if reduce != "multiply":
        raise RuntimeError(f"scatter: reduce is {reduce!r}; expected 'add' or 'multiply'")
    out = input
    for i in range(index.shape[dim] if index.ndim else 1):  # within one i no place comes twice
        at = index.narrow(dim, i, 1) if index.ndim else index
        new = source.narrow(dim, i, 1) if index.ndim else source
        new = new[tuple(slice(n) for n in at.shape)]  # the source may be larger
        out = apply(ops["scatter"], (out, at, gather(out, dim, at) * new), (dim,))
    return out


_scatter_in_place = in_place(scatter)


@method
def scatter_(
    self: Tensor,
    dim: int,
    index: Tensor,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
) -> Tensor:
    """Put src (a tensor or a number) at index along dim, in place."""
    if reduce is not None:
        result: Tensor = _scatter_in_place(self, dim, index, src, value=value, reduce=reduce)
        return result
    source = _source(self, index, value if src is None else src)
    return apply_(ops["scatter"], (self, _whole(index), source), (dim,), self)


@method
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """Add src to the elements at index along dim."""
    return apply(ops["scatter_add"], (input, _whole(index), src), (dim,))


@method
def scatter_add_(self: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """Add src to the elements at index along dim, in place."""
    return apply_(ops["scatter_add"], (self, _whole(index), src), (dim,), self)


@method
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """Take the slices of a dimension named by a 1-d index."""
    return apply(ops["index_select"], (input, index.to(dtypes.int64)), (dim,))


@method
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """Add alpha times the slices of source at a 1-d index along dim."""
    return apply(ops["index_add"], (input, index.to(dtypes.int64), source), (dim, alpha))


@method
def index_add_(self: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """Add alpha times the slices of source at a 1-d index along dim, in place."""
    return apply_(ops["index_add"], (self, index.to(dtypes.int64), source), (dim, alpha), self)


@method
def take(input: Tensor, index: Tensor) -> Tensor:
    """Take elements of the flattened tensor."""
    return apply(_INDEX, (input.reshape(-1), _whole(index)), (0,))


@method
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Take the element at indices[i] along dim (of the flattened tensor without one).

    Sizes of 1 broadcast in the other dimensions; a negative index counts from the end.
    """
    if dim is None:
        input, indices, dim = input.reshape(-1), indices.reshape(-1), 0
    if input.ndim != indices.ndim:
        raise RuntimeError(
            f"take_along_dim: input has {input.ndim} dimensions, indices {indices.ndim}; expected "
            f"as many"
        )
    dim = dim % max(input.ndim, 1)
    ones, others = list(input.shape), list(indices.shape)
    ones[dim : dim + 1], others[dim : dim + 1] = [1], [1]
    shape = list(broadcast_shape("take_along_dim", [ones, others]))
    size = input.shape[dim]
    wide, taken = list(shape), list(shape)
    wide[dim], taken[dim] = size, indices.shape[dim]
    index = _whole(indices)
    index = apply(ops["where"], (index < 0, index + size, index))
    return gather(input.expand(*wide), dim, index.expand(*taken))


@method
def sort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False
) -> ValuesIndices:
    """Sort along a dimension; returns (values, indices). NaN is the largest."""
    return returned("sort")(*apply(ops["sort"], (input,), (dim, descending, stable)))


@method
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """Return the indices that would sort a dimension."""
    return sort(input, dim, descending, stable).indices


@method
def topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> ValuesIndices:
    """Return the k largest (or smallest) elements of a dimension and their indices."""
    return returned("topk")(*apply(ops["topk"], (input,), (k, dim, largest, sorted)))


@method
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """Return the k-th smallest element (from 1) of a dimension and its index; NaN is last."""
    size = input.shape[dim] if input.ndim else 1
    if not 1 <= k <= size:
        raise RuntimeError(f"kthvalue: k is {k}; expected one from 1 to the size {size}")
    rows = input if input.ndim else input.reshape(1)
    order = topk(rows.detach(), k, dim, largest=False).indices
    return _taken(input, order.narrow(dim, k - 1, 1), dim, keepdim)


def _taken(input: Tensor, index: Tensor, dim: int, keepdim: bool) -> ValuesIndices:
    """The elements at one index along a dimension, and the indices."""
    rows = input if input.ndim else input.reshape(1)
    values, index = apply(ops["gather"], (rows, index), (dim,)), index.contiguous()
    if not input.ndim:
        return ValuesIndices(values.reshape(()), index.reshape(()))
    if keepdim:
        return ValuesIndices(values, index)
    return ValuesIndices(values.squeeze(dim), index.squeeze(dim))


@method
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the (lower) median of all elements, or of a dimension with its indices.

    NaN where there is one. Of all elements, equal ones share the slope.
    """
    if dim is None:
        flat = input.reshape(-1)
        if not flat._numel:
            return full((), float("nan"), dtype=input.dtype)
        middle = _median(flat.detach(), 0).values
        if not flat.requires_grad:
            return middle
        equal = flat.detach() == middle
        equal = equal | (flat.isnan() & middle.isnan())
        return apply(ops["where"], (equal, flat, full((), -float("inf"), dtype=flat.dtype))).amax()
    return _median(input, dim, keepdim)


def _median(input: Tensor, dim: int, keepdim: bool = False) -> ValuesIndices:
    """The median along a dimension: the first NaN, or what stands in the middle."""
    size = input.shape[dim] if input.ndim else 1
    if size == 0:
        raise IndexError(f"median: dimension {dim} of shape {tuple(input.shape)} has no elements")
    rows = input.detach() if input.ndim else input.detach().reshape(1)
    k = (size + 1) // 2
    index = topk(rows, k, dim, largest=False).indices.narrow(dim, k - 1, 1)
    if input.dtype.is_floating_point:
        missing = rows.isnan().to(dtypes.uint8)
        first = apply(ops["argmax"], (missing,), (dim, True))
        index = apply(ops["where"], (missing.amax(dim, True) != 0, first, index))
    return _taken(input, index, dim, keepdim)


@method
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """Return the distinct elements in order; on request where each went, and how many there are."""
    if dim is None:
        values, inverse, counts = apply(ops["unique"], (input.detach(),))
        inverse = inverse.reshape(input.shape)
    else:
        values, inverse, counts = _unique_slices(input.detach(), dim)
    results = [values]
    if return_inverse:
        results.append(inverse)
    if return_counts:
        results.append(counts)
    return results[0] if len(results) == 1 else tuple(results)


def _unique_slices(input: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct slices of a dimension in lexical order, where each went, and how many."""
    slices = input.movedim(dim, 0)
    n = slices.shape[0]
    rows = slices.reshape(n, slices._numel // n if n else 0)
    order = arange(n)
    for column in reversed(range(rows.shape[1])):
        order = order[argsort(rows[order, column], stable=True)]
    rows = rows[order]
    begins = (rows[1:] != rows[:-1]).any(1)
    group = apply(ops["cumsum"], (begins.to(dtypes.int64),), (0,))
    group = apply(ops["cat"], (arange(min(n, 1)), group), (0,))  # the first one begins group 0
    first = apply(ops["cat"], (arange(min(n, 1)), nonzero(begins).reshape(-1) + 1), (0,))
    counts = scatter_add(full((first._numel,), 0), 0, group, full((n,), 1))
    inverse = scatter(group, 0, order, group)
    return slices[order[first]].movedim(0, dim), inverse, counts


def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Return where each value would be inserted to keep the last dimension sorted.

    `sorter` holds the indices that sort the sequence, as argsort gives them.
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise RuntimeError(f"searchsorted: side is {side!r} and right {right}")
    if sorter is not None:
        sorted_sequence = gather(sorted_sequence, -1, sorter)
    values = input if isinstance(input, Tensor) else tensor(input, dtype=sorted_sequence.dtype)
    found = apply(ops["searchsorted"], (sorted_sequence, values), (right or side == "right",))
    return found.to(dtypes.int32) if out_int32 else found


def bucketize(
    input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """Return the bucket of each value between sorted boundaries."""
    return searchsorted(boundaries, input, right=right, out_int32=out_int32)
