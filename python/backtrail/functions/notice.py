"""Warnings that point at the user's line."""

from __future__ import annotations

import sys
import warnings

_OWN_FOLDER = __file__.rpartition("/functions/")[0] + "/"


def warn_caller(message: str) -> None:
    """Warn (UserWarning) at the line of the user's that led here, through whatever of ours."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN_FOLDER):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
