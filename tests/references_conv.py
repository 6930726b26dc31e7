"""Convolution and pooling in NumPy, one output and one tap at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np


def visits(
    image: Any, kernel: Any, size: Any, stride: Any, padding: Any, dilation: Any
) -> Iterator[tuple[Any, Any, Any]]:
    """Each output, each tap of the filter, and the place in the image where the two meet."""
    for at in np.ndindex(*size):
        for tap in np.ndindex(*kernel):
            place = tuple(
                a * s - p + t * d
                for a, t, s, p, d in zip(at, tap, stride, padding, dilation, strict=True)
            )
            if all(0 <= i < n for i, n in zip(place, image, strict=True)):
                yield at, tap, place


def groups_of(channels: int, filters: int, groups: int) -> Iterator[tuple[slice, slice]]:
    c, o = channels // groups, filters // groups
    for g in range(groups):
        yield slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)


def convolution(
    x: Any, w: Any, b: Any, stride: Any, padding: Any, dilation: Any, groups: int, size: Any
) -> Any:
    y = np.zeros((x.shape[0], w.shape[0], *size))
    for at, tap, place in visits(x.shape[2:], w.shape[2:], size, stride, padding, dilation):
        for c, o in groups_of(x.shape[1], w.shape[0], groups):
            y[(slice(None), o, *at)] += x[(slice(None), c, *place)] @ w[(o, slice(None), *tap)].T
    return y if b is None else y + b.reshape(1, -1, *[1] * len(size))


def conv_transpose(
    g: Any, w: Any, b: Any, stride: Any, padding: Any, dilation: Any, groups: int, size: Any
) -> Any:
    channels = w.shape[1] * groups
    x = np.zeros((g.shape[0], channels, *size))
    for at, tap, place in visits(size, w.shape[2:], g.shape[2:], stride, padding, dilation):
        for c, o in groups_of(channels, w.shape[0], groups):
            x[(slice(None), c, *place)] += g[(slice(None), o, *at)] @ w[(o, slice(None), *tap)]
    return x if b is None else x + b.reshape(1, -1, *[1] * len(size))


def conv_weight(
    x: Any, g: Any, stride: Any, padding: Any, dilation: Any, groups: int, size: Any
) -> Any:
    w = np.zeros((g.shape[1], x.shape[1] // groups, *size))
    for at, tap, place in visits(x.shape[2:], size, g.shape[2:], stride, padding, dilation):
        for c, o in groups_of(x.shape[1], g.shape[1], groups):
            seen, sent = x[(slice(None), c, *place)], g[(slice(None), o, *at)]
            w[(o, slice(None), *tap)] += sent.T @ seen
    return w


def window(at: Any, image: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any):  # type: ignore[no-untyped-def]
    """The places that pooling window `at` sees; a kernel of 0 is adaptive."""
    sides = []
    for a, n, k, s, p, d, m in zip(at, image, kernel, stride, padding, dilation, size, strict=True):
        if k == 0:
            sides.append(list(range(a * n // m, math.ceil((a + 1) * n / m))))
        else:
            sides.append([i for i in (a * s - p + t * d for t in range(k)) if 0 <= i < n])
    return sides


def max_pool(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any) -> Any:
    dims = len(size)
    image = x.shape[-dims:]
    y, where = np.zeros((*x.shape[:-dims], *size)), np.zeros((*x.shape[:-dims], *size), int)
    numbers = np.arange(math.prod(image)).reshape(image)
    for at in np.ndindex(*size):
        seen = np.ix_(*window(at, image, kernel, stride, padding, dilation, size))
        part = x[(..., *seen)].reshape(*x.shape[:-dims], -1)
        y[(..., *at)] = part.max(-1)
        where[(..., *at)] = numbers[seen].reshape(-1)[part.argmax(-1)]
    return y, where


def max_pool_backward(g: Any, where: Any, size: Any) -> Any:
    dims = len(size)
    x = np.zeros((*g.shape[:-dims], math.prod(size)))
    for at in np.ndindex(*g.shape):
        x[(*at[:-dims], where[at])] += g[at]
    return x.reshape(*g.shape[:-dims], *size)


def _means(
    image: Any, kernel: Any, stride: Any, padding: Any, size: Any, count_padding: Any, divisor: Any
) -> Iterator[tuple[Any, Any, float]]:
    dilation = (1,) * len(size)
    for at in np.ndindex(*size):
        sides = window(at, image, kernel, stride, padding, dilation, size)
        n = math.prod(map(len, sides))
        if count_padding and kernel[0]:
            n = math.prod(
                min(a * s - p + k, m + p) - (a * s - p)
                for a, m, k, s, p in zip(at, image, kernel, stride, padding, strict=True)
            )
        yield at, np.ix_(*sides), divisor or n


def avg_pool(
    x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any,
    count_padding: bool = True, divisor: int = 0,
) -> Any:  # fmt: skip
    dims = len(size)
    y = np.zeros((*x.shape[:-dims], *size))
    sizes = x.shape[-dims:], kernel, stride, padding, size
    for at, seen, n in _means(*sizes, count_padding, divisor):
        y[(..., *at)] = x[(..., *seen)].sum(tuple(range(-dims, 0))) / n
    return y


def avg_pool_backward(
    g: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any,
    count_padding: bool = True, divisor: int = 0,
) -> Any:  # fmt: skip
    dims = len(kernel)
    size = size[-dims:]  # of the image; its other dimensions may stand before
    x = np.zeros((*g.shape[:-dims], *size))
    sizes = size, kernel, stride, padding, g.shape[-dims:]
    for at, seen, n in _means(*sizes, count_padding, divisor):
        x[(..., *seen)] += g[(..., *at)].reshape(*g.shape[:-dims], *[1] * dims) / n
    return x
