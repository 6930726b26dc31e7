"""What a Tensor does with its graph: `backward`, hooks, and the gradient of one that is no leaf."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..tensor import Tensor, method
from . import graph


@method
def backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Add the gradient of this tensor, for every leaf that led to it, to the leaf's `grad`.

    `gradient` has this tensor's shape and may be left out for a scalar. `retain_graph` keeps
    what the derivatives need for another pass; `create_graph` records the pass itself, so that
    gradients can be differentiated. Raises RuntimeError when nothing was recorded.
    """
    keep = create_graph if retain_graph is None else retain_graph
    graph.backward((self,), (gradient,), keep, create_graph, inputs)


@method
def register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `hook(grad)` when the gradient of this tensor is complete; it may return another."""
    if not self.requires_grad:
        raise RuntimeError("register_hook: the tensor does not require grad")
    if self.grad_fn is None:
        if self._hooks is None:
            self._hooks = []
        hooks = self._hooks
    else:
        if self.grad_fn.hooks is None:
            self.grad_fn.hooks = {}
        hooks = self.grad_fn.hooks.setdefault(self._output, [])
    hooks.append(hook)
    return RemovableHandle(hooks, hook)


@method
def retain_grad(self: Tensor) -> None:
    """Keep the gradient of this tensor, which is not a leaf, in its `grad`."""
    if self.grad_fn is not None:
        self.register_hook(functools.partial(_keep_grad, self))


def _keep_grad(self: Tensor, grad: Tensor) -> None:
    self.grad = grad if self.grad is None else self.grad + grad


class RemovableHandle:
    """What `register_hook` returns: `remove()` takes the hook away."""

    def __init__(self, hooks: list[Any], hook: Any) -> None:
        self._hooks = hooks
        self._hook = hook

    def remove(self) -> None:
        """Take the hook away; once is enough."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
