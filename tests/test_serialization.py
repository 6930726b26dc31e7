"""Checkpoints: what goes in comes out, files are whole or absent, bad ones are told apart."""

from __future__ import annotations

import argparse
import enum
import io
import math
import os
import pickle
import stat
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import backtrail as bt
import numpy as np
import pytest
from backtrail import serialization
from backtrail.serialization import CheckpointError


class Point(NamedTuple):
    x: int
    y: int


class Color(enum.IntEnum):
    RED = 1


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
        ({"a": {print: 3}}, "a has a key of type builtin_function_or_method"),
        ({"a": {(1, bt.ones(1)): 3}}, "a has a key of type tuple"),
        ({"a": {bt.ones(1)}}, "a has a member that is no plain value"),
        ({"a": Point(1, 2)}, r"a is of type Point.*save its _asdict\(\)"),
        ({"a": Color.RED}, "a is of type Color"),
        (argparse.Namespace(lr=1), r"the object is of type Namespace.*save vars\(\) of it"),
        (MappingProxyType({}), r"is of type mappingproxy.*save dict\(\) of it"),
        (defaultdict(lambda: 0), "the object is of type defaultdict"),
        (np.array([object()]), "the object is of type ndarray"),
        (np.ma.ones(2), "the object is of type MaskedArray"),
        (np.zeros(2, [("a", "f4")]), "the object is of type ndarray"),
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


def alike(one: Any, other: Any) -> bool:
    """Whether two things have the same types and the same values all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, bt.Tensor):
        return (one.dtype, one.requires_grad, one.tolist()) == (
            other.dtype,
            other.requires_grad,
            other.tolist(),
        )
    if isinstance(one, dict):
        return alike(list(one.items()), list(other.items()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    return repr(one) == repr(other) if isinstance(one, (float, complex)) else one == other


PLAIN = [
    OrderedDict(b=1, a=2),
    Counter("hello"),
    defaultdict(list, a=[1]),
    defaultdict(None, a=1),
    bt.Size([2, 3]),
    bt.ones(2, 3).shape,
    {1, "a", None, (1, 2.5), b"x"},
    frozenset({frozenset({1}), 2}),
    {(1, "a"): 1, b"k": 2, bt.float32: 3, 1 + 2j: 4, True: 5},
    b"",
    bytes(range(256)),
    bytearray(b"abc"),
    complex(math.nan, -0.0),
    bt.bfloat16,
    bt.device("cpu"),
    range(1, 10, 3),
    slice(None, 3, -1),
    bt.nn.Parameter(bt.ones(2)),
    bt.nn.Parameter(bt.ones(2), requires_grad=False),
    np.float64(0.1),
    np.int8(-3),
    np.bool_(True),
    np.str_("ü"),
    np.datetime64("2020-01-01"),
    np.array(3.5),
    np.zeros((2, 0, 3)),
    np.arange(6.0).reshape(2, 3).T,
    np.arange(4, dtype=">i4"),
    np.array([True, False]),
    np.array([True]).view(np.uint8).view(bool),
    np.array(["a", "bcd"]),
    np.array([b"a", b"bcd"]),
    np.array([1 + 2j], np.complex64),
    np.arange("2020-01", "2020-03", dtype="M8[D]"),
    *(np.arange(3).astype(code) for code in "bBhHiIlLqQefdgFD"),
]


@pytest.mark.parametrize("thing", PLAIN, ids=lambda thing: f"{type(thing).__name__}")
def test_plain_things_come_back_as_they_were(path: Path, thing: Any) -> None:
    bt.save({"in": [thing, (thing,)]}, path)
    back = bt.load(path)["in"]
    assert alike(back, [thing, (thing,)])
    bt.save(thing, path)
    assert alike(bt.load(path), thing)


def test_sets_are_saved_in_the_same_bytes_by_every_process(tmp_path: Path) -> None:
    thing = "{'a', 'b', b'c', b'd', (1, 'e'), frozenset({'f', 'g', 'h'})}"
    code = f"import backtrail as bt, sys; bt.save({thing}, sys.argv[1])"
    for seed in "123":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, tmp_path / seed], check=True, env=environment)
    assert len({(tmp_path / seed).read_bytes() for seed in "123"}) == 1


def test_arrays_can_be_written_to_and_stay_shared(path: Path) -> None:
    a = np.arange(1000.0)
    bt.save([a, a, np.arange(3, dtype=np.uint16)], path)
    assert path.stat().st_size < 10_000
    one, other, short = bt.load(path)
    one[0] = 5
    short[0] = 5
    assert (other[0], short[0]) == (5, 5)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: {"a": x},
        lambda x: [x],
        lambda x: (x,),
        lambda x: OrderedDict(a=x),
        lambda x: defaultdict(list, a=x),
        lambda x: frozenset({x}) if not isinstance(x, bt.Tensor) else frozenset({1}),
    ],
)
def test_what_is_nested_deeply_is_refused_or_comes_back(path: Path, wrap: Any) -> None:
    bt.save("as it was", path)
    thing = bt.ones(1)
    for depth in range(1, 500):
        thing = wrap(thing)
        if depth in (2, 100, 200):
            bt.save(thing, path)
            back, levels = bt.load(path), 0
            while not isinstance(back, (bt.Tensor, int)):
                back = next(iter(back.values() if isinstance(back, dict) else back))
                levels += 1
            assert levels == depth
    with pytest.raises(ValueError, match="contains itself, or is nested"):
        bt.save(thing, path)
    bt.load(path)


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        *(("float16", bt.float32), ("int8", bt.int32), ("int16", bt.int32)),
        *(("uint16", bt.int32), ("uint32", bt.int64)),
    ],
)
def test_dtypes_that_are_not_ours_are_read_as_wider_ones(
    path: Path, form: str, dtype: bt.dtype
) -> None:
    numpy_format = pytest.importorskip("safetensors.numpy")
    limits = np.finfo(form) if form == "float16" else np.iinfo(form)
    values = np.array([[limits.min, 0, 1], [5, 77, limits.max]], dtype=form)
    numpy_format.save_file({"x": values, "none": values[:0]}, path)
    found = bt.load(path)
    assert (found["x"].dtype, found["x"].tolist()) == (dtype, values.tolist())
    assert (found["none"].dtype, tuple(found["none"].shape)) == (dtype, (0, 3))


def test_names_are_text_for_other_readers(path: Path) -> None:
    numpy_format = pytest.importorskip("safetensors.numpy")
    bt.save({"a\ud800": bt.ones(1), "a\udc80b": bt.zeros(1)}, path)
    assert [a.tolist() for a in numpy_format.load_file(path).values()] == [[1], [0]]
    assert list(bt.load(path)) == ["a\ud800", "a\udc80b"]


def test_a_header_that_no_one_could_read_is_not_written(path: Path) -> None:
    bt.save([1], path)
    with pytest.raises(ValueError, match="put what is large into tensors"):
        bt.save("x" * 100_000_000, path)
    assert bt.load(path) == [1]


# Whole or not there


def test_a_failed_write_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bt.save([1], path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
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

        monkeypatch.setattr(os, name, noted)

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
