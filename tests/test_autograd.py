"""The graph and its walk: accumulation, orders, modes, hooks, changes in place, depth."""

from __future__ import annotations

import gc
import threading
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail import autograd


def leaf(*values: float, dtype: Any = bt.float64) -> bt.Tensor:
    return bt.tensor(list(values), dtype=dtype, requires_grad=True)


def test_gradients_add_up() -> None:
    x = leaf(1.0, 2.0)
    for k in (1, 2, 3):
        (x * x).sum().backward()
        assert x.grad.tolist() == [2.0 * k, 4.0 * k]
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3, 3]
    x.grad.zero_()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_one_tensor_used_many_times() -> None:
    x = leaf(3.0)
    y = x * x
    z = y * x + y + y
    z.sum().backward()
    assert x.grad.item() == 3 * 9 + 4 * 3


def test_a_graph_is_walked_once_unless_retained() -> None:
    x = leaf(2.0)
    y = (x * x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 24
    with pytest.raises(RuntimeError, match=r"'mul' kept were freed.*retain_graph=True"):
        y.backward()


def test_backward_of_what_was_not_recorded() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        bt.ones(()).backward()
    with pytest.raises(RuntimeError, match=r"scalar only; got shape \(2,\)"):
        (leaf(1.0, 2.0) * 2).backward()
    with pytest.raises(RuntimeError, match=r"gradient has shape \(3,\), the tensor \(2,\)"):
        (leaf(1.0, 2.0) * 2).backward(bt.ones(3, dtype=bt.float64))
    with pytest.raises(RuntimeError, match="only floating point"):
        bt.tensor([1, 2], requires_grad=True)


def test_backward_with_inputs_touches_only_those() -> None:
    x, y = leaf(1.0), leaf(2.0)
    (x * y).sum().backward(inputs=[y])
    assert x.grad is None
    assert y.grad.item() == 1


def test_backward_of_a_leaf() -> None:
    x = bt.tensor(3.0, requires_grad=True)
    x.backward()
    x.backward()
    assert x.grad.item() == 2


def test_gradient_given_by_the_caller_is_not_aliased() -> None:
    x, given = leaf(1.0, 2.0), bt.ones(2, dtype=bt.float64)
    (x + 0).backward(given)
    x.grad.add_(5)
    assert given.tolist() == [1, 1]
    y = leaf(1.0, 2.0)
    y.backward(given)
    y.grad.mul_(7)
    y.backward(given)
    assert given.tolist() == [1, 1]
    assert y.grad.tolist() == [8, 8]


def test_no_two_leaves_share_a_gradient() -> None:
    for combine in (
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a.reshape(2) + b.view(2),
        lambda a, b: bt.cat([a, b]),
        lambda a, b: bt.stack([a, b]).sum(0),
        lambda a, b: a.clone() + b * 1,
    ):
        a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
        combine(a, b).sum().backward()
        assert a.grad.data_ptr() != b.grad.data_ptr()
        before = b.grad.tolist()
        a.grad.fill_(9)
        assert b.grad.tolist() == before
        assert a.grad.is_contiguous()


def test_the_gradient_is_not_tied_to_the_graph() -> None:
    x = leaf(1.0, 2.0)
    x.sum().backward()  # an expanded gradient: must be memory of its own
    x.grad[0] = 5
    assert x.grad.tolist() == [5, 1]
    assert not x.grad.requires_grad


# ---- grad


def test_grad_leaves_the_field_alone() -> None:
    x, y = leaf(2.0), leaf(3.0)
    gx, gy = autograd.grad((x * y).sum(), [x, y])
    assert (gx.item(), gy.item()) == (3, 2)
    assert x.grad is None
    assert y.grad is None


def test_grad_of_inner_tensors_and_of_outputs_themselves() -> None:
    x = leaf(2.0)
    h = x * x
    y = (h * h).sum()
    gh, gx = autograd.grad(y, [h, x])
    assert (gh.item(), gx.item()) == (8, 32)
    (g,) = autograd.grad(h, h, bt.tensor([5.0], dtype=bt.float64))
    assert g.item() == 5


def test_unused_inputs() -> None:
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(RuntimeError, match=r"input 1 was not used.*allow_unused"):
        autograd.grad((x * 2).sum(), [x, y])
    assert autograd.grad((x * 2).sum(), [x, y], allow_unused=True)[1] is None
    assert autograd.grad((x * 2).sum(), [x, y], materialize_grads=True)[1].tolist() == [0]
    with pytest.raises(RuntimeError, match="input 0 does not require grad"):
        autograd.grad((x * 2).sum(), bt.ones(1))


def test_several_outputs_with_weights() -> None:
    x = leaf(1.0, 2.0)
    (g,) = autograd.grad([x * 2, x * x], x, [bt.ones(2).double(), bt.tensor([1.0, 10]).double()])
    assert g.tolist() == [4, 42]


# ---- orders


def test_derivatives_of_any_order() -> None:
    x = leaf(0.7)
    y, found = x.sin().sum(), []
    for _ in range(6):
        (y,) = autograd.grad(y, x, create_graph=True)
        found.append(y.item())
        y = y.sum()
    s, c = np.sin(0.7), np.cos(0.7)
    np.testing.assert_allclose(found, [c, -s, -c, s, c, -s], rtol=1e-14)


def test_create_graph_in_backward() -> None:
    x = leaf(2.0)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    (g,) = autograd.grad(x.grad.sum(), x)
    assert g.item() == 12


def test_gradient_penalty() -> None:
    x, w = bt.randn(4, 3).double(), bt.randn(3, 1).double().requires_grad_()
    x.requires_grad_()

    def penalty(w: bt.Tensor) -> bt.Tensor:
        (g,) = autograd.grad((x @ w).tanh().sum(), x, create_graph=True)
        return ((g * g).sum(1).sqrt() - 1).square().mean()

    assert autograd.gradcheck(penalty, w)


def test_numbers_keep_their_precision_in_recorded_derivatives() -> None:
    x = leaf(1.3)
    (g,) = autograd.grad((x / 7).sum(), x, create_graph=True)
    assert g.item() == 1 / 7
    (g,) = autograd.grad((x**3.3).sum(), x, create_graph=True)
    assert g.item() == pytest.approx(3.3 * 1.3**2.3, rel=1e-14)


def test_jacobian_and_hessian(rng: np.random.Generator) -> None:
    a = bt.tensor(rng.standard_normal((3, 4)))
    x = bt.tensor(rng.standard_normal(4))
    assert bt.allclose(autograd.jacobian(lambda x: a @ x, x), a)
    h = autograd.hessian(lambda x: ((a @ x) ** 2).sum(), x)
    assert bt.allclose(h, 2 * a.t() @ a)
    ja, jx = autograd.jacobian(lambda a, x: a @ x, (a, x))
    assert ja.shape == (3, 3, 4)
    assert bt.allclose(jx, a)


def test_vjp_and_jvp_agree_with_the_jacobian(rng: np.random.Generator) -> None:
    x, v = bt.tensor(rng.standard_normal(4)), bt.tensor(rng.standard_normal(4))
    u = bt.tensor(rng.standard_normal(3))
    a = bt.tensor(rng.standard_normal((3, 4)))

    def f(x: bt.Tensor) -> bt.Tensor:
        return (a @ x.exp()).tanh()

    j = autograd.jacobian(f, x)
    value, left = autograd.vjp(f, x, u)
    assert bt.allclose(value, f(x))
    assert bt.allclose(left, u @ j)
    assert bt.allclose(autograd.jvp(f, x, v)[1], j @ v)


def test_gradcheck_catches_wrong_derivatives() -> None:
    class Wrong(autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: bt.Tensor) -> bt.Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, grad: bt.Tensor) -> bt.Tensor:
            return grad * ctx.saved_tensors[0] * 1.9

    x = leaf(0.5, 1.5)
    with pytest.raises(RuntimeError, match="input 0, element 0: the derivative is"):
        autograd.gradcheck(Wrong.apply, x)
    assert not autograd.gradcheck(Wrong.apply, x, raise_exception=False)
    with pytest.raises(ValueError, match="float64"):
        autograd.gradcheck(lambda x: x, leaf(1.0, dtype=bt.float32))


