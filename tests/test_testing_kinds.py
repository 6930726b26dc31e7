"""`opcheck` of the other kinds of ops of a library: sound ones pass, broken ones do not."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import backtrail as bt
import pytest
from backtrail import cpp_extension
from backtrail.testing import Report, opcheck

SOURCE = """
#include <backtrail/op.h>
#include <type_traits>
using namespace backtrail;
#define OP(Struct, title) struct Struct { \\
  static constexpr auto name = "kinds_" title; \\
  static constexpr auto doc = "For tests.";

// ---- sound
OP(Norm, "norm")
  double eps = 0.1;
  template <class T> T forward(Row<const T> x) const {
    return sqrt(sum(x, [](auto v) { return v * v; }) + T(eps));
  }
  static constexpr auto reads = Reads::both;
  template <class T> void backward(T g, Row<const T> x, T y, Row<T> gx) const {
    map(gx, [&](auto v) { return v * (g / y); }, x);
  }
};
OP(Dot, "dot")
  template <class T> T forward(Row<const T> x, Row<const T> y, Row<const bool> mask) const {
    T total(0);
    for (int64_t i = 0; i < x.size(); ++i) if (mask[i]) total += x[i] * y[i];
    return total;
  }
};
OP(Halves, "halves")
  int64_t length(int64_t n) const { return n / 2; }
  template <class T> void forward(Row<const T> x, Row<T> y) const {
    for (int64_t i = 0; i < y.size(); ++i) y[i] = x[2 * i] * x[2 * i + 1];
  }
};
OP(Take, "take")
  template <class T>
  void forward(Row<const T> x, Row<const int64_t> from, Row<T> y) const {
    for (int64_t i = 0; i < y.size(); ++i) y[i] = x[from[i]] * x[i];
  }
};
OP(Moments, "moments")  // two outputs
  std::array<Shape, 2> shape(const Shape& x) const { return {Shape{x[0]}, Shape{x[0]}}; }
  template <class T> void forward(Array<const T> x, Array<T> mean, Array<T> square) const {
    parallel_for(x.size(0), double(x.numel()), [&](int64_t i) {
      T a(0), b(0);
      for (int64_t k = 0; k < x.size(1); ++k) { a += x(i, k); b += x(i, k) * x(i, k); }
      mean(i) = a / T(double(x.size(1)));
      square(i) = b / T(double(x.size(1)));
    });
  }
};
OP(Once, "once")
  static constexpr int orders = 1;
  template <class T> void forward(Row<const T> x, Row<T> y) const {
    map(y, [](auto v) { return v * v; }, x);
  }
  template <class T> void backward(Row<const T> g, Row<const T> x, Row<T> gx) const {
    map(gx, [](auto a, auto v) { return a * v * 2; }, g, x);
  }
};
OP(Many, "many")
  template <class T>
  T forward(Row<const T> a, Row<const T> b, Row<const T> c, Row<const T> d, Row<const T> e,
            Row<const T> f, Row<const T> g, Row<const T> h) const {
    return sum(a) * sum(b) + sum(c) * sum(d) + sum(e) * sum(f) + sum(g) * sum(h);
  }
};
OP(Never, "never")
  static constexpr bool differentiable = false;
  template <class T> T forward(Row<const T> x) const { return sum(x); }
};

// ---- broken
OP(Value, "value")
  template <class T> T forward(Row<const T> x) const {
    return std::is_same_v<T, float> ? sum(x) * T(1.001) : sum(x);
  }
};
OP(Backward, "backward")  // forgets the root
  template <class T> T forward(Row<const T> x) const {
    return sqrt(sum(x, [](auto v) { return v * v; }) + T(1));
  }
  template <class T> void backward(T g, Row<const T> x, Row<T> gx) const {
    map(gx, [&](auto v) { return v * g; }, x);
  }
};
OP(Unwritten, "unwritten")
  template <class T> void forward(Row<const T> x, Row<T> y) const {
    for (int64_t i = 1; i < x.size(); ++i) y[i] = x[i] * x[i];
  }
};
OP(Gradient, "gradient")  // not all of it is written
  template <class T> void forward(Row<const T> x, Row<T> y) const {
    map(y, [](auto v) { return v * v; }, x);
  }
  template <class T> void backward(Row<const T> g, Row<const T> x, Row<T> gx) const {
    for (int64_t i = 0; i + 1 < x.size(); ++i) gx[i] = T(2) * x[i] * g[i];
  }
};
OP(Beyond, "beyond")  // writes past the end
  Shape shape(const Shape& x) const { return x; }
  template <class T> void forward(Array<const T> x, Array<T> y) const {
    for (int64_t i = 0; i < x.numel(); ++i) y.data()[i] = x.data()[i] * T(2);
    if constexpr (!std::is_same_v<T, Var>) y.data()[x.numel()] = T(7);
  }
};
OP(Peeks, "reads")  // reads past the end
  Shape shape(const Shape& x) const { return x; }
  template <class T> void forward(Array<const T> x, Array<T> y) const {
    for (int64_t i = 0; i < x.numel(); ++i)
      y.data()[i] = x.data()[i] + (std::is_same_v<T, Var> ? x.data()[0] : x.data()[i + 1]);
  }
};
OP(Lies, "lies")  // a shape of twice the rows that it fills
  Shape shape(const Shape& x) const { return {2 * x[0], x[1]}; }
  template <class T> void forward(Array<const T> x, Array<T> y) const {
    for (int64_t i = 0; i < x.numel(); ++i) y.data()[i] = x.data()[i] * T(2);
  }
};
OP(Shared, "shared")  // tasks add to one number
  Shape shape(const Shape&) const { return {1}; }
  template <class T> void forward(Array<const T> x, Array<T> y) const {
    T total(0);
    parallel_for(x.size(0), double(x.numel()), [&](int64_t i) {
      for (int64_t k = 0; k < x.size(1); ++k) total += x(i, k) * x(i, k);
    });
    y(0) = total;
  }
};
OP(Input, "input")  // works in its input
  Shape shape(const Shape& x) const { return x; }
  template <class T> void forward(Array<const T> x, Array<T> y) const {
    for (int64_t i = 0; i < x.numel(); ++i) {
      y.data()[i] = x.data()[i] * T(2);
      if constexpr (!std::is_same_v<T, Var>) const_cast<T*>(x.data())[i] = T(0);
    }
  }
};
OP(Counts, "counts")
  template <class T> void forward(Row<const T> x, Row<T> y) const {
    static thread_local int runs = 0;
    ++runs;
    for (int64_t i = 0; i < x.size(); ++i) y[i] = x[i] * T(double(runs));
  }
};
OP(Throws, "throws")
  template <class T> void forward(Row<const T> x, Row<T> y) const {
    if (x.size() > 3) throw std::domain_error("rows of at most 3");
    y[0] = x[0];
  }
};
OP(Naive, "naive")  // a softmax that overflows
  template <class T> void forward(Row<const T> x, Row<T> y) const {
    const T total = sum(x, [](auto v) { return exp(v); });
    map(y, [&](auto v) { return exp(v) / total; }, x);
  }
};
OP(Log, "log")
  template <class T> T forward(Row<const T> x) const { return log(sum(x)); }
};
BACKTRAIL_OPS(Norm, Dot, Halves, Take, Moments, Once, Many, Never, Value, Backward, Unwritten,
              Gradient, Beyond, Peeks, Lies, Shared, Input, Counts, Throws, Naive, Log)
