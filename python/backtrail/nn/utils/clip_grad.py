"""Gradient clipping, by norm and by value."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..._core import clip_grad_norm
from ...autograd import no_grad
from ...functions.creation import tensor
from ...functions.functional import norm, stack
from ...tensor import Tensor


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, Tensor):
        parameters = (parameters,)
    return [grad for p in parameters if (grad := p.grad) is not None]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients in place so that their joint `norm_type`-norm is at most `max_norm`.

    Returns the norm before scaling, 0-dim. Gradients are multiplied by
    min(1, max_norm / (norm + 1e-6)). With `error_if_nonfinite`, raises RuntimeError for an
    infinite or undefined norm and changes nothing. `foreach` is accepted and has no effect.
    """
    grads = _gradients(parameters)
    if not grads:
        return tensor(0.0)
    max_norm, norm_type = float(max_norm), float(norm_type)
    if error_if_nonfinite:
        with no_grad():
            total = norm(stack([norm(grad, norm_type) for grad in grads]), norm_type).item()
        if not math.isfinite(total):
            raise RuntimeError(
                f"clip_grad_norm_: the total norm of order {norm_type} is {total}, so the "
                "gradients cannot be clipped; pass error_if_nonfinite=False to scale them anyway"
            )
    return clip_grad_norm(grads, max_norm, norm_type)


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Clamp every gradient in place to [-clip_value, clip_value]; `foreach` has no effect."""
    clip_value = float(clip_value)
    with no_grad():
        for grad in _gradients(parameters):
            grad.clamp_(-clip_value, clip_value)