# ---- modes


def test_modes_of_recording() -> None:
    x = leaf(1.0)
    with bt.no_grad():
        assert not bt.is_grad_enabled()
        assert not (x * 2).requires_grad
        with bt.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    with bt.inference_mode():
        assert (x * 2).grad_fn is None
    with bt.inference_mode(False):
        assert (x * 2).requires_grad
    with bt.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    assert bt.is_grad_enabled()
    bt.set_grad_enabled(False)
    assert not bt.is_grad_enabled()
    bt.set_grad_enabled(True)


def test_modes_as_decorators_and_after_errors() -> None:
    @bt.no_grad()
    def quiet(x: bt.Tensor) -> bt.Tensor:
        return x * 2

    @bt.no_grad
    def silent(x: bt.Tensor) -> bt.Tensor:
        return x * 2

    x = leaf(1.0)
    assert not quiet(x).requires_grad
    assert not silent(x).requires_grad
    with pytest.raises(ZeroDivisionError), bt.no_grad():
        raise ZeroDivisionError
    assert bt.is_grad_enabled()


def test_detach_shares_memory_and_leaves_the_graph() -> None:
    x = leaf(1.0, 2.0)
    y = (x * 2).detach()
    assert not y.requires_grad
    assert y.is_leaf
    d = x.detach()
    d[0] = 9
    assert x.tolist() == [9, 2]
    z = x * 3
    z.detach_()
    assert z.grad_fn is None


