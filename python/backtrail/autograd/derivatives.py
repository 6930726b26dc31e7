"""Derivative rules: how the gradient of an op's output becomes that of its inputs.

Pointwise ops carry their derivative in C++; a replay of its trace, in tensors, differentiates it
again. The other ops have one rule each here. A rule takes (node, grad) and returns the gradient of
every input, None where there is none; grad is a list for an op with several outputs. A rule written
with tensor operations alone serves any order; a fused one (`fused=`) serves the first order only,
and the slower one takes over when the backward pass is itself recorded.
"""

from __future__ import annotations

from typing import Any

from .. import dtypes
from .._core import Node, capturing, full, is_grad_enabled, pointwise_vjp, trace
from ..functions.creation import arange
from ..functions.rules import fit_input, rule, sum_to
from ..functions.shaping import cat, split
from ..tensor import Op, Tensor, apply, ops

_EXPAND, _CAST, _PERMUTE = ops["expand"], ops["cast"], ops["permute"]
_VIEW, _RESHAPE, _TRANSPOSE, _MATMUL = (ops[n] for n in ("view", "reshape", "transpose", "matmul"))
_SCATTER_VIEW, _AS_STRIDED, _WHERE = ops["scatter_view"], ops["as_strided"], ops["where"]
_INDEX_ADD, _CLONE, _DIV = ops["index_add"], ops["clone"], ops["div"]


# ---- pointwise


def replay_pointwise(node: Node, grad: Tensor) -> list[Tensor | None]:
    """Run the traced derivative of a pointwise op with tensors."""
    op = node.op
    given = (*node.attrs, *(None for _ in op.attr_defaults))
    attrs = [d if a is None else a for a, d in zip(given, op.attr_defaults, strict=False)]
    constants = tuple(attrs) if op.attr_constants else ()
    inputs = [grad, *node.saved, *(() if constants else attrs)]
    results: list[Tensor | None] = []
    for i, edge in enumerate(node.edges):
        if edge is None:
            results.append(None)
            continue
        program, result = _trace(op, i, constants)
        values = list(inputs)
        for name, args in program:
            taken = [values[a] if type(a) is int else a for a in args]
            if name == "where" or not any(isinstance(x, Tensor) for x in taken):
                # Numbers alone would be computed in the default dtype.
                taken = [
                    full((), x, grad.dtype) if isinstance(x, (int, float)) else x for x in taken
                ]
            values.append(apply(ops[name], tuple(taken)))
        g = values[result] if type(result) is int else full(grad.shape, result, grad.dtype)
        results.append(fit_input(node, i, g))
    return results


def _trace(op: Op, i: int, constants: tuple[Any, ...]) -> Any:
    """The program of a derivative, with the attributes as inputs or of these values."""
    known = op.__dict__.setdefault("traces", {})
    if (i, constants) not in known:
        if len(known) > 64:  # an attribute that is another one at each step
            known.clear()
        known[i, constants] = trace(op, i, constants)
    return known[i, constants]


def publish_derivative(op: Op) -> None:
    """Attach the rules of a pointwise op."""
    from .._core import pointwise_info

    op.vjp = pointwise_vjp
    op.graph_vjp = replay_pointwise
    info = pointwise_info(op)
    op.attr_defaults = tuple(info["attrs"].values())
    op.attr_constants = info["attr_constants"]


for _op in ops.values():
    if _op.kind == "pointwise":
        publish_derivative(_op)


# ---- reductions


