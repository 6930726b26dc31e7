"""Batch normalisation and the running statistics that it keeps."""

from __future__ import annotations

from typing import Any

from ...autograd import no_grad
from ...dtypes import device as Device, dtype as DType, int64
from ...functions.creation import empty, ones, tensor, zeros
from ...tensor import Tensor
from .. import functional as F, init
from ..parameter import Parameter
from .module import Module


class _BatchNorm(Module):
    """Standardise each channel over the batch and the positions, then scale and shift.

    y = (x - mean) / sqrt(var + eps) * weight + bias. Training takes mean and var from the batch
    and moves the running ones towards them by `momentum` (None: a plain average over all
    batches), with Bessel's correction in the running variance; evaluation takes the running ones,
    where they are tracked (Ioffe and Szegedy 2015).
    """

    _version = 2  # the first had no num_batches_tracked
    _dims: tuple[int, ...]  # how many dimensions an input may have

    weight: Parameter | Any  # None without it
    bias: Parameter | Any  # None without it
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Device | str | None = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            value = Parameter(empty(num_features, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, value)
        if track_running_stats:
            self.register_buffer("running_mean", zeros(num_features, device=device, dtype=dtype))
            self.register_buffer("running_var", ones(num_features, device=device, dtype=dtype))
            self.register_buffer("num_batches_tracked", tensor(0, dtype=int64))
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget every batch seen: mean 0, variance 1."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Reset the running statistics, the gain to one and the bias to zero."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() not in self._dims:
            raise ValueError(
                f"{self._get_name()}: expected {' or '.join(f'{d}D' for d in self._dims)} input, "
                f"got {input.dim()}D of shape {tuple(input.shape)}"
            )
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            with no_grad():
                self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked.item())
        update = self.training and self.track_running_stats
        from_batch = self.training or self.running_mean is None
        return F.batch_norm(
            input,
            None if self.training and not update else self.running_mean,
            None if self.training and not update else self.running_var,
            self.weight,
            self.bias,
            from_batch,
            momentum,
            self.eps,
        )

    def _upgrade_state(self, state_dict: dict[str, Any], prefix: str, version: int | None) -> None:
        if (version is None or version < 2) and self.num_batches_tracked is not None:
            state_dict.setdefault(prefix + "num_batches_tracked", self.num_batches_tracked)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L)."""

    _dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W)."""

    _dims = (4,)
