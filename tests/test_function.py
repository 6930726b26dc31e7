"""Functions with a derivative of their own, and hooks on gradients."""

from __future__ import annotations

import math
from typing import Any

import backtrail as bt
import pytest
from backtrail import autograd


def leaf(*values: float) -> bt.Tensor:
    return bt.tensor(list(values), dtype=bt.float64, requires_grad=True)


class Cube(autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: bt.Tensor) -> bt.Tensor:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, grad: bt.Tensor) -> bt.Tensor:
        (x,) = ctx.saved_tensors
        return grad * 3 * x * x


class Both(autograd.Function):
    """Sum and product, and how many there are."""

    @staticmethod
    def forward(ctx: Any, a: bt.Tensor, b: bt.Tensor, scale: float) -> Any:
        ctx.save_for_backward(a, b)
        ctx.scale = scale
        count = bt.tensor(a.numel())
        ctx.mark_non_differentiable(count)
        return a + b, a * b * scale, count

    @staticmethod
    def backward(ctx: Any, of_sum: Any, of_product: Any, of_count: Any) -> Any:
        a, b = ctx.saved_tensors
        return of_sum + of_product * b * ctx.scale, of_sum + of_product * a * ctx.scale, None


def test_function_of_any_order() -> None:
    x = leaf(0.5, 2.0)
    assert autograd.gradcheck(Cube.apply, x)
    assert autograd.gradgradcheck(Cube.apply, x)
    y = Cube.apply(x)
    assert y.grad_fn.name() == "Cube"
    assert not Cube.apply(x.detach()).requires_grad


def test_function_with_several_outputs() -> None:
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    total, product, count = Both.apply(a, b, 10.0)
    assert not count.requires_grad
    (total * 2 + product).sum().backward()
    assert a.grad.tolist() == [32, 42]
    a.grad = None
    Both.apply(a, b, 10.0)[1].sum().backward()  # the other outputs' gradients are zeros
    assert a.grad.tolist() == [30, 40]
    assert autograd.gradcheck(lambda a, b: Both.apply(a, b, 2.0)[:2], (a, b))


def test_function_without_materialized_gradients() -> None:
    seen = []

    class Split(autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: bt.Tensor) -> Any:
            ctx.set_materialize_grads(False)
            return x * 1, x * 2

        @staticmethod
        def backward(ctx: Any, first: Any, second: Any) -> Any:
            seen.append(first)
            return second * 2

    x = leaf(1.0)
    Split.apply(x)[1].sum().backward()
    assert seen == [None]
    assert x.grad.item() == 2


def test_needs_input_grad() -> None:
    seen = []

    class Product(autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: bt.Tensor, b: bt.Tensor) -> bt.Tensor:
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx: Any, grad: bt.Tensor) -> Any:
            seen.append(ctx.needs_input_grad)
            a, b = ctx.saved_tensors
            return grad * b, grad * a

    Product.apply(leaf(1.0), leaf(2.0).detach()).sum().backward()
    assert seen == [(True, False)]


def test_errors_name_the_function() -> None:
    class Few(Both):
        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return grads[0]

    class Shapes(Cube):
        @staticmethod
        def backward(ctx: Any, grad: bt.Tensor) -> bt.Tensor:
            return grad.sum()

    class NoBackward(autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: bt.Tensor) -> bt.Tensor:
            return x * 2

    with pytest.raises(RuntimeError, match=r"Few.backward: returned 1 gradients for 3 inputs"):
        Few.apply(leaf(1.0), leaf(2.0), 1.0)[0].sum().backward()
    with pytest.raises(RuntimeError, match=r"Shapes.backward.*shape \(\); expected \(2,\)"):
        Shapes.apply(leaf(1.0, 2.0)).sum().backward()
    with pytest.raises(NotImplementedError, match="define backward"):
        NoBackward.apply(leaf(1.0)).sum().backward()


def test_saved_tensors_are_guarded() -> None:
    x = leaf(1.0, 2.0)
    h = x * 1
    y = Cube.apply(h)
    h.add_(1)
    with pytest.raises(RuntimeError, match=r"'Cube' needs.*'add'"):
        y.sum().backward()


