"""Norms of `linalg`: of vectors over any dimensions, of matrices over two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .._core import capturing, full
from ..tensor import Tensor, apply, ops
from .creation import from_numpy
from .reductions import amax, amin, norm as _norm

__all__ = ["matrix_norm", "norm", "vector_norm"]


def vector_norm(
    x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Return the norm of order `ord` over dimensions, by default over all elements."""
    if not isinstance(ord, (int, float)):
        raise RuntimeError(f"vector_norm: ord is {ord!r}; expected a number")
    return _norm(x, ord, dim, keepdim, dtype)


def norm(
    A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Return the norm of a vector, or of matrices when `ord` is given and there are two dimensions.

    Without `ord` it is the 2-norm of the elements. Raises RuntimeError where `ord` is given without
    `dim` and A has neither one nor two dimensions.
    """
    dims = None if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if dims is None and ord is not None and A.ndim not in (1, 2):
        raise RuntimeError(
            f"linalg.norm: ord={ord!r} without dim is for vectors and matrices; A has shape "
            f"{tuple(A.shape)}"
        )
    if ord is not None and (len(dims) == 2 if dims is not None else A.ndim == 2):
        return matrix_norm(A, ord, dims or (0, 1), keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.norm: ord={ord!r} is for matrices")
    return _norm(A, 2 if ord is None else ord, dims, keepdim, dtype)


def matrix_norm(
    A: Tensor,
    ord: Any = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    """Return the norm of matrices that lie in two dimensions.

    "fro" is the root of the sum of squares, "nuc" the sum of the singular values; 2 and -2 are the
    largest and the smallest of them, 1 and -1 the largest and smallest sum of a column's absolute
    values, inf and -inf those of a row.
    """
    if dtype is not None:
        A = A.to(dtype)
    if len(dim) != 2 or A.ndim < 2:
        raise RuntimeError(f"matrix_norm: got shape {tuple(A.shape)}, dim {tuple(dim)}; expected 2")
    row, column = (_wrap(d, A.ndim) for d in dim)
    if row == column:
        raise RuntimeError(f"matrix_norm: the dimensions {tuple(dim)} must differ")
    if ord == "fro":
        return _norm(A, 2, (row, column), keepdim)
    if ord not in ("nuc", 1, -1, 2, -2, math.inf, -math.inf):
        raise RuntimeError(f"matrix_norm: ord={ord!r} is not a norm of matrices")
    if ord in ("nuc", 2, -2):
        values = _singular_values(A.movedim((row, column), (-2, -1)))
        found = values.sum(-1) if ord == "nuc" else _extreme(values, -1, ord > 0)
    else:
        summed, other = (row, column) if abs(ord) == 1 else (column, row)
        sums = A.abs().sum(summed, True)
        found = _extreme(sums, other, ord > 0).squeeze((row, column))
    if not keepdim:
        return found
    return found.reshape([1 if d in (row, column) else n for d, n in enumerate(A.shape)])


def _extreme(values: Tensor, dim: int, largest: bool) -> Tensor:
    """The largest of values that are not negative, 0 for none; or the smallest."""
    if not largest:
        return amin(values, dim, dim != -1)
    return amax(values, dim, dim != -1) if values.shape[dim] else values.sum(dim, dim != -1)


def _wrap(dim: int, ndim: int) -> int:
    if not -ndim <= dim < ndim:
        raise IndexError(f"matrix_norm: dimension {dim} is out of range for {ndim} dimensions")
    return dim % ndim


def _singular_values(A: Tensor) -> Tensor:
    """Return the singular values of matrices, the largest first, with two derivatives.

    NumPy finds A = U S V'. With U and V held fixed, perturbation theory gives the values to second
    order from M = U' A V: s_i = M_ii + sum over j of ((M_ij^2 + M_ji^2) s_i / 2 + M_ij M_ji s_j) /
    (s_i^2 - s_j^2), s_j being 0 beyond the last (Stewart and Sun, 1990). Equal ones do not mix.
    """
    if capturing():
        raise RuntimeError("matrix_norm: singular values cannot be captured; call it outside")
    import numpy as np

    m, n = A.shape[-2:]
    k = min(m, n)
    if k == 0:
        return full((*A.shape[:-2], 0), 0, A.dtype)
    u, s, vt = np.linalg.svd(A.detach().numpy(), full_matrices=A.requires_grad)
    if not A.requires_grad:
        return from_numpy(s)
    U, V = from_numpy(np.ascontiguousarray(u)), from_numpy(np.ascontiguousarray(vt)).mT
    M = U.mT @ A @ V  # (m, n): all but its diagonal is 0 to rounding, not so its slopes
    size = max(m, n)
    square = apply(ops["scatter_view"], (M,), ((*A.shape[:-2], size, size), _within(A, size), 0))
    all_s = np.zeros((*s.shape[:-1], size), s.dtype)
    all_s[..., :k] = s
    own, other = all_s[..., :k, None], all_s[..., None, :]
    gap = own**2 - other**2
    weight = np.where(np.abs(gap) > np.finfo(s.dtype).eps * own[..., :1, :] ** 2, gap, np.inf)
    first = from_numpy(np.ascontiguousarray(own / 2 / weight))
    mixed = from_numpy(np.ascontiguousarray(np.broadcast_to(other, weight.shape) / weight))
    rows, columns = square.narrow(-2, 0, k), square.mT.narrow(-2, 0, k)
    bend = ((rows * rows + columns * columns) * first + rows * columns * mixed).sum(-1)
    exact = from_numpy(s)
    line = M.diagonal(0, -2, -1)
    return exact + (line - line.detach()) + (bend - bend.detach())


def _within(A: Tensor, size: int) -> tuple[int, ...]:
    """Strides of matrices like A's in the corners of square ones."""
    return tuple(full((*A.shape[:-2], size, size), 0, A.dtype)._strides)
