"""The benchmark of training steps runs, and every workload trains, captured as eager."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import backtrail as bt
import pytest
from capture_models import same

FOLDER = Path(__file__).parent.parent / "benchmarks"


def run(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "train.py"), *args], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return done


def test_a_row_of_the_table(tmp_path: Path) -> None:
    file = tmp_path / "steps.json"
    text = run("micrograd", "--no-torch", "--seconds", "0.05", "--json", str(file)).stdout
    head, row = text.splitlines()
    assert head.split()[:4] == ["captured", "eager", "first", "call"]
    assert row.startswith("micrograd")
    medians = json.loads(file.read_text())["micrograd"]
    assert set(medians) == {"captured", "eager", "first call"}
    assert 0 < medians["captured"] < medians["eager"]
    assert f"eager {medians['eager'] / medians['captured']:,.1f} x" in row


def test_an_unknown_workload() -> None:
    assert "unknown workload 'nanogrammar'" in run("nanogrammar", code=2).stderr


@pytest.fixture(scope="module")
def workloads() -> ModuleType:
    spec = importlib.util.spec_from_file_location("workloads", FOLDER / "workloads.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", ["micrograd", "microgpt", "microgpt_b32", "mlp", "cnn", "lstm", "nanogpt"]
)
def test_captured_workloads_have_the_same_losses(workloads: ModuleType, name: str) -> None:
    steps = []
    for _ in range(2):
        bt.manual_seed(0)
        steps.append(workloads.WORKLOADS[name](bt))
    eager, captured = steps[0], bt.compile(steps[1])
    losses = [(eager(), captured()) for _ in range(4)]
    assert all(same(a, b) for a, b in losses)
    assert captured.plan.runs > 0
    assert losses[3][0].item() < losses[0][0].item()
