"""Normalisation over layers, groups, batches and vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...functions.elementwise import clamp
from ...functions.shaping import broadcast_tensors
from ...tensor import Tensor, apply, ops

_LAYER_NORM = ops["layer_norm"]


def _normalized(
    name: str,
    input: Tensor,
    shape: Sequence[int],
    scales: tuple[Tensor | None, ...],
    eps: float | None,
) -> Tensor:
    """Normalise over the last dimensions, of these sizes; as one dimension where they are more."""
    dims = len(shape)
    if tuple(input.shape[input.ndim - dims :]) != tuple(shape) or not shape:
        raise RuntimeError(
            f"{name}: normalized_shape {tuple(shape)} must be the last dimensions of the input's "
            f"shape {tuple(input.shape)}"
        )
    for scale in scales:
        if scale is not None and tuple(scale.shape) != tuple(shape):
            raise RuntimeError(
                f"{name}: weight and bias must have the shape normalized_shape = {tuple(shape)}, "
                f"got {tuple(scale.shape)}"
            )
    n = math.prod(shape)
    if dims == 1:
        return apply(ops[name], (input, *scales), (n, eps))
    rows = input.reshape(*input.shape[: input.ndim - dims], n)
    vectors = (scale if scale is None else scale.reshape(n) for scale in scales)
    return apply(ops[name], (rows, *vectors), (n, eps)).reshape(input.shape)


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Give the last dimensions mean 0 and variance 1, then scale and shift (Ba et al., 2016)."""
    return _normalized("layer_norm", input, normalized_shape, (weight, bias), eps)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Divide the last dimensions by their root mean square; scale (Zhang and Sennrich, 2019)."""
    return _normalized("rms_norm", input, normalized_shape, (weight,), eps)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise groups of channels of (N, C, ...) (Wu and He, 2018)."""
    if input.ndim < 2:
        raise RuntimeError(
            f"group_norm: expected (N, C, ...), got an input of shape {tuple(input.shape)}"
        )
    n, c = input.shape[:2]
    if num_groups <= 0 or c % num_groups:
        raise RuntimeError(f"group_norm: {c} channels do not divide into {num_groups} groups")
    for scale in (weight, bias):
        if scale is not None and tuple(scale.shape) != (c,):
            raise RuntimeError(
                f"group_norm: weight and bias must have one element for each of {c} channels, "
                f"got {tuple(scale.shape)}"
            )
    size = math.prod(input.shape[2:]) * (c // num_groups)
    if n * size == 1:
        raise ValueError(
            "group_norm: expected more than 1 value per channel when training, got input size "
            f"{list(input.shape)}"
        )
    rows = input.reshape(n * num_groups, size)
    out = apply(_LAYER_NORM, (rows, None, None), (max(size, 1), eps)).reshape(input.shape)
    shape = (1, c, *([1] * (input.ndim - 2)))
    out = out if weight is None else out * weight.reshape(shape)
    return out if bias is None else out + bias.reshape(shape)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise every channel of (N, C, ...) over the batch (Ioffe and Szegedy, 2015).

    When training, the running statistics move by `momentum` towards the batch's; else they are
    used.
    """
    if eps < 0 or (eps == 0 and training):
        raise ValueError(f"batch_norm: eps must be positive in training, not negative; got {eps}")
    if input._numel == 0 and input.ndim < 2:
        return input.clone()
    if input.ndim < 2:
        raise RuntimeError(
            f"batch_norm: expected (N, C, ...), got an input of shape {tuple(input.shape)}"
        )
    for scale in (running_mean, running_var, weight, bias):
        if scale is not None and tuple(scale.shape) != (input.shape[1],):
            raise RuntimeError(
                f"batch_norm: running statistics, weight and bias must have one element for each "
                f"of {input.shape[1]} channels, got {tuple(scale.shape)}"
            )
    dims = [d for d in range(input.ndim) if d != 1]
    shape = (1, input.shape[1], *([1] * (input.ndim - 2)))
    if training or running_mean is None or running_var is None:
        count = input._numel // max(input.shape[1], 1)
        if training and count == 1:
            raise ValueError(
                f"batch_norm: training needs more than 1 value a channel; got shape "
                f"{tuple(input.shape)}"
            )
        mean = input.mean(dims, True)
        centred = input - mean
        var = (centred * centred).mean(dims, True)
        if running_mean is not None and running_var is not None and training and count:
            running_mean.lerp_(mean.detach().reshape(-1), momentum)
            unbiased = var.detach().reshape(-1) * (count / (count - 1))
            running_var.lerp_(unbiased, momentum)
    else:
        mean, var = running_mean.reshape(shape), running_var.reshape(shape)
        centred = input - mean
    out = centred * (var + eps).rsqrt()
    out = out if weight is None else out * weight.reshape(shape)
    return out if bias is None else out + bias.reshape(shape)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divide by the p-norm along a dimension."""
    return input / clamp(input.norm(p, dim, True), min=eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Return the cosine of the angle between vectors along a dimension."""
    if x1.shape != x2.shape:
        x1, x2 = broadcast_tensors(x1, x2)
    dot = (x1 * x2).sum(dim)
    return dot / (clamp(x1.norm(2, dim), min=eps) * clamp(x2.norm(2, dim), min=eps))
