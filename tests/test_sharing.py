"""Memory that processes share: what one of them writes the others see."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
from typing import Any

import backtrail as bt
import numpy
import pytest
from backtrail import nn


def add(x: bt.Tensor, by: float) -> None:
    with bt.no_grad():
        x += by


def add_to_module(module: nn.Module) -> None:
    with bt.no_grad():
        for p in module.parameters():
            p += 1


def through(queue: Any, back: Any) -> None:
    x = queue.get()
    x[0] = 7
    back.put(x[1:])


def run(context: str, target: Any, *args: Any) -> None:
    process = multiprocessing.get_context(context).Process(target=target, args=args)
    process.start()
    process.join(60)
    assert process.exitcode == 0


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_a_child_writes_and_the_parent_sees(context: str) -> None:
    x = bt.zeros(3, 4)
    column = x[:, 1]
    assert not x.is_shared()
    assert x.share_memory_() is x
    assert x.is_shared()
    assert column.is_shared()
    run(context, add, x, 5.0)
    assert (x == 5).all()
    run(context, add, x.t()[2:], 1.0)
    assert x.tolist() == [[5, 5, 6, 6]] * 3
    assert column.tolist() == [5] * 3
    x[0, 1] = -1
    assert column[0] == -1


def test_modules_of_hogwild() -> None:
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    module.share_memory()
    assert all(p.is_shared() for p in module.parameters())
    run("spawn", add_to_module, module)
    assert bt.allclose(module.weight, before + 1)
    assert type(module.weight) is nn.Parameter


def test_through_queues_and_back() -> None:
    context = multiprocessing.get_context("spawn")
    queue, back = context.Queue(), context.Queue()
    process = context.Process(target=through, args=(queue, back))
    process.start()
    x = bt.arange(4.0).share_memory_()
    queue.put(x)
    rest = back.get(timeout=60)
    assert x[0] == 7
    rest[2] = 9
    assert x.tolist() == [7, 1, 2, 9]
    process.join(60)


def test_a_plain_pickle_is_a_copy() -> None:
    x = bt.arange(4.0).share_memory_()
    y = pickle.loads(pickle.dumps(x))
    y += 1
    assert x.tolist() == [0, 1, 2, 3]
    assert not y.is_shared()


def test_every_dtype_and_no_elements() -> None:
    for dtype in (bt.float64, bt.int64, bt.int32, bt.uint8, bt.bool, bt.bfloat16):
        x = bt.ones(5, dtype=dtype)
        assert x.share_memory_().equal(bt.ones(5, dtype=dtype))
    assert bt.zeros(0).share_memory_().is_shared()


def test_nothing_is_left_open() -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        bt.zeros(1000).share_memory_()
    assert len(os.listdir("/proc/self/fd")) == before


def test_memory_of_others_is_refused() -> None:
    with pytest.raises(RuntimeError, match="belongs to another library"):
        bt.from_numpy(numpy.zeros(3)).share_memory_()


def test_gradients_flow_through_shared_leaves() -> None:
    x = bt.ones(3, requires_grad=True).share_memory_()
    (x * x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2, 2]


def test_copies_keep_views_together() -> None:
    x = bt.arange(6.0).reshape(2, 3)
    a, row, turned = copy.deepcopy((x, x[1], x.t()))
    a[1, 2] = 9
    assert row.tolist() == [3, 4, 9]
    assert turned[2, 1] == 9
    assert turned.stride() == x.t().stride()
    assert x[1, 2] == 5
    leaf = bt.ones(2, requires_grad=True)
    leaf.grad = bt.ones(2)
    twin = copy.deepcopy(leaf)
    assert twin.grad is not None
    assert twin.grad is not leaf.grad
    assert twin.grad.equal(leaf.grad)
    tied = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    tied[1].weight = tied[0].weight
    other = copy.deepcopy(tied)
    assert other[0].weight is other[1].weight
    assert type(other[0].weight) is nn.Parameter


def test_a_shallow_copy_shares() -> None:
    x = bt.zeros(3, requires_grad=True)
    y = copy.copy(x)
    assert y is not x
    assert y.requires_grad
    with bt.no_grad():
        y += 1
    assert x.tolist() == [1, 1, 1]
    assert type(copy.copy(nn.Parameter(x))) is nn.Parameter
