"""Compiles a user's ops for the instruction set in use, and keeps libraries by their contents.

A library lives in `CACHE/NAME-HASH/`: the hash is that of the sources, the compiler, its flags and
our headers. The user's own headers are known once the compiler has listed them, so they are hashed
into the file's name. A library ends with a checksum of its own: one that is broken is built anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import _core
from . import precompiled


class BuildError(RuntimeError):
    """A user's library could not be built; the text says why, in the compiler's words if it can."""


class Source(NamedTuple):
    """One C++ file, what messages call it, and its text where that was given inline."""

    path: Path
    shown: str
    text: str | None = None


def find_include() -> Path:
    """Return the folder of `backtrail/op.h`: in the package, beside _core, or in a checkout.

    An editable installation leaves the Python files in the checkout and puts the rest elsewhere.
    """
    package = Path(__file__).resolve().parents[1]
    folders = (
        package / "include",
        Path(_core.__file__ or package).parent / "include",
        package.parent.parent / "csrc" / "include",
    )
    return next((f for f in folders if (f / "backtrail" / "op.h").exists()), folders[0])


INCLUDE = find_include()


def flags(kind: str) -> list[str]:
    """Return the flags of one line of flags.txt: all, warnings, link, or an instruction set."""
    text = (INCLUDE / "backtrail" / "flags.txt").read_text("utf-8")
    found = re.search(rf"^{kind}:(.*)$", text, re.M)
    return found[1].split() if found else []


def find_compiler() -> tuple[str, ...]:
    """Return the command of the compiler that CXX names, or the first of c++, g++ and clang++."""
    given = os.environ.get("CXX", "").strip()
    names = [given] if given else ["c++", "g++", "clang++"]
    for name in names:
        try:
            command = shlex.split(name)
        except ValueError as error:
            raise BuildError(f"cpp_extension: CXX={name!r} is no command: {error}") from None
        path = shutil.which(command[0])
        if path:
            return (path, *command[1:])
    raise BuildError(
        f"cpp_extension: no C++ compiler: {' or '.join(names)} was not found; install g++ "
        f"(or clang++), or name one in the environment variable CXX"
    )


@functools.lru_cache
def _version(compiler: tuple[str, ...]) -> str:
    """Return what a compiler says of itself: it stands for what it makes of a source."""
    return _ask([*compiler, "--version"]).stdout


@functools.lru_cache
def _standard(compiler: tuple[str, ...]) -> str:
    """Return the flag for the newest standard that the headers can use and the compiler knows."""
    for flag in ("-std=c++20", "-std=c++17"):
        tried = _ask([*compiler, flag, "-fsyntax-only", "-x", "c++", os.devnull])
        if tried.returncode == 0:
            return flag
    raise BuildError(
        f"cpp_extension: {shlex.join(compiler)} does not compile C++17:\n{tried.stderr[-500:]}"
    )


def _ask(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},  # its words in English, for `explain`
            check=False,
        )
    except OSError as error:
        raise BuildError(f"cpp_extension: cannot run {command[0]}: {error.strerror}") from None


def build(
    name: str,
    sources: Sequence[Source],
    extra_cflags: Sequence[str] = (),
    folder: str | os.PathLike[str] | None = None,
    verbose: bool = False,
) -> Path:
    """Return a library of the sources for the instruction set in use, compiled if it is not there.

    Processes that ask for the same library at once wait for the first. Raises BuildError, also for
    a folder that others may write to, and OSError for a source that cannot be read.
    """
    began = time.time_ns()
    for source in sources:
        if "\n" in source.shown:
            raise BuildError(f"cpp_extension: {source.shown!r} has a line break in its name")
    compiler = find_compiler()
    isa = _core.build_info()["isa"]
    compile = [*flags("all"), *flags("warnings"), *flags(isa), f"-DBACKTRAIL_TARGET={isa}"]
    compile += [*extra_cflags, "-isystem", str(INCLUDE)]
    link = [*flags("link"), *extra_cflags]  # for libraries, which come last
    key = hashlib.sha256(repr((compiler, _version(compiler), compile, link)).encode())
    for header in sorted((INCLUDE / "backtrail").glob("*.h")):
        key.update(header.read_bytes())
    for source in sources:
        text = source.path.read_bytes() if source.text is None else source.text.encode()
        key.update(b"\0" + os.fsencode(source.path) + b"\0" + text)
    home = cache_folder(folder) / f"{name}-{key.hexdigest()[:16]}"

    _check_owner(home)
    library = _find_kept(home)
    if library is None:
        try:
            with _locked(home):
                library = _find_kept(home)
                if library is None:
                    command = [*compiler, _standard(compiler), *compile]
                    command[len(compiler) : len(compiler)] = precompiled.options(
                        command,
                        _version(compiler),
                        INCLUDE,
                        home.parent,
                        _check_owner,
                        _locked,
                        lambda command: _ask(command).returncode == 0,
                    )
                    library = _compile(home, command, link, sources, began, verbose)
        except OSError as error:
            raise BuildError(
                f"cpp_extension: cannot write {error.filename or home} ({error.strerror}). "
                f"Libraries are built and kept in {home.parent}; name another folder in the "
                f"environment variable BACKTRAIL_EXTENSIONS_DIR, or as build_directory"
            ) from error
    return library


def cache_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that libraries are kept in."""
    given = given or os.environ.get("BACKTRAIL_EXTENSIONS_DIR")
    if given:
        return Path(given).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(cache) / "backtrail"


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Keep other processes and threads from building in a folder; a lock dies with its process."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        home.mkdir(mode=0o700)  # what lies in it is loaded into the process
    _check_owner(home)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(home / "lock", flags, 0o600), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: all build, the last stays
            yield
            return
        for left in home.glob("building-*"):  # by a process that was killed: we have the lock
            shutil.rmtree(left, ignore_errors=True)
        yield