def _spread(node: Node, grad: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The gradient of a reduction with its reduced dimensions kept, and the input's shape."""
    shape = node.shape(0)
    dims, keepdim = node.attrs
    if not keepdim and grad.ndim != len(shape):
        if dims is None or (not isinstance(dims, int) and len(dims) == 0):
            kept = (1,) * len(shape)
        else:
            listed = {d % len(shape) for d in ((dims,) if isinstance(dims, int) else dims)}
            kept = tuple(1 if d in listed else n for d, n in enumerate(shape))
        grad = apply(_RESHAPE, (grad,), (kept,))
    return grad, shape


@rule("sum")
def _sum(node: Node, grad: Tensor) -> Any:
    grad, shape = _spread(node, grad)
    return (apply(_EXPAND, (grad,), (shape,)),)


@rule("mean")
def _mean(node: Node, grad: Tensor) -> Any:
    n = max(grad._numel, 1)
    grad, shape = _spread(node, grad)
    count = 1
    for size in shape:
        count *= size
    return (apply(_EXPAND, (apply(_DIV, (grad, count / n)),), (shape,)),)


@rule("amax", "amin")
def _extreme(node: Node, grad: Tensor) -> Any:
    x, y = node.saved
    grad, _ = _spread(node, grad)
    y, _ = _spread(node, y.detach())
    x = x.detach()
    equal = ((x == y) | ((x != x) & (y != y))).to(grad.dtype)  # equal ones share
    share = equal / equal.sum(node.attrs[0], True)
    return (grad * share,)


@rule("prod")
def _prod(node: Node, grad: Tensor) -> Any:
    x, _ = node.saved
    grad, _ = _spread(node, grad)
    dim = node.attrs[0]
    flat = dim is None or not x.ndim
    rows = x.reshape(-1) if flat else x.movedim(dim, -1)
    # Products of all elements before and after each one: right with any number of zeros.
    one = full((*rows.shape[:-1], 1), 1, rows.dtype)
    before = cat([one, rows.narrow(-1, 0, max(rows.shape[-1] - 1, 0))], -1).cumprod(-1)
    after = cat([one, rows.flip(-1).narrow(-1, 0, max(rows.shape[-1] - 1, 0))], -1).cumprod(-1)
    others = before * after.flip(-1) if rows.shape[-1] else rows
    return (grad * (others.reshape(x.shape) if flat else others.movedim(-1, dim)),)


@rule("max_dim", "min_dim")
def _extreme_with_index(node: Node, grads: list[Tensor | None]) -> Any:
    return (_scatter_back(node, grads[0], node.saved[0], node.attrs[0], node.attrs[1]),)


def _scatter_back(node: Node, grad: Any, index: Tensor, dim: Any, keepdim: bool) -> Tensor | None:
    """Zeros with `grad` at `index` along a dimension: the derivative of taking those elements."""
    if grad is None:
        return None
    shape = node.shape(0)
    if dim is None or not shape:
        flat = full((max(1, _numel(shape)),), 0, grad.dtype)
        flat = apply(_INDEX_ADD, (flat, index.reshape(-1), grad.reshape(-1)), (0, 1))
        return flat.reshape(shape)
    if not keepdim:
        grad, index = grad.unsqueeze(dim), index.unsqueeze(dim)
    zeros = full(shape, 0, grad.dtype)
    return apply(ops["scatter_add"], (zeros, index, grad), (dim,))


def _numel(shape: tuple[int, ...]) -> int:
    n = 1
    for size in shape:
        n *= size
    return n


# ---- views and copies


@rule("view", "reshape", "squeeze", "unsqueeze")
def _reshaped(node: Node, grad: Tensor) -> Any:
    return (apply(_RESHAPE, (grad,), (node.shape(0),)),)


@rule("alias", "clone", "contiguous")
def _same(node: Node, grad: Tensor) -> Any:
    return (grad,)


@rule("cast")
def _cast(node: Node, grad: Tensor) -> Any:
    return (apply(_CAST, (grad,), (node.meta(0)[1].code,)),)


@rule("permute")
def _permute(node: Node, grad: Tensor) -> Any:
    dims = [d % grad.ndim for d in node.attrs[0]]
    inverse = [0] * len(dims)
    for i, d in enumerate(dims):
        inverse[d] = i
    return (apply(_PERMUTE, (grad,), (inverse,)),)


@rule("transpose")
def _transpose(node: Node, grad: Tensor) -> Any:
    return (apply(_TRANSPOSE, (grad,), node.attrs),)


@rule("expand")
def _expand(node: Node, grad: Tensor) -> Any:
    return (sum_to(grad, node.shape(0)),)


@rule("slice", "select", "basic_index", "diagonal")
def _part(node: Node, grad: Tensor) -> Any:
    """Zeros with the gradient in the place that the view showed."""
    shape = node.shape(0)
    # The same view of an array of that shape says where: no element of it is read.
    place = apply(node.op, (_unread(shape, grad.dtype),), node.attrs)
    return (apply(_SCATTER_VIEW, (grad,), (shape, place._strides, place._offset)),)


def _unread(shape: tuple[int, ...], dtype: dtypes.dtype) -> Tensor:
    from .._core import empty

    return empty(shape, dtype)


@rule("scatter_view")
def _scatter_view(node: Node, grad: Tensor) -> Any:
    _, strides, offset = node.attrs
    grad = grad.contiguous()
    if grad._offset:  # as_strided counts from where the storage begins
        grad = apply(_CLONE, (grad,))
    return (apply(_AS_STRIDED, (grad,), (node.shape(0), strides, offset)),)


# ---- matrix products


@rule("matmul")
def _matmul(node: Node, grad: Tensor) -> Any:
    a, b = node.saved
    need_a, need_b = node.edges[0] is not None, node.edges[1] is not None
    if a.ndim == 1 and b.ndim == 1:
        return grad * b if need_a else None, grad * a if need_b else None
    # Vectors are matrices of one row or column.
    rows, cols = a.unsqueeze(0) if a.ndim == 1 else a, b.unsqueeze(1) if b.ndim == 1 else b
    g = grad.unsqueeze(-2) if a.ndim == 1 else grad.unsqueeze(-1) if b.ndim == 1 else grad
    ga = gb = None
    if need_a:
        ga = sum_to(apply(_MATMUL, (g, cols.mT)), rows.shape)
        ga = ga.reshape(a.shape) if a.ndim == 1 else ga
    if need_b:
        if cols.ndim == 2 and rows.ndim > 2:  # one product over all rows instead of a sum of many
            n = cols.shape[-1]
            m = _numel(rows.shape[:-1])
            left = rows.reshape(m, rows.shape[-1])
            gb = apply(_MATMUL, (left.mT, g.expand(*rows.shape[:-1], n).reshape(m, n)))
        else:
            gb = sum_to(apply(_MATMUL, (rows.mT, g)), cols.shape)
        gb = gb.reshape(b.shape) if b.ndim == 1 else gb
    return ga, gb


def _linear_fused(node: Node, grad: Tensor) -> Any:
    x, weight = node.saved
    edges = node.edges
    need = (edges[0] is not None) + 2 * (edges[1] is not None) + 4 * (edges[2] is not None)
    found = apply(ops["linear_backward"], (grad, x, weight), (need,))
    return tuple(g if edge is not None else None for g, edge in zip(found, edges, strict=True))


@rule("linear", fused=_linear_fused)
def _linear(node: Node, grad: Tensor) -> Any:
    x, weight = node.saved
    m = _numel(grad.shape[:-1])
    g = grad.reshape(m, grad.shape[-1])
    return (
        apply(_MATMUL, (grad, weight)) if node.edges[0] is not None else None,
        apply(_MATMUL, (g.mT, x.reshape(m, x.shape[-1]))) if node.edges[1] is not None else None,
        g.sum(0) if node.edges[2] is not None else None,
    )


# ---- elements by index


def _embedding_fused(node: Node, grad: Tensor) -> Any:
    (index,) = node.saved
    return apply(ops["embedding_backward"], (grad, index), (node.shape(0)[0], -1)), None


@rule("embedding", fused=_embedding_fused)
def _embedding(node: Node, grad: Tensor) -> Any:
    (index,) = node.saved
    shape = node.shape(0)
    rows = grad.reshape(index._numel, *shape[1:])
    zeros = full(shape, 0, grad.dtype)
    return apply(_INDEX_ADD, (zeros, index.reshape(-1), rows), (0, 1)), None


@rule("embedding_backward")
def _embedding_backward(node: Node, grad: Tensor) -> Any:
    (index,) = node.saved
    return apply(ops["embedding"], (grad, index)), None


@rule("gather")
def _gather(node: Node, grad: Tensor) -> Any:
    (index,) = node.saved
    return _scatter_back(node, grad, index, node.attrs[0], True), None


@rule("scatter_add")
def _scatter_add(node: Node, grad: Tensor) -> Any:
    (index,) = node.saved
    return grad, None, _source(node, grad, index)


def _source(node: Node, grad: Tensor, index: Tensor) -> Tensor | None:
    """The gradient of a scatter's source: what lies at index; 0 for elements that are not used."""
    if node.edges[2] is None:
        return None
    taken = apply(ops["gather"], (grad, index), node.attrs)
    shape = node.shape(2)
    if tuple(shape) == tuple(taken.shape):
        return taken
    strides = full(shape, 0, dtypes.uint8)._strides
    return apply(_SCATTER_VIEW, (taken,), (shape, strides, 0))


@rule("scatter")
def _scatter(node: Node, grad: Tensor) -> Any:
    (index,) = node.saved
    covered = apply(ops["scatter"], (grad, index, full(index.shape, 0, grad.dtype)), node.attrs)
    return covered, None, _source(node, grad, index)


@rule("index_select")
def _index_select(node: Node, grad: Tensor) -> Any:
    (index,) = node.saved
    zeros = full(node.shape(0), 0, grad.dtype)
    return apply(_INDEX_ADD, (zeros, index, grad), (node.attrs[0], 1)), None


@rule("index_add")
def _index_add(node: Node, grad: Tensor) -> Any:
    (index,) = node.saved
    dim, alpha = node.attrs
    source = apply(ops["index_select"], (grad, index), (dim,))
    return grad, None, source if alpha == 1 else source * alpha


@rule("index")
def _index(node: Node, grad: Tensor) -> Any:
    indices = node.saved
    zeros = full(node.shape(0), 0, grad.dtype)
    g = apply(ops["index_put"], (zeros, grad, *indices), (node.attrs[0], 1))
    return (g, *(None for _ in indices))


@rule("index_put")
def _index_put(node: Node, grad: Tensor) -> Any:
    indices = node.saved
    first, accumulate = node.attrs
    values = apply(ops["index"], (grad, *indices), (first,)) if node.edges[1] is not None else None
    kept = grad
    if not accumulate:
        if values is not None:  # an element written more than once holds its last value only
            values = values * _last_written(node, indices, first)
        nothing = full(node.shape(1), 0, grad.dtype)
        kept = apply(ops["index_put"], (grad, nothing, *indices), (first, 0))
    return (kept, values, *(None for _ in indices))


def _last_written(node: Node, indices: Any, first: int) -> Tensor:
    """1 where a value is the one that stayed, 0 where a later one overwrote it."""
    values = node.shape(1)
    n = _numel(values)
    numbers = arange(n).reshape(values)
    order = full(node.shape(0), -1, dtypes.int64)
    order = apply(ops["index_put"], (order, numbers, *indices), (first, 0))
    stayed = apply(ops["index"], (order, *indices), (first,)) == numbers
    return stayed.to(node.meta(0)[1])


@rule("cat")
def _cat(node: Node, grad: Tensor) -> Any:
    dim = node.attrs[0]
    shapes = [node.shape(i) for i in range(node.n_inputs)]
    # PyTorch lets empty 1-d tensors join anything.
    sizes = [0 if len(s) != grad.ndim else s[dim] for s in shapes]
    pieces = [
        g if len(s) == grad.ndim else full(s, 0, grad.dtype)
        for g, s in zip(split(grad, sizes, dim), shapes, strict=True)
    ]
    return [None if edge is None else g for edge, g in zip(node.edges, pieces, strict=True)]


@rule("split")
def _split(node: Node, grads: Any) -> Any:
    if node.n_outputs == 1:
        return (grads,)
    dtype = node.meta(0)[1]
    found = [full(node.shape(1 + i), 0, dtype) if g is None else g for i, g in enumerate(grads)]
    return (apply(ops["cat"], tuple(found), node.attrs[:1]),)


@rule("tril", "triu", "dropout")
def _linear_map(node: Node, grad: Tensor) -> Any:
    """These ops are linear and their own transpose."""
    return (apply(node.op, (grad,), node.attrs),)


@rule("flip")
def _flip(node: Node, grad: Tensor) -> Any:
    return (apply(node.op, (grad,), node.attrs),)


@rule("roll")
def _roll(node: Node, grad: Tensor) -> Any:
    shifts, dims = node.attrs
    return (apply(node.op, (grad,), (tuple(-s for s in shifts), dims)),)


@rule("repeat_interleave")
def _repeat_interleave(node: Node, grad: Tensor) -> Any:
    repeats, dim = node.attrs
    shape = node.shape(0)
    d = dim % max(len(shape), 1)
    return (grad.reshape(*shape[: d + 1], repeats, *shape[d + 1 :]).sum(d + 1),)


@rule("diag_embed")
def _diag_embed(node: Node, grad: Tensor) -> Any:
    return (apply(ops["diagonal"], (grad,), (node.attrs[0], -2, -1)),)


# ---- order


@rule("sort", "topk")
def _order(node: Node, grads: list[Tensor | None]) -> Any:
    dim = node.attrs[0] if node.op.name == "sort" else node.attrs[1]
    return (_scatter_back(node, grads[0], node.saved[0], dim, True),)


@rule("cumsum")
def _cumsum(node: Node, grad: Tensor) -> Any:
    dim = node.attrs[0]
    return (grad.flip(dim).cumsum(dim).flip(dim) if grad.ndim else grad,)


@rule("cumprod")
def _cumprod(node: Node, grad: Tensor) -> Any:
    x, y = node.saved
    dim = node.attrs[0]
    zeros = (x.detach() == 0).any()
    quick = (grad * y).flip(dim).cumsum(dim).flip(dim) / x
    both = capturing() and not is_grad_enabled()  # where Python may not look at values
    if not (both or bool(zeros)):
        return (quick,)
    # With zeros: d y_k / d x_i is the product of the others up to k; a row of products for each i.
    rows = x.movedim(dim, -1)
    n = rows.shape[-1]
    g = grad.movedim(dim, -1)
    one = full((*rows.shape[:-1], 1), 1, x.dtype)
    columns = []
    for i in range(n):
        others = cat([rows.narrow(-1, 0, i), one, rows.narrow(-1, i + 1, n - i - 1)], -1)
        columns.append((g * others.cumprod(-1)).narrow(-1, i, n - i).sum(-1, True))
    slow = cat(columns, -1).movedim(-1, dim)
    return (apply(ops["where"], (zeros, slow, quick)) if both else slow,)
