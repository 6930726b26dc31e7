"""Views in the graph: what a view shows of its base, and what a change through a view does to it.

Both are about places in memory, not about the operations that led there: a view is (shape, strides,
offset) over the memory of its base, which has strides and an offset of its own.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Any

from .. import dtypes
from .._core import Node, empty, full, overlaps_itself, owns_memory, set_view_ops
from ..functions.creation import arange
from ..functions.rules import rule
from ..tensor import Tensor, apply, apply_, ops

_AS_STRIDED, _SCATTER_VIEW, _INDEX_ADD = ops["as_strided"], ops["scatter_view"], ops["index_add"]
_CLONE, _FILL, _RESHAPE = ops["clone"], ops["fill"], ops["reshape"]

Sizes = tuple[int, ...]


def _span(shape: Sizes, strides: Sizes) -> int:
    """Count the elements from the first to the last that a view shows."""
    return (
        1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if 0 not in shape else 0
    )


def _is_dense(shape: Sizes, strides: Sizes) -> bool:
    expected = 1
    for n, s in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and s != expected:
            return False
        expected *= n
    return True


def _overlaps(shape: Sizes, strides: Sizes, span: int) -> bool:
    """Whether two indices of such a view may mean the same element."""
    flat = empty((span,), dtypes.uint8)
    return overlaps_itself(apply(_AS_STRIDED, (flat,), (shape, strides, 0)))


@rule("as_strided")
def _as_strided(node: Node, grad: Tensor) -> Any:
    """Zeros in the form of the base with the gradient where the view lies."""
    return (spread(grad, tuple(node.shape(0)), node.attrs),)


@rule("unfold")
def _unfold(node: Node, grad: Tensor) -> Any:
    """Windows share elements: add up what reached each."""
    shape = tuple(node.shape(0))
    whole = empty(shape, dtypes.uint8)  # of that form: no element is read
    view = apply(node.op, (whole,), node.attrs)
    place = (view.shape, view._strides, view._offset, whole._strides, 0)
    return (spread(grad, shape, place),)


def spread(grad: Tensor, shape: Sizes, place: tuple[Any, ...]) -> Tensor:
    """Return the gradient of a base of `shape` from that of a view at a place in its memory."""
    size, strides, offset, base_strides, base_offset = place
    size, strides = tuple(size), tuple(strides)
    first = base_offset if offset is None else min(offset, base_offset)
    start = (base_offset if offset is None else offset) - first
    base_start = base_offset - first
    span = max(start + _span(size, strides), base_start + _span(shape, base_strides), 1)
    dense = base_start == 0 and span == max(_numel(shape), 1) and _is_dense(shape, base_strides)
    if _overlaps(size, strides, start + _span(size, strides)):
        places = apply(_AS_STRIDED, (arange(span),), (size, strides, start))
        zeros = full((span,), 0, grad.dtype)
        flat = apply(_INDEX_ADD, (zeros, places.reshape(-1), grad.reshape(-1)), (0, 1))
        if dense:
            return apply(_RESHAPE, (flat,), (shape,))
    elif dense:
        return apply(_SCATTER_VIEW, (grad,), (shape, strides, start))
    else:
        flat = apply(_SCATTER_VIEW, (grad,), ((span,), strides, start))
    return apply(_AS_STRIDED, (flat,), (shape, base_strides, base_start))


def _numel(shape: Sizes) -> int:
    n = 1
    for size in shape:
        n *= size
    return n


class _Put:
    """A base after a change in place of a view of it: its inputs are the base before, and the view.

    The node stands for: a copy of the base, with the view's new elements at the view's place.
    """

    name = "copy_slices"

    def vjp(self, node: Node, grad: Tensor) -> Any:
        """Give the view its part of the gradient, and the old base the rest."""
        # Who else holds the gradient must not see it change.
        ours = getrefcount(grad) <= _ALONE and owns_memory(grad)
        size, strides, offset, base_strides, base_offset = node.attrs
        shape = node.shape(0)
        rest, value = node.edges
        if _is_dense(shape, base_strides):
            whole = grad.contiguous()
            start = whole._offset + offset - base_offset
        else:  # laid out as the base is
            span = _span(shape, base_strides)
            flat = full((span,), 0, grad.dtype)
            whole = apply(_AS_STRIDED, (flat,), (shape, base_strides, 0))
            apply_(_CLONE, (grad,), (), whole)
            start = offset - base_offset
        if whole is grad and rest is not None and not ours:
            whole = apply(_CLONE, (whole,))
            start = offset - base_offset
        part = apply(_AS_STRIDED, (whole,), (size, strides, start))
        found = None
        if value is not None:
            found = part if rest is None else apply(_CLONE, (part,))
        if rest is None:
            return None, found
        apply_(_FILL, (part, 0), (), part)
        return whole, found

    graph_vjp = vjp


def _references() -> int:
    """Count the references to a gradient that only a backward pass holds, within a rule."""

    class Probe:
        def vjp(self, node: Any, grad: Any) -> int:
            return getrefcount(grad)

    op, node, grad = Probe(), None, object()
    return op.vjp(node, grad)


_ALONE = _references()
set_view_ops(_AS_STRIDED, _Put())
