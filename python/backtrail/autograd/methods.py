"""What a Tensor does with its graph: `backward`, hooks, and the gradient of one that is no leaf."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from .._core import Node
from ..tensor import Tensor, method
from . import graph
from .gradients import backward as backward_of
from .hooks import POST, PRE, LeafHooks, RemovableHandle, add_hook, hooks_of


@method
def backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradient of this tensor, for every leaf that led to it, to the leaf's `grad`.

    `gradient` has this tensor's shape and may be left out for a scalar. `retain_graph` keeps
    what the derivatives need for another pass; `create_graph` records the pass itself, so that
    gradients can be differentiated. With `inputs`, one tensor or several, leaves or not, only
    their `grad` is filled. Raises RuntimeError when nothing was recorded.
    """
    if inputs is not None:
        backward_of(self, (gradient,), retain_graph, create_graph, inputs)
        return
    keep = create_graph if retain_graph is None else retain_graph
    graph.backward((self,), (gradient,), keep, create_graph)


def _leaf_hooks(self: Tensor) -> LeafHooks:
    if self._hooks is None:
        self._hooks = LeafHooks()
    return self._hooks  # type: ignore[return-value]


@method
def register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `hook(grad)` when the gradient of this tensor is complete; it may return another.

    Raises RuntimeError when the tensor does not require grad, and in the backward pass when what
    the hook returns has another shape or dtype.
    """
    if not self.requires_grad:
        raise RuntimeError("register_hook: the tensor does not require grad")
    node = self.grad_fn
    return add_hook(_leaf_hooks(self) if node is None else hooks_of(node, self._output), hook)


@method
def register_post_accumulate_grad_hook(
    self: Tensor, hook: Callable[[Tensor], None]
) -> RemovableHandle:
    """Call `hook(tensor)` each time after a backward pass added to the `grad` of this leaf.

    Raises RuntimeError when the tensor does not require grad or is no leaf.
    """
    if not self.requires_grad:
        raise RuntimeError("register_post_accumulate_grad_hook: the tensor does not require grad")
    if self.grad_fn is not None:
        raise RuntimeError("register_post_accumulate_grad_hook: the tensor is not a leaf")
    return add_hook(_leaf_hooks(self).after, hook)


@method
def retain_grad(self: Tensor) -> None:
    """Keep the gradient of this tensor, which is not a leaf, in its `grad`.

    It is what all hooks leave of it, and the one of the tensor as it will be after changes in
    place. Raises RuntimeError when the tensor does not require grad.
    """
    if not self.requires_grad:
        raise RuntimeError("retain_grad: the tensor does not require grad")
    node = self.grad_fn
    if node is None or self._retains:
        return
    if node.hooks is None:
        node.hooks = {}
    node.hooks[self._output,] = weakref.ref(self)
    self._retains = True


def _register_prehook(
    self: Node, hook: Callable[[tuple[Tensor | None, ...]], Any]
) -> RemovableHandle:
    """Call `hook(grad_outputs)` before the derivative of this node; it may return others."""
    return add_hook(hooks_of(self, PRE), hook)


def _register_node_hook(
    self: Node, hook: Callable[[tuple[Tensor | None, ...], tuple[Tensor | None, ...]], Any]
) -> RemovableHandle:
    """Call `hook(grad_inputs, grad_outputs)` after the derivative of this node.

    It may return other gradients of the inputs.
    """
    return add_hook(hooks_of(self, POST), hook)


Node.register_prehook = _register_prehook
Node.register_hook = _register_node_hook
