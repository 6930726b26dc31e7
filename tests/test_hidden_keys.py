"""Attention: what stands at keys that are not seen has no effect, and a query may see none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail import nn
from backtrail.nn import functional as F

T, S, D = 5, 6, 4
ATTENTION = F.scaled_dot_product_attention


def qkv(seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [bt.tensor(rng.standard_normal((2, 3, n, D))) for n in (T, S, S)]


def by_definition(q: Any, k: Any, v: Any, **kwargs: Any) -> Any:
    """The road of a recorded backward pass: the same, differentiated by its definition."""
    mask, causal = kwargs.get("attn_mask"), kwargs.get("is_causal", False)
    if mask is not None and mask.dtype is bt.bool:
        mask = bt.where(mask, 0.0, -math.inf).to(q.dtype)
    from backtrail.autograd.definitions import attention

    return attention(q, k, v, mask, None, causal)


ROADS: dict[str, Callable[..., Any]] = {
    "fused": ATTENTION,
    "by definition": by_definition,
    "with dropout": lambda *x, **k: ATTENTION(*x, dropout_p=1e-12, **k),
}
HIDDEN: dict[str, dict[str, Any]] = {
    "bool": {"attn_mask": bt.arange(S).expand(T, S) < 4},
    "float": {"attn_mask": bt.where(bt.arange(S).expand(T, S) < 4, 0.5, -math.inf).double()},
    "causal": {"is_causal": True},
}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("mask", HIDDEN)
@pytest.mark.parametrize("road", ROADS)
def test_hidden_keys_have_no_effect(road: str, mask: str, bad: float) -> None:
    results = []
    for dirty in (False, True):
        q, k, v = qkv()
        if dirty:
            first = 5 if mask == "causal" else 4  # of the hidden ones
            k[:, :, first:] = bad
            v[:, :, first:] = bad
        for x in (q, k, v):
            x.requires_grad = True
        y = ROADS[road](q, k, v, **HIDDEN[mask])
        grads = bt.autograd.grad((y * y).sum(), (q, k, v))
        results.append([y.detach(), *(g[:, :, :4] for g in grads)])
    clean, dirty_one = results
    for a, b in zip(clean, dirty_one, strict=True):
        assert a.isfinite().all()
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("road", ROADS)
def test_what_is_seen_goes_through(road: str) -> None:
    q, k, v = qkv()
    v[:, :, 2, 1] = math.nan
    y = ROADS[road](q, k, v, is_causal=True)
    assert y.isnan()[0, 0].any(1).tolist() == [False, False, True, True, True]
    assert not y[..., 0].isnan().any()
    q, k, v = qkv()
    k[:, :, 3] = math.nan
    assert ROADS[road](q, k, v, is_causal=True).isnan()[0, 0].all(1).tolist() == [
        False, False, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize("road", ROADS)
def test_a_query_that_sees_no_key(road: str) -> None:
    q, k, v = qkv()
    k[:, :, 1] = math.nan
    for x in (q, k, v):
        x.requires_grad = True
    mask = bt.ones(T, S, dtype=bt.bool)
    mask[2] = False
    mask[:, 1] = False
    y = ROADS[road](q, k, v, attn_mask=mask)
    assert y[:, :, 2].abs().max().item() == 0
    for g in bt.autograd.grad(y.sum(), (q, k, v)):
        assert g.isfinite().all()


def test_second_derivatives_stay_finite() -> None:
    q, k, v = qkv()
    k[:, :, 4:] = math.nan
    q.requires_grad = True
    mask = bt.arange(S).expand(T, S) < 4
    mask = mask & (bt.arange(T) != 2).unsqueeze(1)
    (g,) = bt.autograd.grad(ATTENTION(q, k, v, attn_mask=mask).sum(), q, create_graph=True)
    (h,) = bt.autograd.grad((g * g).sum(), q)
    assert h.isfinite().all()
    assert h[:, :, 2].abs().max().item() == 0


@pytest.mark.parametrize("need_weights", [True, False])
def test_modules(need_weights: bool) -> None:
    bt.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    x = bt.randn(2, 4, 8, requires_grad=True)
    padding = bt.tensor([[False, False, True, True], [True, True, True, True]])
    y, weights = layer(x, x, x, key_padding_mask=padding, need_weights=need_weights)
    y.sum().backward()
    assert y.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    np.testing.assert_allclose(y[1].detach().numpy(), layer.out_proj.bias.expand(4, 8).detach())
    if need_weights:
        assert weights[1].abs().max().item() == 0
        np.testing.assert_allclose(weights[0].sum(-1).detach().numpy(), 1, rtol=1e-6)


def test_compiled_attention_has_the_same_bits() -> None:
    q, k, v = (x.float() for x in qkv())
    dirty = k.clone()
    dirty[:, :, 5] = math.nan
    compiled = bt.compile(lambda q, k, v: ATTENTION(q, k, v, is_causal=True) * 2)
    for keys in (k, dirty, k):
        eager = ATTENTION(q, keys, v, is_causal=True) * 2
        assert compiled(q, keys, v).numpy().tobytes() == eager.numpy().tobytes()
        assert eager.isfinite().all()
