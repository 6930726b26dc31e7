"""What `backtrail new-op` writes: packages that install, pass their tests and serve elsewhere."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import backtrail as bt
import pytest
from backtrail import _core, cpp_extension
from backtrail.cli import main, new_op
from backtrail.extension import compiler

AVAILABLE = _core.build_info()["available"].split()  # of this CPU, the best last
BUILT = ["base"] if AVAILABLE == ["base"] else ["v2", "v3", "v4"]  # for any CPU of the kind
needs_build = pytest.mark.skipif(
    not importlib.util.find_spec("scikit_build_core"), reason="needs scikit-build-core"
)


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


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail, and return its one line."""
    assert main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def build_wheel(package: Path, to: Path, *options: str) -> Path:
    """Build a wheel as `pip install .` does, but offline, with what is installed here."""
    settings = [*options]
    if not any(e.name == "backtrail" for e in importlib.metadata.entry_points(group="cmake.root")):
        settings.append(f"cmake.define.backtrail_ROOT={cpp_extension.cmake_path()}")
    flags = [f"--config-settings={setting}" for setting in settings]
    pip = ["-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-q"]
    command(*pip, package, "-w", to, *flags)
    return next(to.glob("*.whl"))


# What is written


@pytest.mark.parametrize("kind", new_op.KINDS)
def test_the_files(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a folder" / "deep"
    assert main(["new-op", "two_words", "--kind", kind, "--directory", str(folder)]) == 0
    out = capsys.readouterr().out
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == [
        ".gitignore",
        "CMakeLists.txt",
        "README.md",
        "pyproject.toml",
        "src/two_words.cpp",
        "src/two_words/__init__.py",
        "src/two_words/__init__.pyi",
        "src/two_words/py.typed",
        "tests/test_two_words.py",
    ]
    for file in files:
        assert f"  {file}\n" in out
        text = (folder / file).read_text("utf-8")
        assert not re.search(r"@[A-Z]+@", text), file
        if file.endswith((".py", ".pyi")):
            compile(text, file, "exec")
    assert f"cd {folder}" in out
    assert "struct TwoWords {" in (folder / "src" / "two_words.cpp").read_text()
    assert 'name = "two-words"' in (folder / "pyproject.toml").read_text()


def test_nothing_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ripple").mkdir()
    assert main(["new-op", "ripple"]) == 0  # an empty folder will do
    capsys.readouterr()
    before = (tmp_path / "ripple" / "README.md").stat().st_mtime_ns
    assert "ripple is there already" in fails(capsys, "new-op", "ripple")
    assert (tmp_path / "ripple" / "README.md").stat().st_mtime_ns == before
    (tmp_path / "file").touch()
    assert "file is there already" in fails(capsys, "new-op", "ripple", "--directory", "file")
    assert "file/in" in fails(capsys, "new-op", "ripple", "--directory", "file/in")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exp", "is a built-in op"),
        ("softmax", "is a built-in op"),
        ("backward", "is a method of Tensor"),
        ("zero", "is a method of Tensor"),
        ("nn", "is a member of backtrail"),
        ("class", "is a keyword of Python"),
        ("wave", "is a module of Python's own"),
        ("clean", "means something else to CMake or pip"),
        ("Ripple", "must be lower-case letters"),
        ("2d", "begin with a letter"),
        ("a-b", "must be lower-case letters"),
        ("_private", "begin with a letter"),
        ("größe", "must be lower-case letters"),
        ("../x", "must be lower-case letters"),
        ("", "must be lower-case letters"),
    ],
)
def test_names_that_will_not_do(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    told = fails(capsys, "new-op", name)
    assert message in told
    assert repr(name) in told
    assert not list(tmp_path.iterdir())


def test_the_commands_fit_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    class Distribution:
        url: str | None = '{"url": "file:///checkout"}'

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return self.url

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    assert "--no-build-isolation" in new_op.install_commands()[-1]
    Distribution.url = None
    assert new_op.install_commands() == ['pip install ".[test]"']


# What is built


def environment(site: Path) -> dict[str, str]:
    """The variables of a process that sees a folder of packages, and this backtrail."""
    paths = [str(site), str(Path(bt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def check_package(package: Path, name: str, site: Path) -> None:
    """Run the tests of a package that is in `site`, and what its README and its stub say."""
    seen = environment(site)
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", package]
    assert "passed" in command(*tests, package / "tests", **seen)
    blocks = re.findall(r"```python\n(.*?)```", (package / "README.md").read_text("utf-8"), re.S)
    assert len(blocks) == 2
    command("-c", blocks[0], **seen)
    (stub,) = (
        node
        for node in ast.parse((site / name / "__init__.pyi").read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef)
    )
    code = f"import inspect, {name}; print(inspect.signature({name}.{name}))"
    signature = ast.parse(f"def f{command('-c', code, **seen).strip()}: ...").body[0]
    assert isinstance(signature, ast.FunctionDef)
    assert [a.arg for a in signature.args.args] == [a.arg for a in stub.args.args]
    assert [a.arg for a in signature.args.kwonlyargs] == [a.arg for a in stub.args.kwonlyargs]
    defaults = [ast.unparse(d) for d in (*stub.args.defaults, *filter(None, stub.args.kw_defaults))]
    for given, d in zip(
        (*signature.args.defaults, *filter(None, signature.args.kw_defaults)), defaults, strict=True
    ):
        assert ast.literal_eval(given) == pytest.approx(ast.literal_eval(d))


@needs_build
def test_a_wheel_serves_in_another_environment(tmp_path: Path) -> None:
    """One for all instruction sets, without the sources; used in fresh processes."""
    package, site = tmp_path / "package", tmp_path / "site"
    new_op.write_package("ripple_for_test", "pointwise", package)
    wheel = build_wheel(package, tmp_path / "dist")
    assert wheel.name.startswith("ripple_for_test-0.1.0-py3-none-")
    names = [n for n in zipfile.ZipFile(wheel).namelist() if "dist-info" not in n]
    assert sorted(names) == [
        "ripple_for_test/__init__.py",
        "ripple_for_test/__init__.pyi",
        "ripple_for_test/py.typed",
        *(f"ripple_for_test/ripple_for_test.{isa}.so" for isa in BUILT),
    ]
    command("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel)
    code = """if 1:
        import backtrail as bt, ripple_for_test
        x = bt.linspace(-3, 3, 50, requires_grad=True)
        y = ripple_for_test.ripple_for_test(x, a=0.5)
        y.sum().backward()
        assert bt.allclose(y, x + bt.sin(0.5 * x) ** 2 / 0.5), y
        assert bt.allclose(x.grad, 1 + bt.sin(x), atol=1e-6), x.grad
        assert bt.equal(x.ripple_for_test(a=0.5), y)
        print(y.tolist())
    """
    seen = environment(site)
    results = {isa: command("-c", code, **seen, BACKTRAIL_ISA=isa) for isa in AVAILABLE}
    if "v4" in results:
        assert results["v3"] == results["v4"]
    check_package(package, "ripple_for_test", site)


@needs_build
@pytest.mark.parametrize("kind", ["reduction", "rowwise", "opaque"])
def test_each_kind_passes_its_tests(kind: str, tmp_path: Path) -> None:
    package, site = tmp_path / "package", tmp_path / "site"
    name = f"{kind}_for_test"
    new_op.write_package(name, kind, package)
    wheel = build_wheel(package, tmp_path / "dist", f"cmake.define.BACKTRAIL_ISAS={AVAILABLE[-1]}")
    zipfile.ZipFile(wheel).extractall(site)
    check_package(package, name, site)


def test_the_quick_way_of_the_readme(tmp_path: Path) -> None:
    """Without an installation, from the package's folder."""
    new_op.write_package("quick_for_test", "pointwise", tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text("utf-8"), re.S)
    code = f"import os, backtrail as bt; os.chdir({str(tmp_path)!r})\n{blocks[1]}"
    code += "print(ops.quick_for_test(bt.zeros(1)).item())"
    assert command("-c", code, BACKTRAIL_EXTENSIONS_DIR=str(tmp_path / "cache")) == "0.0\n"


# CMake's package


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
