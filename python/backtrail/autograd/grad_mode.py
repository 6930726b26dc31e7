"""Whether operations are recorded: context managers and decorators."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .._core import is_grad_enabled, set_grad_enabled


class _GradMode:
    """Switch recording on or off: a context manager and a decorator."""

    _mode = True

    def __enter__(self) -> None:
        self._before = set_grad_enabled(self._mode)

    def __exit__(self, *_: object) -> None:
        set_grad_enabled(self._before)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped


class enable_grad(_GradMode):
    """Record operations, inside a `no_grad` block too."""


class no_grad(_GradMode):
    """Do not record operations: results require no grad. A context manager and a decorator."""

    _mode = False

    def __new__(cls, function: Any = None) -> Any:
        made = super().__new__(cls)
        return made if function is None else made(function)


class inference_mode(no_grad):
    """Do not record operations; `inference_mode(False)` changes nothing."""

    def __new__(cls, mode: Any = True) -> Any:
        made = object.__new__(cls)
        if callable(mode):
            return made(mode)
        made._mode = is_grad_enabled() and not mode
        return made


class set_grad_mode(_GradMode):
    """Record operations or not, from here on; as a context manager, until its end.

    `torch.set_grad_enabled` by name.
    """

    def __init__(self, mode: bool) -> None:
        self._mode = bool(mode)
        self._before = set_grad_enabled(self._mode)

    def __enter__(self) -> None:
        set_grad_enabled(self._mode)
