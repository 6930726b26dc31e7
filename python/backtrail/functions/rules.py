"""How an op gets its derivative rule, and what every rule may use.

A rule takes (node, grad) and returns the gradient of every input, None where there is none; grad is
a list for an op with several outputs. Most rules stand in `autograd/derivatives.py`; those of a
family that has ops of its own stand beside its functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._core import Node, fit
from ..tensor import Tensor, apply, ops

Rule = Callable[[Node, Any], Any]

_SUM, _RESHAPE, _CAST = ops["sum"], ops["reshape"], ops["cast"]


def rule(*names: str, fused: Rule | None = None) -> Callable[[Rule], Rule]:
    """Register a rule for ops by name; `fused` replaces it in a pass that is not recorded."""

    def register(general: Rule) -> Rule:
        for name in names:
            ops[name].vjp = general if fused is None else fused
            ops[name].graph_vjp = general
        return general

    return register


def sum_to(grad: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo a broadcast: add up over what was repeated."""
    if grad.shape == shape:
        return grad
    if not grad.requires_grad:
        return fit(grad, shape, grad.dtype)
    added = grad.ndim - len(shape)
    dims = [
        d for d in range(grad.ndim) if d < added or (shape[d - added] == 1 and grad.shape[d] != 1)
    ]
    return apply(_RESHAPE, (apply(_SUM, (grad,), (dims, True)),), (shape,))


def fit_input(node: Node, i: int, grad: Tensor) -> Tensor:
    """Give a gradient the shape and dtype of input i."""
    shape, dtype = node.meta(i)
    grad = sum_to(grad, shape)
    return grad if grad.dtype is dtype else apply(_CAST, (grad,), (dtype.code,))
