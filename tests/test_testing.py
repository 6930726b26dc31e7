"""`bt.testing.opcheck`: sound ops pass; for every check there is an op that only it is to catch."""

from __future__ import annotations

import ctypes
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import backtrail as bt
import backtrail.nn.functional as F
import pytest
from backtrail import _core, cpp_extension
from backtrail._core import Op, ops
from backtrail.tensor import apply
from backtrail.testing import Report, opcheck
from samples import SAMPLES

BROKEN = """
#include <backtrail/op.h>
using namespace backtrail;
template <class V> constexpr bool single = false;
template <> constexpr bool single<Vec<float>> = true;
template <class V> constexpr bool kernel = false;
template <class T> constexpr bool kernel<Vec<T>> = true;

#define OP(Struct, title) struct Struct { \\
  static constexpr auto name = "broken_" title; \\
  static constexpr auto doc = "Wrong in one way.";
OP(Sound, "sound")
  static constexpr Attr attrs[] = {{"a", 1}};
  template <class V> static V forward(V x, V y, V a) { return sin(a * x) * y; }
  template <class V> static Grads<V, 2> backward(V g, V x, V y, V a) {
    return {{g * a * cos(a * x) * y, g * sin(a * x)}};
  }
};
OP(Value, "value")  // the float kernel alone
  template <class V> static V forward(V x) { return single<V> ? x * V(1.001) : x; }
};
OP(Derivative, "derivative")  // forward and backward are both followed, and disagree
  template <class V> static V forward(V x) { return x * x * x; }
  template <class V> static V backward(V g, V x) { return g * V(2) * x * x; }
};
OP(Attribute, "attribute")  // right at the default of `a` only
  static constexpr Attr attrs[] = {{"a", 1}};
  template <class V> static V forward(V x, V a) { return a * x * x; }
  template <class V> static V backward(V g, V x, V) { return g * V(2) * x; }
};
OP(Second, "second")  // the kernel is right, what create_graph=True traces is not
  template <class V> static V forward(V x) { return x * x * x; }
  template <class V> static V backward(V g, V x) {
    return kernel<V> ? g * V(3) * x * x : g * V(3) * x;
  }
};
OP(Domain, "domain")
  template <class V> static V forward(V x) { return log(x); }
};
OP(Zero, "zero")  // its derivative at 0 is 0 / 0
  template <class V> static V forward(V x) { return sqrt(x * x); }
};
OP(Large, "large")  // exp overflows
  template <class V> static V forward(V x) { V e = exp(x); return e / (e + V(1)); }
};
OP(Counts, "counts")  // remembers how often it ran
  template <class V> static V forward(V x) {
    static int calls = 0;
    return kernel<V> ? x + V(double(++calls)) : x;
  }
};
BACKTRAIL_OPS(Sound, Value, Derivative, Attribute, Second, Domain, Zero, Large, Counts)
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "broken.cpp").write_text(BROKEN)
    return cpp_extension.load(folder / "broken.cpp", build_directory=folder)


def check(op: Any, *args: Any, **options: Any) -> Report:
    return opcheck(op, *args, raise_exception=False, **options)


def failures(report: Report) -> set[str]:
    return {r.check for r in report.failed}


# ---- sound ops


POINTWISE = [n for n, op in ops.items() if op.kind == "pointwise"]
QUICK = ["run", "value", "derivative", "derived", "second derivative", "broadcast", "empty"]


@pytest.mark.parametrize("name", POINTWISE)
def test_every_pointwise_op_passes(name: str) -> None:
    whole = POINTWISE.index(name) % 6 == 0  # what takes time, for some
    report = opcheck(ops[name], checks=None if whole else [*QUICK, "finite"])
    assert report.passed
    verdicts = {r.check: r.verdict for r in report}
    skipped = {c for c, v in verdicts.items() if v == "skip"}
    info = _core.pointwise_info(ops[name])
    expected = set() if info["floats"] and not all(info["mask_inputs"]) else {"value"}
    if not ops[name].differentiable:
        expected |= {"derivative", "derived", "second derivative"}
    elif not info["written_backward"]:
        expected |= {"derived"}
    if name in ("floor_divide", "trunc_divide", "sign", "floor", "ceil", "trunc", "round"):
        expected |= {"second derivative"}  # the first is 0 whatever comes in
    assert skipped == expected


@pytest.mark.parametrize("name", [n for n in SAMPLES if ops[n].kind != "pointwise"])
def test_every_other_op_passes(name: str) -> None:
    for sample in SAMPLES[name]:
        xs = [
            None if a is None else bt.tensor(a.astype("float32") if a.dtype.kind == "f" else a)
            for a in sample.inputs
        ]
        report = check(as_function(ops[name], len(xs), sample.attrs), xs)
        random = name in ("bernoulli", "dropout")  # another stream for each dtype
        assert failures(report) <= ({"value"} if random else set()), report


def as_function(op: Op, n: int, attrs: tuple[Any, ...]) -> Callable[..., Any]:
    def function(*xs: Any) -> Any:
        return apply(op, xs[:n], attrs)

    function.op = op  # type: ignore[attr-defined]
    return function


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (bt.tanh, None, None),
        (bt.sum, None, None),
        (bt.amax, None, None),
        (bt.logsumexp, (bt.ones(3, 4),), {"dim": 1}),
        (lambda x: bt.softmax(x, -1), (bt.arange(12.0).reshape(3, 4).sin(),), None),
        (bt.cat, ([bt.ones(2, 3), bt.zeros(1, 3)],), {"dim": 0}),
        (bt.where, (bt.tensor([True, False, True]), bt.ones(3), bt.zeros(2, 1)), None),
        (bt.sort, (bt.tensor([[3.0, 1.0, 2.0]]),), None),
        (bt.Tensor.matmul, (bt.ones(3, 4), bt.ones(4, 2)), None),
        (F.layer_norm, (bt.arange(12.0).reshape(3, 4).sin(), (4,)), None),
        (F.cross_entropy, (bt.arange(12.0).reshape(3, 4).sin(), bt.tensor([1, 0, 3])), None),
        (F.dropout, (bt.ones(5, 6),), {"p": 0.25}),
        (F.conv1d, (bt.arange(12.0).reshape(1, 2, 6).sin(), bt.ones(3, 2, 2)), None),
        (lambda x: {"two": (x * 2, x > 0), "sum": x.sum()}, (bt.tensor([1.0, -2.0]),), None),
    ],
)
def test_functions_pass(function: Any, args: Any, kwargs: Any) -> None:
    bt.manual_seed(3)
    state = bt.get_rng_state()
    report = opcheck(function, args, kwargs)
    assert report["derivative"].verdict == "pass"
    assert bt.equal(state, bt.get_rng_state())


def test_a_sound_op_of_a_user_passes(broken: SimpleNamespace) -> None:
    report = opcheck(broken.broken_sound)
    assert {r.verdict for r in report} == {"pass"}
    assert len(report.samples) == 3
    assert "float32[3, 7], a=1.1" in report.samples[1]
    x = bt.tensor([[0.5, 1.0]], requires_grad=True)
    assert opcheck(broken.broken_sound, (x, bt.tensor([2.0]), 0.7)).passed
    assert opcheck(broken.broken_sound, (x, 3.0), {"a": 0.7}).passed


# ---- broken ones


@pytest.mark.parametrize(
    ("name", "caught", "text"),
    [
        ("value", {"value"}, r"output\[\d, \d\]: .* in float32, .* in float64"),
        ("derivative", {"derivative", "derived"}, "as written, .* derived"),
        ("attribute", {"derivative", "derived"}, "differences give"),
        ("second", {"derivative"}, "plainly, .* by create_graph=True"),
        ("domain", {"finite"}, r"output\[\d, \d\] is nan in float32, from input = -"),
        ("counts", {"repeat"}, "the second time"),
    ],
)
def test_what_is_broken_in_cpp(
    broken: SimpleNamespace, name: str, caught: set[str], text: str
) -> None:
    report = check(getattr(broken, "broken_" + name))
    assert failures(report) >= caught
    if name not in ("counts", "domain"):  # differ at each run; has no slopes either
        assert failures(report) <= caught | {"second derivative"}
    assert any(re.search(text, r.where) for r in report.failed), report
    with pytest.raises(AssertionError, match=f"opcheck broken_{name}: {len(report.failed)} failed"):
        opcheck(getattr(broken, "broken_" + name))


def test_second_derivative(broken: SimpleNamespace) -> None:
    assert check(broken.broken_second)["second derivative"].verdict == "FAIL"


def test_numbers_at_the_edge_are_noted(broken: SimpleNamespace) -> None:
    report = opcheck(broken.broken_zero)
    assert report["finite"].verdict == "note"
    assert report["finite"].where == "gradient of input is nan where every input is 0"
    assert "output is nan where every input is 1000" in opcheck(broken.broken_large)["finite"].where


X = (bt.tensor([[0.3, -1.2, 2.0], [0.7, 1.1, -0.4]]),)
calls = itertools.count()


def raises(x: bt.Tensor) -> bt.Tensor:
    raise ValueError("x is of no use")


def changes_its_input(x: bt.Tensor) -> bt.Tensor:
    y = x * 2
    x.detach().mul_(1.5)
    return y


def forgets_the_strides(x: bt.Tensor) -> bt.Tensor:
    dense = bt.empty(x.shape).stride()
    return x.as_strided(x.shape, dense, x.storage_offset()) * 2


def leaves_elements_out(x: bt.Tensor) -> bt.Tensor:
    y = bt.empty(x.shape, dtype=x.dtype)
    y[:-1] = x.detach()[:-1]
    return y


def reads_beyond(x: bt.Tensor) -> bt.Tensor:
    kind = ctypes.c_float if x.dtype is bt.float32 else ctypes.c_double
    end = x.data_ptr() + x.numel() * x.element_size()
    return x.detach() * 0 + kind.from_address(end).value


def writes_beyond(x: bt.Tensor) -> bt.Tensor:
    y = x * 2
    ctypes.c_char.from_address(y.data_ptr() + y.numel() * y.element_size() + 4).value = b"!"
    return y


def writes_before(x: bt.Tensor) -> bt.Tensor:
    y = x.detach() * 2  # a result in between, released before anyone looks
    ctypes.c_char.from_address(y.data_ptr() - 8).value = b"!"
    return x * 2


def rounds_inside(x: bt.Tensor) -> bt.Tensor:
    return x.float().sin().to(x.dtype)


def depends_on_capture(x: bt.Tensor) -> bt.Tensor:
    return x * (2.5 if _core.capturing() else 2.0)


def looks_at_values(x: bt.Tensor) -> bt.Tensor:
    return x * 2 if x.detach().amax().item() > 0 else x


def depends_on_threads(x: bt.Tensor) -> bt.Tensor:
    return x * float(bt.get_num_threads())


def jumps(x: bt.Tensor) -> bt.Tensor:
    return x.log()


class HalfGradient(bt.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: bt.Tensor, y: bt.Tensor) -> bt.Tensor:
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx: Any, g: bt.Tensor) -> Any:
        x, y = ctx.saved_tensors
        alone = not all(ctx.needs_input_grad)
        return g * y * (0.5 if alone else 1.0), g * x


@pytest.mark.parametrize(
    ("op", "name", "text"),
    [
        (raises, "run", r"the op raised ValueError: x is of no use \(float32 inputs\)"),
        (lambda x: "text", "run", "returned no tensor"),
        (lambda x: x + next(calls), "repeat", "the second time"),
        (changes_its_input, "inputs kept", r"x\[0, 0\] is .* after the call, .* before"),
        (forgets_the_strides, "strides", "transposed"),
        (forgets_the_strides, "broadcast", "with the same values copied"),
        (leaves_elements_out, "memory", r"never written.* output\[1, 0\]"),
        (reads_beyond, "memory", "outside of the inputs, was read: output"),
        (writes_beyond, "memory", "outside of output was written: byte 5 after the last"),
        (writes_before, "memory", "result in between was written: byte 8 before the first"),
        (rounds_inside, "derivative", "do not settle"),
        (depends_on_capture, "replay", r"captured \(call 1\)"),
        (depends_on_threads, "threads", "on 2 threads"),
        (jumps, "finite", r"is nan in float32, from x from -1.2\d* to 2"),
        (lambda x: x.detach() * 2 + x, "derivative", "the derivative is .* differences give"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*was captured")
def test_what_is_broken_in_python(op: Any, name: str, text: str) -> None:
    report = check(op, tuple(x.clone() for x in X))
    assert report[name].verdict == "FAIL", report
    assert re.search(text, report[name].where), report


def test_the_gradient_of_an_input_alone() -> None:
    report = check(HalfGradient.apply, (X[0], X[0] * 2 + 1))
    assert failures(report) == {"derivative"}
    assert "asked for alone" in report["derivative"].where


def test_empty_inputs_that_a_pointwise_op_must_take() -> None:
    def refuses(x: bt.Tensor) -> bt.Tensor:
        if not x.numel():
            raise RuntimeError("nothing to do")
        return x.exp()

    refuses.op = ops["exp"]  # type: ignore[attr-defined]
    report = check(refuses)
    assert failures(report) == {"empty"}
    assert "nothing to do" in report["empty"].where
    del refuses.op  # type: ignore[attr-defined]
    report = opcheck(refuses, X)  # of another function nothing is known
    assert report["empty"].verdict == "skip"


# ---- skipped, chosen, asked for


def test_what_cannot_be_checked_says_why() -> None:
    report = opcheck(bt.argmax, X)
    for name in ("derivative", "derived", "second derivative"):
        assert report[name].verdict == "skip"
        assert "not differentiable" in report[name].where
    report = opcheck(looks_at_values, X)
    assert report["replay"].verdict == "skip"
    assert "item" in report["replay"].where
    report = opcheck(bt.sin, (bt.tensor([1.0, bt.inf]),), checks=["finite"])
    assert report["finite"].verdict == "skip"
    report = check(raises, X)
    assert {r.verdict for r in report} == {"FAIL", "skip"}


def test_only_inputs_that_require_grad_are_differentiated() -> None:
    def one_sided(x: bt.Tensor, y: bt.Tensor) -> bt.Tensor:
        return x * y.detach()

    x, y = bt.ones(3), bt.ones(3)
    assert failures(check(one_sided, (x, y))) == {"derivative", "second derivative"}
    assert opcheck(one_sided, (x.requires_grad_(), y)).passed


def test_kinks_are_no_errors() -> None:
    x = bt.tensor([0.0, 1.0, -1.0, 1e-7])
    assert opcheck(bt.relu, (x,))["derivative"].verdict == "pass"
    assert opcheck(bt.abs, (x,))["derivative"].verdict == "pass"


def test_checks_can_be_chosen() -> None:
    report = opcheck(bt.exp, checks=["value", "threads"])
    assert [r.check for r in report] == ["value", "threads"]
    with pytest.raises(ValueError, match="no check 'speed'; there are run, inputs kept"):
        opcheck(bt.exp, checks=["speed"])
    with pytest.raises(KeyError, match="no check 'memory'"):
        report["memory"]


def test_tolerances_of_the_value(broken: SimpleNamespace) -> None:
    assert not check(broken.broken_value, checks=["value"]).passed
    assert opcheck(broken.broken_value, checks=["value"], rtol=0.01).passed


def test_inputs_that_cannot_be_invented() -> None:
    for op in (F.linear, bt.clamp, ops["matmul"]):
        with pytest.raises(TypeError, match="cannot be invented: give them"):
            opcheck(op)
    with pytest.raises(TypeError, match="expected the function of an op"):
        opcheck("exp")


# ---- the report


def test_the_table_fits_and_is_plain() -> None:
    report = check(raises, X)
    for width in (60, 80, 200):
        lines = report.text(width).splitlines()
        assert max(map(len, lines)) <= width
    assert lines[0] == "opcheck raises: 1 failed, 0 passed, 13 skipped"
    assert lines[1] == "  on (float32[2, 3])"
    assert lines[3].split() == ["check", "verdict", "worst", "error", "where,", "or", "why"]
    assert "\033" not in str(report)
    assert "\033[1;31mFAIL" in report.text(100, colour=True)
    assert repr(report) == str(report)
    assert len(report) == len(list(report)) == 14


def test_the_report_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    report = opcheck(bt.exp, checks=["value"])
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[32mpass" in str(report)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in str(report)


def test_the_switches_are_off_afterwards(tmp_path: Path) -> None:
    before = bt.get_num_threads()
    for op in (writes_beyond, depends_on_threads, raises):
        check(op, X)
    assert bt.get_num_threads() == before
    assert _core.guard_damage(bt.ones(3)) == 0
    assert _core.released_damage() == 0
    x = bt.ones(100)  # no longer guarded: large blocks lie where the pool puts them
    ctypes.c_char.from_address(x.data_ptr() + 400).value = b"?"
    assert _core.guard_damage(x) == 0
