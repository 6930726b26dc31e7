"""Every method `name_` is its function in place; every function that takes `out=` writes there."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import backtrail as bt
import pytest
from backtrail import _core
from backtrail._core import equal_bytes, ops, pointwise_info
from backtrail.functions import functional

POINTWISE = {name: op for name, op in ops.items() if op.kind == "pointwise"}
ALIAS = {
    "absolute": "abs",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "fix": "trunc",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "subtract": "sub",
}
# Methods that have no function of which they would be a form, or are made elsewhere.
OTHERS = {
    *("apply", "bernoulli", "copy", "detach", "exponential", "fill", "normal", "random"),
    *("requires_grad", "share_memory", "uniform", "zero", "fill_diagonal", "set", "resize"),
    *("map", "geometric", "cauchy", "log_normal", "put", "index_put", "resize_as"),
}
D = bt.float64


def numbers(*shape: int, low: float = 0.2, high: float = 0.8) -> bt.Tensor:
    """Numbers of a range, in no order."""
    n = 1
    for size in shape:
        n *= size
    steps = (bt.arange(n, dtype=D) * 7) % max(n, 1) / max(n, 1)
    return (low + (high - low) * steps).reshape(shape)


def whole(*shape: int) -> bt.Tensor:
    return (numbers(*shape) * 20).to(bt.int64)


INDEX = bt.tensor([[0, 1, 0], [1, 0, 1]])
# What a function is called with, after its first tensor: for those that are no pointwise op.
ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "addbmm": lambda: (numbers(4, 2, 5), numbers(4, 5, 3)),
    "addmm": lambda: (numbers(2, 4), numbers(4, 3)),
    "as_strided": lambda: ((3, 2), (1, 3)),
    "baddbmm": lambda: (numbers(2, 2, 4), numbers(2, 4, 3)),
    "clamp": lambda: (0.3, 0.6),
    "clamp_max": lambda: (0.6,),
    "clamp_min": lambda: (numbers(3),),
    "clip": lambda: (0.3, None),
    "cumprod": lambda: (1,),
    "cumsum": lambda: (0,),
    "div": lambda: (0.7,),
    "divide": lambda: (numbers(2, 3),),
    "index_add": lambda: (0, bt.tensor([1, 0]), numbers(2, 3)),
    "index_copy": lambda: (0, bt.tensor([1, 0]), numbers(2, 3)),
    "index_fill": lambda: (0, bt.tensor([1]), 2.0),
    "lerp": lambda: (numbers(2, 3), 0.3),
    "logit": lambda: (),
    "masked_fill": lambda: (INDEX > 0, 2.0),
    "masked_scatter": lambda: (INDEX > 0, numbers(2, 3)),
    "nan_to_num": lambda: (),
    "pow": lambda: (3,),
    "renorm": lambda: (2, 0, 0.5),
    "round": lambda: (),
    "scatter": lambda: (0, INDEX, numbers(2, 3)),
    "scatter_add": lambda: (1, INDEX, numbers(2, 3)),
    "scatter_reduce": lambda: (1, INDEX, numbers(2, 3), "sum"),
    "squeeze": lambda: (),
    "swapaxes": lambda: (0, 1),
    "swapdims": lambda: (0, 1),
    "transpose": lambda: (0, 1),
    "true_divide": lambda: (0.7,),
    "unsqueeze": lambda: (1,),
}


def methods() -> list[str]:
    names = [n[:-1] for n in vars(bt.Tensor) if n.endswith("_") and not n.startswith("_")]
    return sorted(n for n in names if n not in OTHERS)


def sample(name: str) -> tuple[bt.Tensor, tuple[Any, ...]]:
    """A tensor that a method may be called on, and the arguments."""
    op = POINTWISE.get(ALIAS.get(name, name))
    if name.startswith("bitwise"):
        return whole(2, 3), () if name == "bitwise_not" else (whole(3),)
    if op is None or name in ARGUMENTS:
        x = numbers(2, 3) if name != "baddbmm" else numbers(2, 2, 3)
        return x, ARGUMENTS[name]() if name in ARGUMENTS else ()
    low, high = pointwise_info(op)["range"]
    given = [numbers(2, 3, low=low, high=high) for _ in range(op.n_inputs)]
    if any(pointwise_info(op)["mask_inputs"]):
        given = [g > (low + high) / 2 for g in given]
    return given[0], tuple(given[1:])


def same(a: bt.Tensor, b: bt.Tensor) -> bool:
    return a.dtype is b.dtype and a.shape == b.shape and equal_bytes(a.detach(), b.detach())


def test_there_are_many_in_place_forms() -> None:
    assert len(methods()) > 110
    assert {"eq", "tril", "cumsum", "addmm", "logical_not", "squeeze", "arctanh"} < set(methods())


@pytest.mark.parametrize("name", methods())
def test_a_method_in_place_is_its_function(name: str) -> None:
    x, args = sample(name)
    expected = getattr(x, name)(*args)
    y = x.clone()
    address, version = y.data_ptr(), y._version
    result = getattr(y, name + "_")(*args)
    assert result is y
    assert y.data_ptr() == address
    assert y.dtype is x.dtype
    assert same(
        y, expected.to(x.dtype).contiguous() if name not in functional.VIEWS_IN_PLACE else y
    )
    assert y.shape == expected.shape
    assert y.tolist() == expected.to(x.dtype).tolist() or y.isnan().any()
    if name not in functional.VIEWS_IN_PLACE:
        assert y._version > version


@pytest.mark.parametrize("name", methods())
def test_a_method_in_place_has_the_gradient_of_its_function(name: str) -> None:
    x, args = sample(name)
    if not x.dtype.is_floating_point:
        return

    def slopes(form: str) -> tuple[Any, Any]:
        leaf = x.clone().requires_grad_()
        others = [
            a.clone().requires_grad_() if isinstance(a, bt.Tensor) and a.dtype is D else a
            for a in args
        ]
        y = getattr(leaf * 1.0, form)(*others)
        if y.dtype is bt.bool:  # no slope; in place it is 0
            return bt.zeros_like(leaf), [None for _ in others]
        weights = numbers(*y.shape, low=1.0, high=2.0)
        (y * weights).sum().backward()
        return leaf.grad, [a.grad if isinstance(a, bt.Tensor) else None for a in others]

    expected, got = slopes(name), slopes(name + "_")
    assert got[0] is not None
    assert bt.allclose(got[0], expected[0], equal_nan=True)
    for g, e in zip(got[1], expected[1], strict=True):
        assert (g is None) == (e is None)
        assert g is None or bt.allclose(g, e, equal_nan=True)


@pytest.mark.parametrize("name", methods())
def test_a_method_in_place_refuses_leaves_and_shared_elements(name: str) -> None:
    x, args = sample(name)
    if x.dtype.is_floating_point:
        leaf = x.clone().requires_grad_()
        before = leaf.detach().clone()
        with pytest.raises(RuntimeError, match="leaf"):
            getattr(leaf, name + "_")(*args)
        assert same(leaf, before)
        with bt.no_grad():
            assert getattr(leaf, name + "_")(*args) is leaf
        assert leaf.requires_grad
    if name not in functional.VIEWS_IN_PLACE:
        shared = x[:1].expand(x.shape) if x.shape[0] > 1 else x
        with pytest.raises(RuntimeError, match="share one element"):
            getattr(shared, name + "_")(*args)


@pytest.mark.parametrize("name", ["exp", "cumsum", "addmm", "div", "clamp", "lerp"])
def test_a_result_of_floats_does_not_fit_into_integers(name: str) -> None:
    _, args = sample(name)
    if name == "cumsum":
        assert whole(2, 3).cumsum_(0).dtype is bt.int64
        return
    with pytest.raises(RuntimeError):
        getattr(whole(2, 3), name + "_")(*args)


def test_comparisons_in_place_are_numbers() -> None:
    x = bt.tensor([1.0, 2.0, 3.0])
    assert x.gt_(1.5).tolist() == [0.0, 1.0, 1.0]
    assert x.logical_not_().tolist() == [1.0, 0.0, 0.0]
    assert x.dtype is bt.float32


def test_a_tensor_becomes_a_view_of_itself() -> None:
    x = bt.arange(6.0).reshape(2, 3)
    other = x[0]
    assert x.t_() is x
    assert x.shape == (3, 2)
    assert x.tolist() == [[0, 3], [1, 4], [2, 5]]
    x[0, 0] = 9.0
    assert other.tolist() == [9, 1, 2]
    assert x.unsqueeze_(0).squeeze_(0).transpose_(0, 1).shape == (2, 3)
    leaf = bt.ones(2, 3, requires_grad=True)
    y = leaf * 2
    y.t_()
    (y * bt.arange(6.0).reshape(3, 2)).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [[0, 4, 8], [2, 6, 10]]


def test_writes_into_shared_elements_are_refused() -> None:
    writes: list[Callable[[bt.Tensor], Any]] = [
        lambda x: x.copy_(bt.ones(4)),
        lambda x: x.uniform_(),
        lambda x: x.normal_(),
        lambda x: x.bernoulli_(0.5),
        lambda x: x.exponential_(),
        lambda x: x.random_(0, 5),
        lambda x: x.masked_fill_(bt.tensor([True, False, True, False]), 1.0),
        lambda x: x.scatter_(0, bt.tensor([1]), bt.ones(1)),
        lambda x: x.scatter_add_(0, bt.tensor([1]), bt.ones(1)),
        lambda x: x.index_add_(0, bt.tensor([1]), bt.ones(1)),
        lambda x: x.__setitem__(slice(None), bt.arange(4.0)),
        lambda x: bt.nn.init.normal_(x),
        lambda x: bt.nn.init.uniform_(x),
        lambda x: bt.exp(bt.ones(4), out=x),
        lambda x: bt.sum(bt.ones(4, 4), 0, out=x),
    ]
    for write in writes:
        for target in (bt.zeros(1).expand(4), bt.zeros(7).as_strided((4,), (0,))):
            with pytest.raises(RuntimeError, match="share one element"):
                write(target)
            assert target.tolist() == [0.0] * 4
    overlapping = bt.zeros(5).unfold(0, 3, 1)
    with pytest.raises(RuntimeError, match="share one element"):
        overlapping.add_(1)
    apart = bt.zeros(8).as_strided((2, 3), (3, 2))  # 0 2 4, 3 5 7: none twice
    assert not _core.overlaps_itself(apart)
    assert bt.zeros(1).expand(4).fill_(2.0).tolist() == [2.0] * 4  # every write is the same
    assert bt.ones(1).expand(4).zero_().tolist() == [0.0] * 4


def test_old_orders_of_arguments() -> None:
    x, y = bt.tensor([1.0, 2.0]), bt.tensor([3.0, 5.0])
    assert bt.add(x, 2, y).tolist() == [7, 12]
    assert x.add(2, y).tolist() == [7, 12]
    assert x.sub(2, y).tolist() == [-5, -8]
    assert x.clone().add_(0.5, y).tolist() == [2.5, 4.5]
    assert bt.addcmul(x, 2, y, y).tolist() == [19, 52]
    assert x.clone().addcmul_(2, y, y).tolist() == [19, 52]
    assert x.clone().addcdiv_(2, y, y).tolist() == [3, 4]
    assert bt.add(x, y, alpha=2).tolist() == [7, 12]
    whole = bt.tensor([1, 2])
    assert bt.add(whole, 1, alpha=2).tolist() == [3, 4]
    for wrong in (
        lambda: bt.add(whole, 1, alpha=0.5),
        lambda: whole.sub(1, alpha=0.5),
        lambda: whole.add_(whole, alpha=0.5),
    ):
        with pytest.raises(RuntimeError, match="of integers it must be an integer"):
            wrong()
    with pytest.raises(RuntimeError, match="expected a number"):
        x.fill_(y)


def test_forms_that_a_captured_step_cannot_have_are_refused() -> None:
    with pytest.raises(RuntimeError, match="t_"):
        bt.compile(lambda x: x.t_())(bt.ones(2, 3))
    step = bt.compile(lambda x: x.cumsum_(0).clamp_(max=2.0).eq_(2.0))
    for _ in range(3):
        x = bt.ones(4)
        assert step(x).tolist() == [0, 1, 1, 1]
        assert x.tolist() == [0, 1, 1, 1]


# ---- out=

OUT_ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    **ARGUMENTS,
    "arange": lambda: (4,),
    "empty": lambda: (2, 3),
    "eye": lambda: (3,),
    "full": lambda: ((2, 3), 1.5),
    "linspace": lambda: (0.0, 1.0, 4),
    "logspace": lambda: (0.0, 1.0, 4),
    "normal": lambda: (0.0, 1.0, (2, 3)),
    "ones": lambda: (2, 3),
    "rand": lambda: (2, 3),
    "randint": lambda: (0, 9, (2, 3)),
    "randn": lambda: (2, 3),
    "randperm": lambda: (5,),
    "zeros": lambda: (2, 3),
    "all": lambda: (numbers(2, 3), 0),
    "any": lambda: (numbers(2, 3), 0),
    "amax": lambda: (numbers(2, 3), 0),
    "amin": lambda: (numbers(2, 3), 0),
    "argmax": lambda: (numbers(2, 3), 0),
    "argmin": lambda: (numbers(2, 3), 1),
    "argsort": lambda: (numbers(2, 3),),
    "bernoulli": lambda: (numbers(2, 3),),
    "bmm": lambda: (numbers(2, 3, 4), numbers(2, 4, 2)),
    "bucketize": lambda: (numbers(2, 3), numbers(4).sort().values),
    "cat": lambda: ([numbers(2, 3), numbers(1, 3)],),
    "concat": lambda: ([numbers(2, 3), numbers(1, 3)],),
    "concatenate": lambda: ([numbers(2, 3), numbers(1, 3)],),
    "column_stack": lambda: ([numbers(2, 3), numbers(2, 3)],),
    "diag": lambda: (numbers(3, 3),),
    "diag_embed": lambda: (numbers(3),),
    "diff": lambda: (numbers(2, 3),),
    "dot": lambda: (numbers(3), numbers(3)),
    "dstack": lambda: ([numbers(2, 3), numbers(2, 3)],),
    "gather": lambda: (numbers(2, 3), 0, INDEX),
    "hstack": lambda: ([numbers(2, 3), numbers(2, 3)],),
    "index_select": lambda: (numbers(2, 3), 0, bt.tensor([1])),
    "inner": lambda: (numbers(3), numbers(3)),
    "kthvalue": lambda: (numbers(2, 3), 2),
    "log_softmax": lambda: (numbers(2, 3), 1),
    "logsumexp": lambda: (numbers(2, 3), 1),
    "masked_select": lambda: (numbers(2, 3), INDEX > 0),
    "matmul": lambda: (numbers(2, 3), numbers(3, 4)),
    "max": lambda: (numbers(2, 3), 0),
    "mean": lambda: (numbers(2, 3), 0),
    "median": lambda: (numbers(2, 3), 0),
    "min": lambda: (numbers(2, 3), 1),
    "mm": lambda: (numbers(2, 3), numbers(3, 4)),
    "multinomial": lambda: (numbers(2, 3), 1),
    "mv": lambda: (numbers(2, 3), numbers(3)),
    "nonzero": lambda: (numbers(2, 3),),
    "norm": lambda: (numbers(2, 3), 2, 0),
    "outer": lambda: (numbers(2), numbers(3)),
    "prod": lambda: (numbers(2, 3), 0),
    "searchsorted": lambda: (numbers(4).sort().values, numbers(2, 3)),
    "softmax": lambda: (numbers(2, 3), 1),
    "sort": lambda: (numbers(2, 3),),
    "stack": lambda: ([numbers(2, 3), numbers(2, 3)],),
    "std": lambda: (numbers(2, 3), 1),
    "sum": lambda: (numbers(2, 3), 0),
    "take": lambda: (numbers(2, 3), bt.tensor([4, 0])),
    "take_along_dim": lambda: (numbers(2, 3), INDEX, 1),
    "tensordot": lambda: (numbers(2, 3), numbers(3, 2), 1),
    "topk": lambda: (numbers(2, 3), 2),
    "tril": lambda: (numbers(3, 3),),
    "triu": lambda: (numbers(3, 3),),
    "var": lambda: (numbers(2, 3), 0),
    "vstack": lambda: ([numbers(2, 3), numbers(2, 3)],),
    "row_stack": lambda: ([numbers(2, 3), numbers(2, 3)],),
    "where": lambda: (INDEX > 0, numbers(2, 3), numbers(2, 3)),
    "fill": lambda: (numbers(2, 3), 2.0),
}
WITH_OUT = sorted(
    {n for n in functional.OUT + functional.OUT_EXACT if hasattr(bt, n)}
    | set(functional.FACTORIES)
    | {n for n in functional._elementwise.FROM_REGISTRY if not n.startswith("binary")}
)


def out_arguments(name: str) -> tuple[Any, ...]:
    if name in functional.FACTORIES or (name in OUT_ARGUMENTS and name not in ARGUMENTS):
        return OUT_ARGUMENTS[name]()
    x, args = sample(name)
    return (x, *args)


def parts(result: Any) -> list[bt.Tensor]:
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_gets_what_the_function_returns(name: str) -> None:
    f = getattr(bt, name)
    args = out_arguments(name)
    bt.manual_seed(3)
    kwargs = {"dtype": D} if name in functional.OUT_OF_FACTORIES and name != "normal" else {}
    expected = parts(f(*args, **kwargs))
    for shape in ("right", "none", "columns", "wrong"):
        outs = []
        for e in expected:
            if shape == "wrong":
                outs.append(bt.ones(e._numel + 2, dtype=e.dtype))
            elif shape == "none":
                outs.append(bt.empty(0, dtype=e.dtype))
            elif shape == "columns" and e.ndim == 2:
                outs.append(bt.zeros(*reversed(e.shape), dtype=e.dtype).t())
            else:
                outs.append(bt.zeros(e.shape, dtype=e.dtype))
        address = [o.data_ptr() for o in outs]
        bt.manual_seed(3)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            result = f(*args, out=outs[0] if len(outs) == 1 else tuple(outs), **kwargs)
        assert bool(seen) == (shape == "wrong"), shape
        for given, returned, e in zip(outs, parts(result), expected, strict=True):
            assert given is returned
            assert given.shape == e.shape
            assert given.dtype is e.dtype
            if name != "empty":
                assert given.tolist() == e.tolist() or given.isnan().any()
        if shape in ("right", "columns"):
            assert [o.data_ptr() for o in outs] == address


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_refuses_what_it_cannot_hold(name: str) -> None:
    f = getattr(bt, name)
    args = out_arguments(name)
    expected = parts(f(*args))
    with pytest.raises(TypeError, match=r"out is str|out must be"):
        f(*args, out="text")
    if len(expected) > 1 or name in functional.FACTORIES:
        return
    (e,) = expected
    leaf = bt.zeros(e.shape, dtype=D, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"automatic differentiation|cannot be stored"):
        f(*args, out=leaf)
    with bt.no_grad():
        if e.dtype is D:
            assert f(*args, out=leaf) is leaf
    if e.dtype.is_floating_point and name not in ("sum", "prod", "mean", "cumsum", "cumprod"):
        with pytest.raises(RuntimeError, match="cannot be stored in out"):
            f(*args, out=bt.zeros(e.shape, dtype=bt.int64))


def test_out_takes_a_wider_dtype() -> None:
    x = bt.tensor([1, 2])
    assert bt.add(x, x, out=bt.empty(2)).tolist() == [2.0, 4.0]
    assert bt.exp(bt.zeros(2), out=bt.empty(2, dtype=D)).dtype is D
    assert bt.sum(x, 0, out=bt.empty(())).tolist() == 3.0
    assert bt.zeros(2, out=bt.ones(2, dtype=D)).dtype is D
    assert bt.eq(x, x, out=bt.empty(2, dtype=bt.int64)).tolist() == [1, 1]
    for wrong in (
        lambda: bt.matmul(bt.ones(2, 2), bt.ones(2, 2), out=bt.empty(2, 2, dtype=D)),
        lambda: bt.argmax(bt.ones(2, 2), 0, out=bt.empty(2, dtype=bt.int32)),
        lambda: bt.sum(x, 0, dtype=bt.float64, out=bt.empty(())),
    ):
        with pytest.raises(RuntimeError, match="out"):
            wrong()


def test_out_may_be_an_input() -> None:
    x = bt.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert bt.matmul(x, x, out=x) is x
    assert x.tolist() == [[7, 10], [15, 22]]
    assert bt.cumsum(x, 0, out=x).tolist() == [[7, 10], [22, 32]]
    y = bt.arange(4.0)
    assert bt.mul(y[:3], 2, out=y[1:]).tolist() == [0, 2, 4]
    assert y.tolist() == [0, 0, 2, 4]


def test_out_in_a_captured_step() -> None:
    def step(x: bt.Tensor, out: bt.Tensor) -> bt.Tensor:
        bt.exp(x, out=out)
        return bt.sum(out, 0, out=bt.empty(()))

    compiled = bt.compile(step)
    for value in (0.0, 1.0, 2.0):
        x, out = bt.full((3,), value), bt.zeros(3)
        eager = step(x, bt.zeros(3))
        assert compiled(x, out).item() == eager.item()
        assert out.tolist() == bt.exp(x).tolist()
    with pytest.raises(RuntimeError, match="another shape"):
        bt.compile(lambda x, out: bt.exp(x, out=out))(bt.ones(3), bt.ones(2))


def test_a_saved_value_that_out_overwrites_is_found() -> None:
    x = bt.ones(2, requires_grad=True)
    k = bt.ones(2)
    y = (x * k).sum()
    bt.exp(bt.ones(2), out=k)
    with pytest.raises(RuntimeError, match="exp"):
        y.backward()
