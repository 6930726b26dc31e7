"""The cache of extensions in a folder that others can write to, and what killed builds leave."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import backtrail as bt
import pytest
from backtrail import cpp_extension
from backtrail.extension import compiler

SOURCE = """
struct Thrice {{
  static constexpr auto name = "thrice_{0}";
  static constexpr auto doc = "3 * input.";
  template <class V> static V forward(V x) {{ return x * V(3); }}
}};
BACKTRAIL_OPS(Thrice)
"""


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    before = os.umask(0)  # the worst
    yield tmp_path / "cache"
    os.umask(before)


def home_of(cache: Path) -> Path:
    return next(path for path in cache.glob("thrice-*") if path.is_dir())


def test_no_one_else_may_write_and_planted_files_do_no_harm(cache: Path, tmp_path: Path) -> None:
    ops = cpp_extension.load_inline(SOURCE.format("a"), name="thrice", build_directory=cache)
    assert ops.thrice_a(bt.ones(1)).tolist() == [3]
    home = home_of(cache)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700

    victim = tmp_path / "victim"
    victim.write_text("as it was")
    for name in ("lock", "thrice.cpp", "log.txt"):
        (home / name).unlink(missing_ok=True)
        (home / name).symlink_to(victim)
    for library in home.glob("*.so"):
        library.unlink()
    with pytest.raises(cpp_extension.BuildError, match="cannot write"):
        cpp_extension.load_inline(SOURCE.format("a"), name="thrice", build_directory=cache)
    home.chmod(0o777)  # others could have written: all of it goes
    (home / "building-old").mkdir()
    compiler._check_owner(home)
    assert list(home.iterdir()) == []
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    assert victim.read_text() == "as it was"


def test_a_folder_of_another_user_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(compiler.BuildError, match="belongs to another user"):
            compiler._check_owner(cache)
    link = cache.parent / "link"
    link.symlink_to(cache)
    with pytest.raises(compiler.BuildError, match="is no folder"):
        compiler._check_owner(link)


def test_what_killed_builds_left_goes(cache: Path) -> None:
    home = cache / "x-0"
    home.mkdir(parents=True, mode=0o700)
    (home / "building-abc").mkdir()
    (home / "building-abc" / "0.o").write_text("half")
    with compiler._locked(home):
        assert not (home / "building-abc").exists()


@pytest.mark.parametrize(
    ("compiler_name", "file", "message"),
    [
        ('"', "a.cpp", "is no command"),
        ("true", "a.cpp", "must name a compiler"),
        ("", "a.txt", "its name must end as those of C"),
        ("", "a\nb.cpp", "has a line break in its name"),
    ],
)
def test_odd_names(
    cache: Path, monkeypatch: pytest.MonkeyPatch, compiler_name: str, file: str, message: str
) -> None:
    source = cache.parent / file
    source.write_text("#include <backtrail/op.h>\n" + SOURCE.format("b"))
    if compiler_name:
        monkeypatch.setenv("CXX", compiler_name)
    with pytest.raises(cpp_extension.BuildError, match=message):
        cpp_extension.load(source, build_directory=cache)


def test_a_name_with_a_hash(cache: Path) -> None:
    source = cache.parent / "a#b $c.cpp"
    source.write_text(
        "#include <backtrail/op.h>\nusing namespace backtrail;\n" + SOURCE.format("c")
    )
    ops = cpp_extension.load(source, build_directory=cache)
    assert ops.thrice_c(bt.ones(1)).tolist() == [3]
    again = cpp_extension.load(source, build_directory=cache)
    assert again is ops


def test_an_exception_whose_text_is_no_utf8(cache: Path) -> None:
    ops = cpp_extension.load_inline(
        r"""
        struct Refuse {
          static constexpr auto name = "refuse_text";
          static constexpr auto doc = "Refuses.";
          float k = 1;
          template <class V> V forward(V x) const {
            if (k > 1) throw std::invalid_argument("caf\xe9");
            return x * V(k);
          }
        };
        BACKTRAIL_OPS(Refuse)
        """,
        build_directory=cache,
    )
    with pytest.raises((ValueError, RuntimeError), match="caf\ufffd"):
        ops.refuse_text(bt.ones(1), k=2.0)
