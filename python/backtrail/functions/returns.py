"""Named tuples that functions with several results return, printed as PyTorch's."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from ..tensor import Tensor


class ValuesIndices(NamedTuple):
    """The two results of `max(dim)`, `min(dim)`, `sort`, `topk`, `median(dim)` and their like."""

    values: Tensor
    indices: Tensor

    def __repr__(self) -> str:
        fields = ",\n".join(
            f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True)
        )
        return f"backtrail.return_types.{type(self).__name__}(\n{fields})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self).__name__, tuple(self))


@cache
def returned(name: str) -> type[ValuesIndices]:
    """Return the class of what the function `name` returns."""
    return type(name, (ValuesIndices,), {"__slots__": (), "__module__": "backtrail.return_types"})


def _rebuild(name: str, values: tuple[Tensor, Tensor]) -> ValuesIndices:
    return returned(name)(*values)
