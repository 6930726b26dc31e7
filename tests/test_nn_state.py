"""The state of modules: tables that may be written to, extra state, overrides, versions, hooks."""

from __future__ import annotations

import copy
import pickle
import weakref
from collections import OrderedDict
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.layer = nn.Linear(1, 1)
        self.scale = nn.Parameter(bt.ones(1))
        self.register_buffer("shift", bt.zeros(1))

    def forward(self, x: bt.Tensor) -> bt.Tensor:
        return self.act(x) * self.scale + self.shift


# Tables


def test_writes_to_the_tables_are_seen_by_attributes() -> None:
    net = Net()
    x = bt.tensor([-1.0])
    net._modules["act"] = nn.Identity()
    assert net(x).tolist() == [-1]
    net._parameters["scale"] = nn.Parameter(bt.full((1,), 3.0))
    assert net(x).tolist() == [-3]
    net._buffers["shift"] = bt.full((1,), 5.0)
    assert net(x).tolist() == [2]
    assert net.state_dict()["shift"].tolist() == [5]


def test_every_way_of_writing_to_a_table() -> None:
    net = Net()
    table = net._modules
    a, b, c, d, e = (nn.Identity() for _ in range(5))
    table.update(act=a, more=b)
    assert (net.act, net.more) == (a, b)
    table |= {"more": c}
    assert net._modules is table
    assert net.more is c
    assert table.setdefault("more", d) is c
    assert table.setdefault("late", d) is net.late is d
    assert table.pop("late") is d
    assert table.pop("late", None) is None
    assert not hasattr(net, "late")
    with pytest.raises(KeyError):
        table.pop("late")
    del table["more"]
    assert not hasattr(net, "more")
    table["last"] = e
    assert table.popitem() == ("last", e)
    assert not hasattr(net, "last")
    table.clear()
    assert not hasattr(net, "layer")
    assert list(net.children()) == []


def test_a_table_may_be_replaced() -> None:
    net = Net()
    replaced, kept = net._modules, nn.Identity()
    net._modules = OrderedDict(act=kept)
    assert net.act is kept
    assert not hasattr(net, "layer")
    net._modules["layer"] = nn.Linear(2, 2)
    assert net.layer.in_features == 2
    replaced["layer"] = kept
    assert net.layer.in_features == 2


def test_copies_have_tables_of_their_own() -> None:
    net = Net()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        other._modules["act"] = nn.Identity()
        assert other(bt.tensor([-1.0])).tolist() == [-1]
        assert net(bt.tensor([-1.0])).tolist() == [0]
        assert other.layer.weight is other._modules["layer"]._parameters["weight"]


def test_shallow_copies_share_their_tables_until_these_are_copied() -> None:
    net = Net()
    other = copy.copy(net)
    other.act = nn.Identity()
    assert isinstance(net.act, nn.Identity)
    other._modules = other._modules.copy()
    other.act = nn.Tanh()
    assert isinstance(other.act, nn.Tanh)
    assert isinstance(net.act, nn.Identity)


def test_modules_are_freed_without_the_collector() -> None:
    net = Net()
    gone = weakref.ref(net)
    del net
    assert gone() is None


def test_layers_are_replaced_by_any_recipe() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU(), nn.ReLU()))
    for module in net.modules():
        for name, child in list(module._modules.items()):
            if isinstance(child, nn.ReLU):
                module._modules[name] = nn.Identity()
    assert net[1](bt.tensor([-1.0])).tolist() == [-1]
    net.set_submodule("1.0", nn.Tanh())
    assert isinstance(net[1][0], nn.Tanh)
    net.set_submodule("1.more", nn.ReLU())
    assert isinstance(net.get_submodule("1.more"), nn.ReLU)
    with pytest.raises(AttributeError, match="has no attribute `other`"):
        net.set_submodule("1.other", nn.ReLU(), strict=True)
    with pytest.raises(ValueError, match="without a target name"):
        net.set_submodule("", nn.ReLU())
    with pytest.raises(ValueError, match=r"is not an nn\.Module"):
        net.set_submodule("1", 3)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match=r"is not an nn\.Module"):
        net.set_submodule("0.weight", nn.ReLU())


