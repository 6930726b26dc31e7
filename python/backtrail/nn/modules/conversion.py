"""Conversions of a whole module: dtype, device, shared memory, uninitialised memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...dtypes import bfloat16, check_device, device as Device, dtype as DType, float32, float64
from ...functions.creation import empty_like
from ...tensor import Tensor
from .members import Tree

if TYPE_CHECKING:
    from typing_extensions import Self


class Converted(Tree):
    """How a module converts all of its parameters and buffers in place."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Parameters keep their identity, so optimizers and ties stay valid.
        for parameter in self.parameters(recurse):
            parameter.data = fn(parameter.data)
            if parameter.grad is not None:
                parameter.grad = fn(parameter.grad.data)
        moved: dict[int, Tensor] = {}
        this: Any = self
        for module in self.modules() if recurse else (this,):
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    if id(buffer) not in moved:
                        moved[id(buffer)] = fn(buffer)
                    module._buffers[name] = moved[id(buffer)]
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Convert floating parameters and buffers in place: to(device), to(dtype), to(tensor).

        Integer and boolean tensors keep their dtype. Raises TypeError for a dtype without
        fractions.
        """
        dtype: DType | None = kwargs.get("dtype")
        device: Device | str | None = kwargs.get("device")
        for value in (*args, kwargs.get("tensor")):
            if isinstance(value, Tensor):
                dtype = value.dtype
            elif isinstance(value, DType):
                dtype = value
            elif isinstance(value, (Device, str)):
                device = value
        if device is not None:
            check_device(device)  # refuses an unknown device, even when there is no tensor to move
        if dtype is None:
            return self
        if not dtype.is_floating_point:
            raise TypeError(
                f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}"
            )
        chosen = dtype
        return self._apply(lambda t: t.to(chosen) if t.is_floating_point() else t)

    def type(self, dst_type: DType) -> Self:
        """Convert every parameter and buffer, integers too, to a dtype."""
        if not isinstance(dst_type, DType):
            raise TypeError(f"type: expected a dtype, got {dst_type!r}")
        return self._apply(lambda t: t.to(dst_type))

    def float(self) -> Self:
        """Convert floating parameters and buffers to float32."""
        return self.to(float32)

    def double(self) -> Self:
        """Convert floating parameters and buffers to float64."""
        return self.to(float64)

    def bfloat16(self) -> Self:
        """Convert floating parameters and buffers to bfloat16."""
        return self.to(bfloat16)

    def half(self) -> Self:
        """Raise RuntimeError: there is no arithmetic in float16; `bfloat16` is as small."""
        raise RuntimeError("half: no arithmetic in float16 on this CPU; bfloat16() is as small")

    def cpu(self) -> Self:
        """Return self: there is no other device."""
        return self

    def cuda(self, device: Any = None) -> Self:
        """Raise RuntimeError where there is anything to move: there is only the CPU."""
        return self._apply(lambda t: t.cuda(device))

    def to_empty(self, *, device: Device | str | None, recurse: bool = True) -> Self:
        """Give every parameter and buffer memory of its own that is not initialised."""
        if device is not None:
            check_device(device)
        return self._apply(empty_like, recurse)

    def share_memory(self) -> Self:
        """Move every parameter and buffer into memory that processes share, in place."""
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.share_memory_()
        return self
