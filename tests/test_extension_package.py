"""CMake's package of backtrail: where it is found, for whom it will do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import backtrail as bt
import pytest
from backtrail import compiler, cpp_extension


def command(*arguments: object, **environment: str) -> str:
    """Run Python in another process."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_where_cmake_looks() -> None:
    folder = Path(cpp_extension.cmake_path())
    assert (folder / "backtrailConfig.cmake").is_file()
    assert command("-m", "backtrail.cpp_extension", "--cmake-dir") == f"{folder}\n"
    include = command("-m", "backtrail.cpp_extension", "--include-dir").strip()
    assert Path(include, "backtrail", "op.h").is_file()
    assert list(Path(include, "backtrail").glob("flags.txt"))


def test_the_flags_are_said_once() -> None:
    """Each kind that CMake's package asks for is there for Python too, and the other way round."""
    text = (compiler.INCLUDE / "backtrail" / "flags.txt").read_text("utf-8")
    kinds = re.findall(r"^(\w+):", text, re.M)
    assert kinds == ["all", "warnings", "link", "v2", "v3", "v4", "base"]
    assert "-ffp-contract=off" in compiler.flags("all")
    assert compiler.flags("v3") == ["-march=x86-64-v3"]
    assert "-f" not in (Path(cpp_extension.cmake_path()) / "backtrailConfig.cmake").read_text(
        "utf-8"
    )


@pytest.mark.parametrize(
    ("asked", "will_do"),
    [("0", True), ("0.1", True), ("0.0.9", True), ("0.99", False), ("1", False)],
)
def test_which_versions_will_do(asked: str, will_do: bool, tmp_path: Path) -> None:
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if cmake is None:
        pytest.skip("needs cmake")
    script = tmp_path / "version.cmake"
    script.write_text(
        f"set(PACKAGE_FIND_VERSION {asked})\n"
        f"set(PACKAGE_FIND_VERSION_MAJOR {asked.partition('.')[0]})\n"
        f'include("{cpp_extension.cmake_path()}/backtrailConfigVersion.cmake")\n'
        'message("${PACKAGE_VERSION} ${PACKAGE_VERSION_COMPATIBLE}")\n'
    )
    done = subprocess.run([cmake, "-P", script], capture_output=True, text=True, check=True)
    assert done.stderr == f"{bt.__version__} {str(will_do).upper()}\n"
