"""Backward hooks of one call of a module: nodes at its inputs and outputs that show gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ..._core import is_grad_enabled
from ...autograd import Function
from ...functions.creation import zeros
from ...tensor import Tensor


class _Passage(Function):
    """The identity; what passes in backward goes through a function first."""

    @staticmethod
    def forward(ctx: Any, change: Callable[..., Any], *tensors: Tensor) -> Any:
        ctx.change = change
        ctx.set_materialize_grads(False)
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (None, *ctx.change(grads))


class _Side:
    """The inputs or the outputs of a call: which of them have gradients."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.size = len(values)
        self.tensors = [i for i, v in enumerate(values) if isinstance(v, Tensor)]
        self.places = [i for i in self.tensors if values[i].requires_grad]
        self._like = {i: (tuple(values[i].shape), values[i].dtype) for i in self.tensors}

    def full(self, grads: Sequence[Any], fill: bool = False) -> tuple[Any, ...]:
        """Put gradients in their places, None elsewhere; or zeros, where there is a tensor."""
        spread: list[Any] = [None] * self.size
        for place, grad in zip(self.places, grads, strict=True):
            spread[place] = grad
        for place in self.tensors if fill else ():
            if spread[place] is None:
                shape, dtype = self._like[place]
                spread[place] = zeros(shape, dtype=dtype)
        return tuple(spread)

    def own(self, spread: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(spread[place] for place in self.places)


class BackwardHooks:
    """Runs hooks when the gradients of a call's outputs, and then of its inputs, are known."""

    def __init__(self, module: Any, hooks: list[Any], pre_hooks: list[Any]) -> None:
        self._module, self._hooks, self._pre_hooks = module, hooks, pre_hooks
        self._grad_outputs: tuple[Any, ...] | None = None
        self._in, self._out = _Side(()), _Side(())
        self._passed: list[tuple[Tensor, int]] = []

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs, those with a gradient behind a node that shows it."""
        self._in = _Side(args)
        if not (self._in.places and is_grad_enabled()):
            self._in.places = []
            return args
        passed = list(args)
        found = _Passage.apply(self._show_inputs, *self._in.own(args))
        for place, value in zip(self._in.places, found, strict=True):
            passed[place] = value
        self._passed = [(value, value._version) for value in found]
        return tuple(passed)

    def check_inputs(self) -> None:
        """Refuse what would change the caller's tensor behind the back of its history."""
        for value, version in self._passed:
            if value._version != version:
                raise RuntimeError(
                    f"{self._module._get_name()}: a module with a backward hook changed its input "
                    "in place (inplace=True?): the hook's view of the input cannot be modified"
                )
        self._passed = []

    def outputs(self, result: Any) -> Any:
        """Return the result, its tensors behind a node that shows their gradients."""
        if not isinstance(result, (Tensor, tuple)):
            warnings.warn(
                "For backward hooks to be called, module output should be a Tensor or a tuple of "
                f"Tensors but received {type(result)}",
                stacklevel=4,
            )
        values = result if isinstance(result, tuple) else (result,)
        self._out = _Side(values)
        if not (self._out.places and is_grad_enabled()):
            return result
        found = _Passage.apply(self._show_outputs, *self._out.own(values))
        if not isinstance(result, tuple):
            return found[0]
        passed = list(values)
        for place, value in zip(self._out.places, found, strict=True):
            passed[place] = value
        return type(result)(*passed) if hasattr(result, "_fields") else tuple(passed)

    def _show_outputs(self, grads: Sequence[Any]) -> tuple[Any, ...]:
        shown = self._out.full(grads)
        for hook in self._pre_hooks:
            changed = hook(self._module, shown)
            if changed is not None:
                shown = _checked(changed, self._out.size, "pre hook", "grad_output")
        self._grad_outputs = shown
        if not self._in.places:
            self._show_nothing(shown)
        return self._out.own(shown)

    def _show_nothing(self, shown: tuple[Any, ...]) -> None:
        """Call the hooks of a module of which no input has a gradient."""
        if self._hooks:
            warnings.warn(
                "Full backward hook is firing when gradients are computed with respect to module "
                "outputs since no inputs require gradients.",
                stacklevel=2,
            )
        for hook in self._hooks:
            changed = hook(self._module, (None,) * self._in.size, shown)
            if changed is not None and any(grad is not None for grad in changed):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always "
                    "return None or None for all gradients."
                )
        self._grad_outputs = None

    def _show_inputs(self, grads: Sequence[Any]) -> tuple[Any, ...]:
        if self._grad_outputs is None:  # the outputs have no part in what is differentiated
            return tuple(grads)
        shown = self._in.full(grads, fill=True)
        for hook in self._hooks:
            changed = hook(self._module, shown, self._grad_outputs)
            if changed is not None:
                shown = _checked(changed, self._in.size, "hook", "grad_input")
        self._grad_outputs = None
        return self._in.own(shown)


def _checked(changed: Any, size: int, kind: str, name: str) -> tuple[Any, ...]:
    values = changed if isinstance(changed, tuple) else (changed,)
    if len(values) != size:
        raise RuntimeError(
            f"Backward {kind} returned an invalid number of {name}, got {len(values)}, but "
            f"expected {size}"
        )
    return values
