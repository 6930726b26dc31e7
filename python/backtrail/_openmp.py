"""Loads the core with an OpenMP whose waiting threads spin for microseconds, not milliseconds.

On cores that other programs use, a long spin takes away the time that the wait is for. OpenMP reads
the setting once, as it is loaded; what the user has set stays.
"""

from __future__ import annotations

import os

_SETTING, _SPINS = "GOMP_SPINCOUNT", "10000"

if _SETTING in os.environ or "OMP_WAIT_POLICY" in os.environ:
    from . import _core
else:
    os.environ[_SETTING] = _SPINS
    try:
        from . import _core
    finally:
        del os.environ[_SETTING]

__all__ = ["_core"]
