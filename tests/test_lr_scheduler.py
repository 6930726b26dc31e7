"""Learning-rate schedules: against their formulas, against PyTorch, combined and resumed."""

from __future__ import annotations

import math
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn, optim
from backtrail.optim import lr_scheduler as lrs


def optimizer(lib: Any = bt, *rates: float) -> Any:
    groups = [{"params": [lib.nn.Parameter(lib.zeros(1))], "lr": lr} for lr in rates or (1.0, 0.5)]
    return lib.optim.SGD(groups, lr=0.1, momentum=0.9)


def run(opt: Any, scheduler: Any, steps: int) -> list[float]:
    """The first group's rate at each epoch, the first included."""
    rates = []
    for _ in range(steps):
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        scheduler.step()
    return rates


def test_step() -> None:
    opt = optimizer()
    rates = run(opt, lrs.StepLR(opt, 2, gamma=0.5), 6)
    assert rates == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])
    assert opt.param_groups[1]["lr"] == pytest.approx(0.0625)


def test_multi_step() -> None:
    opt = optimizer()
    rates = run(opt, lrs.MultiStepLR(opt, [1, 3, 3], gamma=0.5), 5)
    assert rates == pytest.approx([1, 0.5, 0.5, 0.125, 0.125])


def test_exponential() -> None:
    opt = optimizer()
    assert run(opt, lrs.ExponentialLR(opt, 0.5), 4) == pytest.approx([1, 0.5, 0.25, 0.125])


def test_lambda_and_multiplicative() -> None:
    opt = optimizer()
    assert run(opt, lrs.LambdaLR(opt, lambda e: 1 / (e + 1)), 4) == pytest.approx(
        [1, 1 / 2, 1 / 3, 1 / 4]
    )
    opt = optimizer()
    scheduler = lrs.LambdaLR(opt, [lambda e: 1.0, lambda e: 2.0])
    assert scheduler.get_last_lr() == [1.0, 1.0]
    opt = optimizer()
    assert run(opt, lrs.MultiplicativeLR(opt, lambda e: 1 / e), 4) == pytest.approx(
        [1, 1, 1 / 2, 1 / 6]
    )
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas, but got 1"):
        lrs.LambdaLR(opt, [lambda e: 1.0])


def test_constant_linear_polynomial() -> None:
    opt = optimizer()
    assert run(opt, lrs.ConstantLR(opt, 0.5, 2), 4) == pytest.approx([0.5, 0.5, 1, 1])
    opt = optimizer()
    assert run(opt, lrs.LinearLR(opt, 0.25, 1.0, 3), 5) == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    opt = optimizer()
    assert run(opt, lrs.PolynomialLR(opt, 4, 2.0), 6) == pytest.approx(
        [1, 9 / 16, 4 / 16, 1 / 16, 0, 0]
    )
    for bad in (0.0, 1.5):
        with pytest.raises(ValueError, match="start_factor"):
            lrs.LinearLR(opt, bad)
    with pytest.raises(ValueError, match="factor must be between"):
        lrs.ConstantLR(opt, 2.0)


def test_cosine() -> None:
    opt = optimizer()
    rates = run(opt, lrs.CosineAnnealingLR(opt, 10, eta_min=0.2), 31)
    expected = [0.2 + 0.8 * (1 + math.cos(math.pi * e / 10)) / 2 for e in range(31)]
    assert rates == pytest.approx(expected)


def test_warm_restarts() -> None:
    opt = optimizer()
    scheduler = lrs.CosineAnnealingWarmRestarts(opt, 2, T_mult=2, eta_min=0.0)
    where = [(0, 2), (1, 2), (0, 4), (1, 4), (2, 4), (3, 4), (0, 8), (1, 8)]
    expected = [(1 + math.cos(math.pi * t / n)) / 2 for t, n in where]
    assert run(opt, scheduler, 8) == pytest.approx(expected)
    for epoch, (t, n) in ((6, (0, 8)), (13.5, (7.5, 8)), (14, (0, 16)), (0.5, (0.5, 2))):
        scheduler.step(epoch)
        assert opt.param_groups[0]["lr"] == pytest.approx((1 + math.cos(math.pi * t / n)) / 2)
    with pytest.raises(ValueError, match="non-negative epoch"):
        scheduler.step(-1)
    with pytest.raises(ValueError, match="T_0"):
        lrs.CosineAnnealingWarmRestarts(opt, 0)


def test_one_cycle() -> None:
    opt = optimizer()
    scheduler = lrs.OneCycleLR(
        opt, 1.0, total_steps=11, pct_start=0.5, anneal_strategy="linear", div_factor=10.0
    )
    rates, momenta = [], []
    for _ in range(11):
        rates.append(opt.param_groups[0]["lr"])
        momenta.append(opt.param_groups[0]["momentum"])
        opt.step()
        if len(rates) < 11:
            scheduler.step()
    assert rates[0] == pytest.approx(0.1)
    assert momenta[0] == pytest.approx(0.95)
    assert max(rates) == pytest.approx(rates[4] + (1.0 - rates[4]), abs=0.2)
    assert rates[-1] == pytest.approx(0.1 / 1e4)
    assert momenta[-1] == pytest.approx(0.95)
    assert min(momenta) >= 0.85
    scheduler.step()
    with pytest.raises(ValueError, match="Tried to step 12 times"):
        scheduler.step()


