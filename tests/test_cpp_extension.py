"""Ops that a user writes in C++: treated no worse than built-in ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import backtrail as bt
import pytest
from backtrail.autograd import gradcheck, gradgradcheck
from backtrail.cpp_extension import load, load_inline
from backtrail.extension import compiler

SOURCE = """
#include <backtrail/op.h>
using namespace backtrail;

struct Bump {
  static constexpr auto name = "bump_for_test";
  static constexpr auto doc = "height * exp(-input^2).";
  static constexpr Attr attrs[] = {{"height", 1}};
  template <class V> static V forward(V x, V height) { return height * exp(-x * x); }
};

struct Mix {
  static constexpr auto name = "mix_for_test";
  static constexpr auto doc = "first where mask is true, first * second elsewhere.";
  static constexpr auto reads = Reads::inputs;
  template <class V> static V forward(typename V::Mask mask, V a, V b) {
    return select(mask, a, a * b);
  }
  template <class V> static Grads<V, 3> backward(V g, typename V::Mask mask, V a, V b) {
    return {{V(0), select(mask, g, g * b), select(mask, V(0), g * a)}};
  }
};

struct Snake {
  static constexpr auto name = "snake_for_test";
  static constexpr auto doc = "input + sin(a input)^2 / a.";
  double a = 1;
  template <class V> V forward(V x) const { V s = sin(V(a) * x); return x + s * s / V(a); }
};

BACKTRAIL_OPS(Bump, Mix, Snake)
"""


@pytest.fixture(scope="module")
def ops(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("extension")
    (folder / "bump.cpp").write_text(SOURCE)
    return load(folder / "bump.cpp", name="bumps", build_directory=folder)


@pytest.mark.parametrize("dtype", [bt.float32, bt.float64])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (17,), (3, 5), (2, 3000)])
def test_values(ops: SimpleNamespace, dtype: bt.dtype, shape: tuple[int, ...]) -> None:
    x = bt.randn(*shape, dtype=dtype) if shape else bt.tensor(0.3, dtype=dtype)
    assert bt.allclose(ops.bump_for_test(x, height=2.0), 2 * bt.exp(-x * x), rtol=1e-6)
    assert ops.bump_for_test(x).dtype is dtype


def test_strides_broadcast_and_numbers(ops: SimpleNamespace) -> None:
    x, y = bt.randn(4, 5).T, bt.randn(4)
    mask = x > 0
    assert bt.equal(ops.mix_for_test(mask, x, y), bt.where(mask, x, x * y))
    assert bt.equal(ops.mix_for_test(mask, x, 2), bt.where(mask, x, x * 2))


def test_gradients_of_two_orders(ops: SimpleNamespace) -> None:
    x = bt.randn(3, 4, dtype=bt.float64, requires_grad=True)
    y = bt.randn(4, dtype=bt.float64, requires_grad=True)
    mask = x.detach() > 0
    for check in (gradcheck, gradgradcheck):
        assert check(lambda x: ops.bump_for_test(x, height=1.5), x)
        assert check(lambda x, y: ops.mix_for_test(mask, x, y), (x, y))


@pytest.mark.parametrize("a", [1.0, 0.5])
def test_attributes_that_are_members(ops: SimpleNamespace, a: float) -> None:
    """In the kernel, and as constants of the derivative's program: they agree with the formula."""
    x = bt.randn(4, dtype=bt.float64, requires_grad=True)
    for create_graph in (False, True):
        y = ops.snake_for_test(x, a=a)
        (slope,) = bt.autograd.grad(y.sum(), [x], create_graph=create_graph)
        assert bt.allclose(slope, 1 + bt.sin(2 * a * x))
    (curve,) = bt.autograd.grad(slope.sum(), [x])
    assert bt.allclose(curve, 2 * a * bt.cos(2 * a * x))


def test_it_is_a_method_and_a_member_of_the_package(ops: SimpleNamespace) -> None:
    x = bt.randn(3)
    assert bt.equal(x.bump_for_test(height=3.0), bt.bump_for_test(x, height=3.0))
    assert bt.equal(x.clone().bump_for_test_(), x.bump_for_test())


def test_loading_again_gives_the_same_functions(ops: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "bump.cpp").write_text(SOURCE)
    with pytest.raises(ValueError, match="bump_for_test"):  # the same ops from another library
        load(tmp_path / "bump.cpp", build_directory=tmp_path)


def test_headers_are_read_once_for_many_ops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second compilation on GCC takes them as it read them, to the same results."""
    monkeypatch.setenv("BACKTRAIL_EXTENSIONS_DIR", str(tmp_path))

    def times(n: int) -> list[float]:
        text = SOURCE_OF_ONE.format(n=n)
        ops = load_inline(text)
        return getattr(ops, f"times_{n}_for_test")(bt.ones(2)).tolist()  # type: ignore[no-any-return]

    def headers() -> list[Path]:
        return list(tmp_path.glob("headers-*/backtrail/op.h.gch"))

    assert times(1) == [1, 1]
    assert not headers()
    assert times(2) == [2, 2]
    if "Free Software Foundation" not in compiler._version(compiler.find_compiler()):
        assert not headers()
        return
    (made,) = headers()
    assert times(3) == [3, 3]
    made.write_bytes(made.read_bytes()[:1000])  # cut short: made anew
    assert times(4) == [4, 4]
    assert made.stat().st_size > 1_000_000


SOURCE_OF_ONE = """
#include <backtrail/op.h>
struct Times {{
  static constexpr auto name = "times_{n}_for_test";
  static constexpr auto doc = "{n} times the input.";
  template <class V> static V forward(V x) {{ return V({n}) * x; }}
}};
BACKTRAIL_OPS(Times)
"""
