"""Dimensions and sizes as arguments: one or several of them, counted from either end."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor


def several(x: Any) -> tuple[int, ...]:
    """One integer, or a sequence of them."""
    single = hasattr(x, "__index__") and not getattr(x, "ndim", 0)
    return (int(x),) if single else tuple(x)


def dims_of(name: str, ndim: int, dims: Any) -> list[int]:
    """Dimensions counted from 0; one of a 0-dim tensor may be 0 or -1."""
    found = []
    for dim in several(dims):
        n = max(ndim, 1)
        if not -n <= dim < n:
            raise IndexError(f"{name}: dimension {dim} is out of range of {-n} to {n - 1}")
        found.append(dim % n)
    if len(set(found)) != len(found):
        raise RuntimeError(f"{name}: a dimension is given twice: {dims}")
    return found


def with_dims(name: str, input: Tensor) -> Tensor:
    """Return a tensor that has dimensions; raise RuntimeError where it has none."""
    if input.ndim == 0:
        raise RuntimeError(f"{name}: expected a tensor of at least one dimension; got a 0-dim one")
    return input