def test_attribute_lookup_of_ones_own() -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def __getattr__(self, name: str) -> Any:
            try:
                return super().__getattr__(name)  # type: ignore[misc]
            except AttributeError:
                return getattr(self.module, name)

    class Named:
        title = "named"

    class Both(Wrapper, Named):
        pass

    for kind in (Wrapper, Both):
        wrapped = kind(nn.Linear(3, 2))
        assert wrapped.in_features == 3
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            wrapped.nothing  # noqa: B018
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'nothing'"):
        nn.Linear(1, 1).nothing  # noqa: B018


def test_names_are_listed_without_numbers() -> None:
    names = dir(nn.Sequential(nn.ReLU()))
    assert "0" not in names
    assert {"forward", "_modules", "training"} <= set(names)
    assert "scale" in dir(Net())


def test_buffer() -> None:
    module = nn.Module()
    module.kept = nn.Buffer(bt.ones(2))
    module.passing = nn.Buffer(bt.ones(1), persistent=False)
    assert [name for name, _ in module.named_buffers()] == ["kept", "passing"]
    assert list(module.state_dict()) == ["kept"]
    module.kept = bt.zeros(3)
    assert list(module.state_dict()) == ["kept"]
    other = copy.deepcopy(module)
    assert list(other.state_dict()) == ["kept"]
    assert not nn.Buffer(bt.ones(1)).requires_grad


def test_arguments_of_module_itself() -> None:
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'x'"):
        nn.Module(x=1)
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        nn.Module(1)

    class Base:
        def __init__(self, x: int) -> None:
            self.x = x

    class Both(nn.Module, Base):
        call_super_init = True

    assert Both(3).x == 3


# Conversions


def test_conversions() -> None:
    net = Net()
    net.register_buffer("count", bt.zeros(2, dtype=bt.int64))
    weight = net.layer.weight
    before = weight.data_ptr()
    net.to_empty(device="cpu")
    assert net.layer.weight is weight
    assert weight.data_ptr() != before
    assert weight.requires_grad
    with pytest.raises(RuntimeError, match="bfloat16"):
        net.half()
    with pytest.raises(RuntimeError):
        net.cuda()
    assert nn.ReLU().cuda() is not None
    assert net.share_memory() is net


# State


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def get_extra_state(self) -> Any:
        return {"count": self.count}

    def set_extra_state(self, state: Any) -> None:
        self.count = state["count"]


def test_extra_state_is_saved_and_loaded() -> None:
    net = nn.Sequential(Counting())
    net[0].count = 5
    state = net.state_dict()
    assert dict(state) == {"0._extra_state": {"count": 5}}
    other = nn.Sequential(Counting())
    assert repr(other.load_state_dict(state)) == "<All keys matched successfully>"
    assert other[0].count == 5
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "0._extra_state"'):
        other.load_state_dict({})
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\).*"_extra_state"'):
        nn.ReLU().load_state_dict({"_extra_state": 1})


def test_extra_state_is_not_set_when_something_else_does_not_fit() -> None:
    net = nn.Sequential(Counting(), nn.Linear(1, 1))
    state = net.state_dict()
    state["0._extra_state"] = {"count": 9}
    state["1.weight"] = bt.zeros(5)
    with pytest.raises(RuntimeError, match=r"size mismatch for 1\.weight"):
        net.load_state_dict(state)
    assert net[0].count == 0


def test_overrides_take_part() -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(bt.ones(1))
            self.seen = 0.0

        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            super()._save_to_state_dict(destination, prefix, keep_vars)
            destination[prefix + "half"] = self.w.detach() / 2

        def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
            half = state_dict.pop(prefix + "half")
            super()._load_from_state_dict(state_dict, prefix, *args)
            self.seen = float(half)

    class Renamed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(bt.ones(1))

        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            state = super().state_dict(*args, **kwargs)
            state[kwargs["prefix"] + "name"] = "renamed"
            return state

    net = nn.Sequential(Doubled(), Renamed())
    state = net.state_dict()
    assert list(state) == ["0.w", "0.half", "1.w", "1.name"]
    del state["1.name"]
    state["0.w"] = bt.full((1,), 4.0)
    net.load_state_dict(state)
    assert net[0].seen == 0.5
    assert net[0].w.tolist() == [4]


def test_an_override_sees_what_it_loaded() -> None:
    class Squared(nn.Linear):
        def _load_from_state_dict(self, *args: Any) -> None:
            super()._load_from_state_dict(*args)
            with bt.no_grad():
                self.weight.mul_(self.weight)

    net = Squared(1, 1)
    net.load_state_dict({"weight": bt.full((1, 1), 3.0), "bias": bt.zeros(1)})
    assert net.weight.tolist() == [[9]]


