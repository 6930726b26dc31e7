"""Convolutions over one or two dimensions, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...dtypes import device as Device, dtype as DType
from ...functions.convolution import Numbers, numbers
from ...functions.creation import empty
from ...tensor import Tensor
from .. import functional as F, init
from ..parameter import Parameter
from .module import Module

_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What all convolutions share; `dims` and `transposed` belong to the class."""

    weight: Parameter
    bias: Parameter | Any  # None without it
    dims = 2
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Numbers,
        stride: Numbers,
        padding: Numbers | str,
        output_padding: Numbers,
        dilation: Numbers,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Device | str | None,
        dtype: DType | None,
    ) -> None:
        super().__init__()
        name, dims = type(self).__name__, self.dims
        if groups <= 0:
            raise ValueError(f"{name}: groups is {groups}; it must be positive")
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{name}: {what}={channels} does not divide into {groups} groups")
        if padding_mode not in (("zeros",) if self.transposed else _MODES):
            raise ValueError(f"{name}: padding_mode is {padding_mode!r}; expected one of {_MODES}")
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(f"{name}: padding is {padding!r}; expected same, valid or numbers")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = numbers(name, "kernel_size", kernel_size, dims, 1)
        self.stride = numbers(name, "stride", stride, dims, 1)
        self.padding = (
            padding if isinstance(padding, str) else numbers(name, "padding", padding, dims)
        )
        self.dilation = numbers(name, "dilation", dilation, dims, 1)
        self.output_padding = numbers(name, "output_padding", output_padding, dims)
        if padding == "same" and any(s != 1 for s in self.stride):
            raise ValueError(f"{name}: padding='same' needs a stride of 1; got {self.stride}")
        self.groups = groups
        self.padding_mode = padding_mode
        first, second = in_channels, out_channels
        if not self.transposed:
            first, second = second, first
        shape = (first, second // groups, *self.kernel_size)
        self.weight = Parameter(empty(*shape, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases, uniform in +-1/sqrt(fan_in)."""
        # He et al. 2015 with a = sqrt(5): the bound is then 1/sqrt(fan_in).
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        fan_in = self.weight.shape[1] * math.prod(self.kernel_size)
        if self.bias is not None and fan_in:
            bound = 1 / math.sqrt(fan_in)
            init.uniform_(self.bias, -bound, bound)

    def _padded(self, input: Tensor) -> tuple[Tensor, Any]:
        """Return the input with what `padding_mode` adds, and the padding that is left to do."""
        if self.padding_mode == "zeros":
            return input, self.padding
        if isinstance(self.padding, str):
            reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            same = self.padding == "same"
            sides = [(r // 2, r - r // 2) if same else (0, 0) for r in reach]
        else:
            sides = [(p, p) for p in self.padding]
        flat = [n for pair in reversed(sides) for n in pair]  # the last dimension first
        return F.pad(input, flat, mode=self.padding_mode), 0

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        none, one = (0,) * self.dims, (1,) * self.dims
        if self.padding != none:
            text += f", padding={self.padding}"
        if self.dilation != one:
            text += f", dilation={self.dilation}"
        if self.output_padding != none:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class Conv2d(_Conv):
    """Correlate (N, C, H, W) with filters: (N, out_channels, H', W'); see F.conv2d.

    weight (out_channels, in_channels / groups, *kernel_size) and bias (out_channels) start uniform
    in +-1/sqrt(in_channels / groups * kernel elements). `padding_mode` says what stands outside of
    the input: zeros, reflect, replicate or circular.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Numbers,
        stride: Numbers = 1,
        padding: Numbers | str = 0,
        dilation: Numbers = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Device | str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            0,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def forward(self, input: Tensor) -> Tensor:
        x, padding = self._padded(input)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(Conv2d):
    """Correlate (N, C, L) with filters: (N, out_channels, L'); see F.conv1d and Conv2d."""

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        x, padding = self._padded(input)
        return F.conv1d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class ConvTranspose2d(_Conv):
    """Apply the transpose of a convolution to (N, C, H, W): see F.conv_transpose2d.

    weight (in_channels, out_channels / groups, *kernel_size) and bias (out_channels) start uniform
    in +-1/sqrt(out_channels / groups * kernel elements). The size that a convolution with this
    stride had before is not unique: `output_padding`, or `output_size` of the call, chooses.
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Numbers,
        stride: Numbers = 1,
        padding: Numbers = 0,
        output_padding: Numbers = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Numbers = 1,
        padding_mode: str = "zeros",
        device: Device | str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def _extra(self, input: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """Return the output padding that gives `output_size`."""
        if output_size is None:
            return self.output_padding
        dims, name = self.dims, type(self).__name__
        wanted = tuple(output_size)[-dims:]
        padding = numbers(name, "padding", self.padding, dims)
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                input.shape[-dims:],
                self.stride,
                padding,
                self.dilation,
                self.kernel_size,
                strict=True,
            )
        ]
        extra = tuple(w - n for w, n in zip(wanted, least, strict=True))
        if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            raise ValueError(
                f"{name}: output_size={wanted} for an input of {tuple(input.shape)}; expected from "
                f"{tuple(least)} to less than stride={self.stride} more"
            )
        return extra

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return F.conv_transpose2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,  # type: ignore[arg-type]  # no names of paddings here
            self._extra(input, output_size),
            self.groups,
            self.dilation,
        )


class ConvTranspose1d(ConvTranspose2d):
    """Apply the transpose of a convolution to (N, C, L): see ConvTranspose2d."""

    dims = 1

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return F.conv_transpose1d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,  # type: ignore[arg-type]
            self._extra(input, output_size),
            self.groups,
            self.dilation,
        )
