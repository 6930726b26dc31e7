"""Rules of recurrent layers: fused for a plain backward pass, by definition for a recorded one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._core import Node
from ..functions.recurrent import gru, lstm, rnn
from ..functions.rules import rule
from ..tensor import Tensor, apply, ops
from .definitions import differentiate

_LINEAR_BACKWARD = ops["linear_backward"]


def _by_definition(definition: Callable[..., tuple[Tensor, ...]]) -> Callable[[Node, Any], Any]:
    def general(node: Node, grads: list[Tensor | None]) -> Any:
        return differentiate(definition, node, node.saved[: node.n_inputs], grads)

    return general


def _through_gates(node: Node, gates: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of x, w_ih and bias, from that of the gates: one product each, all steps."""
    x, w_ih = node.saved[:2]
    edges = node.edges[0], node.edges[1], node.edges[3]
    need = sum(1 << i for i, edge in enumerate(edges) if edge is not None)
    found = apply(_LINEAR_BACKWARD, (gates, x, w_ih), (need,))
    return tuple(g if edge is not None else None for g, edge in zip(found, edges, strict=True))


def _rnn_fused(node: Node, grads: list[Tensor | None]) -> Any:
    _, _, w_hh, _, h0, y = node.saved
    need = node.edges[4] is not None
    gates, dw_hh, dh0 = apply(ops["rnn_backward"], (w_hh, y, h0, *grads), (*node.attrs, need))
    dx, dw_ih, dbias = _through_gates(node, gates)
    return dx, dw_ih, dw_hh, dbias, dh0 if need else None


def _lstm_fused(node: Node, grads: list[Tensor | None]) -> Any:
    _, _, w_hh, _, h0, c0, y, kept, cells = node.saved
    dy, dh, dc = grads
    need_h, need_c = node.edges[4] is not None, node.edges[5] is not None
    gates, dw_hh, dh0, dc0 = apply(
        ops["lstm_backward"],
        (w_hh, y, h0, dy, dh, kept, cells, c0, dc),
        (*node.attrs, need_h),
    )
    dx, dw_ih, dbias = _through_gates(node, gates)
    return dx, dw_ih, dw_hh, dbias, dh0 if need_h else None, dc0 if need_c else None


def _gru_fused(node: Node, grads: list[Tensor | None]) -> Any:
    _, _, w_hh, _, h0, _, y, kept = node.saved
    need = node.edges[4] is not None
    gates, dw_hh, dh0, hidden_gates = apply(
        ops["gru_backward"], (w_hh, y, h0, *grads, kept), (*node.attrs, need)
    )
    dx, dw_ih, db_ih = _through_gates(node, gates)
    db_hh = hidden_gates.sum((0, 1)) if node.edges[5] is not None else None
    return dx, dw_ih, dw_hh, db_ih, dh0 if need else None, db_hh


for _name, _definition, _fused in (
    ("rnn", rnn, _rnn_fused),
    ("lstm", lstm, _lstm_fused),
    ("gru", gru, _gru_fused),
):
    rule(_name, fused=_fused)(_by_definition(_definition))
