"""Sequences of unequal length in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

from ...creation import full
from ...functional import cat, stack
from ...tensor import Tensor


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