def test_one_cycle_options() -> None:
    opt = optimizer()
    assert lrs.OneCycleLR(opt, 1.0, epochs=2, steps_per_epoch=5).total_steps == 10
    adam = optim.Adam([nn.Parameter(bt.zeros(1))], lr=1.0)
    lrs.OneCycleLR(adam, 1.0, total_steps=10)
    assert adam.param_groups[0]["betas"] == (pytest.approx(0.95), 0.999)
    with pytest.raises(ValueError, match="total_steps OR"):
        lrs.OneCycleLR(opt, 1.0)
    with pytest.raises(ValueError, match="anneal_strategy"):
        lrs.OneCycleLR(opt, 1.0, total_steps=3, anneal_strategy="up")
    with pytest.raises(ValueError, match="expected 2 values for max_lr, got 1"):
        lrs.OneCycleLR(opt, [1.0], total_steps=3)
    with pytest.raises(ValueError, match="momentum or beta1"):
        lrs.OneCycleLR(optim.Adagrad([nn.Parameter(bt.zeros(1))]), 1.0, total_steps=3)


def test_sequential() -> None:
    opt = optimizer()
    warm, fall = lrs.LinearLR(opt, 0.5, 1.0, 2), lrs.ExponentialLR(opt, 0.5)
    scheduler = lrs.SequentialLR(opt, [warm, fall], [2])
    assert run(opt, scheduler, 6) == pytest.approx([0.5, 0.75, 1, 0.5, 0.25, 0.125])
    with pytest.raises(ValueError, match="2 schedulers and 0 milestones"):
        lrs.SequentialLR(opt, [warm, fall], [])
    with pytest.raises(ValueError, match="same optimizer"):
        lrs.SequentialLR(optimizer(), [warm], [])
    with pytest.raises(ValueError, match="at least one"):
        lrs.SequentialLR(opt, [], [])
    with pytest.raises(ValueError, match="metric"):
        lrs.SequentialLR(opt, [lrs.ReduceLROnPlateau(opt)], [])


def test_nested_sequential() -> None:
    opt = optimizer()
    inner = lrs.SequentialLR(opt, [lrs.ConstantLR(opt, 0.5, 9), lrs.ConstantLR(opt, 0.25, 9)], [2])
    outer = lrs.SequentialLR(opt, [inner, lrs.ExponentialLR(opt, 0.1)], [4])
    assert run(opt, outer, 6) == pytest.approx([0.5, 0.5, 0.25, 0.25, 1, 0.1])


def test_chained() -> None:
    opt = optimizer()
    chained = lrs.ChainedScheduler([lrs.ConstantLR(opt, 0.1, 2), lrs.ExponentialLR(opt, 0.5)])
    assert run(opt, chained, 4) == pytest.approx([0.1, 0.05, 0.25, 0.125])
    assert chained.get_last_lr()[0] == pytest.approx(0.0625)


def test_plateau() -> None:
    opt = optimizer()
    scheduler = lrs.ReduceLROnPlateau(opt, factor=0.1, patience=1, cooldown=1, min_lr=0.02)
    metrics = [1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    rates = []
    for metric in metrics:
        scheduler.step(metric)
        rates.append(opt.param_groups[0]["lr"])
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.02, 0.02])
    assert scheduler.best == 0.5
    assert scheduler.get_last_lr() == pytest.approx([0.02, 0.02])
    scheduler.step(bt.tensor(0.1))
    assert scheduler.best == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("mode", "threshold_mode", "better", "worse"),
    [
        ("min", "rel", 8.9, 9.1),
        ("min", "abs", 9.8, 9.95),
        ("max", "rel", 11.1, 10.9),
        ("max", "abs", 10.2, 10.05),
    ],
)
def test_plateau_thresholds(mode: str, threshold_mode: str, better: float, worse: float) -> None:
    scheduler = lrs.ReduceLROnPlateau(
        optimizer(), mode, threshold=0.1, threshold_mode=threshold_mode
    )
    assert scheduler.is_better(10.0, scheduler.best)
    assert scheduler.is_better(better, 10.0)
    assert not scheduler.is_better(worse, 10.0)


def test_plateau_refusals() -> None:
    opt = optimizer()
    for kwargs in ({"factor": 1.0}, {"mode": "up"}, {"threshold_mode": "x"}, {"min_lr": [0.0]}):
        with pytest.raises(ValueError, match=r"factor|mode|min_lrs"):
            lrs.ReduceLROnPlateau(opt, **kwargs)


def test_hand_made_changes_combine() -> None:
    opt = optimizer()
    scheduler = lrs.StepLR(opt, 1, gamma=0.5)
    opt.param_groups[0]["lr"] = 10.0
    opt.step()
    scheduler.step()
    assert opt.param_groups[0]["lr"] == 5


