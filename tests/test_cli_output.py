"""The command line where its output leads nowhere: closed, full, or left by its reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import backtrail as bt
import pytest

COMMAND = f"{sys.executable} -m backtrail.cli"
SMALL = "--data ann.txt --steps 40 --n-embd 8 --n-head 2 --block-size 8"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ann.txt").write_text("anna\nhannah\nnan\nana\nhana\n")
    return tmp_path


def shell(command: str) -> tuple[int, str, str]:
    run = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=120
    )
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize(
    "where",
    [
        "| head -n 1",
        "2>&1 >/dev/null | head -n 1",
        "2>&-",
        "1>&- 2>&-",
        "2>/dev/full",
    ],
)
def test_training_goes_on_and_is_saved(folder: Path, where: str) -> None:
    status, _, err = shell(f"{COMMAND} train {SMALL} {where}")
    assert status == 0, err
    assert "Traceback" not in err
    assert "Exception" not in err
    assert len(bt.load("ann.safetensors")["losses"]) == 40


def test_what_could_not_be_written_is_said_after_the_work(folder: Path) -> None:
    status, _, err = shell(f"{COMMAND} train {SMALL} >/dev/full")
    assert status == 2
    assert err.splitlines()[-1] == "backtrail: standard output: No space left on device"
    assert len(bt.load("ann.safetensors")["losses"]) == 40


def test_other_commands(folder: Path) -> None:
    status, _, err = shell(f"{COMMAND} info >/dev/full")
    assert status == 2
    assert err.splitlines() == ["backtrail: No space left on device"]
    assert shell(f"{COMMAND} info 1>&-") == (0, "", "")
    for nowhere in ("2>&-", "2>/dev/full"):
        assert shell(f"{COMMAND} sample nothing.safetensors {nowhere}") == (2, "", "")
