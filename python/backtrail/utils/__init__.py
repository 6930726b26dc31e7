"""Helpers outside the engine: data loading."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import data as data

__all__ = ["data"]

if not TYPE_CHECKING:  # type checkers know the names; this one would allow any

    def __getattr__(name: str) -> Any:
        if name in __all__:  # loaded when first asked for
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
