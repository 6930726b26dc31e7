"""Kinds of ops that a user can write: reductions, row-wise ops, ops on arrays; and attributes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail._core import ops as registry
from backtrail.autograd import gradcheck, gradgradcheck
from backtrail.cpp_extension import load
from backtrail.extension import foreign

SOURCE = Path(__file__).with_name("extension_kinds.cpp")


@pytest.fixture(scope="module")
def ops(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("kinds")
    return load(SOURCE, build_directory=folder, extra_cflags=["-O0"])


def leaf(*shape: int, low: float = -1.0, high: float = 1.0, seed: int = 0) -> bt.Tensor:
    values = np.random.default_rng(seed + sum(shape)).uniform(low, high, shape)
    return bt.tensor(values).requires_grad_()


MASK = bt.tensor([[True, False, True, True], [False, True, True, False]])
INDEX = bt.tensor([2, 0, 2])
# name: inputs (double, requiring gradients, or not floating), keywords
CALLS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "wave_t": ([leaf(2, 3)], {"a": 0.7, "k": 3}),
    "logsumexp_t": ([leaf(2, 3, 4)], {"dim": 1}),
    "distance_t": ([leaf(3, 4), leaf(4)], {"dim": -1, "scale": 1.5}),
    "masked_softmax_t": ([leaf(2, 4), MASK], {"temperature": 0.7}),
    "softmax_t": ([leaf(3, 4)], {"dim": 0}),
    "differences_t": ([leaf(2, 5)], {"lag": 2}),
    "pairwise_t": ([leaf(3, 2), leaf(2, 2, seed=1)], {}),
    "sine_and_pick_t": ([leaf(3), INDEX], {}),
    "zoo_t": ([leaf(29, low=0.25, high=0.45)], {}),
}


def call(ops: SimpleNamespace, name: str, inputs: list[Any]) -> Any:
    return getattr(ops, name)(*inputs, **CALLS[name][1])


def functional(ops: SimpleNamespace, name: str) -> tuple[Any, list[bt.Tensor]]:
    """The op as a function of its floating inputs, and these."""
    inputs = CALLS[name][0]
    floating = [x for x in inputs if x.requires_grad]

    def f(*given: bt.Tensor) -> Any:
        rest = iter(given)
        return call(ops, name, [next(rest) if x.requires_grad else x for x in inputs])

    return f, floating


@pytest.mark.parametrize("name", CALLS)
def test_gradients_of_two_orders(ops: SimpleNamespace, name: str) -> None:
    f, inputs = functional(ops, name)
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)
    y = f(*inputs)
    total = (y if isinstance(y, bt.Tensor) else y[0]).sin().sum()
    recorded = bt.autograd.grad(total, inputs, create_graph=True)
    for a, b in zip(bt.autograd.grad(total, inputs), recorded, strict=True):
        assert bt.allclose(a, b)


@pytest.mark.parametrize("name", ["logsumexp_t", "softmax_t", "differences_t", "pairwise_t"])
def test_a_third_derivative(ops: SimpleNamespace, name: str) -> None:
    f, inputs = functional(ops, name)

    def second(*given: bt.Tensor) -> Any:
        y = f(*given).sin().sum()
        first = bt.autograd.grad(y, given, create_graph=True)
        return bt.autograd.grad(sum((g * g).sum() for g in first), given, create_graph=True)

    assert gradcheck(second, inputs, atol=1e-4)


def test_values_of_reductions(ops: SimpleNamespace) -> None:
    x = bt.randn(3, 4, 5, dtype=bt.float64)
    for dim in (None, 0, -1, (0, 2), [1], (0, 1, 2), ()):
        for keepdim in (False, True):
            want = x.exp().sum(dim, keepdim).log()
            got = ops.logsumexp_t(x, dim=dim, keepdim=keepdim)
            assert got.shape == want.shape, (dim, keepdim)
            assert bt.allclose(got, want)
    assert bt.allclose(ops.logsumexp_t(bt.tensor(0.3)), bt.tensor(0.3))
    assert ops.distance_t(x, 1.0, scale=1).shape == ()
    assert bt.allclose(ops.distance_t(x, x[0], dim=2, scale=1), (x - x[0]).norm(dim=2))


def test_values_of_rows(ops: SimpleNamespace) -> None:
    x = bt.randn(3, 4, 5, dtype=bt.float64)
    for dim in (0, 1, -1):
        assert bt.allclose(ops.softmax_t(x, dim=dim), x.softmax(dim))
    assert ops.softmax_t(bt.tensor(2.0)).item() == 1
    assert ops.differences_t(x, lag=3, dim=0).shape == (0, 4, 5)
    assert bt.allclose(ops.differences_t(x, dim=1), (x[:, 1:] - x[:, :-1]) ** 2)
    mask = bt.rand(4, 1) > 0.5
    want = bt.where(mask, x, -float("inf")).softmax(-1).nan_to_num(0.0)
    assert bt.allclose(ops.masked_softmax_t(x, mask), want)


def test_strides_and_zero_sizes(ops: SimpleNamespace) -> None:
    x = bt.randn(6, 8, dtype=bt.float64)
    for view in (x.T, x[::2, 1:], x[:, ::3], x[0].expand(5, 8), x[:, 3].expand(2, 6)):
        assert bt.equal(ops.softmax_t(view), ops.softmax_t(view.contiguous()))
        assert bt.equal(ops.logsumexp_t(view, dim=-1), ops.logsumexp_t(view.clone(), dim=-1))
        assert bt.equal(ops.pairwise_t(view, view), ops.pairwise_t(view.clone(), view.clone()))
    for shape in ((0,), (0, 3), (3, 0)):
        e = bt.empty(*shape, requires_grad=True)
        assert ops.softmax_t(e).shape == shape
        ops.softmax_t(e).sum().backward()
        assert e.grad is not None
        assert e.grad.shape == shape
        assert ops.logsumexp_t(e, dim=-1).shape == shape[:-1]
    assert ops.pairwise_t(bt.empty(0, 3), bt.empty(2, 3)).shape == (0, 2)


@pytest.mark.parametrize("name", CALLS)
def test_dtypes(ops: SimpleNamespace, name: str) -> None:
    inputs = [x.detach() for x in CALLS[name][0]]
    want = call(ops, name, inputs)
    for dtype, tolerance in ((bt.float32, 1e-4), (bt.bfloat16, 0.1)):
        given = [x.to(dtype) if x.dtype.is_floating_point else x for x in inputs]
        got = call(ops, name, given)
        first = got if isinstance(got, bt.Tensor) else got[0]
        wanted = want if isinstance(want, bt.Tensor) else want[0]
        assert first.dtype is dtype
        assert bt.allclose(first.double(), wanted, rtol=tolerance, atol=tolerance)


def test_integers_where_floats_belong(ops: SimpleNamespace) -> None:
    with pytest.raises(TypeError, match="softmax_t: input 0 has dtype int64; expected float32"):
        ops.softmax_t(bt.tensor([1, 2]))
    with pytest.raises(TypeError, match="masked_softmax_t: input 1 has dtype float32; expected bo"):
        ops.masked_softmax_t(bt.randn(3), bt.randn(3))
    with pytest.raises(TypeError, match="input 1 is float; expected a Tensor"):
        ops.masked_softmax_t(bt.randn(3), 1.0)
    mixed = ops.pairwise_t(bt.randn(2, 3), bt.randn(2, 3, dtype=bt.float64))
    assert mixed.dtype is bt.float64


@pytest.mark.parametrize("name", CALLS)
def test_replay_is_eager_bit_for_bit(ops: SimpleNamespace, name: str) -> None:
    f, inputs = functional(ops, name)

    def step(*given: bt.Tensor) -> Any:
        leaves = [x.detach().requires_grad_() for x in given]
        y = f(*leaves)
        ys = [y] if isinstance(y, bt.Tensor) else list(y)
        total = sum((t.tanh() * 2).sum() for t in ys)
        return [*(t.detach() for t in ys), *bt.autograd.grad(total, leaves)]

    compiled = bt.compile(step)
    for _ in range(3):
        for got, want in zip(compiled(*inputs), step(*inputs), strict=True):
            assert bt.equal(got, want)


def test_threads_and_rows_give_the_same_bits(ops: SimpleNamespace) -> None:
    x = bt.randn(700, 131, requires_grad=True)
    mask = bt.rand(131) > 0.3

    def run() -> list[bt.Tensor]:
        y = ops.masked_softmax_t(x, mask)
        z = ops.distance_t(y, x.detach(), dim=-1) + ops.logsumexp_t(x, dim=1)
        p = ops.pairwise_t(x[:300], x[300:500])
        (g,) = bt.autograd.grad(z.sum() + p.sum(), x)
        return [y.detach(), z.detach(), p.detach(), g]

    before = bt.get_num_threads()
    try:
        results = []
        for n in (1, 2, 3, 8):
            bt.set_num_threads(n)
            results.append(run())
    finally:
        bt.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert bt.equal(a, b)
    alone = ops.masked_softmax_t(x[3], mask)
    assert bt.equal(alone, results[0][0][3])


@pytest.mark.parametrize("name", ["distance_t", "softmax_t", "pairwise_t"])
def test_a_written_backward_against_the_derived_one(ops: SimpleNamespace, name: str) -> None:
    shapes = {"distance_t": [(3, 4), (3, 4)], "softmax_t": [(3, 4)], "pairwise_t": [(3, 2), (2, 2)]}
    inputs = [leaf(*s, seed=i) for i, s in enumerate(shapes[name])]
    attrs = (1.5,) if name == "distance_t" else ()
    y = getattr(ops, name)(*inputs, **({"dim": -1, "scale": 1.5} if attrs else {}))
    g = bt.randn(*y.shape, dtype=bt.float64)
    written = bt.autograd.grad(y, inputs, g)
    derived = foreign.derived_gradients(
        registry[name], tuple(x.detach() for x in inputs), [g], attrs
    )
    for a, b in zip(written, derived, strict=True):
        assert b is not None
        assert bt.allclose(a, b)


def test_attributes(ops: SimpleNamespace) -> None:
    x = bt.randn(5)
    assert bt.allclose(
        ops.wave_t(x, a=0.5, k=4, shifted=True, b=2.0), (0.5 * x).sin() * 2 + 2, atol=1e-6
    )
    with pytest.raises(TypeError, match=r"wave_t: k must be an int; got float \(0.5\)"):
        ops.wave_t(x, k=0.5)
    with pytest.raises(TypeError, match=r"wave_t: shifted must be a bool; got str \('yes'\)"):
        ops.wave_t(x, shifted="yes")
    with pytest.raises(TypeError, match="wave_t: a must be a number; got str"):
        ops.wave_t(x, a="big")
    with pytest.raises(TypeError, match="lag must be an int"):
        ops.differences_t(x, lag=1.5)
    with pytest.raises(ValueError, match="k is 3000000000"):
        ops.wave_t(x, k=3_000_000_000)
    with pytest.raises(TypeError, match=r"wave_t\(\) got an unexpected keyword argument 'c'"):
        ops.wave_t(x, c=1)
    assert bt.equal(x.clone().wave_t_(a=0.3), x.wave_t(a=0.3))


def test_signatures(ops: SimpleNamespace) -> None:
    from inspect import signature

    def text(name: str) -> str:
        return str(signature(getattr(ops, name))).replace("'", "")

    assert text("wave_t") == (
        "(input: Tensor, a: float = 0.1, k: int = 2, shifted: bool = False, b: float = 1.0, "
        "n: int = 3) -> Tensor"
    )
    assert text("distance_t") == (
        "(x: Tensor | float, target: Tensor | float, dim: int | Sequence[int] | None = None, "
        "keepdim: bool = False, *, scale: float = 2.0) -> Tensor"
    )
    assert text("masked_softmax_t") == (
        "(input: Tensor | float, other: Tensor, dim: int = -1, *, temperature: float = 1.0)"
        " -> Tensor"
    )
    assert text("sine_and_pick_t").endswith("-> tuple[Tensor, Tensor]")
    assert ops.softmax_t.__doc__ == "Row-wise with a backward that reads the output."


@pytest.mark.parametrize(
    ("what", "error", "text"),
    [
        (1, ValueError, "faulty_t: no value"),
        (2, IndexError, "faulty_t: no index"),
        (3, MemoryError, "faulty_t: out of memory"),
        (4, RuntimeError, "faulty_t: no luck"),
        (5, RuntimeError, "faulty_t: it threw something"),
        (6, RuntimeError, r"faulty_t: its shape rule gave \(-1,\)"),
        (7, ValueError, "faulty_t: a shape of more than 8 dimensions"),
        (8, IndexError, r"faulty_t: index \(3\) of an array of shape \(3,\)"),
        (9, ValueError, "faulty_t: in a task"),
    ],
)
def test_what_is_thrown_reaches_python(
    ops: SimpleNamespace, what: int, error: type[Exception], text: str
) -> None:
    x = bt.randn(3)
    for _ in range(2):
        with pytest.raises(error, match=text):
            ops.faulty_t(x, what=what)
        assert bt.equal(ops.faulty_t(x), x)
        assert bt.equal(x + 0, x)


def test_errors_in_parallel_in_plans_and_in_backward(ops: SimpleNamespace) -> None:
    x = bt.rand(100_000) + 0.1
    for n in (10, 100_000):
        with pytest.raises(ValueError, match="wave_t: a must be > 0"):
            ops.wave_t(x[:n], a=-1)
    rows = bt.rand(1000, 100)
    assert bt.allclose(ops.bad_row_t(rows, dim=1), rows.sum(1))
    compiled = bt.compile(lambda r: ops.bad_row_t(r * 2, dim=1) + 1)
    for _ in range(2):
        compiled(rows)
    rows[777, 5] = -1
    for f in (compiled, lambda r: ops.bad_row_t(r, dim=1)):
        with pytest.raises(ValueError, match="bad_row_t: a row has a negative element"):
            f(rows)
    rows[777, 5] = 1
    assert bt.allclose(compiled(rows), (rows * 2).sum(1) + 1)


def test_errors_go_to_the_thread_that_asked(ops: SimpleNamespace) -> None:
    from threading import Thread

    x = bt.rand(100_000)
    wrong = []

    def work(a: float) -> None:
        for _ in range(20):
            try:
                ops.wave_t(x, a=a)
                wrong.append(a) if a < 0 else None
            except ValueError:
                wrong.append(a) if a > 0 else None

    threads = [Thread(target=work, args=(a,)) for a in (0.5, -1.0, 0.7, -2.0)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_shapes_and_dims_that_do_not_fit(ops: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match=r"pairwise_t: expected \(n, d\) and \(m, d\); got \(2,"):
        ops.pairwise_t(bt.randn(2, 3), bt.randn(2, 4))
    with pytest.raises(RuntimeError, match="distance_t"):
        ops.distance_t(bt.randn(2, 3), bt.randn(4))
    with pytest.raises(IndexError, match="softmax_t: dimension 2 is out of range"):
        ops.softmax_t(bt.randn(2, 3), dim=2)
    with pytest.raises(RuntimeError, match="logsumexp_t: a dimension is named twice"):
        ops.logsumexp_t(bt.randn(2, 3), dim=(0, -2))
    with pytest.raises(TypeError, match="softmax_t: dim must be an int"):
        ops.softmax_t(bt.randn(2, 3), dim=0.5)


def test_orders_that_there_are_not(ops: SimpleNamespace) -> None:
    x = leaf(3)
    (g,) = bt.autograd.grad(ops.once_t(x) ** 2, x, create_graph=True)
    assert bt.allclose(g, 8 * x.detach().sum())
    y = ops.once_t(x * x)
    (g,) = bt.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_t: it has derivatives up to order 1"):
        bt.autograd.grad((g * g).sum(), x, create_graph=True)