def test_own_schedule() -> None:
    class Halving(lrs.LRScheduler):
        def get_lr(self) -> list[float]:
            return [base * 0.5**self.last_epoch for base in self.base_lrs]

    opt = optimizer()
    assert run(opt, Halving(opt), 3) == [1, 0.5, 0.25]
    with pytest.raises(TypeError, match="int is not an Optimizer"):
        Halving(3)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="initial_lr"):
        Halving(optimizer(), last_epoch=3)


SCHEDULES: dict[str, Any] = {
    "step": lambda m, o: m.StepLR(o, 7, 0.5),
    "multi_step": lambda m, o: m.MultiStepLR(o, [5, 20, 21, 40], 0.3),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.93),
    "lambda": lambda m, o: m.LambdaLR(o, [lambda e: 0.9**e, lambda e: 1 / (1 + e)]),
    "multiplicative": lambda m, o: m.MultiplicativeLR(o, lambda e: 0.95),
    "constant": lambda m, o: m.ConstantLR(o, 0.25, 6),
    "linear": lambda m, o: m.LinearLR(o, 0.1, 0.8, 13),
    "polynomial": lambda m, o: m.PolynomialLR(o, 30, 1.5),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 12, 0.01),
    "warm_restarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 3, 2, 0.01),
    "equal_restarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 4),
    "one_cycle": lambda m, o: m.OneCycleLR(o, [2.0, 3.0], total_steps=60),
    "one_cycle_linear": lambda m, o: m.OneCycleLR(o, 2.0, total_steps=50, anneal_strategy="linear"),
    "one_cycle_three": lambda m, o: m.OneCycleLR(
        o, 2.0, total_steps=50, three_phase=True, pct_start=0.2
    ),
    "sequential": lambda m, o: m.SequentialLR(
        o,
        [m.LinearLR(o, 0.1, 1.0, 5), m.CosineAnnealingLR(o, 20), m.ExponentialLR(o, 0.9)],
        [5, 25],
    ),
    "sequential_constant": lambda m, o: m.SequentialLR(
        o, [m.ConstantLR(o, 0.1, 20), m.StepLR(o, 4), m.LinearLR(o)], [10, 30]
    ),
    "sequential_restarts": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, 0.1, 1.0, 5), m.CosineAnnealingWarmRestarts(o, 10)], [5]
    ),
    "chained": lambda m, o: m.ChainedScheduler([m.ConstantLR(o, 0.1, 9), m.ExponentialLR(o, 0.9)]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_resuming_continues_exactly(name: str) -> None:
    opt, other = optimizer(), optimizer()
    scheduler, twin = SCHEDULES[name](lrs, opt), SCHEDULES[name](lrs, other)
    run(opt, scheduler, 17)
    twin.load_state_dict(scheduler.state_dict())
    other.load_state_dict(opt.state_dict())
    assert run(opt, scheduler, 20) == run(other, twin, 20)
    assert scheduler.get_last_lr() == twin.get_last_lr()


@pytest.mark.peer
@pytest.mark.parametrize("name", SCHEDULES)
def test_fifty_epochs_match_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    opt, theirs = optimizer(), optimizer(torch)
    scheduler = SCHEDULES[name](lrs, opt)
    their_scheduler = SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    for _ in range(50):
        for ours_group, their_group in zip(opt.param_groups, theirs.param_groups, strict=True):
            assert ours_group["lr"] == pytest.approx(their_group["lr"], rel=1e-9, abs=1e-15)
            assert ours_group["momentum"] == pytest.approx(their_group["momentum"], rel=1e-12)
        assert scheduler.get_last_lr() == pytest.approx(their_scheduler.get_last_lr(), rel=1e-9)
        opt.step(), theirs.step()
        scheduler.step(), their_scheduler.step()


@pytest.mark.peer
def test_plateau_matches_torch() -> None:
    torch = pytest.importorskip("torch")
    opt, theirs = optimizer(), optimizer(torch)
    kwargs = {"factor": 0.5, "patience": 2, "cooldown": 1, "min_lr": [0.1, 0.2]}
    scheduler = lrs.ReduceLROnPlateau(opt, **kwargs)
    their_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **kwargs)
    for step in range(50):
        metric = math.cos(step * 0.7) + 1 / (1 + step)
        scheduler.step(metric), their_scheduler.step(metric)
        assert scheduler.get_last_lr() == pytest.approx(their_scheduler.get_last_lr())


def test_a_schedule_before_the_optimizer_warns() -> None:
    opt = optimizer()
    opt.step()
    scheduler = lrs.StepLR(opt, 1)
    with pytest.warns(UserWarning, match=r"`lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        scheduler.step()
    scheduler.step()  # once is enough
    other = lrs.ExponentialLR(opt, 0.5)
    with pytest.warns(UserWarning, match="Detected call"):
        other.step()
    opt.step()
    lrs.StepLR(opt, 1).step()


def test_a_schedule_knows_the_steps_of_an_optimizer_of_the_users() -> None:
    class Own(optim.Optimizer):
        def step(self, closure: Any = None) -> None:
            pass

    opt = Own([nn.Parameter(bt.zeros(1))], {"lr": 1.0})
    scheduler = lrs.StepLR(opt, 1)
    opt.step()
    scheduler.step()
