"""The autograd graph: nodes recorded on the way in, walked in reverse by `backward`.

A `Node` is one operation: its op, an edge to the node (or leaf tensor) behind every input, and the
values its derivative reads. The C++ door `apply` makes them; this file walks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from sys import getrefcount
from typing import TYPE_CHECKING, Any

from .._core import (
    Node,
    TensorBase,
    accumulate,
    add_grads,
    add_to,
    apply,
    enter_walk,
    leave_walk,
    ops,
)
from .hooks import observe, run_after, run_before, run_hooks

if TYPE_CHECKING:
    from ..tensor import Tensor

    # Gradients of outputs of nodes, to be filled in; and the inputs that are asked for.
    _Targets = tuple[dict[tuple[Node, int], Any], Sequence[Tensor]]

__all__ = ["Node", "backward", "gradients", "toposort"]

_ADD, _ALIAS, _CAST = ops["add"], ops["alias"], ops["cast"]
_sequence = attrgetter("sequence")


def _references() -> int:
    """Count the references to a value that only a dictionary and a variable hold."""
    pending = {0: object()}
    known = pending.get(0)
    return getrefcount(known)


_ALONE = _references()


def toposort(roots: Iterable[Node]) -> list[Node]:
    """List the nodes reachable from `roots`, each before the nodes that its inputs came from.

    Iterative, so depth is no limit. A node is younger than its inputs' nodes, hence age sorts.
    """
    seen = set(roots)
    stack = list(seen)
    while stack:
        for edge in stack.pop().edges:
            if type(edge) is Node and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return sorted(seen, key=_sequence, reverse=True)


def backward(
    tensors: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    retain_graph: bool = False,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Add d(tensors)/d(leaf), contracted with `grads`, to `leaf.grad` for every leaf.

    With `inputs`, only for those, which need not be leaves.
    """
    targets: _Targets | None = None
    if inputs is not None:
        targets = {(t.grad_fn, t._output): None for t in inputs if t.grad_fn is not None}, inputs
    found = _walk(tensors, grads, retain_graph, create_graph, targets)
    if targets is not None:
        wanted = {id(t): t for t in targets[1]}
        inner = [(t, targets[0].get((t.grad_fn, t._output))) for t in wanted.values()]  # type: ignore[arg-type]
        found = {leaf: grad for leaf, grad in found.items() if id(leaf) in wanted}
        found.update((t, grad) for t, grad in inner if grad is not None)
    taken: set[int] = set()
    for leaf, grad in found.items():
        hooks = leaf._hooks if leaf.grad_fn is None else None
        if hooks:
            grad = run_hooks(hooks, grad)
        if create_graph:
            leaf.grad = grad if leaf.grad is None else apply(_ADD, (leaf.grad, grad))
        else:
            # A rule may have returned one object twice: no two leaves may share their gradient.
            if id(grad) in taken or hooks or targets is not None:
                grad = apply(_ALIAS, (grad,))
            taken.add(id(grad))
            accumulate(leaf, grad)
        if hooks is not None:
            for hook in list(hooks.after):
                hook(leaf)


def gradients(
    tensors: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    retain_graph: bool,
    create_graph: bool,
    leaf_hooks: bool = True,
) -> list[Tensor | None]:
    """Return d(tensors)/d(input), contracted with `grads`; None where there is no path."""
    captured: dict[tuple[Node, int], Any] = {
        (t.grad_fn, t._output): None for t in inputs if t.grad_fn is not None
    }
    pending = _walk(tensors, grads, retain_graph, create_graph, (captured, inputs))
    found = []
    for t in inputs:
        grad = pending.get(t) if t.grad_fn is None else captured[t.grad_fn, t._output]
        if leaf_hooks and grad is not None and t.grad_fn is None and t._hooks:
            grad = run_hooks(t._hooks, grad)
        found.append(grad)
    return found


