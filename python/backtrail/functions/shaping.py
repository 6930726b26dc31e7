"""Functions that change shapes: views, joins and splits."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from .._core import broadcast_shape, part_of_many, result_type
from ..dtypes import int32, int64
from ..tensor import Tensor, apply, method, ops
from .creation import tensor
from .dims import dims_of, several, with_dims

__all__ = [
    "as_strided",
    "atleast_1d",
    "broadcast_shapes",
    "broadcast_tensors",
    "broadcast_to",
    "cat",
    "chunk",
    "concat",
    "concatenate",
    "contiguous",
    "diagonal",
    "expand",
    "expand_as",
    "flatten",
    "flip",
    "hstack",
    "moveaxis",
    "movedim",
    "narrow",
    "permute",
    "ravel",
    "repeat",
    "repeat_interleave",
    "reshape",
    "reshape_as",
    "roll",
    "select",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "swapdims",
    "t",
    "tile",
    "transpose",
    "unbind",
    "unflatten",
    "unfold",
    "unsqueeze",
    "view",
    "view_as",
    "vstack",
]

_VIEW, _RESHAPE, _PERMUTE, _EXPAND = (ops[n] for n in ("view", "reshape", "permute", "expand"))
_TRANSPOSE, _SQUEEZE, _UNSQUEEZE = (ops[n] for n in ("transpose", "squeeze", "unsqueeze"))
_SLICE, _SELECT, _SPLIT = ops["slice"], ops["select"], ops["split"]
_CAT, _CLONE, _CONTIGUOUS = ops["cat"], ops["clone"], ops["contiguous"]


_NOT_WHOLE = (dtypes.bool_, dtypes.float32, dtypes.float64, dtypes.bfloat16)


def _sizes(args: tuple[Any, ...], named: Any = None) -> tuple[int, ...]:
    """Sizes given one by one, as one sequence, or by name."""
    if named is not None:
        if args:
            raise TypeError(f"sizes are given twice: {args} and by name {tuple(named)}")
        args = (named,)
    if len(args) == 1 and not isinstance(args[0], (int, Tensor)) and hasattr(args[0], "__iter__"):
        return tuple(args[0])
    return args


@method
def view(input: Tensor, *shape: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """See the same elements under another shape, without a copy; one size may be -1."""
    if dtype is not None:
        shape = (dtype,)
    if len(shape) == 1 and hasattr(shape[0], "itemsize"):
        if shape[0] is input.dtype:
            return input
        raise RuntimeError(f"view: reading {input.dtype} as {shape[0]} is not supported; use .to()")
    return apply(_VIEW, (input,), (_sizes(shape, size),))


@method
def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """Give the elements another shape, copying only where needed; one size may be -1."""
    return apply(_RESHAPE, (input,), (_sizes(sizes, shape),))


@method
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """See the elements under the shape of other."""
    return apply(_VIEW, (input,), (other.shape,))


@method
def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """Give the elements the shape of other."""
    return apply(_RESHAPE, (input,), (other.shape,))


@method
def permute(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """Put the dimensions in another order."""
    return apply(_PERMUTE, (input,), (_sizes(order, dims),))


@method
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Exchange two dimensions."""
    return apply(_TRANSPOSE, (input,), (dim0, dim1))


@method
def t(input: Tensor) -> Tensor:
    """Transpose a matrix; a vector stays what it is."""
    if input.ndim > 2:
        raise RuntimeError(f"t: expected at most 2 dimensions; got shape {tuple(input.shape)}")
    return apply(_TRANSPOSE, (input,), (0, 1)) if input.ndim == 2 else input


@method
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Move dimensions to other places; the others keep their order."""
    n = input.ndim
    src, dst = dims_of("movedim", n, source), dims_of("movedim", n, destination)
    if len(src) != len(dst):
        raise RuntimeError(f"movedim: {len(src)} sources for {len(dst)} destinations")
    if n == 0:
        return input
    rest = iter(d for d in range(n) if d not in src)
    place = dict(zip(dst, src, strict=True))
    return permute(input, [place[d] if d in place else next(rest) for d in range(n)])


moveaxis = movedim


@method
def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """Exchange two dimensions: `transpose` by NumPy's name."""
    return apply(_TRANSPOSE, (input,), (axis0, axis1))


