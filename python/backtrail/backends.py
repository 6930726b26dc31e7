"""Settings of accelerators that portable programs touch: accepted, without effect."""

from __future__ import annotations

from . import cuda as _cuda


class _Backend:
    """A backend that is not there."""

    deterministic = True
    benchmark = False
    allow_tf32 = False
    is_available = staticmethod(_cuda.is_available)
    is_built = staticmethod(_cuda.is_available)


cuda = cudnn = mps = _Backend()
