"""Modules, parameters, initialisation and nn.utils."""

from __future__ import annotations

import copy
import math
import pickle
import time
from typing import Any

import pytest

import backtrail as bt
from backtrail import nn


def values(tensor: Any) -> Any:
    return tensor.detach().tolist()


def spread(tensor: Any) -> tuple[float, float]:
    """Mean and standard deviation."""
    flat = tensor.detach().reshape(-1)
    mean = flat.mean().item()
    return mean, ((flat - mean) ** 2).mean().item() ** 0.5


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
    assert module.x is None and list(module.parameters()) == []
    with pytest.raises(TypeError, match="cannot assign .* to parameter 'x'"):
        module.x = bt.zeros(1)
    module.x = nn.ReLU()
    assert "x" in dict(module.named_modules()) and "x" not in module._parameters
    with pytest.raises(TypeError, match="child module 'x'"):
        module.x = 3
    module.x = nn.Parameter(bt.zeros(1))
    assert "x" not in dict(module.named_modules())
    del module.x
    assert not hasattr(module, "x") and list(module.parameters()) == []


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
    with pytest.raises(AttributeError, match="not an nn.Module"):
        net.get_submodule("seen")
    with pytest.raises(AttributeError, match="has no parameter"):
        net.get_parameter("seen")
    with pytest.raises(AttributeError, match="has no buffer"):
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
    assert layer(1) == 20 and seen == [2]
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


def test_a_call_costs_little_more_than_forward() -> None:
    class Noop(nn.Module):
        def forward(self, x: int) -> int:
            return x

    module = Noop()

    def best(call: Any) -> float:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            for _ in range(20_000):
                call(1)
            times.append(time.perf_counter() - start)
        return min(times) / 20_000

    assert best(module) - best(module.forward) < 600e-9  # about 100 ns; the rest is for noise


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
    assert net.training and not net[0].training


def test_requires_grad_and_zero_grad() -> None:
    net = nn.Linear(2, 1)
    net(bt.ones(1, 2)).sum().backward()
    assert net.bias is not None and values(net.bias.grad) == [1]
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
    assert all(a is b for a, b in zip(net.parameters(), before))
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
    assert net.weight.grad is not None and net.weight.grad.dtype == bt.float64


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
    assert list(nn.Linear(1, 1).state_dict(prefix="model."))[0] == "model.weight"
    with bt.no_grad():
        net.scale.fill_(7)
    assert values(state["scale"]) == [7]


