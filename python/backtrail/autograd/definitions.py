"""What the fused ops compute, in plain tensor operations.

Each definition is the op's meaning: tests hold the fused kernel against it, and a recorded backward
pass (`create_graph=True`) differentiates it, to any order. The rules of the fused ops are here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import dtypes
from .._core import Node, full, is_first_gradient, set_grad_enabled
from ..functions.creation import arange
from ..functions.rules import rule
from ..tensor import Tensor, apply, ops
from .graph import gradients

_ALIAS = ops["alias"]


def softmax(x: Tensor) -> Tensor:
    """exp(x) over its sum along the last dimension."""
    e = (x - x.detach().amax(-1, True)).exp()
    return e / e.sum(-1, True)


def log_softmax(x: Tensor) -> Tensor:
    """x less the logarithm of the sum of exp(x), along the last dimension."""
    shifted = x - x.detach().amax(-1, True)
    return shifted - shifted.exp().sum(-1, True).log()


def rms_norm(x: Tensor, weight: Tensor | None, n: int, eps: float | None) -> Tensor:
    """x over the root of its mean square, over the last n elements (Zhang and Sennrich, 2019)."""
    rows = x.reshape(-1, n)
    eps = dtypes.finfo(x.dtype).eps if eps is None else eps
    y = (rows / ((rows * rows).mean(-1, True) + eps).sqrt()).reshape(x.shape)
    return y if weight is None else y * weight


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, eps: float) -> Tensor:
    """x less its mean, over its standard deviation, over the last n elements (Ba et al., 2016)."""
    rows = x.reshape(-1, n)
    centred = rows - rows.mean(-1, True)
    y = (centred / ((centred * centred).mean(-1, True) + eps).sqrt()).reshape(x.shape)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    reduction: int,
) -> Tensor:
    """-log softmax(logits)[target], smoothed and weighted; reduction 0 none, 1 mean, 2 sum."""
    log_p = log_softmax(logits)
    kept = target != ignore_index
    label = apply(ops["where"], (kept, target, 0))
    share = kept.to(logits.dtype)
    if weight is not None:
        share = share * weight.index_select(0, label)
        weighted = log_p * weight
    else:
        weighted = log_p
    loss = -log_p.gather(1, label.unsqueeze(1)).squeeze(1) * share
    if label_smoothing:
        uniform = -weighted.sum(1) / logits.shape[1] * kept.to(logits.dtype)
        loss = loss * (1 - label_smoothing) + uniform * label_smoothing
    if reduction == 0:
        return loss
    return loss.sum() / share.sum() if reduction == 1 else loss.sum()


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    reduction: int,
    wanted: int,
) -> Tensor:
    """cross_entropy of input @ linear_weight.T + linear_bias."""
    logits = input @ linear_weight.mT
    logits = logits if linear_bias is None else logits + linear_bias
    return cross_entropy(logits, target, weight, ignore_index, label_smoothing, reduction)


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None, causal: bool
) -> Tensor:
    """softmax(q k^T * scale + mask) v; with `causal` query i sees keys 0 ... i.

    Vaswani et al., 2017.
    """
    seen = seen_keys(mask, causal, q.shape[-2], k.shape[-2])
    return weighted_values(attention_weights(q, k, mask, seen, scale), v, seen)


def seen_keys(mask: Tensor | None, causal: bool, queries: int, keys: int) -> Tensor | None:
    """Return which keys each query sees, or None when it is all of them."""
    seen = None if mask is None else mask != -float("inf")
    if causal:
        past = arange(keys) <= arange(queries).unsqueeze(1)
        seen = past if seen is None else seen & past
    return seen


def attention_weights(
    q: Tensor, k: Tensor, mask: Tensor | None, seen: Tensor | None, scale: float | None
) -> Tensor:
    """softmax(q k^T * scale + mask) over the keys seen, 0 for a query that sees none.

    Whatever stands at a key that is not seen, NaN too, has no effect.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    where, nothing = ops["where"], full((), -float("inf"), q.dtype)
    if seen is None:
        scores = (q @ k.mT) * scale
    else:  # 0 * NaN is NaN, so it is taken out of the product, and put back where it is seen
        whole = k.detach().isfinite()
        scores = (q @ apply(where, (whole, k, full((), 0.0, k.dtype))).mT) * scale
        scores = scores if mask is None else scores + mask
        scores = apply(where, (seen, scores, nothing))
        broken = (~whole.all(-1)).unsqueeze(-2) & seen
        scores = apply(where, (broken, full((), float("nan"), q.dtype), scores))
    top = scores.detach().amax(-1, True)
    hidden = top == -float("inf")
    e = (scores - apply(where, (hidden, 0.0, top))).exp()
    return e / apply(where, (hidden, 1.0, e.sum(-1, True)))


