"""Hooks: functions of the user's that see gradients on their way, and may replace them.

The hooks of a leaf are a list of its own. Those of a node are a dictionary: under an output's
number the functions that see its gradient; under (number,) a weak reference to the tensor whose
`grad` is to keep it, which comes after them; under PRE and POST what sees all that goes into the
node's rule and comes out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .._core import Node, TensorBase, apply, ops

if TYPE_CHECKING:
    from ..tensor import Tensor

PRE, POST = "pre", "post"
_ADD, _CLONE = ops["add"], ops["clone"]


class LeafHooks(list[Any]):
    """The hooks of a leaf, and the functions to call after its gradient was added up."""

    def __init__(self) -> None:
        super().__init__()
        self.after: list[Callable[[Tensor], None]] = []


class RemovableHandle:
    """What registers a hook returns: `remove()` takes the hook away."""

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


def add_hook(hooks: list[Any], hook: Any) -> RemovableHandle:
    """Append a hook to a list."""
    hooks.append(hook)
    return RemovableHandle(hooks, hook)


def hooks_of(node: Node, key: Any) -> list[Any]:
    """Return the list of a node's hooks under a key."""
    if node.hooks is None:
        node.hooks = {}
    found: list[Any] = node.hooks.setdefault(key, [])
    return found


def _name(hook: Any) -> str:
    return getattr(hook, "__qualname__", None) or type(hook).__name__


def _checked(hook: Any, new: Any, grad: Tensor | None) -> Tensor:
    """Return what a hook gave in place of a gradient, if it is fit to be one."""
    if not isinstance(new, TensorBase):
        raise TypeError(f"hook {_name(hook)}: returned {type(new).__name__}; expected a Tensor")
    if grad is not None and new.shape != grad.shape:
        raise RuntimeError(
            f"hook {_name(hook)}: returned a gradient of shape {tuple(new.shape)} for one of shape "
            f"{tuple(grad.shape)}; they must be equal"
        )
    if grad is not None and new.dtype is not grad.dtype:
        raise RuntimeError(
            f"hook {_name(hook)}: returned a gradient of {new.dtype} for one of {grad.dtype}; they "
            "must be equal"
        )
    return new  # type: ignore[return-value]


def run_hooks(hooks: Iterable[Any], grad: Tensor) -> Tensor:
    """Show a gradient to hooks, one after the other, each of which may replace it."""
    for hook in list(hooks):
        result = hook(grad)
        if result is not None:
            grad = _checked(hook, result, grad)
    return grad


def observe(node: Node, grad: Any, hooks: dict[Any, Any] | None, captured: dict[Any, Any]) -> Any:
    """Show the complete gradient of each output to its hooks; keep those that were asked for."""
    many = node.n_outputs > 1
    for output in range(node.n_outputs):
        g = grad[output] if many else grad
        if g is None:
            continue
        if hooks is not None:
            if output in hooks:
                g = run_hooks(hooks[output], g)
                if many:
                    grad[output] = g
                else:
                    grad = g
            if (output,) in hooks:
                _keep(hooks[output,](), g)
        if (node, output) in captured:
            captured[node, output] = g
    return grad


def _keep(tensor: Tensor | None, grad: Tensor) -> None:
    """Add to the `grad` of a tensor that is no leaf, unless it is gone."""
    if tensor is not None:
        known = tensor.grad
        tensor.grad = apply(_CLONE, (grad,)) if known is None else apply(_ADD, (known, grad))


def run_before(node: Node, grad: Any, hooks: dict[Any, Any]) -> Any:
    """Show the gradients of all outputs to the hooks before a node's rule."""
    many = node.n_outputs > 1
    for hook in list(hooks.get(PRE, ())):
        now = tuple(grad) if many else (grad,)
        result = hook(now)
        if result is not None:
            new = result if isinstance(result, tuple) else (result,)
            if len(new) != len(now):
                raise RuntimeError(
                    f"hook {_name(hook)}: returned {len(new)} gradients for {len(now)} outputs"
                )
            fit = [
                None if g is None else _checked(hook, g, old)
                for g, old in zip(new, now, strict=True)
            ]
            grad = fit if many else fit[0]
    return grad


def run_after(node: Node, found: Any, grad: Any, hooks: dict[Any, Any]) -> Any:
    """Show the gradients of a node's inputs, and of its outputs, to the hooks after its rule."""
    outer = tuple(grad) if node.n_outputs > 1 else (grad,)
    for hook in list(hooks.get(POST, ())):
        result = hook(tuple(found), outer)
        if result is not None:
            new = result if isinstance(result, tuple) else (result,)
            if len(new) != len(found):
                raise RuntimeError(
                    f"hook {_name(hook)}: returned {len(new)} gradients for {len(found)} inputs"
                )
            found = tuple(
                None if g is None else _checked(hook, g, old)
                for g, old in zip(new, found, strict=True)
            )
    return found
