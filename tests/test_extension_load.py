"""Compiling and loading a user's ops: the cache, processes at once, and all that can break."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import backtrail as bt
import pytest
from backtrail import _core
from backtrail.cpp_extension import BuildError, load, load_inline, load_library
from backtrail.extension import compiler

LINES = """\
#include <backtrail/op.h>
struct Op {{
  static constexpr auto name = "{name}";
  static constexpr auto doc = "input times {factor}.";
  template <class V> static V forward(V x) {{ return x * V({factor}); }}
}};
BACKTRAIL_OPS(Op)
"""


def source(name: str, factor: object = 2) -> str:
    return LINES.format(name=name, factor=factor)


def plain(value: object = 2) -> str:
    """A source without an op, for libraries that are built but not loaded: quick to compile."""
    return f"int f() {{ return {value}; }}\n"


@pytest.fixture
def cache(extension_cache: Path) -> Path:
    return extension_cache


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that compile or link."""
    commands: list[list[str]] = []
    run = compiler._run

    def recorded(command: list[str], *rest: object) -> None:
        commands.append(command)
        run(command, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(compiler, "_run", recorded)
    return commands


def python(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start code in another process."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


# What is kept


def test_a_file_and_the_same_file_again(tmp_path: Path, cache: Path, runs: list[list[str]]) -> None:
    file = tmp_path / "twice.cpp"
    file.write_text(source("twice_for_test"))
    ops = load(file)
    assert repr(ops).startswith("<ops twice_for_test(input")
    assert bt.equal(ops.twice_for_test(bt.ones(3)), bt.full((3,), 2.0))
    assert len(runs) == 2
    assert load(file) is ops
    assert len(runs) == 2
    assert {p.name.rpartition("-")[0] for p in cache.iterdir()} - {"headers"} == {"twice"}
    home = next(cache.glob("twice-*"))
    assert sorted(p.suffix for p in home.iterdir()) == ["", "", ".so"]  # headers and lock


def test_the_users_headers_are_looked_at(
    tmp_path: Path, cache: Path, runs: list[list[str]]
) -> None:
    """Other contents make another library, and those from before are still there."""
    header, file = tmp_path / "the factor.h", tmp_path / "scaled.cpp"
    file.write_text('#include "the factor.h"\n' + plain("kFactor"))
    made = []
    for factor in (3, 4, 3):
        header.write_text(f"constexpr int kFactor = {factor};\n")
        made.append(compiler.build("scaled", [compiler.Source(file, "scaled.cpp")]))
    assert made[0] == made[2] != made[1]
    assert len(runs) == 4
    header.unlink()
    with pytest.raises(BuildError, match=r"scaled.cpp:1:10: fatal error: the factor.h"):
        load(file)


def test_what_a_library_depends_on(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "flags.cpp"
    file.write_text(plain("FACTOR"))
    sources = [compiler.Source(file, "flags.cpp")]
    two = compiler.build("flags", sources, ["-DFACTOR=2"])
    three = compiler.build("flags", sources, ["-DFACTOR=3"])
    assert two.parent != three.parent
    assert compiler.build("flags", sources, ["-DFACTOR=2"]) == two


def test_several_files(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "parts.h").write_text("double part();\n")
    (tmp_path / "1-of 2.cpp").write_text(
        '#include "parts.h"\n' + source("joined_for_test", "part()")
    )
    (tmp_path / "two.cpp").write_text('#include "parts.h"\ndouble part() { return 7; }\n')
    ops = load([tmp_path / "1-of 2.cpp", tmp_path / "two.cpp"])
    assert ops.joined_for_test(bt.ones(1)).item() == 7


def test_a_broken_library_in_the_cache_is_built_anew(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "broken.cpp"
    file.write_text(plain())
    sources = [compiler.Source(file, "broken.cpp")]
    library = compiler.build("broken", sources)
    whole = library.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    for broken in (b"", b"not a library", whole[:middle], flipped):
        library.write_bytes(broken)
        assert compiler._find_kept(library.parent) is None
    assert compiler.build("broken", sources) == library
    assert library.stat().st_size == len(whole)
    (library.parent / "headers").write_bytes(b"\xff\0/no/such/file\n")
    assert compiler._find_kept(library.parent) is None
    assert compiler.build("broken", sources) == library


def test_another_process_finds_it_quickly(tmp_path: Path, cache: Path) -> None:
    """50 ms on a quiet machine; the bound leaves room for one that is busy. Best of five."""
    file = tmp_path / "quick.cpp"
    file.write_text(source("quick_for_test"))
    compiler.build("quick", [compiler.Source(file, "quick.cpp")])
    code = """if 1:
        import sys, time, backtrail as bt
        begin = time.perf_counter()
        ops = bt.cpp_extension.load(sys.argv[1])
        print(time.perf_counter() - begin)
    """
    assert min(float(result(python(code, file))) for _ in range(5)) < 0.1


def test_threads_at_once_build_once(tmp_path: Path, cache: Path, runs: list[list[str]]) -> None:
    file = tmp_path / "threads.cpp"
    file.write_text(source("threads_for_test"))
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(load, [file] * 4))
    assert all(ops is made[0] for ops in made)
    assert len(runs) == 2


def test_a_file_loaded_again_after_an_edit(tmp_path: Path, cache: Path) -> None:
    """As in a notebook: its ops are replaced, what was recorded before keeps those it had."""
    file = tmp_path / "edited.cpp"
    x = bt.ones(2, requires_grad=True)
    file.write_text(source("edited_for_test"))
    first = load(file)
    before = first.edited_for_test(x)
    file.write_text(source("edited_for_test", 3))
    second = load(file)
    assert second.edited_for_test(x).tolist() == [3.0, 3.0]
    assert bt.edited_for_test(x).tolist() == x.edited_for_test().tolist() == [3.0, 3.0]
    before.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 2.0]
    file.write_text(source("edited_for_test"))
    assert load(file).edited_for_test(x).tolist() == [2.0, 2.0]
    other = tmp_path / "other.cpp"
    other.write_text(source("edited_for_test", 4))
    with pytest.raises(ValueError, match="edited_for_test"):
        load(other)
    assert bt.edited_for_test(x).tolist() == [2.0, 2.0]


def test_processes_at_once_build_once(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "shared.cpp"
    file.write_text(source("shared_for_test", 5))
    wrapper = tmp_path / "counting-c++"
    count = tmp_path / "count"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {count}\nexec c++ "$@"\n')
    wrapper.chmod(0o755)
    code = """if 1:
        import sys, backtrail as bt
        print(bt.cpp_extension.load(sys.argv[1]).shared_for_test(bt.ones(1)).item(), end="")
    """
    processes = [python(code, file, CXX=str(wrapper)) for _ in range(3)]
    assert [result(p) for p in processes] == ["5.0"] * 3
    assert count.read_text().count(" -shared ") == 1
    assert not list(cache.glob("*/building-*"))


def test_a_process_that_is_killed_blocks_nobody(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "killed.cpp"
    file.write_text(plain())
    slow = tmp_path / "slow-c++"
    slow.write_text('#!/bin/sh\ncase "$*" in *-shared*) exec sleep 60;; *) exec c++ "$@";; esac\n')
    slow.chmod(0o755)
    code = """if 1:
        import pathlib, sys
        from backtrail.extension import compiler
        file = pathlib.Path(sys.argv[1])
        print(compiler.build("killed", [compiler.Source(file, file.name)]).suffix, end="")
    """
    process = python(code, file, CXX=str(slow))
    deadline = time.monotonic() + 60
    while not list(cache.glob("*/building-*/0.o")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    slow.write_text('#!/bin/sh\nexec c++ "$@"\n')
    assert result(python(code, file, CXX=str(slow))) == ".so"


# Inline


def test_inline_text_from_a_notebook(cache: Path, tmp_path: Path) -> None:
    """No file of its own, nothing on the standard streams, another working directory."""
    code = f"import backtrail as bt; ops = bt.cpp_extension.load_inline({source('cell_op')!r}); "
    code += "x = bt.ones(2); assert ops.cell_op(x).tolist() == [2.0, 2.0]"
    process = python(f"exec(compile({code!r}, '<cell>', 'exec'), dict(__name__='__main__'))")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "", "")


def test_inline_text_without_the_include(cache: Path) -> None:
    text = source("plain_for_test").replace("#include <backtrail/op.h>", "constexpr Reads r{};")
    assert load_inline(text).plain_for_test(bt.ones(1)).item() == 2


# What the compiler says


def mistake(line: str, name: str = "mistake_for_test") -> str:
    return source(name).replace("return x * V(2);", line)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (mistake("return no_such_function(x);"), "5:", "no_such_function"),
        (mistake("return x * V(2)"), "5:", "expected ';'"),
        (mistake("return x % 3;"), "5:", "operator%"),
        ("\n\n" + mistake("return y;"), "7:", "'y' was not declared"),
    ],
)
def test_mistakes_are_told_by_line(
    cache: Path, tmp_path: Path, text: str, place: str, message: str
) -> None:
    """Once for all types, without the templates, with the line itself; in a file or inline."""
    file = tmp_path / "mistake.cpp"
    file.write_text(text)
    inline = text.startswith("\n")
    shown = "<inline mistake_for_test>" if inline else str(file)
    with pytest.raises(BuildError) as caught:
        load_inline(text) if inline else load(file)
    told = str(caught.value)
    lines = told.splitlines()
    assert lines[0] == f"cpp_extension: {shown} did not compile"
    assert lines[1].startswith(f"{shown}:{place}")
    assert message in lines[1]
    assert " | " in lines[2]
    assert len(lines) <= 12
    assert "instantiation" not in told
    assert "backtrail::" not in told
    log = re.search(r"All that the compiler said: (.*)", told)
    assert log
    assert message in Path(log[1]).read_text()
    assert not list(cache.glob("**/*.so"))


def test_three_errors_are_enough(cache: Path) -> None:
    with pytest.raises(BuildError) as caught:
        load_inline(mistake("\n".join(f"wrong{i}(x);" for i in range(9)) + "return x;"))
    told = str(caught.value)
    assert [f"wrong{i}" in told for i in range(5)] == [True] * 3 + [False] * 2
    assert "... and 6 more errors" in told


def test_a_function_that_is_nowhere(cache: Path) -> None:
    with pytest.raises(BuildError, match=r"undefined reference to `nowhere\(double\)'"):
        load_inline("double nowhere(double);\n" + mistake("return x * V(nowhere(2));"))


def test_verbose_tells_all(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BuildError):
        load_inline(mistake("return nothing(x);"), verbose=True)
    out = capfd.readouterr().out
    assert "-ffp-contract=off" in out
    assert "In instantiation of" in out


# What can break


def test_no_file(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.cpp"):
        load(tmp_path / "missing.cpp")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(ValueError, match="no source"):
        load([])
    for name in ("not a name", "../name", "name\n"):
        with pytest.raises(ValueError, match="name"):
            load_inline("", name=name)
    with pytest.raises(RuntimeError, match="BACKTRAIL_OPS"):
        load_inline("")


def test_a_source_that_goes_while_it_is_compiled(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gone.cpp"
    file.write_text(plain())
    run = compiler._run

    def gone(command: list[str], *rest: object) -> None:
        file.unlink(missing_ok=True)
        run(command, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(compiler, "_run", gone)
    with pytest.raises(BuildError, match=r"fatal error.*gone\.cpp"):
        load(file)

    def edited(command: list[str], *rest: object) -> None:
        run(command, *rest)  # type: ignore[arg-type]
        file.write_text(plain(3))

    monkeypatch.setattr(compiler, "_run", edited)
    file.write_text(plain())
    with pytest.raises(BuildError, match=r"gone\.cpp changed while it was compiled"):
        load(file)
    monkeypatch.setattr(compiler, "_run", run)
    assert compiler.build("gone", [compiler.Source(file, "gone.cpp")]).exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-compiler", "no C\\+\\+ compiler: no-such-compiler was not found.*CXX"),
        ("false", "does not compile C\\+\\+17"),
        ("./text", "cannot run ./text: Exec format error"),
    ],
)
def test_no_compiler(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, message: str
) -> None:
    (tmp_path / "text").touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", command)
    with pytest.raises(BuildError, match=message):
        load_inline(source("uncompiled_for_test"))
    monkeypatch.setenv("CXX", " ")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildError, match=r"c\+\+ or g\+\+ or clang\+\+ was not found"):
        load_inline(source("uncompiled_for_test"))


def test_a_compiler_that_breaks(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "broken-c++"
    wrapper.write_text(
        '#!/bin/sh\ncase "$*" in *" -c "*) echo "no memory" >&2; kill -9 $$;; esac\nexec c++ "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    with pytest.raises(BuildError, match="did not compile\nno memory"):
        load_inline(source("uncompiled_for_test"))


def read_only(tmp_path: Path) -> list[Path]:
    """Folders that even root cannot write to: in a file, on a file system of the kernel's."""
    (tmp_path / "file").touch()
    return [tmp_path / "file" / "cache", Path("/sys/kernel"), Path("/proc/nowhere")]


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in read_only(tmp_path):
        monkeypatch.setenv("BACKTRAIL_EXTENSIONS_DIR", str(folder))
        with pytest.raises(BuildError, match="BACKTRAIL_EXTENSIONS_DIR") as caught:
            load_inline(source("unwritten_for_test"))
        assert f"kept in {folder}" in str(caught.value)


def test_a_read_only_cache_that_has_the_library(tmp_path: Path) -> None:
    """It is used as it is: nothing is written, no lock taken."""
    cache = tmp_path / "cache"
    sources = [compiler.Source(Path("kept.cpp"), "kept.cpp", plain())]
    library = compiler.build("kept", sources, (), cache)
    (library.parent / "lock").unlink()
    (library.parent / "lock").mkdir()  # to open it for writing would fail
    assert compiler.build("kept", sources, (), cache) == library


def test_libraries_that_are_none(tmp_path: Path, cache: Path) -> None:
    whole = compiler.build("w", [compiler.Source(Path("w.cpp"), "w", plain())])
    data = whole.read_bytes()
    cut = tmp_path / "cut.so"
    for content in (b"", b"\x7fELF", b"text" * 100, data[:100], data[: len(data) // 2]):
        cut.write_bytes(content)
        with pytest.raises(RuntimeError, match=r"cut\.so is not a complete shared library"):
            load_library(cut)
    empty = tmp_path / "empty"
    (tmp_path / "empty.cpp").write_text("int none;\n")
    subprocess.run(["c++", "-shared", "-fPIC", f"{empty}.cpp", "-o", f"{empty}.so"], check=True)
    with pytest.raises(RuntimeError, match="BACKTRAIL_OPS"):
        load_library(f"{empty}.so")
    with pytest.raises(FileNotFoundError, match=r"there is no no-such, nor"):
        load_library("no-such")


# Libraries that were built before


def test_the_library_for_the_instruction_set(tmp_path: Path, cache: Path) -> None:
    """The exact one, else the next lower; in a process for each, as an op is loaded but once."""
    code = """if 1:
        import sys, backtrail as bt
        print(bt.cpp_extension.load_library(sys.argv[1]).which_op(bt.ones(1)).item(), end="")
    """
    build = """if 1:
        import pathlib, shutil, sys
        from backtrail.extension import compiler
        source = compiler.Source(pathlib.Path("which.cpp"), "which.cpp", sys.argv[1])
        shutil.copy(compiler.build("which", [source]), sys.argv[2])
    """
    isas = [isa for isa in ("v2", "v3", "v4") if isa in _core.build_info()["available"].split()]
    if not isas:
        pytest.skip("one instruction set only")
    for i, isa in enumerate(isas):
        text = source("which_op", i + 2)
        result(python(build, text, tmp_path / f"which.{isa}.so", BACKTRAIL_ISA=isa))
    for i, isa in enumerate(isas):
        assert result(python(code, tmp_path / "which", BACKTRAIL_ISA=isa)) == str(float(i + 2))
    if len(isas) > 1:
        (tmp_path / f"which.{isas[-1]}.so").unlink()
        value = result(python(code, tmp_path / "which", BACKTRAIL_ISA=isas[-1]))
        assert value == str(float(len(isas)))


def test_headers_of_an_editable_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the module and its headers, or the headers alone, lie apart from the Python files."""
    package, site = tmp_path / "python" / "backtrail", tmp_path / "site" / "backtrail"
    monkeypatch.setattr(compiler, "__file__", str(package / "extension" / "compiler.py"))
    monkeypatch.setattr(_core, "__file__", str(site / "_core.so"))
    assert compiler.find_include() == package / "include"
    for folder in (tmp_path / "csrc" / "include", site / "include", package / "include"):
        (folder / "backtrail").mkdir(parents=True)
        (folder / "backtrail" / "op.h").touch()
        assert compiler.find_include() == folder
    assert (compiler.INCLUDE / "backtrail" / "op.h").exists()
