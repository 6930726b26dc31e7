"""The batches of a run in order, and the place that it has reached in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from ..functions.random import default_generator

END: Any = object()  # instead of a batch, once after each pass

# Of a pass: the random state (seed, offset) at its beginning, which gives it its order, or None
# before its first batch; how many batches were taken from it; how many passes went before.
Place = tuple[tuple[int, int] | None, int, int]


class Batches:
    """The batches of a run: `take(step)` is the next one, or END where a pass is over."""

    def __init__(self, source: Callable[[int], Any] | Iterable[Any]) -> None:
        self.place: Place = None, 0, 0
        self.length: int | None = None  # of a pass, if known
        self._iterator: Iterator[Any] | None = None
        if callable(source):
            self._source: Iterable[Any] | None = None
            self.take: Callable[[int], Any] = source
            return
        if not isinstance(source, Iterable) and not hasattr(source, "__getitem__"):
            raise TypeError(
                "fit: batches must be a list, a DataLoader or another thing to go through, or a "
                f"function of the step; not {type(source).__name__}"
            )
        self._source, self.take = source, self._next
        with suppress(TypeError):
            self.length = len(source)  # type: ignore[arg-type]

    @property
    def has_passes(self) -> bool:
        """Whether there are passes: a function of the step has none."""
        return self._source is not None

    def _next(self, step: int) -> Any:
        iterator = self._iterator
        if iterator is None:
            iterator = self._begin()
        for batch in iterator:
            began, index, passes = self.place
            self.place = began, index + 1, passes
            return batch
        if self.place[1] == 0:
            raise ValueError(
                f"fit: the batches ended before step {step + 1}; give a list, a DataLoader, or a "
                "function of the step"
            )
        self._close()
        return END

    def _begin(self) -> Iterator[Any]:
        assert self._source is not None
        self.place = (default_generator._seed, default_generator._offset), 0, self.place[2]
        self._iterator = iter(self._source)
        return self._iterator

    def _close(self) -> None:
        self._iterator = None
        self.place = None, 0, self.place[2] + 1

    def is_over(self) -> bool:
        """Close a pass whose last batch was taken, where its length is known; say whether."""
        if self._iterator is None or self.place[1] != self.length:
            return False
        if next(self._iterator, END) is END:
            self._close()
            return True
        return False

    def go_to(self, place: Place) -> None:
        """Continue from a place, with the random state that its pass began with."""
        if not self.has_passes:
            return
        began, index, passes = place
        self.place = None, 0, passes
        if began is not None:
            default_generator._seed, default_generator._offset = began
            next(islice(self._begin(), index, index), None)  # skip
            self.place = began, index, passes
