"""Functions that make tensors of a rule: spaced numbers, grids, triangles of indices."""

from __future__ import annotations

from typing import Any

from .. import _core, dtypes
from .._core import get_default_dtype
from ..dtypes import dtype as DType
from ..tensor import Tensor, apply, ops
from .creation import _made, _number, _shape, arange, tensor

__all__ = [
    "linspace",
    "logspace",
    "meshgrid",
    "tril_indices",
    "triu_indices",
]


def linspace(
    start: Any,
    end: Any,
    steps: int,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Make `steps` evenly spaced numbers from start to end, both included."""
    dtypes.check_device(device)
    start, end = _number("linspace", "start", start), _number("linspace", "end", end)
    (steps,) = _shape("linspace", (steps,))
    if steps < 0:
        raise RuntimeError(f"linspace: steps is {steps}; it must not be negative")
    dtype = get_default_dtype() if dtype is None else dtypes.as_dtype(dtype, "linspace: dtype")
    if not dtype.is_floating_point:
        return _made(_whole_steps(start, end, steps).trunc().to(dtype), requires_grad)
    return _made(_core.linspace(float(start), float(end), steps, dtype), requires_grad)


def _whole_steps(start: Any, end: Any, steps: int) -> Tensor:
    """PyTorch's steps between whole numbers: from both ends, in float32, to be cut off."""
    first, last = int(start), int(end)
    step = tensor((last - first) / max(steps - 1, 1), dtype=dtypes.float32).item()
    n = arange(steps, dtype=dtypes.float32)
    half = max(steps // 2, 1)
    return apply(ops["where"], (n < half, first + n * step, last - (steps - 1 - n) * step))


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: DType | None = None,
    requires_grad: bool = False,
    **kwargs: Any,
) -> Tensor:
    """Make `steps` numbers from base**start to base**end, evenly spaced in their logarithm."""
    dtype = get_default_dtype() if dtype is None else dtypes.as_dtype(dtype, "logspace: dtype")
    if dtype.is_floating_point:
        exponents = linspace(start, end, steps, dtype=dtype, **kwargs)
    else:
        exponents = _whole_steps(start, end, steps)
    return _made(apply(ops["pow"], (float(base), exponents)).to(dtype), requires_grad)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Make grids of coordinates from vectors; indexing is "ij" (rows first) or "xy"."""
    vectors = (
        list(tensors[0])
        if len(tensors) == 1 and not isinstance(tensors[0], Tensor)
        else list(tensors)
    )
    for v in vectors:
        if not isinstance(v, Tensor):
            raise TypeError(f"meshgrid: expected Tensors; got {type(v).__name__}")
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f"meshgrid: indexing is {indexing!r}; expected 'ij' or 'xy'")
    swap = indexing == "xy" and len(vectors) > 1
    if swap:
        vectors[:2] = vectors[1::-1]
    shape = [v._numel for v in vectors]
    grids = []
    for d, v in enumerate(vectors):
        column = v.reshape([-1 if k == d else 1 for k in range(len(vectors))])
        grids.append(column.expand(*shape))
    if swap:
        grids[:2] = grids[1::-1]
    return tuple(grids)


def _triangle(
    name: str, row: int, col: int, offset: int, lower: bool, dtype: Any, device: Any
) -> Tensor:
    (row, col) = _shape(name, (row, col))
    if row < 0 or col < 0:
        raise RuntimeError(f"{name}: got {row} rows and {col} columns; expected none negative")
    kind = dtypes.int64 if dtype is None else dtypes.as_dtype(dtype, f"{name}: dtype")
    if kind not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(f"{name}: dtype is {kind}; expected int64 or int32")
    if lower:
        spans = [range(max(0, min(col, i + offset + 1))) for i in range(row)]
    else:
        spans = [range(max(0, i + offset), col) for i in range(row)]
    rows = [i for i, span in enumerate(spans) for _ in span]
    return tensor([rows, [j for span in spans for j in span]], dtype=kind, device=device)


def tril_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
) -> Tensor:
    """Return the row and column numbers of the lower triangle."""
    return _triangle("tril_indices", row, col, offset, True, dtype, device)


def triu_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
) -> Tensor:
    """Return the row and column numbers of the upper triangle."""
    return _triangle("triu_indices", row, col, offset, False, dtype, device)
