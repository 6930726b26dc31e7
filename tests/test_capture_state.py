"""Captured functions and Python state: optimizers, containers, NumPy, what is returned."""

from __future__ import annotations

import array
import collections
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail import nn
from backtrail.capture import CaptureError
from capture_models import mlp, repeat, same


def test_settings_that_the_function_reads() -> None:
    """Those of Adam and SGD are read anew by a replay, but for arithmetic of the user's."""
    optimizer = bt.optim.SGD(mlp().parameters(), lr=0.1)
    f = bt.compile(lambda x: x * optimizer.param_groups[0]["lr"])
    for i in range(4):
        optimizer.param_groups[0]["lr"] = 0.5 if i < 2 else 0.25
        assert f(bt.ones(1)).item() == optimizer.param_groups[0]["lr"]
    assert f.captures == 2


def test_settings_that_the_function_changes() -> None:
    model = mlp()
    optimizer = bt.optim.Adam(model.parameters(), lr=0.1)

    @bt.compile
    def step(x: bt.Tensor) -> None:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.5

    with pytest.raises(CaptureError, match=r"changes .*lr.*which a replay would not do"):
        repeat(step, bt.randn(2, 6))


def test_a_schedule_beside_a_step_needs_no_new_capture() -> None:
    """Also where another method of the class looks at the learning rate."""

    class Trainer:
        def __init__(self) -> None:
            self.model = mlp()
            self.optimizer = bt.optim.Adam(self.model.parameters(), lr=0.1)

        def rate(self) -> float:
            return float(self.optimizer.param_groups[0]["lr"])

        def step(self, x: bt.Tensor) -> bt.Tensor:
            self.optimizer.zero_grad()
            loss = self.model(x).sum()
            loss.backward()
            self.optimizer.step()
            return loss

    trainer = Trainer()
    step = bt.compile(trainer.step)
    schedule = bt.optim.lr_scheduler.ExponentialLR(trainer.optimizer, 0.5)
    for i in range(4):
        assert trainer.rate() == 0.1 * 0.5**i
        step(bt.randn(2, 6))
        schedule.step()
    assert step.captures == 1


CONTAINERS: dict[str, tuple[Any, Callable[[Any, int], Any]]] = {
    "deque": (collections.deque([1.0, 2.0]), lambda c, i: c.append(float(i)) or c.popleft()),
    "set": ({0}, lambda c, i: c.clear() or c.add(i)),
    "bytearray": (bytearray(b"ab"), lambda c, i: c.__setitem__(0, i)),
    "array": (array.array("d", [1.0, 2.0]), lambda c, i: c.__setitem__(0, float(i))),
    "numpy": (np.zeros(3), lambda c, i: c.__setitem__(0, i)),
    "numpy, strided": (np.zeros((3, 4)).T, lambda c, i: c.__setitem__(0, i)),
    "namespace": (SimpleNamespace(a=[1]), lambda c, i: c.a.__setitem__(0, i)),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_that_change(name: str) -> None:
    container, change = CONTAINERS[name]

    def first() -> float:
        inside = container.a if name == "namespace" else container
        return float(np.ravel(next(iter(inside)))[0])

    f = bt.compile(lambda x: x * first())
    for i in (3, 3, 4, 4, 5):
        change(container, i)
        assert f(bt.ones(1)).item() == first()
    assert f.captures <= 5


def test_results_that_hide_tensors_are_refused() -> None:
    weight = nn.Parameter(bt.ones(2))

    def hides(x: bt.Tensor) -> Any:
        h = weight * x
        return h.sum(), SimpleNamespace(h=h.detach() * 2)

    with pytest.raises(CaptureError, match="returns a SimpleNamespace"):
        repeat(bt.compile(hides), bt.ones(2))
    Pair = collections.namedtuple("Pair", "loss values")
    f = bt.compile(lambda x: Pair((weight * x).sum(), {"twice": [x * 2, None, 3, "a"]}))
    for i in range(3):
        x = bt.full((2,), float(i))
        found = f(x)
        assert isinstance(found, Pair)
        assert found.loss.item() == 2 * i
        assert same(found.values["twice"][0], x * 2)
        assert found.values["twice"][1:] == [None, 3, "a"]
    assert f.captures == 1


def test_methods_of_containers() -> None:
    settings, items = {"a": 1.0}, [1]
    get, count = settings.get, items.__len__
    f = bt.compile(lambda x: x * get("a") + count())
    for i in (2.0, 2.0, 3.0):
        settings["a"] = i
        items.append(1)
        assert f(bt.ones(1)).item() == i + len(items)


def test_a_compiled_module_shows_its_plan(capsys: pytest.CaptureFixture[str]) -> None:
    model = bt.compile(nn.Linear(3, 2))
    assert model.plan is None
    for _ in range(3):
        model(bt.ones(1, 3)).sum().backward()
    assert model.captures == 1
    assert model.plan.runs == 2
    model.plan.describe()
    assert "linear" in capsys.readouterr().out
    own = nn.Linear(3, 2)
    own.plan = "the user's"
    assert bt.compile(own).plan == "the user's"
