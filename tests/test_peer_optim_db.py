"""PyTorch's own settings of its optimizers (`optim_db`), on both: 100 steps, reloaded half way.

Each with parameters in one list, in groups with settings of their own, by name, and with a
closure; errors; schedules. Run with `-m peer`.
"""

from __future__ import annotations

import itertools
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail import optim

torch = pytest.importorskip("torch")
common_optimizers = pytest.importorskip("torch.testing._internal.common_optimizers")
pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

INFOS = {
    info.optim_cls.__name__: info
    for info in common_optimizers.optim_db
    if hasattr(optim, info.optim_cls.__name__)
}
DTYPES = {"float32": 2e-4, "float64": 1e-9}
FORMS = ("list", "groups", "named", "closure")
SHAPES = [(3, 2), (4,), (), (2, 3, 2)]
STEPS = 100
# Settings that are left out, with the reason.
REFUSED = {"differentiable"}  # of parameters, PyTorch refuses it at the first step, we at once


def cases() -> list[tuple[str, int]]:
    return [
        (name, i)
        for name, info in INFOS.items()
        for i, made in enumerate(settings(name))
        if not any(made.get(key) for key in REFUSED)
    ]


def settings(name: str) -> list[dict[str, Any]]:
    made = [case.kwargs for case in INFOS[name].optim_inputs_func(device="cpu")]
    plain = {tuple(sorted((k, str(v)) for k, v in kwargs.items())): kwargs for kwargs in made}
    flags = [
        {**kwargs, flag: True}
        for kwargs in plain.values()
        for flag in ("foreach", "fused")
        if flag in INFOS[name].supported_impls
        and (flag == "foreach" or "cpu" in INFOS[name].supports_fused_on)
        and not isinstance(kwargs.get("lr"), torch.Tensor)
    ]
    return [*plain.values(), *flags]


def build(lib: Any, name: str, kwargs: dict[str, Any], form: str, start: list[Any]) -> Any:
    params = [lib.nn.Parameter(lib.from_numpy(x.copy())) for x in start]
    kwargs = {
        k: lib.tensor(v.item()) if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()
    }
    given: Any = params
    if form == "groups":
        given = [{"params": params[:2], "lr": 0.005}, {"params": params[2:]}]
        if name != "Adagrad" and "weight_decay" in kwargs:
            given[0]["weight_decay"] = 0.02
    elif form == "named":
        given = [(f"p{i}", p) for i, p in enumerate(params)]
    return params, getattr(lib.optim, name)(given, **kwargs)


def advance(lib: Any, params: list[Any], opt: Any, form: str, steps: range) -> None:
    # Now and then a parameter has no gradient; not with PyTorch's fused SGD, which then fails.
    fused = opt.defaults.get("fused")
    for step in steps:

        def closure(step: int = step) -> Any:
            opt.zero_grad()
            loss = sum(
                ((p - 0.3 * i) ** 2).sum() * (1 + 0.1 * (step % 3)) + p.cos().sum()
                for i, p in enumerate(params)
                if fused or (step + i) % 5
            )
            loss.backward()
            return loss

        if form == "closure":
            opt.step(closure)
        else:
            closure()
            opt.step()


def compare(ours: list[Any], theirs: list[Any], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance
        )


