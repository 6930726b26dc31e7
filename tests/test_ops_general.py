"""Every op of the registry that is not pointwise, on the samples that samples.py holds for it."""

from __future__ import annotations

from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail._core import equal_bytes, foreign_info, ops
from backtrail.autograd import definitions
from backtrail.tensor import apply
from samples import SAMPLES, THROUGH_FORWARD, Sample

TOLERANCE = {"float32": 5e-6, "float64": 1e-13}
CASES = [
    pytest.param(name, sample, id=f"{name}{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
]


def convert(sample: Sample, dtype: str) -> list[Any]:
    return [a if a is None or a.dtype.kind != "f" else a.astype(dtype) for a in sample.inputs]


def run(name: str, inputs: Any, attrs: tuple[Any, ...]) -> tuple[bt.Tensor, ...]:
    found = apply(ops[name], tuple(inputs), attrs)
    return found if isinstance(found, tuple) else (found,)


def tensors(arrays: Any) -> list[Any]:
    return [None if a is None else bt.tensor(a) for a in arrays]


def test_every_op_has_a_sample() -> None:
    """A new op gets its tests by one line in samples.py; without that line this fails."""
    builtin = {name: op for name, op in ops.items() if foreign_info(op) is None}
    general = {name for name, op in builtin.items() if op.kind != "pointwise"}
    assert general == set(SAMPLES)
    forward = {name.removesuffix("_backward") for name in THROUGH_FORWARD}
    assert all(SAMPLES[name] for name in forward)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "sample"), CASES)
def test_value(name: str, sample: Sample, dtype: str) -> None:
    arrays = convert(sample, dtype)
    got = run(name, tensors(arrays), sample.attrs)
    again = run(name, tensors(arrays), sample.attrs)
    assert all(equal_bytes(a, b) for a, b in zip(got, again, strict=True))
    if sample.numpy is None:
        return
    want = sample.numpy(*convert(sample, "float64"))
    want = want if isinstance(want, tuple) else (want,)
    tolerance = TOLERANCE[dtype] * sample.tolerance
    for a, b in zip(got, want, strict=True):
        assert a.shape == np.shape(b)
        assert a.dtype.is_floating_point == (np.asarray(b).dtype.kind == "f")
        np.testing.assert_allclose(a.numpy(), b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "sample"), [c for c in CASES if not c.values[1].dense_only])
def test_strides_do_not_matter(name: str, sample: Sample) -> None:
    dense = tensors(convert(sample, "float32"))
    spread = []
    for x in dense:
        if x is None or x.ndim == 0:
            spread.append(x)
            continue
        room = bt.zeros(*[2 * n + 1 for n in x.shape[::-1]], dtype=x.dtype)
        view = room[tuple(slice(1, 2 * n + 1, 2) for n in x.shape[::-1])].permute(
            *range(x.ndim)[::-1]
        )
        view.copy_(x)
        assert x.numel() < 2 or not view.is_contiguous()
        spread.append(view)
    got, want = run(name, spread, sample.attrs), run(name, dense, sample.attrs)
    for a, b in zip(got, want, strict=True):
        assert equal_bytes(a, b)


def smooth_cases() -> list[Any]:
    return [
        c
        for c in CASES
        if ops[c.values[0]].differentiable
        and any(a is not None and a.dtype.kind == "f" for a in c.values[1].inputs)
        and sum(a.size for a in c.values[1].inputs if a is not None) < 300
    ]


def function_of_floats(name: str, sample: Sample) -> tuple[Any, list[bt.Tensor]]:
    """The op as a function of its float inputs alone, and those as leaves."""
    given = tensors(convert(sample, "float64"))
    floats = [i for i, t in enumerate(given) if t is not None and t.dtype.is_floating_point]

    def function(*xs: bt.Tensor) -> Any:
        inputs = list(given)
        for i, t in zip(floats, xs, strict=True):
            inputs[i] = t
        return apply(ops[name], tuple(inputs), sample.attrs)

    return function, [given[i].requires_grad_() for i in floats]


@pytest.mark.parametrize(("name", "sample"), smooth_cases())
def test_gradcheck(name: str, sample: Sample) -> None:
    function, leaves = function_of_floats(name, sample)
    assert bt.autograd.gradcheck(function, leaves)
    assert bt.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize(("name", "sample"), smooth_cases())
