"""The order of the house: who may import whom, how long a file may be, how light the import is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "backtrail"
CSRC = ROOT / "csrc"

# The folders and files of the package, layer by layer. A module may import, when it is loaded, what
# stands in its own layer or in one before it; also later, if it is in `functions`.
LAYERS = [
    ["_quiet"],
    ["_core"],
    ["dtypes"],
    ["operators", "tensor", "formatting"],
    ["functions"],
    ["autograd"],
    ["linalg", "random", "cuda", "backends"],
    ["capture"],
    ["nn"],
    ["optim"],
    ["utils", "serialization", "extension", "cpp_extension", "_stubs"],
    ["testing", "train"],
    ["examples", "cli"],
    ["__main__"],
]
RANK = {name: i for i, layer in enumerate(LAYERS) for name in layer}
# What a C++ folder may include besides itself.
INCLUDES = {
    "include/backtrail": set(),
    "ops": {"include/backtrail"},
    "core": {"include/backtrail"},
    "kernels": {"include/backtrail", "ops", "dispatch", "core/dtype.h"},
    "dispatch": {"include/backtrail", "core", "kernels"},
    "exec": {"include/backtrail", "ops", "core", "dispatch", "kernels"},
    "plan": {"include/backtrail", "core", "kernels", "exec"},
    "library": {"include/backtrail", "ops", "core", "kernels", "exec"},
    "bindings": {"include/backtrail", "core", "dispatch", "kernels", "exec", "plan", "library"},
}
SOURCES = [p for p in CSRC.rglob("*") if p.suffix in (".h", ".cpp")]


def imports_at_load(path: Path) -> list[tuple[str, bool]]:
    """Modules imported when the file is loaded, by absolute name; and whether it is one of ours."""
    package = ["backtrail", *path.relative_to(PACKAGE).parent.parts]
    found: list[tuple[str, bool]] = []
    todo: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found += [(a.name, a.name.startswith("backtrail")) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                found.append((node.module or "", (node.module or "").startswith("backtrail")))
                continue
            base = package[: len(package) - node.level + 1]
            if node.module:
                found.append((".".join([*base, node.module]), True))
            else:
                found += [(".".join([*base, a.name]), True) for a in node.names]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            todo += node.body + getattr(node, "orelse", [])
    return found


def layer_of(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_python_imports_point_downward(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        return
    own = parts[0]
    assert own in RANK, f"{own}: give it a layer in tests/test_structure.py"
    for name, ours in imports_at_load(path):
        target = layer_of(name) if ours else ""
        if target and target in RANK:
            assert RANK[target] <= RANK[own], f"{own} imports {target}, which is above it"


def all_imports(path: Path) -> set[str]:
    """Modules of the same folder that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {a.name for a in node.names}
    return found


def is_for_types(path: Path, name: str) -> bool:
    """Whether the file imports a module of its folder for its annotations only."""
    return name not in {n.split(".")[-1] for n, ours in imports_at_load(path) if ours} and (
        "TYPE_CHECKING" in path.read_text()
    )


@pytest.mark.parametrize(
    "folder",
    ["functions", "autograd", "capture", "extension", "nn/functional", "nn/modules", "train"],
)
def test_no_circles_in_a_folder(folder: str) -> None:
    files = {p.stem: p for p in (PACKAGE / folder).glob("*.py")}
    left = {
        name: {m for m in all_imports(p) & files.keys() if not is_for_types(p, m)} - {"__init__"}
        for name, p in files.items()
        if name != "__init__"
    }
    while left:
        free = [name for name, needs in left.items() if not needs & left.keys()]
        assert free, f"{folder}: these import one another: {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CSRC)))
def test_cpp_includes_point_downward(path: Path) -> None:
    folder = next(f for f in INCLUDES if path.is_relative_to(CSRC / f))
    for name in re.findall(r'#include "([^"]+)"', path.read_text()):
        target = "include/backtrail" if name.startswith("backtrail/") else name.split("/")[0]
        allowed = {folder, *INCLUDES[folder]}
        assert target in allowed or name in allowed, f"{folder} includes {name}"


@pytest.mark.parametrize(
    "path",
    [p for p in SOURCES if p.parent.name in ("kernels", "ops")],
    ids=lambda p: str(p.relative_to(CSRC)),
)
def test_kernels_have_no_containers_threads_or_python(path: Path) -> None:
    text = path.read_text()
    for word in (
        r"<vector>",
        r"<string>",
        r"<map>",
        r"<thread>",
        r"<mutex>",
        r"Python\.h",
        r"pybind11",
        r"#pragma omp",
        r"\bthrow\b",
    ):
        assert not re.search(word, text), word


def test_openmp_and_pybind11_live_in_one_place_each() -> None:
    for path in SOURCES:
        text, where = path.read_text(), path.relative_to(CSRC)
        if "#pragma omp" in text or "<omp.h>" in text:
            assert where.parts[0] in ("core", "bindings"), where
        if "Python.h" in text:
            assert where.parts[0] == "bindings", where
        if "#include <pybind11" in text:  # slow to compile
            assert where == Path("bindings/module.cpp"), where


@pytest.mark.parametrize("folder", ["csrc", "python", "tests", "benchmarks"])
def test_no_file_is_long(folder: str) -> None:
    for path in (ROOT / folder).rglob("*"):
        if path.suffix in (".py", ".cpp", ".h"):
            lines = path.read_text().count("\n")
            assert lines <= 500, f"{path.relative_to(ROOT)} has {lines} lines"


def test_every_file_says_what_it_owns() -> None:
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").glob("*.py")]:
        text = path.read_text()
        assert not text.strip() or ast.get_docstring(ast.parse(text)), path
    for path in SOURCES:
        assert path.read_text().startswith("//") or path.with_suffix(".h").exists(), path


HEAVY = ("numpy", "dataclasses", "inspect", "tqdm", "safetensors", "json", "argparse", "torch")


def test_the_import_is_light() -> None:
    code = "import sys, backtrail; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import sys; sys.path[:0] = " + repr(sys.path) + "; " + code],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)


def test_the_import_is_quick() -> None:
    """60 ms on a quiet machine; the bound leaves room for one that is busy. Best of five."""
    code = "import time; a = time.process_time(); import backtrail; print(time.process_time() - a)"
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(5)
    ]
    assert min(times) < 0.120