def carry(state: Any, to: Any) -> Any:
    """Bring a state from one library to the other, through NumPy."""
    if isinstance(state, dict):
        return {k: carry(v, to) for k, v in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(carry(v, to) for v in state)
    return to.from_numpy(np.array(state.numpy())) if hasattr(state, "numpy") else state


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "number"), cases())
def test_optimizer(name: str, number: int, dtype: str) -> None:
    kwargs = settings(name)[number]
    rng = np.random.default_rng(number)
    # All forms with the plain settings, one with each of the others.
    for form in FORMS if number == 0 else (FORMS[number % len(FORMS)],):
        start = [np.asarray(rng.standard_normal(shape), dtype=dtype) for shape in SHAPES]
        sides = [(lib, *build(lib, name, kwargs, form, start)) for lib in (bt, torch)]
        half = STEPS // 2
        for lib, params, opt in sides:
            advance(lib, params, opt, form, range(half))
        compare(sides[0][1], sides[1][1], DTYPES[dtype])
        # Each goes on from its own state, and ours from theirs, theirs from ours.
        ours, theirs = sides[0][2].state_dict(), sides[1][2].state_dict()
        assert {k: sorted(v) for k, v in ours["state"].items()} == {
            k: sorted(v) for k, v in theirs["state"].items()
        }
        assert [sorted(g) for g in ours["param_groups"]] == [
            sorted(g) for g in theirs["param_groups"]
        ]
        values = [p.detach().numpy().copy() for p in sides[1][1]]
        again = [(lib, *build(lib, name, kwargs, form, values)) for lib in (bt, torch)]
        again[0][2].load_state_dict(carry(theirs, bt))
        again[1][2].load_state_dict(carry(ours, torch))
        sides[0][2].load_state_dict(ours)
        for lib, params, opt in [*sides, *again]:
            advance(lib, params, opt, form, range(half, STEPS))
        for _, params, _ in (sides[0], *again):
            compare(params, sides[1][1], DTYPES[dtype])


@pytest.mark.parametrize("name", INFOS)
def test_errors(name: str) -> None:
    info = INFOS[name]
    for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
        made = error.optimizer_error_input
        if error.error_on is not common_optimizers.OptimizerErrorEnum.CONSTRUCTION_ERROR:
            continue
        given = twin(made.params)
        kwargs = carry(made.kwargs, bt)
        if issubclass(error.error_type, Warning):
            with pytest.warns(error.error_type, match=error.error_regex):
                getattr(optim, name)(given, **kwargs)
        else:
            with pytest.raises(error.error_type, match=error.error_regex):
                getattr(optim, name)(given, **kwargs)


_TWINS: dict[int, Any] = {}


def twin(value: Any) -> Any:
    """The same of ours for the same of theirs, at any depth."""
    if isinstance(value, (list, tuple)):
        return type(value)(twin(v) for v in value)
    if isinstance(value, dict):
        return {k: twin(v) for k, v in value.items()}
    if not isinstance(value, torch.Tensor):
        return value
    if id(value) not in _TWINS:
        _TWINS[id(value)] = (bt.nn.Parameter(bt.zeros(*value.shape)), value)
    return _TWINS[id(value)][0]


SCHEDULES = {
    "StepLR": ((7,), {}),
    "MultiStepLR": (([3, 11],), {"gamma": 0.3}),
    "ExponentialLR": ((0.97,), {}),
    "CosineAnnealingLR": ((20,), {"eta_min": 0.001}),
    "CosineAnnealingWarmRestarts": ((6,), {"T_mult": 2}),
    "LinearLR": ((), {"total_iters": 9}),
    "ConstantLR": ((), {"total_iters": 9}),
    "PolynomialLR": ((), {"total_iters": 30, "power": 1.5}),
    "OneCycleLR": ((0.1,), {"total_steps": 200}),
}


@pytest.mark.parametrize(("name", "schedule"), list(itertools.product(("SGD", "AdamW"), SCHEDULES)))
def test_schedules(name: str, schedule: str) -> None:
    args, kwargs = SCHEDULES[schedule]
    settings = {"momentum": 0.9} if name == "SGD" else {}
    start = [np.ones(shape) for shape in SHAPES]
    sides = [(lib, *build(lib, name, settings, "groups", start)) for lib in (bt, torch)]
    schedules = [
        getattr(lib.optim.lr_scheduler, schedule)(opt, *args, **kwargs) for lib, _, opt in sides
    ]
    for step in range(60):
        for (lib, params, opt), scheduler in zip(sides, schedules, strict=True):
            advance(lib, params, opt, "list", range(step, step + 1))
            scheduler.step()
        assert schedules[0].get_last_lr() == pytest.approx(schedules[1].get_last_lr(), rel=1e-12)
        if step == 30:
            groups = sides[0][2].param_groups
            before = [dict(group) for group in groups]  # for a new schedule starts anew
            made = getattr(bt.optim.lr_scheduler, schedule)(sides[0][2], *args, **kwargs)
            made.load_state_dict(schedules[0].state_dict())
            for group, was in zip(groups, before, strict=True):
                group.update(was)
            schedules[0] = made
    compare(sides[0][1], sides[1][1], 1e-9)
