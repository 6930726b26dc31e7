"""Our headers as the compiler read them before, which halves the time of compiling an op.

GCC keeps what it read of `backtrail/op.h` in a file of some 50 MB for each set of flags, and takes
it only where compiler and flags are the same. It is made at the second compilation with those
flags: one op alone would not be worth it. Clang goes without.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

_HEADER = Path("backtrail") / "op.h"
_USED = "used"  # a file that says: compiled with these flags before


def options(
    command: list[str],
    version: str,
    include: Path,
    cache: Path,
    check: Callable[[Path], None],
    locked: Callable[[Path], AbstractContextManager[None]],
    run: Callable[[list[str]], bool],
) -> list[str]:
    """Return what to put before the other options; nothing where there is no such file.

    `version` is what the compiler says of itself, `run` compiles and says whether that went well,
    `locked` keeps other processes from a folder, `check` refuses one that others may write to.
    """
    if "Free Software Foundation" not in version:
        return []
    key = hashlib.sha256(repr((command, version)).encode())
    for header in sorted((include / "backtrail").glob("*.h")):
        key.update(header.read_bytes())
    home = cache / f"headers-{key.hexdigest()[:16]}"
    made = home / f"{_HEADER}.gch"
    check(home)
    with suppress(OSError):  # a folder that cannot be written to: it goes without
        if _is_whole(made):
            return ["-isystem", str(home)]
        with locked(home):
            if not (home / _USED).exists():
                (home / _USED).touch()
                return []
            if not _is_whole(made):
                _make(command, include, home, made, run)
        if _is_whole(made):
            return ["-isystem", str(home)]
    return []


def _make(
    command: list[str], include: Path, home: Path, made: Path, run: Callable[[list[str]], bool]
) -> None:
    for old in _others(home):  # of headers or compilers that were: they will not be asked for again
        shutil.rmtree(old, ignore_errors=True)
    work = home / "building-header"
    work.mkdir(mode=0o700, exist_ok=True)
    target = work / "op.h.gch"
    if run([*command, "-x", "c++-header", str(include / _HEADER), "-o", str(target)]):
        made.parent.mkdir(exist_ok=True)
        Path(f"{made}.size").write_text(str(target.stat().st_size))
        os.replace(target, made)
    shutil.rmtree(work, ignore_errors=True)


def _is_whole(made: Path) -> bool:
    try:
        return made.stat().st_size == int(Path(f"{made}.size").read_text())
    except (OSError, ValueError):
        return False


def _others(home: Path, most: int = 4) -> Iterator[Path]:
    """Yield the oldest of the folders beside `home` but for a few."""
    found = [p for p in home.parent.glob("headers-*") if p != home and p.is_dir()]
    yield from sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)[most:]
