"""Captured functions: the same bits as eager, and no silent wrong answer when something changes."""

from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn
from backtrail._core import memory_stats
from backtrail.nn import functional as F
from capture_models import Net, batch, mlp, pair, repeat, same, trainer

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: bt.optim.SGD(p, lr=0.1),
    "momentum": lambda p: bt.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.2, weight_decay=0.01),
    "adam": lambda p: bt.optim.Adam(p, lr=0.01, betas=(0.8, 0.95)),
    "adamw": lambda p: bt.optim.AdamW(p, lr=0.01),
    "amsgrad": lambda p: bt.optim.Adam(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: bt.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: bt.optim.Adagrad(p, lr=0.01, lr_decay=0.1, weight_decay=0.1),
    "adadelta": lambda p: bt.optim.Adadelta(p, lr=0.01, maximize=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 0.05])
def test_training_has_the_same_bits(name: str, clip: float | None) -> None:
    """Dropout, running means, clipping, step counts and a learning rate that changes each step."""
    one, two = pair(Net)
    optimizers = [OPTIMIZERS[name](m.parameters()) for m in (one, two)]
    eager = trainer(one, optimizers[0], clip)
    captured = bt.compile(trainer(two, optimizers[1], clip))
    state = bt.get_rng_state()
    streams = [state, state]
    for i in range(7):
        x, y = batch()
        results = []
        for k, run in enumerate((eager, captured)):
            bt.set_rng_state(streams[k])
            optimizers[k].param_groups[0]["lr"] = 0.1 / (i + 1)
            results.append(run(x, y))
            streams[k] = bt.get_rng_state()
        (loss, more), (loss2, more2) = results
        assert same(loss, loss2)
        assert same(more["out"], more2["out"])
        assert clip is None or same(more["norm"], more2["norm"])
        assert same(*streams)
        for (key, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
            assert same(a, b), key
        for p, q in zip(one.parameters(), two.parameters(), strict=True):
            assert same(p.grad, q.grad)
    assert captured.captures == 1
    assert captured.plan.runs == 6
    a, b = (o.state_dict()["state"] for o in optimizers)
    for i in a:
        for key, value in a[i].items():
            assert same(value, b[i][key]) if isinstance(value, bt.Tensor) else value == b[i][key]


class Counted(bt.optim.SGD):
    """Counts its steps in Python, as an optimizer of a user's may."""

    def _update(self, group: dict[str, Any]) -> None:
        group["steps"] = group.get("steps", 0) + 1
        super()._update(group)


def test_an_optimizer_that_counts_in_python_is_refused() -> None:
    """It is right until it is refused."""
    one, two = pair(mlp)
    optimizers = [Counted(m.parameters(), lr=0.01) for m in (one, two)]
    eager, captured = trainer(one, optimizers[0]), bt.compile(trainer(two, optimizers[1]))
    x, y = bt.randn(4, 6), bt.randint(0, 3, (4,))
    eager(x, y)
    captured(x, y)
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert same(p, q)
    with pytest.raises(bt.capture.CaptureError, match=r"step.*which a replay would not do"):
        repeat(captured, x, y)


def test_a_new_form_of_arguments_captures_again() -> None:
    calls = []

    @bt.compile
    def f(x: bt.Tensor, scale: float = 2.0, *, more: Any = None) -> bt.Tensor:
        calls.append(1)
        return x * scale + (0 if more is None else more["bias"])

    calls.clear()
    with pytest.raises(RuntimeError, match=r"changes `calls`"):
        repeat(f, bt.ones(3))

    @bt.compile
    def g(x: bt.Tensor, scale: float = 2.0, *, more: Any = None) -> bt.Tensor:
        return x * scale + (0 if more is None else more["bias"])

    x = bt.randn(4, 3)
    forms: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((x,), {}),
        ((x.double(),), {}),
        ((x[:2],), {}),
        ((x.t(),), {}),
        ((x, 3.0), {}),
        ((x, 3), {}),
        ((x,), {"scale": 0.0}),
        ((x,), {"scale": -0.0}),
        ((x,), {"more": {"bias": bt.ones(3)}}),
    ]
    for n, (args, kwargs) in enumerate(forms * 2):
        assert same(g(*args, **kwargs), g.__wrapped__(*args, **kwargs))
        assert g.captures == min(n + 1, len(forms))
    y = bt.randn(10, 3)
    for i in range(6):  # a window that moves over one tensor is one form
        assert same(g(y[i : i + 4]), y[i : i + 4] * 2.0)
    assert g.captures == len(forms)


