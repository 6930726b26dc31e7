"""The recurrent layers and cells together, under the name that PyTorch's module of them has."""

from __future__ import annotations

from .recurrent import GRU, LSTM, RNN, RNNBase
from .recurrent_cell import GRUCell, LSTMCell, RNNCell, RNNCellBase

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNBase", "RNNCell", "RNNCellBase"]
