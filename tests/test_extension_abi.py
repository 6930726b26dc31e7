"""The boundary of a library of ops: versions, instruction sets, names, replacing, C++17."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import backtrail as bt
import pytest
from backtrail import _core
from backtrail.autograd import gradcheck, gradgradcheck
from backtrail.cpp_extension import load
from backtrail.extension import compiler, foreign

PLAIN = r"""
#include <backtrail/abi.h>
#include <stddef.h>
#include <string.h>
// A reduction, written against the structs alone: half of the sum.
static const backtrail_host* host;
static void run(const backtrail_call* c) {
  const int64_t n = c->in[0].shape[0];
  for (int r = 0; r < c->n_rows; ++r) {
    const double* x = (const double*)c->rows[r];
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += x[i];
    if (sum > 1e6) return host->error(BACKTRAIL_VALUE_ERROR, "half_c: too much");
    *(double*)c->rows[c->n_rows + r] = sum / 2;
  }
}
static backtrail_op ops[1];
static backtrail_input inputs[1];
static const backtrail_op* open_it(const backtrail_host* given, int32_t* count) {
  host = given;
  inputs[0].size = sizeof inputs[0];
  inputs[0].type = BACKTRAIL_FLOATING;
  backtrail_op* r = &ops[0];
  memset(r, 0xff, sizeof *r);  // what an older header does not know of is not read
  memset(r, 0, offsetof(backtrail_op, shape));
  r->size = offsetof(backtrail_op, shape);
  r->kind = BACKTRAIL_REDUCTION;
  r->n_inputs = r->n_outputs = 1;
  r->name = NAME;
  r->doc = "Half of the sum.";
  r->inputs = inputs;
  r->run = run;
  *count = 1;
  return ops;
}
#ifdef __cplusplus
extern "C"
#endif
__attribute__((visibility("default"))) const backtrail_library SYMBOL = {
    sizeof(backtrail_library), MAJOR, MINOR, "0.0.1", ISA, "a compiler", open_it};
