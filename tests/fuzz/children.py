"""Snippets in processes of their own: a crash or a hang ends the child, never the fuzzer.

The parent sends a snippet and the name of a check; the child runs it and answers with one line of
JSON. As a program, this file is the child.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

MEMORY = 3 << 30  # bytes of address space: what wants more gets a MemoryError
PATIENCE = 60  # seconds for one snippet, on a machine that does other things as well
FRESH_AFTER = 400  # snippets: then another child, so that none of them lives on what others left

HEAD = """import numpy as np
import backtrail as bt
import backtrail.nn.functional as F
from backtrail import nn
"""


class Case(NamedTuple):
    """A snippet, what it is about, and the files that it finds in its folder."""

    subject: str
    code: str
    files: Mapping[str, bytes] = MappingProxyType({})


class Finding(NamedTuple):
    """What is wrong with a snippet; `kind` is one word, for grouping."""

    kind: str
    what: str
    case: Case
    alone: bool = True  # it shows in a child of its own


class Child:
    """One child; `ask` returns its answer, or why there is none."""

    def __init__(self, check: Path, folder: Path) -> None:
        read, write = os.pipe()
        environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(check), str(write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[write],
            cwd=folder,
            env=environment,
        )
        os.close(write)
        self.answers = os.fdopen(read, "rb")
        self.asked = 0

    def ask(self, case: Case) -> dict[str, str]:
        """Return {} where all is well, or {"kind": ..., "what": ...}."""
        self.asked += 1
        files = {name: base64.b64encode(data).decode() for name, data in case.files.items()}
        line = json.dumps({"code": case.code, "files": files}) + "\n"
        assert self.process.stdin
        try:
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return self._ended()
        if not select.select([self.answers], [], [], PATIENCE)[0]:
            self.stop()
            return {"kind": "hang", "what": f"no end after {PATIENCE} s"}
        answer = self.answers.readline()
        return json.loads(answer) if answer else self._ended()

    def _ended(self) -> dict[str, str]:
        status = self.process.wait()
        assert self.process.stderr
        said = self.process.stderr.read().decode(errors="replace").strip().splitlines()[-6:]
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return {"kind": "crash", "what": "\n".join([name, *said])}

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.answers.close()
        for pipe in (self.process.stdin, self.process.stderr):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def fuzz(
    check: Path,
    cases: Iterable[Case],
    seconds: float,
    folder: Path,
    left_out: frozenset[str] = frozenset(),
) -> int:
    """Run cases until the time is up, print each kind of finding once, return how many kinds."""
    end, child, count = time.monotonic() + seconds, Child(check, folder), 0
    found: dict[tuple[str, str, str], int] = {}
    for case in cases:
        if time.monotonic() > end:
            break
        if child.asked >= FRESH_AFTER:
            child.stop()
            child = Child(check, folder)
        count += 1
        answer = child.ask(case)
        if answer.get("kind") in ("crash", "hang"):
            child.stop()
            child = Child(check, folder)
        if not answer or answer["kind"] in left_out:
            continue
        key = (answer["kind"], case.subject, re.sub(r"[-\d.]+", "#", answer["what"])[:60])
        found[key] = found.get(key, 0) + 1
        if found[key] > 1:
            continue
        alone = Child(check, folder)
        same = alone.ask(case).get("kind") == answer["kind"]
        alone.stop()
        tell(Finding(answer["kind"], answer["what"], case, same))
    child.stop()
    kinds = len(found)
    print(f"{count:,} snippets in {seconds:g} s: {kinds} kinds of findings", flush=True)
    for (kind, subject, _), times in sorted(found.items()):
        print(f"  {kind:12s} {subject:40s} {times} times")
    return kinds


def tell(finding: Finding) -> None:
    """Print a finding with its snippet, ready to paste."""
    bar = "-" * 78
    where = "" if finding.alone else " (not in a process of its own: it needs those before it)"
    print(f"{bar}\n{finding.kind}: {finding.case.subject}{where}\n{finding.what}\n")
    for name, data in finding.case.files.items():
        text = base64.b64encode(data).decode()
        if len(text) > 4000:
            kept = Path(tempfile.gettempdir(), f"fuzz-{zlib.crc32(data):08x}-{name}")
            kept.write_bytes(data)
            print(f"import shutil; shutil.copy({str(kept)!r}, {name!r})")
        else:
            print(f"import base64; open({name!r}, 'wb').write(base64.b64decode({text!r}))")
    print(f"{HEAD}{finding.case.code}", flush=True)


def arguments(description: str) -> argparse.Namespace:
    """Read --seconds, --seed and --strict."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long [60]")
    parser.add_argument("--strict", action="store_true", help="count unclear errors as well")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="which cases [1]")
    return parser.parse_args()


def main() -> None:
    """Be the child: answer every line of stdin."""
    import importlib.util

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    spec = importlib.util.spec_from_file_location("check", sys.argv[1])
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["check"] = module
    spec.loader.exec_module(module)
    check: Callable[[str], dict[str, str]] = module.check
    answers = os.fdopen(int(sys.argv[2]), "w")
    for line in sys.stdin:
        case: dict[str, Any] = json.loads(line)
        for name, data in case["files"].items():
            Path(name).write_bytes(base64.b64decode(data))
        try:
            answer = check(case["code"])
        except BaseException:
            answer = {"kind": "checker", "what": traceback.format_exc()[-1500:]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
