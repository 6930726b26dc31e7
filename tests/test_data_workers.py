"""Worker processes of a DataLoader: the same batches, errors that tell, and nothing left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import backtrail as bt
import pytest
from backtrail.utils import data


class Pictures(data.Dataset[Any]):
    """Large enough to be passed by memory: 8,000 floats a sample."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> Any:
        return {"x": bt.full((20, 400), float(index)), "i": index, "name": f"n{index}"}


class Stream(data.IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        info = data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(first, 21, step))


class Odd(data.Dataset[Any]):
    """Does what `acts` says for its index."""

    def __init__(self, acts: dict[int, Any]) -> None:
        self.acts = acts

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return self.acts[index]() if index in self.acts else index


class Draws(data.Dataset[Any]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[float, float, int]:
        info = data.get_worker_info()
        return bt.rand(()).item(), random.random(), -1 if info is None else info.seed


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_the_same_batches_in_the_same_order(context: str) -> None:
    bt.manual_seed(3)
    want = list(data.DataLoader(Pictures(), batch_size=4, shuffle=True))
    bt.manual_seed(3)
    loader = data.DataLoader(
        Pictures(), batch_size=4, shuffle=True, num_workers=2, multiprocessing_context=context
    )
    found = list(loader)
    assert len(found) == len(loader) == 6
    for a, b in zip(want, found, strict=True):
        assert a["x"].equal(b["x"])
        assert a["i"].tolist() == b["i"].tolist()
        assert a["name"] == b["name"]
        b["x"] += 1  # memory of the batch's own


def test_later_random_numbers_do_not_depend_on_workers() -> None:
    after = []
    for workers in (0, 1, 3):
        bt.manual_seed(5)
        list(data.DataLoader(list(range(9)), shuffle=True, num_workers=workers))  # type: ignore[arg-type]
        after.append(bt.rand(3).tolist())
    assert after[0] == after[1] == after[2]


def test_seeds_are_those_of_the_loader_s_generator() -> None:
    def draws(seed: int) -> list[Any]:
        generator = bt.Generator().manual_seed(seed)
        loader = data.DataLoader(Draws(), batch_size=None, num_workers=2, generator=generator)
        return [list(loader), list(loader)]

    first, again, other = draws(1), draws(1), draws(2)
    assert first == again
    assert first != other
    assert first[0] != first[1], "each pass has a seed of its own"
    seeds = {seed for _, _, seed in first[0]}
    assert len(seeds) == 2
    assert max(seeds) == min(seeds) + 1
    assert len({x for x, _, _ in first[0]}) == 4


def test_streams_are_read_by_every_worker_to_its_end() -> None:
    loader = data.DataLoader(Stream(), batch_size=4, num_workers=3)
    batches = [batch.tolist() for batch in loader]
    assert sorted(i for batch in batches for i in batch) == list(range(21))
    assert batches[:3] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert data.get_worker_info() is None
    one = data.DataLoader(Stream(), batch_size=4, num_workers=1, drop_last=True)
    assert [b.tolist() for b in one] == [list(range(i, i + 4)) for i in range(0, 20, 4)]


def _refuse() -> None:
    raise KeyError("no seven")


class _Picky(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def _pick() -> None:
    raise _Picky(1, 2)


def _die() -> None:
    os._exit(3)


def _sleep() -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (
            _refuse,
            KeyError,
            r"in DataLoader worker process \d\.\nOriginal Traceback(.|\n)*no seven",
        ),
        (_pick, RuntimeError, r"Caught _Picky in DataLoader worker(.|\n)*1 and 2"),
        (_die, RuntimeError, r"worker 1 \(pid \d+\) exited unexpectedly, with exit code 3"),
        (_sleep, RuntimeError, r"timed out after 0.5 seconds"),
        (lambda: lambda: 0, RuntimeError, r"worker process(.|\n)*pickle"),
    ],
    ids=["raises", "raises its own", "dies", "hangs", "gives what cannot be sent"],
)
def test_errors_tell_what_happened(act: Any, kind: type[Exception], text: str) -> None:
    loader = data.DataLoader(
        Odd({7: act}),
        batch_size=4,
        num_workers=2,
        timeout=0.5 if act is _sleep else 0,
        collate_fn=list,
        multiprocessing_context="fork",
    )
    batches = iter(loader)
    assert next(batches) == [0, 1, 2, 3]
    start = time.monotonic()
    with pytest.raises(kind, match=text):
        next(batches)
    assert time.monotonic() - start < 10


