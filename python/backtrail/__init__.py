"""Backtrail: an autograd engine for the CPU, with PyTorch's names.

    >>> import backtrail as bt
    >>> x = bt.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
"""

from __future__ import annotations

from math import e, inf, nan, pi
from typing import Any

from . import _core
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad
from .autograd import set_grad_mode as set_grad_enabled
from .creation import *  # noqa: F403
from .dtypes import (
    Size,
    bfloat16,
    channels_last,
    contiguous_format,
    device,
    dtype,
    finfo,
    float32,
    float64,
    iinfo,
    int32,
    int64,
    preserve_format,
    strided,
    uint8,
)
from .dtypes import bool_ as bool
from .formatting import set_printoptions
from .functional import *  # noqa: F403
from .random import *  # noqa: F403
from .serialization import load, save
from .tensor import Tensor, is_tensor

from . import autograd, backends, cuda, definitions, linalg, nn, optim, random, utils  # isort: skip
from . import functional as _functional

__version__ = "0.1.0"

float = float32
double = float64
long = int64
int = int32


def FloatTensor(*data: Any) -> Tensor:
    """Make a float32 tensor from data or sizes."""
    return Tensor(*data).to(float32)


def LongTensor(*data: Any) -> Tensor:
    """Make an int64 tensor from data or sizes."""
    if len(data) == 1 and not isinstance(data[0], type(0)):
        return tensor(data[0], dtype=int64)  # noqa: F405
    return Tensor(*data).to(int64)


def get_num_threads() -> Any:
    """Return how many threads large operations may use."""
    return _core.num_threads()


def set_num_threads(n: Any) -> None:
    """Set how many threads large operations may use; results do not depend on it."""
    _core.set_num_threads(n)


def is_floating_point(input: Tensor) -> Any:
    """Return whether the tensor's dtype is a floating point type."""
    return input.dtype.is_floating_point


def is_complex(input: Tensor) -> Any:
    """Return False: there are no complex tensors."""
    return False


def numel(input: Tensor) -> Any:
    """Return the number of elements."""
    return input.numel()


def result_type(*tensors: Any) -> dtype:
    """Return the dtype that arithmetic between tensors and numbers has."""
    return _core.result_type(*tensors)


def use_deterministic_algorithms(mode: Any, *, warn_only: Any = False) -> None:
    """Accept PyTorch's request: every operation here is deterministic always."""


def set_float32_matmul_precision(precision: str) -> None:
    """Accept PyTorch's request: float32 products are computed in float32 always."""


def __getattr__(name: str) -> Any:
    if name in ("cpp_extension", "train"):  # only when asked for
        import importlib

        return importlib.import_module(f"backtrail.{name}")
    try:
        return getattr(_functional, name)
    except AttributeError:
        raise AttributeError(f"module 'backtrail' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *vars(_functional)})
