"""Activations, elementwise and along a dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...functions.creation import zeros
from ...functions.notice import warn_caller
from ...functions.random import rand_like
from ...functions.reductions import softmax
from ...tensor import Tensor, apply, apply_, ops

_RELU = ops["relu"]


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return max(input, 0)."""
    return apply_(_RELU, (input,), (), input) if inplace else apply(_RELU, (input,))


def _activation(name: str) -> Callable[..., Tensor]:
    op = ops[name]

    def function(input: Tensor, inplace: bool = False) -> Tensor:
        return apply_(op, (input,), (), input) if inplace else apply(op, (input,))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.__doc__
    return function


relu6, selu, silu, mish, hardswish, hardsigmoid = (
    _activation(n) for n in ("relu6", "selu", "silu", "mish", "hardswish", "hardsigmoid")
)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """Return input * Phi(input); approximate="tanh" by tanh (Hendrycks and Gimpel, 2016)."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: approximate is {approximate!r}; expected none or tanh")
    return apply(ops["gelu" if approximate == "none" else "gelu_tanh"], (input,))


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return input where positive, negative_slope * input elsewhere."""
    op = ops["leaky_relu"]
    if inplace:
        return apply_(op, (input,), (negative_slope,), input)
    return apply(op, (input,), (negative_slope,))


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return input where positive, alpha * (exp(input) - 1) elsewhere."""
    if inplace:
        return apply_(ops["elu"], (input,), (alpha,), input)
    return apply(ops["elu"], (input,), (alpha,))


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return input where positive, alpha * (exp(input / alpha) - 1) elsewhere."""
    return apply(ops["celu"], (input,), (alpha,))


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(beta * input)) / beta."""
    return apply(ops["softplus"], (input,), (beta, threshold))


def logsigmoid(input: Tensor) -> Tensor:
    """Return log(sigmoid(input))."""
    return apply(ops["logsigmoid"], (input,))


def sigmoid(input: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-input))."""
    return apply(ops["sigmoid"], (input,))


def tanh(input: Tensor) -> Tensor:
    """Return the hyperbolic tangent."""
    return apply(ops["tanh"], (input,))


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """Limit input to [min_val, max_val]."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} cannot be greater than max_val {max_val}")
    if inplace:
        return apply_(ops["hardtanh"], (input,), (min_val, max_val), input)
    return apply(ops["hardtanh"], (input,), (min_val, max_val))


def softsign(input: Tensor) -> Tensor:
    """Return input / (1 + |input|)."""
    return input / (1 + input.abs())


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """Return the first half of a dimension times the sigmoid of the second."""
    a, b = input.chunk(2, dim)
    return a * sigmoid(b)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Return input where positive, a learnt slope (one, or one a channel) times input elsewhere."""
    if weight.ndim > 1:
        raise RuntimeError(
            f"prelu: weight must be a scalar or a vector, got shape {tuple(weight.shape)}"
        )
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight._numel == 1:
        weight = weight.reshape(())
    elif weight._numel == channels:
        weight = weight.reshape(1, -1, *([1] * (input.ndim - 2)))
    else:
        raise RuntimeError(
            f"prelu: weight has {weight._numel} elements; expected 1 or one for each of "
            f"{channels} channels of input {tuple(input.shape)}"
        )
    return apply(ops["where"], (input > 0, input, weight * input))


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """Return the softmax of -input."""
    return softmax(-input, dim, _stacklevel, dtype)


def gumbel_softmax(
    logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """Draw from the categorical distribution of logits, softened (Jang et al., 2017).

    `eps` is there for PyTorch's programs, and has had no effect there for long.
    """
    if eps != 1e-10:
        warn_caller("`eps` parameter is deprecated and has no effect.")
    noise = -(-(rand_like(logits) + 1e-20).log() + 1e-20).log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    best = soft.argmax(dim, keepdim=True)
    return zeros(*soft.shape, dtype=soft.dtype).scatter(dim, best, 1.0) - soft.detach() + soft
