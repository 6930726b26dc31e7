"""Recurrent cells, for one step: RNNCell, LSTMCell and GRUCell."""

from __future__ import annotations

import math
from typing import Any

from ...dtypes import device as Device, dtype as DType
from ...functions.creation import empty
from ...tensor import Tensor
from .. import init
from ..parameter import Parameter
from .module import Module
from .recurrent import MODES, direction


class RNNCellBase(Module):
    """What the cells share: weight_ih, weight_hh, bias_ih and bias_hh, as in RNNBase."""

    mode: str
    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        gates = MODES[self.mode][1] * hidden_size

        def add(name: str, wanted: bool, *shape: int) -> None:
            value = Parameter(empty(*shape, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, value)

        add("weight_ih", True, gates, input_size)
        add("weight_hh", True, gates, hidden_size)
        add("bias_ih", bias, gates)
        add("bias_hh", bias, gates)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights and biases, uniform in +-1/sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0.0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Return the next state: h' (B, hidden_size), of an LSTM cell (h', c').

        input is (B, input_size) or (input_size,), hx alike: h, or (h, c); zero when absent.
        """
        lstm = self.mode == "LSTM"
        states: tuple[Any, ...] = (hx,)
        if lstm:
            states = (None, None) if hx is None else tuple(hx)
        for what, t in (("input", input), *(("hx", s) for s in states)):
            if t is not None and t.ndim not in (1, 2):
                raise ValueError(
                    f"{type(self).__name__}: {what} has shape {tuple(t.shape)}; expected 1-D or 2-D"
                )
        batched = input.ndim == 2
        if not batched:
            input = input.unsqueeze(0)
            states = tuple(None if s is None else s.unsqueeze(0) for s in states)
        weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        _, *last = direction(self.mode, input.unsqueeze(0), weights, states)
        if not batched:
            last = [s.squeeze(0) for s in last]
        return tuple(last) if lstm else last[0]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        return text if self.bias else f"{text}, bias={self.bias}"


class RNNCell(RNNCellBase):
    """Map (x, h) to tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Device | str | None = None,
        dtype: DType | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}"
            )
        self.mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        text = super().extra_repr()
        return text if self.nonlinearity == "tanh" else f"{text}, nonlinearity={self.nonlinearity}"


class LSTMCell(RNNCellBase):
    """Map (x, (h, c)) to the next (h, c), as one step of LSTM."""

    mode = "LSTM"


class GRUCell(RNNCellBase):
    """Map (x, h) to the next h, as one step of GRU."""

    mode = "GRU"
