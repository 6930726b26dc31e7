"""MultiheadAttention: projections around scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

from ...autograd.definitions import attention_weights, seen_keys, weighted_values
from ...dtypes import bool_, device as Device, dtype as DType
from ...functions.creation import empty, zeros
from ...functions.functional import cat
from ...tensor import Tensor
from .. import functional as F, init
from ..parameter import Parameter
from .linear import Linear, NonDynamicallyQuantizableLinear
from .module import Module


class MultiheadAttention(Module):
    """Attend from each query position to the keys, in `num_heads` subspaces (Vaswani et al. 2017).

    Inputs are (L, N, E) and (S, N, E), (N, L, E) and (N, S, E) with `batch_first`, or (L, E) and
    (S, E). kdim and vdim are the widths of keys and values where they differ from embed_dim.
    add_bias_kv appends a learned key and value, add_zero_attn a key and value of zeros.
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None
    out_proj: Linear

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Device | str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                "MultiheadAttention: embed_dim and num_heads must be greater than 0, got "
                f"embed_dim={embed_dim} and num_heads={num_heads}"
            )
        if embed_dim % num_heads != 0:
            raise ValueError(
                f"MultiheadAttention: embed_dim {embed_dim} must be divisible by "
                f"num_heads {num_heads}"
            )
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn

        def add(name: str, wanted: bool, *shape: int) -> None:
            value = Parameter(empty(*shape, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, value)

        packed = self.kdim == embed_dim and self.vdim == embed_dim
        add("in_proj_weight", packed, 3 * embed_dim, embed_dim)
        add("q_proj_weight", not packed, embed_dim, embed_dim)
        add("k_proj_weight", not packed, embed_dim, self.kdim)
        add("v_proj_weight", not packed, embed_dim, self.vdim)
        add("in_proj_bias", bias, 3 * embed_dim)
        add("bias_k", add_bias_kv, 1, 1, embed_dim)
        add("bias_v", add_bias_kv, 1, 1, embed_dim)
        self.out_proj = NonDynamicallyQuantizableLinear(
            embed_dim, embed_dim, bias=bias, device=device, dtype=dtype
        )
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        projections = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        for weight in (self.in_proj_weight, *projections):
            if weight is not None:
                init.xavier_uniform_(weight)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the attended values, shaped like `query`, and the attention weights or None.

        attn_mask (L, S) or (N * num_heads, L, S) and key_padding_mask (N, S) are True where
        attention is forbidden, or floats that are added to the scores. is_causal says that
        attn_mask is the causal mask. Weights are (N, L, S), or (N, num_heads, L, S) when not
        averaged. Raises ValueError for shapes that do not fit and RuntimeError for is_causal
        without attn_mask.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("MultiheadAttention: is_causal needs attn_mask")
        if query.dim() not in (2, 3) or not query.dim() == key.dim() == value.dim():
            raise ValueError(
                "MultiheadAttention: query, key and value must all be 2-D or all 3-D, got shapes "
                f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
            )
        batched = query.dim() == 3
        if not batched:
            query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        q, k, v = self._project(query, key, value)
        if batched and not self.batch_first:
            q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
        batch, length = q.shape[0], q.shape[1]
        k, v, extra = self._extend(k, v)
        only_causal = is_causal and key_padding_mask is None and not need_weights and not extra
        mask = (
            None
            if only_causal
            else self._merge_masks(attn_mask, key_padding_mask, batch, extra, query.dtype)
        )
        q, k, v = (self._split_heads(x) for x in (q, k, v))

        drop = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            seen = seen_keys(mask, False, q.shape[-2], k.shape[-2])
            weights = attention_weights(q, k, mask, seen, None)
            if drop > 0.0:
                weights = F.dropout(weights, drop, True)
            mixed = weighted_values(weights, v, seen)
            if average_attn_weights:
                weights = weights.mean(1)
            if not batched:
                weights = weights.squeeze(0)
        else:
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=drop, is_causal=only_causal
            )
        output = self.out_proj(mixed.transpose(1, 2).reshape(batch, length, self.embed_dim))
        if not batched:
            return output.squeeze(0), weights
        return (output if self.batch_first else output.transpose(0, 1)), weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        width = self.embed_dim
        bias = self.in_proj_bias
        packed = self.in_proj_weight
        if packed is not None and query is key and key is value:
            q, k, v = F.linear(query, packed, bias).split(width, -1)
            return q, k, v
        weights: tuple[Any, ...] = (
            (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            if packed is None
            else packed.split(width)
        )
        biases = (None, None, None) if bias is None else bias.split(width)
        inputs = (query, key, value)
        q, k, v = (F.linear(*each) for each in zip(inputs, weights, biases, strict=True))
        return q, k, v

    def _extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, int]:
        """Append the learned and the zero position to (N, S, E); say how many were appended."""
        batch, extra = k.shape[0], 0
        if self.bias_k is not None and self.bias_v is not None:
            k = cat([k, self.bias_k.expand(batch, 1, self.embed_dim)], 1)
            v = cat([v, self.bias_v.expand(batch, 1, self.embed_dim)], 1)
            extra += 1
        if self.add_zero_attn:
            zero = zeros(batch, 1, self.embed_dim, dtype=k.dtype)
            k, v = cat([k, zero], 1), cat([v, zero], 1)
            extra += 1
        return k, v, extra

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, self.num_heads, self.head_dim).transpose(1, 2)

    def _merge_masks(
        self,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        batch: int,
        extra: int,
        dtype: DType,
    ) -> Tensor | None:
        """Sum both masks as additive floats that broadcast over (N, num_heads, L, S + extra)."""
        merged: Tensor | None = None
        if attn_mask is not None:
            merged = _additive(attn_mask, dtype)
            if merged.dim() == 3:
                if merged.shape[0] != batch * self.num_heads:
                    raise ValueError(
                        f"MultiheadAttention: a 3-D attn_mask needs N * num_heads = "
                        f"{batch * self.num_heads} entries, got shape {tuple(attn_mask.shape)}"
                    )
                merged = merged.reshape(batch, self.num_heads, *merged.shape[1:])
            elif merged.dim() != 2:
                raise ValueError(
                    "MultiheadAttention: attn_mask must be 2-D or 3-D, got shape "
                    f"{tuple(attn_mask.shape)}"
                )
        if key_padding_mask is not None:
            padding = _additive(key_padding_mask, dtype).reshape(batch, 1, 1, -1)
            merged = padding if merged is None else merged + padding
        if merged is not None and extra:
            merged = F.pad(merged, (0, extra))
        return merged


def _additive(mask: Tensor, dtype: DType) -> Tensor:
    """Turn True into -inf and False into 0; leave floats as they are."""
    if mask.dtype != bool_:
        return mask.to(dtype)
    return zeros(mask.shape, dtype=dtype).masked_fill(mask, -math.inf)
