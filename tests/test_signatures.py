"""Functions and methods take PyTorch's arguments, by position and by name."""

from __future__ import annotations

import inspect
from typing import Any

import backtrail as bt
import pytest
from signatures import FUNCTIONS, METHODS, parameters, rows

FORMS = [(False, name) for name in rows(FUNCTIONS)] + [(True, name) for name in rows(METHODS)]


def signature_of(f: Any) -> inspect.Signature:
    """The signature of a function; of a form that of the function it is a form of, with `out`."""
    code = getattr(f, "__code__", None)
    found = inspect.signature(getattr(f, "plain", f))
    if hasattr(f, "plain") and "out" in code.co_varnames[: code.co_kwonlyargcount + 1]:
        out = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None)
        given = list(found.parameters.values())
        last = given[-1:] if given[-1].kind is inspect.Parameter.VAR_KEYWORD else []
        kept = given[: len(given) - len(last)]
        found = found.replace(parameters=[*kept, out, *last])
    return found


def test_there_are_many() -> None:
    assert len(rows(FUNCTIONS)) > 150
    assert len(rows(METHODS)) > 200


@pytest.mark.parametrize(("method", "name"), FORMS)
def test_arguments_are_taken_by_position_and_by_name(method: bool, name: str) -> None:
    signature = signature_of(getattr(bt.Tensor if method else bt, name))
    own = [None] if method else []
    for row in rows(METHODS if method else FUNCTIONS)[name]:
        positional, named = parameters(row)
        signature.bind(*own, *positional, **dict.fromkeys(named))
        signature.bind(*own, **dict.fromkeys([*positional, *named]))


def test_a_call_with_an_unknown_argument_is_refused() -> None:
    for f in (bt.exp, bt.add, bt.sum, bt.argmax, bt.ones(2).std, bt.ones(2).cumsum_, bt.zeros):
        with pytest.raises(TypeError, match="unexpected keyword argument 'dimension'"):
            f(bt.ones(2), dimension=0)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "argmax", "std", "prod", "all", "softmax"])
def test_numpys_names_of_parameters(name: str) -> None:
    x = bt.arange(6.0).reshape(2, 3)
    for f in (lambda **k: getattr(bt, name)(x, **k), getattr(x, name)):
        got, expected = f(axis=1), f(dim=1)
        assert str(got) == str(expected)
        if name != "softmax":
            assert str(f(axis=0, keepdims=True)) == str(f(dim=0, keepdim=True))


def test_sizes_and_dimensions_by_name() -> None:
    x = bt.arange(6.0).reshape(2, 3)
    assert x.permute(dims=(1, 0)).shape == (3, 2)
    assert x.flip(dims=(0,)).tolist() == x.flip(0).tolist()
    assert bt.flip(x, dims=[1]).tolist() == x.flip([1]).tolist()
    assert x.view(size=(3, 2)).shape == x.reshape(shape=(3, 2)).shape == (3, 2)
    assert x[:1].expand(size=(4, 3)).shape == (4, 3)
    assert x.repeat(repeats=(2, 1)).shape == x.tile(dims=(2, 1)).shape == (4, 3)
    assert [p.shape for p in x.split(split_size=2, dim=1)] == [(2, 2), (2, 1)]
    assert bt.split(tensor=x, split_size_or_sections=[1, 2], dim=1)[0].shape == (2, 1)
    assert bt.cat([x, x], axis=1).shape == (2, 6)
    assert x.max(other=bt.tensor(3.0)).tolist() == [[3, 3, 3], [3, 4, 5]]
    assert bt.min(x, other=bt.tensor(3.0)).tolist() == [[0, 1, 2], [3, 3, 3]]
    assert bt.inner(x, other=x).tolist() == (x @ x.t()).tolist()
    assert x.swapaxes(axis0=0, axis1=1).shape == bt.swapdims(x, 0, 1).shape == (3, 2)
    assert bt.diag_embed(x, dim1=0, dim2=2).shape == (3, 2, 3)
    with pytest.raises(TypeError, match="twice"):
        x.view(3, 2, size=(2, 3))
    assert x.clone().uniform_(**{"from": 2.0, "to": 3.0}).min().item() >= 2.0
    assert x.clone().random_(to=1).tolist() == [[0.0] * 3] * 2


