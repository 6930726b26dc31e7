"""Forward hooks: what a module keeps of them, and the handle that takes one off again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Self


class Hook(NamedTuple):
    """A registered function, and whether it also wants the keyword arguments."""

    call: Callable[..., Any]
    with_kwargs: bool


class RemovableHandle:
    """Remove a hook again: by `remove()`, or at the end of a `with` block."""

    _next_id = 0

    def __init__(self, table: dict[int, Any]) -> None:
        self.id = RemovableHandle._next_id
        RemovableHandle._next_id += 1
        self._table = table

    def remove(self) -> None:
        """Take the hook off; a second call does nothing."""
        self._table.pop(self.id, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def add_hook(
    table: dict[int, Hook], call: Callable[..., Any], with_kwargs: bool, prepend: bool
) -> RemovableHandle:
    """Enter a hook as the last of `table`, or as the first."""
    handle = RemovableHandle(table)
    others = dict(table)
    if prepend:
        table.clear()
    table[handle.id] = Hook(call, with_kwargs)
    if prepend:
        table.update(others)
    return handle
