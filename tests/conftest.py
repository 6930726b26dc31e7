"""What every test starts from: seeded generators, default dtype, recording on."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import backtrail as bt
import numpy as np
import pytest

# A shell starts what runs in its background with Ctrl-C ignored, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
