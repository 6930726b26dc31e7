"""What portable programs ask of an accelerator: there is none."""

from __future__ import annotations

from typing import Any


def is_available() -> bool:
    """Return False."""
    return False


def device_count() -> int:
    """Return 0."""
    return 0


def manual_seed_all(seed: int) -> None:
    """Accept a seed that nothing needs."""


manual_seed = manual_seed_all


def empty_cache() -> None:
    """Do nothing."""


def synchronize(device: Any = None) -> None:
    """Do nothing."""
