"""nn.init and nn.utils."""

from __future__ import annotations

import math
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn


def values(tensor: Any) -> Any:
    return tensor.detach().tolist()


def spread(tensor: Any) -> tuple[float, float]:
    """Mean and standard deviation."""
    flat = tensor.detach().reshape(-1)
    mean = flat.mean().item()
    return mean, ((flat - mean) ** 2).mean().item() ** 0.5


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
    assert tensor.min().item() >= 0.5
    assert tensor.max().item() <= 3.0
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
    assert draws[0] == draws[1]
    assert layer.weight.requires_grad
    assert layer.weight.is_leaf


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
    assert norm.item() == pytest.approx(5)
    assert norm.shape == ()
    assert values(parameters[0].grad) == pytest.approx([0.6, 0], rel=1e-5)
    assert nn.utils.clip_grad_norm_(parameters, 10.0).item() == pytest.approx(1, rel=1e-5)
    assert values(parameters[1].grad) == pytest.approx([0.8], rel=1e-5)
    for order, expected in ((1, 7), (math.inf, 4), (3, 91 ** (1 / 3))):
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
    assert values(parameters[0].grad) == [1, -0.5]
    assert values(parameters[1].grad) == [-1]


def test_parameters_to_vector_and_back() -> None:
    net = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (9,)
    nn.utils.vector_to_parameters(bt.arange(9).float(), net.parameters())
    assert values(net.weight) == [[0, 1], [2, 3], [4, 5]]
    assert values(net.bias) == [6, 7, 8]


def test_pad_sequence() -> None:
    parts = [bt.tensor([1.0, 2.0, 3.0]), bt.tensor([4.0])]
    pad = nn.utils.rnn.pad_sequence
    assert values(pad(parts, batch_first=True)) == [[1, 2, 3], [4, 0, 0]]
    assert values(pad(parts, padding_value=-1.0)) == [[1, 4], [2, -1], [3, -1]]
    assert values(pad(parts, True, padding_side="left"))[1] == [0, 0, 4]
    assert pad([bt.zeros(2, 5), bt.zeros(3, 5)]).shape == (3, 2, 5)
    with pytest.raises(ValueError, match="padding_side"):
        pad(parts, padding_side="top")
