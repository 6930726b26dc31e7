"""DataLoader: batches of a dataset, made where they are asked for or in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...functions.random import Generator, randint
from .collate import default_collate, default_convert
from .dataset import Dataset, IterableDataset, fetch_columns
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

if TYPE_CHECKING:
    from .workers import Workers

T_co = TypeVar("T_co", covariant=True)


class _Fetching:
    """How a batch is made: called with a dataset, gives the function from indices to a batch.

    For a stream that function takes the next batch, and raises StopIteration at the end.
    """

    def __init__(
        self, collate_fn: Any, batched: bool, streamed: bool, size: int | None, drop_last: bool
    ) -> None:
        self.collate_fn = collate_fn
        self.batched = batched
        self.streamed = streamed
        self.size = size
        self.drop_last = drop_last

    def __call__(self, dataset: Any) -> Callable[[Any], Any]:
        if self.streamed:
            return _next_of(self._stream(iter(dataset)))
        if self.batched:
            return partial(self._batch, dataset)
        return lambda index: self.collate_fn(dataset[index])

    def _batch(self, dataset: Any, indices: list[Any]) -> Any:
        if self.collate_fn is default_collate:
            columns = fetch_columns(dataset, indices)
            if columns is not None:
                return columns
        fetch_all = getattr(dataset, "__getitems__", None)
        if fetch_all is not None:
            return self.collate_fn(fetch_all(indices))
        return self.collate_fn([dataset[index] for index in indices])

    def _stream(self, samples: Iterator[Any]) -> Iterator[Any]:
        if self.size is None:
            yield from map(self.collate_fn, samples)
            return
        while batch := list(islice(samples, self.size)):
            if len(batch) == self.size or not self.drop_last:
                yield self.collate_fn(batch)


def _next_of(batches: Iterator[Any]) -> Callable[[Any], Any]:
    return lambda _: next(batches)


class DataLoader(Generic[T_co]):
    """Iterate over batches: lists of samples, collated by `collate_fn` (default_collate).

    `sampler` gives indices (`shuffle` picks a random one), `batch_sampler` lists of indices;
    batch_size=None yields single samples. `drop_last` leaves out a last batch that is short.
    With `num_workers` processes, batches are made ahead (`prefetch_factor` a worker, 2 by default)
    and come in the same order (`in_order=False`: as they are ready); each worker calls
    `worker_init_fn(number)` first, has a copy of the dataset and the seed that `get_worker_info`
    says. `persistent_workers` stay for the next pass. A batch that takes longer than `timeout`
    seconds (0: any time is right), a worker that dies, and an exception in a worker, with its
    traceback, are errors here. Pinned memory is accepted and has no effect on the CPU. Raises
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
        _check_workers(
            num_workers, timeout, prefetch_factor, persistent_workers, multiprocessing_context
        )
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
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        self._workers: Workers | None = None

    def __iter__(self) -> Iterator[Any]:
        # Drawn with and without workers, so that what follows does not depend on them.
        seed = int(randint(0, 2**62, (), generator=self.generator).item())
        streamed = isinstance(self.dataset, IterableDataset)
        batched = self.batch_sampler is not None
        make = _Fetching(self.collate_fn, batched, streamed, self.batch_size, self.drop_last)
        source: Any = self.batch_sampler if batched else self.sampler
        tasks = None if streamed else iter(() if source is None else source)
        if not self.num_workers:
            fetch = make(self.dataset)
            return _all_of(fetch) if tasks is None else map(fetch, tasks)
        from .workers import Batches, Workers

        workers = self._workers
        if workers is None or not workers.alive:
            workers = Workers(
                self.num_workers,
                self.dataset,
                make,
                self.worker_init_fn,
                self.multiprocessing_context,
            )
            self._workers = workers if self.persistent_workers else None
        ahead = self.prefetch_factor or 0
        close = not self.persistent_workers
        return Batches(workers, seed, tasks, ahead, self.timeout, self.in_order, close)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_workers": None}

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


def _all_of(fetch: Callable[[Any], Any]) -> Iterator[Any]:
    while True:
        try:
            batch = fetch(None)
        except StopIteration:
            return
        yield batch


def _check_workers(
    num_workers: int,
    timeout: float,
    prefetch_factor: int | None,
    persistent_workers: bool,
    multiprocessing_context: Any,
) -> None:
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
        raise ValueError(f"DataLoader: num_workers must be 0 or more, got {num_workers!r}")
    if timeout < 0:
        raise ValueError(f"DataLoader: timeout must be 0 or more seconds, got {timeout}")
    if num_workers:
        if prefetch_factor is not None and prefetch_factor < 1:
            raise ValueError(
                f"DataLoader: prefetch_factor must be 1 or more, got {prefetch_factor}"
            )
        return
    for name, given in (
        ("prefetch_factor", prefetch_factor is not None),
        ("persistent_workers", persistent_workers),
        ("multiprocessing_context", multiprocessing_context is not None),
    ):
        if given:
            raise ValueError(f"DataLoader: {name} needs num_workers > 0")
