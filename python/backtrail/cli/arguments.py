"""What the commands share in reading their arguments: errors in one line, and checked numbers."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import NoReturn

Commands = argparse._SubParsersAction  # argparse has no public name for it


class UserError(Exception):
    """Something that the user can put right; shown as one line without a traceback."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, and name the help that helps."""

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Read the arguments; what is not known is an error of the command that got it."""
        args, unknown = self.parse_known_args(argv)
        if unknown:
            parser: Parser = getattr(args, "parser", self)
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return args

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


def number(low: float, *, inclusive: bool, below: float = math.inf) -> Callable[[str], float]:
    """Return a reader of finite numbers above `low`, or from `low` on, and less than `below`."""
    limits = f"{'at least' if inclusive else 'greater than'} {low:g}"
    if below < math.inf:
        limits += f" and less than {below:g}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None
        if not low <= value < below or not math.isfinite(value) or (value == low and not inclusive):
            raise argparse.ArgumentTypeError(f"must be {limits}, not {text}")
        return value

    return read


SEED = integer(0, 2**63 - 1)
