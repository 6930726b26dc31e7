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
    >>> ops = bt.cpp_extension.load("cubes", ["cube.cpp"])
    >>> ops.cube(x), x.cube(), bt.cube(x)

The op is a function and a method, works on every dtype, strides and broadcast, and has gradients of
every order: those of a built-in one. A library is compiled for the instruction set in use and kept
by the hash of its source, so that the next load takes a moment.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from . import _core, functional
from .derivatives import publish_derivative
from .elementwise import publish
from .tensor import ops


def _find_include() -> Path:
    """Return the folder of `backtrail/op.h`: in the package, beside _core, or in a checkout.

    An editable installation leaves the Python files in the checkout and puts the rest elsewhere.
    """
    package = Path(__file__).resolve().parent
    folders = (
        package / "include",
        Path(_core.__file__ or package).parent / "include",
        package.parent.parent / "csrc" / "include",
    )
    return next((f for f in folders if (f / "backtrail" / "op.h").exists()), folders[0])


INCLUDE = _find_include()
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
)
_TARGET_FLAGS = {
    "v2": ("-march=x86-64-v2",),
    "v3": ("-march=x86-64-v3",),
    "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
}
_loaded: dict[Path, SimpleNamespace] = {}


class BuildError(RuntimeError):
    """A user's library could not be compiled; the text is the compiler's."""


def include_paths() -> list[str]:
    """Return the folders that hold `backtrail/op.h`."""
    return [str(INCLUDE)]


def _cache_folder() -> Path:
    given = os.environ.get("BACKTRAIL_EXTENSIONS_DIR")
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(cache) / "backtrail"


def load(
    name: str,
    sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    extra_cflags: Sequence[str] = (),
    build_directory: str | os.PathLike[str] | None = None,
    verbose: bool = False,
) -> SimpleNamespace:
    """Compile C++ files that define ops with BACKTRAIL_OPS, load them, and return their functions.

    The functions are attributes of the result, methods of Tensor, and members of `backtrail`.
    Raises BuildError with the compiler's output, FileNotFoundError for a missing source,
    RuntimeError for a missing compiler, ValueError for an op's name that is taken.
    """
    files = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    texts = [Path(f).read_bytes() for f in files]
    library = _build(
        name, [Path(f) for f in files], texts, tuple(extra_cflags), build_directory, verbose
    )
    if library not in _loaded:
        _loaded[library] = _register(library)
    return _loaded[library]


def load_inline(name: str, cpp_sources: str | Sequence[str], **kwargs: Any) -> SimpleNamespace:
    """Compile ops from C++ text; the include of op.h may be left out. Otherwise as `load`."""
    texts = [cpp_sources] if isinstance(cpp_sources, str) else list(cpp_sources)
    folder = Path(kwargs.get("build_directory") or _cache_folder())
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{name}.cpp"
    body = "\n".join(texts)
    if "backtrail/op.h" not in body:
        body = "#include <backtrail/op.h>\nusing namespace backtrail;\n" + body
    if not source.exists() or source.read_text() != body:
        source.write_text(body)
    return load(name, [source], **kwargs)


def _build(
    name: str,
    files: list[Path],
    texts: list[bytes],
    extra: tuple[str, ...],
    folder: str | os.PathLike[str] | None,
    verbose: bool,
) -> Path:
    import hashlib
    import shutil
    import subprocess

    if not name.isidentifier():
        raise ValueError(f"cpp_extension: {name!r} is no name for a library: letters, digits")
    info = _core.build_info()
    compiler = os.environ.get("CXX", "c++")
    flags = [*_FLAGS, *_TARGET_FLAGS.get(info["isa"], ()), *extra, f"-I{INCLUDE}"]
    flags.append(f"-DBACKTRAIL_TARGET=user_{name}")
    headers = [p.read_bytes() for p in sorted((INCLUDE / "backtrail").glob("*.h"))]
    key = hashlib.sha256(b"\0".join([*texts, *headers, repr((compiler, flags)).encode()]))
    target = Path(folder) if folder is not None else _cache_folder()
    library = target / f"{name}-{key.hexdigest()[:16]}.so"
    if library.exists():
        return library
    found = shutil.which(compiler.split()[0])
    if found is None:
        raise RuntimeError(
            f"cpp_extension: no C++ compiler: {compiler!r} was not found; install g++ (or clang++) "
            f"or name one in the environment variable CXX"
        )
    target.mkdir(parents=True, exist_ok=True)
    unfinished = library.with_suffix(f".{os.getpid()}.tmp")
    command = [*compiler.split(), *flags, *map(str, files), "-o", str(unfinished)]
    if verbose:
        print(" ".join(command))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        unfinished.unlink(missing_ok=True)
        raise BuildError(f"cpp_extension: {name} did not compile\n{done.stderr.strip()}")
    os.replace(unfinished, library)  # two processes may build the same library at once
    return library


def _register(library: Path) -> SimpleNamespace:
    functions = {}
    for op in _core.load_library(str(library)):
        ops[op.name] = op
        publish_derivative(op)
        functions[op.name] = publish(op)
        setattr(functional, op.name, functions[op.name])
    return SimpleNamespace(**functions)
