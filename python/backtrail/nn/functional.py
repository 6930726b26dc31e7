"""Functions of neural networks: layers, activations, normalisation, attention, losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import dtypes
from ..convolution import (
    conv1d as conv1d,
    conv2d as conv2d,
    conv_transpose1d as conv_transpose1d,
    conv_transpose2d as conv_transpose2d,
)
from ..creation import full, zeros
from ..elementwise import clamp
from ..pooling import (
    adaptive_avg_pool1d as adaptive_avg_pool1d,
    adaptive_avg_pool2d as adaptive_avg_pool2d,
    adaptive_max_pool1d as adaptive_max_pool1d,
    adaptive_max_pool2d as adaptive_max_pool2d,
    avg_pool1d as avg_pool1d,
    avg_pool2d as avg_pool2d,
    max_pool1d as max_pool1d,
    max_pool2d as max_pool2d,
)
from ..random import bernoulli, dropout as _dropout
from ..reductions import log_softmax as log_softmax, softmax as softmax
from ..tensor import Tensor, apply, apply_, ops

_LINEAR, _EMBEDDING, _RELU = ops["linear"], ops["embedding"], ops["relu"]
_RMS_NORM, _LAYER_NORM = ops["rms_norm"], ops["layer_norm"]
_ATTENTION = ops["attention"]

# ---- layers


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return input @ weight.T + bias: (..., in) @ (out, in).T + (out) -> (..., out)."""
    return apply(_LINEAR, (input, weight, bias))


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Look up rows of weight (V, E): indices (...) -> (..., E).

    The row `padding_idx` gets no gradient. Raises IndexError for an index outside [0, V).
    """
    if max_norm is not None or scale_grad_by_freq:
        raise NotImplementedError("embedding: max_norm and scale_grad_by_freq are not supported")
    index = input if input.dtype is dtypes.int64 else input.to(dtypes.int64)
    out = apply(_EMBEDDING, (weight, index))
    if padding_idx is not None and out.requires_grad:
        row = padding_idx % weight.shape[0]
        out = apply(ops["where"], ((index == row).unsqueeze(-1), out.detach(), out))
    return out


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Return int64 vectors with a 1 at each index; classes are counted from the data by default."""
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1
    return apply(ops["one_hot"], (tensor,), (num_classes,))


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero elements with probability p and scale the others by 1 / (1 - p), when training."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p is {p}; it must be between 0 and 1")
    if not training or p == 0.0:
        return input
    out = _dropout(input, p)
    return input.copy_(out) if inplace else out


def _channel_dropout(
    name: str, input: Tensor, p: float, training: bool, inplace: bool, dims: int
) -> Tensor:
    """Zero whole channels, the dimension before the last `dims`."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: p is {p}; it must be between 0 and 1")
    if input.ndim not in (dims + 1, dims + 2):
        raise RuntimeError(
            f"{name}: expected {dims + 1} or {dims + 2} dimensions; got shape {tuple(input.shape)}"
        )
    if not training or p == 0.0:
        return input
    shape = tuple(input.shape[:-dims]) + (1,) * dims
    kept = bernoulli(full(shape, 1.0 - p, dtype=input.dtype)) / (1.0 - p) if p < 1.0 else 0.0
    return input.mul_(kept) if inplace else input * kept


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Zero whole channels of (N, C, L) or (C, L) with probability p."""
    return _channel_dropout("dropout1d", input, p, training, inplace, 1)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Zero whole channels of (N, C, H, W) or (C, H, W) with probability p."""
    return _channel_dropout("dropout2d", input, p, training, inplace, 2)


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Pad the last dimensions: pad is (left, right) of the last one, then of the one before, ...

    Modes: constant, reflect, replicate, circular. Negative padding cuts off.
    """
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if len(pairs) > input.ndim:
        raise RuntimeError(f"pad: {len(pad)} numbers for a tensor of shape {tuple(input.shape)}")
    out = input
    for i, (left, right) in enumerate(pairs):
        dim = input.ndim - 1 - i
        size = out.shape[dim]
        if mode == "constant":
            cut_left, cut_right = max(0, -left), max(0, -right)
            out = out.narrow(dim, cut_left, size - cut_left - cut_right)
            parts = [out]
            for n, place in ((left, 0), (right, len(parts) + 1)):
                if n > 0:
                    shape = (*out.shape[:dim], n, *out.shape[dim + 1 :])
                    parts.insert(place, full(shape, value or 0.0, dtype=input.dtype))
            if len(parts) > 1:
                out = apply(ops["cat"], tuple(parts), (dim,))
            continue
        if mode not in ("reflect", "replicate", "circular"):
            raise NotImplementedError(f"pad: unknown mode {mode!r}")
        if mode == "reflect" and max(left, right) >= size:
            raise RuntimeError(f"pad: cannot reflect {max(left, right)} beyond a size of {size}")
        source = []
        for j in range(-left, size + right):
            if mode == "replicate":
                source.append(min(max(j, 0), size - 1))
            elif mode == "circular":
                source.append(j % size)
            else:
                source.append(-j if j < 0 else 2 * (size - 1) - j if j >= size else j)
        from ..creation import tensor

        index = tensor(source, dtype=dtypes.int64)
        out = apply(ops["index_select"], (out, index), (dim,))
    return out


