"""Products of vectors and matrices, triangles and diagonals, norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tensor import Tensor, apply, method, ops
from .dims import dims_of
from .shaping import broadcast_shapes

__all__ = [
    "addmm",
    "baddbmm",
    "bmm",
    "diag",
    "diag_embed",
    "dot",
    "einsum",
    "inner",
    "matmul",
    "mm",
    "mv",
    "outer",
    "spmm",
    "tensordot",
    "trace",
    "tril",
    "triu",
    "vecdot",
]

_MATMUL, _TRIL, _TRIU = ops["matmul"], ops["tril"], ops["triu"]


@method
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Multiply matrices; leading dimensions are a batch and broadcast, vectors are 1-d.

    Sums of bfloat16 are formed in float32, where subnormal numbers count as zero, and rounded once.
    """
    return apply(_MATMUL, (input, other))


def _expect(name: str, dims: int, *tensors: Tensor) -> None:
    for x in tensors:
        if x.ndim != dims:
            raise RuntimeError(f"{name}: expected {dims}-d tensors; got shape {tuple(x.shape)}")


@method
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Multiply two matrices."""
    _expect("mm", 2, input, mat2)
    return apply(_MATMUL, (input, mat2))


spmm = mm


@method
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Multiply two batches of matrices of equal length."""
    _expect("bmm", 3, input, mat2)
    if input.shape[0] != mat2.shape[0]:
        raise RuntimeError(f"bmm: batches of {input.shape[0]} and {mat2.shape[0]} matrices")
    return apply(_MATMUL, (input, mat2))


@method
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """Multiply a matrix and a vector."""
    _expect("mv", 2, input)
    _expect("mv", 1, vec)
    return apply(_MATMUL, (input, vec))


@method
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Return the inner product of two vectors."""
    _expect("dot", 1, input, tensor)
    return apply(_MATMUL, (input, tensor))


@method
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Return the sum of products along the last dimensions; of a number, products."""
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    return tensordot(input, other, ([-1], [-1]))


@method
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """Return the products of every pair of elements of two vectors."""
    _expect("outer", 1, input, vec2)
    return input.unsqueeze(1) * vec2


@method
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """Return beta * input + alpha * (mat1 @ mat2)."""
    _expect("addmm", 2, mat1, mat2)
    return _scaled_sum(input, apply(_MATMUL, (mat1, mat2)), beta, alpha)


