"""Files that are whole or as they were: temporary names, renames, and what is no regular file.

A file is written under a temporary name beside its target, synced, and renamed. Whoever writes
holds a lock on the temporary file. A lock dies with its process, so that the next save to the same
path can tell what a killed run left behind, and removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from typing import IO, Any

from .errors import CheckpointError

_ABANDONED = 3600  # seconds without a write, for what another host may still be writing


def open_to_read(path: str) -> IO[bytes]:
    """Open a regular file; anything else is refused without waiting for it or reading from it."""
    # Not to wait for a writer of a FIFO; a regular file is read as ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise CheckpointError(f"load: {path} is {_kind(mode)}, not a checkpoint")
    return open(descriptor, "rb")


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError if `save` could not write `path`; the file itself is left as it is."""
    path = os.fsdecode(path)
    try:
        folder, old = _look(path)
        if old is not None and not stat.S_ISREG(old.st_mode):
            return
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"cannot write {path}: there is no folder {folder}")
        temporary, file = _make_temporary(os.path.realpath(path))
        file.close()
        os.unlink(temporary)
    except OSError as error:
        if error.strerror is None:  # one of ours
            raise
        raise OSError(f"cannot write {path}: {error.strerror}") from None


def write_file(path: str, write: Callable[[IO[bytes]], None]) -> None:
    """Let `write` fill the file at `path`, which holds the old or the new contents at any moment.

    Links are followed. A file that is there keeps its mode and, as far as may be, its owner; its
    other hard links keep the old contents, as after any `os.replace`. What is no regular file, such
    as /dev/null or a FIFO, is written to and stays what it is.
    """
    _, old = _look(path)
    if old is not None and not stat.S_ISREG(old.st_mode):
        with open(path, "wb") as device:
            write(device)
        return
    target = os.path.realpath(path)
    _remove_abandoned(target)
    temporary, file = _make_temporary(target)
    try:
        with file:
            if old is not None:
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    with contextlib.suppress(OSError):
                        os.fchown(file.fileno(), old.st_uid, old.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode) & 0o777)
            write(file)
            file.flush()
            os.fsync(file.fileno())  # the bytes are on disk before the name points at them
            os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = path  # of a full disk
        raise
    folder = os.open(os.path.dirname(target), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # the rename itself is on disk once its folder is
    finally:
        os.close(folder)


def _look(path: str) -> tuple[str, os.stat_result | None]:
    """Return the folder of a path, and what is there; raise where no file can be put."""
    folder = os.path.dirname(path) or "."
    try:
        old = os.stat(path)
    except FileNotFoundError:
        return folder, None
    except NotADirectoryError:
        raise FileNotFoundError(f"cannot write {path}: there is no folder {folder}") from None
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    if not os.access(path, os.W_OK):  # a rename would not ask
        raise PermissionError(f"cannot write {path}: it is there, and may not be written to")
    return folder, old


def _kind(mode: int) -> str:
    for test, kind in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return kind
    return "a device"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", os.uname().nodename)[:32] or "host"


def _temporary_stem(target: str) -> tuple[str, str]:
    """Return the folder of a target and how its temporary names begin."""
    folder, name = os.path.split(target)
    while len(os.fsencode(name)) > 128:  # a file's name has 255 bytes at most
        name = name[:-1]
    return folder, f".{name}."


def _make_temporary(target: str) -> tuple[str, IO[bytes]]:
    """Create a file beside `target`, which no other thread, process or host has; it is locked."""
    folder, stem = _temporary_stem(target)
    mode = 0o600 if os.path.exists(target) else 0o666  # the old file's mode comes with its owner
    while True:
        temporary = os.path.join(folder, f"{stem}{_host()}-{secrets.token_hex(8)}.tmp")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(temporary, flags, mode)
        except FileExistsError:
            continue
        file = os.fdopen(descriptor, "wb")
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return temporary, file
        file.close()  # taken for abandoned before it was locked


def _remove_abandoned(target: str) -> None:
    """Remove the temporary files of runs that were killed while they wrote `target`."""
    folder, stem = _temporary_stem(target)
    pattern = re.compile(re.escape(stem) + r"(?:([A-Za-z0-9-]+)-[0-9a-f]{16}|\d+)\.tmp")
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            found = pattern.fullmatch(name) if name.startswith(stem) else None
            if found:
                _remove_if_abandoned(os.path.join(folder, name), found[1] == _host())


def _remove_if_abandoned(temporary: str, ours: bool) -> None:
    """Remove a file that no one has locked; another host's lock may not be seen here."""
    with contextlib.suppress(OSError):  # in use, gone, of another user
        descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            there = os.fstat(descriptor)
            if stat.S_ISREG(there.st_mode) and (ours or there.st_mtime < time.time() - _ABANDONED):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(temporary)
        finally:
            os.close(descriptor)


def write_stream(file: Any, pieces: list[bytes]) -> None:
    """Write all pieces to a stream that may take less than it is given."""
    for piece in pieces:
        written = file.write(piece)
        while written is not None and written < len(piece):
            piece = piece[written:]
            written = file.write(piece)