def test_load_state_dict_copies() -> None:
    source, target = Net(), Net()
    result = target.load_state_dict(source.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    for a, b in zip(source.parameters(), target.parameters()):
        assert a is not b and values(a) == values(b)
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
    assert result.missing_keys == ["bias"] and result.unexpected_keys == ["extra"]
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
    assert isinstance(net.weight, nn.Parameter) and net.weight.dtype == bt.float64


def test_deepcopy_is_independent_and_keeps_ties() -> None:
    net = Net()
    twin = copy.deepcopy(net)
    assert twin.head.weight is twin.embed.weight is not net.embed.weight
    assert isinstance(twin.scale, nn.Parameter) and twin.scale.requires_grad
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
    assert parameter.requires_grad and parameter.is_leaf and isinstance(parameter, bt.Tensor)
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


# Containers


def test_sequential() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert net(bt.ones(4, 2)).shape == (4, 1)
    assert len(net) == 3 and net[-1] is net[2]
    head = net[:2]
    assert isinstance(head, nn.Sequential) and len(head) == 2 and head[0] is net[0]
    net[1] = nn.Tanh()
    assert isinstance(net[1], nn.Tanh)
    net.append(nn.Sigmoid()).insert(0, nn.Identity())
    assert [type(m).__name__ for m in net] == ["Identity", "Linear", "Tanh", "Linear", "Sigmoid"]
    assert [name for name, _ in net.named_children()] == list("01234")
    del net[0]
    assert net.pop() is not None and len(net) == 3
    assert [name for name, _ in net.named_children()] == list("012")
    assert len(net + head) == 5
    with pytest.raises(IndexError, match="index 3 is out of range"):
        net[3]
    with pytest.raises(TypeError, match="not a Module subclass"):
        nn.Sequential(3)  # type: ignore[arg-type]


def test_sequential_with_names() -> None:
    net = nn.Sequential({"first": nn.Linear(2, 2), "then": nn.ReLU()})
    assert net.first is net[0] and list(net.state_dict()) == ["first.weight", "first.bias"]
    del net[1]
    assert [name for name, _ in net.named_children()] == ["first"]
    assert [name for name, _ in net[:1].named_children()] == ["first"]


def test_module_list() -> None:
    layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
    first = layers[0]
    assert len(layers[1:]) == 2 and layers[1:][0] is layers[1]
    layers += [nn.ReLU()]
    layers.insert(1, nn.Tanh())
    assert layers[0] is first and isinstance(layers[1], nn.Tanh) and len(layers) == 5
    del layers[1:4]
    assert [type(m).__name__ for m in layers] == ["Linear", "ReLU"]
    assert list(layers.state_dict()) == ["0.weight", "0.bias"]
    assert len(layers + layers) == 4


def test_module_dict() -> None:
    modules = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ReLU()})
    modules["c"] = nn.Tanh()
    assert list(modules) == list(modules.keys()) == ["a", "b", "c"] and "b" in modules
    assert len(modules) == 3 and isinstance(modules.pop("b"), nn.ReLU)
    modules.update([("d", nn.Identity())])
    assert [key for key, _ in modules.items()] == ["a", "c", "d"]
    assert len(list(modules.values())) == 3 and list(modules.state_dict()) == ["a.weight", "a.bias"]
    modules.clear()
    assert len(modules) == 0


def test_parameter_list() -> None:
    weights = nn.ParameterList([bt.zeros(2), nn.Parameter(bt.ones(3))])
    assert all(isinstance(w, nn.Parameter) for w in weights) and len(weights) == 2
    weights.append(bt.ones(1)).extend([bt.ones(4)])
    assert list(weights.state_dict()) == ["0", "1", "2", "3"]
    assert [w.numel() for w in weights[1:3]] == [3, 1] and weights[-1].numel() == 4
    a, b = weights[:2]
    assert a is weights[0] and b is weights[1]
    weights[0] = bt.zeros(5)
    assert [w.numel() for w in weights.parameters()] == [5, 3, 1, 4]
    assert weights.pop(1).numel() == 3 and [w.numel() for w in weights] == [5, 1, 4]
    with pytest.raises(IndexError):
        weights[3]
    with pytest.raises(TypeError, match="iterable"):
        weights.extend(3)  # type: ignore[arg-type]


def test_parameter_dict() -> None:
    weights = nn.ParameterDict({"a": bt.zeros(2), "b": bt.ones(1)})
    weights["c"] = bt.ones(3)
    assert list(weights) == ["a", "b", "c"] and "a" in weights and len(weights) == 3
    assert [p.numel() for p in weights.parameters()] == [2, 1, 3]
    assert weights.get("z") is None and weights.setdefault("d", bt.ones(4)).numel() == 4
    assert weights.pop("a").numel() == 2 and weights.popitem()[0] == "d"
    assert (
        [key for key, _ in weights.items()]
        == ["b", "c"]
        == list(reversed(list(weights.keys())))[::-1]
    )
    with pytest.raises(KeyError):
        weights["a"]
    with pytest.raises(KeyError, match="already exists"):
        weights["forward"] = bt.ones(1)
    assert len(weights.copy()) == 2
    weights.clear()
    assert list(weights.parameters()) == []


# Layers