# ---- activations


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return max(input, 0)."""
    return apply_(_RELU, (input,), (), input) if inplace else apply(_RELU, (input,))


def _activation(name: str) -> Callable[..., Tensor]:
    op = ops[name]

    def function(input: Tensor, inplace: bool = False) -> Tensor:
        return apply_(op, (input,), (), input) if inplace else apply(op, (input,))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.__doc__
    return function


relu6, selu, silu, mish, hardswish, hardsigmoid = (
    _activation(n) for n in ("relu6", "selu", "silu", "mish", "hardswish", "hardsigmoid")
)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """Return input * Phi(input); approximate="tanh" by tanh (Hendrycks and Gimpel, 2016)."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: approximate is {approximate!r}; expected none or tanh")
    return apply(ops["gelu" if approximate == "none" else "gelu_tanh"], (input,))


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return input where positive, negative_slope * input elsewhere."""
    op = ops["leaky_relu"]
    if inplace:
        return apply_(op, (input,), (negative_slope,), input)
    return apply(op, (input,), (negative_slope,))


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return input where positive, alpha * (exp(input) - 1) elsewhere."""
    if inplace:
        return apply_(ops["elu"], (input,), (alpha,), input)
    return apply(ops["elu"], (input,), (alpha,))


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return input where positive, alpha * (exp(input / alpha) - 1) elsewhere."""
    return apply(ops["celu"], (input,), (alpha,))


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(beta * input)) / beta."""
    return apply(ops["softplus"], (input,), (beta, threshold))


def logsigmoid(input: Tensor) -> Tensor:
    """Return log(sigmoid(input))."""
    return apply(ops["logsigmoid"], (input,))


def sigmoid(input: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-input))."""
    return apply(ops["sigmoid"], (input,))


def tanh(input: Tensor) -> Tensor:
    """Return the hyperbolic tangent."""
    return apply(ops["tanh"], (input,))


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """Limit input to [min_val, max_val]."""
    out = clamp(input, min_val, max_val)
    return input.copy_(out) if inplace else out


def softsign(input: Tensor) -> Tensor:
    """Return input / (1 + |input|)."""
    return input / (1 + input.abs())


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """Return the first half of a dimension times the sigmoid of the second."""
    a, b = input.chunk(2, dim)
    return a * sigmoid(b)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Return input where positive, a learnt slope (one, or one a channel) times input elsewhere."""
    if weight._numel > 1 and input.ndim > 1:
        weight = weight.reshape(1, -1, *([1] * (input.ndim - 2)))
    return apply(ops["where"], (input > 0, input, weight * input))


def softmin(input: Tensor, dim: int | None = None) -> Tensor:
    """Return the softmax of -input."""
    return softmax(-input, dim)


