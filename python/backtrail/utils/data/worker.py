"""What runs in a worker process of a DataLoader: tasks come in, batches go out.

Large tensors do not go through the socket. They are written into one anonymous file in memory
(memfd) for each batch, whose descriptor is passed along: the receiver maps them as they lie.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import random as python_random
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing import parent_process
from queue import SimpleQueue
from typing import Any, NamedTuple

from ..._core import from_buffer, set_num_threads
from ...functions.random import manual_seed
from ...tensor import Tensor

_LARGE = 1 << 16  # bytes of a tensor from which on it is passed by memory
_ALIGNMENT = 64
_CAN_PASS_MEMORY = hasattr(os, "memfd_create")
# The element codes of memoryview; other dtypes are pickled whole.
_CODES = {"float32": "f", "float64": "d", "int64": "q", "int32": "i", "uint8": "B", "bool": "?"}


class WorkerInfo(NamedTuple):
    """What `get_worker_info` says in a worker: its number, how many there are, its seed, its copy
    of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """Return a description of this worker process, or None in the main process."""
    return _info


class Failure:
    """An exception of a worker, told with its traceback; `reraise` raises it in another process."""

    def __init__(self, error: BaseException, where: str) -> None:
        self.kind: type[BaseException] = type(error)
        self.where = where
        self.text = "".join(traceback.format_exception(type(error), error, error.__traceback__))

    def reraise(self) -> None:
        """Raise an exception of the same type whose message holds the worker's traceback."""
        message = f"Caught {self.kind.__name__} {self.where}.\nOriginal {self.text}"
        try:
            if issubclass(self.kind, KeyError):  # whose message is shown quoted otherwise
                error: BaseException = self.kind(_Verbatim(message))
            else:
                error = self.kind(message)
        except Exception:  # it takes other arguments
            raise RuntimeError(message) from None
        raise error


class _Verbatim(str):
    """A text whose repr is itself."""

    def __repr__(self) -> str:
        return self


class End:
    """Sent by a worker whose stream has ended."""


# ---- messages


class _Pickler(pickle.Pickler):
    """Sets large tensors aside; what is pickled names the place they will have."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.tensors: list[tuple[int, Tensor]] = []
        self.size = 0

    def persistent_id(self, obj: Any) -> Any:
        if type(obj) is not Tensor or obj.nbytes < _LARGE or obj.requires_grad:
            return None
        name = obj.dtype.name
        if name not in _CODES:
            return None
        place = self.size
        self.tensors.append((place, obj))
        self.size += -(-obj.nbytes // _ALIGNMENT) * _ALIGNMENT
        return place, obj.nbytes, name, tuple(obj.shape)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, memory: mmap.mmap | None) -> None:
        super().__init__(file)
        self._memory = memory

    def persistent_load(self, pid: Any) -> Tensor:
        place, nbytes, name, shape = pid
        assert self._memory is not None
        return _tensor_on(self._memory, place, nbytes, name).reshape(shape)


def _tensor_on(memory: mmap.mmap, place: int, nbytes: int, name: str) -> Tensor:
    code: Any = _CODES[name]
    return from_buffer(memoryview(memory)[place : place + nbytes].cast(code))


def send(channel: socket.socket, message: Any) -> None:
    """Send a message: its length and whether memory comes along, the memory, the rest."""
    file = io.BytesIO()
    pickler = _Pickler(file) if _CAN_PASS_MEMORY else pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
    pickler.dump(message)
    data = file.getbuffer()
    head = len(data).to_bytes(8, "little")
    if isinstance(pickler, _Pickler) and pickler.size:
        descriptor = os.memfd_create("backtrail-batch")
        try:
            os.ftruncate(descriptor, pickler.size)
            with mmap.mmap(descriptor, pickler.size) as memory:
                for place, tensor in pickler.tensors:
                    room = _tensor_on(memory, place, tensor.nbytes, tensor.dtype.name)
                    room.reshape(tensor.shape).copy_(tensor)
                    del room  # or the memory could not be closed
            socket.send_fds(channel, [head + b"m"], [descriptor])
        finally:
            os.close(descriptor)
    else:
        channel.sendall(head + b"-")
    channel.sendall(data)


def receive(channel: socket.socket) -> Any:
    """Return the next message; raises EOFError when the other side is gone."""
    head, descriptors, _, _ = socket.recv_fds(channel, 9, 1)
    while 0 < len(head) < 9:
        head += channel.recv(9 - len(head)) or b""
    if not head:
        raise EOFError
    memory = None
    if descriptors:
        try:
            memory = mmap.mmap(descriptors[0], 0)
        finally:
            os.close(descriptors[0])
    data = bytearray(int.from_bytes(head[:8], "little"))
    view, done = memoryview(data), 0
    while done < len(data):
        n = channel.recv_into(view[done:])
        if not n:
            raise EOFError
        done += n
    return _Unpickler(io.BytesIO(data), memory).load()


# ---- the process


def run(
    channel: socket.socket,
    others: list[socket.socket],
    dataset: Any,
    make_fetch: Callable[[Any], Callable[[Any], Any]],
    init: Callable[[int], Any] | None,
    number: int,
    of: int,
) -> None:
    """Answer tasks until the other side closes the channel.

    A task is ("epoch", seed) or (number, what to fetch); the answer to the latter is (number,
    result). `others` are ends of channels that a forked process has inherited.
    """
    global _info
    for other in others:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the main process, which ends us
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
    set_num_threads(1)
    tasks: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(channel, tasks), daemon=True).start()
    fetch: Any = None
    failure: Failure | None = None
    while (task := tasks.get()) is not None:
        kind, what = task
        if kind == "epoch":
            first = _info is None
            _info = WorkerInfo(number, of, what + number, dataset)
            try:
                _seed(_info.seed)
                if first and init is not None:
                    init(number)
                fetch = make_fetch(dataset)
            except Exception as error:
                failure = Failure(error, f"in DataLoader worker process {number}")
            continue
        result: Any = failure
        if failure is None:
            try:
                result = fetch(what)
            except StopIteration:
                result = End()
            except Exception as error:
                result = Failure(error, f"in DataLoader worker process {number}")
        try:
            _answer(channel, kind, result, number)
        except (BrokenPipeError, ConnectionResetError):
            return


def _answer(channel: socket.socket, kind: int, result: Any, number: int) -> None:
    try:
        send(channel, (kind, result))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # the batch, or the type of an exception, cannot be pickled
        failure = Failure(error, f"in DataLoader worker process {number}")
        if isinstance(result, Failure):
            failure = result
        failure.kind = RuntimeError
        send(channel, (kind, failure))


def _listen(channel: socket.socket, tasks: SimpleQueue[Any]) -> None:
    """Take tasks as they come, so that who sends them never waits for a batch to be taken."""
    parent = parent_process()
    channel.settimeout(None)
    try:
        while True:
            tasks.put(receive(channel))
    except (EOFError, OSError):
        tasks.put(None)
    if parent is not None and not parent.is_alive():
        os._exit(1)  # in the middle of a batch that nobody will take


def _seed(seed: int) -> None:
    manual_seed(seed)
    python_random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF])
