"""Checkpoints: what goes in comes out, files are whole or absent, bad ones are told apart."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backtrail as bt
import pytest
from backtrail import serialization
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


DTYPES = [bt.float32, bt.float64, bt.int64, bt.int32, bt.uint8, bt.bool, bt.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)], ids=str)
def test_tensors_come_back(path: Path, dtype: bt.dtype, shape: tuple[int, ...]) -> None:
    x = bt.arange(math.prod(shape), dtype=bt.float32).reshape(shape).to(dtype)
    bt.save(x, path)
    y = bt.load(path)
    assert (y.dtype, tuple(y.shape), y.tolist()) == (dtype, shape, x.tolist())


def test_bits_of_floats_come_back(path: Path) -> None:
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1, 1e308]
    bt.save({"t": bt.tensor(values, dtype=bt.float64), "l": values}, path)
    back = bt.load(path)
    assert repr(back["t"].tolist()) == repr(back["l"]) == repr(values)


def test_structure_comes_back(path: Path) -> None:
    thing = {
        "list": [1, [2.5, "x", None, True, False], ()],
        3: {"tuple": (1, ("a",)), None: "none", 2.5: 0, "": {}},
        "tensor": "a string named tensor",
        "dict": {"dict": [["a", 1]]},
        "big": 10**30,
        "text": 'ümläut "quoted" \n\u2028',
    }
    bt.save(thing, path)
    assert bt.load(path) == thing


def test_views_are_saved_by_value(path: Path) -> None:
    x = bt.arange(12.0).reshape(3, 4)
    bt.save([x.T, x[1], x[:, ::2]], path)
    assert [t.tolist() for t in bt.load(path)] == [x.T.tolist(), x[1].tolist(), x[:, ::2].tolist()]


def test_shared_tensors_stay_shared(path: Path) -> None:
    x, empty = bt.ones(1000), bt.empty(0)
    bt.save({"a": x, "b": x.detach(), "part": x[:10], "e": empty, "f": empty.clone()}, path)
    assert path.stat().st_size < 6000
    back = bt.load(path)
    back["a"].zero_()
    assert back["b"].sum().item() == 0
    assert back["part"].sum().item() == 10


def test_requires_grad_comes_back(path: Path) -> None:
    bt.save([bt.ones(2, requires_grad=True), bt.ones(2)], path)
    assert [t.requires_grad for t in bt.load(path)] == [True, False]


def test_colliding_names(path: Path) -> None:
    thing = {"a": {"b": bt.ones(1)}, "a.b": bt.zeros(2), "__metadata__": bt.ones(3)}
    bt.save(thing, path)
    back = bt.load(path)
    assert back["a"]["b"].tolist() == [1]
    assert back["a.b"].tolist() == [0, 0]
    assert back["__metadata__"].tolist() == [1, 1, 1]


def test_a_model_and_its_optimizer(path: Path) -> None:
    def build() -> tuple[bt.nn.Module, Any]:
        model = bt.nn.Sequential(bt.nn.Linear(3, 4), bt.nn.Linear(4, 1))
        return model, bt.optim.Adam(model.parameters(), lr=0.1)

    def step(model: bt.nn.Module, optimizer: Any) -> list[Any]:
        optimizer.zero_grad()
        model(bt.ones(2, 3)).sum().backward()
        optimizer.step()
        return [p.tolist() for p in model.parameters()]

    model, optimizer = build()
    step(model, optimizer)
    bt.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    again, optimizer_again = build()
    state = bt.load(path, map_location="cpu", weights_only=False)
    again.load_state_dict(state["model"])
    optimizer_again.load_state_dict(state["optimizer"])
    assert step(model, optimizer) == step(again, optimizer_again)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_go_to_other_processes(dtype: bt.dtype) -> None:
    x = bt.arange(6.0).reshape(2, 3).to(dtype).T
    if dtype.is_floating_point:
        x.requires_grad_()
    y = pickle.loads(pickle.dumps(x))
    assert type(y) is bt.Tensor
    assert (y.dtype, tuple(y.shape), y.tolist()) == (dtype, (3, 2), x.tolist())
    assert y.requires_grad == x.requires_grad
    parameter = pickle.loads(pickle.dumps(bt.nn.Parameter(bt.ones(2))))
    assert type(parameter) is bt.nn.Parameter
    assert parameter.requires_grad


def test_streams(path: Path) -> None:
    stream = io.BytesIO()
    bt.save({"a": bt.ones(2)}, stream)
    stream.seek(0)
    assert bt.load(stream)["a"].tolist() == [1, 1]
    with pytest.raises(CheckpointError, match=r"the stream .* is empty"):
        bt.load(io.BytesIO())


def test_other_programs_read_and_write_the_files(path: Path) -> None:
    pytest.importorskip("numpy")
    numpy_format = pytest.importorskip("safetensors.numpy")
    small = bt.tensor([True, False, True])  # before the floats it would put them out of alignment
    bt.save({"small": small, "w.weight": bt.arange(6.0).reshape(2, 3)}, path)
    arrays = numpy_format.load_file(path)
    assert arrays["w.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["small"].tolist() == [True, False, True]

    numpy_format.save_file(arrays, path, metadata={"format": "pt"})
    back = bt.load(path)
    assert {name: t.tolist() for name, t in back.items()} == {
        name: a.tolist() for name, a in arrays.items()
    }


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ({"a": [1, object()]}, r"a\.1 is of type object; a checkpoint holds tensors"),
        (bt.nn.Linear(1, 1), r"the object is of type Linear.*save its state_dict\(\)"),
        ({"a": {(1, 2): 3}}, "a has a key of type tuple"),
        (print, "the object is of type builtin_function_or_method"),
    ],
)
def test_what_cannot_be_saved(path: Path, thing: object, message: str) -> None:
    path.write_text("as it was")
    with pytest.raises(TypeError, match=message):
        bt.save(thing, path)
    assert path.read_text() == "as it was"


def test_an_object_that_contains_itself(path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="contains itself"):
        bt.save(loop, path)


# Whole or not there


def test_a_failed_write_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bt.save([1], path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(serialization.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        bt.save([2], path)
    assert bt.load(path) == [1]
    assert os.listdir(path.parent) == [path.name]


def test_the_name_is_given_after_the_bytes_are_on_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def note(name: str, real: Callable[..., Any]) -> None:
        def noted(*args: Any) -> Any:
            regular = name == "replace" or stat.S_ISREG(os.fstat(args[0]).st_mode)
            calls.append(name if regular else "fsync of the folder")
            return real(*args)

        monkeypatch.setattr(serialization.os, name, noted)

    note("fsync", os.fsync)
    note("replace", os.replace)
    bt.save([1], path)
    assert calls == ["fsync", "replace", "fsync of the folder"]


def test_a_link_is_written_through(path: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    path.symlink_to(tmp_path / "runs" / "real")
    bt.save([1], path)
    assert path.is_symlink()
    assert bt.load(tmp_path / "runs" / "real") == [1]


def test_check_writable(path: Path, tmp_path: Path) -> None:
    path.write_text("as it was")
    serialization.check_writable(path)
    serialization.check_writable(tmp_path / "new")
    assert os.listdir(tmp_path) == [path.name]
    with pytest.raises(IsADirectoryError, match="is a folder"):
        serialization.check_writable(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        serialization.check_writable(tmp_path / "no" / "x")
    with pytest.raises(OSError, match="no folder"):
        serialization.check_writable(path / "x")


# Malformed files


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


def test_damage_is_an_error_or_other_numbers(path: Path) -> None:
    """Any one byte changed: a CheckpointError or other contents, and nothing else."""
    bt.save({"model": {"w": bt.ones(4)}, "step": 3, "t": (1, math.nan)}, path)
    data = path.read_bytes()
    for i in range(len(data)):
        for flip in (0x01, 0xFF):
            damaged = bytearray(data)
            damaged[i] ^= flip
            path.write_bytes(damaged)
            with contextlib.suppress(CheckpointError):
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
        (pack({"w": entry(dtype="F16")}), "'w' has dtype F16; known are F64, F32"),
        (pack({"w": entry(shape=[-2])}), r"'w' has shape \[-2\]"),
        (pack({"w": entry(shape=[1.5])}), r"'w' has shape \[1.5\]"),
        (pack({"w": entry(shape="ab")}), "'w' lacks a dtype"),
        (pack({"w": entry(shape=[3])}, b"\0" * 8), "has 8 bytes, not 12"),
        (pack({"w": entry(end=-8)}), "has -8 bytes, not 8"),
        (pack({"w": entry(shape=[2**62, 2**62])}), "bytes, not"),
        (pack({"w": entry(shape=[0, 2**63], end=0)}), "which no tensor can have"),
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