@method
def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Exchange two dimensions: `transpose` by another name."""
    return apply(_TRANSPOSE, (input,), (dim0, dim1))


@method
def expand(input: Tensor, *sizes: Any, size: Any = None, implicit: bool = False) -> Tensor:
    """Repeat dimensions of size 1 without a copy; -1 keeps a size."""
    return apply(_EXPAND, (input,), (_sizes(sizes, size),))


@method
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Repeat dimensions of size 1 up to the shape of other, without a copy."""
    return apply(_EXPAND, (input,), (other.shape,))


@method
def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat dimensions of size 1 up to a shape, without a copy."""
    return apply(_EXPAND, (input,), (tuple(size),))


def broadcast_shapes(*shapes: Any) -> Any:
    """Return the shape that these shapes (or single sizes) broadcast to."""
    return broadcast_shape("broadcast_shapes", [several(shape) for shape in shapes])


def broadcast_tensors(*tensors: Tensor) -> list[Tensor]:
    """Expand tensors to their common shape."""
    shape: tuple[int, ...] = ()
    for x in tensors:
        n = max(len(shape), x.ndim)
        a, b = (1,) * (n - len(shape)) + tuple(shape), (1,) * (n - x.ndim) + tuple(x.shape)
        if builtins.any(i != j and i != 1 and j != 1 for i, j in zip(a, b, strict=True)):
            raise RuntimeError(
                f"broadcast: shapes {tuple(shape)} and {tuple(x.shape)} do not broadcast"
            )
        shape = tuple(j if i == 1 else i for i, j in zip(a, b, strict=True))
    return [x if tuple(x.shape) == shape else apply(_EXPAND, (x,), (shape,)) for x in tensors]


@method
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Remove dimensions of size 1: all of them, or those named."""
    return apply(_SQUEEZE, (input,), (dim,))


@method
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Insert a dimension of size 1."""
    return apply(_UNSQUEEZE, (input,), (dim,))


@method
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge the dimensions from start_dim to end_dim into one."""
    n = input.ndim
    if n == 0:
        return reshape(input, 1)
    (first,), (last,) = dims_of("flatten", n, start_dim), dims_of("flatten", n, end_dim)
    if first > last:
        raise RuntimeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    if first == last:
        return input
    size = 1
    for d in range(first, last + 1):
        size *= input.shape[d]
    return reshape(input, (*input.shape[:first], size, *input.shape[last + 1 :]))


@method
def ravel(input: Tensor) -> Tensor:
    """Return all elements as one dimension, dense."""
    return reshape(contiguous(input), -1)


@method
def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Cut one dimension into several; one size may be -1."""
    (d,) = dims_of("unflatten", with_dims("unflatten", input).ndim, dim)
    sizes = list(sizes)
    if -1 in sizes:
        known = 1
        for s in sizes:
            known *= s if s != -1 else 1
        sizes[sizes.index(-1)] = input.shape[d] // max(known, 1)
    return view(input, (*input.shape[:d], *sizes, *input.shape[d + 1 :]))


@method
def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """Return the tensor with dense elements in order: itself when they are."""
    return input if input._contiguous else apply(_CONTIGUOUS, (input,))


@method
def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """Return `length` elements of a dimension from `start` on, as a view."""
    if isinstance(start, Tensor) and (start.ndim or start.dtype in _NOT_WHOLE):
        raise RuntimeError("narrow: start must be an integer, or a 0-dim tensor of one")
    start = int(start)
    size = with_dims("narrow", input).shape[dim]
    start = start + size if start < 0 else start
    if length < 0 or start < 0 or start + length > size:
        raise RuntimeError(
            f"narrow: start {start} and length {length} exceed dimension {dim} of size {size}"
        )
    return apply(_SLICE, (input,), (dim, start, start + length, 1))


@method
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """Return one index of a dimension, which disappears, as a view."""
    return apply(_SELECT, (input,), (dim, int(index)))


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Cut a dimension into views of one size (the last may be smaller), or of the sizes listed."""
    input = with_dims("split", tensor)
    size = input.shape[dim]
    if not getattr(split_size_or_sections, "ndim", 0) and hasattr(
        split_size_or_sections, "__index__"
    ):
        step = int(split_size_or_sections)
        if step <= 0 and size:
            raise RuntimeError(f"split: the size is {step}; it must be positive")
        cuts = [min(step, size - i) for i in range(0, size, step)] if size else [0]
    else:
        cuts = list(split_size_or_sections)
        if builtins.sum(cuts) != size:
            raise RuntimeError(
                f"split: sections {cuts} add up to {builtins.sum(cuts)}; dimension {dim} has {size}"
            )
    if input.ndim and len(cuts) <= 8:
        views: tuple[Tensor, ...] = apply(_SPLIT, (input,), (dim, cuts))  # type: ignore[assignment]
        return views
    parts, start = [], 0
    for n in cuts:
        parts.append(apply(_SLICE, (input,), (dim, start, start + n, 1)))
        start += n
    return part_of_many(tuple(parts))


