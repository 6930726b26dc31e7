"""Inputs for every op that is not pointwise, with NumPy's word for the result where it has one.

Float arrays take the dtype of the test; integer arrays, bool arrays and None stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from recurrent_reference import layer
from samples_conv import CONV_SAMPLES
from sampling import Sample, distinct, ints, positive, random, x


def softmax(a: Any) -> Any:
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(a: Any) -> Any:
    return np.log(softmax(a))


def softmax_backward(g: Any, y: Any) -> Any:
    return g * y - y * (g * y).sum(-1, keepdims=True)


def rms_norm(a: Any, w: Any, eps: float = 1e-5) -> Any:
    y = a / np.sqrt((a * a).mean(-1, keepdims=True) + eps)
    return y if w is None else y * w


def layer_norm(a: Any, w: Any, b: Any, eps: float = 1e-5) -> Any:
    y = (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + eps)
    return (y if w is None else y * w) + (0 if b is None else b)


def rms_norm_backward(g: Any, a: Any, w: Any, rstd: Any) -> Any:
    r, n = rstd.reshape(-1, 1), a.shape[-1]
    gw = g * w
    return gw * r - a * r**3 * (gw * a).sum(-1, keepdims=True) / n, (g * a * r).sum(0)


def _rstd(a: Any) -> Any:
    return 1 / np.sqrt((a * a).mean(-1) + 1e-5)


def cross_entropy(a: Any, t: Any, w: Any, ignore: int, smooth: float, reduction: int) -> Any:
    log_p, n = log_softmax(a), a.shape[1]
    w = np.ones(n) if w is None else w
    kept = t != ignore
    label = np.where(kept, t, 0)
    rows = np.arange(len(t))
    loss = -log_p[rows, label] * w[label] * (1 - smooth) - smooth / n * (log_p * w).sum(1)
    loss = loss * kept
    total = loss.sum()
    return loss if reduction == 0 else total if reduction == 2 else total / (w[label] * kept).sum()


def attention(q: Any, k: Any, v: Any, mask: Any, scale: Any, causal: bool) -> Any:
    s = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    s = s if mask is None else s + mask
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    return softmax(s) @ v


def scatter(a: Any, index: Any, src: Any, dim: int, add: bool) -> Any:
    out = a.copy()
    for at in np.ndindex(*index.shape):
        to = list(at)
        to[dim] = index[at]
        out[tuple(to)] = (out[tuple(to)] if add else 0) + src[at]
    return out


def index_add(a: Any, index: Any, src: Any, dim: int, alpha: float) -> Any:
    out = np.moveaxis(a.copy(), dim, 0)
    np.add.at(out, index, alpha * np.moveaxis(src, dim, 0))
    return np.moveaxis(out, 0, dim)


def put(a: Any, values: Any, *index: Any) -> Any:
    out = a.copy()
    out[index] = values
    return out


def put_add(a: Any, values: Any, *index: Any) -> Any:
    out = a.copy()
    np.add.at(out, index, values)
    return out


def embedding_backward(g: Any, index: Any, rows: int) -> Any:
    out = np.zeros((rows, g.shape[-1]))
    np.add.at(out, index.reshape(-1), g.reshape(-1, g.shape[-1]))
    return out


def linear_backward(g: Any, a: Any, w: Any) -> Any:
    flat = g.reshape(-1, g.shape[-1])
    return g @ w, flat.T @ a.reshape(-1, a.shape[-1]), flat.sum(0)


def sort(a: Any, dim: int, descending: bool) -> Any:
    order = np.argsort(-a if descending else a, dim, kind="stable")
    return np.take_along_axis(a, order, dim), order


def topk(a: Any, k: int, dim: int, largest: bool) -> Any:
    return tuple(np.take(part, np.arange(k), dim) for part in sort(a, dim, largest))


def extreme(function: Any, index: Any) -> Callable[..., Any]:
    return lambda a: (function(a, 1), index(a, 1))


def diag_embed(a: Any) -> Any:
    return a[..., None] * np.eye(a.shape[-1])


def zeros_with(a: Any, where: Any, shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape)
    out[where] = a
    return out


def recurrent(name: str, gates: int, *attrs: tuple[bool, ...]) -> list[Sample]:
    """With all its inputs, and with the least; one step and several, one hidden unit and many."""
    found = []
    for t, b, h in ((3, 2, 4), (1, 3, 1), (2, 1, 17)):
        optional: list[Any] = [x(gates * h), x(b, h)]
        optional += {"rnn": [], "lstm": [x(b, h)], "gru": [x(gates * h)]}[name]
        for rest in (optional, [None] * len(optional)):
            inputs = (x(t, b, 3), x(gates * h, 3), x(gates * h, h), *rest)
            found += [
                Sample(inputs, a, lambda *arrays, a=a: layer(name, *arrays, *a)) for a in attrs
            ]
    return found


def reductions(name: str, function: Any, make: Callable[..., np.ndarray] = x) -> list[Sample]:
    """All dimensions, one, several, kept; lengths around the borders of vectors and blocks."""
    found = [
        Sample((make(3, 4, 5),), (dims, keep), lambda a, d=dims, k=keep: function(a, d, keepdims=k))
        for dims, keep in ((None, False), (1, False), (-1, True), (0, False), (2, False))
    ]
    if name != "prod":
        found += [
            Sample((make(3, 4, 5),), ((0, 2), True), lambda a: function(a, (0, 2), keepdims=True)),
            Sample((make(2, 3, 2, 3),), ((1, 3), False), lambda a: function(a, (1, 3))),
        ]
    found.append(Sample((make(),), (None, False), lambda a: function(a)))
    return found


T, F = True, False
_one_of = distinct(4, 5)
_rows = x(6, 9)

SAMPLES: dict[str, list[Sample]] = {
    # copies and views
    "contiguous": [Sample((x(3, 4),), (), np.copy), Sample((x(0, 4),), (), np.copy)],
    "clone": [Sample((x(3, 4),), (), np.copy), Sample((x(0, 4),), (), np.copy)],
    "alias": [Sample((x(3, 4),), (), np.copy)],
    "cast": [Sample((x(3, 4),), (1,), np.copy), Sample((ints(9, 5),), (1,), np.float64)],
    "scatter_view": [
        Sample((x(2, 3),), ((4, 6), (12, 2), 1), lambda a: zeros_with(a, np.s_[::2, 1::2], (4, 6)))
    ],
    "view": [Sample((x(3, 4),), ((2, -1),), lambda a: a.reshape(2, 6), dense_only=True)],
    "reshape": [
        Sample((x(3, 4),), ((2, -1),), lambda a: a.reshape(2, 6)),
        Sample((x(0, 4),), ((2, 0),), lambda a: a.reshape(2, 0)),
    ],
    "permute": [Sample((x(2, 3, 4),), ((2, 0, -2),), lambda a: a.transpose(2, 0, 1))],
    "transpose": [Sample((x(2, 3, 4),), (0, -1), lambda a: a.swapaxes(0, 2))],
    "expand": [
        Sample((x(3, 1),), ((2, 3, 4),), lambda a: np.broadcast_to(a, (2, 3, 4))),
        Sample((x(3, 1),), ((-1, 2),), lambda a: np.broadcast_to(a, (3, 2))),
    ],
    "squeeze": [
        Sample((x(1, 3, 1),), (None,), np.squeeze),
        Sample((x(1, 3, 1),), (-1,), lambda a: a[..., 0]),
        Sample((x(1, 3, 1),), (1,), np.copy),
    ],
    "unsqueeze": [Sample((x(3, 4),), (-1,), lambda a: a[..., None])],
    "split": [
        Sample((x(7, 3),), (0, [2, 0, 4, 1]), lambda a: tuple(np.split(a, [2, 2, 6]))),
        Sample((x(2, 6),), (-1, [1, 5]), lambda a: (a[:, :1], a[:, 1:])),
    ],
    "slice": [Sample((x(7, 3),), (0, 1, 6, 2), lambda a: a[1:6:2])],
    "select": [Sample((x(7, 3),), (1, -1), lambda a: a[:, -1])],
    "basic_index": [
        Sample(
            (x(7, 3, 4),),
            ((1, 1, 6, 2, 0, 1, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0),),
            lambda a: a[1:6:2, 1, None],
        )
    ],
    "diagonal": [
        Sample((x(4, 5),), (1, 0, 1), lambda a: np.diagonal(a, 1)),
        Sample((x(2, 4, 5),), (-1, -2, -1), lambda a: np.diagonal(a, -1, -2, -1)),
    ],
    "unfold": [
        Sample((x(3, 8),), (1, 3, 2), lambda a: sliding_window_view(a, 3, 1)[:, ::2]),
        Sample((x(8, 3),), (0, 4, 1), lambda a: sliding_window_view(a, 4, 0)),
    ],
    "as_strided": [
        Sample(
            (x(12),),
            ((3, 4), (2, 1), 1),
            lambda a: as_strided(a[1:], (3, 4), (2 * a.itemsize, a.itemsize)),
            dense_only=True,
        )
    ],
    # products
    "matmul": [
        Sample(shapes, (), np.matmul)
        for shapes in (
            (x(4), x(4)),
            (x(3, 4), x(4)),
            (x(4), x(4, 3)),
            (x(3, 4), x(4, 5)),
            (x(2, 3, 4), x(4, 5)),
            (x(2, 3, 4), x(2, 4, 5)),
            (x(2, 1, 3, 4), x(5, 4, 2)),
            (x(3, 0), x(0, 5)),
            (x(0, 4), x(4, 5)),
            (x(2, 3, 4), x(4)),
        )
    ]
    + [Sample((x(67, 129), x(129, 65)), (), np.matmul, tolerance=100.0)],
    "linear": [
        Sample((x(2, 3, 4), x(5, 4), x(5)), (), lambda a, w, b: a @ w.T + b),
        Sample((x(3, 4), x(5, 4), None), (), lambda a, w, b: a @ w.T),
        Sample((x(0, 4), x(5, 4), x(5)), (), lambda a, w, b: a @ w.T + b),
    ],
    "linear_backward": [Sample((x(2, 3, 5), x(2, 3, 4), x(5, 4)), (7,), linear_backward)],
    "attention": [
        Sample(
            (x(2, 2, 5, 4), x(2, 2, 5, 4), x(2, 2, 5, 3), None),
            (None, c),
            lambda q, k, v, m, c=c: attention(q, k, v, m, None, c),
        )
        for c in (F, T)
    ]
    + [
        Sample(
            (x(1, 2, 3, 4), x(1, 2, 6, 4), x(1, 2, 6, 4), x(1, 2, 3, 6)),
            (0.3, F),
            lambda q, k, v, m: attention(q, k, v, m, 0.3, F),
        ),
    ],
    "attention_backward": [],  # with what `attention` kept: test_fused_ops_follow_their_definitions
    "rnn": recurrent("rnn", 1, (F, F), (T, F), (F, T)),
    "lstm": recurrent("lstm", 4, (F,), (T,)),
    "gru": recurrent("gru", 3, (F,), (T,)),
    "rnn_backward": [],
    "lstm_backward": [],
    "gru_backward": [],
    **CONV_SAMPLES,
    # elements by index
    "embedding": [Sample((x(6, 3), ints(6, 2, 4)), (), lambda w, i: w[i])],
    "embedding_backward": [
        Sample((x(2, 4, 3), ints(6, 2, 4)), (6, -1), lambda g, i: embedding_backward(g, i, 6))
    ],
    "gather": [
        Sample((x(4, 5), ints(4, 3, 5)), (0,), lambda a, i: np.take_along_axis(a, i, 0)),
        Sample((x(4, 5), ints(5, 4, 7)), (-1,), lambda a, i: np.take_along_axis(a, i, 1)),
    ],
    "scatter": [
        Sample(
            (x(4, 5), np.array([[3, 1, 0, 2, 1], [0, 2, 1, 1, 0]]), x(2, 5)),
            (0,),
            lambda a, i, s: scatter(a, i, s, 0, F),
        ),
    ],
    "scatter_add": [
        Sample((x(4, 5), ints(4, 3, 5), x(3, 5)), (0,), lambda a, i, s: scatter(a, i, s, 0, T)),
        Sample((x(4, 5), ints(5, 4, 9), x(4, 9)), (1,), lambda a, i, s: scatter(a, i, s, 1, T)),
    ],
    "index_select": [Sample((x(4, 5), ints(5, 7)), (1,), lambda a, i: a[:, i])],
    "index_add": [
        Sample((x(4, 5), ints(4, 7), x(7, 5)), (0, 1), lambda a, i, s: index_add(a, i, s, 0, 1)),
        Sample(
            (x(4, 5), ints(5, 7), x(4, 7)), (1, 0.5), lambda a, i, s: index_add(a, i, s, 1, 0.5)
        ),
    ],
    "index": [
        Sample((x(4, 5, 6), ints(5, 2, 3)), (1,), lambda a, i: a[:, i]),
        Sample((x(4, 5, 6), ints(4, 3), ints(5, 3)), (0,), lambda a, i, j: a[i, j]),
    ],
    "index_put": [
        Sample((x(4, 5), x(3), np.array([0, 3, 1]), np.array([4, 0, 2])), (0, 0), put),
        Sample((x(4, 5), x(3, 5), np.array([2, 2, 1])), (0, 1), put_add),
    ],
    # joins and rearrangements
    "cat": [
        Sample((x(2, 3), x(2, 1), x(2, 4)), (1,), lambda *a: np.concatenate(a, 1)),
        Sample(tuple(x(1, 3) for _ in range(9)), (0,), lambda *a: np.concatenate(a)),
        Sample((x(0, 3), x(2, 3)), (0,), lambda *a: np.concatenate(a)),
    ],
    "tril": [Sample((x(2, 4, 5),), (k,), lambda a, k=k: np.tril(a, k)) for k in (-1, 0, 2)],
    "triu": [Sample((x(2, 4, 5),), (k,), lambda a, k=k: np.triu(a, k)) for k in (-1, 0, 2)],
    "flip": [Sample((x(3, 4, 2),), ((0, -1),), lambda a: np.flip(a, (0, 2)))],
    "roll": [Sample((x(3, 4),), ((1, -2), (0, 1)), lambda a: np.roll(a, (1, -2), (0, 1)))],
    "repeat_interleave": [Sample((x(3, 4),), (3, 1), lambda a: np.repeat(a, 3, 1))],
    "diag_embed": [Sample((x(2, 3),), (0,), diag_embed)],
    "one_hot": [Sample((ints(5, 2, 3),), (5,), lambda i: np.eye(5, dtype=int)[i])],
    "nonzero": [
        Sample((ints(2, 4, 5),), (), lambda a: np.argwhere(a)),
        Sample((ints(2, 0),), (), np.argwhere),
    ],
    # order
    "sort": [
        Sample((distinct(4, 5),), (dim, down, T), lambda a, dim=dim, down=down: sort(a, dim, down))
        for dim, down in ((-1, F), (0, F), (1, T))
    ]
    + [Sample((ints(3, 40),), (0, F, T), lambda a: sort(a, 0, F))],
    "topk": [
        Sample((distinct(4, 5),), (2, -1, T, T), lambda a: topk(a, 2, -1, T)),
        Sample((distinct(4, 5),), (3, 0, F, T), lambda a: topk(a, 3, 0, F)),
    ],
    "searchsorted": [
        Sample(
            (np.array([0.0, 1, 1, 2]), np.array([-1.0, 1, 1.5, 9])),
            (right,),
            lambda a, v, s=side: np.searchsorted(a, v, s),
        )
        for right, side in ((F, "left"), (T, "right"))
    ],
    "unique": [
        Sample((ints(5, 20),), (), lambda a: np.unique(a, return_inverse=True, return_counts=True))
    ],
    "cumsum": [
        Sample((x(3, 4),), (0,), lambda a: np.cumsum(a, 0)),
        Sample((x(3, 40),), (-1,), lambda a: np.cumsum(a, 1)),
        Sample((x(3, 0),), (1,), lambda a: np.cumsum(a, 1)),
    ],
    "cumprod": [
        Sample((x(3, 4),), (1,), lambda a: np.cumprod(a, 1)),
        Sample(
            (np.array([[1.5, 0.0, 2.0, 0.0], [0.5, 3.0, 0.0, 2.0]]),),
            (1,),
            lambda a: np.cumprod(a, 1),
        ),
    ],
    # random numbers: what holds is in test_random
    "uniform": [Sample((), ((3, 4), 0, -1.0, 2.0, 5, 0))],
    "normal": [Sample((), ((3, 4), 0, 0.0, 2.0, 5, 0))],
    "randint": [Sample((), ((3, 4), 2, -5, 9, 5, 0))],
    "randperm": [Sample((), (11, 5, 0))],
    "bernoulli": [Sample((random.random((3, 4)),), (5, 0))],
    "dropout": [Sample((x(3, 4),), (0.4, 5, 0))],
    "multinomial": [Sample((positive(3, 4),), (2, F, 5, 0))],
    # reductions
    "sum": [*reductions("sum", np.sum), Sample((x(3, 0),), (1, F), lambda a: a.sum(1))],
    "mean": reductions("mean", np.mean),
    "prod": [
        *reductions("prod", lambda a, *d, **k: np.prod(a, *d, **k)),
        Sample((np.array([[2.0, 0.0, 3.0], [0.0, 1.0, 0.0]]),), (1, F), lambda a: a.prod(1)),
    ],
    "amax": reductions("amax", np.amax, distinct),
    "amin": reductions("amin", np.amin, distinct),
    "max_dim": [Sample((_one_of,), (1, F), extreme(np.max, np.argmax))],
    "min_dim": [Sample((_one_of,), (1, F), extreme(np.min, np.argmin))],
    "argmax": [Sample((_one_of,), (d, F), lambda a, d=d: np.argmax(a, d)) for d in (None, 0, 1)],
    "argmin": [Sample((_one_of,), (d, F), lambda a, d=d: np.argmin(a, d)) for d in (None, 0, 1)],
    # rows
    "softmax": [Sample((x(3, n),), (), softmax) for n in (1, 5, 16, 37)] + [Sample((x(0, 4),), ())],
    "softmax_backward": [Sample((x(3, 7), softmax(x(3, 7))), (), softmax_backward)],
    "log_softmax": [Sample((x(3, n),), (), log_softmax) for n in (1, 5, 16, 37)],
    "log_softmax_backward": [
        Sample(
            (x(3, 7), log_softmax(x(3, 7))),
            (),
            lambda g, y: g - np.exp(y) * g.sum(-1, keepdims=True),
        )
    ],
    "rms_norm": [Sample((x(3, n), x(n)), (n, 1e-5), rms_norm) for n in (5, 16, 37)]
    + [Sample((x(3, 5), None), (5, 1e-5), rms_norm)],
    "rms_norm_backward": [Sample((x(6, 9), _rows, x(9), _rstd(_rows)), (9,), rms_norm_backward)],
    "layer_norm": [
        Sample((x(3, 7), x(7), x(7)), (7, 1e-5), layer_norm),
        Sample((x(3, 7), None, None), (7, 1e-5), layer_norm),
        Sample((x(3, 16), x(16), None), (16, 1e-5), layer_norm),
    ],
    "layer_norm_backward": [],  # as attention_backward
    "cross_entropy": [
        Sample(
            (x(5, 7), np.array([0, 3, -100, 6, 2]), w),
            (-100, smooth, how),
            lambda a, t, w, smooth=smooth, how=how: cross_entropy(a, t, w, -100, smooth, how),
        )
        for w in (None, positive(7))
        for smooth in (0.0, 0.2)
        for how in (0, 1, 2)
    ],
    "cross_entropy_backward": [],
    "linear_cross_entropy": [
        Sample(
            (x(5, 3), x(7, 3), np.array([0, 3, -100, 6, 2]), b, w),
            (-100, smooth, how, made),
            lambda a, v, t, b, w, smooth=smooth, how=how: cross_entropy(
                a @ v.T + (0 if b is None else b), t, w, -100, smooth, how
            ),
        )
        for b, w, smooth, how, made in (
            (None, None, 0.0, 1, 7),
            (x(7), None, 0.0, 1, 7),
            (x(7), positive(7), 0.2, 1, 7),
            (x(7), positive(7), 0.2, 2, 3),  # made by the backward pass
            (x(7), None, 0.2, 0, 7),
        )
    ],
    "linear_cross_entropy_backward": [],
}
# Derivatives whose inputs only the forward pass can make: tested through it, by name.
THROUGH_FORWARD = [name for name, samples in SAMPLES.items() if not samples]
