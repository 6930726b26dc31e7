"""Normalisation over layers, groups, batches and vectors."""

from __future__ import annotations

from collections.abc import Sequence

from ...functions.elementwise import clamp
from ...tensor import Tensor, apply, ops

_RMS_NORM, _LAYER_NORM = ops["rms_norm"], ops["layer_norm"]


def _normalized(name: str, input: Tensor, shape: Sequence[int]) -> int:
    n = 1
    for size in shape:
        n *= size
    if tuple(input.shape[input.ndim - len(shape) :]) != tuple(shape) or not shape:
        raise RuntimeError(
            f"{name}: normalized_shape {tuple(shape)} must be the last dimensions of the input's "
            f"shape {tuple(input.shape)}"
        )
    return n


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Give the last dimensions mean 0 and variance 1, then scale and shift (Ba et al., 2016)."""
    n = _normalized("layer_norm", input, normalized_shape)
    return apply(_LAYER_NORM, (input, weight, bias), (n, eps))


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Divide the last dimensions by their root mean square; scale (Zhang and Sennrich, 2019)."""
    n = _normalized("rms_norm", input, normalized_shape)
    return apply(_RMS_NORM, (input, weight), (n, eps))


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise groups of channels of (N, C, ...) (Wu and He, 2018)."""
    n, c = input.shape[:2]
    if c % num_groups:
        raise RuntimeError(f"group_norm: {c} channels do not divide into {num_groups} groups")
    rows = input.reshape(n * num_groups, -1)
    out = apply(_LAYER_NORM, (rows, None, None), (max(rows.shape[-1], 1), eps)).reshape(input.shape)
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
    dims = [d for d in range(input.ndim) if d != 1]
    shape = (1, input.shape[1], *([1] * (input.ndim - 2)))
    if training or running_mean is None or running_var is None:
        count = input._numel // max(input.shape[1], 1)
        if training and count <= 1:
            raise ValueError(
                f"batch_norm: training needs more than 1 value a channel; got shape "
                f"{tuple(input.shape)}"
            )
        mean = input.mean(dims, True)
        centred = input - mean
        var = (centred * centred).mean(dims, True)
        if running_mean is not None and running_var is not None and training:
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
    dot = (x1 * x2).sum(dim)
    return dot / (clamp(x1.norm(2, dim), min=eps) * clamp(x2.norm(2, dim), min=eps))
