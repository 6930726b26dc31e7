"""Functions with a derivative of their own."""

from __future__ import annotations

from typing import Any

from .._core import Node, check_recordable, is_grad_enabled, rebase, set_grad_enabled
from ..functions.creation import zeros
from ..functions.rules import fit_input
from ..tensor import Tensor


class Context:
    """What `forward` of a Function leaves for its `backward`."""

    def __init__(self) -> None:
        self._to_save: tuple[Any, ...] = ()
        self._non_differentiable: tuple[Any, ...] = ()
        self._dirty: tuple[Any, ...] = ()
        self._node: Node | None = None
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors (inputs, outputs or others) for `backward`, guarded against changes."""
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return self._to_save if self._node is None else self._node.saved

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs have no gradient."""
        self._non_differentiable = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs were changed in place; they must be returned as outputs."""
        self._dirty = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Say whether gradients of unused outputs reach `backward` as zeros (they do) or None."""
        self._materialize = value

    _materialize = True


class _FunctionOp:
    """The op of a node that a Function made."""

    def __init__(self, function: type[Function], context: Context) -> None:
        self.name = function.__name__
        self.function = function
        self.context = context

    def vjp(self, node: Node, grad: Any) -> Any:
        context = self.context
        grads = grad if node.n_outputs > 1 else [grad]
        if context._materialize:
            grads = [
                zeros(*shape, dtype=dtype) if g is None else g
                for g, (shape, dtype) in zip(
                    grads,
                    [node.meta(node.n_inputs + i) for i in range(node.n_outputs)],
                    strict=True,
                )
            ]
        asked = context.needs_input_grad
        context._node = node
        context.needs_input_grad = tuple(edge is not None for edge in node.edges)
        try:
            found = self.function.backward(context, *grads)
        finally:
            context._node = None
            context.needs_input_grad = asked
        found = found if isinstance(found, tuple) else (found,)
        if len(found) < node.n_inputs or any(g is not None for g in found[node.n_inputs :]):
            raise RuntimeError(
                f"{self.name}.backward: returned {len(found)} gradients for {node.n_inputs} inputs"
            )
        return tuple(
            None if g is None or edge is None else self._fitted(node, i, g)
            for i, (g, edge) in enumerate(zip(found, node.edges))  # noqa: B905
        )

    def _fitted(self, node: Node, i: int, grad: Any) -> Tensor:
        """Give the gradient of an input the input's dtype, and undo a broadcast."""
        if not isinstance(grad, Tensor):
            raise TypeError(
                f"{self.name}.backward: the gradient of input {i} is {type(grad).__name__}; "
                "expected a Tensor or None"
            )
        shape, dtype = node.meta(i)
        if grad.shape == shape and grad.dtype is dtype:
            return grad
        if not _broadcasts(shape, grad.shape):
            raise RuntimeError(
                f"{self.name}.backward: the gradient of input {i} has shape {tuple(grad.shape)}; "
                f"expected {tuple(shape)}"
            )
        return fit_input(node, i, grad)

    graph_vjp = vjp


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    added = len(to) - len(shape)
    return added >= 0 and all(n in (1, m) for n, m in zip(shape, to[added:], strict=True))


class Function:
    """A function with a derivative of its own: subclass it, write `forward` and `backward`.

    Both are static methods that take a context first; `backward` takes the gradient of every output
    and returns one for every input of `forward` (None where there is none). Call it with `apply`.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute the outputs from the inputs."""
        raise NotImplementedError("a Function must define forward")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Compute the gradients of the inputs from those of the outputs."""
        raise NotImplementedError("a Function must define backward to be differentiated")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Compute `forward` and record `backward`."""
        context = Context()
        context.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        before = set_grad_enabled(False)
        try:
            if hasattr(cls, "setup_context"):
                result = cls.forward(*args)
                cls.setup_context(context, args, result)
            else:
                result = cls.forward(context, *args)
        finally:
            set_grad_enabled(before)
        if not (is_grad_enabled() and any(context.needs_input_grad)):
            return result
        outputs = result if isinstance(result, tuple) else (result,)
        dirty = context._dirty
        if dirty:
            _check_dirty(cls.__name__, dirty, args, outputs)
        changed = {id(t) for t in dirty}
        # An input that is returned as it is gets an identity of its own.
        outputs = tuple(
            o.detach()
            if isinstance(o, Tensor) and id(o) not in changed and any(o is a for a in args)
            else o
            for o in outputs
        )
        skipped = {id(o) for o in context._non_differentiable}
        hung = tuple(o if id(o) not in skipped else None for o in outputs)
        Node(_FunctionOp(cls, context), args, hung, (), context._to_save)
        context._to_save = ()
        for t in dirty:
            rebase(t)
        return outputs if isinstance(result, tuple) else outputs[0]


def _check_dirty(name: str, dirty: Any, args: Any, outputs: Any) -> None:
    """Refuse what cannot be changed in place in the graph."""
    for t in dirty:
        if not any(t is a for a in args):
            raise RuntimeError(f"{name}: mark_dirty is for inputs that were changed in place")
        if not any(t is o for o in outputs):
            raise RuntimeError(
                f"{name}: an input that forward changed in place must be one of its outputs"
            )
        check_recordable(name, t)
