"""Index arithmetic beyond 2^31 elements, on memory of which only a few pages are touched."""

from __future__ import annotations

from collections.abc import Iterator

import backtrail as bt
import pytest

FAR = 2**31 + 3


@pytest.fixture
def far() -> Iterator[bt.Tensor]:
    """2^31 + 64 floats; what is not written is undefined, and takes no memory."""
    try:
        x = bt.empty(2**31 + 64)
    except MemoryError:
        pytest.skip("the system does not promise 8 GB")
    yield x
    del x
    bt._core.empty_cache()


def test_elements_far_out(far: bt.Tensor) -> None:
    far[FAR:] = 1.5
    far[FAR + 5] = 4.0
    assert far[FAR + 5].item() == 4.0
    assert far[-1].item() == 1.5
    part = far[FAR : FAR + 8]
    assert part.storage_offset() == FAR
    assert part.sum().item() == 7 * 1.5 + 4.0
    part.add_(1.0)
    assert far[FAR : FAR + 8].tolist() == [2.5] * 5 + [5.0] + [2.5] * 2


def test_rows_far_apart(far: bt.Tensor) -> None:
    rows = far.as_strided((3, 4), (2**30 + 1, 1))
    values = bt.randn(3, 4)
    rows.copy_(values)
    assert bt.equal(rows.contiguous(), values)
    assert bt.equal(rows @ values.T, values @ values.T)
    assert bt.equal(rows.softmax(-1), values.softmax(-1))
    assert bt.equal(rows.T.contiguous(), values.T.contiguous())
    assert bt.equal(rows.sum(0), values.sum(0))
    assert bt.equal((rows * 2 + values).relu(), (values * 2 + values).relu())


def test_rows_by_number(far: bt.Tensor) -> None:
    table = far[: 2**31 + 64].view(-1, 4)
    last = table.shape[0] - 1
    table[last] = bt.tensor([1.0, 2.0, 3.0, 4.0])
    table[0] = 9.0
    index = bt.tensor([last, 0])
    assert table.index_select(0, index).tolist() == [[1, 2, 3, 4], [9, 9, 9, 9]]
    assert bt.nn.functional.embedding(index, table).tolist() == [[1, 2, 3, 4], [9, 9, 9, 9]]


def test_sizes_that_cannot_be() -> None:
    with pytest.raises((MemoryError, RuntimeError)):
        bt.empty(2**62)
    with pytest.raises((MemoryError, RuntimeError)):
        bt.empty(2**40, 2**40)


def test_more_than_2_to_the_31_elements_of_one() -> None:
    ones = bt.ones(1).expand(2**31 + 8)
    assert ones.numel() == 2**31 + 8
    assert ones[2**31 :].sum().item() == 8