def weighted_values(weights: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
    """weights @ v, where values at keys that are not seen have no effect, NaN neither."""
    if seen is None:
        return weights @ v
    where = ops["where"]
    whole = v.detach().isfinite()
    mixed = weights @ apply(where, (whole, v, full((), 0.0, v.dtype)))
    broken = seen.to(v.dtype) @ (~whole).to(v.dtype) > 0
    return apply(where, (broken, full((), float("nan"), v.dtype), mixed))


def differentiate(
    definition: Callable[..., Any],
    node: Node,
    inputs: tuple[Any, ...],
    grad: Any,
) -> list[Tensor | None]:
    """Return the recorded gradients of a definition for the inputs that have an edge.

    The definition gives one tensor or a tuple of them; `grad` has one each, or None.
    """
    # Aliases cut the graph, so that a path from one input to another is not walked.
    cut = [apply(_ALIAS, (x,)) if isinstance(x, Tensor) else x for x in inputs]
    y = definition(*cut, *node.attrs)
    wanted = [i for i, x in enumerate(cut) if isinstance(x, Tensor) and x.grad_fn is not None]
    if not wanted:
        return [None] * node.n_inputs
    ys, grads = ((y,), [grad]) if isinstance(y, Tensor) else (y, grad)
    reached = [k for k, t in enumerate(ys) if grads[k] is not None and t.requires_grad]
    found = gradients(
        [ys[k] for k in reached], [grads[k] for k in reached], [cut[i] for i in wanted], True, True
    )
    results: list[Tensor | None] = [None] * node.n_inputs
    for i, g in zip(wanted, found, strict=True):
        results[i] = g
    return results


def _once(rule: Callable[..., Any], node: Node, grad: Tensor) -> list[Tensor | None]:
    """Return what a rule by definition gives, in a pass that is not recorded."""
    before = set_grad_enabled(True)
    try:
        found = rule(node, grad)
    finally:
        set_grad_enabled(before)
    return [None if g is None else g.detach() for g in found]


# ---- rules: fused for a plain backward pass, by definition for a recorded one


def _softmax_fused(node: Node, grad: Tensor) -> Any:
    return (apply(ops["softmax_backward"], (grad, *node.saved)),)


@rule("softmax", fused=_softmax_fused)
def _softmax(node: Node, grad: Tensor) -> Any:
    (y,) = node.saved
    g = grad * y
    return (g - y * g.sum(-1, True),)


def _log_softmax_fused(node: Node, grad: Tensor) -> Any:
    return (apply(ops["log_softmax_backward"], (grad, *node.saved)),)


@rule("log_softmax", fused=_log_softmax_fused)
def _log_softmax(node: Node, grad: Tensor) -> Any:
    (y,) = node.saved
    return (grad - y.exp() * grad.sum(-1, True),)


def _rms_norm_fused(node: Node, grad: Tensor) -> Any:
    dx, dw = apply(ops["rms_norm_backward"], (grad, *node.saved), node.attrs[:1])
    return dx, dw if node.edges[1] is not None else None


@rule("rms_norm", fused=_rms_norm_fused)
def _rms_norm(node: Node, grad: Tensor) -> Any:
    return differentiate(rms_norm, node, node.saved[:2], grad)


def _layer_norm_fused(node: Node, grad: Tensor) -> Any:
    found = apply(ops["layer_norm_backward"], (grad, *node.saved), node.attrs[:1])
    return tuple(g if e is not None else None for g, e in zip(found, node.edges, strict=True))


@rule("layer_norm", fused=_layer_norm_fused)
def _layer_norm(node: Node, grad: Tensor) -> Any:
    x, weight = node.saved[:2]
    # The bias is not kept: its value does not matter, only that it is there.
    n = node.attrs[0]
    found = differentiate(
        lambda x, w, n, eps: layer_norm(x, w, None, n, eps), node, (x, weight), grad
    )
    if node.edges[2] is not None:
        found[2] = grad.reshape(-1, n).sum(0).reshape(node.shape(2))
    return found


def _cross_entropy_fused(node: Node, grad: Tensor) -> Any:
    if node.edges[2] is not None:  # learnt class weights: rare, so by definition
        return _once(_cross_entropy, node, grad)
    logits, target, weight, lse, total = node.saved
    inputs = (grad, logits, target, weight, lse, total)
    return apply(ops["cross_entropy_backward"], inputs, node.attrs), None, None


@rule("cross_entropy", fused=_cross_entropy_fused)
def _cross_entropy(node: Node, grad: Tensor) -> Any:
    return differentiate(cross_entropy, node, node.saved[:3], grad)


def _linear_cross_entropy_fused(node: Node, grad: Tensor) -> Any:
    for_x, for_weight, _, for_bias, for_class_weight = node.edges
    if for_class_weight is not None:  # learnt class weights: rare, so by definition
        return _once(_linear_cross_entropy, node, grad)
    ignore_index, smoothing, reduction, made = node.attrs
    wanted = (for_x is not None) | (for_weight is not None) << 1 | (for_bias is not None) << 2
    input, linear_weight, target, linear_bias, weight, dx, dweight, dbias = node.saved
    if reduction == 0 or wanted & ~made:  # the forward pass made no gradients, or not these
        dx, dweight, dbias = apply(
            ops["linear_cross_entropy_backward"],
            (grad, input, linear_weight, target, linear_bias, weight),
            (ignore_index, smoothing, reduction, wanted),
        )
    else:
        if not is_first_gradient(grad):
            dx, dweight, dbias = dx * grad, dweight * grad, dbias * grad
        if input.dtype is not dx.dtype:
            dx, dweight, dbias = (g.to(input.dtype) for g in (dx, dweight, dbias))
    return (
        dx if wanted & 1 else None,
        dweight if wanted & 2 else None,
        None,
        dbias if wanted & 4 else None,
        None,
    )


@rule("linear_cross_entropy", fused=_linear_cross_entropy_fused)
def _linear_cross_entropy(node: Node, grad: Tensor) -> Any:
    return differentiate(linear_cross_entropy, node, node.saved[:5], grad)


def _attention_fused(node: Node, grad: Tensor) -> Any:
    q, k, v, mask, lse = node.saved
    found: list[Any] = list(
        apply(ops["attention_backward"], (grad, q, k, v, mask, lse), node.attrs)
    )
    if node.edges[3] is not None:  # a learnt bias: rare, so by definition
        found.append(_once(_attention, node, grad)[3])
    else:
        found.append(None)
    return [g if e is not None else None for g, e in zip(found, node.edges, strict=True)]


@rule("attention", fused=_attention_fused)
def _attention(node: Node, grad: Tensor) -> Any:
    return differentiate(attention, node, node.saved[:4], grad)
