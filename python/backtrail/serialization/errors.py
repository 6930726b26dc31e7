"""The one error of reading."""

from __future__ import annotations

from typing import NoReturn


class CheckpointError(ValueError):
    """A file that is not a readable checkpoint; the message names the file and what is wrong."""


class Source:
    """What is being read, for messages."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fail(self, why: str) -> NoReturn:
        raise CheckpointError(f"load: {self.name} is not a readable checkpoint: {why}")
