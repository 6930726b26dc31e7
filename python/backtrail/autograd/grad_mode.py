"""Whether operations are recorded: context managers and decorators."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Generator
from typing import Any

from .._core import is_grad_enabled, set_grad_enabled


class _GradMode:
    """Switch recording on or off: a context manager and a decorator.

    A generator, a coroutine or an asynchronous generator that is decorated runs in the mode, and
    whoever resumes it keeps their own.
    """

    _mode = True

    def __enter__(self) -> None:
        self._before = set_grad_enabled(self._mode)

    def __exit__(self, *_: object) -> None:
        set_grad_enabled(self._before)

    def _clone(self) -> _GradMode:
        """Return another of the same mode, for one more call of a decorated function."""
        made: _GradMode = object.__new__(type(self))
        made._mode = self._mode
        return made

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import inspect  # not at load: it is slow to import

        if inspect.isclass(function):
            warnings.warn(
                "Decorating classes is deprecated and will be disabled in future versions. You "
                "should only decorate functions or methods. To preserve the current behavior of "
                "class decoration, you can directly decorate the `__init__` method and nothing "
                "else.",
                FutureWarning,
                stacklevel=2,
            )
        clone = self._clone
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                return (yield from _resumed(clone, function(*args, **kwargs)))

            return generator
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def asynchronous(*args: Any, **kwargs: Any) -> Any:
                source, sent = function(*args, **kwargs), None
                ask: Callable[[Any], Any] = source.asend
                while True:
                    try:
                        value = await _Awaited(clone, ask(sent).__await__())
                    except StopAsyncIteration:
                        return
                    try:
                        sent, ask = (yield value), source.asend
                    except GeneratorExit:
                        await _Awaited(clone, source.aclose().__await__())
                        raise
                    except BaseException as error:
                        sent, ask = error, source.athrow

            return asynchronous
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                return await _Awaited(clone, function(*args, **kwargs).__await__())

            return coroutine

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with clone():
                return function(*args, **kwargs)

        return wrapped


def _resumed(mode: Callable[[], _GradMode], source: Any) -> Generator[Any, Any, Any]:
    """Do what `yield from source` does, with `mode` on while `source` runs."""
    value: Any = None
    ask = source.send
    while True:
        try:
            with mode():
                given = ask(value)
        except StopIteration as stop:
            return stop.value
        try:
            value, ask = (yield given), source.send
        except GeneratorExit:
            with mode():
                source.close()
            raise
        except BaseException as error:
            value, ask = error, source.throw


class _Awaited:
    """Something to wait for, with a mode on while it runs."""

    def __init__(self, mode: Callable[[], _GradMode], source: Any) -> None:
        self._mode, self._source = mode, source

    def __await__(self) -> Generator[Any, Any, Any]:
        return _resumed(self._mode, self._source)


class enable_grad(_GradMode):
    """Record operations, inside a `no_grad` block too."""

    def __new__(cls, function: Any = None) -> Any:
        made = super().__new__(cls)
        return made if function is None else made(function)


class no_grad(enable_grad):
    """Do not record operations: results require no grad. A context manager and a decorator."""

    _mode = False


class inference_mode(_GradMode):
    """Do not record operations; `inference_mode(False)` records them, also inside such a block."""

    def __new__(cls, mode: Any = True) -> Any:
        made = object.__new__(cls)
        if callable(mode):
            made._mode = False
            return made(mode)
        made._mode = not mode
        return made


class set_grad_mode(_GradMode):
    """Record operations or not, from here on; as a context manager, until its end.

    `torch.set_grad_enabled` by name. As a decorator it changes nothing but the function.
    """

    def __init__(self, mode: bool) -> None:
        self._mode = bool(mode)
        self._before = set_grad_enabled(self._mode)

    def __enter__(self) -> None:
        set_grad_enabled(self._mode)

    def _clone(self) -> _GradMode:
        made: _GradMode = _GradMode()
        made._mode = self._mode
        return made

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        set_grad_enabled(self._before)
        return super().__call__(function)

    def __repr__(self) -> str:
        return f"set_grad_enabled(mode={self._mode})"


__all__ = ["enable_grad", "inference_mode", "is_grad_enabled", "no_grad", "set_grad_mode"]
