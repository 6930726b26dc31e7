"""Checks of the installed package and of the objects it was linked from: sizes, the time and weight
of the import, and that no kernel leaks a symbol that another instruction set could pick up.
"""

from __future__ import annotations

import importlib.metadata
import io
import re
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

WHEEL_MB, INSTALLED_MB, IMPORT_MS = 5, 15, 60
HEAVY = ("numpy", "tqdm", "safetensors", "json", "argparse", "dataclasses", "inspect")


def check(what: str, value: float, limit: float, unit: str) -> bool:
    """Report a value against its limit."""
    print(f"{what}: {value:.1f} {unit} (limit {limit} {unit})")
    return value <= limit


def sizes() -> bool:
    """Compare the installed files, and the same compressed as a wheel is, with their limits."""
    files = [Path(str(f.locate())) for f in importlib.metadata.files("backtrail") or ()]
    files = [f for f in files if f.suffix != ".pyc" and f.is_file()]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for f in files:
            wheel.write(f)
    ok = check("wheel", archive.tell() / 1e6, WHEEL_MB, "MB")
    return check("installed", sum(f.stat().st_size for f in files) / 1e6, INSTALLED_MB, "MB") and ok


def imports() -> bool:
    """Time `import backtrail` in fresh processes, and see what it brings along."""
    times = []
    for _ in range(9):
        command = [sys.executable, "-X", "importtime", "-c", "import backtrail"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(int(done.stderr.splitlines()[-1].split("|")[1]) / 1e3)
    ok = check("import", statistics.median(times), IMPORT_MS, "ms")
    program = "import sys, backtrail; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    heavy = [name for name in HEAVY if name in done.stdout.split()]
    print(f"imported along: {', '.join(heavy) or 'nothing heavy'}")
    return ok and not heavy


def symbols(build: Path) -> bool:
    """Look for kernel symbols outside the namespace of their instruction set."""
    objects = sorted(build.glob("**/kernels_*.dir/**/*.o"))
    leaks = 0
    for path in objects:
        target = str(path).partition("/kernels_")[2].partition(".dir")[0]
        inside = re.compile(rf"_Z(T[VTISC]|G[VR])?Z*N[KVrO]*9backtrail{len(target)}{target}")
        listing = subprocess.run(
            ["nm", "--defined-only", path], capture_output=True, text=True, check=True
        )
        for line in listing.stdout.splitlines():
            kind, name = line.split()[-2:]
            shared = kind.isupper() or kind in "uvw"
            if (shared and not inside.match(name)) or name.startswith("_GLOBAL__sub_I"):
                print(f"{path.name} of {target}: {kind} {name}")
                leaks += 1
    print(f"{len(objects)} kernel objects, {leaks} symbols where they should not be")
    return bool(objects) and not leaks


if __name__ == "__main__":
    passed = [sizes(), imports(), symbols(Path(sys.argv[1]))]
    sys.exit(not all(passed))