"""


def build(folder: Path, name: str, **defines: str) -> str:
    """Compile the plain library with some of what it says changed."""
    source, library = folder / "plain.c", folder / f"{name}.so"
    source.write_text(PLAIN)
    said = {"MAJOR": "2", "MINOR": "0", "ISA": '"base"', "SYMBOL": "backtrail_library_v1"}
    said |= {"NAME": f'"{name}"', **defines}
    subprocess.run(
        [
            *compiler.find_compiler(),
            *("-x", "c", "-O1", "-fPIC", "-shared", "-fvisibility=hidden"),
            *(f"-D{key}={value}" for key, value in said.items()),
            f"-I{compiler.INCLUDE}",
            str(source),
            *("-o", str(library)),
        ],
        check=True,
    )
    return str(library)


def test_a_library_in_plain_c_with_a_shorter_record(tmp_path: Path) -> None:
    op = foreign.load_library(build(tmp_path, "half_c"))["half_c"]
    x = bt.randn(3, 4, dtype=bt.float64)
    assert bt.allclose(op(x, dim=0), x.sum(0) / 2)
    with pytest.raises(ValueError, match="half_c: too much"):
        op(x + 1e6)
    assert not op(x.requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("defines", "text"),
    [
        (
            {"MAJOR": "3"},
            r"/other\.so was built for version 3\.0 of backtrail's op interface; this backtrail "
            r"\(\d+\.\d+\.\d+\) speaks 2\.\d+: rebuild it with this backtrail's headers, or "
            r"upgrade backtrail",
        ),
        ({"MINOR": "99"}, r"version 2\.99 .* or upgrade backtrail"),
        ({"MAJOR": "1"}, r"version 1\.0 .*: rebuild it with this backtrail's headers$"),
        ({"SYMBOL": "backtrail_ops"}, r"version 1\.0 of"),
        ({"SYMBOL": "something"}, r"defines no op; write BACKTRAIL_OPS"),
        ({"ISA": '"v9"'}, r"compiled for the instruction set v9; this CPU has: "),
    ],
)
def test_what_cannot_be_used_is_refused(defines: dict[str, str], text: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=text):
        foreign.load_library(build(tmp_path, "other", **defines))
    assert "other" not in _core.ops


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("relu", "the name 'relu' is taken: backtrail has an op of that name"),
        ("backward", "the name 'backward' is taken: Tensor has a member backward"),
        ("manual_seed", "the name 'manual_seed' is taken: backtrail has a member manual_seed"),
        ("requires_grad", "the name 'requires_grad' is taken"),
        ("lambda", "a word of Python"),
        ("no name", "is no name for an op"),
    ],
)
def test_names_that_are_taken(name: str, text: str, tmp_path: Path) -> None:
    library = build(tmp_path, "named", NAME=f'"{name}"')
    with pytest.raises(ValueError, match=text):
        foreign.load_library(library)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="load_library"):
        foreign.load_library(str(tmp_path / "missing.so"))
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(RuntimeError, match="load_library"):
        foreign.load_library(str(tmp_path / "text.so"))


OP = """
struct {type} {{
  static constexpr auto name = "{name}";
  static constexpr auto doc = "x times {factor}.";
  template <class V> V forward(V x) const {{ return {factor} * x; }}
}};
"""


def source(*ops: tuple[str, float]) -> str:
    text = "#include <backtrail/op.h>\n"
    for i, (name, factor) in enumerate(ops):
        text += OP.format(type=f"Op{i}", name=name, factor=factor)
    return text + f"BACKTRAIL_OPS({', '.join(f'Op{i}' for i in range(len(ops)))})\n"


def test_replacing_and_all_or_nothing(tmp_path: Path) -> None:
    file, other = tmp_path / "times.cpp", tmp_path / "other.cpp"

    def build_and_load(path: Path, text: str) -> object:
        path.write_text(text)
        return load(path, build_directory=tmp_path, extra_cflags=["-O0"])

    build_and_load(file, source(("times_e", 2)))
    x = bt.ones(2, requires_grad=True)
    y = bt.times_e(x)
    build_and_load(file, source(("times_e", 3)))  # edited: its op takes the place of the first
    assert bt.equal(bt.times_e(x.detach()), bt.tensor([3.0, 3.0]))
    assert bt.equal(x.detach().times_e(), bt.tensor([3.0, 3.0]))
    y.sum().backward()  # the old graph has the old op
    assert x.grad is not None
    assert bt.equal(x.grad, bt.tensor([2.0, 2.0]))
    with pytest.raises(ValueError, match=r"'times_e' is taken by the op of another library, made"):
        build_and_load(other, source(("fresh_e", 2), ("times_e", 5)))
    assert not hasattr(bt, "fresh_e")
    with pytest.raises(ValueError, match="two ops named 'twice_e'"):
        build_and_load(other, source(("twice_e", 2), ("twice_e", 5)))
    with pytest.raises(ValueError, match="is taken"):
        build_and_load(other, source(("fresh_e", 2), ("exp", 5)))
    assert not hasattr(bt, "fresh_e")


SNAKE = """
    #include <backtrail/op.h>
    struct Snake {
      static constexpr auto name = "NAME";
      static constexpr auto doc = "x + sin(a x)^2 / a (Ziyin et al., 2020).";
      float a = 1.0f;
      ATTRS
      template <class V> V forward(V x) const { V s = sin(V(a) * x); return x + s * s / V(a); }
    };
    BACKTRAIL_OPS(Snake)
"""


@pytest.mark.parametrize("standard", ["c++20", "c++17"])
def test_attributes_in_both_standards(standard: str, tmp_path: Path) -> None:
    name = f"snake_{standard[-2:]}"
    text = textwrap.dedent(SNAKE).replace("NAME", name)
    (tmp_path / "snake.cpp").write_text(
        text.replace("ATTRS", "" if standard == "c++20" else "BACKTRAIL_ATTRS(a)")
    )
    ops = load(tmp_path / "snake.cpp", build_directory=tmp_path, extra_cflags=[f"-std={standard}"])
    op = getattr(ops, name)
    x = bt.randn(3, dtype=bt.float64, requires_grad=True)
    assert bt.allclose(op(x, a=0.5), x + (0.5 * x).sin() ** 2 / 0.5)
    assert gradcheck(lambda x: op(x, a=0.5), x)
    assert gradgradcheck(lambda x: op(x, a=1.5), x)
    if standard == "c++17":
        (tmp_path / "snake.cpp").write_text(text.replace("ATTRS", ""))
        with pytest.raises(Exception, match=r"write BACKTRAIL_ATTRS"):
            load(tmp_path / "snake.cpp", build_directory=tmp_path, extra_cflags=["-std=c++17"])
