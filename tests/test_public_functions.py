"""What every public function keeps: it pickles by its name, and says what is no tensor."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import FunctionType
from typing import Any

import backtrail as bt
import backtrail.nn.functional as F
import pytest

FILES = {"save", "load"}  # their errors are about files
WRONG: tuple[Any, ...] = ("text", None, {}, [1.0, "a"], slice(2))


def functions() -> Iterator[tuple[str, Any]]:
    for where, space in (("bt", bt), ("F", F)):
        for name in dir(space):
            f = getattr(space, name)
            public = isinstance(f, FunctionType) and f.__module__.startswith("backtrail")
            if public and not name.startswith("_") and name not in FILES:
                yield f"{where}.{name}", f


FUNCTIONS = dict(functions())
METHODS = {
    name: f
    for name, f in vars(bt.Tensor).items()
    if isinstance(f, FunctionType) and not name.startswith("__")
}


def test_there_are_many() -> None:
    assert len(FUNCTIONS) > 300
    assert len(METHODS) > 250


def test_every_function_pickles_by_its_name() -> None:
    for name, f in FUNCTIONS.items():
        assert pickle.loads(pickle.dumps(f)) is f, name


def test_functions_reach_other_processes() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        x = bt.tensor([0.0, 1.0])
        assert [y.tolist() for y in pool.map(bt.neg, [x, x + 1])] == [[0, -1], [-1, -2]]


class Net(bt.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = bt.tanh
        self.loss = F.mse_loss


def test_modules_that_hold_functions_pickle() -> None:
    net = pickle.loads(pickle.dumps(Net()))
    assert net.act is bt.tanh
    assert net.loss is F.mse_loss


def calls(x: Any, wrong: Any) -> list[tuple[Any, ...]]:
    return [
        (wrong,),
        (wrong, wrong),
        (x, wrong),
        (wrong, x),
        (x, x, wrong),
        (wrong, 0),
        (x, 0, wrong),
        (x, 0, x, wrong),
        (wrong, 0, 0),
    ]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda x: type(x).__name__)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_tensor_is_never_an_attribute_error(wrong: Any) -> None:
    for name, f in [*FUNCTIONS.items(), *METHODS.items()]:
        if ".set_" in name:  # for the whole process
            continue
        x = bt.ones(2, 2)
        for args in calls(x, wrong):
            if name in METHODS:
                args = (bt.ones(2, 2), *args)
            try:
                f(*args)
            except Exception as error:
                if isinstance(error, AttributeError) or "incompatible function" in str(error):
                    raise AssertionError(f"{name}{args}") from error


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: bt.narrow("a", 0, 0, 1), "narrow: input must be a Tensor; got str"),
        (lambda x: bt.cat([x, "a"]), "cat: tensors must be a sequence of Tensors; got str"),
        (lambda x: bt.cat("a"), "cat: tensors must be a sequence of Tensors; got str"),
        (lambda x: x.view_as([1]), "view_as: other must be a Tensor; got list"),
        (lambda x: bt.gather(x, 0, None), "gather: .* NoneType|index must be a Tensor"),
        (lambda x: F.cross_entropy(x, "a"), "cross_entropy: target must be a Tensor; got str"),
        (lambda x: F.conv1d({}, x), "conv1d: input must be a Tensor; got dict"),
        (lambda x: bt.t(slice(2)), "t: input must be a Tensor; got slice"),
        (lambda x: bt.einsum(x, x), "einsum: equation must be a str; got Tensor"),
        (lambda x: bt.numel(None), "numel: input must be a Tensor; got NoneType"),
        (lambda x: x.index_select(0, [0]), "index_select: index must be a Tensor; got list"),
    ],
)
def test_errors_name_function_and_argument(call: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        call(bt.ones(2, 2))


def test_warnings_point_at_the_caller() -> None:
    for call in (lambda: F.softmax(bt.ones(2)), lambda: bt.arange(6).reshape(2, 3)[[[0], [1]]]):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        assert [w.filename for w in caught] == [__file__]


def test_an_error_inside_is_left_as_it_is() -> None:
    class Odd(bt.Tensor):
        @property
        def ndim(self) -> int:  # type: ignore[override]
            raise AttributeError("of its own")

    with pytest.raises(AttributeError, match="of its own"):
        bt.flatten(Odd([1.0]))
