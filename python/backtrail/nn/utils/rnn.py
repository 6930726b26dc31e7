"""Sequences of unequal length in one tensor: padded, or packed without padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ...dtypes import bfloat16, float32, float64, int32, int64, uint8
from ...functions.creation import arange, full, tensor
from ...functions.functional import argsort, cat, stack
from ...tensor import Tensor


class PackedSequence(NamedTuple):
    """Sequences step by step: of each step the rows of the sequences that are long enough.

    data is (sum of lengths, *), the longest sequence first within each step; batch_sizes counts
    the rows of each step (int64). sorted_indices are the sequences from long to short, and
    unsorted_indices bring them back; None where they were sorted.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Convert the data, with the arguments of Tensor.to; there is only one device."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else self._replace(data=data)

    def float(self) -> PackedSequence:
        """Convert the data to float32."""
        return self.to(float32)

    def double(self) -> PackedSequence:
        """Convert the data to float64."""
        return self.to(float64)

    def bfloat16(self) -> PackedSequence:
        """Convert the data to bfloat16."""
        return self.to(bfloat16)

    def int(self) -> PackedSequence:
        """Convert the data to int32."""
        return self.to(int32)

    def long(self) -> PackedSequence:
        """Convert the data to int64."""
        return self.to(int64)

    def byte(self) -> PackedSequence:
        """Convert the data to uint8."""
        return self.to(uint8)

    def cpu(self) -> PackedSequence:
        """Return self: there is no other device."""
        return self

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Raise RuntimeError: there is only the CPU."""
        return self._replace(data=self.data.cuda(*args, **kwargs))

    def pin_memory(self) -> PackedSequence:
        """Return self: memory of the CPU is all there is."""
        return self

    @property
    def is_cuda(self) -> bool:
        return False


def pack_padded_sequence(
    input: Tensor,
    lengths: Tensor | Sequence[int],
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """Pack (T, B, *), or (B, T, *) with `batch_first`, of which sequence b has lengths[b] steps.

    With `enforce_sorted` lengths must not increase. Raises RuntimeError for other lengths and for
    lengths that are not in 1 ... T.
    """
    sizes = lengths.tolist() if isinstance(lengths, Tensor) else [int(n) for n in lengths]
    if batch_first:
        input = input.transpose(0, 1)
    steps, batch = input.shape[:2]
    if len(sizes) != batch:
        raise RuntimeError(
            f"pack_padded_sequence: got {len(sizes)} lengths for a batch of {batch}; expected one "
            "each"
        )
    if not sizes or min(sizes) < 1 or max(sizes) > steps:
        raise RuntimeError(
            f"pack_padded_sequence: lengths {sizes} of {steps} steps; each must be in 1 ... {steps}"
        )
    order = back = None
    if not enforce_sorted:
        places = sorted(range(batch), key=lambda b: -sizes[b])
        sizes = [sizes[b] for b in places]
        order = tensor(places)
        back = argsort(order)
        input = input.index_select(1, order)
    elif any(a < b for a, b in pairwise(sizes)):
        raise RuntimeError(
            f"pack_padded_sequence: lengths {sizes} must not increase; enforce_sorted=False sorts"
        )
    batch_sizes = [sum(n > t for n in sizes) for t in range(sizes[0])]
    # A row of a step for each sequence that goes on, as one gather from all rows.
    numbers = [t * batch + b for t, size in enumerate(batch_sizes) for b in range(size)]
    rows = input.reshape(steps * batch, *input.shape[2:])
    return PackedSequence(rows.index_select(0, tensor(numbers)), tensor(batch_sizes), order, back)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the padded sequences (T, B, *), or (B, T, *) with `batch_first`, and their lengths.

    T is the longest length, or `total_length`; ValueError when that is too short.
    """
    data, batch_sizes, _, back = sequence
    sizes = batch_sizes.tolist()
    batch, steps = sizes[0], len(sizes) if total_length is None else total_length
    if steps < len(sizes):
        raise ValueError(
            f"pad_packed_sequence: total_length {steps} is less than the longest length "
            f"{len(sizes)}"
        )
    nothing = data.shape[0]  # a row of padding, behind the data
    rows = cat([data, full((1, *data.shape[1:]), padding_value, dtype=data.dtype)])
    begin, numbers = 0, []
    for size in [*sizes, *[0] * (steps - len(sizes))]:
        numbers += [*range(begin, begin + size), *[nothing] * (batch - size)]
        begin += size
    padded = rows.index_select(0, tensor(numbers)).view(steps, batch, *data.shape[1:])
    lengths = (batch_sizes.unsqueeze(1) > arange(batch)).sum(0)
    if back is not None:
        padded, lengths = padded.index_select(1, back), lengths.index_select(0, back)
    return (padded.transpose(0, 1) if batch_first else padded), lengths


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack tensors of shape (T_i, *); see pack_padded_sequence."""
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False
) -> list[Tensor]:
    """Return the sequences that pad_sequence has padded."""
    sizes = lengths.tolist() if isinstance(lengths, Tensor) else lengths
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [s[:n] for s, n in zip(padded_sequences, sizes, strict=True)]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Return the sequences that pack_sequence has packed."""
    padded, lengths = pad_packed_sequence(packed_sequences)
    return unpad_sequence(padded, lengths)


def pad_sequence(
    sequences: Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Pad tensors of shape (T_i, *) to the longest T and stack them.

    Returns (T, B, *), or (B, T, *) with `batch_first`. Raises ValueError for a `padding_side`
    other than "left" and "right", and for no sequences.
    """
    if padding_side not in ("left", "right"):
        raise ValueError(
            f"pad_sequence: padding_side must be 'left' or 'right', got {padding_side!r}"
        )
    if len(sequences) == 0:
        raise ValueError("pad_sequence: expected at least one sequence, got none")
    longest = max(sequence.shape[0] for sequence in sequences)
    padded = []
    for sequence in sequences:
        missing = longest - sequence.shape[0]
        if missing:
            padding = full((missing, *sequence.shape[1:]), padding_value, dtype=sequence.dtype)
            pair = [sequence, padding] if padding_side == "right" else [padding, sequence]
            sequence = cat(pair)
        padded.append(sequence)
    return stack(padded, 0 if batch_first else 1)
