"""Capture and replay of functions: `compile`."""

from .compiled import CaptureError, Compiled, compile

__all__ = ["CaptureError", "Compiled", "compile"]
