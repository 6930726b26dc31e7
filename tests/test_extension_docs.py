"""The page beside the headers: its examples compile, run and pass their checks as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from backtrail import cli, cpp_extension
from backtrail.testing import opcheck

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "csrc" / "include" / "backtrail" / "README.md"
TEXT = PAGE.read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.S | re.M)


def blocks(language: str) -> list[str]:
    return [body for found, body in BLOCKS if found == language]


def test_every_example_runs_after_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension_cache: Path
) -> None:
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
    command, package = blocks("sh")
    assert command.startswith("backtrail ")
    assert cli.main(command.split()[1:]) == 0
    # Backtrail itself is on no index that pip could fetch it from for a build.
    ours = (tmp_path / "squash" / "README.md").read_text()
    lines = package.splitlines() + re.findall(r"^pip .*", ours, re.M)
    builds = [line for line in lines if re.match(r"pip (install|wheel) .*\.", line)]
    assert len(builds) == 4
    assert all(" --no-build-isolation " in line for line in builds)
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


def functions() -> list[str]:
    """Calls of the functions that the page lists, of x and y between 0 and 1."""
    listed = re.search(r"- \*\*Functions\*\*.*?: `(.*?)`;", TEXT, re.S)
    assert listed
    special = {
        "acosh": "acosh(x + V(1.5))",
        "fma": "fma(x, y, x)",
        "select": "select(x < y, x, y * y)",
        "isnan": "select(isnan(x), y, x)",
        "isinf": "select(isinf(x), y, x)",
    }
    of_two = ("atan2", "pow", "fmod", "copysign", "min", "max")
    return [special.get(f, f"{f}(x, y)" if f in of_two else f"{f}(x)") for f in listed[1].split()]


def test_every_function_of_the_page_works_in_every_kind(tmp_path: Path) -> None:
    calls = functions()
    assert len(calls) > 35
    structs, names = [], []
    for k in range(0, len(calls), 6):  # a derivative of a pointwise op may not be too long
        names.append(f"functions_{k}")
        structs.append(
            f"""struct F{k} {{
              static constexpr auto name = "functions_{k}";
              static constexpr auto doc = "For tests.";
              static constexpr auto range = Range{{0.2, 0.9}};
              template <class V> V forward(V x, V y) const {{
                return {" + ".join(calls[k : k + 6])};
              }}
            }};"""
        )
    names.append("functions_of_rows")
    structs.append(
        f"""struct Rows {{
          static constexpr auto name = "functions_of_rows";
          static constexpr auto doc = "For tests.";
          static constexpr auto range = Range{{0.2, 0.9}};
          template <class V> V forward(Row<const V> a, Row<const V> b) const {{
            V sum(0);
            for (int64_t i = 0; i < a.size(); ++i) {{
              const V x = a[i], y = b[i];
              sum += {" + ".join(calls)};
            }}
            return sum;
          }}
        }};"""
    )
    listed = ", ".join([f"F{k}" for k in range(0, len(calls), 6)] + ["Rows"])
    text = "\n".join([*structs, f"BACKTRAIL_OPS({listed})"])
    ops = cpp_extension.load_inline(text, name="functions", build_directory=tmp_path)
    for name in names:
        opcheck(getattr(ops, name), checks=["run", "value", "derivative", "second derivative"])
