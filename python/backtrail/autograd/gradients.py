"""Gradients on request: of given outputs with respect to given inputs."""

from __future__ import annotations

from typing import Any

from ..functions.creation import zeros_like
from ..tensor import Tensor
from . import graph


def as_list(x: Any) -> list[Any]:
    return [x] if isinstance(x, Tensor) else list(x)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor, ...]:
    """Return the gradients of outputs with respect to inputs, without touching any `.grad`.

    `grad_outputs` weighs the outputs and may be left out for scalars. Raises RuntimeError when an
    input was not used, unless `allow_unused` (then None) or `materialize_grads` (then zeros).
    """
    outs, ins = as_list(outputs), as_list(inputs)
    weights = [None] * len(outs) if grad_outputs is None else as_list(grad_outputs)
    for i, x in enumerate(ins):
        if not x.requires_grad:
            raise RuntimeError(f"grad: input {i} does not require grad")
    keep = create_graph if retain_graph is None else retain_graph
    found: list[Any] = graph.gradients(outs, weights, ins, keep, create_graph)
    for i, g in enumerate(found):
        if g is None and materialize_grads:
            found[i] = zeros_like(ins[i])
        elif g is None and not allow_unused:
            raise RuntimeError(
                f"grad: input {i} was not used to compute the outputs; pass allow_unused=True to "
                f"get None for it"
            )
    return tuple(found)


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of several tensors to the `grad` of every leaf that led to them.

    With `inputs`, to the `grad` of those only, which need not be leaves.
    """
    outs = as_list(tensors)
    weights = [None] * len(outs) if grad_tensors is None else as_list(grad_tensors)
    keep = create_graph if retain_graph is None else retain_graph
    ins = None if inputs is None else as_list(inputs)
    if ins is not None:
        if not ins:
            raise RuntimeError("backward: inputs is empty; leave it out to fill every leaf")
        for i, x in enumerate(ins):
            if not isinstance(x, Tensor):
                raise TypeError(f"backward: input {i} must be a Tensor; got {type(x).__name__}")
            if not x.requires_grad:
                raise RuntimeError(f"backward: input {i} does not require grad")
    graph.backward(outs, weights, keep, create_graph, ins)
