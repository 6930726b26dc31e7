"""Backtrail: an autograd engine for the CPU, with PyTorch's names.

>>> import backtrail as bt
>>> x = bt.tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4.])
"""

from __future__ import annotations

from . import _quiet as _quiet  # isort: skip  # before all that takes time

import builtins
from importlib import import_module
from math import e, inf, nan, pi
from typing import TYPE_CHECKING, Any

from . import _core
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_mode
from .dtypes import (
    Size,
    bfloat16,
    bool_,
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
from .formatting import set_printoptions
from .functions.creation import *  # noqa: F403
from .functions.functional import *  # noqa: F403
from .functions.legacy import *  # noqa: F403
from .functions.publish import check_methods as _check_methods, publish as _publish
from .functions.random import *  # noqa: F403
from .functions.ranges import *  # noqa: F403
from .tensor import Tensor, is_tensor

from . import autograd, linalg, random  # isort: skip
from .functions.creation import tensor as tensor  # isort: skip  # not the file of that name
from .functions import (
    creation as _creation,
    functional as _functional,
    legacy as _legacy,
    random as _random,
    ranges as _ranges,
)

globals().update(_functional.FACTORIES)  # the same with `out=`

if TYPE_CHECKING:
    from . import backends, cpp_extension, cuda, examples, nn, optim, testing, train, utils
    from .capture import compile
    from .serialization import load, save

__version__ = "0.1.0"

# What is public, to people and to type checkers: these names and those of the files below, which
# type checkers read from there. A test holds that nothing is left out.
__all__ = [
    "Size",
    "Tensor",
    "autograd",
    "backends",
    "bfloat16",
    "bool",
    "bool_",
    "channels_last",
    "compile",
    "contiguous_format",
    "cpp_extension",
    "cuda",
    "device",
    "double",
    "dtype",
    "e",
    "enable_grad",
    "examples",
    "finfo",
    "float",
    "float32",
    "float64",
    "get_num_threads",
    "iinfo",
    "inf",
    "inference_mode",
    "int",
    "int32",
    "int64",
    "is_complex",
    "is_floating_point",
    "is_grad_enabled",
    "is_tensor",
    "linalg",
    "load",
    "long",
    "nan",
    "nn",
    "no_grad",
    "numel",
    "optim",
    "pi",
    "preserve_format",
    "random",
    "result_type",
    "save",
    "set_float32_matmul_precision",
    "set_grad_enabled",
    "set_grad_mode",
    "set_num_threads",
    "set_printoptions",
    "strided",
    "testing",
    "train",
    "uint8",
    "use_deterministic_algorithms",
    "utils",
]

set_grad_enabled = set_grad_mode
float = float32
double = float64
long = int64
int = int32
bool = bool_


def get_num_threads() -> builtins.int:
    """Return how many threads large operations may use."""
    return _core.num_threads()


def set_num_threads(n: builtins.int) -> None:
    """Set how many threads large operations may use; results do not depend on it."""
    _core.set_num_threads(n)


def is_floating_point(input: Tensor) -> builtins.bool:
    """Return whether the tensor's dtype is a floating point type."""
    return input.dtype.is_floating_point


def is_complex(input: Tensor) -> builtins.bool:
    """Return False: there are no complex tensors."""
    return False


def numel(input: Tensor) -> builtins.int:
    """Return the number of elements."""
    return input.numel()


def result_type(*tensors: Any) -> dtype:
    """Return the dtype that arithmetic between tensors and numbers has."""
    return _core.result_type(*tensors)


def use_deterministic_algorithms(mode: builtins.bool, *, warn_only: builtins.bool = False) -> None:
    """Accept PyTorch's request: every operation here is deterministic always."""


def set_float32_matmul_precision(precision: str) -> None:
    """Accept PyTorch's request: float32 products are computed in float32 always."""


_SUBMODULES = {
    "backends",
    "cpp_extension",
    "cuda",
    "examples",
    "nn",
    "optim",
    "testing",
    "train",
    "utils",
}

_ELSEWHERE = {"compile": "capture", "load": "serialization", "save": "serialization"}

if not TYPE_CHECKING:  # type checkers know the names; this one would allow any

    def __getattr__(name: str) -> Any:
        if name in _SUBMODULES:  # loaded when first asked for: importing stays fast
            return import_module(f"backtrail.{name}")
        if name in _ELSEWHERE:
            return getattr(import_module(f"backtrail.{_ELSEWHERE[name]}"), name)
        try:
            return getattr(_functional, name)
        except AttributeError:
            raise AttributeError(f"module 'backtrail' has no attribute {name!r}") from None


_publish(globals(), "backtrail")
_check_methods(Tensor)


def __dir__() -> list[str]:
    ops = {name for name, value in vars(_functional).items() if callable(value)}  # and the user's
    return sorted({name for name in {*globals(), *ops} if name.startswith("__")} | ops | _PUBLIC)


__all__ += _creation.__all__
__all__ += _functional.__all__
__all__ += _legacy.__all__
__all__ += _random.__all__
__all__ += _ranges.__all__

_PUBLIC = frozenset(__all__)
if not TYPE_CHECKING:  # `from backtrail import *` gives none that would hide Python's own
    __all__ = sorted(_PUBLIC - {*dir(builtins)})
