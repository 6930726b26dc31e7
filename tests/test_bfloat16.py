"""Products of bfloat16: every bit of their float32 sums, any layout, odd and empty sizes."""

from __future__ import annotations

import backtrail as bt
import numpy as np
import pytest
from backtrail.nn import functional as F

THIN = 64  # k from which few rows or columns are summed in another order


def equal_bytes(a: bt.Tensor, b: bt.Tensor) -> bool:
    return (
        a.dtype is b.dtype and a.shape == b.shape and bt._core.to_bytes(a) == bt._core.to_bytes(b)
    )


def narrow(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> bt.Tensor:
    return bt.tensor(rng.standard_normal(shape).astype(np.float32) * scale).bfloat16()


def chain(a: bt.Tensor, b: bt.Tensor) -> bt.Tensor:
    """a @ b as one chain of float32 additions of exact products: of each pair along k the later
    first, subnormal numbers as zeros."""
    x, y = (np.atleast_2d(t.float().numpy()) for t in (a, b))
    smallest = np.finfo(np.float32).tiny
    x, y = (np.where(np.abs(t) < smallest, np.float32(0), t) for t in (x, y))
    x, y = (np.pad(t, [(0, 0), (0, t.shape[1] % 2)]) for t in (x, y.T))
    sums = np.zeros((x.shape[0], y.shape[0]), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for p in np.arange(x.shape[1]).reshape(-1, 2)[:, ::-1].ravel():
            # In float64 the product is exact, and the sum too unless one is 2**29 times the other.
            total = sums + np.multiply.outer(x[:, p].astype(np.float64), y[:, p].astype(np.float64))
            sums = np.where(np.abs(total) < smallest, 0.0, total).astype(np.float32)
    return bt.tensor(sums).bfloat16()


def layouts(x: bt.Tensor) -> list[bt.Tensor]:
    """The same matrix with dense rows, dense columns, steps along both, and beginning at an odd
    element."""
    rows, cols = x.shape
    spread = bt.zeros(2 * rows, 3 * cols, dtype=x.dtype)
    spread[::2, ::3] = x
    shifted = bt.zeros(rows * cols + 1, dtype=x.dtype)
    shifted[1:] = x.flatten()
    return [x, x.T.contiguous().T, spread[::2, ::3], shifted[1:].reshape(rows, cols)]


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(5, 5, 1), (8, 16, 2), (7, 9, 13), (64, 64, 64), (33, 47, 501), (90, 130, 1024), (3, 40, 62)],
)
def test_every_bit_of_one_chain(rng: np.random.Generator, m: int, n: int, k: int) -> None:
    assert min(m, n) > 4 or k < THIN
    a, b = narrow(rng, m, k), narrow(rng, k, n)
    want = chain(a, b)
    for x in layouts(a):
        for y in layouts(b):
            assert equal_bytes(x @ y, want)


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (1, 1, 1),
        (1, 1, 999),
        (1, 300, 500),
        (300, 2, 513),
        (4, 70, 4000),
        (120, 77, 3001),
        (300, 5000, 33),
        (5000, 300, 64),
        (2048, 700, 100),
        (70, 65000, 34),
    ],
)
def test_thin_deep_and_large(rng: np.random.Generator, m: int, n: int, k: int) -> None:
    a, b = narrow(rng, m, k), narrow(rng, k, n)
    exact = a.double() @ b.double()
    # The rounding of the result, and that of k sums.
    bound = exact.abs() * 2.0**-8 + (a.double().abs() @ b.double().abs()) * (k * 2.0**-24)
    results = [x @ y for x, y in zip(layouts(a), reversed(layouts(b)), strict=True)]
    assert ((results[0].double() - exact).abs() <= bound).all()
    for got in results[1:]:
        assert equal_bytes(got, results[0])


