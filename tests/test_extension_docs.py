"""The page beside the headers: its examples compile, run and pass their checks as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from backtrail import cli

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "csrc" / "include" / "backtrail" / "README.md"
TEXT = PAGE.read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.S | re.M)


def blocks(language: str) -> list[str]:
    return [body for found, body in BLOCKS if found == language]


def test_every_example_runs_after_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKTRAIL_EXTENSIONS_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    assert {language for language, _ in BLOCKS} == {"cpp", "python", "", "sh", "cmake"}
    for body in blocks("cpp"):
        name = re.match(r"// (\w+\.cpp)\n", body)
        assert name, f"an example must begin with the name of its file:\n{body}"
        (tmp_path / name[1]).write_text(body)
    # In a process of their own, for the ops that they add stay.
    command = [sys.executable, "-W", "error", "-c", "\n".join(blocks("python"))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    assert "huber_term: delta must be above 0" in printed
    assert "tensor([ 0.0000, -0.5000])" in printed
    (table,) = blocks("")
    for line in table.splitlines()[:-1]:  # as the page shows it, but for numbers
        shown = re.sub(r"\d+\.\d+(e-\d+)?|-{3,}|\d, \d", "", line).split()[:4]
        assert any(
            re.sub(r"\d+\.\d+(e-\d+)?|-{3,}|\d, \d", "", got).split()[:4] == shown
            for got in printed.splitlines()
        ), line


def test_the_package_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (command,) = blocks("sh")
    assert command.startswith("backtrail ")
    assert cli.main(command.split()[1:]) == 0
    lists = (tmp_path / "squash" / "CMakeLists.txt").read_text()
    (build,) = blocks("cmake")
    assert all(line in lists for line in build.splitlines())


def test_links_and_names() -> None:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", TEXT, flags=re.S | re.M)
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (PAGE.parent / link).exists(), link
    header = (PAGE.parent / "abi.h").read_text()
    assert "BACKTRAIL_MAX_ATTRS = 8" in header
    assert "at most 8" in TEXT
    functions = re.search(r"- \*\*Functions\*\*.*?: `(.*?)`;", TEXT, re.S)
    assert functions
    headers = "".join(f.read_text() for f in PAGE.parent.glob("*.h"))
    for name in functions[1].split():
        assert re.search(rf"\b{name}\(", headers), name