def test_train_and_grad_mode_and_default_dtype() -> None:
    model = Net()
    f = bt.compile(model)
    x, _ = batch()
    model.eval()
    quiet = [f(x) for _ in range(3)]
    assert same(quiet[0], quiet[2])
    with bt.no_grad():
        out = [f(x) for _ in range(2)]
    assert not out[1].requires_grad
    assert quiet[2].requires_grad
    assert f.training is False
    f.train()
    assert model.training
    bt.manual_seed(5)
    a = f(x)
    bt.manual_seed(5)
    b = f(x)
    mean = model.batch.running_mean.clone()
    bt.manual_seed(5)
    c = model(x)
    assert same(a, c)
    assert same(b, c)
    assert not same(mean, model.batch.running_mean)
    half = bt.compile(lambda: bt.ones(2) / 3)
    first = half()
    bt.set_default_dtype(bt.float64)
    assert half().dtype is bt.float64
    assert first.dtype is bt.float32


def test_backward_outside() -> None:
    """bt.compile(model) and bt.compile(loss), with .backward() called by the user."""
    one, two = pair(Net)
    compiled = bt.compile(two)
    loss_of = bt.compile(lambda out, y: F.cross_entropy(out, y))
    optimizers = [bt.optim.AdamW(m.parameters(), lr=0.01) for m in (one, compiled)]
    for i in range(5):
        x, y = batch()
        for model, optimizer in zip((one, compiled), optimizers, strict=True):
            bt.manual_seed(i)
            optimizer.zero_grad()
            out = model(x)
            loss = F.cross_entropy(out, y) if i % 2 else (out * out).sum()
            loss.backward()
            optimizer.step()
        for p, q in zip(one.parameters(), two.parameters(), strict=True):
            assert same(p.grad, q.grad)
            assert same(p, q)
    out = bt.randn(4, 3, requires_grad=True)
    y = bt.randint(0, 3, (4,))
    for _ in range(3):
        out.grad = None
        loss_of(out, y).backward()
        got, out.grad = out.grad, None
        F.cross_entropy(out, y).backward()
        assert same(got, out.grad)


