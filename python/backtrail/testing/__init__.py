"""Tests of tensors and of ops: `assert_close`, as PyTorch has it, and `opcheck`."""

from .close import assert_close
from .opcheck import opcheck
from .report import Report, Result

__all__ = ["Report", "Result", "assert_close", "opcheck"]
