"""Optimizers: updates against hand-computed figures and PyTorch, groups and saved state."""

from __future__ import annotations

import copy
import math
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn, optim
from calls import python_calls


def parameter(*values: float, grad: list[float] | None = None) -> nn.Parameter:
    made = nn.Parameter(bt.tensor(list(values)))
    if grad is not None:
        made.grad = bt.tensor(grad)
    return made


def values(tensor: Any) -> Any:
    return tensor.detach().tolist()


# Updates


def test_sgd_by_hand() -> None:
    p = parameter(1.0, 2.0, grad=[0.5, -1.0])
    opt = optim.SGD([p], lr=0.1)
    opt.step()
    assert values(p) == pytest.approx([0.95, 2.1])
    assert opt.state_dict()["state"] == {}


def test_sgd_momentum_by_hand() -> None:
    p = parameter(1.0, grad=[1.0])
    opt = optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.5)
    opt.step()  # g = 1 + 0.5; b = g
    assert values(p) == pytest.approx([1 - 0.15])
    opt.step()  # g = 1 + 0.5 * 0.85; b = 0.9 * 1.5 + g
    assert values(p) == pytest.approx([0.85 - 0.1 * (1.35 + 1.425)])
    assert values(opt.state[p]["momentum_buffer"]) == pytest.approx([2.775])


def test_adam_by_hand() -> None:
    # After one step m' = g and v' = g^2, so each element moves by lr against the gradient's sign.
    p = parameter(1.0, -1.0, grad=[3.0, -0.01])
    opt = optim.Adam([p], lr=0.1)
    opt.step()
    assert values(p) == pytest.approx([0.9, -0.9], rel=1e-5)
    assert opt.state[p]["step"] == 1
    assert values(opt.state[p]["exp_avg"]) == pytest.approx([0.3, -0.001])
    assert values(opt.state[p]["exp_avg_sq"]) == pytest.approx([0.009, 1e-7])
    p.grad = bt.tensor([-1.0, 0.0])
    opt.step()
    m, v = 0.9 * 0.3 - 0.1, 0.999 * 0.009 + 0.001
    step = 0.1 * (m / (1 - 0.81)) / (math.sqrt(v / (1 - 0.999**2)) + 1e-8)
    assert values(p)[0] == pytest.approx(0.9 - step, rel=1e-5)


def test_adamw_decay_is_decoupled() -> None:
    p = parameter(2.0, grad=[0.0])
    optim.AdamW([p], lr=0.1, weight_decay=0.5).step()
    assert values(p) == pytest.approx([2 * (1 - 0.05)])


def test_minimisation() -> None:
    makers: list[Any] = [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: optim.Adam(p, lr=0.1),
        lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.0),
        lambda p: optim.Adadelta(p, lr=20.0),
        lambda p: optim.Adagrad(p, lr=0.5),
        lambda p: optim.RMSprop(p, lr=0.02),
    ]
    for make in makers:
        p = parameter(1.0, -2.0)
        opt = make([p])
        for _ in range(300):
            opt.zero_grad()
            ((p - 0.5) ** 2).sum().backward()
            opt.step()
        assert values(p) == pytest.approx([0.5, 0.5], abs=0.02), type(opt).__name__


def test_parameters_without_gradient_stay() -> None:
    a, b = parameter(1.0, grad=[1.0]), parameter(1.0)
    for opt in (optim.Adam([a, b], lr=0.1), optim.SGD([a, b], lr=0.1, momentum=0.9)):
        opt.step()
        assert values(b) == [1]
        assert b not in opt.state
    adam = optim.Adam([a, b], lr=0.1)
    adam.step()
    b.grad = bt.tensor([1.0])
    adam.step()
    assert adam.state[a]["step"] == 2
    assert adam.state[b]["step"] == 1
    assert values(b) == pytest.approx([0.9], rel=1e-5)


def test_steps_do_not_record_and_bump_versions() -> None:
    p = parameter(1.0)
    loss = (p * p).sum()
    p.grad = bt.tensor([1.0])
    optim.SGD([p], lr=0.1).step()
    assert p.grad_fn is None
    assert p.is_leaf
    assert p.requires_grad
    with pytest.raises(RuntimeError):
        loss.backward()  # p has changed since


