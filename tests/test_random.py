"""Random numbers: the same at each run and on any number of threads, with the right statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail._core import equal_bytes

DRAWS: dict[str, Callable[[], bt.Tensor]] = {
    "rand": lambda: bt.rand(100_003),
    "rand64": lambda: bt.rand(100_003, dtype=bt.float64),
    "randn": lambda: bt.randn(100_003),
    "randn64": lambda: bt.randn(100_003, dtype=bt.float64),
    "randint": lambda: bt.randint(-7, 1000, (100_003,)),
    "randperm": lambda: bt.randperm(100_003),
    "bernoulli": lambda: bt.bernoulli(bt.full((100_003,), 0.3)),
    "dropout": lambda: bt.nn.functional.dropout(bt.ones(100_003), 0.3),
    "multinomial": lambda: bt.multinomial(bt.arange(1, 50).float(), 10_000, replacement=True),
    "normal_": lambda: bt.empty(100_003).normal_(2, 3),
    "uniform_": lambda: bt.empty(100_003).uniform_(-1, 1),
    "exponential_": lambda: bt.empty(100_003).exponential_(2.0),
}


@pytest.mark.parametrize("name", DRAWS)
def test_same_seed_same_bits_on_any_number_of_threads(name: str) -> None:
    found = []
    for threads in (1, 2, 3):
        bt.set_num_threads(threads)
        bt.manual_seed(42)
        found.append(DRAWS[name]())
    assert equal_bytes(found[0], found[1])
    assert equal_bytes(found[0], found[2])
    assert not equal_bytes(found[0], DRAWS[name]())  # the stream goes on
    bt.manual_seed(43)
    assert not equal_bytes(found[0], DRAWS[name]())


def test_state_round_trip() -> None:
    bt.manual_seed(3)
    bt.rand(5)
    state = bt.get_rng_state()
    assert state.dtype is bt.uint8
    first = [draw() for draw in DRAWS.values()]
    bt.set_rng_state(state)
    for a, b in zip(first, [draw() for draw in DRAWS.values()], strict=True):
        assert equal_bytes(a, b)
    with pytest.raises(RuntimeError, match="16 uint8"):
        bt.set_rng_state(bt.zeros(3))


def test_generators_are_independent() -> None:
    a, b = bt.Generator().manual_seed(1), bt.Generator().manual_seed(1)
    x = bt.randn(10, generator=a)
    bt.randn(10)
    assert equal_bytes(x, bt.randn(10, generator=b))
    assert a.initial_seed() == 1
    assert isinstance(bt.seed(), int)
    for seed in (-1, 2**63, 2**64 - 1):
        bt.manual_seed(seed)
        assert bt.rand(3).shape == (3,)


def test_seeds_near_each_other_are_unrelated() -> None:
    rows = []
    for seed in range(200):
        bt.manual_seed(seed)
        rows.append(bt.randn(64))
    table = bt.stack(rows).numpy()
    correlation = np.corrcoef(table)
    off = correlation[~np.eye(200, dtype=bool)]
    assert abs(off).max() < 0.65
    assert abs(off.mean()) < 0.01


@pytest.mark.parametrize("dtype", [bt.float32, bt.float64])
def test_uniform(dtype: Any) -> None:
    n = 400_000
    x = bt.rand(n, dtype=dtype).numpy().astype(float)
    assert x.min() >= 0
    assert x.max() < 1
    assert abs(x.mean() - 0.5) < 5 / math.sqrt(12 * n)
    counts = np.histogram(x, 50, (0, 1))[0]
    assert ((counts - n / 50) ** 2).sum() / (n / 50) < 49 + 6 * math.sqrt(2 * 49)
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / math.sqrt(n)
    y = bt.empty(n, dtype=dtype).uniform_(-3, 5).numpy()
    assert y.min() >= -3
    assert y.max() < 5
    assert abs(y.mean() - 1) < 0.03


@pytest.mark.parametrize("dtype", [bt.float32, bt.float64])
def test_normal(dtype: Any) -> None:
    n = 400_000
    x = bt.randn(n, dtype=dtype).numpy().astype(float)
    z = 5 / math.sqrt(n)
    assert np.isfinite(x).all()
    assert abs(x.mean()) < z
    assert abs(x.var() - 1) < z * math.sqrt(2)
    assert abs((x**3).mean()) < z * math.sqrt(15)
    assert abs((x**4).mean() - 3) < z * math.sqrt(96)
    assert 4 < abs(x).max() < 7
    for edge, share in ((-1.0, 0.15865525), (0.0, 0.5), (2.0, 0.97724987)):
        assert abs((x < edge).mean() - share) < z
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < z


def test_integers() -> None:
    x = bt.randint(-3, 4, (70_000,))
    values, counts = np.unique(x.numpy(), return_counts=True)
    assert values.tolist() == list(range(-3, 4))
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 6 + 6 * math.sqrt(12)
    assert bt.randint(10, (2, 3)).shape == (2, 3)
    assert bt.randint(0, 2**40, (100,)).max().item() > 2**35
    assert bt.randint_like(bt.zeros(3), 5).dtype is bt.float32
    with pytest.raises(RuntimeError, match="randint"):
        bt.randint(5, 5, (1,))


def test_permutations() -> None:
    for n in (0, 1, 2, 10, 1000):
        assert sorted(bt.randperm(n).tolist()) == list(range(n))
    firsts = [bt.randperm(5)[0].item() for _ in range(2000)]
    counts = np.bincount(firsts, minlength=5)
    assert ((counts - 400) ** 2 / 400).sum() < 4 + 6 * math.sqrt(8)


def test_bernoulli_and_dropout() -> None:
    n = 100_000
    p = bt.rand(n)
    x = bt.bernoulli(p)
    assert set(np.unique(x.numpy())) == {0, 1}
    assert abs((x - p).mean().item()) < 5 * math.sqrt(1 / 6 / n)
    assert bt.bernoulli(bt.zeros(50)).sum().item() == 0
    assert bt.bernoulli(bt.ones(50)).sum().item() == 50
    y = bt.nn.functional.dropout(bt.ones(n), 0.25)
    assert set(np.unique(y.numpy()).tolist()) == {0.0, float(np.float32(1 / 0.75))}
    assert abs(y.mean().item() - 1) < 0.02
    assert bt.nn.functional.dropout(bt.ones(4), 0.5, training=False).tolist() == [1] * 4
    assert bt.nn.functional.dropout(bt.ones(4), 1.0).tolist() == [0] * 4


def test_the_gradient_of_dropout_has_its_mask() -> None:
    x = bt.ones(1000, requires_grad=True)
    y = bt.nn.functional.dropout(x, 0.4)
    y.sum().backward()
    assert equal_bytes(x.grad, y.detach())


def test_multinomial() -> None:
    weights = bt.tensor([0.0, 1.0, 3.0, 0.0, 6.0])
    x = bt.multinomial(weights, 50_000, replacement=True).numpy()
    share = np.bincount(x, minlength=5) / 50_000
    np.testing.assert_allclose(share, [0, 0.1, 0.3, 0, 0.6], atol=0.012)
    drawn = [sorted(bt.multinomial(weights, 3).tolist()) for _ in range(20)]
    assert all(d == [1, 2, 4] for d in drawn)
    assert bt.multinomial(bt.ones(4, 5), 2).shape == (4, 2)
    for wrong in (bt.tensor([-1.0, 2.0]), bt.tensor([0.0, 0.0]), bt.tensor([float("nan"), 1.0])):
        with pytest.raises(RuntimeError, match="multinomial"):
            bt.multinomial(wrong, 1)
    with pytest.raises(RuntimeError, match="multinomial"):
        bt.multinomial(bt.ones(2), 3)


def test_normal_with_tensors() -> None:
    mean = bt.arange(4).float() * 100
    x = bt.normal(mean, bt.full((4,), 0.1))
    assert ((x - mean).abs() < 1).all().item()
    assert bt.normal(1.0, 2.0, (3,)).shape == (3,)
    assert bt.randn_like(bt.zeros(2, 3, dtype=bt.float64)).dtype is bt.float64
