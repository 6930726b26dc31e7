"""How results lie in memory: elementwise ones as their inputs do, others densely in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import backtrail as bt
import pytest
from backtrail.nn import functional as F

KEPT: dict[str, Callable[[Any], Any]] = {
    "exp": bt.exp,
    "add number": lambda x: x + 1,
    "number minus": lambda x: 1 - x,
    "add self": lambda x: x + x.clone(),
    "compare": lambda x: x > 0,
    "where": lambda x: bt.where(x > 0, x, 0.0),
    "relu": F.relu,
    "clamp": lambda x: x.clamp(0, 1),
    "clone": lambda x: x.clone(),
    "double": lambda x: x.double(),
    "to": lambda x: x.to(bt.int64),
    "zeros_like": bt.zeros_like,
    "ones_like": bt.ones_like,
    "full_like": lambda x: bt.full_like(x, 2.0),
    "empty_like": bt.empty_like,
    "broadcast": lambda x: x * bt.ones(x.shape[-1]),
    "row first": lambda x: bt.ones(x.shape[-1]) * x,
}


@pytest.mark.parametrize("name", KEPT)
def test_strides_are_kept(name: str) -> None:
    f = KEPT[name]
    assert f(bt.randn(2, 3).t()).stride() == (1, 3)
    assert f(bt.randn(2, 3, 4).permute(2, 0, 1)).stride() == (1, 12, 4)
    assert f(bt.randn(2, 3, 4).permute(0, 2, 1)).stride() == (12, 1, 4)
    assert f(bt.randn(4, 6)[:, ::2].t()).stride() == (1, 3)
    assert f(bt.randn(2, 3)).stride() == (3, 1)
    x = bt.randn(3, 4).t()
    if name not in ("empty_like",):
        assert f(x).tolist() == f(x.contiguous()).tolist()


def test_the_first_input_decides() -> None:
    a, b = bt.randn(3, 4), bt.randn(4, 3).t()
    assert (a + b).stride() == (4, 1)
    assert (b + a).stride() == (1, 3)
    assert (b + a).tolist() == (a + b).tolist()
    assert bt.zeros(1, 3).expand(2, 3).clone().stride() == (3, 1)


DENSE: dict[str, Callable[[], Any]] = {
    "softmax": lambda: bt.randn(2, 3, 4).softmax(1),
    "log_softmax": lambda: bt.randn(2, 3, 4).log_softmax(0),
    "attention": lambda: F.scaled_dot_product_attention(*[bt.randn(2, 4, 8, 16)] * 3),
    "median": lambda: bt.randn(2, 3, 4).median(1).values,
    "median indices": lambda: bt.randn(2, 3, 4).median(1, keepdim=True).indices,
    "kthvalue": lambda: bt.randn(2, 3, 4).kthvalue(2, 1).values,
    "kthvalue indices": lambda: bt.randn(2, 3, 4).kthvalue(2, 1).indices,
    "sort": lambda: bt.randn(2, 3, 4).sort(1).values,
    "einsum swapped": lambda: bt.einsum("ij,jk->ki", bt.randn(2, 3), bt.randn(3, 4)),
    "einsum rows": lambda: bt.einsum("ij,kj->ki", bt.randn(2, 3), bt.randn(4, 3)),
    "einsum batch": lambda: bt.einsum("bij,bjk->bik", bt.randn(2, 3, 4), bt.randn(2, 4, 5)),
    "contiguous": lambda: bt.randn(3, 4).t().contiguous(),
    "cat": lambda: bt.cat([bt.randn(3, 4).t()] * 2),
}


@pytest.mark.parametrize("name", DENSE)
def test_dense_results(name: str) -> None:
    y = DENSE[name]()
    assert y.is_contiguous()
    assert y.view(-1).shape == (y.numel(),)


def test_attention_lies_as_its_query() -> None:
    x = bt.randn(2, 8, 3, 8)
    heads = x.transpose(1, 2)
    y = F.scaled_dot_product_attention(heads, heads, heads)
    assert y.transpose(1, 2).is_contiguous()
    assert y.stride() == heads.stride()


def test_compiled_results_lie_and_are_as_eager_ones() -> None:
    def step(x: Any, y: Any) -> Any:
        z = (x * 2 + y).exp().clone()
        return z, z.sum(0), (z > 1).to(bt.float32)

    x, y = bt.randn(5, 7).t(), bt.randn(7, 5)
    compiled = bt.compile(step)
    for _ in range(3):
        for got, want in zip(compiled(x, y), step(x, y), strict=True):
            assert got.stride() == want.stride()
            assert got.contiguous().numpy().tobytes() == want.contiguous().numpy().tobytes()


def test_gradients_of_strided_results() -> None:
    w = bt.randn(4, 3, requires_grad=True)
    (w.t().exp() * bt.arange(12.0).reshape(3, 4)).sum().backward()
    assert w.grad is not None
    want = w.detach().exp() * bt.arange(12.0).reshape(3, 4).t()
    assert w.grad.tolist() == want.tolist()
