"""Recurrent layers: what one direction over all steps computes, in plain tensor operations.

A sequence is (T, B, features), a state (B, hidden). The weights hold the gates one under another,
in the order of PyTorch: i, f, g, o of an LSTM, r, z, n of a GRU.
"""

from __future__ import annotations

from collections.abc import Callable

from .._core import full
from ..tensor import Tensor
from .shaping import stack


def rnn(
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    reverse: bool = False,
    relu: bool = False,
) -> tuple[Tensor, ...]:
    """h' = tanh(w_ih x + w_hh h + bias), or relu of it; return all h and the last (Elman, 1990)."""

    def cell(a: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        a = a + h @ w_hh.T
        return (a.relu() if relu else a.tanh(),)

    return _scan(cell, _gates(x, w_ih, bias), reverse, _state(h0, x, w_hh.shape[1]))


def lstm(
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    reverse: bool = False,
    w_hr: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Long short-term memory; return all h, the last h and the last c.

    i, f, o = sigmoid and g = tanh of w_ih x + w_hh h + bias; c' = f c + i g; h' = o tanh(c'),
    or w_hr (o tanh(c')). Hochreiter and Schmidhuber, 1997; Gers et al., 2000.
    """

    def cell(a: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        i, f, g, o = (a + h @ w_hh.T).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h if w_hr is None else h @ w_hr.T, c

    states = _state(h0, x, w_hh.shape[1]), _state(c0, x, w_hh.shape[0] // 4)
    return _scan(cell, _gates(x, w_ih, bias), reverse, *states)


def gru(
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    h0: Tensor | None,
    b_hh: Tensor | None,
    reverse: bool = False,
) -> tuple[Tensor, ...]:
    """Gated recurrent unit; return all h and the last one.

    With a = w_ih x + b_ih and b = w_hh h + b_hh: r, z = sigmoid(a + b); n = tanh(a + r b);
    h' = (1 - z) n + z h. Cho et al., 2014.
    """

    def cell(a: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        a_r, a_z, a_n = a.chunk(3, -1)
        b = h @ w_hh.T
        b_r, b_z, b_n = (b if b_hh is None else b + b_hh).chunk(3, -1)
        r, z = (a_r + b_r).sigmoid(), (a_z + b_z).sigmoid()
        n = (a_n + r * b_n).tanh()
        return (n + z * (h - n),)

    return _scan(cell, _gates(x, w_ih, b_ih), reverse, _state(h0, x, w_hh.shape[1]))


def _gates(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    gates = x @ weight.T
    return gates if bias is None else gates + bias


def _state(given: Tensor | None, x: Tensor, width: int) -> Tensor:
    return full((x.shape[1], width), 0, x.dtype) if given is None else given


def _scan(
    cell: Callable[..., tuple[Tensor, ...]], gates: Tensor, reverse: bool, *state: Tensor
) -> tuple[Tensor, ...]:
    """Apply a cell step by step; return all its first results stacked, and its last results."""
    ys = []
    order = range(gates.shape[0])
    for t in reversed(order) if reverse else order:
        state = cell(gates[t], *state)
        ys.append(state[0])
    return stack(ys[::-1] if reverse else ys), *state