def test_versions_travel_with_the_state() -> None:
    class Versioned(nn.Linear):
        _version = 3

        def _load_from_state_dict(self, state_dict: Any, prefix: str, meta: Any, *a: Any) -> None:
            versions.append(meta.get("version"))
            super()._load_from_state_dict(state_dict, prefix, meta, *a)

    versions: list[Any] = []
    net = nn.Sequential(Versioned(1, 1))
    state: Any = net.state_dict()
    assert isinstance(state, OrderedDict)
    assert dict(state._metadata) == {"": {"version": 1}, "0": {"version": 3}}
    net.load_state_dict(state)
    net.load_state_dict(copy.deepcopy(state))
    net.load_state_dict(dict(state))
    assert versions == [3, 3, None]


def test_hooks_around_saving() -> None:
    net = nn.Sequential(nn.Linear(1, 1))
    seen: list[Any] = []
    net[0].register_state_dict_pre_hook(lambda m, prefix, keep: seen.append((prefix, keep)))

    def add(module: Any, state: Any, prefix: str, metadata: Any) -> None:
        state[prefix + "more"] = metadata["version"]

    handle = net[0].register_state_dict_post_hook(add)
    assert list(net.state_dict()) == ["0.weight", "0.bias", "0.more"]
    assert seen == [("0.", False)]
    handle.remove()
    assert list(net.state_dict()) == ["0.weight", "0.bias"]
    net._register_state_dict_hook(lambda m, state, prefix, metadata: {"all": 1})
    assert net.state_dict() == {"all": 1}
    net.register_state_dict_post_hook(lambda m, state, prefix, metadata: 3)
    with pytest.raises(RuntimeError, match="must return None"):
        net.state_dict()


def test_hooks_around_loading() -> None:
    net = nn.Sequential(nn.Linear(1, 1, bias=False))
    seen: list[Any] = []

    def rename(
        module: Any, state: Any, prefix: str, meta: Any, strict: bool, *lists: list[str]
    ) -> None:
        assert module is net[0]
        assert lists == ([], [], [])
        state[prefix + "weight"] = state.pop(prefix + "w")

    net[0].register_load_state_dict_pre_hook(rename)
    net._register_load_state_dict_pre_hook(lambda state, prefix, *rest: seen.append(prefix))

    def after(module: Any, keys: Any) -> None:
        seen.append(module.weight.item())
        keys.missing_keys.clear()

    net[0].register_load_state_dict_post_hook(after)
    state = {"0.w": bt.full((1, 1), 7.0)}
    assert net.load_state_dict(state) == ([], [])
    assert seen == ["", 7]
    assert list(state) == ["0.w"]
    net.register_load_state_dict_post_hook(lambda m, keys: 1)
    with pytest.raises(AssertionError, match="not expected to return"):
        net.load_state_dict(state)


def test_positional_arguments_of_state_dict_warn() -> None:
    net = nn.Linear(1, 1)
    destination: OrderedDict[str, Any] = OrderedDict()
    with pytest.warns(FutureWarning, match="Positional args are being deprecated"):
        net.state_dict(destination, "a.", True)
    assert destination["a.weight"] is net.weight


def test_loading_into_scalars_and_from_something_else() -> None:
    module = nn.Module()
    module.scale = nn.Parameter(bt.tensor(1.0))
    module.load_state_dict({"scale": bt.tensor([4.0])})
    assert module.scale.item() == 4
    with pytest.raises(RuntimeError, match=r"expected .*Tensor.* but received <class 'list'>"):
        module.load_state_dict({"scale": [1.0]})
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        module.load_state_dict([1])  # type: ignore[arg-type]
    incompatible = module.load_state_dict({"other": bt.ones(1)}, strict=False)
    assert repr(incompatible) == (
        "_IncompatibleKeys(missing_keys=['scale'], unexpected_keys=['other'])"
    )


def test_versions_are_saved(tmp_path: Any) -> None:
    net = nn.Sequential(nn.BatchNorm1d(2))
    bt.save({"model": net.state_dict()}, tmp_path / "net")
    state = bt.load(tmp_path / "net")["model"]
    assert isinstance(state, OrderedDict)
    assert state._metadata == net.state_dict()._metadata  # type: ignore[attr-defined]
    assert repr(net.load_state_dict(state)) == "<All keys matched successfully>"
