"""Sequential, the lists and the dicts of modules and parameters."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn


def values(tensor: Any) -> Any:
    return tensor.detach().tolist()


def test_sequential() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert net(bt.ones(4, 2)).shape == (4, 1)
    assert len(net) == 3
    assert net[-1] is net[2]
    head = net[:2]
    assert isinstance(head, nn.Sequential)
    assert len(head) == 2
    assert head[0] is net[0]
    net[1] = nn.Tanh()
    assert isinstance(net[1], nn.Tanh)
    net.append(nn.Sigmoid()).insert(0, nn.Identity())
    assert [type(m).__name__ for m in net] == ["Identity", "Linear", "Tanh", "Linear", "Sigmoid"]
    assert [name for name, _ in net.named_children()] == list("01234")
    del net[0]
    assert net.pop() is not None
    assert len(net) == 3
    assert [name for name, _ in net.named_children()] == list("012")
    assert len(net + head) == 5
    with pytest.raises(IndexError, match="index 3 is out of range"):
        net[3]
    with pytest.raises(TypeError, match="not a Module subclass"):
        nn.Sequential(3)  # type: ignore[arg-type]


def test_sequential_with_names() -> None:
    net = nn.Sequential({"first": nn.Linear(2, 2), "then": nn.ReLU()})
    assert net.first is net[0]
    assert list(net.state_dict()) == ["first.weight", "first.bias"]
    assert [name for name, _ in net[:1].named_children()] == ["first"]
    del net[1]
    assert [name for name, _ in net.named_children()] == ["0"]


def test_module_list() -> None:
    layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
    first = layers[0]
    assert len(layers[1:]) == 2
    assert layers[1:][0] is layers[1]
    layers += [nn.ReLU()]
    layers.insert(1, nn.Tanh())
    assert layers[0] is first
    assert isinstance(layers[1], nn.Tanh)
    assert len(layers) == 5
    del layers[1:4]
    assert [type(m).__name__ for m in layers] == ["Linear", "ReLU"]
    assert list(layers.state_dict()) == ["0.weight", "0.bias"]
    assert len(layers + layers) == 4


def test_module_dict() -> None:
    modules = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ReLU()})
    modules["c"] = nn.Tanh()
    assert list(modules) == list(modules.keys()) == ["a", "b", "c"]
    assert "b" in modules
    assert len(modules) == 3
    assert isinstance(modules.pop("b"), nn.ReLU)
    modules.update([("d", nn.Identity())])
    assert [key for key, _ in modules.items()] == ["a", "c", "d"]
    assert len(list(modules.values())) == 3
    assert list(modules.state_dict()) == ["a.weight", "a.bias"]
    modules.clear()
    assert len(modules) == 0


def test_parameter_list() -> None:
    weights = nn.ParameterList([bt.zeros(2), nn.Parameter(bt.ones(3))])
    assert all(isinstance(w, nn.Parameter) for w in weights)
    assert len(weights) == 2
    weights.append(bt.ones(1)).extend([bt.ones(4)])
    assert list(weights.state_dict()) == ["0", "1", "2", "3"]
    assert [w.numel() for w in weights[1:3]] == [3, 1]
    assert weights[-1].numel() == 4
    a, b = weights[:2]
    assert a is weights[0]
    assert b is weights[1]
    weights[0] = bt.zeros(5)
    assert [w.numel() for w in weights.parameters()] == [5, 3, 1, 4]
    assert weights.pop(1).numel() == 3
    assert [w.numel() for w in weights] == [5, 1, 4]
    with pytest.raises(IndexError):
        weights[3]
    with pytest.raises(TypeError, match="iterable"):
        weights.extend(3)  # type: ignore[arg-type]


def test_parameter_dict() -> None:
    weights = nn.ParameterDict({"a": bt.zeros(2), "b": bt.ones(1)})
    weights["c"] = bt.ones(3)
    assert list(weights) == ["a", "b", "c"]
    assert "a" in weights
    assert len(weights) == 3
    assert [p.numel() for p in weights.parameters()] == [2, 1, 3]
    assert weights.get("z") is None
    assert weights.setdefault("d", bt.ones(4)).numel() == 4
    assert weights.pop("a").numel() == 2
    assert weights.popitem()[0] == "d"
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


def test_sequential_operators() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Tanh())
    twice = net * 2
    assert [type(m).__name__ for m in twice] == ["ReLU", "Tanh", "ReLU", "Tanh"]
    assert twice[2] is net[0]
    assert len(2 * net) == 4
    same = net
    net *= 2
    assert net is same
    assert list(net._modules) == ["0", "1", "2", "3"]
    net += nn.Sequential(nn.Identity())
    assert net is same
    assert isinstance(net[4], nn.Identity)
    assert net.insert(0, nn.Sigmoid()) is net
    assert isinstance(net[0], nn.Sigmoid)
    for wrong, error, message in (
        (0, ValueError, "Non-positive multiplication factor 0"),
        (1.5, TypeError, "unsupported operand"),
    ):
        with pytest.raises(error, match=message):
            net * wrong  # type: ignore[operator]
    with pytest.raises(ValueError, match="only objects of Sequential class"):
        net + nn.ModuleList()  # type: ignore[operator]


def test_parameter_dict_as_a_dict() -> None:
    one, two = bt.ones(1), bt.ones(2)
    assert list(nn.ParameterDict({"b": one, "a": two})) == ["a", "b"]
    assert list(nn.ParameterDict([("b", one), ("a", two)])) == ["b", "a"]
    assert list(nn.ParameterDict(OrderedDict(b=one, a=two))) == ["b", "a"]
    known = nn.ParameterDict({"b": one, "a": two})
    merged = known | {"c": one}
    assert list(merged) == ["a", "b", "c"]
    assert isinstance(merged, nn.ParameterDict)
    assert list({"z": 1} | known) == ["z", "a", "b"]
    known |= nn.ParameterDict({"d": one})
    assert list(known) == ["a", "b", "d"]
    assert list(known.fromkeys(["x", "y"], one)) == ["x", "y"]
    with pytest.raises(RuntimeError, match="should not be called"):
        known(1)
    with pytest.raises(RuntimeError, match="should not be called"):
        nn.ParameterList()(1)


@pytest.mark.parametrize("kind", [nn.ModuleDict, nn.ParameterDict])
def test_updates_want_pairs(kind: Any) -> None:
    for wrong, error, message in (
        (3, TypeError, "should be called with an iterable of key/value pairs, but got int"),
        ([3], TypeError, "element #0 should be Iterable"),
        ([(1, 2, 3)], ValueError, "element #0 has length 3; 2 is required"),
    ):
        with pytest.raises(error, match=message):
            kind(wrong)