"""


@pytest.fixture(scope="module")
def ops(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("kinds")
    return cpp_extension.load_inline(SOURCE, name="kinds", build_directory=folder)


def check(op: Any, *args: Any, **options: Any) -> Report:
    return opcheck(op, *args, raise_exception=False, **options)


X = bt.tensor([[0.3, -1.2, 2.0, 0.1], [0.7, 1.1, -0.4, 0.9], [-0.2, 1.5, 0.6, -1.0]])


@pytest.mark.parametrize("name", ["norm", "dot", "halves", "take"])
def test_inputs_are_invented(ops: SimpleNamespace, name: str) -> None:
    report = opcheck(getattr(ops, "kinds_" + name))
    skipped = {r.check: r.where for r in report if r.verdict == "skip"}
    assert set(skipped) == ({"derived"} if name != "norm" else set())
    assert any("dim=0" in sample for sample in report.samples)
    assert any("20011" in sample for sample in report.samples)


@pytest.mark.parametrize(
    ("name", "skipped"),
    [
        ("once", {"derived": "no such derivative", "second derivative": "up to order 1"}),
        ("many", {"derived": "no backward", "second derivative": "derivative of order 2 has 17"}),
        ("never", dict.fromkeys(("derivative", "derived", "second derivative"), "not different")),
    ],
)
def test_derivatives_that_an_op_does_not_have(
    ops: SimpleNamespace, name: str, skipped: dict[str, str]
) -> None:
    report = opcheck(getattr(ops, "kinds_" + name))
    found = {r.check: r.where for r in report if r.verdict == "skip"}
    assert found.keys() == skipped.keys()
    assert all(skipped[check] in why for check, why in found.items()), found


def test_a_sound_opaque_op(ops: SimpleNamespace) -> None:
    report = opcheck(ops.kinds_moments, (X,))
    assert "gives float32[3], float32[3]" in report["run"].where
    with pytest.raises(TypeError, match="cannot be invented"):
        opcheck(ops.kinds_moments)


@pytest.mark.parametrize(
    ("name", "given", "caught", "text"),
    [
        ("value", False, "value", "in float32, .* in float64"),
        ("backward", False, "derivative", "differences give"),
        ("backward", False, "derived", "as written, .* derived"),
        ("unwritten", False, "memory", "never written.* output"),
        ("gradient", False, "memory", "never written.* gradient of input"),
        ("beyond", True, "memory", "outside of output was written: byte 3 after the last|byte 4"),
        ("reads", True, "memory", "outside of the inputs, was read: output"),
        ("lies", True, "memory", r"never written.* output\[3, 0\]"),
        ("shared", True, "threads", "with tasks in reverse order, .* in order"),
        ("input", True, "inputs kept", "is 0 after the call"),
        ("counts", False, "repeat", "the second time"),
        ("throws", False, "run", "ValueError: kinds_throws: rows of at most 3"),
        (
            "log",
            False,
            "finite",
            r"output\[1\] is nan in float32, from the row input = \[.*, \.\.\.\]",
        ),
    ],
)
def test_what_is_broken(
    ops: SimpleNamespace, name: str, given: bool, caught: str, text: str
) -> None:
    report = check(getattr(ops, "kinds_" + name), (X,) if given else None)
    assert report[caught].verdict == "FAIL", report
    assert re.search(text, report[caught].where), report


def test_overflow_is_noted(ops: SimpleNamespace) -> None:
    report = opcheck(ops.kinds_naive)
    assert report["finite"].verdict == "note"
    assert re.search("nan where the row of each input is .*1000", report["finite"].where), report
