"""How an index is read: what stands between the brackets of x[...], for reading and writing."""

from __future__ import annotations

from operator import index as index_of
from typing import Any

from .. import dtypes
from .._core import capturing
from ..tensor import Tensor, apply, ops
from .creation import tensor
from .notice import warn_caller

_INT, _SLICE, _NEW, WHOLE = 0, 1, 2, 3
_END = 1 << 62


def parse(x: Tensor, index: Any) -> tuple[list[int], list[tuple[int, Tensor]]]:
    """Split an index into a basic one (codes as `basic_index` takes them) and the tensors in it.

    A tensor stands for whole dimensions in the basic index; with it comes the dimension of the
    result where it begins.
    """
    if type(index) is slice and x.ndim:  # the commonest
        return _slice(index), []
    items = [_read(item) for item in _items(index)]
    used = sum(_width(item) for item in items)
    spec: list[int] = []
    tensors: list[tuple[int, Tensor]] = []
    at = 0  # dimension of the result
    begin = 0  # dimension of x
    rest = max(0, x.ndim - used)  # what an ellipsis stands for, the first one
    for item in items:
        if item is Ellipsis:
            whole, rest = rest, 0
            spec += (WHOLE, 0, 0, 0) * whole
            at += whole
            begin += whole
        elif item is None:
            spec += (_NEW, 0, 0, 0)
            at += 1
        elif isinstance(item, slice):
            spec += _slice(item)
            at += 1
            begin += 1
        elif isinstance(item, int):
            spec += (_INT, item, 0, 0)
            begin += 1
        elif item.dtype is not dtypes.bool_:
            tensors.append((at, item))
            spec += (WHOLE, 0, 0, 0)
            at += 1
            begin += 1
        elif item.ndim == 0:  # a new dimension, which is there if the condition holds
            tensors.append((at, apply(ops["nonzero"], (item.reshape(1),)).reshape(-1)))
            spec += (_NEW, 0, 0, 0)
            at += 1
        else:
            if used > x.ndim:
                break
            if tuple(item.shape) != tuple(x.shape[begin : begin + item.ndim]):
                raise IndexError(
                    f"index: the mask has shape {tuple(item.shape)}; the tensor {tuple(x.shape)}: "
                    f"they must agree in the masked dimensions"
                )
            places = apply(ops["nonzero"], (item,))
            tensors += [(at + k, place) for k, place in enumerate(places.unbind(1))]
            spec += (WHOLE, 0, 0, 0) * item.ndim
            at += item.ndim
            begin += item.ndim
    if used > x.ndim:
        raise IndexError(f"index: too many indices for a tensor of shape {tuple(x.shape)}: {used}")
    return spec, tensors


def _items(index: Any) -> tuple[Any, ...]:
    """The parts of an index. A list that holds sequences is read as a tuple, as in PyTorch."""
    if isinstance(index, tuple):
        return index
    if isinstance(index, list) and len(index) < 32 and any(map(_makes_tuple, index)):
        warn_caller(
            "index: a list that holds sequences, slices or None is read as a tuple; write "
            "x[tuple(index)], or x[tensor(index)] for one index of several dimensions",
        )
        return tuple(index)
    return (index,)


def _makes_tuple(item: Any) -> bool:
    return (
        item is None
        or item is Ellipsis
        or isinstance(item, (Tensor, slice))
        or (hasattr(item, "__len__") and not isinstance(item, str))
    )


def _read(item: Any) -> Any:
    """One part as an int, slice, None, Ellipsis, or a tensor of int64 or bool."""
    if item is None or item is Ellipsis or isinstance(item, slice) or type(item) is int:
        return item
    if isinstance(item, bool):
        return tensor(item)
    is_array = hasattr(item, "__array_interface__")
    if not isinstance(item, Tensor):
        if hasattr(item, "__index__") and not (is_array and hasattr(item, "__len__")):
            return int(item)
        if not (is_array or hasattr(item, "__len__")) or isinstance(item, (dict, set, frozenset)):
            raise IndexError(
                f"index: {type(item).__name__} is not an index; expected integers, slices, None, "
                f"..., or tensors, lists and arrays of integers or bools"
            )
        item = tensor(item)
        if item._numel == 0 and item.dtype.is_floating_point:  # []
            item = item.to(dtypes.int64)
    if item.dtype.is_floating_point:
        raise IndexError(f"index: indices must be integers or bools; got {item.dtype}")
    if item.dtype is dtypes.uint8:
        warn_caller(
            "index: a uint8 tensor is read as a mask, which PyTorch deprecates; use .bool() for a "
            "mask, .long() for indices",
        )
        return item.to(dtypes.bool_)
    if item.dtype is dtypes.bool_:
        return item
    if item.ndim == 0 and not capturing():
        return int(item)  # a view, as of a number; in a captured step the index stays a tensor
    return item.to(dtypes.int64)


def _width(item: Any) -> int:
    """How many dimensions of x a part stands for."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, Tensor) and item.dtype is dtypes.bool_ else 1


def _slice(item: slice) -> list[int]:
    start, stop, step = item.start, item.stop, item.step
    try:
        return [
            _SLICE,
            0 if start is None else index_of(start),
            _END if stop is None else index_of(stop),
            1 if step is None else index_of(step),
        ]
    except TypeError:
        raise TypeError(f"index: {item} has other bounds than integers or None") from None
