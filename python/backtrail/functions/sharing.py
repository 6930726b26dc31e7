"""Tensors whose memory several processes see: `share_memory_`, and how they go to another process.

The memory is an anonymous file (memfd): it ends with the last tensor on it in any process, and
leaves nothing behind. A forked process inherits it; to one that was spawned, or through a queue of
`multiprocessing`, the file descriptor is passed.
"""

from __future__ import annotations

from typing import Any

from .. import _core
from ..dtypes import dtype as DType
from ..tensor import Tensor, apply, method, ops

_AS_STRIDED = ops["as_strided"]


@method
def share_memory_(self: Tensor) -> Tensor:
    """Move the elements to memory that other processes share, with all views on them.

    What one process writes the others see, without any order between them. Raises RuntimeError for
    memory of another library (of `from_numpy`).
    """
    _core.share(self)
    _register(type(self))
    return self


@method
def is_shared(self: Tensor) -> bool:
    """Return whether the elements lie in memory that processes share."""
    return _core.shared_descriptor(self)[0] >= 0


def _register(kind: type) -> None:
    """Have `multiprocessing` pass shared tensors by memory, and others as pickle does."""
    from multiprocessing.reduction import ForkingPickler

    ForkingPickler.register(kind, _reduce)


def _reduce(t: Tensor) -> Any:
    from multiprocessing.reduction import DupFd

    descriptor, nbytes, file = _core.shared_descriptor(t)
    if descriptor < 0 or t.grad_fn is not None:
        return t.__reduce_ex__(2)
    place = tuple(t.shape), tuple(t.stride()), t.storage_offset()
    memory = DupFd(descriptor), nbytes, file
    return _rebuild, (type(t), memory, t.dtype, place, t.requires_grad)


def _rebuild(kind: type[Tensor], given: Any, dtype: DType, place: Any, requires_grad: bool) -> Any:
    handle, nbytes, file = given
    memory = _core.find_shared(file, dtype)  # what this process has already needs no sender
    if memory is None:
        import os

        descriptor = handle.detach()
        try:
            memory = _core.open_shared(descriptor, nbytes, dtype)
        finally:
            os.close(descriptor)
    _register(kind)
    return Tensor._make_subclass(kind, apply(_AS_STRIDED, (memory,), place), requires_grad)
