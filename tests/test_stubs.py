"""The type stubs are what the registry and the running classes say; mypy agrees with a user."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import backtrail as bt
import pytest
from backtrail import _core

PACKAGE = Path(bt.__file__).parent

USER = """
import backtrail as bt

x: bt.Tensor = bt.exp(bt.tensor([1.0], requires_grad=True))
y: bt.Tensor = x.leaky_relu(negative_slope=0.1).sum(0).float()
z: bt.Tensor = bt.nn.functional.softmax(bt.nn.Linear(2, 3)(x), -1)
bt.no_such_function
x.no_such_method()
x.leaky_relu(no_such_argument=1)
"""
WRONG_LINES = ["7", "8", "9"]


def test_stubs_are_up_to_date(tmp_path: Path) -> None:
    """Another process makes them: this one may have loaded ops of a user's library."""
    subprocess.run([sys.executable, "-m", "backtrail._stubs", str(tmp_path)], check=True)
    for name in ("_core.pyi", "functions/functional.pyi"):
        assert (PACKAGE / name).read_text("utf-8") == (tmp_path / name).read_text("utf-8"), (
            f"{name} is out of date: python -m backtrail._stubs python/backtrail"
        )


def test_the_core_has_what_its_stub_says() -> None:
    stub = ast.parse((PACKAGE / "_core.pyi").read_text("utf-8"))
    said = {n.name for n in stub.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    said |= {
        n.target.id
        for n in stub.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    assert said == {name for name in vars(_core) if not name.startswith("__")}
    classes = {n.name: n for n in stub.body if isinstance(n, ast.ClassDef)}
    for name in ("Node", "TensorBase"):
        members = {n.name for n in classes[name].body if isinstance(n, ast.FunctionDef)}
        kind = bt.Tensor if name == "TensorBase" else _core.Node
        missing = {m for m in members if not hasattr(kind, m)} - {"__buffer__"}  # Python 3.12
        assert not missing


@pytest.mark.slow
def test_mypy_checks_a_users_program(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "user.py"
    program.write_text(USER)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), program.name]
    env = dict(os.environ)
    if "site-packages" not in PACKAGE.parts:  # an editable installation
        env["MYPYPATH"] = str(PACKAGE.parent)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    errors = re.findall(r"^user.py:(\d+): error:", done.stdout, re.M)
    assert errors == WRONG_LINES, done.stdout + done.stderr