def test_reductions_of_what_is_scattered() -> None:
    x, index = bt.ones(2, 3), bt.tensor([[0, 0, 1], [0, 1, 1]])
    src = bt.arange(2.0, 8.0).reshape(2, 3)
    assert x.scatter(0, index, src, reduce="add").tolist() == [[8, 4, 1], [1, 7, 12]]
    assert x.scatter(0, index, src, reduce="multiply").tolist() == [[10, 3, 1], [1, 6, 28]]
    assert x.scatter(0, index, 2.0, reduce="multiply").tolist() == [[4, 2, 1], [1, 2, 4]]
    y = x.clone()
    assert y.scatter_(0, index, src, reduce="multiply") is y
    assert y.tolist() == [[10, 3, 1], [1, 6, 28]]
    with pytest.raises(RuntimeError, match="expected 'add' or 'multiply'"):
        x.scatter(0, index, src, reduce="mean")


def test_searches_and_repetitions() -> None:
    line = bt.tensor([1.0, 3.0, 5.0])
    assert bt.searchsorted(line, bt.tensor([3.0]), out_int32=True).dtype is bt.int32
    shuffled, order = bt.tensor([5.0, 1.0, 3.0]), bt.tensor([1, 2, 0])
    assert bt.searchsorted(shuffled, bt.tensor([2.0, 6.0]), sorter=order).tolist() == [1, 3]
    assert bt.bucketize(bt.tensor([3.0]), line, right=True, out_int32=True).tolist() == [2]
    with pytest.raises(RuntimeError, match="side is 'left' and right True"):
        bt.searchsorted(line, line, right=True, side="left")
    counts = bt.tensor([2, 0, 1])
    assert bt.repeat_interleave(counts).tolist() == [0, 0, 2]
    assert bt.repeat_interleave(repeats=counts).tolist() == [0, 0, 2]
    assert line.repeat_interleave(counts, output_size=3).tolist() == [1, 1, 5]
    assert line.repeat_interleave(bt.tensor(2)).tolist() == [1, 1, 3, 3, 5, 5]
    with pytest.raises(RuntimeError, match="output_size is 4"):
        line.repeat_interleave(counts, output_size=4)
    with pytest.raises(RuntimeError, match="expected one for each of 3"):
        line.repeat_interleave(bt.tensor([1, 2]))
    assert bt.randint(high=1, size=(2,)).tolist() == [0, 0]
    assert bt.randint_like(line, high=1).tolist() == [0, 0, 0]


def test_values_are_put_at_places() -> None:
    x = bt.arange(6.0).reshape(2, 3)
    assert x.index_fill(1, bt.tensor([0, -1]), 9).tolist() == [[9, 1, 9], [9, 4, 9]]
    assert x.index_copy(0, bt.tensor([1]), bt.ones(1, 3)).tolist() == [[0, 1, 2], [1, 1, 1]]
    mask = bt.tensor([True, False, True])
    source = bt.tensor([7.0, 8.0, 9.0, 10.0, 11.0])
    assert x.masked_scatter(mask, source).tolist() == [[7, 1, 8], [9, 4, 10]]
    assert x.clone().fill_diagonal_(7).tolist() == [[7, 1, 2], [3, 7, 5]]
    tall = bt.zeros(5, 2).fill_diagonal_(1, wrap=True)
    assert tall.tolist() == [[1, 0], [0, 1], [0, 0], [1, 0], [0, 1]]
    assert bt.zeros(5, 2).fill_diagonal_(1).tolist() == [[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]]
    cube = bt.zeros(2, 2, 2).fill_diagonal_(3.0)
    assert cube.tolist() == [[[3, 0], [0, 0]], [[0, 0], [0, 3]]]
    assert bt.tensor(2.0).index_fill(0, bt.tensor([0]), 1.0).tolist() == 1.0
    for wrong in (
        lambda: x.index_copy(0, bt.tensor([1]), bt.ones(2, 3)),
        lambda: x.index_fill(0, bt.tensor([1.0]), 0.0),
        lambda: x.index_fill(2, bt.tensor([1]), 0.0),
        lambda: x.index_fill(0, bt.tensor([2]), 0.0),
    ):
        with pytest.raises(IndexError):
            wrong()
    with pytest.raises(RuntimeError, match="4 places for the 2 elements"):
        x.masked_scatter(mask, bt.ones(2))
    with pytest.raises(RuntimeError, match="expected two dimensions"):
        bt.zeros(2, 3, 2).fill_diagonal_(1)
