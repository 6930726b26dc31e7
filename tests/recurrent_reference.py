"""Recurrent layers said again in NumPy, one step after another."""

from __future__ import annotations

from typing import Any

import numpy as np


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def layer(name: str, x: Any, w_ih: Any, w_hh: Any, *rest: Any) -> tuple[Any, ...]:
    """The op `name` on its inputs and attributes, in their order there."""
    bias, h, *rest = rest
    hidden = w_hh.shape[1]
    extra = None if name == "rnn" else rest.pop(0)
    reverse, relu = bool(rest[0]), bool(rest[-1])
    a = x @ w_ih.T + (0 if bias is None else bias)
    h = np.zeros((x.shape[1], hidden)) if h is None else h
    c = np.zeros_like(h) if extra is None else extra
    hidden_bias = 0 if name != "gru" or extra is None else extra
    y = np.zeros((*x.shape[:2], hidden))
    for t in range(len(x))[:: -1 if reverse else 1]:
        b = h @ w_hh.T + hidden_bias
        if name == "rnn":
            h = np.maximum(a[t] + b, 0) if relu else np.tanh(a[t] + b)
        elif name == "lstm":
            i, f, g, o = np.split(a[t] + b, 4, -1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (a_r, a_z, a_n), (b_r, b_z, b_n) = np.split(a[t], 3, -1), np.split(b, 3, -1)
            r, z = sigmoid(a_r + b_r), sigmoid(a_z + b_z)
            h = (1 - z) * np.tanh(a_n + r * b_n) + z * h
        y[t] = h
    return (y, h, c) if name == "lstm" else (y, h)
