"""What every test starts from: seeded generators, default dtype, recording on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

# Before OpenMP is loaded: threads that wait sleep, so that a busy machine does not stall the tests.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import backtrail as bt  # noqa: E402  (after the settings above)
import numpy as np  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    """Seed both random streams before each test, and undo what it switched."""
    bt.manual_seed(0)
    threads = bt.get_num_threads()
    yield
    bt.set_default_dtype(bt.float32)
    bt.set_grad_enabled(True)
    bt.set_num_threads(threads)


@pytest.fixture
def rng() -> np.random.Generator:
    """NumPy numbers, the same at each run."""
    return np.random.default_rng(0)