def _check_owner(home: Path) -> None:
    """Raise for a folder that is another user's, or that others may write to.

    Its library would run as us, and its links would lead our writes anywhere.
    """
    try:
        found = os.lstat(home)
    except (FileNotFoundError, NotADirectoryError):  # nothing is there to be loaded
        return
    if not stat.S_ISDIR(found.st_mode):
        raise BuildError(f"cpp_extension: {home} is no folder (links are not followed); remove it")
    if found.st_uid != os.geteuid():
        raise BuildError(
            f"cpp_extension: {home} belongs to another user (number {found.st_uid}), whose library "
            f"would run as you; name another folder in BACKTRAIL_EXTENSIONS_DIR, or as "
            f"build_directory"
        )
    if found.st_mode & 0o022:
        os.chmod(home, stat.S_IMODE(found.st_mode) & ~0o022)
        for entry in os.scandir(home):  # others may have put anything there
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def _write(path: Path, data: bytes) -> None:
    """Write a file that no link leads elsewhere."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)


def _find_kept(home: Path) -> Path | None:
    """Return the library made with the user's headers as they are now, if it is there and whole."""
    try:
        library = _library_path(home, os.fsdecode((home / "headers").read_bytes()).splitlines())
        data = library.read_bytes()
    except (OSError, ValueError):
        return None
    return library if data[-32:] == hashlib.sha256(data[:-32]).digest() else None


def _library_path(home: Path, headers: Sequence[str]) -> Path:
    key = hashlib.sha256()
    for header in headers:
        key.update(os.fsencode(header) + b"\0" + Path(header).read_bytes())
    return home / f"{home.name.rpartition('-')[0]}-{key.hexdigest()[:16]}.so"


def _compile(
    home: Path,
    command: list[str],
    link: list[str],
    sources: Sequence[Source],
    began: int,
    verbose: bool,
) -> Path:
    """Compile and link a library, and put it in its place when it is whole."""
    import tempfile

    with tempfile.TemporaryDirectory(dir=home, prefix="building-") as folder:
        work = Path(folder)
        names, objects, headers = dict[str, str](), list[str](), set[str]()
        for i, source in enumerate(sources):
            path, listing = source.path, work / f"{i}.d"
            if source.text is not None:
                path = home / source.path
                _write(path, source.text.encode())
            names[str(path)] = source.shown
            objects.append(str(work / f"{i}.o"))
            options = ["-c", str(path), "-o", objects[-1], "-MMD", "-MF", str(listing)]
            _run([*command, *options], home, names, verbose)
            headers |= _listed(listing)
        headers -= set(names)
        library = work / "library.so"
        options = ["-shared", *objects, "-o", str(library), *link]
        _run([*command, *options], home, names, verbose)
        for file in [*headers, *(str(s.path) for s in sources if s.text is None)]:
            if _changed_since(file, began):
                raise BuildError(f"cpp_extension: {file} changed while it was compiled; load again")
        data = library.read_bytes()
        library.write_bytes(data + hashlib.sha256(data).digest())
        (work / "headers").write_bytes(os.fsencode("\n".join(sorted(headers))))
        target = _library_path(home, sorted(headers))
        os.replace(library, target)
        os.replace(work / "headers", home / "headers")
    return target


