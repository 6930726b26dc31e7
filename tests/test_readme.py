"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)


def test_every_block_runs_after_those_before_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKTRAIL_EXTENSIONS_DIR", str(tmp_path))
    assert len(BLOCKS) >= 4
    namespace: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, str(README), "exec"), namespace)
    printed = capsys.readouterr().out.splitlines()
    weight, bias = map(float, printed[0].split())
    assert weight == pytest.approx(2, abs=1e-3)
    assert bias == pytest.approx(1, abs=1e-3)
    assert printed[1] == "tensor([0, 1, 1, 0])"


def test_the_two_set_up_commands_are_there() -> None:
    text = README.read_text("utf-8")
    assert 'pip install ".[plot]" && backtrail train\n' in text
    assert 'pip install ".[test]" && pytest\n' in text