def gumbel_softmax(logits: Tensor, tau: float = 1.0, hard: bool = False, dim: int = -1) -> Tensor:
    """Draw from the categorical distribution of logits, softened (Jang et al., 2017)."""
    from ..random import rand_like

    noise = -(-(rand_like(logits) + 1e-20).log() + 1e-20).log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    best = soft.argmax(dim, keepdim=True)
    return zeros(*soft.shape, dtype=soft.dtype).scatter(dim, best, 1.0) - soft.detach() + soft


# ---- normalisation


def _normalized(name: str, input: Tensor, shape: Sequence[int]) -> int:
    n = 1
    for size in shape:
        n *= size
    if tuple(input.shape[input.ndim - len(shape) :]) != tuple(shape) or not shape:
        raise RuntimeError(
            f"{name}: normalized_shape {tuple(shape)} must be the last dimensions of the input's "
            f"shape {tuple(input.shape)}"
        )
    return n


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Give the last dimensions mean 0 and variance 1, then scale and shift (Ba et al., 2016)."""
    n = _normalized("layer_norm", input, normalized_shape)
    return apply(_LAYER_NORM, (input, weight, bias), (n, eps))


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Divide the last dimensions by their root mean square; scale (Zhang and Sennrich, 2019)."""
    n = _normalized("rms_norm", input, normalized_shape)
    return apply(_RMS_NORM, (input, weight), (n, eps))


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise groups of channels of (N, C, ...) (Wu and He, 2018)."""
    n, c = input.shape[:2]
    if c % num_groups:
        raise RuntimeError(f"group_norm: {c} channels do not divide into {num_groups} groups")
    rows = input.reshape(n * num_groups, -1)
    out = apply(_LAYER_NORM, (rows, None, None), (max(rows.shape[-1], 1), eps)).reshape(input.shape)
    shape = (1, c, *([1] * (input.ndim - 2)))
    out = out if weight is None else out * weight.reshape(shape)
    return out if bias is None else out + bias.reshape(shape)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise every channel of (N, C, ...) over the batch (Ioffe and Szegedy, 2015).

    When training, the running statistics move by `momentum` towards the batch's; else they are
    used.
    """
    dims = [d for d in range(input.ndim) if d != 1]
    shape = (1, input.shape[1], *([1] * (input.ndim - 2)))
    if training or running_mean is None or running_var is None:
        count = input._numel // max(input.shape[1], 1)
        if training and count <= 1:
            raise ValueError(
                f"batch_norm: training needs more than 1 value a channel; got shape "
                f"{tuple(input.shape)}"
            )
        mean = input.mean(dims, True)
        centred = input - mean
        var = (centred * centred).mean(dims, True)
        if running_mean is not None and running_var is not None and training:
            running_mean.lerp_(mean.detach().reshape(-1), momentum)
            unbiased = var.detach().reshape(-1) * (count / (count - 1))
            running_var.lerp_(unbiased, momentum)
    else:
        mean, var = running_mean.reshape(shape), running_var.reshape(shape)
        centred = input - mean
    out = centred * (var + eps).rsqrt()
    out = out if weight is None else out * weight.reshape(shape)
    return out if bias is None else out + bias.reshape(shape)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divide by the p-norm along a dimension."""
    return input / clamp(input.norm(p, dim, True), min=eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Return the cosine of the angle between vectors along a dimension."""
    dot = (x1 * x2).sum(dim)
    return dot / (clamp(x1.norm(2, dim), min=eps) * clamp(x2.norm(2, dim), min=eps))


# ---- attention


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
        from ..shaping import broadcast_shapes

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
    from ..creation import ones

    scores = (q @ k.mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        seen = ones(*scores.shape[-2:], dtype=dtypes.bool_).tril()
        scores = scores.masked_fill(~seen, -float("inf"))
    if mask is not None:
        scores = scores + mask
    return dropout(softmax(scores, -1), p) @ v


from .losses import (  # noqa: E402  (they build on the functions above)
    binary_cross_entropy as binary_cross_entropy,
    binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
    cross_entropy as cross_entropy,
    huber_loss as huber_loss,
    kl_div as kl_div,
    l1_loss as l1_loss,
    linear_cross_entropy as linear_cross_entropy,
    mse_loss as mse_loss,
    nll_loss as nll_loss,
    smooth_l1_loss as smooth_l1_loss,
)
