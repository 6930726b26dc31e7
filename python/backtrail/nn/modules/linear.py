"""Affine maps: Linear and Bilinear; and Identity."""

from __future__ import annotations

import math
from typing import Any

from ...dtypes import device as Device, dtype as DType
from ...functions.creation import empty
from ...tensor import Tensor
from .. import functional as F, init
from ..parameter import Parameter
from .module import Module


class Identity(Module):
    """Return the input; any arguments are accepted and ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """Map (..., in_features) to (..., out_features) by x @ weight.T + bias.

    weight (out_features, in_features) and bias start uniform in +-1/sqrt(in_features).
    """

    weight: Parameter
    bias: Parameter | Any  # None without it

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(empty(out_features, in_features, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights and biases."""
        # He et al. 2015 with a = sqrt(5): the bound is then 1/sqrt(fan_in).
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class NonDynamicallyQuantizableLinear(Linear):
    """A Linear of another name: PyTorch's attention has it, so programs look for it."""


class Bilinear(Module):
    """Map (..., in1_features) and (..., in2_features) to (..., out_features).

    y[o] = sum over i, j of x1[i] * weight[o, i, j] * x2[j], plus bias[o].
    """

    weight: Parameter
    bias: Parameter | Any  # None without it

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        if in1_features <= 0:
            raise ValueError(f"in1_features must be > 0, but got {in1_features}")
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        self.weight = Parameter(
            empty(out_features, in1_features, in2_features, device=device, dtype=dtype)
        )
        if bias:
            self.bias = Parameter(empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases, uniform in +-1/sqrt(in1_features)."""
        bound = 1 / math.sqrt(self.in1_features)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        # One (N, in1) @ (in1, out * in2) product, then a contraction with input2.
        batch = input1.shape[:-1]
        left = input1.reshape(-1, self.in1_features)
        right = input2.reshape(-1, self.in2_features, 1)
        mixed = left @ self.weight.transpose(0, 1).reshape(self.in1_features, -1)
        output = (mixed.view(-1, self.out_features, self.in2_features) @ right).squeeze(-1)
        if self.bias is not None:
            output = output + self.bias
        return output.view(*batch, self.out_features)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )
