"""Losses: how far a prediction is from its target."""

from __future__ import annotations

from typing import Any

from ... import dtypes
from ..._core import is_grad_enabled
from ...functions.reductions import log_softmax, mean as _mean
from ...tensor import Tensor, apply, ops
from .activation import logsigmoid
from .layers import linear

_CROSS_ENTROPY = ops["cross_entropy"]
_LINEAR_CROSS_ENTROPY = ops["linear_cross_entropy"]
_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def _reduction(name: str, reduction: str) -> int:
    if reduction not in _REDUCTIONS:
        raise ValueError(f"{name}: reduction is {reduction!r}; expected none, mean or sum")
    return _REDUCTIONS[reduction]


def _reduce(name: str, loss: Tensor, reduction: str) -> Tensor:
    kind = _reduction(name, reduction)
    return loss if kind == 0 else _mean(loss) if kind == 1 else loss.sum()


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return -log softmax(input)[target]: logits (N, C), (C) or (N, C, ...) and labels without C.

    `target` may instead hold probabilities of input's shape. Labels equal to `ignore_index` do not
    count. Raises IndexError for a label outside [0, C).
    """
    kind = _reduction("cross_entropy", reduction)
    if target.dtype.is_floating_point:
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    shape = target.shape
    if input.ndim == 1:
        logits, labels = input.unsqueeze(0), target.reshape(1)
    elif input.ndim == 2:
        logits, labels = input, target
    else:
        logits = input.movedim(1, -1).reshape(-1, input.shape[1])
        labels = target.reshape(-1)
    if labels.ndim != 1 or labels.shape[0] != logits.shape[0]:
        raise RuntimeError(
            f"cross_entropy: input {tuple(input.shape)} needs one label a row; target has shape "
            f"{tuple(shape)}"
        )
    if labels.dtype is not dtypes.int64:
        labels = labels.to(dtypes.int64)
    loss = apply(
        _CROSS_ENTROPY, (logits, labels, weight), (ignore_index, float(label_smoothing), kind)
    )
    return loss.reshape(shape) if kind == 0 else loss


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    if target.shape != input.shape:
        raise RuntimeError(
            f"cross_entropy: probabilities of shape {tuple(target.shape)} for logits of shape "
            f"{tuple(input.shape)}; they must be equal"
        )
    dim = 0 if input.ndim == 1 else 1
    if smoothing:
        target = target * (1 - smoothing) + smoothing / input.shape[dim]
    terms = -log_softmax(input, dim) * target
    if weight is not None:
        terms = terms * weight.reshape([-1 if d == dim else 1 for d in range(input.ndim)])
    loss = terms.sum(dim)
    if reduction == "mean":
        return loss.sum() / max(loss._numel, 1)
    return _reduce("cross_entropy", loss, reduction)


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """Return cross_entropy(linear(input, linear_weight, linear_bias), target) in little memory.

    input (N, in) or (in), linear_weight (C, in), labels (N) or (). The logits (N, C) are made by
    chunks of rows and never held together; gradients are made along with the loss, from which a
    backward pass takes them. Probabilities as target and a linear_weight (C, ..., in) are
    computed by the two functions instead. `options` is there for PyTorch's programs: the chunks
    follow from the shapes.
    """
    kind = _reduction("linear_cross_entropy", reduction)
    dims = linear_weight.ndim
    if input.ndim not in (1, 2) or dims < 2:
        raise RuntimeError(
            f"linear_cross_entropy: input {tuple(input.shape)}, linear_weight "
            f"{tuple(linear_weight.shape)}: expected (rows, in) or (in), and (classes, in)"
        )
    soft = target.dtype.is_floating_point
    if soft and ignore_index is not None:
        raise RuntimeError(
            "linear_cross_entropy: ignore_index is for labels; the target holds probabilities"
        )
    ignore_index = -100 if ignore_index is None else ignore_index
    if soft or dims > 2:
        logits_shape = (*input.shape[:-1], *linear_weight.shape[:-1])
        flat_bias = None if linear_bias is None else linear_bias.reshape(-1)
        flat_weight = linear_weight.reshape(-1, linear_weight.shape[-1])
        return cross_entropy(
            linear(input, flat_weight, flat_bias).reshape(logits_shape),
            target,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
    rows, labels = (input, target) if input.ndim == 2 else (input.unsqueeze(0), target.reshape(1))
    if labels.dtype is not dtypes.int64:
        labels = labels.to(dtypes.int64)
    wanted = 0  # the gradients to make: of input 1, linear_weight 2, linear_bias 4
    if is_grad_enabled():
        wanted = input.requires_grad | linear_weight.requires_grad << 1
        if linear_bias is not None:
            wanted |= linear_bias.requires_grad << 2
    loss = apply(
        _LINEAR_CROSS_ENTROPY,
        (rows, linear_weight, labels, linear_bias, weight),
        (ignore_index, float(label_smoothing), kind, wanted),
    )
    return loss.reshape(target.shape) if kind == 0 else loss


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return -input[target] for log-probabilities (N, C), (C) or (N, C, ...)."""
    kind = _reduction("nll_loss", reduction)
    dim = 0 if input.ndim == 1 else 1
    kept = target != ignore_index
    label = apply(ops["where"], (kept, target, 0))
    picked = -input.gather(dim, label.unsqueeze(dim)).squeeze(dim)
    share = kept.to(input.dtype)
    if weight is not None:
        share = share * weight.index_select(0, label.reshape(-1)).reshape(label.shape)
    loss = picked * share
    return loss if kind == 0 else loss.sum() / share.sum() if kind == 1 else loss.sum()


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the squared differences, averaged by default."""
    return _reduce("mse_loss", apply(ops["square"], (input - target,)), reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the absolute differences, averaged by default."""
    return _reduce("l1_loss", (input - target).abs(), reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """Return d^2 / (2 beta) for differences below beta, |d| - beta / 2 above (Girshick, 2015)."""
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: beta is {beta}; it must not be negative")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    d = (input - target).abs()
    loss = apply(ops["where"], (d < beta, 0.5 * d * d / beta, d - 0.5 * beta))
    return _reduce("smooth_l1_loss", loss, reduction)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Any = None
) -> Tensor:
    """Return d^2 / 2 for differences up to delta, delta * (|d| - delta / 2) above (Huber, 1964)."""
    d = (input - target).abs()
    loss = apply(ops["where"], (d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta)))
    return _reduce("huber_loss", loss if weight is None else loss * weight, reduction)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return -(t log p + (1 - t) log(1 - p)) for probabilities p; logarithms end at -100."""
    if input.shape != target.shape:
        raise ValueError(
            f"binary_cross_entropy: input {tuple(input.shape)} and target {tuple(target.shape)} "
            f"must have the same shape"
        )
    loss = apply(ops["binary_cross_entropy_terms"], (input, target))
    return _reduce("binary_cross_entropy", loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Return the binary cross entropy of sigmoid(input), without ever forming it."""
    name = "binary_cross_entropy_with_logits"
    if input.shape != target.shape:
        raise ValueError(
            f"{name}: input {tuple(input.shape)} and target {tuple(target.shape)} must have the "
            f"same shape"
        )
    if pos_weight is None:
        loss = (1 - target) * input - logsigmoid(input)
    else:
        loss = (1 - target) * input - (1 + (pos_weight - 1) * target) * logsigmoid(input)
    return _reduce(name, loss if weight is None else loss * weight, reduction)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Return target * (log target - input) for log-probabilities `input`."""
    if log_target:
        loss = target.exp() * (target - input)
    else:
        safe = apply(ops["where"], (target > 0, target, 1.0))
        loss = apply(ops["where"], (target > 0, target * (safe.log() - input), 0.0 * input))
    if reduction == "batchmean":
        return loss.sum() / max(input.shape[0], 1)
    return _reduce("kl_div", loss, reduction)
