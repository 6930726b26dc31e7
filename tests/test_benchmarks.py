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


def test_the_lines_of_a_workload(tmp_path: Path) -> None:
    file = tmp_path / "steps.json"
    quick = ("--threads", "1", "--seconds", "0.05", "--json", str(file))
    text = run("micrograd", "--no-torch", "--no-jax", *quick).stdout
    found = json.loads(file.read_text())
    facts = found["rows"]["micrograd"]
    ours, eager = facts["captured"], facts["eager"]
    assert list(facts) == ["captured", "eager"]
    assert 0 < ours["seconds"] < eager["seconds"]
    assert 0 < ours["first call"] < 1
    assert "first call" not in eager
    assert 100_000 < ours["flops"] < 400_000
    head, *lines = text[text.index("captured") :].splitlines()
    assert head.split() == ["captured", "eager"]
    assert lines[0].startswith("micrograd     step")
    assert lines[1].split()[-2:] == [f"{eager['seconds'] / ours['seconds']:,.1f}", "x"]
    if found["limits"] is not None:  # there is a compiler
        share = ours["flops"] / ours["seconds"] / found["limits"]["flops"]
        assert 0 < share < 1
        assert lines[2].split()[:4] == ["of", "peak", "FLOP/s", f"{share * 100:.2g}%"]
    if ours["memory"] is not None:
        assert 5e6 < ours["memory"] < 1e9
        assert f"{ours['memory'] / 1e6:,.0f} MB" in lines[-2]


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_steps_in_jax() -> None:
    code = """
from workloads import WORKLOADS as ours
from workloads_jax import WORKLOADS
assert list(WORKLOADS) == list(ours)
for name in ("micrograd", "microgpt"):
    step = WORKLOADS[name]()
    losses = [float(step()) for _ in range(20)]
    assert losses[-1] < losses[0] < 4, (name, losses)
"""  # in a process of its own: JAX starts threads, and warns of every fork after it
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_threads_that_there_are_no_cpus_for() -> None:
    assert "this process may use" in run("micrograd", "--threads", "100000", code=2).stderr


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