def test_what_is_a_leaf() -> None:
    x = leaf(1.0)
    y = x * 2
    assert x.is_leaf
    assert not y.is_leaf
    with pytest.raises(RuntimeError, match="leaf tensors only"):
        y.requires_grad = False
    assert y.grad_fn.name() == "mul"
    assert y.grad_fn.next_functions[0][0] is x


# ---- changes in place


def test_changing_what_backward_needs_names_both_ops() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    z = y.sin()
    y.mul_(2)
    with pytest.raises(RuntimeError, match=r"'sin' needs.*changed in place by 'mul'"):
        z.sum().backward()
    y = x * 1
    z = y.exp()
    z.add_(1)
    with pytest.raises(RuntimeError, match=r"'exp' needs the value of its output.*by 'add'"):
        z.sum().backward()


def test_changing_a_view_is_noticed_in_its_base() -> None:
    x = leaf(1.0, 2.0)
    y = (x * 1).detach().requires_grad_()
    z = y.sin()
    with bt.no_grad():
        y[0:1].zero_()
    with pytest.raises(RuntimeError, match="'sin' needs"):
        z.sum().backward()


def test_changes_that_do_not_matter() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    z = y + 1
    y.mul_(2)  # add needs no values
    z.sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_in_place_ops_are_part_of_the_graph() -> None:
    x = leaf(1.0, 2.0)
    y = x.clone()
    y.mul_(x)
    y += 1
    y.clamp_(max=4.5)
    y[0] = x[1] * 5
    y.sum().backward()
    assert y.tolist() == [10, 4.5]
    assert x.grad.tolist() == [0, 5]


