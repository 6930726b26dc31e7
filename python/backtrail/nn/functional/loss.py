"""Losses: how far a prediction is from its target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import dtypes
from ..._core import capturing, is_grad_enabled
from ...functions.reductions import log_softmax
from ...tensor import Tensor, apply, ops
from .activation import logsigmoid
from .layers import linear
from .reduction import check_broadcast, chosen, code, reduce_loss, reduce_weighted, warn_caller

_CROSS_ENTROPY = ops["cross_entropy"]
_LINEAR_CROSS_ENTROPY = ops["linear_cross_entropy"]


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
    reduction = chosen("cross_entropy", reduction, size_average, reduce)
    kind = code(reduction)
    if target.dtype.is_floating_point:
        if ignore_index >= 0 and target.shape == input.shape:
            raise RuntimeError(
                f"cross_entropy: ignore_index={ignore_index} is for labels; the target holds "
                "probabilities"
            )
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    shape = target.shape
    if input.ndim == 1:
        logits, labels = input.unsqueeze(0), target.reshape(1)
    elif input.ndim == 2:
        logits, labels = input, target
    else:
        logits = input.movedim(1, -1).reshape(-1, input.shape[1])
        labels = target.reshape(-1)
        _check_labels("cross_entropy", input.shape, target)
    if labels.ndim != 1 or labels.shape[0] != logits.shape[0]:
        _check_labels("cross_entropy", input.shape, target)
    if labels.dtype is not dtypes.int64:
        labels = labels.to(dtypes.int64)
    loss = apply(
        _CROSS_ENTROPY, (logits, labels, weight), (ignore_index, float(label_smoothing), kind)
    )
    return loss.reshape(shape) if kind == 0 else loss


def _check_labels(name: str, logits: Sequence[int], target: Tensor) -> None:
    """Raise ValueError for another size of the batch, RuntimeError for any other wrong shape."""
    many = len(logits) > 1
    expected = (*logits[:1], *logits[2:]) if many else ()
    if tuple(target.shape) == expected or (not many and target._numel == 1):
        return
    problem = (
        f"{name}: logits {tuple(logits)} need labels of shape {expected}; target has shape "
        f"{tuple(target.shape)}"
    )
    if many and tuple(target.shape[1:]) == expected[1:]:
        raise ValueError(f"{problem}: the sizes of the batch must be equal")
    raise RuntimeError(problem)


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    if target.shape != input.shape:
        raise RuntimeError(
            f"cross_entropy: target is {target.dtype} of shape {tuple(target.shape)}: class labels "
            "must be integers (target.long()), probabilities need the shape of input, "
            f"{tuple(input.shape)}"
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
    return reduce_loss(loss, reduction)


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
    kind = code(chosen("linear_cross_entropy", reduction))
    dims = linear_weight.ndim
    if input.ndim not in (1, 2) or dims < 2:
        raise RuntimeError(
            f"linear_cross_entropy: input {tuple(input.shape)}, linear_weight "
            f"{tuple(linear_weight.shape)}: expected (rows, in) or (in), and (classes, in)"
        )
    if dims > 2 and input.ndim == 1:
        raise RuntimeError(
            f"linear_cross_entropy: linear_weight {tuple(linear_weight.shape)} needs input of "
            f"shape (rows, in), got {tuple(input.shape)}"
        )
    if linear_bias is not None and linear_bias.shape != linear_weight.shape[:-1]:
        raise RuntimeError(
            f"linear_cross_entropy: linear_bias {tuple(linear_bias.shape)}: expected the shape "
            f"{tuple(linear_weight.shape[:-1])} of linear_weight without its last dimension"
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
    _check_labels("linear_cross_entropy", (*input.shape[:-1], linear_weight.shape[0]), target)
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
    reduction = chosen("nll_loss", reduction, size_average, reduce)
    if input.ndim == 0:
        raise ValueError("nll_loss: input has no dimension of classes")
    if target.dtype.is_floating_point:
        raise RuntimeError(f"nll_loss: labels must be integers (target.long()), got {target.dtype}")
    _check_labels("nll_loss", input.shape, target)
    dim = 0 if input.ndim == 1 else 1
    if weight is not None and weight._numel != input.shape[dim]:
        raise RuntimeError(
            f"nll_loss: weight has shape {tuple(weight.shape)}, and there are {input.shape[dim]} "
            "classes"
        )
    shape = target.shape
    if input.ndim == 1:
        target = target.reshape(())
    kept = target != ignore_index
    label = apply(ops["where"], (kept, target, 0))
    picked = -input.gather(dim, label.unsqueeze(dim)).squeeze(dim)
    share = kept.to(input.dtype)
    if weight is not None:
        share = share * weight.index_select(0, label.reshape(-1)).reshape(label.shape)
    loss = picked * share
    if reduction == "none":
        return loss.reshape(shape)
    return loss.sum() / share.sum() if reduction == "mean" else loss.sum()


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Return the squared differences, averaged by default, times weights of input's shape."""
    reduction = chosen("mse_loss", reduction, size_average, reduce)
    check_broadcast(input, target)
    loss = apply(ops["square"], (input - target,))
    return reduce_weighted("mse_loss", loss, weight, input, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Return the absolute differences, averaged by default, times weights of input's shape."""
    reduction = chosen("l1_loss", reduction, size_average, reduce)
    check_broadcast(input, target)
    return reduce_weighted("l1_loss", (input - target).abs(), weight, input, reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """Return d^2 / (2 beta) for differences below beta, |d| - beta / 2 above (Girshick, 2015)."""
    reduction = chosen("smooth_l1_loss", reduction, size_average, reduce)
    check_broadcast(input, target)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: beta is {beta}; it must not be negative")
    difference = input - target
    d = difference.abs()
    if beta == 0:
        return reduce_loss(d, reduction)
    # The square is that of the difference itself: abs has no slope of its own at 0.
    near = 0.5 * difference * difference / beta
    loss = apply(ops["where"], (d < beta, near, d - 0.5 * beta))
    return reduce_loss(loss, reduction)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """Return d^2 / 2 for differences up to delta, delta * (|d| - delta / 2) above (Huber, 1964)."""
    reduction = chosen("huber_loss", reduction)
    check_broadcast(input, target)
    if not delta > 0:
        raise RuntimeError(f"huber_loss: delta is {delta}; it must be positive")
    difference = input - target
    d = difference.abs()
    near = 0.5 * difference * difference  # of the difference itself, as in smooth_l1_loss
    loss = apply(ops["where"], (d <= delta, near, delta * (d - 0.5 * delta)))
    return reduce_weighted("huber_loss", loss, weight, input, reduction)


def _within_0_and_1(values: Tensor) -> bool:
    """Look at the values; not while they are captured, for a replay would not look again."""
    return capturing() or bool(((values >= 0) & (values <= 1)).all())


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return -(t log p + (1 - t) log(1 - p)) for probabilities p; logarithms end at -100.

    Raises RuntimeError for input or target outside [0, 1]; in a captured call these give NaN.
    """
    reduction = chosen("binary_cross_entropy", reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(
            f"binary_cross_entropy: input {tuple(input.shape)} and target {tuple(target.shape)} "
            f"must have the same shape"
        )
    for kind, values in (("input", input), ("target", target)):
        if not _within_0_and_1(values):
            raise RuntimeError(
                f"binary_cross_entropy: all elements of {kind} should be between 0 and 1"
            )
    loss = apply(ops["binary_cross_entropy_terms"], (input, target))
    return reduce_loss(loss if weight is None else loss * weight, reduction)


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
    reduction = chosen(name, reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(
            f"{name}: input {tuple(input.shape)} and target {tuple(target.shape)} must have the "
            f"same shape"
        )
    if pos_weight is None:
        loss = (1 - target) * input - logsigmoid(input)
    else:
        loss = (1 - target) * input - (1 + (pos_weight - 1) * target) * logsigmoid(input)
    return reduce_loss(loss if weight is None else loss * weight, reduction)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Return target * (log target - input) for log-probabilities `input`.

    The mean is over all elements; "batchmean" divides by the size of the first dimension.
    """
    if reduction == "batchmean":
        divisor = input.shape[0] if input.ndim else 1
    if reduction != "batchmean" or size_average is not None or reduce is not None:
        reduction = chosen("kl_div", reduction, size_average, reduce)
    if reduction == "mean":
        warn_caller(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math "
            "definition.'mean' will be changed to behave the same as 'batchmean' in the next major "
            "release."
        )
    if log_target:
        loss = target.exp() * (target - input)
    else:
        safe = apply(ops["where"], (target == 0, 1.0, target))
        loss = target * safe.log() - target * input
    if reduction == "batchmean":
        return loss.sum() / divisor
    return reduce_loss(loss, reduction)