def _run(command: list[str], home: Path, names: dict[str, str], verbose: bool) -> None:
    """Run the compiler; what it says of a failure stays in `log.txt`, and is told shortened."""
    done = _ask(command)
    if verbose:
        print(shlex.join(command), done.stderr, sep="\n", end="")
    if done.returncode:
        log = home / "log.txt"
        _write(log, f"{shlex.join(command)}\n{done.stderr}".encode(errors="backslashreplace"))
        raise BuildError(
            f"cpp_extension: {', '.join(names.values())} did not compile\n"
            f"{explain(done.stderr, names)}\nAll that the compiler said: {log}"
        )


def _listed(dependencies: Path) -> set[str]:
    """Return the files in a list for make, as absolute paths."""
    try:
        text = os.fsdecode(dependencies.read_bytes()).partition(": ")[2].replace("\\\n", " ")
    except FileNotFoundError:
        raise BuildError(
            "cpp_extension: the compiler made nothing of the source: its name must end as those of "
            "C++ do (.cpp), and CXX must name a compiler"
        ) from None
    files = re.findall(r"(?:\\ |\S)+", text)
    return {os.path.abspath(re.sub(r"\\([ #])", r"\1", file).replace("$$", "$")) for file in files}


def _changed_since(file: str, began: int) -> bool:
    try:
        return began < os.stat(file).st_mtime_ns <= time.time_ns()  # not by a clock that is ahead
    except OSError:
        return True


_MESSAGE = re.compile(r"(\S[^:]*:\d+(?::\d+)?): (fatal error|error|warning|note): ")
_CONTEXT = re.compile(r"In file included| +from |\S[^:]*: (In|At) |\S[^:]*:\d+:\d+:   ")
_SHOWN = 3


def explain(said: str, names: dict[str, str]) -> str:
    """Shorten a compiler's messages to its first errors, each once, those in the user's files.

    `names` says what to call the files that were compiled. How templates led there is left out; a
    note stays where it points into the user's code.
    """
    errors: dict[str, list[str]] = {}  # by place: the same is said again for every type
    lines: list[str] | None = None  # those of the message being read; None: it is left out
    op = ""
    for line in said.splitlines():
        message = _MESSAGE.match(line)
        if message:
            place, kind = message.groups()
            if kind.endswith("error"):
                lines = None if place in errors else errors.setdefault(place, [])
                line += f" [op {op}]" if op and _is_foreign(place) else ""
            elif kind == "warning" or _is_foreign(place):
                lines = None
            op = ""
        elif _CONTEXT.match(line):
            op = (re.findall(r"\bOp = \{?(\w+)", line) or [op])[0]
            continue
        if lines is not None:
            lines.append(line)
    own = [lines for place, lines in errors.items() if not _is_foreign(place)]
    chosen = (own or list(errors.values()))[:_SHOWN]
    if chosen:
        told = [line for lines in chosen for line in lines[:12]]
        more = len(errors) - len(chosen)
        told += [f"... and {more} more error{'s' if more > 1 else ''}"] if more else []
    else:  # of the linker, or of a compiler that broke
        undefined = dict.fromkeys(re.findall(r"undefined reference to .*", said))
        told = list(undefined)[:_SHOWN] or said.splitlines()[-12:]
    text = re.sub(r"\bbacktrail::(\w+::)?(?=\w)", "", "\n".join(told))
    for path, name in {**names, f"{INCLUDE}{os.sep}": ""}.items():
        text = text.replace(path, name)
    return text


def _is_foreign(place: str) -> bool:
    """Whether a place is in a header of ours or of the system."""
    return place.startswith((str(INCLUDE), "/usr/include")) or bool(
        re.search(r"/include/c\+\+/|/lib/gcc/", place)
    )
