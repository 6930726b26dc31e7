"""Checkpoints as files: many writers, killed ones, modes, links, devices, FIFOs, streams."""

from __future__ import annotations

import io
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import backtrail as bt
import pytest
from backtrail.serialization import CheckpointError, check_writable, files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


# Many writers


def test_threads_that_save_to_one_path(path: Path) -> None:
    errors: list[BaseException] = []

    def save(value: float) -> None:
        try:
            for _ in range(15):
                bt.save(bt.full((3000,), value), path)
                found = set(bt.load(path).tolist())
                assert len(found) == 1  # of one writer, whole
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(float(i),)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(path.parent) == [path.name]


def test_temporary_names_are_new_each_time_and_name_the_host(path: Path) -> None:
    names = []
    for _ in range(2):
        name, file = files._make_temporary(str(path))
        names.append(name)
        file.close()
    assert names[0] != names[1]
    assert all(files._host() in name for name in names)
    assert all(os.path.dirname(name) == str(path.parent) for name in names)


def test_a_planted_link_is_not_followed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = path.parent / "victim"
    victim.write_text("as it was")
    tokens = iter(["0" * 16, "1" * 16])
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: next(tokens))
    planted = path.parent / f".{path.name}.{files._host()}-{'0' * 16}.tmp"
    planted.symlink_to(victim)
    bt.save([1], path)
    assert bt.load(path) == [1]
    assert victim.read_text() == "as it was"


def test_long_names(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127):
        bt.save([1], tmp_path / name)
        assert bt.load(tmp_path / name) == [1]
    with pytest.raises(OSError, match="name too long"):
        bt.save([1], tmp_path / ("x" * 256))


# Killed writers

KILLED = """
import os, signal, sys
import backtrail as bt
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
bt.save(bt.ones(1000), sys.argv[1])
"""


def test_what_a_killed_run_left_goes_with_the_next_save(path: Path) -> None:
    bt.save([1], path)
    mine = path.parent / f".{path.name}.notes.tmp"  # of the user, whatever it is
    mine.write_text("keep")
    killed = subprocess.run([sys.executable, "-c", KILLED, path], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert bt.load(path) == [1]
    assert len(os.listdir(path.parent)) == 3
    check_writable(path)
    bt.save([2], path)
    assert sorted(os.listdir(path.parent)) == sorted([path.name, mine.name])


def test_what_others_are_writing_stays(path: Path) -> None:
    name, file = files._make_temporary(str(path))  # locked, as by another process
    with file:
        bt.save([1], path)
        assert os.path.exists(name)
    bt.save([1], path)
    assert not os.path.exists(name)


def test_what_another_host_wrote_stays_for_an_hour(path: Path) -> None:
    there = path.parent / f".{path.name}.elsewhere-{'0' * 16}.tmp"
    there.write_text("half")
    bt.save([1], path)
    assert there.exists()
    os.utime(there, (time.time() - 4000,) * 2)
    bt.save([1], path)
    assert not there.exists()


# Modes and links


def test_the_mode_of_a_file_stays(path: Path) -> None:
    before = os.umask(0o022)
    try:
        bt.save([1], path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        for mode in (0o600, 0o664, 0o755):
            path.chmod(mode)
            bt.save([2], path)
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_no_one_sees_a_private_file_while_it_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bt.save([1], path)
    path.chmod(0o600)
    modes = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    bt.save([2], path)
    assert modes[0] == 0o600


def test_other_hard_links_keep_the_old_contents(path: Path) -> None:
    """As after any os.replace: a snapshot made of links stays what it was."""
    bt.save([1], path)
    os.link(path, path.parent / "snapshot")
    bt.save([2], path)
    assert bt.load(path) == [2]
    assert bt.load(path.parent / "snapshot") == [1]


def test_a_file_that_may_not_be_written_to_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bt.save([1], path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write to anything
    for write in (check_writable, lambda p: bt.save([2], p)):
        with pytest.raises(PermissionError, match=r"x\.safetensors.*may not be written"):
            write(path)
    assert bt.load(path) == [1]


def test_a_dangling_link_is_written_through(path: Path) -> None:
    path.symlink_to(path.parent / "real")
    bt.save([1], path)
    assert path.is_symlink()
    assert bt.load(path.parent / "real") == [1]


# What is no regular file


def test_devices_are_written_to_and_stay_devices(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    for device in ("/dev/null", link):
        check_writable(device)
        bt.save([1], device)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="No space left"):
        bt.save([1], "/dev/full")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_fifo_is_written_to(path: Path) -> None:
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    bt.save({"x": bt.arange(3)}, path)
    reader.join()
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert bt.load(io.BytesIO(got[0]))["x"].tolist() == [0, 1, 2]


def test_what_is_no_regular_file_is_not_read(path: Path) -> None:
    began = time.monotonic()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="is a FIFO, not a checkpoint"):
        bt.load(path)
    for device in ("/dev/zero", "/dev/null", "/dev/urandom"):
        with pytest.raises(CheckpointError, match="is a device, not a checkpoint"):
            bt.load(device)
    with pytest.raises(CheckpointError, match="is a folder, not a checkpoint"):
        bt.load(path.parent)
    assert time.monotonic() - began < 5


def test_a_huge_file_that_is_no_checkpoint_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of holes
    with pytest.raises(CheckpointError, match="does not start with a safetensors header"):
        bt.load(path)
    with path.open("r+b") as file:
        file.write((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="bytes follow the 0 bytes of tensors"):
        bt.load(path)


# Streams


class Drip(io.RawIOBase):
    """A stream that gives and takes a few bytes at a time."""

    def __init__(self, data: bytes = b"") -> None:
        self.data, self.at = bytearray(data), 0

    def read(self, size: int = -1) -> bytes:
        size = min(size, 7) if size >= 0 else 7
        self.at += size
        return bytes(self.data[self.at - size : self.at])

    def write(self, data: Any) -> int:
        self.data += data[:7]
        return min(7, len(data))


def test_streams_that_are_slow() -> None:
    out = Drip()
    bt.save({"a": bt.arange(100)}, out)
    assert bt.load(Drip(out.data))["a"].tolist() == list(range(100))
    with pytest.raises(CheckpointError, match="truncated"):
        bt.load(Drip(out.data[:-1]))
    with pytest.raises(CheckpointError, match="1 bytes follow"):
        bt.load(Drip(out.data + b"x"))


def test_a_stream_that_announces_more_than_it_has_takes_no_memory() -> None:
    head = b'{"w":{"dtype":"U8","shape":[1000000000000],"data_offsets":[0,1000000000000]}}'
    data = len(head).to_bytes(8, "little") + head + b"xx"
    with pytest.raises(CheckpointError, match="1000000000000 bytes of tensors are announced, 2"):
        bt.load(io.BytesIO(data))


def test_what_is_no_file_at_all() -> None:
    for thing in (None, 3, {"a": 1}):
        with pytest.raises(TypeError, match="save: expected a path or a file"):
            bt.save([1], thing)
        with pytest.raises(TypeError, match="load: expected a path or a file"):
            bt.load(thing)
    with pytest.raises(TypeError, match="gives str, not bytes; open it with 'rb'"):
        bt.load(io.StringIO("hello"))


def test_a_full_disk_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{path}'")):
        bt.save([2], path)
