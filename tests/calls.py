"""How much Python a call runs: a measure of overhead that no other program disturbs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def python_calls(function: Callable[..., Any], *args: Any) -> int:
    """The number of Python functions entered by `function(*args)`, itself included if it is one."""
    count = 0

    def see(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        function(*args)
    finally:
        sys.setprofile(before)
    return count
