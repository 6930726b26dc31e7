"""Parameter and Buffer: the tensors that a Module trains, and those that it only keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..functions.creation import empty
from ..tensor import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self


class Parameter(Tensor):
    """Wrap `data`, sharing its storage, as a leaf that Modules register when assigned.

    Any shape and dtype; only floating tensors may require a gradient.
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Self:
        if data is None:
            data = empty(0)
        made: Self = Tensor._make_subclass(cls, data, requires_grad)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Without the gradient, as in PyTorch: a copied model starts with none.
        return type(self)(self.detach().clone(), self.requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """Wrap `data`, sharing its storage, as a tensor that Modules register as a buffer.

    One that is not `persistent` stays out of `state_dict`.
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Self:
        if data is None:
            data = empty(0)
        made: Self = Tensor._make_subclass(cls, data.detach(), data.requires_grad)
        made.persistent = persistent
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(super().__deepcopy__(memo), persistent=self.persistent)