def test_linear_is_affine_and_starts_in_bounds() -> None:
    bt.manual_seed(0)
    layer = nn.Linear(100, 400)
    bound = 0.1
    for parameter in layer.parameters():
        assert parameter.abs().max().item() <= bound
        assert spread(parameter)[1] == pytest.approx(bound / math.sqrt(3), rel=0.1)
    layer.load_state_dict({"weight": bt.full((400, 100), 2.0), "bias": bt.full((400,), 1.0)})
    assert layer(bt.ones(3, 100))[2, 5].item() == 201
    assert nn.Linear(2, 3, bias=False).bias is None
    assert nn.Linear(2, 3, dtype=bt.float64).weight.dtype == bt.float64


def test_bilinear() -> None:
    layer = nn.Bilinear(2, 3, 4)
    a, b = bt.randn(5, 6, 2), bt.randn(5, 6, 3)
    out = layer(a, b)
    assert out.shape == (5, 6, 4)
    w = values(layer.weight)
    x, y = values(a)[1][2], values(b)[1][2]
    expected = [
        sum(x[i] * w[o][i][j] * y[j] for i in range(2) for j in range(3)) + layer.bias[o].item()
        for o in range(4)
    ]
    assert values(out)[1][2] == pytest.approx(expected, abs=1e-5)


def test_embedding() -> None:
    bt.manual_seed(0)
    table = nn.Embedding(1000, 50, padding_idx=-1)
    mean, std = spread(table.weight[:-1])
    assert abs(mean) < 0.02 and std == pytest.approx(1, abs=0.02)
    assert table.padding_idx == 999 and values(table.weight[999]) == [0.0] * 50
    index = bt.tensor([[1, 999], [1, 3]])
    assert table(index).shape == (2, 2, 50)
    table(index).sum().backward()
    grad = table.weight.grad
    assert grad[1, 0].item() == 2 and grad[999, 0].item() == 0 and grad[3, 0].item() == 1
    fixed = nn.Embedding.from_pretrained(bt.ones(3, 2))
    assert not fixed.weight.requires_grad and values(fixed(bt.tensor([1]))) == [[1, 1]]
    with pytest.raises(ValueError, match="padding_idx 3"):
        nn.Embedding(3, 2, padding_idx=3)


@pytest.mark.parametrize(
    ("module", "at_minus_2", "at_half"),
    [
        (nn.ReLU(), 0, 0.5),
        (nn.ReLU6(), 0, 0.5),
        (nn.LeakyReLU(0.1), -0.2, 0.5),
        (nn.ELU(), math.exp(-2) - 1, 0.5),
        (nn.GELU(), -1 * math.erfc(math.sqrt(2)), 0.25 * (1 + math.erf(0.5 / math.sqrt(2)))),
        (nn.SiLU(), -2 / (1 + math.exp(2)), 0.5 / (1 + math.exp(-0.5))),
        (nn.Sigmoid(), 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-0.5))),
        (nn.Tanh(), math.tanh(-2), math.tanh(0.5)),
        (nn.Softplus(), math.log1p(math.exp(-2)), math.log1p(math.exp(0.5))),
        (nn.Hardtanh(), -1, 0.5),
        (nn.Softmax(0), 1 / (1 + math.exp(2.5)), 1 / (1 + math.exp(-2.5))),
        (nn.LogSoftmax(-1), -math.log1p(math.exp(2.5)), -math.log1p(math.exp(-2.5))),
        (nn.Identity(1, two=2), -2, 0.5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_activation(module: nn.Module, at_minus_2: float, at_half: float) -> None:
    got = values(module(bt.tensor([-2.0, 0.5])))
    assert got == pytest.approx([at_minus_2, at_half], rel=1e-5, abs=1e-6)


def test_activation_in_place() -> None:
    for module in (nn.ReLU(inplace=True), nn.LeakyReLU(0.5, inplace=True), nn.ReLU6(inplace=True)):
        x = bt.tensor([-2.0, 0.5])
        y = module(x)
        assert values(x) == values(y) and values(x)[1] == 0.5


def test_flatten_and_unflatten() -> None:
    x = bt.zeros(2, 3, 4, 5)
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0, 1)(x).shape == (6, 4, 5)
    assert nn.Unflatten(-1, (5, -1))(x).shape == (2, 3, 4, 5, 1)


