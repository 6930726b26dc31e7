"""The worker processes of a DataLoader, seen from the process that asks them for batches."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import selectors
import socket
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from . import worker

_PATIENCE = 5.0  # seconds that workers have to end before they are made to


class Workers:
    """`n` processes with a copy of the dataset each; they end with this object."""

    def __init__(
        self,
        n: int,
        dataset: Any,
        make_fetch: Callable[[Any], Callable[[Any], Any]],
        init: Callable[[int], Any] | None,
        context: Any,
    ) -> None:
        if context is None or isinstance(context, str):
            context = multiprocessing.get_context(context)
        forks = context.get_start_method() == "fork"
        self.epoch = 0
        self.channels: list[socket.socket] = []
        self.processes: list[Any] = []
        self._end = weakref.finalize(self, _end, os.getpid(), self.channels, self.processes)
        for number in range(n):
            ours, theirs = socket.socketpair()
            self.channels.append(ours)
            inherited = list(self.channels) if forks else []
            process = context.Process(
                target=worker.run,
                args=(theirs, inherited, dataset, make_fetch, init, number, n),
                name=f"DataLoader worker {number}",
                daemon=True,
            )
            process.start()
            self.processes.append(process)
            theirs.close()

    @property
    def alive(self) -> bool:
        """Whether the processes were not ended."""
        return self._end.alive

    def close(self) -> None:
        """End the processes; once is enough."""
        self._end()

    def stop(self) -> None:
        """End the processes without waiting for what they are doing."""
        for process in self.processes:
            if process.is_alive():
                process.terminate()
        self._end()

    def begin(self, seed: int) -> int:
        """Begin an epoch and return its number: worker i is seeded with seed + i."""
        self.epoch += 1
        for number in range(len(self.channels)):
            self.ask(number, ("epoch", seed))
        return self.epoch

    def ask(self, number: int, task: Any) -> None:
        """Give a worker a task."""
        try:
            worker.send(self.channels[number], task)
        except OSError:
            self._dead(number)

    def answers(self, timeout: float) -> Iterator[tuple[int, Any]]:
        """Yield (worker, message) as they come, without end.

        Raises RuntimeError when none comes within `timeout` seconds (0: wait on), or when a worker
        is gone.
        """
        with selectors.DefaultSelector() as selector:
            for number, channel in enumerate(self.channels):
                selector.register(channel, selectors.EVENT_READ, number)
            while True:
                ready = selector.select(timeout or None)
                if not ready:
                    raise RuntimeError(f"DataLoader timed out after {timeout:g} seconds")
                for key, _ in ready:
                    try:
                        message = worker.receive(self.channels[key.data])
                    except (EOFError, OSError):
                        self._dead(key.data)
                    yield key.data, message

    def _dead(self, number: int) -> None:
        process = self.processes[number]
        process.join(1.0)
        code = process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        self.close()
        raise RuntimeError(
            f"DataLoader worker {number} (pid {process.pid}) exited unexpectedly, {how}"
        ) from None


class Batches:
    """Iterate over the batches that workers make of `tasks`, in the order of these or as they come.

    For streams `tasks` is None: each worker is asked until its stream ends. `ahead` tasks a worker
    are given out before their batches are asked for. `close` ends the workers with the iteration.
    """

    def __init__(
        self,
        workers: Workers,
        seed: int,
        tasks: Iterator[Any] | None,
        ahead: int,
        timeout: float,
        in_order: bool,
        close: bool,
    ) -> None:
        self._workers = workers
        self._epoch = workers.begin(seed)
        self._tasks = tasks
        self._timeout = timeout
        self._in_order = in_order
        self._close = close
        self._active = list(range(len(workers.channels)))  # who still has something to give
        self._turn = 0
        self._given = 0  # tasks given out
        self._next = 0  # the batch to be yielded next
        self._waiting: dict[int, int] = {}  # task -> worker
        self._done: dict[int, Any] = {}
        self._answers = workers.answers(timeout)
        self._timed_out = False
        for _ in range(ahead * len(self._active)):
            self._give()

    def _give(self) -> None:
        """Give the next task, if there is one, to the next worker."""
        if not self._active:
            return
        what = None
        if self._tasks is not None:
            try:
                what = next(self._tasks)
            except StopIteration:
                self._active = []
                return
        number = self._active[self._turn % len(self._active)]
        self._turn += 1
        self._workers.ask(number, ((self._epoch, self._given), what))
        self._waiting[self._given] = number
        self._given += 1

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Any:
        try:
            return self._take()
        except BaseException as error:
            failed = not isinstance(error, (StopIteration, Exception)) or self._timed_out
            if failed:
                self._workers.stop()
            elif self._close:
                self._workers.close()
            self._waiting.clear()
            self._done.clear()
            self._active = []
            raise

    def _take(self) -> Any:
        while self._waiting or self._done:
            if self._in_order:
                if self._next in self._done:
                    result = self._done.pop(self._next)
                    self._next += 1
                elif self._next in self._waiting:
                    self._receive()
                    continue
                else:
                    self._next += 1
                    continue
            elif self._done:
                result = self._done.pop(next(iter(self._done)))
            else:
                self._receive()
                continue
            if isinstance(result, worker.End):
                continue
            self._give()
            if isinstance(result, worker.Failure):
                result.reraise()
            return result
        raise StopIteration

    def _receive(self) -> None:
        """Wait for an answer of this epoch."""
        if self._workers.epoch != self._epoch:
            raise RuntimeError("DataLoader: another pass over its persistent workers has begun")
        self._timed_out = True  # unless something comes
        for number, ((epoch, task), result) in self._answers:
            self._timed_out = False
            if epoch != self._epoch or task not in self._waiting:
                continue  # of a pass that was left before its end
            del self._waiting[task]
            self._done[task] = result
            if isinstance(result, worker.End) and number in self._active:
                turn = self._active.index(number)
                self._active.remove(number)
                self._turn = turn if self._active else 0
                self._give()
            return


def _end(owner: int, channels: list[socket.socket], processes: list[Any]) -> None:
    if os.getpid() != owner:  # a forked copy
        return
    for channel in channels:
        with contextlib.suppress(OSError):
            channel.close()  # which tells the worker
    until = time.monotonic() + _PATIENCE
    for stop in (None, "terminate", "kill"):
        for process in processes:
            if stop is not None and process.is_alive():
                getattr(process, stop)()
        for process in processes:
            process.join(max(0.05, until - time.monotonic()))
