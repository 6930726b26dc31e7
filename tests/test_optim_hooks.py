"""Hooks of optimizers, groups with names, counts of steps, refused settings."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn, optim
from backtrail.optim import optimizer as everywhere


def parameter(value: float = 1.0) -> nn.Parameter:
    made = nn.Parameter(bt.full((1,), value))
    made.grad = bt.ones(1)
    return made


class Plain(optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.5})

    def step(self, closure: Any = None) -> str:
        with bt.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(p.grad, alpha=group["lr"])
        return "done"


class Averaging(optim.SGD):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, Plain, Averaging])
def test_hooks_around_a_step(kind: Any) -> None:
    opt = kind([parameter()])
    seen: list[Any] = []
    handles = [
        opt.register_step_pre_hook(lambda o, args, kwargs: seen.append(("before", args == (o,)))),
        opt.register_step_post_hook(lambda o, args, kwargs: seen.append(("after", kwargs))),
        everywhere.register_optimizer_step_pre_hook(lambda o, a, k: seen.append("all before")),
        everywhere.register_optimizer_step_post_hook(lambda o, a, k: seen.append("all after")),
    ]
    before = opt.param_groups[0]["params"][0].item()
    opt.step()
    assert opt.param_groups[0]["params"][0].item() < before
    assert seen == ["all before", ("before", True), ("after", {}), "all after"]
    for handle in handles:
        handle.remove()
    opt.step()
    assert len(seen) == 4


def test_hooks_change_arguments_and_closures_run_once() -> None:
    opt = optim.SGD([parameter()], lr=1.0)
    calls: list[int] = []

    def closure() -> float:
        calls.append(1)
        return 3.0

    opt.register_step_pre_hook(lambda o, args, kwargs: ((o, closure), kwargs))
    assert opt.step() == 3
    assert calls == [1]
    opt.register_step_pre_hook(lambda o, args, kwargs: 1)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        opt.step()
    assert Plain([parameter()]).step() == "done"


def test_hooks_around_the_state() -> None:
    opt = optim.SGD([parameter()], lr=1.0, momentum=0.9)
    opt.step()
    seen: list[str] = []
    opt.register_state_dict_pre_hook(lambda o: seen.append("write"))
    opt.register_state_dict_post_hook(lambda o, state: {**state, "more": 1})
    opt.register_state_dict_post_hook(lambda o, state: seen.append("first"), prepend=True)
    state = opt.state_dict()
    assert state["more"] == 1
    assert seen == ["write", "first"]
    other = optim.SGD([parameter()], lr=5.0)

    def change(o: Any, state: Any) -> Any:
        assert state["more"] == 1
        groups = [{**state["param_groups"][0], "lr": 7.0}]
        return {"state": state["state"], "param_groups": groups}

    other.register_load_state_dict_pre_hook(change)
    other.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    other.load_state_dict(state)
    assert other.param_groups[0]["lr"] == 7
    assert seen[-1] == "loaded"
    assert state["param_groups"][0]["lr"] == 1


def test_captured_steps_notice_hooks() -> None:
    p = parameter()
    opt = optim.SGD([p], lr=1.0)
    x = bt.ones(1)

    def step(x: bt.Tensor) -> bt.Tensor:
        opt.zero_grad()
        loss = (p * x).sum()
        loss.backward()
        opt.step()
        return loss

    run = bt.compile(step)
    run(x), run(x)
    assert p.item() == -1

    def doubling(o: Any, args: Any, kwargs: Any) -> None:
        assert p.grad is not None
        p.grad.mul_(2)

    double = opt.register_step_pre_hook(doubling)
    run(x), run(x)
    assert p.item() == -5
    double.remove()
    run(x)
    assert p.item() == -6


def test_copies_and_pickles_of_optimizers_go_on() -> None:
    opt = optim.Adam([parameter()], lr=0.1)
    opt.step()
    for other in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        (p,) = other.param_groups[0]["params"]
        p.grad = bt.ones(1)
        other.step()
        assert other.state[p]["step"] == 2
    assert opt.state[opt.param_groups[0]["params"][0]]["step"] == 1


def test_counts_of_steps_are_read_like_tensors() -> None:
    for kind in (optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad, optim.Adadelta):
        p = parameter()
        opt = kind([p], lr=0.1)
        for _ in range(3):
            opt.step()
        assert opt.state[p]["step"].item() == 3.0
        assert isinstance(opt.state[p]["step"].item(), float)
        saved = opt.state_dict()["state"][0]["step"]
        assert isinstance(saved, bt.Tensor)
        assert saved.dtype is bt.float32
        assert saved.item() == 3


def test_counts_of_steps_in_captured_steps() -> None:
    p = parameter()
    opt = optim.Adam([p], lr=0.1)

    def step(x: bt.Tensor) -> bt.Tensor:
        opt.zero_grad()
        loss = (p * x).sum()
        loss.backward()
        opt.step()
        return loss

    run = bt.compile(step)
    for _ in range(4):
        run(bt.ones(1))
    assert run.captures == 1
    assert opt.state[p]["step"].item() == 4.0


def test_names_of_parameters() -> None:
    net = nn.Linear(2, 1)
    opt = optim.SGD(net.named_parameters(), lr=0.1)
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"]
    assert opt.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    opt.add_param_group({"params": [("more", parameter())]})
    with pytest.raises(ValueError, match="with/without names"):
        opt.add_param_group({"params": [parameter()]})
    with pytest.raises(ValueError, match="with/without names"):
        optim.SGD([parameter()]).add_param_group({"params": [("more", parameter())]})
    with pytest.raises(ValueError, match="Some param names are missing"):
        optim.SGD([("a", parameter()), parameter()])
    plain = optim.SGD(net.parameters(), lr=0.5)
    named = optim.SGD(net.named_parameters(), lr=0.1)
    named.load_state_dict(plain.state_dict())
    assert named.param_groups[0]["param_names"] == ["weight", "bias"]
    assert named.param_groups[0]["lr"] == 0.5


def test_settings_as_tensors() -> None:
    p = parameter()
    opt = optim.SGD([p], lr=bt.tensor(0.5))
    opt.step()
    assert p.item() == 0.5
    opt = optim.Adam([p], lr=bt.tensor(0.5), betas=(bt.tensor(0.9), bt.tensor(0.99)))
    opt.step()
    assert p.item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        optim.SGD([p], lr=bt.tensor([0.5, 1.0]))
