"""Recurrent layers over sequences: RNN, LSTM and GRU."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ...dtypes import device as Device, dtype as DType
from ...functions.creation import empty, zeros
from ...functions.functional import cat, stack
from ...functions.recurrent import lstm as lstm_by_definition
from ...tensor import Tensor, apply, ops
from .. import functional as F, init
from ..parameter import Parameter
from ..utils.rnn import PackedSequence
from .module import Module

# mode: (op, gates, attributes after `reverse`)
MODES: dict[str, tuple[Any, int, tuple[bool, ...]]] = {
    "RNN_TANH": (ops["rnn"], 1, (False,)),
    "RNN_RELU": (ops["rnn"], 1, (True,)),
    "LSTM": (ops["lstm"], 4, ()),
    "GRU": (ops["gru"], 3, ()),
}
States = tuple[Tensor | None, ...]  # h, or h and c; None is zero


def direction(
    mode: str, x: Tensor, weights: Sequence[Any], states: States, reverse: bool = False
) -> tuple[Tensor, ...]:
    """One layer in one direction over x (T, B, I): return y (T, B, H) and the last states (B, H).

    weights are w_ih, w_hh, b_ih and b_hh, and w_hr of an LSTM with projections.
    """
    op, _, attrs = MODES[mode]
    w_ih, w_hh, bias, hidden_bias, *projection = weights
    inputs: tuple[Any, ...]
    if mode == "GRU":  # n = tanh(.. + r * (W_hn h + b_hn)): b_hh cannot be added beforehand
        inputs = (x, w_ih, w_hh, bias, *states, hidden_bias)
    else:
        bias = None if bias is None else bias + hidden_bias
        inputs = (x, w_ih, w_hh, bias, *states)
    if projection:
        h, c = states
        return lstm_by_definition(x, w_ih, w_hh, bias, h, c, reverse, *projection)
    return apply(op, inputs, (reverse, *attrs))  # type: ignore[return-value]


def _packed_direction(
    mode: str,
    data: Tensor,
    batch_sizes: list[int],
    weights: Sequence[Any],
    states: tuple[Tensor, ...],
    reverse: bool,
) -> tuple[Tensor, ...]:
    """The same over the data of a PackedSequence, in runs of steps of equal batch size."""
    starts = [0, *(t for t in range(1, len(batch_sizes)) if batch_sizes[t] != batch_sizes[t - 1])]
    begin, runs = 0, []
    for first, end in pairwise([*starts, len(batch_sizes)]):
        size = batch_sizes[first]
        rows = (end - first) * size
        runs.append((size, data.narrow(0, begin, rows).view(end - first, size, -1)))
        begin += rows
    ys, ended = [], []
    current = tuple(s.narrow(0, 0, runs[-1][0]) for s in states) if reverse else states
    for size, x in reversed(runs) if reverse else runs:
        known = current[0].shape[0]
        if size < known:  # sequences that ended
            ended.append(tuple(s.narrow(0, size, known - size) for s in current))
            current = tuple(s.narrow(0, 0, size) for s in current)
        elif size > known:  # sequences that begin here, from their end
            fresh = (s.narrow(0, known, size - known) for s in states)
            current = tuple(cat(pair) for pair in zip(current, fresh, strict=True))
        y, *after = direction(mode, x, weights, current, reverse)
        current = tuple(after)
        ys.append(y.reshape(-1, y.shape[-1]))
    last = (cat(parts) for parts in zip(current, *reversed(ended), strict=True))
    return cat(ys[::-1] if reverse else ys), *last


class RNNBase(Module):
    """What RNN, LSTM and GRU share: the weights of all layers and directions, and the walk.

    Layer k has weight_ih_lk (gates * hidden, input), weight_hh_lk (gates * hidden, hidden),
    bias_ih_lk and bias_hh_lk (gates * hidden), and the same with the suffix _reverse; all start
    uniform in +-1/sqrt(hidden_size).
    """

    bias: bool

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Device | str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"RNNBase: mode {mode!r} is not one of {', '.join(MODES)}")
        name = type(self).__name__
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for what, size in sizes.items():
            if not isinstance(size, int):
                raise TypeError(f"{name}: {what} must be an int, got {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name}: {what} must be greater than zero, got {size}")
        for what, flag in {"bias": bias, "batch_first": batch_first}.items():
            if not isinstance(flag, bool):
                raise TypeError(f"{name}: {what} must be a bool, got {type(flag).__name__}")
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout must be a number in [0, 1], got {dropout}")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(
                f"{name}: proj_size must be smaller than hidden_size {hidden_size} and not "
                f"negative, got {proj_size}"
            )
        if proj_size and mode != "LSTM":
            raise ValueError(f"{name}: proj_size is for LSTM only, got {proj_size}")
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"{name}: dropout={dropout} applies between layers, and num_layers is 1",
                stacklevel=3,
            )
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size

        gates = MODES[mode][1] * hidden_size
        output_size = proj_size or hidden_size
        directions = ("", "_reverse") if bidirectional else ("",)
        self._weight_names: list[list[str]] = []  # by layer and direction
        for layer in range(num_layers):
            width = input_size if layer == 0 else output_size * len(directions)
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (gates, width),
                "weight_hh": (gates, output_size),
            }
            if bias:
                shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
            if proj_size:
                shapes |= {"weight_hr": (proj_size, hidden_size)}
            for direction in directions:
                self._weight_names.append([f"{what}_l{layer}{direction}" for what in shapes])
                for what, shape in zip(self._weight_names[-1], shapes.values(), strict=True):
                    setattr(self, what, Parameter(empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights and biases."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Accept PyTorch's request: there is nothing to bring together on a CPU."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._weight_names]

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """Return the last layer's output and the last state of every layer and direction.

        input is (T, B, input_size), (B, T, input_size) with `batch_first`, (T, input_size) or a
        PackedSequence; the output is alike, hidden_size wide, twice that when bidirectional. hx is
        h_0 (num_layers * directions, B, hidden_size), without B for input without it; of an LSTM
        (h_0, c_0); zero when absent. Raises RuntimeError or ValueError for shapes that do not fit.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        name = type(self).__name__
        if input.ndim not in (2, 3):
            raise ValueError(f"{name}: input has shape {tuple(input.shape)}; expected 2-D or 3-D")
        weight = self._parameters["weight_ih_l0"]
        if weight is not None and input.dtype is not weight.dtype:
            raise ValueError(
                f"{name}: input has dtype {input.dtype}, the weights {weight.dtype}; convert one "
                "of them with .to()"
            )
        batched = input.ndim == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        states = self._checked_states(x, x.shape[1], hx, batched)
        y, last = self._walk(x, None, states)
        if not batched:
            y, last = y.squeeze(1), tuple(s.squeeze(1) for s in last)
        elif self.batch_first:
            y = y.transpose(0, 1)
        return y, last if self.mode == "LSTM" else last[0]

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        sizes = input.batch_sizes.tolist()
        if hx is not None and input.sorted_indices is not None:
            order = input.sorted_indices
            hx = (
                tuple(s.index_select(1, order) for s in hx)
                if self.mode == "LSTM"
                else hx.index_select(1, order)
            )
        states = self._checked_states(input.data, sizes[0], hx, True)
        y, last = self._walk(input.data, sizes, states)
        if input.unsorted_indices is not None:
            last = tuple(s.index_select(1, input.unsorted_indices) for s in last)
        return input._replace(data=y), last if self.mode == "LSTM" else last[0]

    def _checked_states(self, x: Tensor, batch: int, hx: Any, batched: bool) -> States:
        """Return the given states with a batch dimension, one for each kind of state."""
        name = type(self).__name__
        if x.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{name}: input.size(-1) must be equal to input_size. Expected {self.input_size}, "
                f"got {x.shape[-1]}"
            )
        widths = {"h_0": self.proj_size or self.hidden_size}
        if self.mode == "LSTM":
            widths["c_0"] = self.hidden_size
        if hx is None:
            return (None,) * len(widths)
        given = tuple(hx) if self.mode == "LSTM" else (hx,)
        layers = len(self._weight_names)
        for (what, width), s in zip(widths.items(), given, strict=True):
            expected = (layers, batch, width) if batched else (layers, width)
            if tuple(s.shape) != expected:
                raise RuntimeError(
                    f"{name}: Expected {what} of size {expected}, got {tuple(s.shape)}"
                )
        return given if batched else tuple(s.unsqueeze(1) for s in given)

    def _walk(
        self, x: Tensor, batch_sizes: list[int] | None, states: States
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run all layers; return the output and the last states (layers * directions, B, H)."""
        directions = 2 if self.bidirectional else 1
        lasts: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for reverse in range(directions):
                i = layer * directions + reverse
                weights: list[Any] = [getattr(self, name) for name in self._weight_names[i]]
                if not self.bias:
                    weights[2:2] = None, None
                here = tuple(None if s is None else s[i] for s in states)
                if batch_sizes is None:
                    y, *last = direction(self.mode, x, weights, here, bool(reverse))
                else:
                    full = self._zeros_for(x, batch_sizes[0], here)
                    y, *last = _packed_direction(
                        self.mode, x, batch_sizes, weights, full, bool(reverse)
                    )
                outputs.append(y)
                lasts.append(tuple(last))
            x = outputs[0] if directions == 1 else cat(outputs, -1)
        return x, tuple(stack(each) for each in zip(*lasts, strict=True))

    def _zeros_for(self, x: Tensor, batch: int, states: States) -> tuple[Tensor, ...]:
        widths = (self.proj_size or self.hidden_size, self.hidden_size)
        return tuple(
            zeros(batch, width, dtype=x.dtype) if s is None else s
            for s, width in zip(states, widths, strict=False)
        )

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
        }
        for name, usual in defaults.items():
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        return text


class RNN(RNNBase):
    """Apply h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it, at every step (Elman, 1990).

    Shapes and states are those of RNNBase.forward.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Device | str | None = None,
        dtype: DType | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(
            f"RNN_{nonlinearity.upper()}",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Apply a long short-term memory (Hochreiter and Schmidhuber, 1997) at every step.

    i, f, o = sigmoid and g = tanh of W_ih x + b_ih + W_hh h + b_hh; c' = f c + i g;
    h' = o tanh(c'), times W_hr with `proj_size`. Shapes and states are those of RNNBase.forward.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Device | str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )


class GRU(RNNBase):
    """Apply a gated recurrent unit (Cho et al., 2014) at every step.

    r, z = sigmoid(W_i x + b_i + W_h h + b_h); n = tanh(W_in x + b_in + r * (W_hn h + b_hn));
    h' = (1 - z) n + z h. Shapes and states are those of RNNBase.forward.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Device | str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )
