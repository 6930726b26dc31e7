"""What the commands share in reading their arguments: errors in one line, and checked numbers."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn

Commands = argparse._SubParsersAction  # argparse has no public name for it


class UserError(Exception):
    """Something that the user can put right; shown as one line without a traceback."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a reader of whole numbers from `low` to `high`."""
    limits = f"at least {low}" if high is None else f"from {low} to {high}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"must be {limits}, not {value}")
        return value

    return read


def number(low: float, *, inclusive: bool) -> Callable[[str], float]:
    """Return a reader of finite numbers above `low`, or from `low` on."""
    limits = f"{'at least' if inclusive else 'greater than'} {low:g}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None
        if not math.isfinite(value) or value < low or (value == low and not inclusive):
            raise argparse.ArgumentTypeError(f"must be {limits}, not {text}")
        return value

    return read


SEED = integer(0, 2**63 - 1)
