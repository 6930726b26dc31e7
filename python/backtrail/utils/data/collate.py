"""Collation: from a list of samples to one batch of tensors."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ...dtypes import float64
from ...functions.creation import from_numpy, tensor
from ...functions.functional import stack
from ...tensor import Tensor


def _is_numpy(value: Any, name: str) -> bool:
    # A value can only be NumPy's if the program has imported NumPy.
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, getattr(numpy, name))


def _rebuild(sample: Any, values: list[Any]) -> Any:
    """Put `values` into a sequence of the kind that `sample` is."""
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return type(sample)(*values)
    return values


def default_collate(batch: Sequence[Any]) -> Any:
    """Stack samples along a new first dimension, inside whatever structure they have.

    Tensors and arrays are stacked, numbers become a 1-D tensor (floats float64, ints int64),
    strings stay as they are; mappings, tuples and sequences are collated entry by entry. Raises
    TypeError for anything else and RuntimeError for sequences of unequal length.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch), 0)
    if _is_numpy(first, "ndarray"):
        if first.dtype.kind in "SUO":
            raise TypeError(f"default_collate: cannot make a tensor of an array of {first.dtype}")
        return stack([from_numpy(array) for array in batch], 0)
    if _is_numpy(first, "generic"):
        return tensor([value.item() for value in batch]).to(from_numpy(first.reshape(1)).dtype)
    if isinstance(first, float):
        return tensor(list(batch), dtype=float64)
    if isinstance(first, int):
        return tensor(list(batch))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, Sequence):
        size = len(first)
        if any(len(sample) != size for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return _rebuild(first, columns)
    raise TypeError(
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
        f"found {type(first).__name__}"
    )


def default_convert(data: Any) -> Any:
    """Turn the arrays in a sample into tensors, and leave all else as it is."""
    if isinstance(data, Tensor):
        return data
    if _is_numpy(data, "ndarray"):
        return data if data.dtype.kind in "SUO" else from_numpy(data)
    if _is_numpy(data, "generic"):
        return data if data.dtype.kind in "SUO" else from_numpy(data.reshape(1))[0]
    if isinstance(data, Mapping):
        return {key: default_convert(value) for key, value in data.items()}
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _rebuild(data, [default_convert(value) for value in data])
    return data
