"""Scaled dot product attention."""

from __future__ import annotations

from ... import dtypes
from ...autograd.definitions import attention_weights, seen_keys, weighted_values
from ...functions.creation import full
from ...functions.shaping import broadcast_shapes
from ...tensor import Tensor, apply, ops
from .layers import dropout

_ATTENTION = ops["attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return softmax(query @ key.T * scale + mask) @ value (Vaswani et al., 2017).

    query (..., T, D), key (..., S, D), value (..., S, Dv) -> (..., T, Dv). `attn_mask` is added
    or, where it is bool, says what may be seen; with `is_causal` query i sees keys 0 ... i. `scale`
    is 1 / sqrt(D) by default. `dropout_p` drops attention weights.
    """
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention: give attn_mask or is_causal, not both")
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        times = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
    if attn_mask is not None and attn_mask.dtype is dtypes.bool_:
        zero = full((), 0.0, dtype=query.dtype)
        attn_mask = apply(
            ops["where"], (attn_mask, zero, full((), -float("inf"), dtype=query.dtype))
        )
    if dropout_p > 0.0:
        return _attention_with_dropout(query, key, value, attn_mask, dropout_p, is_causal, scale)
    lead = tuple(query.shape[:-2])
    if lead != tuple(key.shape[:-2]) or lead != tuple(value.shape[:-2]):
        lead = tuple(broadcast_shapes(lead, key.shape[:-2], value.shape[:-2]))
        query, key, value = (x.expand(*lead, *x.shape[-2:]) for x in (query, key, value))
    batch = 1
    for n in lead[:-1]:
        batch *= n
    heads = lead[-1] if lead else 1
    if len(lead) != 2:
        query, key, value = (x.reshape(batch, heads, *x.shape[-2:]) for x in (query, key, value))
    if attn_mask is not None:
        t, s = query.shape[-2], key.shape[-2]
        if len(lead) == 2 and attn_mask.ndim <= 4:
            shape = (1,) * (4 - attn_mask.ndim) + tuple(attn_mask.shape)
            attn_mask = attn_mask.reshape(shape).expand(shape[0], shape[1], t, s)
        else:
            attn_mask = attn_mask.expand(*lead, t, s).reshape(batch, heads, t, s)
        attn_mask = attn_mask.to(query.dtype)
    out = apply(_ATTENTION, (query, key, value, attn_mask), (scale, is_causal))
    return out if len(lead) == 2 else out.reshape(*lead, *out.shape[-2:])


def _attention_with_dropout(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    p: float,
    causal: bool,
    scale: float | None,
) -> Tensor:
    """Attention whose weights are stored, so that some can be dropped."""
    seen = seen_keys(mask, causal, q.shape[-2], k.shape[-2])
    return weighted_values(dropout(attention_weights(q, k, mask, seen, scale), p), v, seen)
