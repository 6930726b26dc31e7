"""What tensors, sizes, dtypes' limits and named results print."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import backtrail as bt
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    yield
    bt.set_printoptions(profile="default")


def test_lines_break_before_notes_where_they_are_full() -> None:
    x = bt.full((9,), 0.1234567, requires_grad=True)
    numbers = ", ".join(["0.1235"] * 9)
    assert repr(x) == f"tensor([{numbers}],\n       requires_grad=True)"
    assert repr(bt.zeros(2, requires_grad=True)) == "tensor([0., 0.], requires_grad=True)"
    assert repr(bt.zeros(25)).split("\n")[0] == "tensor([" + "0., " * 23 + "0.,"
    assert repr(bt.zeros(0, 3)) == "tensor([], size=(0, 3))"
    assert repr(bt.zeros(0).long()) == "tensor([], dtype=backtrail.int64)"


def test_the_default_dtype_is_not_named() -> None:
    bt.set_default_dtype(bt.float64)
    try:
        assert repr(bt.ones(1)) == "tensor([1.])"
        assert repr(bt.ones(1, dtype=bt.float32)) == "tensor([1.], dtype=backtrail.float32)"
    finally:
        bt.set_default_dtype(bt.float32)


def test_nodes_have_pytorchs_names() -> None:
    x = bt.ones(2, requires_grad=True)
    for made, name in {
        "MulBackward0": x * 2,
        "SumBackward0": x.sum(),
        "LogSoftmaxBackward0": x.log_softmax(0),
        "PowBackward0": x**2,
        "ViewBackward0": x.reshape(2, 1),
    }.items():
        assert repr(name).endswith(f"grad_fn=<{made}>)"), name


def test_print_options() -> None:
    x = bt.tensor([1e-6, 2.5, 1e6])
    assert repr(x) == "tensor([1.0000e-06, 2.5000e+00, 1.0000e+06])"
    bt.set_printoptions(sci_mode=False)
    assert repr(x) == "tensor([      0.0000,       2.5000, 1000000.0000])"
    bt.set_printoptions(precision=2, sci_mode=True)
    assert repr(bt.tensor([2.5])) == "tensor([2.50e+00])"
    bt.set_printoptions(profile="short")
    assert repr(bt.tensor([0.12345])) == "tensor([0.12])"
    bt.set_printoptions(threshold=3, edgeitems=1)
    assert repr(bt.arange(4)) == "tensor([0,  ..., 3])"
    bt.set_printoptions(profile="full")
    assert "..." not in repr(bt.arange(2000))
    with pytest.raises(ValueError, match="profile"):
        bt.set_printoptions(profile="nonsense")


def test_a_view_far_larger_than_memory_prints() -> None:
    assert repr(bt.ones(2, 7, 1).expand(2, 7, 2**31)).count("1.") == 2 * 6 * 6


def test_named_results() -> None:
    x = bt.tensor([3, 1, 2])
    for name in ("max", "min", "sort", "topk"):
        call = getattr(bt, name)
        got = call(x) if name == "sort" else call(x, 0) if name != "topk" else call(x, 2)
        assert repr(got) == (
            f"backtrail.return_types.{name}(\nvalues={got.values!r},\nindices={got.indices!r})"
        )
        again = pickle.loads(pickle.dumps(got))
        assert type(again) is type(got)
        assert again.values.tolist() == got.values.tolist()


def test_sizes_are_tuples_that_stay_sizes() -> None:
    size = bt.ones(2, 3, 4).shape
    assert repr(size) == "backtrail.Size([2, 3, 4])"
    assert size == (2, 3, 4)
    for made, want in [
        (size[1:], (3, 4)),
        (size[::-1], (4, 3, 2)),
        (size + (5,), (2, 3, 4, 5)),  # noqa: RUF005
        ((5,) + size, (5, 2, 3, 4)),  # noqa: RUF005
        (size[:1] * 2, (2, 2)),
        (2 * size[:1], (2, 2)),
        (pickle.loads(pickle.dumps(size)), size),
        (copy.deepcopy(size), size),
        (bt.Size([np.int64(2), bt.tensor(3)]), (2, 3)),
        (bt.Size(), ()),
    ]:
        assert type(made) is bt.Size
        assert made == want
    assert size[1:].numel() == 12
    assert bt.Size().numel() == 1
    assert type(size[0]) is int
    assert sum(size) == 9
    assert {size: 1}[size] == 1
    for wrong in ([1.5], ["a"], [None]):
        with pytest.raises(TypeError, match="item 0"):
            bt.Size(wrong)
    with pytest.raises(TypeError):
        size + [1]  # noqa: RUF005


def test_limits() -> None:
    assert repr(bt.finfo(bt.float32)) == (
        "finfo(resolution=1e-06, min=-3.40282e+38, max=3.40282e+38, eps=1.19209e-07, "
        "smallest_normal=1.17549e-38, tiny=1.17549e-38, dtype=float32)"
    )
    assert repr(bt.iinfo(bt.uint8)) == "iinfo(min=0, max=255, dtype=uint8)"
    assert repr(bt.iinfo(int)) == "iinfo(min=-9.22337e+18, max=9.22337e+18, dtype=int64)"
    assert bt.finfo() == bt.finfo(bt.float32)
    assert bt.finfo(float).bits == 64
    for limits, wrong in ((bt.finfo, bt.int64), (bt.iinfo, bt.float32), (bt.iinfo, bt.bool)):
        with pytest.raises(TypeError, match="type"):
            limits(wrong)


def arrays() -> Iterator[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    shapes = [(), (1,), (3,), (0,), (2, 0), (24,), (30,), (5, 7), (2, 3, 4), (1001,), (40, 40)]
    for shape in [*shapes, (3, 400), (2, 2, 2, 3), (7, 1, 150), (13,), (20,)]:
        base = rng.standard_normal(shape)
        for floats in (
            base,
            base * 1e-5,
            base * 1e6,
            np.round(base * 3),
            np.round(base) * 1e9,
            base * 10.0 ** rng.integers(-4, 4, shape),
            np.where(base > 0.5, np.nan, base),
            np.where(base > 0.5, np.inf, np.round(base)),
            -np.zeros(shape),
        ):
            yield np.asarray(floats, np.float32)
            yield np.asarray(floats, np.float64)
        for kind in (np.int64, np.int32, np.uint8, np.bool_):
            for top in (2, 100, 255):
                yield np.asarray(rng.integers(0, top, shape), kind)


@pytest.mark.peer
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sci_mode": False},
        {"sci_mode": True},
        {"profile": "short"},
        {"threshold": 5, "edgeitems": 2},
        {"linewidth": 40},
    ],
    ids=str,
)
def test_prints_as_pytorch_to_the_letter(options: dict[str, Any]) -> None:
    import torch

    torch.set_printoptions(profile="default")
    torch.set_printoptions(**options)
    bt.set_printoptions(**options)
    try:
        for k, a in enumerate(arrays()):
            theirs, ours = torch.tensor(a), bt.tensor(a)
            if a.dtype.kind == "f" and k % 3:
                theirs, ours = theirs.requires_grad_(), bt.tensor(a, requires_grad=True)
                if k % 3 == 2:
                    theirs, ours = theirs * 1, ours * 1
            assert repr(ours) == repr(theirs).replace("torch.", "backtrail.")
    finally:
        torch.set_printoptions(profile="default")
