"""Tensors as values: dtypes and their promotion, printing, conversion, views, changes in place."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import backtrail as bt
import numpy as np
import pytest

DTYPES = ["bool", "uint8", "int32", "int64", "bfloat16", "float32", "float64"]
# PyTorch's result of a + b for tensors with dimensions; rows and columns in the order of DTYPES.
PROMOTION = """
    bool     uint8    int32    int64    bfloat16 float32  float64
    uint8    uint8    int32    int64    bfloat16 float32  float64
    int32    int32    int32    int64    bfloat16 float32  float64
    int64    int64    int64    int64    bfloat16 float32  float64
    bfloat16 bfloat16 bfloat16 bfloat16 bfloat16 float32  float64
    float32  float32  float32  float32  float32  float32  float64
    float64  float64  float64  float64  float64  float64  float64
"""
TABLE = [row.split() for row in PROMOTION.strip().splitlines()]


def dtype(name: str) -> Any:
    return getattr(bt, name)


@pytest.mark.parametrize("a", DTYPES)
@pytest.mark.parametrize("b", DTYPES)
def test_promotion_table(a: str, b: str) -> None:
    want = dtype(TABLE[DTYPES.index(a)][DTYPES.index(b)])
    x, y = bt.ones(2, dtype=dtype(a)), bt.ones(2, dtype=dtype(b))
    assert bt.result_type(x, y) is want
    assert bt.promote_types(dtype(a), dtype(b)) is want
    assert (x + y).dtype is want
    assert bt.maximum(x, y).dtype is want
    assert (x == y).dtype is bt.bool
    assert (x / y).dtype is (want if want.is_floating_point else bt.float32)


@pytest.mark.parametrize(
    ("tensor", "number", "want"),
    [
        ("bool", True, "bool"),
        ("bool", 1, "int64"),
        ("bool", 1.0, "float32"),
        ("uint8", 1, "uint8"),
        ("int32", 1, "int32"),
        ("int64", 1.5, "float32"),
        ("bfloat16", 1.5, "bfloat16"),
        ("float32", 3, "float32"),
        ("float64", 2.5, "float64"),
    ],
)
def test_numbers_do_not_widen(tensor: str, number: Any, want: str) -> None:
    x = bt.ones(2, dtype=dtype(tensor))
    assert (x * number).dtype is dtype(want)
    assert (number * x).dtype is dtype(want)
    assert bt.result_type(x, number) is dtype(want)


def test_tensors_without_dimensions_do_not_widen() -> None:
    x = bt.ones(2)
    assert (x + bt.tensor(1.0, dtype=bt.float64)).dtype is bt.float32
    assert (bt.ones(2, dtype=bt.int32) + bt.tensor(1)).dtype is bt.int32
    assert (bt.ones(2, dtype=bt.int64) + bt.tensor(1.0, dtype=bt.float64)).dtype is bt.float64
    assert (bt.tensor(1.0) + bt.tensor(1.0, dtype=bt.float64)).dtype is bt.float64


def test_default_dtype() -> None:
    assert bt.tensor(1.5).dtype is bt.get_default_dtype() is bt.float32
    bt.set_default_dtype(bt.float64)
    assert bt.tensor(1.5).dtype is bt.zeros(2).dtype is (bt.tensor([1]) / 2).dtype is bt.float64
    with pytest.raises(TypeError, match="expected float32 or float64"):
        bt.set_default_dtype(bt.int64)


def test_integer_arithmetic_wraps() -> None:
    assert (bt.tensor([200], dtype=bt.uint8) + 100).tolist() == [44]
    assert (bt.tensor([2**31 - 1], dtype=bt.int32) + 1).tolist() == [-(2**31)]
    assert (bt.tensor([2**62]) * 2).tolist() == [-(2**63)]
    assert (bt.tensor([7, -7]) // 2).tolist() == [3, -4]
    assert (bt.tensor([7, -7]) % 3).tolist() == [1, 2]
    assert (bt.tensor([2**53 + 1]) + 1).tolist() == [2**53 + 2]


def test_limits() -> None:
    for name in ("float32", "float64"):
        ours, theirs = bt.finfo(dtype(name)), np.finfo(name)
        for field in ("eps", "max", "min", "tiny", "bits"):
            assert getattr(ours, field) == getattr(theirs, field)
    for name in ("int64", "int32", "uint8"):
        assert bt.iinfo(dtype(name)).max == np.iinfo(name).max
        assert bt.iinfo(dtype(name)).min == np.iinfo(name).min
    assert bt.finfo(bt.bfloat16).eps == 2.0**-7


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_conversion(source: str, target: str) -> None:
    if source == "bool":
        values = [False, True]
    elif source == "uint8":
        values = [0, 1, 100, 255]
    else:
        values = [-2, 0, 1, 100]
    x = bt.tensor(values, dtype=dtype(source))
    got = x.to(dtype(target))
    assert got.dtype is dtype(target)
    if target == "bool":
        assert got.tolist() == [v != 0 for v in values]
    elif target == "uint8":
        assert got.tolist() == [v % 256 for v in values] if source != "bool" else [0, 1]
    else:
        rounded = [256 if v == 255 and target == "bfloat16" else v for v in values]
        assert got.tolist() in (values, rounded)
    assert (got is x) == (source == target)


def test_bfloat16_rounds_to_even() -> None:
    x = bt.tensor([1.0, 1.00390625, 1.01171875, 3.4e38, float("inf"), float("nan"), -0.0])
    back = x.bfloat16().float()
    assert back[:3].tolist() == [1.0, 1.0, 1.015625]
    assert back[3].item() == float("inf")
    assert back[4].isinf().item()
    assert back[5].isnan().item()
    assert np.signbit(back[6].item())


def test_to_takes_many_forms() -> None:
    x = bt.ones(2)
    assert x.to("cpu") is x
    assert x.to(bt.device("cpu"), bt.float64).dtype is bt.float64
    assert x.to(bt.ones(1, dtype=bt.int64)).dtype is bt.int64
    assert x.to(dtype=bt.float32, copy=True).data_ptr() != x.data_ptr()
    with pytest.raises(RuntimeError, match="CPU only"):
        x.to("cuda")


# ---- printing

PRINTED = [
    (lambda: bt.tensor([1.0, 2.0, 3.0]), "tensor([1., 2., 3.])"),
    (lambda: bt.tensor([1.5, -2.25]), "tensor([ 1.5000, -2.2500])"),
    (lambda: bt.tensor([[1, 20], [-3, 4]]), "tensor([[ 1, 20],\n        [-3,  4]])"),
    (lambda: bt.tensor(3), "tensor(3)"),
    (lambda: bt.tensor(3.5), "tensor(3.5000)"),
    (lambda: bt.tensor([]), "tensor([])"),
    (lambda: bt.zeros(0, 3), "tensor([], size=(0, 3))"),
    (lambda: bt.tensor([True, False]), "tensor([ True, False])"),
    (lambda: bt.tensor([1.0], dtype=bt.float64), "tensor([1.], dtype=backtrail.float64)"),
    (lambda: bt.tensor([1], dtype=bt.int32), "tensor([1], dtype=backtrail.int32)"),
    (lambda: bt.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
    (lambda: bt.tensor([float("nan"), float("inf"), 1.0]), "tensor([nan, inf, 1.])"),
    (lambda: bt.tensor([1.0, -float("inf")]), "tensor([1., -inf])"),
    (lambda: bt.tensor([2000.0, 1.0]), "tensor([2.0000e+03, 1.0000e+00])"),
    (lambda: bt.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
    (lambda: bt.tensor([1.0], requires_grad=True) * 2, "tensor([2.], grad_fn=<MulBackward0>)"),
    (
        lambda: bt.arange(2000),
        "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])",
    ),
]


@pytest.mark.parametrize(("make", "text"), PRINTED)
def test_printing(make: Any, text: str) -> None:
    assert repr(make()) == text


def test_printing_long_and_deep_tensors() -> None:
    lines = repr(bt.zeros(2, 3, 4)).splitlines()
    assert lines[3] == ""
    assert len(lines) == 7
    assert all(len(line) <= 82 for line in repr(bt.rand(100)).splitlines())
    assert repr(bt.zeros(1000, 1000)).count("...") == 7


def test_print_options() -> None:
    try:
        bt.set_printoptions(precision=2)
        assert repr(bt.tensor([1.234])) == "tensor([1.23])"
    finally:
        bt.set_printoptions(precision=4)
    assert f"{bt.tensor(1.23456):.2f}" == "1.23"


# ---- as Python values


def test_numbers_from_tensors() -> None:
    assert bt.tensor([[2.5]]).item() == 2.5
    assert type(bt.tensor(3).item()) is int
    assert type(bt.tensor(True).item()) is bool
    assert (int(bt.tensor(3.7)), float(bt.tensor(2)), bool(bt.tensor([0.0]))) == (3, 2.0, False)
    assert [10, 20, 30][bt.tensor(1)] == 20
    assert bt.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(RuntimeError, match="no single truth value"):
        bool(bt.ones(2))
    with pytest.raises(RuntimeError, match=r"shape \(2,?\) has 2 elements"):
        bt.ones(2).item()
    with pytest.raises(TypeError, match="index"):
        [1, 2][bt.tensor(1.0)]


def test_containers_protocol() -> None:
    x = bt.arange(6).reshape(3, 2)
    assert len(x) == 3
    assert [row.tolist() for row in x] == [[0, 1], [2, 3], [4, 5]]
    assert 5 in x
    assert 6 not in x
    a, _, c = x
    assert c.tolist() == [4, 5]
    with pytest.raises(TypeError, match="0-dim"):
        len(bt.tensor(1))
    with pytest.raises(TypeError, match="0-dim"):
        iter(bt.tensor(1))
    assert len({x, x, a}) == 2


def test_comparison_with_what_is_no_number() -> None:
    x = bt.ones(2)
    assert (x == None) is False  # noqa: E711
    assert (x != "text") is True
    assert x not in [None, "text"]
    with pytest.raises(TypeError, match="'<' not supported between"):
        assert x < None


def test_shape_queries() -> None:
    x = bt.zeros(2, 3, 4).transpose(0, 2)
    assert x.shape == (4, 3, 2) == x.size()
    assert isinstance(x.shape, bt.Size)
    assert (x.shape.numel(), x.size(-1), x.ndim, x.dim(), x.numel()) == (24, 2, 3, 3, 24)
    assert x.stride() == (1, 4, 12)
    assert not x.is_contiguous()
    assert (x.itemsize, x.nbytes, x.element_size()) == (4, 96, 4)
    assert x[1:, 2].storage_offset() == 9
    assert repr(x.shape) == "backtrail.Size([4, 3, 2])"
    assert x.T.shape == (2, 3, 4)
    assert bt.zeros(5, 2, 3).mT.shape == (5, 3, 2)


def test_copies() -> None:
    x = bt.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    y = copy.deepcopy(x)
    assert y.requires_grad
    assert y.grad.tolist() == [2, 4]
    assert y.data_ptr() != x.data_ptr()
    z = pickle.loads(pickle.dumps(x))
    assert z.tolist() == [1, 2]
    assert z.requires_grad
    assert pickle.loads(pickle.dumps(bt.bfloat16)) is bt.bfloat16
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(x * 2)


# ---- views and changes in place


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.view(-1),
        lambda x: x.reshape(6, 4),
        lambda x: x.t(),
        lambda x: x[1],
        lambda x: x[:, 1:3],
        lambda x: x[::2, ::3],
        lambda x: x.unsqueeze(0),
        lambda x: x.expand(2, 4, 6),
        lambda x: x.diagonal(),
        lambda x: x.unfold(1, 2, 2),
        lambda x: x.narrow(0, 1, 2),
        lambda x: x.as_strided((2, 2), (6, 1), 3),
        lambda x: x.detach(),
        lambda x: x.flatten(),
        lambda x: x.chunk(2)[1],
        lambda x: x.split(3, 1)[0],
        lambda x: x.unbind(1)[3],
        lambda x: x.contiguous(),
        lambda x: x.movedim(0, 1),
    ],
)
def test_views_alias_their_base(view: Any) -> None:
    x = bt.arange(24).reshape(4, 6)
    y = view(x)
    x += 100
    assert y.min().item() >= 100
    assert y.tolist() == view(bt.arange(24).reshape(4, 6) + 100).tolist()


def test_copies_do_not_alias() -> None:
    x = bt.arange(6)
    for y in (x.clone(), x.flip(0), x[bt.tensor([0, 1])], x[x > 2], x.t().clone(), x + 0):
        y.fill_(9)
    assert x.tolist() == [0, 1, 2, 3, 4, 5]
    assert x.reshape(2, 3).t().reshape(-1).data_ptr() != x.data_ptr()


def test_a_view_needs_fitting_strides() -> None:
    x = bt.zeros(2, 3).t()
    with pytest.raises(RuntimeError, match=r"view.*reshape"):
        x.view(6)
    with pytest.raises(RuntimeError, match=r"(?s)reshape.*\(2, 3\)|reshape.*6"):
        bt.zeros(2, 3).reshape(4, 2)
    with pytest.raises(RuntimeError, match=r"reshape|view"):
        bt.zeros(2, 3).view(-1, -1)


def test_overlapping_changes_in_place() -> None:
    x = bt.arange(8)
    x[1:] += x[:-1]  # as if the right side were computed first
    assert x.tolist() == [0, 1, 3, 5, 7, 9, 11, 13]
    x = bt.arange(8)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    x = bt.arange(9).reshape(3, 3)
    x.add_(x.t())
    assert x.tolist() == [[0, 4, 8], [4, 8, 12], [8, 12, 16]]
    x = bt.arange(6)
    x.copy_(x.flip(0))
    assert x.tolist() == [5, 4, 3, 2, 1, 0]
    with pytest.raises(RuntimeError, match=r"share one element.*clone"):
        bt.zeros(1).expand(3).add_(1)


def test_in_place_keeps_dtype_and_shape() -> None:
    x = bt.ones(2, 3)
    assert x.add_(1, alpha=2).tolist() == [[3] * 3] * 2
    assert x.mul_(bt.tensor(2.0, dtype=bt.float64)).dtype is bt.float32
    with pytest.raises(RuntimeError, match=r"add_: .*int64"):
        bt.ones(2, dtype=bt.int64).add_(0.5)
    with pytest.raises(RuntimeError, match=r"add_: .*does not fit"):
        bt.ones(3).add_(bt.ones(2, 3))
    y = bt.zeros(4, dtype=bt.int32)
    y[1:3] = 7.9
    assert y.tolist() == [0, 7, 7, 0]


# ---- errors

ERRORS: list[tuple[Any, Any, str]] = [
    (lambda: bt.ones(2, 3) + bt.ones(4), RuntimeError, r"add: .*\(2, 3\).*\(4,?\)"),
    (lambda: bt.ones(8, 3) @ bt.ones(4, 5), RuntimeError, r"matmul: .*\(8, 3\).*\(4, 5\)"),
    (lambda: bt.tensor(1.0) @ bt.ones(2), RuntimeError, r"matmul"),
    (lambda: bt.ones(2, 3).sum(5), IndexError, r"sum: .*5"),
    (lambda: bt.ones(2, 3).transpose(0, 4), IndexError, r"transpose: .*4"),
    (lambda: bt.ones(3)[5], IndexError, r"5.*3"),
    (lambda: bt.ones(3)[bt.tensor([0, 7])], IndexError, r"7.*3"),
    (lambda: bt.ones(3)[0, 0], IndexError, r"too many indices"),
    (lambda: bt.ones(2, 3).expand(4, 3), RuntimeError, r"expand: .*\(2, 3\).*\(4, 3\)"),
    (lambda: bt.cat([bt.ones(2, 3), bt.ones(2, 4)]), RuntimeError, r"cat: .*"),
    (
        lambda: bt.add(bt.ones(2), "a"),
        TypeError,
        r"add: input 1 is str; expected a Tensor or a number",
    ),
    (lambda: bt.add(bt.ones(2), None), TypeError, r"add: input 1 is NoneType"),
    (lambda: bt.gather(bt.ones(2, 2), 0, bt.tensor([[5, 0]])), IndexError, r"gather: .*5"),
    (lambda: bt.ones(2) & bt.ones(2), RuntimeError, r"bitwise_and: not defined for float32"),
    (lambda: bt.ones(2, 3).squeeze(7), IndexError, r"squeeze"),
    (lambda: bt.stack([bt.ones(2), bt.ones(3)]), RuntimeError, r"stack|cat"),
    (lambda: bt.ones(5).topk(9), RuntimeError, r"topk: .*9"),
    (lambda: bt.ones(4, 2).split(0), RuntimeError, r"split"),
    (lambda: bt.tensor([[1, 2], [3]]), ValueError, r"length 2 at depth 1; got 1"),
    (lambda: bt.tensor("abc"), TypeError, r"tensor: .*str"),
    (lambda: bt.zeros(2, -3), RuntimeError, r"-3"),
    (lambda: bt.zeros(2**40, 2**40), (RuntimeError, MemoryError), r"memory|large|big|bytes"),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS)
def test_errors_name_the_op_and_the_rule(call: Any, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=text) as error:
        call()
    message = str(error.value)
    assert "std::" not in message
    assert "backtrail::" not in message


def test_fill_converts_to_the_dtype_of_the_tensor() -> None:
    assert bt.zeros(2, dtype=bt.bool).fill_(1).tolist() == [True, True]
    assert bt.zeros(2, dtype=bt.int64).fill_(2.7).tolist() == [2, 2]
    assert bt.zeros(2).fill_(3).tolist() == [3.0, 3.0]