def _scaled_sum(input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    """beta * input + alpha * product; for integers the fractions of both are cut off."""
    if not product.dtype.is_floating_point:
        beta, alpha = int(beta), int(alpha)
    product = product if alpha == 1 else product * alpha
    if beta == 0:  # then what input holds, NaN too, does not matter
        return product.expand(*broadcast_shapes(input.shape, product.shape))
    return (input if beta == 1 else input * beta) + product


@method
def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> Tensor:
    """Return beta * input + alpha * (batch1 @ batch2) for batches of matrices."""
    return _scaled_sum(input, bmm(batch1, batch2), beta, alpha)


@method
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """Keep the lower triangle of the last two dimensions, 0 above the diagonal."""
    return apply(_TRIL, (input,), (diagonal,))


@method
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """Keep the upper triangle of the last two dimensions, 0 below the diagonal."""
    return apply(_TRIU, (input,), (diagonal,))


@method
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """Make a diagonal matrix of a vector, or take the diagonal of a matrix."""
    if input.ndim == 1:
        return apply(ops["diag_embed"], (input,), (diagonal,))
    _expect("diag", 2, input)
    return apply(ops["clone"], (apply(ops["diagonal"], (input,), (diagonal, 0, 1)),))


@method
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Make matrices, dim1 and dim2 of the result, with the last dimension on a diagonal."""
    made = apply(ops["diag_embed"], (input,), (offset,))
    if dim1 % made.ndim == dim2 % made.ndim:
        raise RuntimeError(f"diag_embed: dim1 and dim2 are the same dimension, {dim1}")
    return made if (dim1, dim2) == (-2, -1) else made.movedim((-2, -1), (dim1, dim2))


@method
def trace(input: Tensor) -> Tensor:
    """Return the sum of a matrix's diagonal."""
    _expect("trace", 2, input)
    return apply(ops["diagonal"], (input,), (0, 0, 1)).sum()


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sum products of elements as Einstein's convention writes them, e.g. "bij,bjk->bik".

    Letters shared by inputs are multiplied, letters missing from the output are summed; "..."
    stands for leading dimensions that broadcast. Operands are contracted from left to right.
    """
    tensors = (
        list(operands[0])
        if len(operands) == 1 and not isinstance(operands[0], Tensor)
        else (list(operands))
    )
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise RuntimeError(
            f"einsum: {equation!r} has {len(terms)} terms for {len(tensors)} operands"
        )
    letters = "".join(c for c in left if c.isalpha())
    dots = [
        x.ndim - len(t.replace("...", "")) if "..." in t else 0
        for t, x in zip(terms, tensors, strict=True)
    ]
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in equation]
    batch = "".join(spare[: max(dots)]) if dots else ""
    terms = [t.replace("...", batch[len(batch) - n :]) for t, n in zip(terms, dots, strict=True)]
    if arrow:
        result = right.replace("...", batch)
    else:
        result = batch + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    current, labels = _diagonals(terms[0], tensors[0], equation)
    for i in range(1, len(tensors)):
        other, names = _diagonals(terms[i], tensors[i], equation)
        later = set(result) | {c for t in terms[i + 1 :] for c in t}
        rows = [result.index(c) for c in labels if c in result and c not in names]
        cols = [result.index(c) for c in names if c in result and c not in labels]
        if rows and cols and max(cols) < min(rows):  # then the product has the output's order
            current, labels, other, names = other, names, current, labels
        current, labels = _contract(current, labels, other, names, later)
    gone = [d for d, c in enumerate(labels) if c not in result]
    if gone:
        current = current.sum(gone)
        labels = "".join(c for c in labels if c in result)
    if set(result) - set(labels) or len(set(result)) != len(result):
        raise RuntimeError(
            f"einsum: the output of {equation!r} names a letter twice or one unknown"
        )
    return current.permute([labels.index(c) for c in result])


def _diagonals(term: str, x: Tensor, equation: str) -> tuple[Tensor, str]:
    if len(term) != x.ndim:
        raise RuntimeError(
            f"einsum: {term!r} in {equation!r} names {len(term)} dimensions; the operand has shape "
            f"{tuple(x.shape)}"
        )
    for c in sorted(set(term)):
        while term.count(c) > 1:
            i, j = term.index(c), term.rindex(c)
            x = x.diagonal(0, i, j)
            term = term[:i] + term[i + 1 : j] + term[j + 1 :] + c
    return x, term


def _contract(a: Tensor, la: str, b: Tensor, lb: str, later: set[str]) -> tuple[Tensor, str]:
    """Multiply two labelled tensors as a batched matrix product; sum letters not needed later."""
    for side, other in ((0, lb), (1, la)):
        x, names = (a, la) if side == 0 else (b, lb)
        gone = [d for d, c in enumerate(names) if c not in other and c not in later]
        if gone:
            x, names = x.sum(gone), "".join(c for c in names if c in other or c in later)
        if side == 0:
            a, la = x, names
        else:
            b, lb = x, names
    shared = [c for c in la if c in lb]
    batch = [c for c in shared if c in later]
    summed = [c for c in shared if c not in later]
    rows, cols = [c for c in la if c not in lb], [c for c in lb if c not in la]
    sizes = dict(zip(lb, b.shape, strict=True)) | dict(zip(la, a.shape, strict=True))
    for c in shared:
        sizes[c] = max(a.shape[la.index(c)], b.shape[lb.index(c)])

    def matrix(x: Tensor, names: str, parts: Sequence[list[str]]) -> Tensor:
        order = [c for part in parts for c in part]
        x = x.permute([names.index(c) for c in order]).expand(*[sizes[c] for c in order])
        return x.reshape([_product(sizes[c] for c in part) for part in parts])

    left = matrix(a, la, (batch, rows, summed))
    right = matrix(b, lb, (batch, summed, cols))
    labels = batch + rows + cols
    return apply(_MATMUL, (left, right)).reshape([sizes[c] for c in labels]), "".join(labels)


def _product(sizes: Any) -> int:
    n = 1
    for s in sizes:
        n *= s
    return n


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sum products over the last `dims` dimensions of a and the first of b, or over given ones."""
    if isinstance(dims, int):
        left, right = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        left, right = (
            dims_of("tensordot", x.ndim, side) for side, x in zip(dims, (a, b), strict=True)
        )
    for i, j in zip(left, right, strict=True):  # a size of 1 goes with any
        if a.shape[i] != b.shape[j] and a.shape[i] == 1:
            b = b.sum(j, True)
        elif a.shape[i] != b.shape[j] and b.shape[j] == 1:
            a = a.sum(i, True)
    keep_a = [d for d in range(a.ndim) if d not in left]
    keep_b = [d for d in range(b.ndim) if d not in right]
    n = _product(a.shape[d] for d in left)
    rows, cols = [a.shape[d] for d in keep_a], [b.shape[d] for d in keep_b]
    m = a.permute(keep_a + left).reshape(_product(rows), n)
    return (m @ b.permute(right + keep_b).reshape(n, _product(cols))).reshape(rows + cols)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Return the inner products along a dimension."""
    return (x * y).sum(dim)