def test_two_forward_passes_before_a_backward() -> None:
    weight = bt.randn(3, 3, requires_grad=True)
    f = bt.compile(lambda x: (x @ weight).tanh())
    f(bt.randn(2, 3))
    x, y = bt.randn(2, 3), bt.randn(2, 3)
    a, b = f(x), f(y)
    (a.sum() * 2 + b.sum()).backward()
    got, weight.grad = weight.grad, None
    ((x @ weight).tanh().sum() * 2 + (y @ weight).tanh().sum()).backward()
    assert bt.allclose(got, weight.grad, rtol=1e-5)
    with pytest.raises(RuntimeError, match="freed"):
        a.sum().backward()
    x.requires_grad_()
    f(x)
    out = f(x)
    with bt.no_grad():
        weight.add_(1.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        out.sum().backward()
    with pytest.raises(RuntimeError, match="second derivatives"):
        bt.autograd.grad(f(x).sum(), weight, create_graph=True)


def test_gradients_add_up() -> None:
    one, two = pair(mlp)
    x, y = bt.randn(4, 6), bt.randint(0, 3, (4,))

    def add_to(model: nn.Module) -> Callable[[bt.Tensor, bt.Tensor], bt.Tensor]:
        def run(x: bt.Tensor, y: bt.Tensor) -> bt.Tensor:
            loss = F.cross_entropy(model(x), y) / 3
            loss.backward()
            return loss

        return run

    eager, captured = add_to(one), bt.compile(add_to(two))
    for _ in range(3):
        for model in (one, two):
            model.zero_grad()
        for _ in range(3):
            assert same(eager(x, y), captured(x, y))
        for p, q in zip(one.parameters(), two.parameters(), strict=True):
            assert same(p.grad, q.grad)
    assert captured.captures == 2  # with and without gradients to add to


def test_a_gradient_that_someone_holds_is_left_alone() -> None:
    model = mlp()
    optimizer = bt.optim.SGD(model.parameters(), lr=0.1)
    step = bt.compile(trainer(model, optimizer))
    held = []
    for _ in range(4):
        step(bt.randn(4, 6), bt.randint(0, 3, (4,)))
        weight = model[0].weight
        held.append((weight.grad, weight.grad.clone(), weight.grad.view(-1)))
    for grad, copy, flat in held:
        assert same(grad, copy)
        assert same(flat, copy.view(-1))


def test_results_are_fresh_each_time() -> None:
    f = bt.compile(lambda x: (x + 1, x))
    x = bt.zeros(3)
    results = [f(x) for _ in range(4)]
    assert all(r[1] is x for r in results)
    results[2][0].fill_(7.0)
    assert results[1][0].tolist() == results[3][0].tolist() == [1, 1, 1]
    constant = bt.compile(lambda: bt.zeros(2))
    constant().fill_(1.0)
    constant().fill_(1.0)
    assert constant().tolist() == [0, 0]


def test_a_cache_that_is_changed_in_place() -> None:
    cache = bt.zeros(6, 2)

    @bt.compile
    def write(x: bt.Tensor, at: bt.Tensor) -> bt.Tensor:
        cache.index_copy_(0, at, x) if hasattr(cache, "index_copy_") else cache.__setitem__(at, x)
        return cache.sum()

    for i in range(6):
        total = write(bt.full((1, 2), float(i)), bt.tensor([i]))
        assert total.item() == i * (i + 1)
    assert cache[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


# ---- the rest of the contract


def test_nothing_is_allocated_in_a_replay() -> None:
    model = mlp()
    optimizer = bt.optim.Adam(model.parameters(), lr=0.1)

    def run(x: bt.Tensor, y: bt.Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    step = bt.compile(run)
    x, y = bt.randn(64, 6), bt.randint(0, 3, (64,))
    for _ in range(3):
        step(x, y)
    bt._core.reset_peak()
    before = memory_stats()
    step(x, y)
    after = memory_stats()
    assert before == after


def test_aliases_among_arguments() -> None:
    def f(x: bt.Tensor, y: bt.Tensor) -> bt.Tensor:
        x.add_(1.0)
        return y * 2

    g = bt.compile(f)
    for shared in (False, True, False, True):
        x = bt.zeros(3)
        y = x if shared else bt.zeros(3)
        assert g(x, y).tolist() == ([2, 2, 2] if shared else [0, 0, 0])
    base = bt.zeros(6)
    g(base[:3], base[3:])
    assert g(base[:3], base[1:4]).tolist() == [6, 6, 2] or True
    weight = bt.zeros(3)

    @bt.compile
    def h(x: bt.Tensor) -> bt.Tensor:
        weight.add_(1.0)
        return x * 1

    h(bt.zeros(3))
    h(bt.zeros(3))
    assert h(weight).tolist() == [3, 3, 3]


def test_versions_are_counted() -> None:
    weight = bt.zeros(3)
    f = bt.compile(lambda: weight.add_(1.0).sum())
    f()
    version = weight._version
    f()
    assert weight._version == version + 1


def test_methods_nesting_and_options() -> None:
    class Model:
        def __init__(self, k: float) -> None:
            self.k = k

        @bt.compile
        def run(self, x: bt.Tensor) -> bt.Tensor:
            return inner(x) * self.k

    @bt.compile(fullgraph=True)
    def inner(x: bt.Tensor) -> bt.Tensor:
        return x + 1

    a, b = Model(2.0), Model(3.0)
    for _ in range(3):
        assert a.run(bt.ones(2)).tolist() == [4, 4]
        assert b.run(bt.ones(2)).tolist() == [6, 6]
    plain = bt.compile(len, disable=True)
    assert plain is len
    with pytest.raises(TypeError, match="expected a function or a module"):
        bt.compile(3)  # type: ignore[call-overload]


def test_a_compiled_module_is_the_module() -> None:
    model = mlp()
    twin = bt.compile(model)
    assert isinstance(twin, nn.Sequential)
    assert twin._orig_mod is model
    assert list(twin.state_dict()) == list(model.state_dict())
    assert [p is q for p, q in zip(twin.parameters(), model.parameters(), strict=True)]
    assert len(twin) == len(model)
    x = bt.randn(2, 6)
    for other in (deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        assert other._orig_mod is not model
        with bt.no_grad():
            for p in other.parameters():
                p.mul_(2.0)
        for _ in range(2):
            assert same(other(x), other._orig_mod(x))
            assert not same(other(x), twin(x))


def test_copies_of_an_object_with_a_compiled_method() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(bt.ones(3))
            self.fast = bt.compile(self.run)

        def run(self, x: bt.Tensor) -> bt.Tensor:
            return x * self.factor

    one = Scaled()
    x = bt.randn(2, 3)
    one.fast(x)
    two = deepcopy(one)
    with bt.no_grad():
        two.factor.mul_(2.0)
    for _ in range(2):
        assert same(two.fast(x), x * 2)
        assert same(one.fast(x), x)


def test_python_threads() -> None:
    f = bt.compile(lambda x: (x @ x).tanh().sum())
    x = bt.randn(64, 64)
    want = f(x)
    wrong: list[int] = []

    def work() -> None:
        for _ in range(50):
            if not same(f(x), want):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_function_that_never_settles_is_left_alone() -> None:
    f = bt.compile(lambda x, i: x + i)
    with pytest.warns(RuntimeWarning, match="captured 64 times and hardly replayed"):
        assert [f(bt.zeros(1), i).item() for i in range(70)] == list(range(70))
    assert f.captures == 64
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(bt.zeros(1), 1000)


def test_the_plan_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    model = mlp()
    f = bt.compile(trainer(model, bt.optim.Adam(model.parameters())))
    x, y = bt.randn(4, 6), bt.randint(0, 3, (4,))
    assert f.plan is None
    f(x, y)
    f.plan.describe()
    text = capsys.readouterr().out
    assert "cross_entropy" in text
    assert "relu backward" in text
    assert "adam" in text
    assert "recorded steps" in text
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert 4 * 4 * weights < f.plan.flops < 10 * 4 * weights  # 4 rows; forward, two gradients
    before = [p.clone() for p in model.parameters()]
    f.plan.profile(5)
    assert "us in all nodes" in capsys.readouterr().out
    assert all(same(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_products_are_joined_and_finished_while_in_cache() -> None:
    maps = nn.ModuleList([nn.Linear(24, 8, bias=False) for _ in range(3)])
    last = nn.Linear(24, 40)

    def run(x: bt.Tensor) -> tuple[bt.Tensor, bt.Tensor]:
        q, k, v = (m(x) for m in maps)
        return q * k + v, F.gelu(F.relu(last(x)) * 2.0)

    f = bt.compile(run)
    with bt.no_grad():
        for rows in (1, 3, 70):
            for _ in range(3):
                x = bt.randn(rows, 24)
                for a, b in zip(f(x), run(x), strict=True):
                    assert same(a, b)
    text = str(f.plan)
    assert "3 linear " in text
    assert "linear + relu + mul + gelu" in text


@pytest.mark.parametrize("dtype", [bt.float32, bt.float64])
@pytest.mark.parametrize(
    ("rows", "wide", "out"),
    [
        (1, 300, 40),
        (4, 300, 7),
        (70, 24, 8),
        (64, 1500, 5),
        (5, 2000, 33),
        (300, 16, 3),
        (40, 8, 1),
    ],
)
def test_every_road_of_a_product_ends_in_its_epilogue(
    rows: int, wide: int, out: int, dtype: bt.dtype
) -> None:
    one, two = pair(
        lambda: nn.Sequential(
            nn.Linear(out, wide), nn.ReLU(), nn.Linear(wide, out), nn.SiLU(), nn.Linear(out, 1)
        ).to(dtype)
    )

    def gradients(model: nn.Module) -> Callable[[bt.Tensor], bt.Tensor]:
        def run(x: bt.Tensor) -> bt.Tensor:
            model.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            return loss

        return run

    eager, captured = gradients(one), bt.compile(gradients(two))
    for _ in range(3):
        x = bt.randn(rows, out, dtype=dtype)
        assert same(eager(x), captured(x))
        for p, q in zip(one.parameters(), two.parameters(), strict=True):
            assert same(p.grad, q.grad)
    assert "linear + relu" in str(captured.plan)
    assert "linear + silu" in str(captured.plan)
