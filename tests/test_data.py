"""Datasets, samplers, collation and the loader."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import backtrail as bt
import pytest
from backtrail.utils import data


class Squares(data.Dataset[tuple[int, float]]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(index * index)


class Stream(data.IterableDataset[int]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.size))


def values(tensor: Any) -> Any:
    return tensor.detach().tolist()


def pairs(size: int = 10) -> data.TensorDataset:
    return data.TensorDataset(bt.arange(size), bt.arange(size).float() * 2)


# Datasets


def test_tensor_dataset() -> None:
    dataset = pairs()
    assert len(dataset) == 10
    assert [value.item() for value in dataset[3]] == [3, 6]
    with pytest.raises(ValueError, match=r"same first dimension, got \[2, 3\]"):
        data.TensorDataset(bt.zeros(2), bt.zeros(3))


def test_concat_and_chain() -> None:
    both = Squares(3) + Squares(2)
    assert isinstance(both, data.ConcatDataset)
    assert len(both) == 5
    assert [both[i][0] for i in range(5)] == [0, 1, 2, 0, 1]
    assert both[-1] == (1, 1.0)
    with pytest.raises(IndexError, match="5 samples"):
        both[5]
    with pytest.raises(ValueError, match="empty"):
        data.ConcatDataset([])
    with pytest.raises(TypeError, match="IterableDataset"):
        data.ConcatDataset([Stream(1)])
    assert list(Stream(2) + Stream(3)) == [0, 1, 0, 1, 2]


def test_subset_and_split() -> None:
    subset = data.Subset(Squares(10), [4, 2])
    assert len(subset) == 2
    assert subset[0] == (4, 16.0)
    generator = bt.Generator().manual_seed(0)
    parts = data.random_split(Squares(10), [7, 3], generator=generator)
    assert [len(part) for part in parts] == [7, 3]
    assert sorted(i for part in parts for i in part.indices) == list(range(10))
    again = data.random_split(Squares(10), [7, 3], generator=bt.Generator().manual_seed(0))
    assert [part.indices for part in again] == [part.indices for part in parts]
    assert [len(p) for p in data.random_split(Squares(10), [0.5, 0.25, 0.25])] == [6, 2, 2]
    with pytest.raises(ValueError, match="must sum to the 10 samples"):
        data.random_split(Squares(10), [7, 4])
    with pytest.warns(UserWarning, match="index 1 is 0"):
        data.random_split(Squares(1), [0.9, 0.1])


def test_abstract_datasets_say_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="__getitem__"):
        data.Dataset()[0]
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(data.IterableDataset())
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(data.Sampler())


# Samplers


def test_sequential_and_random_samplers() -> None:
    assert list(data.SequentialSampler(range(4))) == [0, 1, 2, 3]
    sampler = data.RandomSampler(range(100), generator=bt.Generator().manual_seed(1))
    first, second = list(sampler), list(sampler)
    assert sorted(first) == list(range(100))
    assert first != second != list(range(100))
    assert list(data.RandomSampler(range(100), generator=bt.Generator().manual_seed(1))) == first
    many = list(data.RandomSampler(range(3), num_samples=7))
    assert sorted(many[:3]) == sorted(many[3:6]) == [0, 1, 2]
    assert len(many) == 7
    drawn = list(data.RandomSampler(range(5), replacement=True, num_samples=200))
    assert len(drawn) == 200
    assert set(drawn) == set(range(5))
    assert list(data.RandomSampler([])) == []
    with pytest.raises(ValueError, match="num_samples"):
        data.RandomSampler(range(3), num_samples=-1)
    with pytest.raises(TypeError, match="replacement"):
        data.RandomSampler(range(3), replacement=1)  # type: ignore[arg-type]


def test_the_default_generator_decides_the_order() -> None:
    orders = []
    for seed in (5, 5, 6):
        bt.manual_seed(seed)
        orders.append(list(data.RandomSampler(range(50))))
    assert orders[0] == orders[1] != orders[2]


def test_subset_and_weighted_samplers() -> None:
    assert sorted(data.SubsetRandomSampler([3, 5, 9])) == [3, 5, 9]
    draws = list(data.WeightedRandomSampler([0.0, 1.0, 3.0], 400))
    assert len(draws) == 400
    assert 0 not in draws
    assert 220 < draws.count(2) < 380
    assert sorted(data.WeightedRandomSampler([1, 2, 3], 3, replacement=False)) == [0, 1, 2]
    with pytest.raises(ValueError, match="num_samples"):
        data.WeightedRandomSampler([1.0], 0)


def test_batch_sampler() -> None:
    assert list(data.BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(data.BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    assert len(data.BatchSampler(range(5), 2, False)) == 3
    assert len(data.BatchSampler(range(5), 2, True)) == 2
    with pytest.raises(ValueError, match="batch_size"):
        data.BatchSampler(range(5), 0, False)


# Collation


def test_collate() -> None:
    Point = namedtuple("Point", "x y")
    batch = [
        {"t": bt.ones(2), "i": 1, "f": 0.5, "s": "a", "b": True, "p": Point(1, 2.0), "l": [1, 2]},
        {"t": bt.zeros(2), "i": 2, "f": 1.5, "s": "b", "b": False, "p": Point(3, 4.0), "l": [3, 4]},
    ]
    got = data.default_collate(batch)
    assert values(got["t"]) == [[1, 1], [0, 0]]
    assert values(got["i"]) == [1, 2]
    assert got["i"].dtype == bt.int64
    assert values(got["f"]) == [0.5, 1.5]
    assert got["f"].dtype == bt.float64
    assert got["s"] == ["a", "b"]
    assert values(got["b"]) == [True, False]
    assert got["b"].dtype == bt.bool
    assert isinstance(got["p"], Point)
    assert values(got["p"].y) == [2, 4]
    assert [values(column) for column in got["l"]] == [[1, 3], [2, 4]]
    with pytest.raises(TypeError, match="found object"):
        data.default_collate([object()])
    with pytest.raises(RuntimeError, match="equal size"):
        data.default_collate([[1], [1, 2]])


def test_collate_numpy() -> None:
    np = pytest.importorskip("numpy")
    got = data.default_collate(
        [(np.ones(2, "float32"), np.float64(1)), (np.zeros(2, "float32"), np.float64(2))]
    )
    assert got[0].dtype == bt.float32
    assert values(got[0]) == [[1, 1], [0, 0]]
    assert got[1].dtype == bt.float64
    assert values(got[1]) == [1, 2]
    with pytest.raises(TypeError, match="array of"):
        data.default_collate([np.array(["a"])])
    converted = data.default_convert({"a": np.ones(2), "b": ["x", np.int64(3)]})
    assert values(converted["a"]) == [1, 1]
    assert converted["b"][0] == "x"
    assert converted["b"][1].item() == 3


# The loader


def test_batches_in_order() -> None:
    loader = data.DataLoader(Squares(5), batch_size=2)
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    assert [values(batch[0]) for batch in batches] == [[0, 1], [2, 3], [4]]
    assert batches[0][1].dtype == bt.float64
    assert len(list(data.DataLoader(Squares(5), batch_size=2, drop_last=True))) == 2
    assert [values(batch[0]) for batch in loader] == [[0, 1], [2, 3], [4]]


def test_shuffle() -> None:
    generator = bt.Generator().manual_seed(2)
    loader = data.DataLoader(pairs(), batch_size=3, shuffle=True, generator=generator)
    first = [i for batch in loader for i in values(batch[0])]
    second = [i for batch in loader for i in values(batch[0])]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    generator.manual_seed(2)
    assert [i for batch in loader for i in values(batch[0])] == first


def test_gathered_batches_equal_collated_ones() -> None:
    dataset = data.Subset(data.Subset(pairs(20), [9, 3, 5, 7]), [2, 0, 1])
    plain = data.DataLoader(dataset, batch_size=2, collate_fn=lambda b: data.default_collate(b))
    for fast, slow in zip(data.DataLoader(dataset, batch_size=2), plain, strict=True):
        assert type(fast) is type(slow) is list
        assert [values(column) for column in fast] == [values(column) for column in slow]
        assert [column.dtype for column in fast] == [column.dtype for column in slow]


def test_subclasses_keep_their_getitem() -> None:
    class Shifted(data.TensorDataset):
        def __getitem__(self, index: Any) -> tuple[bt.Tensor, ...]:
            return tuple(value + 100 for value in super().__getitem__(index))

    (batch,) = data.DataLoader(Shifted(bt.arange(2)), batch_size=2)
    assert values(batch[0]) == [100, 101]


def test_getitems_is_preferred() -> None:
    class Bulk(Squares):
        def __getitems__(self, indices: list[int]) -> list[int]:
            return [-i for i in indices]

    assert [values(batch) for batch in data.DataLoader(Bulk(3), batch_size=2)] == [[0, -1], [-2]]


def test_collate_fn_sampler_and_batch_sampler() -> None:
    assert list(data.DataLoader(Squares(3), batch_size=2, collate_fn=len)) == [2, 1]
    loader = data.DataLoader(Squares(5), batch_size=2, sampler=[4, 0, 2])
    assert [values(batch[0]) for batch in loader] == [[4, 0], [2]]
    loader = data.DataLoader(Squares(5), batch_sampler=[[1], [2, 3]])
    assert [values(batch[0]) for batch in loader] == [[1], [2, 3]]
    assert len(loader) == 2


def test_no_batching() -> None:
    loader = data.DataLoader(Squares(3), batch_size=None)
    assert list(loader) == [(0, 0.0), (1, 1.0), (2, 4.0)] or [s[0] for s in loader] == [0, 1, 2]
    assert len(loader) == 3


def test_streams() -> None:
    loader = data.DataLoader(Stream(5), batch_size=2)
    assert [values(batch) for batch in loader] == [[0, 1], [2, 3], [4]]
    assert [values(b) for b in data.DataLoader(Stream(5), batch_size=2, drop_last=True)] == [
        [0, 1],
        [2, 3],
    ]
    assert list(data.DataLoader(Stream(3), batch_size=None)) == [0, 1, 2]
    with pytest.raises(TypeError):
        len(loader)
    with pytest.raises(ValueError, match="own order"):
        data.DataLoader(Stream(3), shuffle=True)


def test_exclusive_options() -> None:
    dataset = Squares(4)
    for kwargs in (
        {"shuffle": True, "sampler": [1]},
        {"batch_sampler": [[1]], "batch_size": 2},
        {"batch_sampler": [[1]], "shuffle": True},
        {"batch_size": None, "drop_last": True},
    ):
        with pytest.raises(ValueError, match="mutually exclusive"):
            data.DataLoader(dataset, **kwargs)
    with pytest.raises(ValueError, match="num_workers"):
        data.DataLoader(dataset, num_workers=-1)


@pytest.mark.peer
def test_batches_match_torch() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.arange(7), torch.arange(7.0)), batch_size=3
    )
    ours = data.DataLoader(data.TensorDataset(bt.arange(7), bt.arange(7.0)), batch_size=3)
    for a, b in zip(ours, theirs, strict=True):
        assert type(a) is type(b)
        assert [values(x) for x in a] == [values(x) for x in b]
    batch = [(1, 0.5, "a"), (2, 1.5, "b")]
    a, b = data.default_collate(batch), torch.utils.data.default_collate(batch)
    assert type(a) is type(b)
    assert type(a[2]) is type(b[2])
    for kwargs in ({"batch_size": 2}, {"batch_size": 3, "drop_last": True}, {"batch_size": None}):
        assert len(data.DataLoader(range(7), **kwargs)) == len(
            torch.utils.data.DataLoader(range(7), **kwargs)
        )
