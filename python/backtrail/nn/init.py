"""Initialisation: fill a tensor in place from a distribution, and return it.

Every function takes an optional `generator`; without one it draws from the default generator.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from ..autograd import no_grad
from ..functions.creation import empty, from_numpy
from ..functions.functional import where
from ..functions.random import Generator, randperm
from ..tensor import Tensor

_UNIT_GAIN = frozenset(
    ["linear", "sigmoid"]
    + [f"conv{transposed}{d}d" for transposed in ("", "_transpose") for d in (1, 2, 3)]
)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor by which weights grow to keep the variance through `nonlinearity`.

    `param` is the negative slope of leaky_relu (default 0.01). Raises ValueError for an unknown
    name or a slope that is no number.
    """
    if nonlinearity in _UNIT_GAIN:
        return 1
    if nonlinearity == "tanh":
        return 5 / 3
    if nonlinearity == "relu":
        return math.sqrt(2)
    if nonlinearity == "leaky_relu":
        if param is None:
            param = 0.01
        elif isinstance(param, bool) or not isinstance(param, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2 / (1 + param**2))
    if nonlinearity == "selu":
        return 3 / 4
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Return how many inputs feed an output and how many outputs an input feeds.

    `tensor` is (out, in, *kernel).
    """
    if tensor.dim() < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions, "
            f"got shape {tuple(tensor.shape)}"
        )
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Draw from the uniform distribution on [a, b)."""
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Draw from the normal distribution N(mean, std^2)."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Draw from N(mean, std^2) restricted to [a, b], by inverting its CDF.

    a and b are values, not multiples of std. Warns when the mean lies more than two std outside.
    """
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect.",
            stacklevel=2,
        )
    with no_grad():
        # erf(z / sqrt(2)) of a normal z is uniform on (-1, 1).
        low = math.erf((a - mean) / (std * math.sqrt(2)))
        high = math.erf((b - mean) / (std * math.sqrt(2)))
        tensor.uniform_(low, high, generator=generator)
        tensor.copy_(_erfinv(tensor)).mul_(std * math.sqrt(2)).add_(mean)
        return tensor.clamp_(a, b)


# M. Giles, "Approximating the erfinv function" (2010), table 5: single precision, highest power
# first; in w - 2.5 for w < 5 and in sqrt(w) - 3 above, where w = -log(1 - x^2).
_ERFINV_CENTRE = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_ERFINV_TAIL = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)


def _erfinv(x: Tensor) -> Tensor:
    """Return the inverse of erf on [-1, 1], within 5e-7 relative; the ends stay finite."""
    w = -((1 - x) * (1 + x)).clamp(min=1e-37).log()
    central = w < 5
    w = where(central, w - 2.5, w.sqrt() - 3)
    value = where(central, _ERFINV_CENTRE[0], _ERFINV_TAIL[0])
    for centre, tail in zip(_ERFINV_CENTRE[1:], _ERFINV_TAIL[1:], strict=True):
        value = value * w + where(central, centre, tail)
    return value * x


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with `val`."""
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with one."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zero."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Write the identity into a matrix, square or not."""
    if tensor.dim() != 2:
        raise ValueError(f"eye_: expected a 2-D tensor, got shape {tuple(tensor.shape)}")
    with no_grad():
        tensor.zero_()
        for i in range(min(tensor.shape)):
            tensor[i, i] = 1
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Write the kernel (out, in, *window) that copies its inputs, in each of `groups`."""
    if not 3 <= tensor.dim() <= 5:
        raise ValueError(
            f"dirac_: expected a tensor of 3, 4 or 5 dimensions, got shape {tuple(tensor.shape)}"
        )
    outputs, inputs = tensor.shape[:2]
    if outputs % groups != 0:
        raise ValueError(f"dirac_: {outputs} outputs must be divisible by {groups} groups")
    centre = tuple(size // 2 for size in tensor.shape[2:])
    group = outputs // groups
    with no_grad():
        tensor.zero_()
        for g in range(groups):
            for i in range(min(group, inputs)):
                position = (g * group + i, i, *centre)
                tensor[position] = 1
    return tensor


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Draw uniformly in +-gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    bound = gain * math.sqrt(6 / (fan_in + fan_out))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Draw from N(0, gain^2 * 2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2 / (fan_in + fan_out)), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fans = _calculate_fan_in_and_fan_out(tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(fans[mode == "fan_out"])


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Draw uniformly in +-gain * sqrt(3 / fan) (He et al. 2015); a is leaky_relu's slope."""
    if tensor.numel() == 0:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Draw from N(0, gain^2 / fan) (He et al. 2015); a is leaky_relu's slope."""
    if tensor.numel() == 0:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """Write `gain` times a random matrix with orthonormal rows or columns, whichever are fewer.

    Trailing dimensions count as columns (Saxe et al. 2013).
    """
    if tensor.dim() < 2:
        raise ValueError(
            f"orthogonal_: expected 2 or more dimensions, got shape {tuple(tensor.shape)}"
        )
    if tensor.numel() == 0:
        return tensor
    import numpy as np

    rows = tensor.shape[0]
    draw = normal_(empty(rows, tensor.numel() // rows, dtype=tensor.dtype), generator=generator)
    flat = draw.numpy()
    tall = flat.shape[0] >= flat.shape[1]
    q, r = np.linalg.qr(flat if tall else flat.T)
    # Signs from R's diagonal make the distribution uniform (Mezzadri 2006).
    q *= np.sign(np.diag(r)) * gain
    value = from_numpy(np.ascontiguousarray(q if tall else q.T))
    with no_grad():
        return tensor.copy_(value.reshape(tensor.shape))


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Draw from N(0, std^2), then zero the share `sparsity` of each column (Martens 2010)."""
    if tensor.dim() != 2:
        raise ValueError(f"sparse_: expected a 2-D tensor, got shape {tuple(tensor.shape)}")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    normal_(tensor, 0.0, std, generator)
    with no_grad():
        for column in range(columns):
            tensor[randperm(rows, generator=generator)[:zeros], column] = 0
    return tensor


def _former(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep a name from before in-place functions ended in an underscore."""
    new = fn.__name__
    old = new[:-1]

    def former(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(
            f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`.",
            FutureWarning,
            stacklevel=2,
        )
        return fn(*args, **kwargs)

    former.__name__ = former.__qualname__ = old
    former.__doc__ = f"Call `{new}`, the name that replaced this one."
    return former


uniform = _former(uniform_)
normal = _former(normal_)
constant = _former(constant_)
eye = _former(eye_)
dirac = _former(dirac_)
xavier_uniform = _former(xavier_uniform_)
xavier_normal = _former(xavier_normal_)
kaiming_uniform = _former(kaiming_uniform_)
kaiming_normal = _former(kaiming_normal_)
orthogonal = _former(orthogonal_)
sparse = _former(sparse_)
