"""Truncated, flipped, spliced and hostile checkpoints through load, sample and train --resume.

    python tests/fuzz/checkpoints.py --seconds 60 --seed 1

A finding is: a signal, a hang, code that ran, an error that is no CheckpointError, a traceback of
the command line, or contents that differ from what was saved although no one redid the checksum.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import sys
import tempfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from children import HEAD, Case, arguments, fuzz

LOAD = "r = bt.load('x.st')"
KNOWN = "r = bt.load('x.st')  # must be what was saved, or refused"
COMMANDS = [
    "from backtrail.cli import main\nstatus = main(['sample', 'x.st', '--n', '2'])",
    "from backtrail.cli import main\nstatus = main(['train', '--resume', '--out', 'x.st'])",
]
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    7,
    2**31,
    2**62,
    2**63,
    2**70,
    -(2**63),
    0.5,
    1e308,
    "",
    "x",
    "F32",
    "nan",
    "../../x",
    "\0",
    "eval",
    "os.system",
    [],
    [0],
    [2**62, 2**62, 0],
    [[]],
    {},
    {"a": 1},
    {"tensor": "w"},
    {"dict": []},
    {"dict": [[[], 1]]},
    {"tuple": [1]},
    {"float": "inf"},
    {"bytes": "w"},
    {"ndarray": "w", "dtype": "|O8", "shape": [1]},
    {"ndarray": "w", "dtype": "<f8", "shape": [2**40]},
    {"scalar": {"ndarray": "w"}},
    {"range": [0, 2**70, 1]},
    {"size": [-1]},
    {"dtype": "float32"},
    {"defaultdict": ["eval", []]},
    {"set": [1, [2]]},
    {"complex": [1, "x"]},
    {"slice": [1, 2, 3]},
]


class Bomb:
    """What a pickle must never get to do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


