"""Captured functions: whatever Python changes around one is seen, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn
from capture_models import Net, batch, mlp, pair, repeat, same, trainer


def test_parameters_that_are_replaced_or_frozen() -> None:
    model = mlp()
    f = bt.compile(model)
    x = bt.randn(4, 6)
    changes: list[Callable[[], Any]] = [
        lambda: setattr(model[0], "weight", nn.Parameter(bt.randn(16, 6))),
        lambda: setattr(model[0].weight, "data", bt.randn(16, 6)),
        lambda: model[0].weight.requires_grad_(False),
        lambda: model[2].weight.data.mul_(2.0),
        lambda: model.load_state_dict(mlp().state_dict()),
        lambda: model.append(nn.Tanh()),
        lambda: model.__setitem__(1, nn.Sigmoid()),
        lambda: model.double().float(),
        lambda: setattr(model[2], "bias", None),
        lambda: model[2].weight.register_hook(lambda g: g * 2),
    ]
    f(x)
    for change in changes:
        change()
        for _ in range(2):
            model.zero_grad()
            got = f(x)
            got.sum().backward()
            grads = [p.grad for p in model.parameters()]
            model.zero_grad()
            want = model(x)
            want.sum().backward()
            assert same(got, want)
            for g, p in zip(grads, model.parameters(), strict=True):
                assert (g is None) == (p.grad is None)
                assert g is None or same(g, p.grad)


FACTOR = 2.0
TABLE = {"a": [1.0, 2.0]}


class Settings:
    gain = 1.0

    def __init__(self) -> None:
        self.bias = 0.5


def test_python_values_that_change() -> None:
    global FACTOR
    settings, local = Settings(), bt.ones(2)
    names = ["x"]

    def f(x: bt.Tensor) -> bt.Tensor:
        return x * FACTOR * settings.gain + settings.bias + local + TABLE["a"][1] + len(names)

    g = bt.compile(f)
    x = bt.randn(2)
    assert same(g(x), f(x))
    FACTOR = 3.0
    assert same(g(x), f(x))
    settings.bias = 1.5
    assert same(g(x), f(x))
    Settings.gain = 4.0
    assert same(g(x), f(x))
    TABLE["a"][1] = 9.0
    assert same(g(x), f(x))
    names.append("y")
    assert same(g(x), f(x))
    local = bt.full((2,), 5.0)
    assert same(g(x), f(x))
    local.add_(1.0)
    assert same(g(x), f(x))
    assert g.captures == 7
    FACTOR = 2.0
    Settings.gain = 1.0


def test_hyperparameters_of_optimizers() -> None:
    one, two = pair(mlp)
    optimizers = [bt.optim.Adam(m.parameters(), lr=0.1) for m in (one, two)]
    eager, captured = trainer(one, optimizers[0]), bt.compile(trainer(two, optimizers[1]))
    x, y = bt.randn(4, 6), bt.randint(0, 3, (4,))
    for key, value in [
        ("lr", 0.2),
        ("betas", (0.5, 0.6)),
        ("eps", 1e-3),
        ("weight_decay", 0.1),
        ("maximize", True),
        ("amsgrad", True),
    ]:
        for _ in range(3):
            eager(x, y)
            captured(x, y)
        for optimizer in optimizers:
            optimizer.param_groups[0][key] = value
        for _ in range(2):
            eager(x, y)
            captured(x, y)
        for p, q in zip(one.parameters(), two.parameters(), strict=True):
            assert same(p, q), key
    assert captured.captures <= 4  # lr, betas, eps and weight_decay need no new capture
    saved = optimizers[0].state_dict()
    optimizers[1].load_state_dict(saved)
    optimizers[0].load_state_dict(saved)
    for _ in range(3):
        eager(x, y)
        captured(x, y)
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert same(p, q)


def test_schedules_outside_and_inside() -> None:
    one, two = pair(mlp)
    optimizers = [bt.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (one, two)]
    schedules = [bt.optim.lr_scheduler.StepLR(o, 2, gamma=0.5) for o in optimizers]
    eager, captured = trainer(one, optimizers[0]), bt.compile(trainer(two, optimizers[1]))
    for _ in range(8):
        x, y = bt.randn(4, 6), bt.randint(0, 3, (4,))
        eager(x, y)
        captured(x, y)
        for schedule in schedules:
            schedule.step()
        for p, q in zip(one.parameters(), two.parameters(), strict=True):
            assert same(p, q)
    assert captured.captures <= 2

    @bt.compile
    def inside(x: bt.Tensor) -> bt.Tensor:
        schedules[1].step()
        return x + 1

    with pytest.raises(RuntimeError, match="which a replay would not do"):
        repeat(inside, bt.ones(1))


def test_state_that_is_made_at_the_first_call() -> None:
    class Lazy(nn.Module):
        mask: Any = None

        def forward(self, x: bt.Tensor) -> bt.Tensor:
            if self.mask is None:
                self.mask = bt.tensor([1.0, 0.0, 1.0])
            return x * self.mask

    model = Lazy()
    f = bt.compile(model)
    for _ in range(4):
        x = bt.randn(2, 3)
        assert same(f(x), x * model.mask)


def test_state_that_a_replay_would_lose_is_refused() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0
            self.last: Any = None

        def forward(self, x: bt.Tensor, keep: bool) -> bt.Tensor:
            if keep:
                self.last = x * 2
            else:
                self.calls += 1
            return x + 1

    for keep, name in ((False, "calls"), (True, "last")):
        f = bt.compile(Counter())
        with pytest.raises(RuntimeError, match=name):
            repeat(f, bt.ones(2), keep)

    import random

    @bt.compile
    def noisy(x: bt.Tensor) -> bt.Tensor:
        return x * random.random()

    with pytest.raises(RuntimeError, match="random"):
        repeat(noisy, bt.ones(2))


# ---- values that Python may not look at


@pytest.mark.parametrize(
    "look",
    [
        lambda t: t.sum().item(),
        lambda t: 1 if t.sum() < 1 else 2,
        lambda t: float(t.sum()),
        lambda t: t.tolist(),
        lambda t: t.numpy(),
        lambda t: str(t),
        lambda t: t.nonzero(),
        lambda t: t[t > 0],
        lambda t: t.unique(),
        lambda t: bt.tensor([t.sum(), 1.0]),
        lambda t: bt.manual_seed(1),
    ],
    ids=[
        "item",
        "if",
        "float",
        "tolist",
        "numpy",
        "str",
        "nonzero",
        "mask",
        "unique",
        "tensor",
        "seed",
    ],
)
def test_values_are_not_for_python(look: Callable[[bt.Tensor], Any]) -> None:
    @bt.compile
    def f(x: bt.Tensor) -> bt.Tensor:
        look(x * 2)
        return x

    with pytest.raises(RuntimeError, match=r"test_capture_guards\.py:\d+.*compiled function"):
        f(bt.ones(3))
    assert bt.ones(2).sum().item() == 2  # nothing goes on being watched


def test_an_error_in_the_function_passes_through() -> None:
    @bt.compile
    def f(x: bt.Tensor, fail: bool) -> bt.Tensor:
        if fail:
            raise KeyError("mine")
        return x @ x

    with pytest.raises(KeyError, match="mine"):
        f(bt.ones(2, 2), True)
    with pytest.raises(RuntimeError, match="matmul"):
        f(bt.ones(2, 3), False)
    assert f(bt.ones(2, 2), False).tolist() == [[2, 2], [2, 2]]


def test_an_error_in_a_replay_changes_nothing() -> None:
    model = Net()
    optimizer = bt.optim.Adam(model.parameters(), lr=0.1)
    step = bt.compile(trainer(model, optimizer))
    x, y = batch()
    for _ in range(2):
        step(x, y)
    before = [p.clone() for p in model.parameters()]
    bad = x.clone()
    bad[0, 0] = 99
    with pytest.raises(IndexError, match="no parameter or buffer was changed"):
        step(bad, y)
    assert all(same(a, b) for a, b in zip(before, model.parameters(), strict=True))
    step(x, y)
    assert not same(before[0], next(model.parameters()))
    assert optimizer.state_dict()["state"][0]["step"] == 3


# ---- arguments: memory that is theirs, and memory that has another name too


def test_results_that_are_views_of_arguments() -> None:
    f = bt.compile(lambda x: (x[1:], x.unsqueeze(0), x.detach()))
    g = bt.compile(lambda x: (x[1:], x * 2))
    base = bt.arange(12.0)
    for i in range(5):
        x = base[i : i + 4]
        for h in (f, g):
            got, want = h(x), h.__wrapped__(x)
            assert all(same(a, b) for a, b in zip(got, want, strict=True))
            got[0][0] = 100.0 + i
            assert base[i + 1].item() == 100.0 + i
    assert f.captures == g.captures == 1


def test_an_argument_that_is_also_read_by_name() -> None:
    w = bt.arange(3.0)
    f = bt.compile(lambda x: x + w)
    for x in (w, bt.full((3,), 100.0), w, bt.zeros(3), w):
        assert same(f(x), x + w)
    assert f.captures == 2

    def shift(x: bt.Tensor) -> bt.Tensor:
        x.add_(1.0)
        return w * 2

    g = bt.compile(shift)
    for x in (bt.zeros(3), bt.zeros(3), w, bt.zeros(3), w):
        before = w.clone()
        assert same(g(x), (before + (x is w)) * 2)


def test_a_batch_that_is_also_kept_elsewhere_is_a_batch() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.data = bt.randn(12, 3)
            self.batches = [bt.randn(4, 3) for _ in range(30)]

        def step(self, x: bt.Tensor) -> bt.Tensor:
            return (x * 2).sum()

    trainer = Trainer()
    step = bt.compile(trainer.step)
    for x in (*trainer.batches, *(trainer.data[i : i + 4] for i in range(8))):
        assert same(step(x), (x * 2).sum())
    assert step.captures <= 3


def test_tensors_without_elements() -> None:
    empty = bt.empty(0, 3)
    f = bt.compile(lambda x: (x[:0], x[:0] @ x.T, bt.cat([empty, x]), bt.empty(0), x[:0].sum()))
    for _ in range(3):
        x = bt.randn(2, 3)
        assert all(same(a, b) for a, b in zip(f(x), f.__wrapped__(x), strict=True))
    assert f.captures == 1


def test_products_with_zeros() -> None:
    """The derivative of cumprod takes another way where there are zeros."""

    def slope(x: bt.Tensor) -> bt.Tensor:
        leaf = x.detach().requires_grad_()
        leaf.cumprod(0).sum().backward()
        return leaf.grad

    f = bt.compile(slope)
    for x in ([2.0, 3.0, 0.5], [2.0, 0.0, 3.0], [0.0, 0.0, 1.0], [1.5, 2.0, 3.0]):
        assert same(f(bt.tensor(x)), slope(bt.tensor(x)))


# ---- what cannot be watched


def test_iterators_and_generators_are_refused() -> None:
    batches = iter([bt.ones(2), bt.zeros(2), bt.ones(2)])

    @bt.compile
    def f(x: bt.Tensor) -> bt.Tensor:
        return x + next(batches)

    with pytest.raises(RuntimeError, match="iterator `batches`"):
        repeat(f, bt.ones(2))

    import random

    rng = random.Random(0)

    @bt.compile
    def g(x: bt.Tensor) -> bt.Tensor:
        return x * rng.random()

    with pytest.raises(RuntimeError, match="which a replay would not do"):
        repeat(g, bt.ones(2))


def test_memory_of_numpy_is_refused() -> None:
    np = pytest.importorskip("numpy")
    data = np.ones(3, np.float32)
    for make in (bt.from_numpy, bt.tensor):
        f = bt.compile(lambda x, make=make: x + make(data))
        with pytest.raises(RuntimeError, match=r"from_numpy at .*pass it as an argument"):
            f(bt.ones(3))


def test_settings_in_objects_of_the_standard_library() -> None:
    import argparse
    import types

    for kind in (argparse.Namespace, types.SimpleNamespace):
        settings = kind(scale=2.0, names={"a", "b"})
        f = bt.compile(lambda x, s=settings: x * s.scale + len(s.names) + ("c" in s.names))
        x = bt.ones(2)
        assert f(x).tolist() == [4, 4]
        settings.scale = 3.0
        assert f(x).tolist() == [5, 5]
        settings.names.remove("a")
        settings.names.add("c")
        assert f(x).tolist() == [6, 6]


def test_results_are_what_the_function_returns() -> None:
    @bt.compile
    def f(x: bt.Tensor) -> tuple[bt.Tensor, ...]:
        return nn.Parameter(x * 2), bt.zeros(2, requires_grad=True), x[1:], x.detach()

    for _ in range(3):
        x = bt.arange(3.0)
        p, leaf, part, same_memory = f(x)
        assert isinstance(p, nn.Parameter)
        assert p.requires_grad
        assert leaf.requires_grad
        assert leaf.is_leaf
        x.add_(1.0)
        assert part.tolist() == [2, 3]
        assert same_memory.tolist() == [1, 2, 3]
