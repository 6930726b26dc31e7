"""The README's Python runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)


def test_every_block_runs_after_those_before_it(
    extension_cache: Path,
) -> None:
    assert len(BLOCKS) >= 4
    # In a process of their own, for the ops that they add stay.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(BLOCKS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    weight, bias = map(float, printed[0].split())
    assert weight == pytest.approx(2, abs=1e-3)
    assert bias == pytest.approx(1, abs=1e-3)
    assert printed[1] == "tensor([0, 1, 1, 0])"


def test_the_two_set_up_commands_are_there() -> None:
    text = README.read_text("utf-8")
    assert 'pip install ".[plot]" && backtrail train\n' in text
    assert 'pip install ".[test]" && pytest\n' in text