def _walk(
    tensors: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    retain_graph: bool,
    create_graph: bool,
    targets: _Targets | None,
) -> dict[Any, Any]:
    """Push gradients through the graph; return those that reached the leaves.

    With `targets` only the nodes on a path to one of these inputs are visited, and the gradients
    of the inputs that are not leaves are stored in the first of the pair.
    """
    pending: dict[Any, Any] = {}
    for tensor, grad in zip(tensors, grads, strict=True):
        grad = _initial(tensor, grad)
        node = tensor.grad_fn
        _add(pending, tensor if node is None else node, tensor._output, grad)
    order = toposort(n for n in pending if type(n) is Node)
    captured: dict[tuple[Node, int], Any] = {}
    needed: dict[Node, Node] | None = None
    if targets is not None:
        captured, inputs = targets
        needed = _leading_to(order, inputs)
    before = enter_walk(create_graph)
    try:
        for node in order:
            grad = pending.pop(node, None)
            if grad is None:
                continue
            hooks = node.hooks
            if hooks is not None or captured:
                grad = observe(node, grad, hooks, captured)
            walked = node
            if needed is not None:
                if node not in needed:
                    continue
                walked = needed[node]
            op = node.op
            if hooks is not None:
                grad = run_before(node, grad, hooks)
            found = op.graph_vjp(walked, grad) if create_graph else op.vjp(walked, grad)
            if hooks is not None:
                found = run_after(node, found, grad, hooks)
            if not retain_graph:
                node.release()
            for i, edge in enumerate(walked.edges):
                if edge is not None:
                    g = found[i]
                    if g is not None:
                        if edge not in pending and (type(edge) is not Node or edge.n_outputs == 1):
                            pending[edge] = g
                        else:
                            _add(pending, edge, node.edge_outputs[i], g)
            found = g = None  # gone before the next rule makes its gradients
    finally:
        leave_walk(before)
    return pending


def _initial(tensor: Tensor, grad: Tensor | None) -> Tensor:
    if not tensor.requires_grad:
        raise RuntimeError(
            "backward: the tensor does not require grad and has no grad_fn: nothing that led to it "
            "was recorded"
        )
    if grad is None:
        if tensor._numel != 1:
            raise RuntimeError(
                f"backward: a gradient of 1 can be assumed for a scalar only; got shape "
                f"{tuple(tensor.shape)}: pass gradient="
            )
        return tensor._ones_like()
    if not isinstance(grad, TensorBase):
        raise TypeError(f"backward: a gradient is a Tensor or None; got {type(grad).__name__}")
    if grad.shape != tensor.shape:
        raise RuntimeError(
            f"backward: the gradient has shape {tuple(grad.shape)}, the tensor "
            f"{tuple(tensor.shape)}; they must be equal"
        )
    if grad.dtype is not tensor.dtype:
        return apply(_CAST, (grad,), (tensor.dtype.code,))
    return apply(_ALIAS, (grad,))


def _add(pending: dict[Any, Any], target: Any, output: int, grad: Any) -> None:
    """Add `grad` to what is known of one output of a node, or of a leaf."""
    if type(target) is Node and target.n_outputs > 1:
        slots = pending.setdefault(target, [None] * target.n_outputs)
        known = slots[output]
        slots[output] = grad if known is None else _sum(known, grad)
    else:
        known = pending.get(target)
        if known is None:
            pending[target] = grad
        elif getrefcount(known) > _ALONE or not add_to(known, grad):
            pending[target] = _sum(known, grad)


def _sum(a: Tensor, b: Tensor) -> Tensor:
    if a.requires_grad or b.requires_grad:
        return apply(_ADD, (a, b))
    return add_grads(a, b)


def _leading_to(order: Sequence[Node], inputs: Sequence[Tensor]) -> dict[Node, Node]:
    """Map nodes from which one of `inputs` can be reached to themselves without other edges."""
    needed: dict[Any, Node] = {}
    ends = {t if t.grad_fn is None else t.grad_fn for t in inputs}
    for node in reversed(order):
        unneeded = [e is not None and e not in ends and e not in needed for e in node.edges]
        edges = tuple(None if u else e for u, e in zip(unneeded, node.edges, strict=True))
        if any(e is not None for e in edges):
            needed[node] = node.narrowed(edges) if any(unneeded) else node
    return needed
