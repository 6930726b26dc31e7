"""Hooks on modules: on calls, on backward, of one module and of all, and what they may change."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn
from backtrail.nn.modules import module as everywhere


class Double(nn.Module):
    def forward(self, x: Any, factor: float = 2.0) -> Any:
        return x * factor


class Failing(nn.Module):
    def forward(self, x: Any) -> Any:
        raise ValueError("broken")


def mark(module: nn.Module, args: Any, output: Any) -> Any:
    return output + 1


def test_tables_of_hooks_are_ordered_dicts_that_may_be_changed() -> None:
    module = Double()
    x = bt.ones(1)
    assert type(module._forward_hooks) is OrderedDict
    assert type(module._forward_pre_hooks) is OrderedDict
    first = module.register_forward_hook(mark)
    assert list(module._forward_hooks) == [first.id]
    assert module._forward_hooks[first.id] is mark
    assert module(x).tolist() == [3]
    module._forward_hooks.clear()
    assert module(x).tolist() == [2]
    first.remove()
    module._forward_hooks[77] = mark
    assert module(x).tolist() == [3]
    module._forward_hooks = OrderedDict()
    assert module(x).tolist() == [2]
    other = Double()
    other._forward_hooks = OrderedDict({1: mark})
    assert other(x).tolist() == [3]


def test_order_removal_and_prepending() -> None:
    module = Double()
    seen: list[str] = []
    with module.register_forward_hook(lambda m, a, o: seen.append("a")):
        module.register_forward_hook(lambda m, a, o: seen.append("b"), prepend=True)
        module.register_forward_pre_hook(lambda m, a: seen.append("p"))
        module.register_forward_pre_hook(lambda m, a: seen.append("q"), prepend=True)
        module(bt.ones(1))
    module(bt.ones(1))
    assert seen == ["q", "p", "b", "a", "q", "p", "b"]


def test_hooks_that_remove_themselves() -> None:
    module = Double()
    seen: list[int] = []

    def once(m: Any, a: Any, o: Any) -> None:
        seen.append(1)
        handle.remove()

    handle = module.register_forward_hook(once)
    module(bt.ones(1))
    module(bt.ones(1))
    assert seen == [1]


def test_keyword_arguments() -> None:
    module = Double()
    module.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {"factor": kwargs["factor"] + 1}), with_kwargs=True
    )
    seen: list[Any] = []
    module.register_forward_hook(
        lambda m, args, kwargs, out: seen.append((len(args), kwargs)), with_kwargs=True
    )
    assert module(bt.ones(1), factor=3).tolist() == [4]
    assert seen == [(1, {"factor": 4})]
    module.register_forward_pre_hook(lambda m, a, k: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        module(bt.ones(1), factor=3)


def test_hooks_that_are_always_called() -> None:
    module = Failing()
    seen: list[Any] = []
    module.register_forward_hook(lambda m, a, o: seen.append("plain"))
    module.register_forward_hook(lambda m, a, o: seen.append(o), always_call=True)
    with pytest.raises(ValueError, match="broken"):
        module(bt.ones(1))
    assert seen == [None]
    # One that was called already is not called again; one that fails does not hide the error.
    double = Double()
    seen.clear()
    double.register_forward_hook(lambda m, a, o: seen.append("first"), always_call=True)
    double.register_forward_hook(lambda m, a, o: 1 / 0)
    double.register_forward_hook(lambda m, a, o: [][0], always_call=True)  # type: ignore[misc]
    with (
        pytest.warns(UserWarning, match="was silenced"),
        pytest.raises(ZeroDivisionError),
    ):
        double(bt.ones(1))
    assert seen == ["first"]


def test_full_backward_hook_sees_and_changes_gradients() -> None:
    layer = nn.Linear(2, 1, bias=False)
    with bt.no_grad():
        layer.weight.copy_(bt.tensor([[2.0, 3.0]]))
    seen: list[Any] = []

    def hook(module: Any, grad_input: Any, grad_output: Any) -> Any:
        seen.append((module is layer, grad_input[0].tolist(), grad_output[0].tolist()))
        return (grad_input[0] * 10,)

    handle = layer.register_full_backward_hook(hook)
    x = bt.ones(1, 2, requires_grad=True)
    (layer(x) * 5).sum().backward()
    assert seen == [(True, [[10, 15]], [[5]])]
    assert x.grad is not None
    assert x.grad.tolist() == [[100, 150]]
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[5, 5]]
    handle.remove()
    layer(x).sum().backward()
    assert len(seen) == 1
    layer.register_full_backward_hook(lambda m, i, o: (None, None))
    with pytest.raises(RuntimeError, match="invalid number of grad_input"):
        layer(x).sum().backward()


def test_backward_pre_hook_comes_first_and_changes_the_gradient() -> None:
    layer = Double()
    order: list[str] = []
    layer.register_full_backward_hook(lambda m, i, o: order.append(f"after {o[0].item():g}"))

    def before(module: Any, grad_output: Any) -> Any:
        order.append(f"before {grad_output[0].item():g}")
        return (grad_output[0] * 3,)

    layer.register_full_backward_pre_hook(before)
    x = bt.ones(1, requires_grad=True)
    layer(x).sum().backward()
    assert order == ["before 1", "after 3"]
    assert x.grad is not None
    assert x.grad.tolist() == [6]


def test_backward_hooks_of_several_inputs_and_outputs() -> None:
    class Pair(nn.Module):
        def forward(self, a: Any, n: int, b: Any, c: Any) -> Any:
            return a * n, "text", b * 2 + c

    pair = Pair()
    seen: list[Any] = []

    def hook(module: Any, grad_input: Any, grad_output: Any) -> None:
        seen.append(
            [[g if g is None else g.item() for g in gs] for gs in (grad_input, grad_output)]
        )

    pair.register_full_backward_hook(hook)
    a, b = (bt.ones((), requires_grad=True) for _ in range(2))
    first, text, second = pair(a, 3, b, bt.ones(()))
    assert text == "text"
    (first + second).backward()
    assert seen == [[[3, None, 2, 0], [1, None, 1]]]
    assert (a.grad, b.grad) == (3, 2)
    pair(a, 3, b, bt.ones(()))[0].backward()  # b has no part in it
    assert seen[1:] == [[[3, None, 0, 0], [1, None, None]]]


def test_backward_hook_of_a_module_that_returns_a_dict_is_not_called() -> None:
    class Named(nn.Module):
        def forward(self, x: Any) -> Any:
            return {"y": x * 2}

    module = Named()
    module.register_full_backward_hook(lambda m, i, o: 1 / 0)
    with pytest.warns(UserWarning, match="module output should be a Tensor or a tuple"):
        module(bt.ones((), requires_grad=True))["y"].backward()


def test_backward_hook_without_gradients_of_inputs() -> None:
    layer = nn.Linear(1, 1)
    seen: list[Any] = []
    layer.register_full_backward_hook(lambda m, i, o: seen.append((i, o[0].tolist())))
    with pytest.warns(UserWarning, match="no inputs require gradients"):
        layer(bt.ones(2, 1)).sum().backward()
    assert seen == [((None,), [[1], [1]])]
    with bt.no_grad():
        layer(bt.ones(2, 1))
    assert len(seen) == 1


def test_backward_hook_refuses_changes_of_the_input_in_place() -> None:
    layer = nn.ReLU(inplace=True)
    layer.register_full_backward_hook(lambda m, i, o: None)
    x = bt.ones(2, requires_grad=True) * 1
    with pytest.raises(RuntimeError):
        layer(x).sum().backward()


def test_kinds_of_backward_hooks_do_not_mix() -> None:
    layer = Double()
    seen: list[Any] = []
    layer.register_backward_hook(lambda m, i, o: seen.append(o[0].item()))
    with pytest.raises(RuntimeError, match="Cannot use both"):
        layer.register_full_backward_hook(lambda m, i, o: None)
    layer(bt.ones((), requires_grad=True)).backward()
    assert seen == [1]


def test_hooks_on_every_module() -> None:
    net = nn.Sequential(Double(), Double())
    seen: list[str] = []
    handles = [
        everywhere.register_module_forward_pre_hook(lambda m, a: seen.append("pre")),
        everywhere.register_module_forward_hook(
            lambda m, a, o: seen.append(type(m).__name__), always_call=True
        ),
        everywhere.register_module_full_backward_hook(
            lambda m, i, o: seen.append(f"grad {type(m).__name__}")
        ),
        everywhere.register_module_full_backward_pre_hook(lambda m, o: seen.append("grad pre")),
    ]
    net(bt.ones((), requires_grad=True)).backward()
    assert seen == [
        *["pre", "pre", "Double", "pre", "Double", "Sequential"],
        *["grad pre", "grad pre", "grad Double", "grad pre", "grad Double", "grad Sequential"],
    ]
    for handle in handles:
        handle.remove()
    seen.clear()
    net(bt.ones((), requires_grad=True)).backward()
    assert seen == []


def test_hooks_on_registration() -> None:
    seen: list[str] = []
    handles = [
        everywhere.register_module_parameter_registration_hook(lambda m, n, p: seen.append(n)),
        everywhere.register_module_buffer_registration_hook(lambda m, n, b: bt.zeros(7)),
        everywhere.register_module_module_registration_hook(
            lambda m, n, s: nn.Identity() if isinstance(s, nn.ReLU) else None
        ),
    ]
    try:
        module = nn.Module()
        module.weight = nn.Parameter(bt.ones(1))
        module.register_buffer("table", bt.ones(1))
        module.act = nn.ReLU()
        assert seen == ["weight"]
        assert module.table.shape == (7,)
        assert isinstance(module.act, nn.Identity)
    finally:
        for handle in handles:
            handle.remove()


def test_copies_and_pickles_keep_hooks() -> None:
    module = Double()
    module.register_forward_hook(mark)
    for other in (copy.deepcopy(module), copy.copy(module), pickle.loads(pickle.dumps(module))):
        assert other(bt.ones(1)).tolist() == [3]
    apart = copy.deepcopy(module)
    module._forward_hooks.clear()
    assert apart(bt.ones(1)).tolist() == [3]
    assert module(bt.ones(1)).tolist() == [2]


def test_captured_calls_notice_hooks() -> None:
    net = nn.Sequential(Double(), Double())
    compiled = bt.compile(net)
    x = bt.ones(2)
    for _ in range(2):
        assert compiled(x).tolist() == [4, 4]
    with net[0].register_forward_hook(mark):
        for _ in range(2):
            assert compiled(x).tolist() == [6, 6]
    assert compiled(x).tolist() == [4, 4]
    with everywhere.register_module_forward_hook(mark):
        for _ in range(2):
            assert compiled(x).tolist() == [8, 8]
    assert compiled(x).tolist() == [4, 4]
    net._modules["1"] = nn.Identity()
    assert compiled(x).tolist() == [2, 2]


def test_captured_steps_with_backward_hooks() -> None:
    def train(captured: bool) -> list[float]:
        bt.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        net[1].register_full_backward_hook(lambda m, i, o: (i[0] * 2,))
        optimizer = bt.optim.SGD(net.parameters(), 0.1)

        def step(x: bt.Tensor) -> bt.Tensor:
            optimizer.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = bt.compile(step) if captured else step
        return [run(bt.ones(4, 2)).item() for _ in range(4)]

    assert train(True) == train(False)
