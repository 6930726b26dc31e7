"""no_grad and its kin as context managers and as decorators of every kind of function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import backtrail as bt
import pytest

OFF = {
    "no_grad": bt.no_grad,
    "inference_mode": bt.inference_mode,
    "set_grad_enabled(False)": lambda: bt.set_grad_enabled(False),
}


@pytest.mark.parametrize("make", OFF.values(), ids=OFF)
def test_a_generator_runs_in_the_mode_and_its_caller_does_not(make: Callable[[], Any]) -> None:
    @make()
    def generator() -> Iterator[Any]:
        """Words."""
        seen = []
        while len(seen) < 3:
            try:
                seen.append((yield bt.is_grad_enabled()))
            except KeyError:
                seen.append(f"caught {bt.is_grad_enabled()}")
        return seen

    assert bt.is_grad_enabled()
    assert generator.__doc__ == "Words."
    source = generator()
    assert bt.is_grad_enabled()
    assert next(source) is False
    assert bt.is_grad_enabled()
    assert source.send("a") is False
    assert source.throw(KeyError()) is False
    assert bt.is_grad_enabled()
    with pytest.raises(StopIteration) as stop:
        source.send("b")
    assert stop.value.value == ["a", "caught False", "b"]


def test_closing_a_generator_runs_its_end_in_the_mode() -> None:
    seen = []

    @bt.no_grad()
    def generator() -> Iterator[int]:
        try:
            yield 1
        finally:
            seen.append(bt.is_grad_enabled())

    source = generator()
    next(source)
    source.close()
    assert seen == [False]
    assert bt.is_grad_enabled()


def test_errors_of_a_generator_reach_its_caller() -> None:
    @bt.no_grad()
    def generator() -> Iterator[int]:
        yield 1
        raise ValueError("inside")

    source = generator()
    next(source)
    with pytest.raises(ValueError, match="inside"):
        next(source)
    assert bt.is_grad_enabled()


def test_the_mode_of_the_one_who_resumes_stays() -> None:
    @bt.enable_grad()
    def generator() -> Iterator[bool]:
        yield bt.is_grad_enabled()
        yield bt.is_grad_enabled()

    with bt.no_grad():
        source = generator()
        assert next(source)
        assert not bt.is_grad_enabled()
    assert next(source)
    assert bt.is_grad_enabled()


@pytest.mark.parametrize("make", OFF.values(), ids=OFF)
def test_coroutines_and_asynchronous_generators(make: Callable[[], Any]) -> None:
    @make()
    async def coroutine() -> list[bool]:
        seen = [bt.is_grad_enabled()]
        await asyncio.sleep(0)
        return [*seen, bt.is_grad_enabled()]

    @make()
    async def numbers() -> AsyncIterator[bool]:
        yield bt.is_grad_enabled()
        await asyncio.sleep(0)
        yield bt.is_grad_enabled()

    async def program() -> list[Any]:
        task = asyncio.ensure_future(coroutine())
        outside = []
        while not task.done():
            outside.append(bt.is_grad_enabled())
            await asyncio.sleep(0)
        inside = []
        async for mode in numbers():
            inside.append(mode)
            outside.append(bt.is_grad_enabled())
        return [await task, inside, set(outside)]

    assert asyncio.run(program()) == [[False, False], [False, False], {True}]


def test_without_parentheses() -> None:
    @bt.no_grad
    def off() -> bool:
        return bt.is_grad_enabled()

    @bt.inference_mode
    def inference() -> bool:
        return bt.is_grad_enabled()

    @bt.enable_grad
    def on() -> bool:
        return bt.is_grad_enabled()

    with bt.no_grad():
        assert (off(), inference(), on()) == (False, False, True)


def test_a_decorator_keeps_its_mode() -> None:
    @bt.inference_mode(False)
    def recorded() -> bool:
        return bt.is_grad_enabled()

    @bt.set_grad_enabled(False)
    def quiet() -> bool:
        return bt.is_grad_enabled()

    assert bt.is_grad_enabled()
    assert not quiet()
    with bt.inference_mode():
        assert recorded()
        with bt.inference_mode(False):
            assert bt.is_grad_enabled()
        assert not bt.is_grad_enabled()
    assert bt.is_grad_enabled()


def test_decorating_a_class_warns() -> None:
    with pytest.warns(FutureWarning, match="Decorating classes is deprecated"):

        @bt.no_grad()
        class Made:
            def __init__(self) -> None:
                self.mode = bt.is_grad_enabled()

    assert Made().mode is False