def test_layer_norm_and_rms_norm() -> None:
    x = bt.tensor([[1.0, 2.0, 3.0, 6.0]])
    norm = nn.LayerNorm(4, eps=0.0)
    root = math.sqrt((4 + 1 + 0 + 9) / 4)
    assert values(norm(x))[0] == pytest.approx([-2 / root, -1 / root, 0, 3 / root], abs=1e-6)
    rms = nn.RMSNorm(4)
    root = math.sqrt((1 + 4 + 9 + 36) / 4)
    assert values(rms(x))[0] == pytest.approx([v / root for v in (1, 2, 3, 6)], rel=1e-5)
    assert list(rms.state_dict()) == ["weight"] and list(norm.state_dict()) == ["weight", "bias"]
    assert nn.LayerNorm((2, 4), elementwise_affine=False).weight is None
    assert list(nn.LayerNorm(4, bias=False).state_dict()) == ["weight"]


def test_group_norm() -> None:
    norm = nn.GroupNorm(2, 4, eps=0.0)
    x = bt.randn(3, 4, 5)
    y = norm(x)
    for sample in range(3):
        for group in range(2):
            mean, std = spread(y[sample, 2 * group : 2 * group + 2])
            assert mean == pytest.approx(0, abs=1e-5) and std == pytest.approx(1, rel=1e-4)
    with pytest.raises(ValueError, match="divisible"):
        nn.GroupNorm(3, 4)


def test_batch_norm_tracks_and_uses_running_statistics() -> None:
    norm = nn.BatchNorm1d(2, momentum=0.5)
    x = bt.tensor([[0.0, 10.0], [2.0, 14.0], [4.0, 18.0]])
    y = norm(x)
    assert values(y.mean(0)) == pytest.approx([0, 0], abs=1e-6)
    assert values(norm.running_mean) == pytest.approx([1, 7])
    assert values(norm.running_var) == pytest.approx([0.5 + 2, 0.5 + 8])
    assert norm.num_batches_tracked.item() == 1
    norm.eval()
    assert values(norm(x))[0] == pytest.approx([-1 / 2.5**0.5, 3 / 8.5**0.5], rel=1e-4)
    assert norm.num_batches_tracked.item() == 1
    norm.reset_running_stats()
    assert values(norm.running_mean) == [0, 0] and values(norm.running_var) == [1, 1]


def test_batch_norm_variants() -> None:
    norm = nn.BatchNorm2d(3, momentum=None)
    for value in (1.0, 3.0):
        norm(bt.full((2, 3, 2, 2), value))
    assert values(norm.running_mean) == pytest.approx([2, 2, 2])
    plain = nn.BatchNorm1d(3, affine=False, track_running_stats=False).eval()
    assert list(plain.state_dict()) == []
    y = plain(bt.randn(50, 3))
    assert values((y * y).mean(0)) == pytest.approx([1, 1, 1], rel=1e-3)
    with pytest.raises(ValueError, match="BatchNorm2d: expected 4D input, got 2D"):
        norm(bt.zeros(2, 3))


def test_dropout() -> None:
    bt.manual_seed(0)
    x = bt.ones(100, 100)
    drop = nn.Dropout(0.2)
    kept = drop(x)
    assert kept.mean().item() == pytest.approx(1, abs=0.03)
    assert set(values(kept.reshape(-1))) == {0.0, 1.25}
    assert values(drop.eval()(x)) == values(x)
    channels = nn.Dropout2d(0.5)(bt.ones(20, 30, 2, 2)).reshape(600, 4)
    assert values(channels.max(1)[0]) == values(channels.min(1)[0])
    assert 200 < values(channels[:, 0]).count(2.0) < 400
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)


