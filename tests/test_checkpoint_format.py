"""Malformed and hostile checkpoints are told apart, whatever is wrong with them."""

from __future__ import annotations

import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import backtrail as bt
import pytest
from backtrail.serialization import CheckpointError


def pack(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with any header, sensible or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: Any = (2,), begin: Any = 0, end: Any = 8) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_runs_no_code(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "x.pt"
    file.write_bytes(pickle.dumps({"model": Bomb(), "pad": "x" * 300}, protocol))
    folder = os.getcwd()
    os.chdir(tmp_path)
    try:
        with pytest.raises(CheckpointError, match=r"x\.pt is not a readable checkpoint") as error:
            bt.load(file, weights_only=False)
    finally:
        os.chdir(folder)
    assert os.listdir(tmp_path) == ["x.pt"]
    if protocol >= 2:
        assert "it is a pickle" in str(error.value)


def test_truncated_anywhere(path: Path) -> None:
    bt.save({"model": {"w": bt.ones(40), "b": bt.ones(3)}, "step": 3}, path)
    data = path.read_bytes()
    for i in range(len(data)):  # at every 1/16th and everywhere else
        path.write_bytes(data[:i])
        with pytest.raises(CheckpointError, match="truncated" if i else "it is empty") as error:
            bt.load(path)
        assert str(path) in str(error.value)


def test_any_one_byte_changed_is_noticed(path: Path) -> None:
    """A CheckpointError, or the same contents: in the padding, or where the checksum's name was."""
    thing = {"model": {"w": bt.arange(4.0)}, "step": 3, "t": (1, math.nan)}
    bt.save(thing, path)
    data = path.read_bytes()
    quiet = 0
    for i in range(len(data)):
        for flip in (0x01, 0x20, 0xFF):
            damaged = bytearray(data)
            damaged[i] ^= flip
            path.write_bytes(damaged)
            try:
                back = bt.load(path)
            except CheckpointError:
                continue
            quiet += 1
            assert repr(back) == repr(thing), (i, flip)
    assert quiet <= 2 * len("backtrail.crc32")


def test_a_file_without_a_checksum_loads(path: Path) -> None:
    bt.save({"w": bt.arange(4.0), "n": [1, 2]}, path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]["backtrail.crc32"]
    path.write_bytes(pack(header, data[8 + length :]))
    assert bt.load(path)["w"].tolist() == [0, 1, 2, 3]
    header["__metadata__"]["backtrail.crc32"] = 7
    path.write_bytes(pack(header, data[8 + length :]))
    with pytest.raises(CheckpointError, match="it is damaged: its checksum is 7"):
        bt.load(path)


META = {"format": "backtrail 1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04" + b"\0" * 60, "it is a pickle"),
        (b"hello, I am a text file\n", "does not start with a safetensors header"),
        (b"\0" * 100, "does not start with a safetensors header"),
        (pack(b"{}", length=10**15), "does not start with a safetensors header"),
        (pack(b"{", length=50), "truncated: a header of 50 bytes is announced, 1 are there"),
        (pack(b'{"a": }'), "header is not valid JSON"),
        (pack(b'{"a": 1, "a": 1}'), "a name appears twice"),
        (pack(b'{"a": "\xff"}'), "header is not valid JSON"),
        (pack(b'{"a":' + b"[" * 100_000), "header is not valid JSON"),
        (pack({"w": 3}), "'w' lacks a dtype"),
        (pack({"w": {"dtype": "F32", "shape": [2]}}), "'w' lacks a dtype"),
        (pack({"w": entry(dtype="F8_E4M3")}), "'w' has dtype F8_E4M3; known are F64, F32"),
        (pack({"w": entry(shape=[-2])}), r"'w' has shape \[-2\]"),
        (pack({"w": entry(shape=[1.5])}), r"'w' has shape \[1.5\]"),
        (pack({"w": entry(shape="ab")}), "'w' lacks a dtype"),
        (pack({"w": entry(shape=[3])}, b"\0" * 8), "has 8 bytes, not 12"),
        (pack({"w": entry(end=-8)}), "has -8 bytes, not 8"),
        (pack({"w": entry(shape=[2**62, 2**62])}), "bytes, not"),
        (pack({"w": entry(shape=[0, 2**63], end=0)}), "which no tensor can have"),
        (pack({"w": entry(shape=[2**62, 2**62, 0], end=0)}), "which no tensor can have"),
        (pack({"w": entry(shape=[0, 2**31, 2**32], end=0)}), "which no tensor can have"),
        (pack({"w": entry(shape=[1] * 99, end=4)}, b"\0" * 4), "which no tensor can have"),
        (pack({"w": entry("BOOL", shape=[3], end=3)}, b"\1\2\0"), "other than 0 and 1"),
        (pack({"w": entry(shape=[2**60], end=2**62)}), "truncated"),
        (pack({"w": entry(begin=4, end=12)}, b"\0" * 12), "starts at byte 4, not 0"),
        (pack({"w": entry(), "v": entry(begin=4, end=12)}, b"\0" * 12), "starts at byte 4, not 8"),
        (pack({"w": entry()}, b"\0" * 9), "1 bytes follow"),
        (pack({"__metadata__": 3}), "metadata is not a table"),
        (pack({"__metadata__": {"format": "backtrail 9"}}), "format is 'backtrail 9'"),
        (pack({"__metadata__": META}), "structure is not valid JSON"),
        (pack({"__metadata__": {**META, "structure": "{"}}), "structure is not valid JSON"),
        (pack({"__metadata__": {**META, "structure": '{"tensor":"w"}'}}), "malformed .'w'"),
        (pack({"__metadata__": {**META, "structure": '{"what":1}'}}), "malformed"),
        (pack({"__metadata__": {**META, "structure": '{"dict":[[[],1]]}'}}), "malformed"),
        (pack({"__metadata__": {**META, "structure": '{"dict":[1]}'}}), "malformed"),
        (pack({"__metadata__": {**META, "structure": "[" * 9999}}), "structure is not valid JSON"),
    ],
)
def test_malformed_files(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        bt.load(path)
    assert str(path) in str(error.value)


def test_foreign_files_are_dicts_of_tensors(path: Path) -> None:
    path.write_bytes(pack({"b": entry(begin=8, end=16), "a": entry()}, b"\0" * 16))
    assert list(bt.load(path)) == ["b", "a"]
    path.write_bytes(pack({}))
    assert bt.load(path) == {}


def test_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        bt.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        bt.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="map_location='cuda': tensors live on the CPU"):
        bt.load(tmp_path, map_location="cuda")