@pytest.mark.parametrize("shapes", [((0, 3), (3, 4)), ((3, 0), (0, 4)), ((2, 3), (3, 0))])
def test_empty(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    a, b = (bt.ones(*s).bfloat16() for s in shapes)
    assert equal_bytes(a @ b, bt.zeros(a.shape[0], b.shape[1]).bfloat16())


def test_subnormals_infinities_and_nan() -> None:
    tiny, least = 2.0**-126, 2.0**-130
    a = bt.tensor([[tiny, 0.0], [least, 0.0], [float("inf"), 1.0], [3e38, 3e38]] * 2).bfloat16()
    b = bt.tensor([[1.0, 0.5, 2.0, -1.0, 0.0] * 2, [0.0] * 5 + [1.0, -1.0] * 2 + [0.0]]).bfloat16()
    got, want = a @ b, chain(a, b)
    assert got.isnan().tolist() == want.isnan().tolist()
    assert got.nan_to_num(0.0).tolist() == want.nan_to_num(0.0).tolist()
    assert got[0, :2].tolist() == [tiny, 0.0]  # half of the least normal number counts as zero
    assert got[1].tolist() == [0.0] * 10
    assert bt.tensor([[least]]).bfloat16().sum() == least  # but only in products


def test_batches_broadcast(rng: np.random.Generator) -> None:
    a, b = narrow(rng, 3, 1, 20, 31), narrow(rng, 4, 31, 18)
    y = a @ b
    assert y.shape == (3, 4, 20, 18)
    for i in range(3):
        for j in range(4):
            assert equal_bytes(y[i, j], a[i, 0] @ b[j])
    z = a.mT.contiguous().mT @ b.expand(3, 4, 31, 18)
    assert equal_bytes(z, y)
    many = narrow(rng, 300, 64, 32) @ narrow(rng, 32, 256)  # more than is done at once
    assert many.shape == (300, 64, 256)
    v = narrow(rng, 31)
    assert equal_bytes(v @ b[0], (v[None] @ b[0])[0])
    assert equal_bytes(b[0].T @ v, (v[None] @ b[0])[0])


def test_other_dtypes_are_named() -> None:
    with pytest.raises(RuntimeError, match=r"bfloat16.*float32.*same dtype"):
        bt.ones(2, 2).bfloat16() @ bt.ones(2, 2)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_and_its_gradients(rng: np.random.Generator, bias: bool) -> None:
    x, w, b = narrow(rng, 6, 9, 50), narrow(rng, 30, 50), narrow(rng, 30) if bias else None
    g = narrow(rng, 6, 9, 30)
    leaves = [t.requires_grad_() for t in (x, w, b) if t is not None]
    y = F.linear(x, w, b)
    y.backward(g)
    rows, upper = x.detach().reshape(54, 50), g.reshape(54, 30)
    exact = rows.double() @ w.detach().double().T + (b.detach().double() if bias else 0)
    assert (y.detach().reshape(54, 30).double() - exact).abs().max() < 0.2
    if not bias:
        assert equal_bytes(y.detach().reshape(54, 30), rows @ w.detach().T)
    assert equal_bytes(x.grad.reshape(54, 50), upper @ w.detach())
    assert equal_bytes(w.grad, upper.T @ rows)
    if bias:
        assert equal_bytes(b.grad, upper.float().sum(0).bfloat16())
    assert all(t.grad.dtype is bt.bfloat16 for t in leaves)


def test_gradients_of_products(rng: np.random.Generator) -> None:
    a, b = narrow(rng, 7, 12).requires_grad_(), narrow(rng, 12, 9).requires_grad_()
    g = narrow(rng, 7, 9)
    (a @ b).backward(g)
    assert equal_bytes(a.grad, g @ b.detach().T)
    assert equal_bytes(b.grad, a.detach().T @ g)


def test_captured(rng: np.random.Generator) -> None:
    x, w, b = narrow(rng, 40, 50), narrow(rng, 30, 50), narrow(rng, 30)

    def layers(x: bt.Tensor, w: bt.Tensor, b: bt.Tensor) -> tuple[bt.Tensor, ...]:
        y = F.relu(F.linear(x, w, b))
        return y, y > 0.5, F.linear(x, w), F.linear(x, w * 2), y @ w

    captured = bt.compile(layers)
    want = layers(x, w, b)
    for _ in range(3):
        for got, expected in zip(captured(x, w, b), want, strict=True):
            assert equal_bytes(got, expected)


def test_captured_gradients(rng: np.random.Generator) -> None:
    x, w, b = narrow(rng, 40, 50), narrow(rng, 30, 50), narrow(rng, 30)

    def slopes(x: bt.Tensor, w: bt.Tensor, b: bt.Tensor) -> tuple[bt.Tensor, ...]:
        leaves = [t.detach().requires_grad_() for t in (x, w, b)]
        F.linear(*leaves).relu().square().sum().backward()
        return tuple(t.grad for t in leaves)

    captured = bt.compile(slopes)
    want = slopes(x, w, b)
    for _ in range(3):
        for got, expected in zip(captured(x, w, b), want, strict=True):
            assert equal_bytes(got, expected)


def test_a_layer_learns(rng: np.random.Generator) -> None:
    bt.manual_seed(0)
    layer = bt.nn.Linear(4, 1).bfloat16()
    optimizer = bt.optim.SGD(layer.parameters(), lr=0.1)
    x = narrow(rng, 64, 4)
    target = x @ bt.tensor([[1.0], [-2.0], [0.5], [3.0]]).bfloat16()
    losses = []
    for _ in range(60):
        loss = F.mse_loss(layer(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]
