"""Module and Parameter."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn
from calls import python_calls


def values(tensor: Any) -> Any:
    return tensor.detach().tolist()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(bt.ones(1))
        self.register_buffer("seen", bt.zeros(2))
        self.register_buffer("cache", bt.zeros(3), persistent=False)

    def forward(self, index: bt.Tensor) -> bt.Tensor:
        x = self.embed(index)
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x) * self.scale


# Registration


def test_members_are_registered_in_order_and_ties_come_once() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "scale",
        "embed.weight",
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
    ]
    assert "head.weight" in dict(net.named_parameters(remove_duplicate=False))
    assert [name for name, _ in net.named_buffers()] == ["seen", "cache"]
    assert [name for name, _ in net.named_children()] == ["embed", "layers", "head"]
    assert [name for name, _ in net.named_modules()] == [
        "",
        "embed",
        "layers",
        "layers.0",
        "layers.1",
        "head",
    ]
    assert [name for name, _ in net.named_parameters(prefix="p", recurse=False)] == ["p.scale"]


def test_replacing_a_parameter_keeps_its_place() -> None:
    layer = nn.Linear(2, 3)
    layer.weight = nn.Parameter(bt.zeros(3, 2))
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def test_attribute_kinds_replace_each_other() -> None:
    module = nn.Module()
    module.x = nn.Parameter(bt.zeros(1))
    module.x = None
    assert module.x is None
    assert list(module.parameters()) == []
    with pytest.raises(TypeError, match=r"cannot assign .* to parameter 'x'"):
        module.x = bt.zeros(1)
    module.x = nn.ReLU()
    assert "x" in dict(module.named_modules())
    assert "x" not in module._parameters
    with pytest.raises(TypeError, match="child module 'x'"):
        module.x = 3
    module.x = nn.Parameter(bt.zeros(1))
    assert "x" not in dict(module.named_modules())
    del module.x
    assert not hasattr(module, "x")
    assert list(module.parameters()) == []


def test_a_plain_attribute_gives_way_to_a_member() -> None:
    module = nn.Module()
    module.x = 3
    module.x = nn.Linear(1, 1)
    assert isinstance(module.x, nn.Linear)
    assert module.get_submodule("x") is module.x


def test_buffers_keep_their_registration_when_reassigned() -> None:
    net = Net()
    net.cache = bt.ones(3)
    assert values(dict(net.named_buffers())["cache"]) == [1, 1, 1]
    assert "cache" not in net.state_dict()
    with pytest.raises(TypeError, match="buffer 'cache'"):
        net.cache = 3


@pytest.mark.parametrize(
    ("name", "error"), [("a.b", KeyError), ("", KeyError), ("forward", KeyError), (3, TypeError)]
)
def test_bad_member_names_are_refused(name: Any, error: type[Exception]) -> None:
    module = nn.Module()
    with pytest.raises(error):
        module.register_parameter(name, nn.Parameter(bt.zeros(1)))
    with pytest.raises(error):
        module.register_buffer(name, bt.zeros(1))
    with pytest.raises(error):
        module.add_module(name, nn.ReLU())


def test_members_before_init_are_refused() -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.ReLU()

    with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call"):
        Early()


def test_non_leaf_parameters_are_refused() -> None:
    module = nn.Module()
    with pytest.raises(TypeError, match="Parameter or None required"):
        module.register_parameter("w", bt.zeros(1))


def test_paths() -> None:
    net = Net()
    assert net.get_submodule("layers.1") is net.layers[1]
    assert net.get_submodule("") is net
    assert net.get_parameter("layers.0.bias") is net.layers[0].bias
    assert net.get_buffer("seen") is net.seen
    with pytest.raises(AttributeError, match="has no attribute `nowhere`"):
        net.get_submodule("layers.nowhere")
    with pytest.raises(AttributeError, match=r"not an nn.Module"):
        net.get_submodule("seen")
    with pytest.raises(AttributeError, match=r"`seen` is not an nn\.Parameter"):
        net.get_parameter("seen")
    with pytest.raises(AttributeError, match=r"`scale` is not a buffer"):
        net.get_buffer("scale")


# Calls and hooks


def test_missing_forward_is_named() -> None:
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match=r"\[Empty\] is missing the required \"forward\""):
        Empty()(1)


def test_hooks_see_and_replace() -> None:
    layer = nn.Identity()
    seen: list[Any] = []
    pre = layer.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    post = layer.register_forward_hook(lambda module, args, out: seen.append(out) or out * 10)
    assert layer(1) == 20
    assert seen == [2]
    pre.remove()
    assert layer(1) == 10
    post.remove()
    post.remove()
    assert layer(1) == 1


def test_hook_order_and_kwargs() -> None:
    class Add(nn.Module):
        def forward(self, x: int, *, y: int = 0) -> int:
            return x + y

    module, order = Add(), []
    module.register_forward_hook(lambda *a: order.append("last"))
    module.register_forward_hook(lambda *a: order.append("first"), prepend=True)
    with module.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {"y": kwargs["y"] + 1}), with_kwargs=True
    ):
        assert module(1, y=1) == 3
    assert module(1, y=1) == 2
    assert order == ["first", "last"] * 2
    seen: list[Any] = []
    module.register_forward_hook(lambda m, a, kw, out: seen.append((a, kw, out)), with_kwargs=True)
    module(1, y=2)
    assert seen == [((1,), {"y": 2}, 3)]
    module.register_forward_pre_hook(lambda m, a, kw: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        module(1)


def test_a_call_runs_little_more_than_forward() -> None:
    class Noop(nn.Module):
        def forward(self, x: int) -> int:
            return x

    module = Noop()

    assert python_calls(module, 1) == python_calls(module.forward, 1) + 1


# The whole tree


def test_train_eval_and_apply() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.5)))
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.train()
    assert all(module.training for module in net.modules())
    with pytest.raises(ValueError, match="boolean"):
        net.train("yes")  # type: ignore[arg-type]
    order: list[str] = []
    net.apply(lambda module: order.append(type(module).__name__))
    assert order == ["Linear", "Dropout", "Sequential", "Sequential"]


def test_train_reaches_overrides() -> None:
    class Frozen(nn.Module):
        def train(self, mode: bool = True) -> Frozen:
            return super().train(False)

    net = nn.Sequential(Frozen())
    net.train()
    assert net.training
    assert not net[0].training


def test_requires_grad_and_zero_grad() -> None:
    net = nn.Linear(2, 1)
    net(bt.ones(1, 2)).sum().backward()
    assert net.bias is not None
    assert values(net.bias.grad) == [1]
    net.zero_grad(set_to_none=False)
    assert values(net.bias.grad) == [0]
    net.zero_grad()
    assert net.bias.grad is None
    net.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_conversion_keeps_parameters_and_leaves_integers() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = list(net.parameters())
    assert net.double() is net
    assert all(a is b for a, b in zip(net.parameters(), before, strict=True))
    assert all(parameter.dtype == bt.float64 for parameter in net.parameters())
    assert net[1].running_mean.dtype == bt.float64
    assert net[1].num_batches_tracked.dtype == bt.int64
    net.to("cpu", dtype=bt.float32)
    assert net[0].weight.dtype == bt.float32
    net.to(bt.zeros(1, dtype=bt.float64))
    assert net[0].weight.dtype == bt.float64
    net.float().cpu()
    assert net[0].weight.dtype == bt.float32
    with pytest.raises(TypeError, match="floating point"):
        net.to(bt.int64)


def test_conversion_takes_gradients_along() -> None:
    net = nn.Linear(2, 1)
    net(bt.ones(1, 2)).sum().backward()
    net.double()
    assert net.weight.grad is not None
    assert net.weight.grad.dtype == bt.float64


# State


def test_state_dict_is_flat_ordered_detached_and_shares_storage() -> None:
    net = Net()
    state = net.state_dict()
    assert list(state) == [
        "scale",
        "seen",
        "embed.weight",
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
        "head.weight",
    ]
    assert not any(tensor.requires_grad for tensor in state.values())
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    assert next(iter(nn.Linear(1, 1).state_dict(prefix="model."))) == "model.weight"
    with bt.no_grad():
        net.scale.fill_(7)
    assert values(state["scale"]) == [7]


def test_load_state_dict_copies() -> None:
    source, target = Net(), Net()
    result = target.load_state_dict(source.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    for a, b in zip(source.parameters(), target.parameters(), strict=True):
        assert a is not b
        assert values(a) == values(b)
    assert target.head.weight is target.embed.weight


def test_load_state_dict_lists_every_mismatch_and_changes_nothing() -> None:
    net = nn.Linear(2, 3)
    before = values(net.weight)
    with pytest.raises(RuntimeError) as info:
        net.load_state_dict({"weight": bt.zeros(3, 3), "extra": bt.zeros(1), "more": bt.zeros(1)})
    assert str(info.value).split("\n\t") == [
        "Error(s) in loading state_dict for Linear:",
        'Missing key(s) in state_dict: "bias". ',
        'Unexpected key(s) in state_dict: "extra", "more". ',
        "size mismatch for weight: copying a param with shape (3, 3) from checkpoint, the shape in "
        "current model is (3, 2).",
    ]
    with pytest.raises(RuntimeError, match="Missing"):
        net.load_state_dict({"weight": bt.zeros(3, 2)})
    assert values(net.weight) == before


def test_load_state_dict_not_strict() -> None:
    net = nn.Linear(2, 3)
    result = net.load_state_dict({"weight": bt.ones(3, 2), "extra": bt.zeros(1)}, strict=False)
    assert result.missing_keys == ["bias"]
    assert result.unexpected_keys == ["extra"]
    assert values(net.weight) == [[1, 1]] * 3
    with pytest.raises(RuntimeError, match="size mismatch"):
        net.load_state_dict({"weight": bt.ones(2, 2)}, strict=False)
    with pytest.raises(RuntimeError, match="expected a Tensor"):
        net.load_state_dict({"weight": [1.0]}, strict=False)
    with pytest.raises(TypeError, match="dict-like"):
        net.load_state_dict(3)  # type: ignore[arg-type]


def test_load_state_dict_assign() -> None:
    net = nn.Linear(2, 2)
    net.load_state_dict(nn.Linear(2, 2).double().state_dict(), assign=True)
    assert isinstance(net.weight, nn.Parameter)
    assert net.weight.dtype == bt.float64


def test_deepcopy_is_independent_and_keeps_ties() -> None:
    net = Net()
    twin = copy.deepcopy(net)
    assert twin.head.weight is twin.embed.weight is not net.embed.weight
    assert isinstance(twin.scale, nn.Parameter)
    assert twin.scale.requires_grad
    with bt.no_grad():
        twin.scale.fill_(9)
    assert values(net.scale) == [1]
    index = bt.tensor([1, 2])
    twin.scale = nn.Parameter(bt.ones(1))
    assert values(twin(index)) == values(net(index))


def test_pickle_round_trip() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    twin = pickle.loads(pickle.dumps(net))
    x = bt.ones(1, 2)
    assert values(twin(x)) == values(net(x))
    assert isinstance(twin[0].weight, nn.Parameter)


# Parameters


def test_parameter_shares_storage_and_prints() -> None:
    data = bt.zeros(2)
    parameter = nn.Parameter(data)
    data.fill_(3)
    assert values(parameter) == [3, 3]
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert isinstance(parameter, bt.Tensor)
    assert repr(parameter).startswith("Parameter containing:\n")
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    assert not isinstance(parameter * 2, nn.Parameter)
    assert nn.Parameter().numel() == 0


def test_parameters_hash_by_identity() -> None:
    a, b = nn.Parameter(bt.zeros(1)), nn.Parameter(bt.zeros(1))
    assert len({a, b, a}) == 2


# Printing


def test_repr() -> None:
    net = nn.Sequential(
        nn.Linear(2, 3),
        nn.ReLU(inplace=True),
        nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False), nn.GELU()]),
        nn.ModuleDict({"a": nn.Sequential()}),
        nn.Sequential(nn.Tanh()),
    )
    assert (
        repr(net)
        == """Sequential(
  (0): Linear(in_features=2, out_features=3, bias=True)
  (1): ReLU(inplace=True)
  (2): ModuleList(
    (0-1): 2 x Linear(in_features=2, out_features=2, bias=False)
    (2): GELU(approximate='none')
  )
  (3): ModuleDict(
    (a): Sequential()
  )
  (4): Sequential(
    (0): Tanh()
  )
)"""
    )
