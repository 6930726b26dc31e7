"""What every test starts from: seeded generators, default dtype, recording on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import backtrail as bt
import numpy as np
import pytest
from backtrail.extension.compiler import cache_folder

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
def extension_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own for compiled ops, with the headers that were compiled before."""
    folder = tmp_path / "cache"
    for headers in cache_folder().glob("headers-*"):
        with contextlib.suppress(OSError, shutil.Error):  # another file system: without
            shutil.copytree(headers, folder / headers.name, copy_function=os.link)
    monkeypatch.setenv("BACKTRAIL_EXTENSIONS_DIR", str(folder))
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """NumPy numbers, the same at each run."""
    return np.random.default_rng(0)