@pytest.mark.parametrize(
    ("change", "slope"),
    [
        (lambda y: y.mul_(2), 2.0),
        (lambda y: y.mul_(y), 4.0),
        (lambda y: y.square_(), 4.0),
        (lambda y: y.clamp_(max=9.0), 1.0),
        (lambda y: y.exp_(), np.exp(2.0)),
        (lambda y: y.sin_(), np.cos(2.0)),
        (lambda y: y.div_(4), 0.25),
        (lambda y: y.copy_(y.detach() * 3), 0.0),
        (lambda y: y.fill_(3), 0.0),
    ],
)
def test_derivatives_of_in_place_ops(change: Any, slope: float) -> None:
    """An op in place keeps the values that its own derivative reads."""
    for order in (1, 2):
        x = leaf(2.0)
        y = x * 1
        assert change(y) is y
        (g,) = autograd.grad(y.sum(), x, create_graph=order == 2, materialize_grads=True)
        assert g.item() == pytest.approx(slope, rel=1e-14)


def test_leaves_are_not_changed_while_recording() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"add_: a leaf.*no_grad"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="leaf"):
        x[0] = 1
    with bt.no_grad():
        x.add_(1)
    assert x.tolist() == [2, 3]


def test_data_can_be_replaced() -> None:
    x = leaf(1.0, 2.0)
    x.data = bt.tensor([5.0, 6.0], dtype=bt.float64)
    assert x.tolist() == [5, 6]
    x.data.mul_(2)
    assert x.tolist() == [10, 12]
    y = (x * x).sum()
    x.data = x.data * 2
    y.backward()  # reads what is there now
    assert x.grad.tolist() == [40, 48]
    y = x.sin()
    x.data = bt.ones(3, dtype=bt.float64)
    with pytest.raises(RuntimeError, match=r"sin.*assignment to \.data"):
        y.sum().backward()


# ---- depth and memory


def test_a_chain_of_a_hundred_thousand_operations() -> None:
    x = bt.ones(1, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1
    y.backward()
    assert x.grad.item() == 1
    del y
    y = x
    for _ in range(100_000):
        y = y * 1.0
    del y  # freed without ever being walked
    gc.collect()


def test_a_deep_recorded_derivative() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(3000):
        y = y * 1.0001
    (g,) = autograd.grad(y.sum(), x, create_graph=True)
    assert g.item() == pytest.approx(1.0001**3000)


def test_a_freed_graph_returns_its_memory() -> None:
    from backtrail._core import memory_stats

    x = bt.ones(1000, requires_grad=True)

    def step() -> None:
        x.grad = None
        (x * x).exp().sum().backward()

    step()
    gc.collect()
    before = memory_stats()["in_use"]
    for _ in range(20):
        step()
    gc.collect()
    assert memory_stats()["in_use"] == before


def test_a_cycle_through_a_hook_is_collected() -> None:
    from backtrail._core import memory_stats

    gc.collect()
    before = memory_stats()["in_use"]
    for _ in range(5):
        x = bt.ones(10_000, requires_grad=True)
        y = x * 2
        y.register_hook(lambda g, y=y: None)
        del x, y
    gc.collect()
    assert memory_stats()["in_use"] == before


def test_threads_have_their_own_mode_and_their_own_graphs() -> None:
    wrong: list[Any] = []

    def work(k: int) -> None:
        try:
            assert bt.is_grad_enabled()
            for _ in range(50):
                x = bt.full((300,), float(k), requires_grad=True)
                ((x * x).sum() * k).backward()
                assert x.grad[7].item() == 2 * k * k
                with bt.no_grad():
                    assert not (x * 2).requires_grad
        except BaseException as e:
            wrong.append(e)

    with bt.no_grad():
        threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not wrong


def test_second_derivative_through_rows_of_one_array() -> None:
    """The gradient of a part may itself be a part, of which the storage begins elsewhere."""

    def function(a: bt.Tensor, h: bt.Tensor) -> bt.Tensor:
        for t in range(3):
            h = a[t][:, 1:3] * h
        return h

    a = bt.randn(3, 2, 4, dtype=bt.float64, requires_grad=True)
    h = bt.randn(2, 2, dtype=bt.float64, requires_grad=True)
    assert bt.autograd.gradgradcheck(function, [a, h])
