"""Hooks of tensors and of nodes, kept gradients, and what a backward pass may not be told."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import backtrail as bt
import pytest


def leaf(*values: float) -> bt.Tensor:
    return bt.tensor(values, requires_grad=True)


# ---- the gradient that a pass begins with


class _InPlace(bt.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: bt.Tensor) -> bt.Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, g: bt.Tensor) -> bt.Tensor:
        return g.mul_(7)


def _write_by_numpy(g: bt.Tensor) -> None:
    g.numpy()[...] = 7


def _hooked(write: Callable[[bt.Tensor], Any]) -> None:
    loss = (leaf(1.0, 2.0) * 2).sum()
    loss.register_hook(lambda g: (write(g), None)[1])
    loss.backward()


def _of_a_sum() -> None:
    x = leaf(1.0, 2.0)
    bt.autograd.grad(x.sum(), x)[0].fill_(7)


def _of_a_scalar() -> None:
    b = bt.tensor(1.0, requires_grad=True)
    bt.autograd.grad(b + 1, b)[0].mul_(7)


def _retained() -> None:
    loss = leaf(1.0, 2.0).sum()
    loss.retain_grad()
    loss.backward()
    loss.grad.zero_()


def _in_a_function() -> None:
    _InPlace.apply(leaf(1.0).sum()).backward()


def _of_a_leaf() -> None:
    b = bt.tensor(1.0, requires_grad=True)
    b.backward()
    b.grad.mul_(7)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: _hooked(lambda g: g.mul_(7)),
        lambda: _hooked(lambda g: g.data.mul_(7)),
        lambda: _hooked(lambda g: g.detach().view(1).fill_(7)),
        lambda: _hooked(_write_by_numpy),
        _of_a_sum,
        _of_a_scalar,
        _retained,
        _in_a_function,
        _of_a_leaf,
    ],
)
def test_a_pass_begins_with_1_whatever_was_written_before(misuse: Callable[[], None]) -> None:
    misuse()
    c, b = leaf(1.0, 1.0), bt.tensor(2.0, requires_grad=True)
    c.sum().backward()
    (b * 3).backward()
    assert c.grad.tolist() == [1, 1]
    assert b.grad.item() == 3


@pytest.mark.parametrize("write", [lambda g: g.mul_(0.5), lambda g: g.numpy().fill(0.5)])
def test_a_fused_loss_heeds_what_a_hook_wrote(write: Callable[[bt.Tensor], Any]) -> None:
    def gradient(hook: Callable[[bt.Tensor], Any] | None) -> bt.Tensor:
        bt.manual_seed(0)
        x, w = bt.randn(4, 3, requires_grad=True), bt.randn(5, 3)
        loss = bt.nn.functional.linear_cross_entropy(x, w, bt.tensor([0, 1, 2, 4]))
        if hook:
            loss.register_hook(lambda g: (hook(g), None)[1])
        loss.backward()
        return x.grad

    assert gradient(write).tolist() == (gradient(None) * 0.5).tolist()


# ---- shapes and dtypes


@pytest.mark.parametrize("op", ["exp", "square", "neg", "sigmoid", "clone", "cumsum", "view"])
@pytest.mark.parametrize("dtype", [bt.int64, bt.bool, bt.float64])
def test_gradients_of_another_dtype_are_converted(op: str, dtype: bt.dtype) -> None:
    x = bt.zeros(3, requires_grad=True)
    h = x * 1
    y = h.cumsum(0) if op == "cumsum" else h.view(3, 1) if op == "view" else getattr(h, op)()
    y.backward(bt.ones(y.shape, dtype=dtype))
    expected = bt.zeros(3, requires_grad=True)
    h = expected * 1
    y = h.cumsum(0) if op == "cumsum" else h.view(3, 1) if op == "view" else getattr(h, op)()
    y.backward(bt.ones(y.shape))
    assert x.grad.dtype is bt.float32
    assert x.grad.tolist() == expected.grad.tolist()


@pytest.mark.parametrize(
    "bad",
    [
        lambda g: bt.ones(1000),
        lambda g: bt.ones(1),
        lambda g: g.sum(),
        lambda g: g > 0,
        lambda g: g.long(),
        lambda g: g.double(),
    ],
)
@pytest.mark.parametrize("place", ["leaf", "inner", "view", "prehook", "posthook"])
def test_hooks_cannot_change_shape_or_dtype(bad: Callable[[bt.Tensor], bt.Tensor], place: str):
    x = leaf(1.0, 2.0, 3.0)
    h = x * 2
    if place == "leaf":
        x.register_hook(bad)
    elif place == "inner":
        h.register_hook(bad)
    elif place == "view":
        h = h[:]
        h.register_hook(bad)
    elif place == "prehook":
        h.grad_fn.register_prehook(lambda grads: (bad(grads[0]),))
    else:
        h.grad_fn.register_hook(lambda inner, outer: (bad(inner[0]), None))
    with pytest.raises(RuntimeError, match=r"hook .*lambda.*returned a gradient of"):
        h.exp().sum().backward()


def test_hooks_return_tensors() -> None:
    x = leaf(1.0)
    (x * 2).register_hook(lambda g: 5)
    h = x * 2
    h.register_hook(lambda g: 5)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="returned int"):
        h.sum().backward()
    with pytest.raises(TypeError, match="float"):
        (x * 2).backward(2.0)  # type: ignore[arg-type]


class _Returns(bt.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: bt.Tensor, make: Any) -> bt.Tensor:
        ctx.make = make
        return x * 1

    @staticmethod
    def backward(ctx: Any, g: bt.Tensor) -> Any:
        return ctx.make(g), None


def test_gradients_of_a_function() -> None:
    for make, expected in (
        (lambda g: g > 0, [1, 1]),
        (lambda g: g.double() * 3, [3, 3]),
        (lambda g: g.long() * 3, [3, 3]),
        (lambda g: bt.ones(4, 2), [4, 4]),  # a broadcast that is undone
    ):
        x = leaf(1.0, 2.0)
        _Returns.apply(x * 2, make).sum().backward()
        assert x.grad.dtype is bt.float32
        assert x.grad.tolist() == [2 * e for e in expected]
    with pytest.raises(RuntimeError, match=r"_Returns\.backward: .*shape \(3,\); expected \(2,\)"):
        _Returns.apply(leaf(1.0, 2.0), lambda g: bt.ones(3)).sum().backward()
    with pytest.raises(TypeError, match=r"_Returns\.backward: .* is float"):
        _Returns.apply(leaf(1.0, 2.0), lambda g: 1.0).sum().backward()


def test_a_condition_is_not_differentiated() -> None:
    c = bt.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="where: input 0 is float32; expected bools"):
        bt.where(c, c, c)


# ---- kept gradients


def test_retain_grad_sees_what_hooks_left_and_later_changes() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    y.retain_grad()
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    (y * 3).sum().backward()
    assert y.retains_grad
    assert not x.retains_grad
    assert y.grad.tolist() == [30, 30]
    assert x.grad.tolist() == [30, 30]
    z = x * 1
    z.retain_grad()
    z.mul_(3)
    z.sum().backward()
    assert z.grad.tolist() == [1, 1]


def test_retain_grad_of_a_view_that_is_changed() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    v = y[0]
    v.retain_grad()
    v.mul_(5)
    (y * 3).sum().backward()
    assert x.grad.tolist() == [30, 6]
    assert v.grad is None  # the loss was made from y
    w = y.detach().requires_grad_() * 1
    part = w[1]
    part.retain_grad()
    (part * part).backward()
    assert part.grad.item() == 2 * part.item()


def test_retain_grad_leaves_no_cycle() -> None:
    gc.collect()
    gc.disable()
    try:
        y = leaf(1.0, 2.0) * 2
        y.retain_grad()
        y.sum().backward()
        gone = weakref.ref(y)
        del y
        assert gone() is None
    finally:
        gc.enable()


def test_retain_grad_wants_a_gradient() -> None:
    with pytest.raises(RuntimeError, match="retain_grad"):
        bt.ones(2).retain_grad()


# ---- hooks of leaves and nodes


def test_hooks_after_accumulation() -> None:
    x, seen = leaf(1.0, 2.0), []
    x.register_hook(lambda g: g * 2)
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append((t is x, t.grad.tolist())))
    (x * 3).sum().backward()
    (x * 3).sum().backward()
    assert seen == [(True, [6, 6]), (True, [12, 12])]
    handle.remove()
    handle.remove()
    (x * 3).sum().backward()
    assert len(seen) == 2
    with pytest.raises(RuntimeError, match="not a leaf"):
        (x * 2).register_post_accumulate_grad_hook(lambda t: None)


def test_a_step_within_the_backward_pass() -> None:
    x = leaf(1.0)

    def step(t: bt.Tensor) -> None:
        with bt.no_grad():
            t -= t.grad
        t.grad = None

    x.register_post_accumulate_grad_hook(step)
    (x * 0.25).sum().backward()
    assert x.tolist() == [0.75]
    assert x.grad is None


def test_the_order_of_hooks() -> None:
    x, log = leaf(2.0), []

    def note(name: str) -> Callable[..., None]:
        return lambda *_: log.append(name)

    y = x * 3
    y.retain_grad()
    y.grad_fn.register_hook(note("after"))
    y.grad_fn.register_prehook(note("before"))
    y.register_hook(note("first"))
    y.register_hook(note("second"))
    x.register_hook(note("leaf"))
    x.register_post_accumulate_grad_hook(note("added"))
    y.sum().backward()
    assert log == ["first", "second", "before", "after", "leaf", "added"]


def test_hooks_of_nodes_replace_gradients() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x * w
    first = y.grad_fn.register_prehook(lambda grads: (grads[0] * 10,))
    second = y.grad_fn.register_hook(lambda inner, outer: (inner[0] + outer[0], inner[1]))
    y.sum().backward(retain_graph=True)
    assert x.grad.tolist() == [40, 50]
    assert w.grad.tolist() == [10, 20]
    first.remove()
    second.remove()
    x.grad = w.grad = None
    y.sum().backward()
    assert x.grad.tolist() == [3, 4]
    z = x * 2
    z.grad_fn.register_prehook(lambda grads: (grads[0], None))
    with pytest.raises(RuntimeError, match="2 gradients for 1 outputs"):
        z.sum().backward()


# ---- Functions


class _Double(bt.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: bt.Tensor) -> bt.Tensor:
        ctx.mark_dirty(x)
        ctx.note = "set by forward"
        ctx.save_for_backward(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx: Any, g: bt.Tensor) -> bt.Tensor:
        return g * 2


def test_mark_dirty() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    assert _Double.apply(y) is y
    assert y.grad_fn.note == "set by forward"
    assert y.grad_fn.saved_tensors[0].tolist() == [2, 4]
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]
    with pytest.raises(AttributeError, match="nothing"):
        _ = y.grad_fn.nothing


def test_mark_dirty_of_a_view_and_of_leaves() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    _Double.apply(y[:1])
    y.sum().backward()
    assert y.tolist() == [2, 2]
    assert x.grad.tolist() == [2, 1]
    with pytest.raises(RuntimeError, match="_Double_: a leaf"):
        _Double.apply(x)
    with pytest.raises(RuntimeError, match="_Double_: a view of a leaf"):
        _Double.apply(x[:1])


class _Forgets(_Double):
    @staticmethod
    def forward(ctx: Any, x: bt.Tensor) -> bt.Tensor:
        ctx.mark_dirty(x)
        return x.mul_(2) * 1


def test_a_dirty_input_is_returned() -> None:
    with pytest.raises(RuntimeError, match="must be one of its outputs"):
        _Forgets.apply(leaf(1.0) * 1)


# ---- inputs=


def test_backward_for_given_inputs() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x * w).sum().backward(inputs=x)
    assert x.grad.tolist() == [3, 4]
    assert w.grad is None
    h = x * 2
    (h * h).sum().backward(inputs=[h, h, w], retain_graph=True)
    (h * h).sum().backward(inputs=h)
    assert h.grad.tolist() == [8, 16]
    assert w.grad is None
    assert x.grad.tolist() == [3, 4]
    with pytest.raises(RuntimeError, match="empty"):
        (x * 2).sum().backward(inputs=[])
    with pytest.raises(RuntimeError, match="input 0 does not require grad"):
        (x * 2).sum().backward(inputs=bt.ones(2))


def test_a_hook_that_writes_is_replayed() -> None:
    w = leaf(1.0, 1.0)

    @bt.compile
    def step(x: bt.Tensor) -> bt.Tensor:
        loss = (x * w).sum()
        loss.register_hook(lambda g: g.mul_(0.5))
        (slope,) = bt.autograd.grad(loss, w)
        return slope

    for i in range(4):
        assert step(bt.ones(2) * i).tolist() == [i / 2, i / 2]
    assert step.captures == 1