class Files:
    """An endless stream of cases from one seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.plain = plain_files()
        self.run = run_file(folder)

    def __iter__(self) -> Iterator[Case]:
        ways: list[Callable[[bytes], bytes]] = [self.cut, self.flip, self.splice, self.wipe]
        while True:
            what = self.rng.random()
            if what < 0.35:
                data = self.rng.choice(self.plain)
                way = self.rng.choice(ways)
                yield Case(f"load, {way.__name__}", KNOWN, {"x.st": way(data), "was.st": data})
            elif what < 0.65:
                data = self.rewritten(self.rng.choice([*self.plain, self.run]))
                yield Case("load, rewritten", LOAD, {"x.st": data})
            elif what < 0.7:
                yield Case("load, foreign", LOAD, {"x.st": self.foreign()})
            else:
                code = self.rng.choice(COMMANDS)
                data = self.odd_run() if what < 0.9 else self.rng.choice(ways)(self.run)
                yield Case(code.split("'")[1], code, {"x.st": data})

    # Damage that knows nothing of the format

    def cut(self, data: bytes) -> bytes:
        return data[: self.rng.randrange(len(data))]

    def flip(self, data: bytes) -> bytes:
        damaged = bytearray(data)
        for _ in range(self.rng.choice([1, 1, 1, 2, 8])):
            damaged[self.place(data)] ^= 1 << self.rng.randrange(8)
        return bytes(damaged)

    def splice(self, data: bytes) -> bytes:
        other = self.rng.choice(self.plain)
        a, b = self.place(data), self.place(other)
        if self.rng.random() < 0.5:
            return data[:a] + other[b:]
        return data[:a] + other[b : b + self.rng.choice([1, 8, 64])] + data[a:]

    def wipe(self, data: bytes) -> bytes:
        a = self.place(data)
        n = self.rng.choice([1, 8, 100])
        fill = self.rng.choice([b"\0", b"\xff", b"[", b"9", b'"'])
        return data[:a] + fill * len(data[a : a + n]) + data[a + n :]

    def place(self, data: bytes) -> int:
        head = 8 + int.from_bytes(data[:8], "little")
        return self.rng.randrange(min(head, len(data)) if self.rng.random() < 0.7 else len(data))

    # Files that are well made, and say odd things

    def rewritten(self, data: bytes) -> bytes:
        header, body = unpack(data)
        meta = header["__metadata__"]
        target = self.rng.random()
        if target < 0.6:
            structure = json.loads(meta["structure"])
            for _ in range(self.rng.choice([1, 1, 2, 5])):
                structure = self.mutated(structure)
            meta["structure"] = json.dumps(structure)
        elif target < 0.9:
            header = self.mutated(header)
        else:
            body = self.wipe(b"\0" * 8 + body)[8:]
        return repack(header, body)

    def mutated(self, node: Any, depth: int = 0) -> Any:
        """Replace one thing somewhere in a tree of JSON."""
        if not isinstance(node, (dict, list)) or not node or self.rng.random() < 0.08 * depth:
            nest = [node] * self.rng.choice([0, 1, 2]) if self.rng.random() < 0.1 else None
            return nest if nest is not None else self.rng.choice(ODD)
        if isinstance(node, dict):
            key = self.rng.choice(list(node))
            if self.rng.random() < 0.1:
                return {k: v for k, v in node.items() if k != key}
            return {**node, key: self.mutated(node[key], depth + 1)}
        i = self.rng.randrange(len(node))
        if self.rng.random() < 0.1:
            return node[:i] + node[i + 1 :]
        return [*node[:i], self.mutated(node[i], depth + 1), *node[i + 1 :]]

    def odd_run(self) -> bytes:
        """Change one thing in what a run keeps: a setting, a count, a state, a weight."""
        import backtrail as bt

        state = bt.load(io.BytesIO(self.run))
        node, path = state, list[Any]()
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = self.rng.choice(keys)
            path.append(key)
            below = node[key]
            if not isinstance(below, (dict, list)) or not below or self.rng.random() < 0.1:
                break
            node = below
        tensors = [bt.zeros(0), bt.ones(1), bt.ones(3, 3), bt.arange(5), bt.tensor([float("nan")])]
        if self.rng.random() < 0.1 and isinstance(node, dict):
            del node[key]
        else:
            odd = [thing for thing in ODD if not isinstance(thing, (dict, list))]
            node[key] = self.rng.choice([*odd, [], {}, (), [1, 2], b"x", 1j, *tensors])
        out = io.BytesIO()
        bt.save(state, out)
        return out.getvalue()

    def foreign(self) -> bytes:
        kind = self.rng.randrange(5)
        if kind == 0:
            return pickle.dumps({"model": Bomb()}, self.rng.randrange(6))
        if kind == 1:
            import zipfile

            out = io.BytesIO()
            with zipfile.ZipFile(out, "w") as file:
                file.writestr("archive/data.pkl", pickle.dumps(Bomb(), 2))
            return out.getvalue()
        if kind == 2:
            return self.rng.randbytes(self.rng.choice([0, 1, 8, 9, 100]))
        if kind == 3:
            return (
                (2 ** self.rng.randrange(64)).to_bytes(8, "little") + b"{" + self.rng.randbytes(20)
            )
        deep = self.rng.choice([10, 1000, 100_000])
        text = b'{"a":' + self.rng.choice([b"[", b'{"a":']) * deep
        return len(text).to_bytes(8, "little") + text


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def repack(header: Any, body: bytes) -> bytes:
    """Return a file with the right checksum, where there is a place for one."""
    if isinstance(header, dict) and isinstance(header.get("__metadata__"), dict):
        header["__metadata__"]["backtrail.crc32"] = "00000000"
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = len(text).to_bytes(8, "little") + text + body
    return data.replace(b'crc32":"00000000', b'crc32":"%08x' % zlib.crc32(data), 1)


def plain_files() -> list[bytes]:
    import backtrail as bt
    import numpy as np

    files = []
    for thing in (
        {"w": bt.arange(8.0), "b": bt.tensor([True, False]), "n": [1, 2.5, None, "text"]},
        [bt.Size([1, 2]), {1, "a"}, b"bytes", 1 + 2j, np.arange(3), np.int8(3), bt.float32],
        OrderedDict(
            a=Counter("hello"), b=(1, (2, (3,))), c=range(3), w=bt.nn.Parameter(bt.ones(2))
        ),
        bt.nn.Linear(3, 2).state_dict(),
    ):
        out = io.BytesIO()
        bt.save(thing, out)
        files.append(out.getvalue())
    return files


def run_file(folder: Path) -> bytes:
    """Return a run of three steps of six."""
    import backtrail as bt
    from backtrail.cli import main

    out = folder / "run.st"
    size = ["--n-embd", "4", "--n-head", "2", "--block-size", "4", "--steps", "3"]
    sys.modules.setdefault("matplotlib", None)  # type: ignore[arg-type]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert main(["train", "--out", str(out), *size]) == 0
    state = bt.load(out)
    state["extra"]["settings"]["steps"] = 6
    bt.save(state, out)
    return out.read_bytes()


# In the child

ran: list[str] = []
FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.mkdir")


def listen(event: str, _: Any) -> None:
    if event in FORBIDDEN or event.startswith(("pickle.", "ctypes.")):
        ran.append(event)


def check(code: str) -> dict[str, str]:
    """Run a snippet on the files; return what is wrong, or nothing."""
    import backtrail as bt
    from backtrail.serialization import CheckpointError

    sys.modules.setdefault("matplotlib", None)  # type: ignore[arg-type]
    if not getattr(sys, "listens", False):
        import backtrail.cli

        sys.addaudithook(listen)
        sys.listens = True  # type: ignore[attr-defined]
    out, err, space = io.StringIO(), io.StringIO(), dict[str, Any]()
    exec(HEAD, space)
    ran.clear()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            exec(code, space)
        error: BaseException | None = None
    except BaseException as raised:
        error = raised
    if ran:
        return {"kind": "code ran", "what": ", ".join(ran)}
    if "status" in code:
        said = err.getvalue()
        if error is not None or "Traceback" in said:
            import traceback

            place = traceback.extract_tb(error.__traceback__)[-1] if error else ""
            return {"kind": "traceback", "what": f"{type(error).__name__}: {error} {place}"[:400]}
        if space["status"] not in (0, 1, 2):
            return {"kind": "status", "what": f"{space['status']}: {said[-200:]}"}
        return {}
    if isinstance(error, CheckpointError):
        return {}
    if error is not None:
        return {"kind": "class", "what": f"{type(error).__name__}: {error}"[:300]}
    if "# must be" in code:
        # repr tells neither 1 from True's hash nor a parameter's bits; both were made by save.
        was = bt.load("was.st")
        if told(space["r"]) != told(was):
            return {"kind": "other values", "what": told(space["r"])[:300]}
    return {}


def told(thing: Any) -> str:
    """Return all of the values in a text; names of tensors that only carry data may differ."""
    return re.sub(r"\s+", " ", repr(thing))


if __name__ == "__main__":
    given = arguments("Feed damaged and hostile checkpoints to load, sample and train --resume.")
    with tempfile.TemporaryDirectory() as name:
        files = Files(given.seed, Path(name))
        kinds = fuzz(Path(__file__).resolve(), files, given.seconds, Path(name))
    raise SystemExit(1 if kinds else 0)