def test_losses() -> None:
    x, y = bt.tensor([0.0, 2.0, -1.0]), bt.tensor([1.0, 2.5, 3.0])
    assert nn.MSELoss()(x, y).item() == pytest.approx((1 + 0.25 + 16) / 3)
    assert nn.MSELoss(reduction="sum")(x, y).item() == pytest.approx(17.25)
    assert values(nn.L1Loss(reduction="none")(x, y)) == [1, 0.5, 4]
    assert values(nn.SmoothL1Loss(reduction="none", beta=2.0)(x, y)) == [0.25, 0.0625, 3]
    assert values(nn.HuberLoss(reduction="none", delta=2.0)(x, y)) == [0.5, 0.125, 6]
    p, t = bt.tensor([0.25, 0.5]), bt.tensor([1.0, 0.0])
    assert nn.BCELoss()(p, t).item() == pytest.approx((math.log(4) + math.log(2)) / 2)
    logits = bt.tensor([math.log(1 / 3), 0.0])
    assert nn.BCEWithLogitsLoss()(logits, t).item() == pytest.approx(
        (math.log(4) + math.log(2)) / 2, rel=1e-6
    )
    weighted = nn.BCEWithLogitsLoss(pos_weight=bt.tensor([3.0, 3.0]), reduction="sum")
    assert weighted(logits, t).item() == pytest.approx(3 * math.log(4) + math.log(2), rel=1e-6)
    q = bt.tensor([[0.5, 0.5]])
    log_p = bt.tensor([[math.log(0.25), math.log(0.75)]])
    expected = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)
    assert nn.KLDivLoss(reduction="batchmean")(log_p, q).item() == pytest.approx(expected)
    assert nn.KLDivLoss(reduction="sum", log_target=True)(log_p, q.log()).item() == pytest.approx(
        expected
    )


def test_cross_entropy() -> None:
    logits = bt.tensor([[math.log(1.0), math.log(3.0)], [math.log(2.0), math.log(2.0)]])
    target = bt.tensor([1, 0])
    first, second = math.log(4 / 3), math.log(2)
    assert nn.CrossEntropyLoss()(logits, target).item() == pytest.approx((first + second) / 2)
    assert nn.NLLLoss()(nn.LogSoftmax(1)(logits), target).item() == pytest.approx(
        (first + second) / 2
    )
    ignoring = nn.CrossEntropyLoss(ignore_index=0)
    assert ignoring(logits, target).item() == pytest.approx(first)
    weighted = nn.CrossEntropyLoss(weight=bt.tensor([1.0, 3.0]))
    assert weighted(logits, target).item() == pytest.approx((3 * first + second) / 4)
    assert list(weighted.state_dict()) == ["weight"]
    smooth = nn.CrossEntropyLoss(label_smoothing=0.2, reduction="none")
    assert values(smooth(logits, target))[0] == pytest.approx(0.9 * first + 0.1 * math.log(4))


def test_former_reduction_flags() -> None:
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert nn.L1Loss(reduce=False).reduction == "none"


# Attention


def test_attention_shapes_and_weights() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = bt.randn(3, 5, 8)
    out, weights = attention(x, x, x)
    assert out.shape == (3, 5, 8) and weights.shape == (3, 5, 5)
    assert values(weights.sum(-1).reshape(-1)) == pytest.approx([1] * 15, abs=1e-5)
    fused, none = attention(x, x, x, need_weights=False)
    assert none is None
    assert (fused - out).abs().max().item() < 1e-5
    _, heads = attention(x, x, x, average_attn_weights=False)
    assert heads.shape == (3, 2, 5, 5)
    single, _ = attention(x[0], x[0], x[0])
    assert (single - out[0]).abs().max().item() < 1e-5
    seq_first = nn.MultiheadAttention(8, 2)
    seq_first.load_state_dict(attention.state_dict())
    turned = x.transpose(0, 1)
    assert (seq_first(turned, turned, turned)[0].transpose(0, 1) - out).abs().max().item() < 1e-5