def test_closure() -> None:
    p = parameter(1.0)
    opt = optim.SGD([p], lr=0.1)

    def closure() -> Any:
        opt.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert opt.step(closure).item() == 1
    assert values(p) == pytest.approx([0.8])


def test_zero_grad() -> None:
    p = parameter(1.0, grad=[2.0])
    opt = optim.SGD([p], lr=0.1)
    opt.zero_grad(set_to_none=False)
    assert values(p.grad) == [0]
    opt.zero_grad()
    assert p.grad is None
    opt.step()
    assert values(p) == [1]


def test_scheduled_and_changed_rates_are_obeyed() -> None:
    p = parameter(1.0, grad=[1.0])
    opt = optim.SGD([p], lr=0.1)
    opt.param_groups[0]["lr"] = 0.5
    opt.step()
    assert values(p) == pytest.approx([0.5])


def test_a_step_runs_no_python_for_each_parameter() -> None:
    def calls(parameters: int) -> int:
        opt = optim.Adam([parameter(0.0, grad=[0.0]) for _ in range(parameters)])
        opt.step()
        return python_calls(opt.step)

    assert calls(90) == calls(1) <= 5


# Groups


def test_groups_override_defaults() -> None:
    a, b = parameter(1.0, grad=[1.0]), parameter(1.0, grad=[1.0])
    opt = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    opt.step()
    assert values(a) == pytest.approx([0.9])
    assert values(b) == pytest.approx([0.5])
    opt.add_param_group({"params": [parameter(1.0)], "momentum": 0.9})
    assert opt.param_groups[2]["momentum"] == 0.9
    assert opt.param_groups[2]["lr"] == 0.1


def test_named_parameters_are_accepted() -> None:
    net = nn.Linear(1, 1)
    opt = optim.SGD(net.named_parameters(), lr=0.1)
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"]
    assert opt.param_groups[0]["params"][0] is net.weight


def test_bad_parameters_are_refused() -> None:
    p = parameter(1.0)
    with pytest.raises(ValueError, match="empty parameter list"):
        optim.SGD([], lr=0.1)
    with pytest.raises(TypeError, match="single Tensor"):
        optim.SGD(p, lr=0.1)
    with pytest.raises(TypeError, match="sets"):
        optim.SGD([{"params": {p}}], lr=0.1)
    with pytest.raises(TypeError, match="one of the params is int"):
        optim.SGD([3], lr=0.1)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="non-leaf"):
        optim.SGD([p * 2], lr=0.1)
    with pytest.raises(ValueError, match="more than one parameter group"):
        optim.SGD([{"params": [p]}, {"params": [p]}], lr=0.1)
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([p, p], lr=0.1)
    with pytest.raises(TypeError, match="must be a dict"):
        optim.SGD([p], lr=0.1).add_param_group([p])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD(p, lr=-1), "Invalid learning rate: -1"),
        (lambda p: optim.SGD(p, momentum=-1), "Invalid momentum"),
        (lambda p: optim.SGD(p, nesterov=True), "Nesterov"),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), "Invalid beta parameter at index 1"),
        (lambda p: optim.Adam(p, eps=-1), "Invalid epsilon"),
        (lambda p: optim.AdamW(p, weight_decay=-1), "Invalid weight_decay value"),
        (lambda p: optim.Adadelta(p, rho=2), "Invalid rho"),
        (lambda p: optim.Adagrad(p, lr_decay=-1), "Invalid lr_decay value"),
        (lambda p: optim.RMSprop(p, alpha=-1), "Invalid alpha"),
        (lambda p: optim.Adam(p, differentiable=True), "differentiable"),
    ],
)
def test_bad_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make([parameter(1.0)])
    with pytest.raises(RuntimeError, match="cannot be `True` together"):
        optim.Adam([parameter(1.0)], foreach=True, fused=True)


def test_own_optimizers() -> None:
    class Signed(optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.5})

        def step(self, closure: Any = None) -> None:
            with bt.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.add_(p.grad.sign(), alpha=-group["lr"])

    p = parameter(1.0, grad=[3.0])
    Signed([p]).step()
    assert values(p) == [0.5]


def test_repr() -> None:
    assert repr(optim.SGD([parameter(1.0)], lr=0.1)).splitlines() == [
        "SGD (",
        "Parameter Group 0",
        "    dampening: 0",
        "    differentiable: False",
        "    foreach: None",
        "    fused: None",
        "    lr: 0.1",
        "    maximize: False",
        "    momentum: 0",
        "    nesterov: False",
        "    weight_decay: 0",
        ")",
    ]