@pytest.mark.parametrize(
    "node",
    [
        {"ndarray": "b", "dtype": "|O8", "shape": [1]},
        {"ndarray": "b", "dtype": "<f8", "shape": [-1]},
        {"ndarray": "b", "dtype": "<f8", "shape": [2**70]},
        {"ndarray": "b", "dtype": "<f8", "shape": [3]},
        {"ndarray": "b", "dtype": "<f9", "shape": [1]},
        {"ndarray": "b", "dtype": "<U99999999999", "shape": [1]},
        {"ndarray": "b", "dtype": "|V8", "shape": [1]},
        {"ndarray": "b", "dtype": 3, "shape": [1]},
        {"scalar": {"ndarray": "b"}},
        {"scalar": {"tensor": "b"}},
        {"dtype": "float99"},
        {"dtype": "os.system"},
        {"device": "abacus"},
        {"defaultdict": ["eval", []]},
        {"defaultdict": ["__import__", []]},
        {"range": [0, 1, 0]},
        {"range": ["a", 1, 1]},
        {"slice": [1]},
        {"complex": ["a", 1]},
        {"size": [[]]},
        {"size": ["a"]},
        {"set": [[1]]},
        {"set": [{"tensor": "b"}]},
        {"dict": [[{"tensor": "b"}, 1]]},
        {"dict": [[1, 2, 3]]},
        {"ordered": 3},
        {"bytes": "no"},
        {"tensor": "b", "requires_grad": True},
        {"tensor": "b", "requires_grad": True, "parameter": True},
        {"float": "1e5"},
        {},
    ],
)
def test_hostile_structures(path: Path, node: Any) -> None:
    structure = json.dumps({"dict": [["x", node]]})
    header = {
        "__metadata__": {"format": "backtrail 1", "structure": structure},
        "b": entry("U8", [8]),
    }
    path.write_bytes(pack(header, b"\1" * 8))
    with pytest.raises(CheckpointError, match="structure is malformed"):
        bt.load(path)


def test_a_name_in_the_metadata_that_lost_a_bit(path: Path) -> None:
    bt.save({"x": bt.ones(2)}, path)
    data = path.read_bytes()
    for name in (b"backtrail.crc32", b"structure", b"format"):
        at = data.index(b'"' + name + b'"') + 3
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(CheckpointError, match=r"it is damaged|not valid"):
            bt.load(path)