def test_attention_masks() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = bt.randn(2, 4, 8)
    causal = bt.ones(4, 4, dtype=bt.bool).triu(1)
    out, weights = attention(x, x, x, attn_mask=causal)
    assert values(weights[0, 0]) == [1, 0, 0, 0]
    fused, _ = attention(x, x, x, attn_mask=causal, is_causal=True, need_weights=False)
    assert (fused - out).abs().max().item() < 1e-5
    padding = bt.tensor([[False, False, False, True]] * 2)
    _, weights = attention(x, x, x, key_padding_mask=padding)
    assert values(weights[:, :, 3].reshape(-1)) == [0] * 8
    both, _ = attention(x, x, x, key_padding_mask=padding, attn_mask=causal)
    assert (both - out)[:, :3].abs().max().item() < 1e-5
    with pytest.raises(RuntimeError, match="is_causal needs attn_mask"):
        attention(x, x, x, is_causal=True)
    with pytest.raises(ValueError, match="divisible"):
        nn.MultiheadAttention(8, 3)


# Initialisation


def test_gain_and_fans() -> None:
    assert nn.init.calculate_gain("linear") == 1
    assert nn.init.calculate_gain("tanh") == pytest.approx(5 / 3)
    assert nn.init.calculate_gain("relu") == pytest.approx(math.sqrt(2))
    assert nn.init.calculate_gain("leaky_relu", 0.5) == pytest.approx(math.sqrt(1.6))
    with pytest.raises(ValueError, match="Unsupported"):
        nn.init.calculate_gain("nope")
    with pytest.raises(ValueError, match="fewer than 2"):
        nn.init.xavier_uniform_(bt.zeros(3))
    assert nn.init._calculate_fan_in_and_fan_out(bt.zeros(6, 4, 3, 3)) == (36, 54)


@pytest.mark.parametrize(
    ("fill", "std"),
    [
        (lambda t: nn.init.uniform_(t, -1, 3), 4 / math.sqrt(12)),
        (lambda t: nn.init.normal_(t, 1, 0.5), 0.5),
        (lambda t: nn.init.xavier_uniform_(t, 2.0), 2 * math.sqrt(2 / 500)),
        (lambda t: nn.init.xavier_normal_(t), math.sqrt(2 / 500)),
        (lambda t: nn.init.kaiming_uniform_(t, nonlinearity="relu"), math.sqrt(2 / 200)),
        (lambda t: nn.init.kaiming_normal_(t, mode="fan_out"), math.sqrt(2 / 300)),
        (lambda t: nn.init.trunc_normal_(t, std=0.02), 0.02),
        (lambda t: nn.init.trunc_normal_(t), 0.8796),
        (lambda t: nn.init.trunc_normal_(t, a=0.0, b=1e9), math.sqrt(1 - 2 / math.pi)),
    ],
)
def test_init_spread(fill: Any, std: float) -> None:
    bt.manual_seed(1)
    tensor = bt.zeros(300, 200)
    assert fill(tensor) is tensor
    assert spread(tensor)[1] == pytest.approx(std, rel=0.02)


def test_trunc_normal_bounds() -> None:
    tensor = nn.init.trunc_normal_(bt.zeros(10_000), mean=1.0, std=2.0, a=0.5, b=3.0)
    assert tensor.min().item() >= 0.5 and tensor.max().item() <= 3.0
    with pytest.warns(UserWarning, match="more than 2 std"):
        nn.init.trunc_normal_(bt.zeros(2), mean=10.0)


def test_erfinv_inverts_erf() -> None:
    points = [-0.999999, -0.9, -0.1, 0.0, 1e-3, 0.5, 0.99, 0.99999]
    got = values(nn.init._erfinv(bt.tensor(points, dtype=bt.float64)))
    assert [math.erf(x) for x in got] == pytest.approx(points, rel=2e-6)


