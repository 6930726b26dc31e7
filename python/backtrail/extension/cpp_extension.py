"""Build and load ops that a user wrote in C++.

    // cube.cpp
    #include <backtrail/op.h>
    struct Cube {
      static constexpr auto name = "cube";
      static constexpr auto doc = "input * input * input.";
      template <class V> static V forward(V x) { return x * x * x; }
    };
    BACKTRAIL_OPS(Cube)

    >>> import backtrail as bt
    >>> ops = bt.cpp_extension.load("cube.cpp")
    >>> ops.cube(x), x.cube(), bt.cube(x)

The op is a function and a method, works on every dtype, strides and broadcast, and has gradients of
every order: those of a built-in one. What was compiled is kept: the next load takes a moment.

A package that ships its ops compiled builds them with `find_package(backtrail)` in CMake, which
finds us by `cmake_path`, and loads them with `load_library`; `backtrail new-op` writes one.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace

from .. import _core
from . import foreign
from .compiler import INCLUDE, BuildError, Source, build

__all__ = [
    "BuildError",
    "Ops",
    "cmake_path",
    "include_paths",
    "load",
    "load_inline",
    "load_library",
]

_ISAS = ("v2", "v3", "v4")  # each runs what those before it run
_loaded: dict[str, tuple[Path, Ops]] = {}  # by source
_lock = threading.RLock()


class Ops(SimpleNamespace):
    """The functions of the ops of one library."""

    def __repr__(self) -> str:
        from inspect import signature

        ops = (f"{name}{signature(f)}".replace("'", "") for name, f in vars(self).items())
        return f"<ops {', '.join(ops)}>"


def load(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    name: str | None = None,
    extra_cflags: Sequence[str] = (),
    build_directory: str | os.PathLike[str] | None = None,
    verbose: bool = False,
) -> Ops:
    """Compile C++ files that define ops with BACKTRAIL_OPS, load them, and return their functions.

    The functions are attributes of the result, methods of Tensor, and members of `backtrail`. The
    compiler is `c++`, or what the environment variable CXX names; libraries are kept in
    `build_directory`, BACKTRAIL_EXTENSIONS_DIR or ~/.cache/backtrail, under `name` (by default the
    first file's). `verbose` prints the commands and all that the compiler says.

    Raises BuildError with the compiler's first errors, for a missing compiler, and for a folder
    that cannot be written to; FileNotFoundError for a missing source; ValueError for an op's name
    that is taken.
    """
    files = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if not files:
        raise ValueError("cpp_extension.load: got no source file")
    found = [Source(Path(os.path.abspath(file)), os.fspath(file)) for file in files]
    name = _checked(name or re.sub(r"\W", "_", found[0].path.stem))
    library = build(name, found, extra_cflags, build_directory, verbose)
    return _register(library, ", ".join(str(file.path) for file in found))


def load_inline(
    source: str,
    *,
    name: str | None = None,
    extra_cflags: Sequence[str] = (),
    build_directory: str | os.PathLike[str] | None = None,
    verbose: bool = False,
) -> Ops:
    """Compile ops from C++ text, load them, and return their functions; otherwise as `load`.

    Messages count the lines of the text. Where it does not include op.h, it starts as if it did,
    with `using namespace backtrail`.
    """
    first_op = re.search(r'\bname\s*=\s*"(\w+)"', source)
    name = _checked(name or (first_op[1] if first_op else "ops"))
    flags = list(extra_cflags)
    if "backtrail/op.h" not in source:
        flags += ["-include", str(INCLUDE / "backtrail" / "inline.h")]
    text = Source(Path(f"{name}.cpp"), f"<inline {name}>", source)
    return _register(build(name, [text], flags, build_directory, verbose), "<inline>")


def load_library(path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Ops:
    """Load ops that were compiled before, and return their functions.

    `path` names a library, or with its ending left out (`snake` for `snake.v3.so`, `snake.v4.so`,
    as CMake's `backtrail_add_ops` makes them) the one of several that suits the instruction set in
    use best. Of several paths the first that exists is taken: a package that may be installed in
    editable mode gives `[f"{folder}/snake" for folder in __path__]`.

    Raises FileNotFoundError when there is none, RuntimeError for a file that is no library of ops
    or was built for another version of the interface, ValueError for an op's name that is taken.
    """
    paths = [path] if isinstance(path, (str, os.PathLike)) else path
    stems = [os.fspath(p) for p in paths]
    isa = _core.build_info()["isa"]
    suitable = _ISAS[: _ISAS.index(isa) + 1][::-1] if isa in _ISAS else (isa,)
    for stem in stems:
        for candidate in [stem, *(f"{stem}.{isa}.so" for isa in suitable)]:
            if os.path.isfile(candidate):
                library = Path(candidate).absolute()
                _check_complete(library)
                return _register(library, str(library))
    raise FileNotFoundError(
        f"cpp_extension.load_library: there is no {' or '.join(stems)}, "
        f"nor with one of the endings {', '.join(f'.{isa}.so' for isa in suitable)}"
    )


def include_paths() -> list[str]:
    """Return the folders that hold `backtrail/op.h`."""
    return [str(INCLUDE)]


def cmake_path() -> str:
    """Return the folder where `find_package(backtrail)` of CMake looks: `-Dbacktrail_ROOT=FOLDER`.

    On the command line: `python -m backtrail.cpp_extension --cmake-dir`.
    """
    return str(Path(__file__).resolve().parents[1] / "cmake")


def _checked(name: str) -> str:
    if not re.fullmatch(r"\w+", name):
        raise ValueError(
            f"cpp_extension: the name {name!r} of a library must be letters, digits and underscores"
        )
    return name


def _check_complete(library: Path) -> None:
    """Raise if a file ends before its own last table: to load it would kill the process."""
    data = library.read_bytes()
    if data[:5] == b"\x7fELF\x02":  # the table of sections comes last
        table = int.from_bytes(data[40:48], sys.byteorder)
        entry, count = (int.from_bytes(data[i : i + 2], sys.byteorder) for i in (58, 60))
        if len(data) >= 64 and table + entry * count <= len(data):
            return
    raise RuntimeError(
        f"cpp_extension.load_library: {library} is not a complete shared library; build it again"
    )


def _register(library: Path, source: str) -> Ops:
    """Load a library; its ops replace those that the same source gave before."""
    with _lock:
        if source not in _loaded or _loaded[source][0] != library:
            _loaded[source] = library, Ops(**foreign.load_library(str(library), source))
        return _loaded[source][1]


def main() -> None:
    """Print where CMake finds the package, or a compiler the headers."""
    from argparse import ArgumentParser

    parser = ArgumentParser(prog="python -m backtrail.cpp_extension", description=main.__doc__)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--cmake-dir", action="store_true", help="for cmake -Dbacktrail_ROOT=")
    kind.add_argument("--include-dir", action="store_true", help="for the compiler's -I")
    print(cmake_path() if parser.parse_args().cmake_dir else include_paths()[0])
