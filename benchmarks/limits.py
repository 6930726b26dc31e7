"""What the machine can do at most, measured by limits.cpp."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TARGET_FLAGS = {
    "v2": ["-march=x86-64-v2"],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}


def measured_limits(
    threads: int, isa: str, seconds: float, sizes: Sequence[int] = ()
) -> dict[str, Any] | None:
    """Compile and run limits.cpp, with bandwidths of working sets of `sizes` bytes.

    None without a compiler.
    """
    compiler = os.environ.get("CXX", "c++").split()
    if shutil.which(compiler[0]) is None:
        print("no C++ compiler: the machine's limits are left out")
        return None
    source = Path(__file__).parent / "limits.cpp"
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "limits")
        common = [*compiler, "-std=c++17", "-O3", "-ffp-contract=fast", "-pthread", str(source)]
        flags = TARGET_FLAGS.get(isa, [])
        bf16 = ["-mavx512bf16"] if isa == "v4" and has_bf16() else []
        subprocess.run([*common, *flags, *bf16, "-o", program], check=True)
        run = [program, str(threads), str(seconds), *map(str, sizes)]
        done = subprocess.run(run, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    found["bytes"] = {int(size): rates for size, rates in found["bytes"].items()}
    return found


def has_bf16() -> bool:
    with contextlib.suppress(OSError):
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    return False