def test_what_a_worker_starts_with() -> None:
    def init(number: int) -> None:
        info = data.get_worker_info()
        assert info is not None
        info.dataset.acts[number] = lambda: 100 + number

    loader = data.DataLoader(
        Odd({}), batch_size=None, num_workers=2, worker_init_fn=init, multiprocessing_context="fork"
    )
    found = list(loader)
    assert found == [100, 101, *range(2, 12)]
    assert bt.get_num_threads() >= 1


def test_a_failing_start_is_told() -> None:
    def init(number: int) -> None:
        raise OSError("no disk")

    loader = data.DataLoader(
        Odd({}), num_workers=1, worker_init_fn=init, multiprocessing_context="fork"
    )
    with pytest.raises(OSError, match=r"worker process 0(.|\n)*no disk"):
        list(loader)


def test_persistent_workers_stay() -> None:
    class Who(data.Dataset[int]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> int:
            return os.getpid()

    def pids(loader: Any) -> set[int]:
        return {p for batch in loader for p in batch.tolist()}

    for persistent in (False, True):
        loader = data.DataLoader(
            Who(),
            batch_size=2,
            num_workers=2,
            persistent_workers=persistent,
            multiprocessing_context="fork",
        )
        next(iter(loader))  # left before its end: what was made ahead is not seen later
        first, second = pids(loader), pids(loader)
        assert os.getpid() not in first
        assert len(first) == 2
        assert (first == second) == persistent
    gone = list(first)
    del loader
    assert not any(_is_running(pid) for pid in gone)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_batches_as_they_come() -> None:
    loader = data.DataLoader(
        Odd({0: lambda: time.sleep(0.4) or 0}),
        batch_size=3,
        num_workers=2,
        in_order=False,
        multiprocessing_context="fork",
    )
    batches = [batch.tolist() for batch in loader]
    assert batches[0] == [3, 4, 5]
    assert sorted(i for batch in batches for i in batch) == list(range(12))


PROGRAM = """
import os, sys, time
from backtrail.utils import data
class D(data.Dataset):
    def __len__(self): return 1000
    def __getitem__(self, i):
        time.sleep(0.01)
        return os.getpid()
if __name__ == "__main__":
    for k, batch in enumerate(data.DataLoader(D(), batch_size=4, num_workers=2)):
        if k < 2:
            print(*batch.tolist()[:1], flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(how: signal.Signals) -> None:
    main = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert main.stdout is not None
    workers = [int(main.stdout.readline()) for _ in range(2)]
    assert len(set(workers)) == 2
    if how is signal.SIGINT:
        os.killpg(main.pid, how)  # as a terminal does
    else:
        main.send_signal(how)
    _, errors = main.communicate(timeout=20)
    assert main.returncode != 0
    until = time.monotonic() + 10
    while any(map(_is_running, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(_is_running, workers))
    assert errors.count("Traceback") <= 1, errors


def test_options_that_need_workers() -> None:
    for name, value in (
        ("prefetch_factor", 2),
        ("persistent_workers", True),
        ("multiprocessing_context", "fork"),
    ):
        with pytest.raises(ValueError, match=f"{name} needs num_workers > 0"):
            data.DataLoader([1], **{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_workers must be 0 or more"):
        data.DataLoader([1], num_workers=-1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout must be 0 or more"):
        data.DataLoader([1], timeout=-1)  # type: ignore[arg-type]


def test_a_sampler_of_more_than_fits_anywhere() -> None:
    sampler = data.RandomSampler([1, 2, 3], replacement=True, num_samples=10**10)  # type: ignore[arg-type]
    assert len(sampler) == 10**10
    draws = iter(sampler)
    assert {next(draws) for _ in range(100)} == {0, 1, 2}


def test_stacked_datasets() -> None:
    both = data.StackDataset(a=[1, 2], b=["x", "y"])  # type: ignore[arg-type]
    assert both[1] == {"a": 2, "b": "y"}
    assert data.StackDataset([1, 2], [3, 4])[0] == (1, 3)  # type: ignore[arg-type]
    assert len(both) == 2
    with pytest.raises(ValueError, match="same length"):
        data.StackDataset([1], [1, 2])  # type: ignore[arg-type]
