"""Derivatives of functions: vjp, jvp, jacobian, hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..functions.creation import zeros, zeros_like
from ..functions.shaping import stack
from ..tensor import Tensor
from .grad_mode import enable_grad
from .gradients import as_list, grad

__all__ = ["hessian", "jacobian", "jvp", "vjp"]


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and the product of v with its Jacobian."""
    ins = [x.detach().requires_grad_() if not create_graph else x for x in as_list(inputs)]
    with enable_grad():
        out = func(*ins)
        found = grad(
            out, ins, v, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    value = out if create_graph else _detached(out)
    return value, found[0] if isinstance(inputs, Tensor) else found


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and the product of its Jacobian with v.

    By differentiating the vjp, which is linear in its weights, with respect to them.
    """
    ins = [x.detach().requires_grad_() if not create_graph else x for x in as_list(inputs)]
    directions = [zeros_like(x) + 1 for x in ins] if v is None else as_list(v)
    with enable_grad():
        out = func(*ins)
        outs = as_list(out)
        weights = [zeros_like(o).requires_grad_() for o in outs]
        back = grad(
            outs, ins, weights, create_graph=True, allow_unused=True, materialize_grads=True
        )
        linked = [
            (b, d)
            for b, d in zip(back, directions, strict=True)
            if b is not None and b.requires_grad
        ]
        if linked:
            found = grad(
                [b for b, _ in linked],
                weights,
                [d for _, d in linked],
                create_graph=create_graph,
                allow_unused=True,
                materialize_grads=True,
            )
        else:
            found = tuple(zeros_like(o) for o in outs)
    value = out if create_graph else _detached(out)
    return value, found[0] if isinstance(out, Tensor) else found


def _detached(out: Any) -> Any:
    return out.detach() if isinstance(out, Tensor) else tuple(o.detach() for o in out)


def jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, **_: Any) -> Any:
    """Return the Jacobian: for each output and input a tensor of output.shape + input.shape."""
    ins = [x.detach().requires_grad_() if not create_graph else x for x in as_list(inputs)]
    with enable_grad():
        out = func(*ins)
        rows: list[Any] = []
        for o in as_list(out):
            flat = o.reshape(-1)
            parts: list[list[Tensor]] = [[] for _ in ins]
            for i in range(flat._numel):
                found = (
                    grad(
                        flat[i],
                        ins,
                        retain_graph=True,
                        create_graph=create_graph,
                        allow_unused=True,
                        materialize_grads=True,
                    )
                    if flat.requires_grad
                    else tuple(zeros_like(x) for x in ins)
                )
                for part, g in zip(parts, found, strict=True):
                    part.append(g)
            rows.append(
                tuple(
                    stack(part).reshape(*o.shape, *x.shape) if part else zeros(*o.shape, *x.shape)
                    for part, x in zip(parts, ins, strict=True)
                )
            )
    single_in, single_out = isinstance(inputs, Tensor), isinstance(out, Tensor)
    shaped = [row[0] if single_in else row for row in rows]
    return shaped[0] if single_out else tuple(shaped)


def hessian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, **_: Any) -> Any:
    """Return the second derivatives of a scalar function: the Jacobian of its gradient."""
    single = isinstance(inputs, Tensor)

    def gradient(*ins: Tensor) -> Any:
        found = grad(func(*ins), ins, create_graph=True, allow_unused=True, materialize_grads=True)
        return found[0] if single else found

    return jacobian(gradient, inputs, create_graph)
