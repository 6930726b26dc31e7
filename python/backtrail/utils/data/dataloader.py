"""DataLoader: batches of a dataset, fetched in the process that asks for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import Any, Generic, TypeVar

from ...functions.random import Generator
from .collate import default_collate, default_convert
from .dataset import Dataset, IterableDataset, fetch_columns
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

T_co = TypeVar("T_co", covariant=True)

_warned_of_workers = False


def _warn_of_workers(num_workers: int) -> None:
    global _warned_of_workers
    if num_workers > 0 and not _warned_of_workers:
        _warned_of_workers = True
        warnings.warn(
            f"DataLoader: num_workers={num_workers} has no effect, samples are fetched in the "
            "main process; pass num_workers=0 to say so",
            stacklevel=3,
        )


def get_worker_info() -> None:
    """Return None: there are no worker processes."""


class DataLoader(Generic[T_co]):
    """Iterate over batches: lists of samples, collated by `collate_fn` (default_collate).

    `sampler` gives indices (`shuffle` picks a random one), `batch_sampler` lists of indices;
    batch_size=None yields single samples. `drop_last` leaves out a last batch that is short.
    What concerns worker processes and pinned memory is accepted and has no effect. Raises
    ValueError for options that exclude each other.
    """

    def __init__(
        self,
        dataset: Dataset[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        if num_workers < 0:
            raise ValueError(f"DataLoader: num_workers must be 0 or more, got {num_workers}")
        _warn_of_workers(num_workers)
        streamed = isinstance(dataset, IterableDataset)
        if streamed and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError(
                "DataLoader: an IterableDataset gives its own order; expected no shuffle, sampler "
                "or batch_sampler"
            )
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "DataLoader: batch_sampler option is mutually exclusive with batch_size, "
                    "shuffle, sampler, and drop_last"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("DataLoader: batch_size=None is mutually exclusive with drop_last")
        if sampler is None and not streamed:
            if shuffle:
                sampler = RandomSampler(_sized(dataset), generator=generator)
            else:
                sampler = SequentialSampler(_sized(dataset))
        if batch_size is not None:
            # Made for a stream as well, where it only checks the size.
            made = BatchSampler(() if sampler is None else sampler, batch_size, drop_last)
            batch_sampler = None if streamed else made
        if collate_fn is None:
            batched = batch_size is not None or batch_sampler is not None
            collate_fn = default_collate if batched else default_convert

        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.generator = generator
        self.collate_fn = collate_fn
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.prefetch_factor = prefetch_factor
        self.persistent_workers = persistent_workers

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.dataset, IterableDataset):
            return self._stream(iter(self.dataset))
        if self.batch_sampler is not None:
            return map(self._fetch, self.batch_sampler)
        indices = self.sampler if self.sampler is not None else ()
        return (self.collate_fn(self.dataset[index]) for index in indices)  # type: ignore[arg-type]

    def _fetch(self, indices: list[Any]) -> Any:
        dataset = self.dataset
        if self.collate_fn is default_collate:
            columns = fetch_columns(dataset, indices)
            if columns is not None:
                return columns
        fetch_all = getattr(dataset, "__getitems__", None)
        if fetch_all is not None:
            return self.collate_fn(fetch_all(indices))
        return self.collate_fn([dataset[index] for index in indices])

    def _stream(self, samples: Iterator[Any]) -> Iterator[Any]:
        if self.batch_size is None:
            yield from map(self.collate_fn, samples)
            return
        while batch := list(islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield self.collate_fn(batch)

    def __len__(self) -> int:
        """Return the number of batches; TypeError where the dataset or sampler has no length."""
        if isinstance(self.dataset, IterableDataset):
            size = len(_sized(self.dataset))
            if self.batch_size is None:
                return size
            return size // self.batch_size if self.drop_last else -(-size // self.batch_size)
        return len(self.batch_sampler if self.batch_sampler is not None else self.sampler)  # type: ignore[arg-type]


def _sized(dataset: Dataset[Any]) -> Sized:
    return dataset  # type: ignore[return-value]  # Dataset leaves __len__ to its subclasses