def test_an_input_returned_as_it_is() -> None:
    class Reverse(autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: bt.Tensor) -> bt.Tensor:
            return x

        @staticmethod
        def backward(ctx: Any, grad: bt.Tensor) -> bt.Tensor:
            return -grad

    x = leaf(1.0)
    y = Reverse.apply(x)
    assert y is not x
    assert x.is_leaf
    (y * 2).sum().backward()
    assert x.grad.item() == -2


def test_setup_context() -> None:
    class Square(autograd.Function):
        @staticmethod
        def forward(x: bt.Tensor) -> bt.Tensor:  # type: ignore[override]
            return x * x

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(inputs[0])

        @staticmethod
        def backward(ctx: Any, grad: bt.Tensor) -> bt.Tensor:
            return grad * 2 * ctx.saved_tensors[0]

    assert autograd.gradcheck(Square.apply, leaf(1.0, 3.0))


# ---- hooks


def test_hooks_see_the_complete_gradient_and_may_replace_it() -> None:
    x, seen = leaf(1.0, 2.0), []
    h = x * 2
    h.register_hook(lambda g: seen.append(g.tolist()))
    h.register_hook(lambda g: g * 10)
    (h * h + h).sum().backward()
    assert seen == [[5, 9]]
    assert x.grad.tolist() == [100, 180]


def test_hooks_on_leaves_and_removal() -> None:
    x, seen = leaf(1.0), []
    handle = x.register_hook(lambda g: g * 2)
    with x.register_hook(lambda g: seen.append(g.item())):
        (x * 3 + x * 4).sum().backward()
    assert x.grad.item() == 14
    handle.remove()
    handle.remove()
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.item() == 3
    assert seen == [14]
    with pytest.raises(RuntimeError, match="does not require grad"):
        bt.ones(1).register_hook(lambda g: g)


def test_hooks_run_in_grad_too() -> None:
    x = leaf(2.0)
    h = x * x
    h.register_hook(lambda g: g * 100)
    (g,) = autograd.grad(h.sum(), x)
    assert g.item() == 400


def test_hooks_on_one_of_several_outputs() -> None:
    x = leaf(3.0, 1.0, 2.0)
    values, _ = x.sort()
    values.register_hook(lambda g: g * 2)
    (values * bt.tensor([1.0, 10, 100]).double()).sum().backward()
    assert x.grad.tolist() == [200, 2, 20]


def test_retain_grad_keeps_inner_gradients() -> None:
    x = leaf(1.0, 2.0)
    h = x * 2
    h.retain_grad()
    (h * h).sum().backward()
    assert h.grad.tolist() == [4, 8]
    y = x * 2
    (y * y).sum().backward()
    with pytest.warns(UserWarning, match="retain_grad"):
        assert y.grad is None
    x.retain_grad()  # nothing to do for a leaf


def test_only_the_gradients_that_are_asked_for_are_computed() -> None:
    """`grad` and `backward(inputs=)` tell a rule which of its inputs matter."""
    asked = []

    class Product(autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            result = a * b
            ctx.save_for_backward(a, b, result)
            return result

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            asked.append(ctx.needs_input_grad)
            a, b, result = ctx.saved_tensors
            assert result.grad_fn is result_of.grad_fn
            return tuple(
                grad * x if need else None
                for x, need in zip((b, a), ctx.needs_input_grad, strict=True)
            )

    a, b = (bt.tensor([x], requires_grad=True) for x in (2.0, 3.0))
    result_of = Product.apply(a, b * 1)
    (second,) = autograd.grad(result_of.sin(), [b], create_graph=True)
    assert second.item() == pytest.approx(2 * math.cos(6))
    (second,) = autograd.grad(second, [b], retain_graph=True)
    assert second.item() == pytest.approx(-4 * math.sin(6))
    result_of.backward(inputs=[a], retain_graph=True)
    assert a.grad is not None
    assert a.grad.item() == 3
    assert b.grad is None
    result_of.backward()
    assert asked[0] == (False, True)
    assert asked[-2:] == [(True, False), (True, True)]
