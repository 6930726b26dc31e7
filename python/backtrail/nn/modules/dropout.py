"""Dropout: zero at random while training, and scale the rest so that the mean stays."""

from __future__ import annotations

from ...creation import ones
from ...tensor import Tensor
from .. import functional as F
from .module import Module


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.inplace = inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Zero each element with probability p, and divide the others by 1 - p.

    Evaluation mode is the identity (Srivastava et al. 2014).
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, self.inplace)


class _ChannelDropout(_Dropout):
    """Dropout of whole channels; `_spatial` is the number of dimensions after C."""

    _spatial: int

    def forward(self, input: Tensor) -> Tensor:
        dims = input.dim()
        if dims not in (self._spatial + 1, self._spatial + 2):
            raise ValueError(
                f"{self._get_name()}: expected {self._spatial + 1}D or {self._spatial + 2}D input, "
                f"got {dims}D of shape {tuple(input.shape)}"
            )
        if not self.training or self.p == 0:
            return input
        shape = (*input.shape[: dims - self._spatial], *(1,) * self._spatial)
        keep = F.dropout(ones(shape, dtype=input.dtype), self.p, True)
        return input.mul_(keep) if self.inplace else input * keep


class Dropout1d(_ChannelDropout):
    """Zero whole channels of (N, C, L) or (C, L) with probability p."""

    _spatial = 1


class Dropout2d(_ChannelDropout):
    """Zero whole channels of (N, C, H, W) or (C, H, W) with probability p."""

    _spatial = 2