# State


def train(net: nn.Module, opt: optim.Optimizer, steps: int) -> list[float]:
    losses = []
    x = bt.arange(12).float().reshape(4, 3) / 10
    for _ in range(steps):
        opt.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
        lambda p: optim.Adam(p, lr=0.05, amsgrad=True),
        lambda p: optim.AdamW(p, lr=0.05),
        lambda p: optim.Adadelta(p),
        lambda p: optim.Adagrad(p),
        lambda p: optim.RMSprop(p, momentum=0.5, centered=True),
    ],
)
def test_resuming_continues_exactly(make: Any) -> None:
    bt.manual_seed(3)
    net = nn.Linear(3, 2)
    opt = make(net.parameters())
    train(net, opt, 5)
    twin = copy.deepcopy(net)
    other = make(twin.parameters())
    saved = opt.state_dict()
    other.load_state_dict(saved)
    assert train(net, opt, 5) == train(twin, other, 5)
    assert saved["param_groups"][0]["params"] == [0, 1]


def test_loaded_state_is_a_copy_of_the_parameters_dtype() -> None:
    p, q = parameter(1.0, grad=[1.0]), nn.Parameter(bt.ones(1, dtype=bt.float64))
    opt, other = optim.Adam([p]), optim.Adam([q])
    opt.step()
    state = opt.state_dict()
    state["state"][0]["step"] = bt.tensor(1.0)  # as PyTorch saves it
    other.load_state_dict(state)
    assert other.state[q]["exp_avg"].dtype == bt.float64
    assert other.state[q]["step"] == 1
    assert isinstance(other.state[q]["step"], int)
    opt.step()
    assert values(other.state[q]["exp_avg"]) == pytest.approx([0.1])


def test_loading_checks_the_groups() -> None:
    state = optim.Adam([parameter(1.0)]).state_dict()
    with pytest.raises(ValueError, match="doesn't match the size"):
        optim.Adam([parameter(1.0), parameter(1.0)]).load_state_dict(state)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optim.Adam([{"params": [parameter(1.0)]}, {"params": []}]).load_state_dict(state)


def test_loading_takes_over_the_settings() -> None:
    opt = optim.Adam([parameter(1.0)], lr=0.5)
    opt.load_state_dict(optim.Adam([parameter(1.0)], lr=0.25, betas=(0.5, 0.6)).state_dict())
    assert opt.param_groups[0]["lr"] == 0.25
    assert opt.param_groups[0]["betas"] == (0.5, 0.6)


# Against PyTorch

PAIRS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "maximize": True}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "amsgrad": True}),
    ("Adam", {"lr": 0.01, "maximize": True}),
    ("AdamW", {"lr": 0.05}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3, "amsgrad": True, "fused": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    ("RMSprop", {"maximize": True, "alpha": 0.5}),
]


@pytest.mark.peer
@pytest.mark.parametrize(("name", "kwargs"), PAIRS)
def test_twenty_steps_match_torch(name: str, kwargs: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    start = [[0.5, -1.0, 2.0], [0.1]]
    ours = [nn.Parameter(bt.tensor(v, dtype=bt.float64)) for v in start]
    theirs = [torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in start]
    opt, their_opt = (
        getattr(optim, name)(ours, **kwargs),
        getattr(torch.optim, name)(theirs, **kwargs),
    )
    assert repr(opt) == repr(their_opt)
    for step in range(20):
        for params, o in ((ours, opt), (theirs, their_opt)):
            o.zero_grad()
            used = params if step % 3 else params[:1]  # the other has no gradient then
            sum((p.sin() * (p - 0.3) ** 2).sum() for p in used).backward()
            o.step()
        for a, b in zip(ours, theirs, strict=True):
            assert values(a) == pytest.approx(b.tolist(), rel=1e-9, abs=1e-12)
    state, their_state = opt.state_dict(), their_opt.state_dict()
    assert list(state["param_groups"][0]) == list(their_state["param_groups"][0])
    assert list(state["state"]) == list(their_state["state"])
    for i, entries in state["state"].items():
        assert list(entries) == list(their_state["state"][i])
