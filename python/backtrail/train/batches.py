"""The batches of a run in order, and the place that it has reached in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from ..functions.random import get_rng_state, set_rng_state
from ..tensor import Tensor


class Batches:
    """The batches of a run in order, and the place that the run has reached in them."""

    def __init__(self, source: Callable[[int], Any] | Iterable[Any]) -> None:
        self.source = source
        self.iterator: Iterator[Any] | None = None
        self.random_state: Tensor | None = None  # when this pass began: it gives the pass its order
        self.index = 0  # batches taken from this pass

    def __call__(self, step: int) -> Any:
        """Return the batch of `step`, starting the next pass when one ends."""
        if callable(self.source):
            return self.source(step)
        for _ in range(2):
            if self.iterator is None:
                self.random_state, self.index = get_rng_state(), 0
                self.iterator = iter(self.source)
            for batch in self.iterator:
                self.index += 1
                return batch
            self.iterator = None
        raise ValueError(
            f"fit: the batches ended before step {step + 1}; give a list, a DataLoader, or a "
            "function of the step"
        )

    def state_dict(self) -> dict[str, Any] | None:
        if self.random_state is None:
            return None
        return {"random_state": self.random_state, "index": self.index}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        if state is None or callable(self.source):
            return
        self.random_state, self.index = state["random_state"], state["index"]
        set_rng_state(self.random_state)
        self.iterator = iter(self.source)
        next(islice(self.iterator, self.index, self.index), None)  # skip
