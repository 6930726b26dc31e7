"""Derivatives held against central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..functions.creation import arange, zeros_like
from ..tensor import Tensor
from .grad_mode import enable_grad
from .gradients import as_list, grad


def _numeric(func: Callable[[], Tensor], x: Tensor, weight: Tensor, eps: float) -> list[float]:
    """Central differences of sum(func() * weight) for every element of x."""
    flat = x.detach().reshape(-1)
    if not x._contiguous:
        raise ValueError("gradcheck: inputs must be contiguous")
    slopes = []
    for i in range(flat._numel):
        value = flat[i].item()
        sums = []
        for step in (eps, -eps):
            flat[i] = value + step
            sums.append((func().detach() * weight).sum().item())
        flat[i] = value
        slopes.append((sums[0] - sums[1]) / (2 * eps))
    return slopes


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    **_: Any,
) -> bool:
    """Compare the gradients of a function with central differences, in float64.

    Every output is weighed with fixed numbers that differ from element to element. Returns True, or
    raises RuntimeError (returns False without `raise_exception`) naming the input and the element.
    """
    ins = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [i for i, x in enumerate(ins) if isinstance(x, Tensor) and x.requires_grad]
    if not wanted:
        raise ValueError("gradcheck: no input requires grad")
    for i in wanted:
        if ins[i].dtype.itemsize != 8:
            raise ValueError(f"gradcheck: input {i} is {ins[i].dtype}; differences need float64")
    outs = [o for o in as_list(func(*ins)) if o.dtype.is_floating_point]
    for k, out in enumerate(outs):
        weight = _weights(out)

        def output(k: int = k) -> Tensor:
            return [o for o in as_list(func(*ins)) if o.dtype.is_floating_point][k]  # type: ignore[no-any-return]

        found = (
            grad(
                output(),
                [ins[i] for i in wanted],
                weight,
                allow_unused=True,
                materialize_grads=True,
            )
            if out.requires_grad
            else [zeros_like(ins[i]) for i in wanted]
        )
        for i, g in zip(wanted, found, strict=True):
            numeric = _numeric(output, ins[i], weight, eps)
            for j, (a, b) in enumerate(zip(g.reshape(-1).tolist(), numeric, strict=True)):
                if not abs(a - b) <= atol + rtol * abs(b):
                    if not raise_exception:
                        return False
                    raise RuntimeError(
                        f"gradcheck: output {k}, input {i}, element {j}: the derivative is {a!r}, "
                        f"central differences give {b!r}"
                    )
    return True


def _weights(out: Tensor) -> Tensor:
    return (arange(out._numel, dtype=out.dtype) * 0.7 + 0.3).sin().reshape(out.shape) + 1.5


def gradgradcheck(func: Callable[..., Any], inputs: Any, **kwargs: Any) -> bool:
    """Compare second derivatives with central differences of the first, in float64."""
    ins = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [i for i, x in enumerate(ins) if isinstance(x, Tensor) and x.requires_grad]

    def first(*args: Any) -> Any:
        with enable_grad():
            outs = [o for o in as_list(func(*args)) if o.requires_grad]
            return grad(
                outs,
                [args[i] for i in wanted],
                [_weights(o) for o in outs],
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )

    return gradcheck(first, ins, **kwargs)