def test_init_exact() -> None:
    assert values(nn.init.eye_(bt.ones(2, 3))) == [[1, 0, 0], [0, 1, 0]]
    assert values(nn.init.constant_(bt.zeros(2), 3)) == [3, 3]
    assert values(nn.init.ones_(bt.zeros(2))) == [1, 1]
    assert values(nn.init.zeros_(bt.ones(2))) == [0, 0]
    assert values(nn.init.dirac_(bt.ones(2, 2, 3))) == [
        [[0, 1, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 1, 0]],
    ]
    sparse = nn.init.sparse_(bt.ones(10, 4), 0.25)
    assert values((sparse == 0).sum(0)) == [3, 3, 3, 3]
    with pytest.warns(FutureWarning, match="constant_"):
        nn.init.constant(bt.zeros(1), 2)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 2, 2)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    pytest.importorskip("numpy")
    matrix = nn.init.orthogonal_(bt.zeros(*shape), gain=2.0).reshape(shape[0], -1)
    rows, columns = matrix.shape
    gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    assert (gram - 4 * bt.eye(min(rows, columns))).abs().max().item() < 1e-5


def test_init_works_on_parameters_and_with_generators() -> None:
    layer = nn.Linear(3, 3)
    draws = []
    for _ in range(2):
        generator = bt.Generator().manual_seed(5)
        nn.init.normal_(layer.weight, generator=generator)
        draws.append(values(layer.weight))
    assert draws[0] == draws[1] and layer.weight.requires_grad and layer.weight.is_leaf


# Utilities


def with_grads(*grads: list[float]) -> list[nn.Parameter]:
    parameters = []
    for grad in grads:
        parameter = nn.Parameter(bt.zeros(len(grad)))
        parameter.grad = bt.tensor(grad)
        parameters.append(parameter)
    return [*parameters, nn.Parameter(bt.zeros(1))]


def test_clip_grad_norm() -> None:
    parameters = with_grads([3.0, 0.0], [4.0])
    norm = nn.utils.clip_grad_norm_(parameters, 1.0)
    assert norm.item() == pytest.approx(5) and norm.shape == ()
    assert values(parameters[0].grad) == pytest.approx([0.6, 0], rel=1e-5)
    assert nn.utils.clip_grad_norm_(parameters, 10.0).item() == pytest.approx(1, rel=1e-5)
    assert values(parameters[1].grad) == pytest.approx([0.8], rel=1e-5)
    for order, expected in ((1, 7), (math.inf, 4), (3, 91 ** (1 / 3)), (0, 2)):
        parameters = with_grads([3.0, 0.0], [-4.0])
        norm = nn.utils.clip_grad_norm_(parameters, 1.0, norm_type=order)
        assert norm.item() == pytest.approx(expected, rel=1e-6)
        assert values(parameters[1].grad)[0] == pytest.approx(-4 / expected, rel=1e-5)
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0
    assert nn.utils.clip_grad_norm_(parameters[0], 1e9).item() > 0


def test_clip_grad_norm_nonfinite() -> None:
    parameters = with_grads([math.inf, 1.0])
    with pytest.raises(RuntimeError, match="error_if_nonfinite=False"):
        nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    assert values(parameters[0].grad) == [math.inf, 1]


def test_clip_grad_value() -> None:
    parameters = with_grads([3.0, -0.5], [-4.0])
    nn.utils.clip_grad_value_(parameters, 1.0)
    assert values(parameters[0].grad) == [1, -0.5] and values(parameters[1].grad) == [-1]


def test_parameters_to_vector_and_back() -> None:
    net = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (9,)
    nn.utils.vector_to_parameters(bt.arange(9).float(), net.parameters())
    assert values(net.weight) == [[0, 1], [2, 3], [4, 5]] and values(net.bias) == [6, 7, 8]


def test_pad_sequence() -> None:
    parts = [bt.tensor([1.0, 2.0, 3.0]), bt.tensor([4.0])]
    pad = nn.utils.rnn.pad_sequence
    assert values(pad(parts, batch_first=True)) == [[1, 2, 3], [4, 0, 0]]
    assert values(pad(parts, padding_value=-1.0)) == [[1, 4], [2, -1], [3, -1]]
    assert values(pad(parts, True, padding_side="left"))[1] == [0, 0, 4]
    assert pad([bt.zeros(2, 5), bt.zeros(3, 5)]).shape == (3, 2, 5)
    with pytest.raises(ValueError, match="padding_side"):
        pad(parts, padding_side="top")
