"""What a sample is, and arrays to make it of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

random = np.random.default_rng(7)


@dataclass(frozen=True)
class Sample:
    """One call of an op; `numpy` takes the same inputs and returns one array or a tuple."""

    inputs: tuple[Any, ...]
    attrs: tuple[Any, ...] = ()
    numpy: Callable[..., Any] | None = None
    dense_only: bool = False  # its meaning depends on the strides of the input
    tolerance: float = 1.0  # times that of the test


def x(*shape: int) -> np.ndarray:
    return random.uniform(-2, 2, shape)


def positive(*shape: int) -> np.ndarray:
    return random.uniform(0.3, 2, shape)


def distinct(*shape: int) -> np.ndarray:
    """Values far enough apart that small steps do not change their order."""
    return np.asarray(random.permutation(int(np.prod(shape))).reshape(shape) * 0.37 - 1.1)


def ints(high: int, *shape: int) -> np.ndarray:
    return random.integers(0, high, shape)