def _split(self: Tensor, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
    return split(self, split_size, dim)


setattr(Tensor, "split", _split)  # noqa: B010  (PyTorch's method and function name it differently)


@method
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Cut a dimension into at most `chunks` views of equal size (the last may be smaller)."""
    if chunks <= 0:
        raise RuntimeError(f"chunk: got {chunks} chunks; expected at least 1")
    size = with_dims("chunk", input).shape[dim]
    return split(input, max(1, -(-size // int(chunks))), dim)


@method
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Return the views at every index of a dimension."""
    views = tuple(apply(_SELECT, (input,), (dim, i)) for i in range(input.shape[dim]))
    return part_of_many(views)


def _joined(name: str, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    inputs = tuple(tensors)
    if not inputs:
        raise RuntimeError(f"{name}: expected at least one tensor")
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: input {i} is {type(x).__name__}; expected a Tensor")
    kind = inputs[0].dtype
    if builtins.any(x.dtype is not kind for x in inputs):
        kind = result_type(*inputs)
        inputs = tuple(x.to(kind) for x in inputs)
    return inputs


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors along a dimension; the other sizes must agree."""
    return apply(_CAT, _joined("cat", tensors), (dim,))


concat = concatenate = cat


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors of one shape along a new dimension."""
    inputs = _joined("stack", tensors)
    shape = inputs[0].shape
    for i, x in enumerate(inputs):
        if x.shape != shape:
            raise RuntimeError(
                f"stack: tensor {i} has shape {tuple(x.shape)}, tensor 0 {tuple(shape)}; they must "
                f"be equal"
            )
    return apply(_CAT, tuple(apply(_UNSQUEEZE, (x,), (dim,)) for x in inputs), (dim,))


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Join tensors along the second dimension, vectors along the first."""
    tensors = atleast_1d(list(tensors))
    return cat(tensors, 0 if tensors[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Join tensors as rows."""
    return cat([x.reshape(1, -1) if x.ndim <= 1 else x for x in tensors], 0)


@method
def repeat(input: Tensor, *sizes: Any, repeats: Any = None) -> Tensor:
    """Repeat the whole tensor along each dimension."""
    counts = _sizes(sizes, repeats)
    if len(counts) < input.ndim:
        raise RuntimeError(
            f"repeat: got {len(counts)} counts for shape {tuple(input.shape)}; "
            f"expected at least as many"
        )
    shape = (1,) * (len(counts) - input.ndim) + tuple(input.shape)
    inner: list[int] = []
    outer: list[int] = []
    for n, size in zip(counts, shape, strict=True):
        inner += [1, size]
        outer += [n, size]
    wide = input.reshape(inner) if len(inner) <= 8 else None
    if wide is None:  # beyond the largest number of dimensions: one dimension after another
        out = input.reshape(shape)
        for d, n in enumerate(counts):
            out = cat([out] * n, d) if n else out.narrow(d, 0, 0)
        return out
    # Copied first: what needs no copy would be a view.
    return apply(_CLONE, (wide.expand(*outer),)).reshape(
        [n * s for n, s in zip(counts, shape, strict=True)]
    )


@method
def tile(input: Tensor, *sizes: Any, dims: Any = None) -> Tensor:
    """Repeat the tensor; missing leading counts are 1."""
    counts = _sizes(sizes, dims)
    return repeat(input, (1,) * (input.ndim - len(counts)) + tuple(counts))


@method
def repeat_interleave(
    input: Tensor | None = None,
    repeats: Any = None,
    dim: int | None = None,
    *,
    output_size: int | None = None,
) -> Tensor:
    """Repeat each element (or slice of a dimension) `repeats` times in a row.

    `repeats` alone, a tensor of counts, gives each of its indices so many times.
    """
    if input is None or repeats is None:
        counted = input if repeats is None else repeats
        if not isinstance(counted, Tensor) or counted.ndim != 1:
            raise RuntimeError("repeat_interleave: alone, repeats must be a 1-d tensor of counts")
        input, repeats, dim = tensor(list(range(counted._numel)), dtype=int64), counted, 0
    if dim is None:
        input, dim = reshape(input, -1), 0
    size = input.shape[dim] if input.ndim else 1
    if not isinstance(repeats, Tensor):
        total = int(repeats) * size
    elif repeats.dtype not in (int64, int32):
        raise RuntimeError(f"repeat_interleave: repeats is {repeats.dtype}; expected integers")
    elif repeats.ndim > 1 or (repeats._numel not in (1, size)):
        raise RuntimeError(
            f"repeat_interleave: repeats has shape {tuple(repeats.shape)}; expected one for each "
            f"of {size}, or one for all"
        )
    else:
        counts = repeats.reshape(-1).tolist() * (size if repeats._numel == 1 else 1)
        total = builtins.sum(counts)
        if builtins.any(n < 0 for n in counts):
            raise RuntimeError("repeat_interleave: repeats must not be negative")
    if output_size is not None and output_size != total:
        raise RuntimeError(f"repeat_interleave: output_size is {output_size}, not {total}")
    if isinstance(repeats, Tensor):
        index = [i for i, n in enumerate(counts[:size]) for _ in range(n)]
        return apply(ops["index_select"], (input, tensor(index, dtype=int64)), (dim,))
    return apply(ops["repeat_interleave"], (input,), (repeats, dim))


@method
def flip(input: Tensor, *along: Any, dims: Any = None) -> Tensor:
    """Reverse the order of elements along dimensions."""
    return apply(ops["flip"], (input,), (_sizes(along, dims),))


@method
def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Shift elements along dimensions, cyclically; without dims, of the flattened tensor."""
    if dims is None:
        return roll(reshape(input, -1), shifts, 0).reshape(input.shape)
    shifts, dims = several(shifts), several(dims)
    if dims and not input.ndim:
        raise IndexError("roll: a 0-dim tensor has no dimension to shift along")
    return apply(ops["roll"], (input,), (shifts, dims))


@method
def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Return sliding windows along a dimension as a view; their elements come last."""
    if input.ndim == 0:
        return unfold(reshape(input, 1), dimension, size, step).squeeze(0)
    return apply(ops["unfold"], (input,), (dimension, size, step))


@method
def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """View the storage with any sizes and strides (in elements)."""
    return apply(ops["as_strided"], (input,), (tuple(size), tuple(stride), storage_offset))


@method
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return the diagonal of two dimensions as a view; it comes last."""
    return apply(ops["diagonal"], (input,), (offset, dim1, dim2))


def atleast_1d(*tensors: Any) -> Any:
    """Return a tensor of at least one dimension; of several, or a sequence, a tuple of them."""
    if len(tensors) == 1 and isinstance(tensors[0], Tensor):
        return tensors[0].reshape(1) if tensors[0].ndim == 0 else tensors[0]
    several = tensors[0] if len(tensors) == 1 else tensors
    if not builtins.all(isinstance(x, Tensor) for x in several):
        raise TypeError("atleast_1d: expected Tensors, or one sequence of them")
    return tuple(map(atleast_1d, several))


setattr(Tensor, "moveaxis", movedim)  # noqa: B010