def test_each_input_alone(name: str, sample: Sample) -> None:
    """A rule must serve inputs of which only some want a gradient, with the same bits."""
    function, leaves = function_of_floats(name, sample)
    out = function(*leaves)
    out = out[0] if isinstance(out, tuple) else out
    weight = bt.randn(*out.shape, dtype=out.dtype)
    together = bt.autograd.grad(out, leaves, weight, allow_unused=True)
    for i, leaf in enumerate(leaves):
        others = [x if k == i else x.detach() for k, x in enumerate(leaves)]
        y = function(*others)
        y = y[0] if isinstance(y, tuple) else y
        if together[i] is None:
            continue
        (alone,) = bt.autograd.grad(y, leaf, weight)
        np.testing.assert_allclose(alone.numpy(), together[i].numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "sample"), [c for c in CASES if callable(getattr(definitions, c.values[0], None))]
)
def test_fused_ops_follow_their_definitions(name: str, sample: Sample, dtype: str) -> None:
    """Value and gradients of a fused kernel against plain tensor operations."""
    arrays = convert(sample, dtype)

    def leaves() -> list[Any]:
        return [
            None if a is None else bt.tensor(a).requires_grad_(a.dtype.kind == "f") for a in arrays
        ]

    fused, plain = leaves(), leaves()
    if not any(a.size == 0 for a in arrays if a is not None):
        y, want = (
            run(name, fused, sample.attrs)[0],
            getattr(definitions, name)(*plain, *sample.attrs),
        )
        weight = bt.randn(*y.shape, dtype=y.dtype)
        tolerance = 4 * TOLERANCE[dtype]
        np.testing.assert_allclose(
            y.detach().numpy(), want.detach().numpy(), rtol=tolerance, atol=tolerance
        )
        y.backward(weight)
        want.backward(weight)
        for a, b in zip(fused, plain, strict=True):
            if a is not None and a.requires_grad:
                np.testing.assert_allclose(
                    a.grad.numpy(), b.grad.numpy(), rtol=tolerance, atol=tolerance
                )


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "prod"])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 255, 1023, 1025, 4097, 70001])
def test_reductions_of_every_length(name: str, size: int, rng: np.random.Generator) -> None:
    a = rng.uniform(0.9, 1.1, (3, size)) if name == "prod" else rng.standard_normal((3, size))
    for dim in (0, 1, None):
        want = getattr(np, name)(a if dim != 0 else a.T, axis=None if dim is None else 1)
        x = bt.tensor(a if dim != 0 else np.ascontiguousarray(a.T).T.copy())
        got = getattr(x, name)() if dim is None else getattr(x, name)(dim=dim)
        want = getattr(np, name)(a, axis=dim)
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-11, atol=1e-11)


def test_float32_sums_are_accurate(rng: np.random.Generator) -> None:
    a = rng.random((1, 1_000_003)).astype("float32")
    for dim in (None, 1):
        got = bt.tensor(a).sum(dim).item()
        assert abs(got - a.sum(dtype=float)) < 0.05
    column = bt.tensor(np.ascontiguousarray(a.T)).sum(0).item()
    assert abs(column - a.sum(dtype=float)) < 0.1


def test_integer_and_bool_reductions() -> None:
    a = np.array([[3, -1, 2], [0, 5, 7]])
    for dtype in ("int64", "int32", "uint8"):
        b = np.abs(a).astype(dtype)
        x = bt.tensor(b)
        assert x.sum().dtype is bt.int64
        assert x.sum().item() == b.sum()
        assert x.prod(1).tolist() == b.prod(1).tolist()
        assert x.amax(0).tolist() == b.max(0).tolist()
        assert x.amax().dtype is x.dtype
    mask = bt.tensor(a > 2)
    assert mask.sum().item() == 3
    assert mask.any(0).tolist() == [True, True, True]
    assert mask.all(1).tolist() == [False, False]
    with pytest.raises(RuntimeError, match="mean: the input is int64"):
        bt.tensor(a).mean()


def test_nan_in_reductions() -> None:
    x = bt.tensor([[1.0, float("nan"), 3.0], [4.0, 5.0, float("inf")]])
    for name in ("sum", "mean", "prod", "amax", "amin"):
        got = getattr(x, name)(dim=1)
        assert got[0].isnan().item(), name
        assert not got[1].isnan().item(), name
    assert x.argmax(1).tolist() == [1, 2]
    assert x.max(1).values[0].isnan().item()
    assert bt.sort(x[0]).indices.tolist() == [0, 2, 1]


def test_empty_reductions() -> None:
    x = bt.zeros(0, 3)
    assert x.sum().item() == 0
    assert x.prod(0).tolist() == [1, 1, 1]
    assert x.mean(0).isnan().all().item()
    for name in ("amax", "argmax", "max"):
        with pytest.raises((IndexError, RuntimeError), match=r"arg|amax|max"):
            getattr(x, name)(0)
    assert x.amax(1).shape == (0,)
