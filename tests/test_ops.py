"""Every pointwise op of the registry, found there: values, derivatives of any order, positions."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail._core import derived_vjp, equal_bytes, ops, pointwise_info
from backtrail.tensor import apply
from references import reference

POINTWISE = {name: pointwise_info(op) for name, op in ops.items() if op.kind == "pointwise"}
FLOATS = [name for name, info in POINTWISE.items() if info["floats"]]
INTEGERS = [name for name, info in POINTWISE.items() if info["integers"]]
SMOOTH = [name for name in POINTWISE if ops[name].differentiable]
TOLERANCE = {"float32": 4e-6, "float64": 1e-14}
SIZES = (1, 2, 15, 16, 17, 31, 33, 1023, 1024, 1025, 16385)
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-40, 1e30, np.inf, -np.inf, np.nan]


def seeded(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def draw(name: str, shape: tuple[int, ...], dtype: str = "float64") -> list[np.ndarray]:
    """Inputs of an op within the range where it is smooth."""
    info, random = POINTWISE[name], seeded(name)
    low, high = info["range"]
    return [
        random.random(shape) < 0.5 if mask else random.uniform(low, high, shape).astype(dtype)
        for mask in info["mask_inputs"]
    ]


def run(name: str, arrays: Any, attrs: tuple[Any, ...] = ()) -> bt.Tensor:
    return apply(ops[name], tuple(bt.tensor(a) for a in arrays), attrs)


def some_attrs(name: str) -> list[tuple[float, ...]]:
    """The default attributes, and others."""
    defaults = tuple(POINTWISE[name]["attrs"].values())
    if not defaults:
        return [()]
    if name == "clamp":
        return [(), (-0.7, 1.3)]
    return [(), tuple(0.8 * v + 0.3 if np.isfinite(v) else v for v in defaults)]


def expected(name: str, arrays: Any, attrs: tuple[Any, ...] = ()) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(reference(name)(*arrays, *attrs))


def leaves(name: str, shape: tuple[int, ...] = (2, 3)) -> tuple[bt.Tensor, ...]:
    return tuple(
        bt.tensor(a) if a.dtype == bool else bt.tensor(a).requires_grad_()
        for a in draw(name, shape)
    )


def test_the_registry_has_pointwise_ops() -> None:
    assert len(POINTWISE) > 70


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FLOATS)
def test_value(name: str, dtype: str) -> None:
    arrays = draw(name, (7, 13), dtype)
    for attrs in some_attrs(name):
        got = run(name, arrays, attrs)
        want = expected(name, [a if a.dtype == bool else a.astype(float) for a in arrays], attrs)
        masks_only = all(POINTWISE[name]["mask_inputs"])
        kind = "bool" if POINTWISE[name]["mask_output"] or masks_only else dtype
        assert got.dtype is getattr(bt, kind)
        tolerance = TOLERANCE[dtype]
        np.testing.assert_allclose(got.numpy(), want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name: str, dtype: str) -> None:
    if dtype == "bool" and name in ("sub", "neg", "abs"):  # as in PyTorch
        with pytest.raises(RuntimeError, match="not defined for bools"):
            run(name, [np.array([True, False])] * len(POINTWISE[name]["mask_inputs"]))
        return
    info, random = POINTWISE[name], seeded(name)
    divides = name in ("floor_divide", "trunc_divide", "remainder", "fmod")
    low = 1 if dtype in ("uint8", "bool") or divides else -9
    arrays = []
    for mask in info["mask_inputs"]:
        values = (
            random.integers(0, 2, (5, 9))
            if mask or dtype == "bool"
            else random.integers(low, 200, (5, 9))
        )
        if not mask and dtype not in ("bool", "uint8"):
            values = values * random.choice([-1, 1], (5, 9))
        arrays.append(values.astype("bool" if mask else dtype))
    if divides and dtype == "bool":
        arrays[1] = np.ones_like(arrays[1])
    if name == "pow":  # integers have no negative powers
        arrays[1] = abs(arrays[1]) % arrays[1].dtype.type(6) if dtype != "bool" else arrays[1]
    got = run(name, arrays)
    wide = [
        a if a.dtype == bool and info["mask_inputs"][j] else a.astype("int64")
        for j, a in enumerate(arrays)
    ]
    want = expected(name, wide)
    result = "bool" if info["mask_output"] else dtype
    if dtype == "bool" and name == "square":
        result = "int64"
    elif dtype == "bool" and not info["mask_output"]:
        want = want != 0
    assert got.dtype is getattr(bt, result)
    np.testing.assert_array_equal(got.numpy(), want.astype(result))


@pytest.mark.parametrize("name", FLOATS)
def test_special_values(name: str) -> None:
    info = POINTWISE[name]
    inputs = [[True, False] if mask else SPECIAL for mask in info["mask_inputs"]]
    rows = list(itertools.product(*inputs))
    if name in ("floor_divide", "remainder", "fmod"):  # exact while the quotient is
        rows = [(a, b) for a, b in rows if not 2.0**20 < abs(a) / max(abs(b), 1e-99) < np.inf]
    columns = list(zip(*rows, strict=True))
    for dtype in ("float32", "float64"):
        arrays = [
            np.array(c, bool if mask else dtype)
            for c, mask in zip(columns, info["mask_inputs"], strict=True)
        ]
        got = run(name, arrays).numpy()
        want = expected(name, arrays)
        np.testing.assert_allclose(
            got, want, rtol=1e-5, atol=1e-37, equal_nan=True, err_msg=f"{name} {dtype}"
        )


@pytest.mark.parametrize("name", SMOOTH)
def test_gradcheck(name: str) -> None:
    for attrs in some_attrs(name):

        def function(*xs: bt.Tensor, attrs: Any = attrs) -> bt.Tensor:
            return apply(ops[name], xs, attrs)

        assert bt.autograd.gradcheck(function, leaves(name))
        assert bt.autograd.gradgradcheck(function, leaves(name))


@pytest.mark.parametrize("name", SMOOTH)
def test_third_derivative(name: str) -> None:
    wanted = [i for i, mask in enumerate(POINTWISE[name]["mask_inputs"]) if not mask]

    def slope(*xs: bt.Tensor) -> Any:
        with bt.enable_grad():
            y = apply(ops[name], xs)
            return bt.autograd.grad(
                (y * y).sum(), [xs[i] for i in wanted], create_graph=True, materialize_grads=True
            )

    assert bt.autograd.gradgradcheck(slope, leaves(name, (2,)), atol=1e-4)


@pytest.mark.parametrize("name", [n for n in SMOOTH if POINTWISE[n]["written_backward"]])
def test_written_derivative_is_the_derived_one(name: str) -> None:
    for attrs in some_attrs(name):
        arrays = draw(name, (40,))
        grad = bt.tensor(seeded(name + "g").uniform(-2, 2, 40))
        xs = [bt.tensor(a) for a in arrays]
        for i, mask in enumerate(POINTWISE[name]["mask_inputs"]):
            if mask:
                continue
            x = bt.tensor(arrays[i]).requires_grad_()
            inputs = (*xs[:i], x, *xs[i + 1 :])
            (got,) = bt.autograd.grad(apply(ops[name], inputs, attrs), x, grad)
            want = derived_vjp(ops[name], i, grad, tuple(xs), attrs)
            assert want is not None
            np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", FLOATS)
def test_strides_and_broadcasting(name: str) -> None:
    arrays = draw(name, (5, 33), "float32")
    dense = [bt.tensor(a) for a in arrays]
    want = apply(ops[name], tuple(dense))
    transposed = tuple(bt.tensor(np.ascontiguousarray(a.T)).t() for a in arrays)
    assert equal_bytes(apply(ops[name], transposed).contiguous(), want)
    steps = []
    for x in dense:
        wide = bt.zeros(5, 99, dtype=x.dtype)
        wide[:, ::3] = x
        steps.append(wide[:, ::3])
    assert equal_bytes(apply(ops[name], tuple(steps)), want)
    n = len(arrays)
    for shapes in ([(1, 33)] * n, [(5, 1)] * n, [(1, 1)] * n, [()] * n):
        for j in range(n):  # one input broadcasts against the others
            parts = list(arrays)
            shape = shapes[j]
            parts[j] = parts[j][tuple(slice(0, s) for s in shape)] if shape else parts[j][0, 0]
            full = [np.ascontiguousarray(np.broadcast_to(p, (5, 33))) for p in parts]
            if n == 1:
                full = parts
            got = run(name, parts)
            assert equal_bytes(got, run(name, full)), shape


@pytest.mark.parametrize("name", [n for n in FLOATS if len(POINTWISE[n]["mask_inputs"]) > 1])
def test_numbers_are_tensors_of_no_dimension(name: str) -> None:
    arrays = draw(name, (3, 5), "float32")
    for j, mask in enumerate(POINTWISE[name]["mask_inputs"]):
        number = bool(arrays[j][0, 0]) if mask else float(arrays[j][0, 0])
        inputs = [bt.tensor(a) for a in arrays]
        filled = [*inputs[:j], bt.full((3, 5), number, dtype=inputs[j].dtype), *inputs[j + 1 :]]
        inputs[j] = number
        assert equal_bytes(apply(ops[name], tuple(inputs)), apply(ops[name], tuple(filled)))


@pytest.mark.parametrize("name", FLOATS)
def test_nothing_in_nothing_out(name: str) -> None:
    got = run(name, draw(name, (0, 4), "float32"))
    assert got.shape == (0, 4)
    if name in SMOOTH:
        xs = leaves(name, (0, 4))
        apply(ops[name], xs).sum().backward()
        assert all(x.grad.shape == (0, 4) for x in xs if x.requires_grad)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FLOATS)
def test_value_does_not_depend_on_position(name: str, dtype: str) -> None:
    arrays = draw(name, (37,), dtype)
    single = np.concatenate([run(name, [a[i : i + 1] for a in arrays]).numpy() for i in range(37)])
    for size in SIZES:
        got = run(name, [np.resize(a, size) for a in arrays]).numpy()
        assert got.tobytes() == np.resize(single, size).tobytes(), size


@pytest.mark.parametrize("name", SMOOTH)
def test_derivative_does_not_depend_on_position(name: str) -> None:
    arrays = draw(name, (37,), "float32")

    def slopes(parts: list[np.ndarray]) -> list[bytes]:
        xs = [bt.tensor(p) if p.dtype == bool else bt.tensor(p).requires_grad_() for p in parts]
        run_on = apply(ops[name], tuple(xs))
        run_on.backward(bt.ones_like(run_on))
        return [x.grad.numpy() for x in xs if x.requires_grad]

    single = [slopes([a[i : i + 1] for a in arrays]) for i in range(37)]
    for size in (17, 1025, 16385):
        for k, got in enumerate(slopes([np.resize(a, size) for a in arrays])):
            want = np.resize(np.concatenate([s[k] for s in single]), size)
            assert got.tobytes() == want.tobytes(), size


@pytest.mark.parametrize("name", FLOATS)
def test_bfloat16_rounds_the_float32_result(name: str) -> None:
    xs = [bt.tensor(a) for a in draw(name, (50,), "float32")]
    narrow = [x if x.dtype is bt.bool else x.bfloat16() for x in xs]
    wide = [x if x.dtype is bt.bool else x.float() for x in narrow]
    got, want = apply(ops[name], tuple(narrow)), apply(ops[name], tuple(wide))
    if want.dtype is bt.float32:
        want = want.bfloat16()
    assert equal_bytes(got, want)


@pytest.mark.parametrize("name", POINTWISE)
def test_public_function_and_method(name: str) -> None:
    where = bt.nn.functional if not hasattr(bt, name) else bt
    public = getattr(where, name, None)
    if name == "gelu_tanh":
        assert bt.nn.functional.gelu(bt.ones(1), approximate="tanh").shape == (1,)
        return
    assert public is not None, f"{name}: neither in backtrail nor in nn.functional"
    assert ops[name].__doc__


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod"])
def test_division_with_remainder_is_exact(name: str, dtype: str) -> None:
    """The quotient is that of the exact division, though a / b may round up to the next integer."""
    a, b = seeded(name).uniform(-1000, 1000, (2, 5000))
    a[:5], b[:5] = [1, 6, 0.3, -1, 1], [0.1, 0.1, 0.1, 0.1, -0.1]
    a, b = a.astype(dtype), b.astype(dtype)
    got = run(name, [a, b]).numpy()
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(got, expected(name, [a, b]), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [n for n in SMOOTH if len(POINTWISE[n]["mask_inputs"]) > 1])
def test_the_gradient_of_one_input_alone(name: str) -> None:
    """Inputs whose value it does not use are not kept: nothing may be made of their places."""
    for attrs in some_attrs(name):
        xs = leaves(name)
        y = apply(ops[name], xs, attrs)
        wanted = [x for x in xs if x.requires_grad]
        together = bt.autograd.grad(y, wanted, bt.ones_like(y), allow_unused=True)
        for x, want in zip(wanted, together, strict=True):
            alone = tuple(t if t is x else t.detach() for t in xs)
            y = apply(ops[name], alone, attrs)
            if want is not None:
                (got,) = bt.autograd.grad(y, x, bt.ones_like(y))
                assert equal_bytes(got, want)
