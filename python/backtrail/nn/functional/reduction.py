"""What all losses share: reductions, the flags they once had, and targets of another shape."""

from __future__ import annotations

from typing import Any

from ...functions.notice import warn_caller as warn_caller
from ...functions.reductions import mean as _mean
from ...tensor import Tensor

_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def chosen(name: str, reduction: str, size_average: Any = None, reduce: Any = None) -> str:
    """Return the reduction asked for, be it by the two flags that `reduction` replaced.

    Raises ValueError for one that there is not.
    """
    if size_average is not None or reduce is not None:
        mean = size_average is None or size_average
        reduction = "none" if reduce is not None and not reduce else "mean" if mean else "sum"
        warn_caller(
            "size_average and reduce args will be deprecated, please use "
            f"reduction={reduction!r} instead."
        )
    elif reduction not in _REDUCTIONS:
        raise ValueError(f"{name}: {reduction!r} is no reduction; expected none, mean or sum")
    return reduction


def code(reduction: str) -> int:
    """Return the number by which the kernels know a reduction."""
    return _REDUCTIONS[reduction]


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """Apply a reduction that is known to be one."""
    return loss if reduction == "none" else _mean(loss) if reduction == "mean" else loss.sum()


def reduce_weighted(
    name: str, loss: Tensor, weight: Tensor | None, input: Tensor, reduction: str
) -> Tensor:
    """Apply a reduction with a weight for each element; "mean" divides by the sum of the weights.

    But for huber_loss, where PyTorch divides by their number.
    """
    if weight is None:
        return reduce_loss(loss, reduction)
    if weight.shape != input.shape:
        raise ValueError(
            f"{name}: Weights and input must have the same size, got {tuple(weight.shape)} and "
            f"{tuple(input.shape)}"
        )
    loss = loss * weight
    if reduction == "mean" and name != "huber_loss":
        return loss.sum() / weight.sum()
    return reduce_loss(loss, reduction)


def check_broadcast(input: Tensor, target: Tensor) -> None:
    """Warn of a target of another shape, which broadcasting makes fit: seldom what is meant."""
    if input.shape != target.shape:
        warn_caller(
            f"Using a target size ({tuple(target.shape)}) that is different to the input size "
            f"({tuple(input.shape)}). This will likely lead to incorrect results due to "
            "broadcasting. Please ensure they have the same size."
        )
