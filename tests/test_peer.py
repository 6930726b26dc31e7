"""Functions side by side with PyTorch's: values, dtypes and gradients. Run with `-m peer`."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail._core import ops, pointwise_info

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

A, B, C = (3, 4), (4,), (2, 3, 4)
# name: (call on a library L and its functions F, shapes of the inputs)
CALLS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    # arithmetic with numbers, tensors and attributes
    "number arithmetic": (lambda L, F, x: (2 - x * 3) / 4 + (x + 5) % 3, [A]),
    "powers": (lambda L, F, x: (x.abs() + 0.1) ** 2.5 + x**3 + 2.0**x + x**2 + x**0, [A]),
    "add alpha": (lambda L, F, x, y: L.add(x, y, alpha=2.5) + L.sub(x, y, alpha=0.5), [A, B]),
    "div rounding": (
        lambda L, F, x: L.div(x, 0.7, rounding_mode="floor") + L.div(x, 0.7, rounding_mode="trunc"),
        [A],
    ),
    "clamp": (lambda L, F, x: x.clamp(-0.5, 0.7) + x.clamp(min=0.1) + x.clamp(max=0.2), [A]),
    "clamp tensors": (lambda L, F, x, y: x.clamp(min=y) + x.clamp(max=y), [A, B]),
    "where": (lambda L, F, x, y: L.where(x > 0, x, y) + L.where(x > 0, x, 1.5), [A, B]),
    "masked_fill": (lambda L, F, x: x.masked_fill(x > 0, 3.0), [A]),
    "lerp": (lambda L, F, x, y: L.lerp(x, y, 0.3), [A, A]),
    "addcmul": (
        lambda L, F, x, y: L.addcmul(x, x, y, value=0.5) + L.addcdiv(x, y, y.abs() + 1, value=2),
        [A, A],
    ),
    "nan_to_num": (lambda L, F, x: (x / x * 0 + 1 / x).nan_to_num(), [A]),
    "round": (lambda L, F, x: (x * 3).round() + (x * 3).round(decimals=2), [A]),
    "isclose": (lambda L, F, x, y: L.isclose(x, y, rtol=0.5), [A, A]),
    # reductions
    "sum": (lambda L, F, x: x.sum() + x.sum(0).sum() + x.sum((0, 2), keepdim=True), [C]),
    "mean": (lambda L, F, x: x.mean(-1) + x.mean((1, 2), keepdim=True).mean(), [C]),
    "prod": (lambda L, F, x: x.prod(1), [C]),
    "var": (
        lambda L, F, x: x.var() + x.var(1) + x.var(1, unbiased=False) + x.var((1,), correction=2),
        [A],
    ),
    "std": (lambda L, F, x: x.std(0) + x.std(0, keepdim=True), [A]),
    "max dim": (lambda L, F, x: x.max(1)[0] + x.min(1)[0] + x.amax(1) + x.amin(1) + x.max(), [A]),
    "argmax": (lambda L, F, x: x.argmax(1) + x.argmin(1) + x.argmax(), [A]),
    "logsumexp": (lambda L, F, x: x.logsumexp(1) + L.logsumexp(x, 0).sum(), [A]),
    "norm": (
        lambda L, F, x: x.norm() + x.norm(1) + x.norm(2, 1) + x.norm(3, 1) + x.norm(float("inf")),
        [A],
    ),
    "cumsum": (lambda L, F, x: x.cumsum(0) + x.cumprod(1), [A]),
    "any all": (lambda L, F, x: (x > 0).any(1) | (x > -9).all(1), [A]),
    "count": (lambda L, F, x: (x > 0).count_nonzero(1) + (x > 0).sum(1), [A]),
    "median": (lambda L, F, x: x.median(1)[0] + x.median() + x.kthvalue(2, 1)[0], [A]),
    "diff": (lambda L, F, x: x.diff() + x.diff(dim=-1), [A]),
    # shapes
    "views": (lambda L, F, x: x.reshape(4, 6).t().unsqueeze(0).flatten(1).view(2, 12), [C]),
    "permute": (lambda L, F, x: x.permute(2, 0, 1).transpose(0, 1).movedim(0, -1), [C]),
    "expand": (lambda L, F, x: x.expand(2, 3, 4).flip(0, 2).roll(1, 1), [A]),
    "cat stack": (
        lambda L, F, x, y: L.cat([x, y], 1).sum(0) * L.stack([x, y], -1).reshape(3, 8),
        [A, A],
    ),
    "split": (
        lambda L, F, x: L.cat([p * (i + 1) for i, p in enumerate(x.split([1, 3], 1))], 1),
        [A],
    ),
    "chunk": (lambda L, F, x: sum(p.sum() * i for i, p in enumerate(x.chunk(3, -1))), [A]),
    "repeat": (lambda L, F, x: x.repeat(2, 3) + x.tile(2, 3), [A]),
    "repeat_interleave": (lambda L, F, x: x.repeat_interleave(2, 1), [A]),
    "unfold": (lambda L, F, x: x.unfold(1, 2, 1), [A]),
    "diagonal": (lambda L, F, x: L.diag(x.diagonal(1)) + L.diag_embed(x.diagonal()), [A]),
    "triangles": (lambda L, F, x: x.tril(-1) + x.triu(1), [C]),
    "unflatten": (lambda L, F, x: x.unflatten(-1, (2, 2)).squeeze().swapaxes(0, 1), [A]),
    # products
    "matmul": (lambda L, F, x, y: x @ y, [C, (4, 5)]),
    "matmul batch": (lambda L, F, x, y: x @ y, [(5, 1, 3, 4), (2, 4, 2)]),
    "matvec": (lambda L, F, x, y: (x @ y).sum() + L.outer(y, y) + L.dot(y, y), [A, B]),
    "einsum": (
        lambda L, F, x, y: L.einsum("bij,jk->bik", x, y) + L.einsum("bij,jk->kib", x, y).sum(),
        [C, (4, 4)],
    ),
    "addmm": (lambda L, F, x, y, z: L.addmm(z, x, y, beta=0.5, alpha=2), [(3, 4), (4, 5), (5,)]),
    "bmm": (lambda L, F, x, y: L.bmm(x, y) + L.baddbmm(x @ y, x, y), [(2, 3, 4), (2, 4, 5)]),
    "tensordot": (lambda L, F, x, y: L.tensordot(x, y, 1), [C, (4, 2)]),
    "trace": (lambda L, F, x: x[:, :3].trace(), [A]),
    # indices
    "index": (lambda L, F, x: x[1:, ::2].sum() + x[:, [0, 2]] + x[L.tensor([1, 1, 0])][:, :2], [A]),
    "mask": (lambda L, F, x: x[x > 0].sum() + x.masked_select(x < 0).sum(), [A]),
    "gather": (lambda L, F, x: x.gather(1, L.tensor([[0, 3], [1, 1], [2, 0]])), [A]),
    "scatter": (
        lambda L, F, x, y: (
            x.scatter(1, L.tensor([[0, 3], [1, 2], [2, 0]]), y)
            + x.scatter_add(0, L.tensor([[0, 1], [1, 1], [2, 0]]), y)
        ),
        [A, (3, 2)],
    ),
    "index_select": (lambda L, F, x: x.index_select(1, L.tensor([3, 0, 3])), [A]),
    "index_add": (lambda L, F, x, y: x.index_add(0, L.tensor([2, 0]), y, alpha=2), [A, (2, 4)]),
    "sort": (lambda L, F, x: x.sort(1)[0] + x.topk(4, 1)[0] * x.argsort(1), [A]),
    "take_along_dim": (lambda L, F, x: L.take_along_dim(x, x.argsort(1), 1), [A]),
    # nn.functional
    "softmax": (lambda L, F, x: F.softmax(x, 0) + F.log_softmax(x, 1) + x.softmax(-1), [A]),
    "layer_norm": (lambda L, F, x, w, b: F.layer_norm(x, (4,), w, b, 1e-3), [C, B, B]),
    "rms_norm": (lambda L, F, x, w: F.rms_norm(x, (4,), w) + F.rms_norm(x, (3, 4)), [C, B]),
    "group_norm": (lambda L, F, x: F.group_norm(x, 2), [(3, 4, 5)]),
    "batch_norm": (lambda L, F, x: F.batch_norm(x, None, None, training=True), [(5, 3, 2)]),
    "linear": (lambda L, F, x, w, b: F.linear(x, w, b), [C, (5, 4), (5,)]),
    "embedding": (lambda L, F, w: F.embedding(L.tensor([[0, 2], [2, 1]]), w), [A]),
    "activations": (
        lambda L, F, x: (
            F.gelu(x)
            + F.gelu(x, approximate="tanh")
            + F.silu(x)
            + F.relu(x)
            + F.elu(x, 0.7)
            + F.leaky_relu(x, 0.2)
            + F.selu(x)
            + F.celu(x, 0.6)
        ),
        [A],
    ),
    "activations 2": (
        lambda L, F, x: (
            F.mish(x)
            + F.softplus(x, 2, 1)
            + F.hardswish(x)
            + F.hardsigmoid(x)
            + F.relu6(x * 4)
            + F.logsigmoid(x)
            + F.tanh(x)
            + F.softsign(x)
            + F.hardtanh(x)
        ),
        [A],
    ),
    "glu": (lambda L, F, x: F.glu(x, 1), [A]),
    "conv2d": (
        lambda L, F, x, w, b: F.conv2d(x, w, b, (2, 1), (1, 3), (1, 2), 2),
        [(3, 4, 9, 11), (6, 2, 3, 4), (6,)],
    ),
    "conv2d same": (
        lambda L, F, x, w: F.conv2d(x, w, padding="same") + L.conv2d(x[0], w, padding="same"),
        [(2, 3, 7, 8), (4, 3, 2, 5)],
    ),
    "conv1d": (lambda L, F, x, w, b: L.conv1d(x, w, b, 3, 2), [(2, 3, 17), (4, 3, 5), (4,)]),
    "depthwise": (
        lambda L, F, x, w: F.conv2d(x, w, padding=2, dilation=2, groups=3),
        [(2, 3, 20, 19), (6, 1, 3, 3)],
    ),
    "conv_transpose2d": (
        lambda L, F, x, w, b: F.conv_transpose2d(x, w, b, (3, 2), 1, (2, 0), 2, (1, 2)),
        [(2, 4, 5, 6), (4, 3, 3, 2), (6,)],
    ),
    "conv_transpose1d": (
        lambda L, F, x, w: L.conv_transpose1d(x, w, None, 2, 1, 1),
        [(2, 3, 7), (3, 2, 4)],
    ),
    "max_pool2d": (
        lambda L, F, x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True).sum() + F.max_pool2d(x, 2),
        [(2, 3, 10, 11)],
    ),
    "max_pool2d indices": (
        lambda L, F, x: (
            F.max_pool2d(x, (2, 3), 1, (1, 0), (1, 2), return_indices=True)[1] + 0 * x[:, :, :1, :1]
        ),
        [(2, 3, 9, 8)],
    ),
    "max_pool1d": (lambda L, F, x: L.max_pool1d(x, 3, 2, 1), [(2, 3, 9)]),
    "avg_pool2d": (
        lambda L, F, x: (
            F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)
            + F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)
            + F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, divisor_override=5)
        ),
        [(2, 3, 10, 8)],
    ),
    "avg_pool1d": (lambda L, F, x: L.avg_pool1d(x, 4, 3, 2, True, False), [(2, 3, 12)]),
    "adaptive pools": (
        lambda L, F, x: (
            F.adaptive_avg_pool2d(x, (3, None))
            + F.adaptive_max_pool2d(x, (3, None))
            + F.adaptive_avg_pool1d(x[0], 1)
            + F.adaptive_max_pool1d(x[1], 1)
        ),
        [(2, 3, 3, 8)],
    ),
    "attention": (
        lambda L, F, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        [(2, 5, 3)] * 3,
    ),
    "attention mask": (
        lambda L, F, q, k, v: F.scaled_dot_product_attention(
            q, k, v, attn_mask=L.tensor([[True, False, True]] * 2), scale=0.3
        ),
        [(2, 2, 2, 4), (2, 2, 3, 4), (2, 2, 3, 5)],
    ),
    "cross_entropy": (
        lambda L, F, x: (
            F.cross_entropy(x, L.tensor([0, 3, -100]))
            + F.cross_entropy(
                x,
                L.tensor([1, 2, 3]),
                label_smoothing=0.1,
                weight=L.tensor([1.0, 2, 3, 4]).to(x.dtype),
                reduction="sum",
            )
        ),
        [A],
    ),
    "linear_cross_entropy": (
        lambda L, F, x, w: F.linear_cross_entropy(
            x, w, L.tensor([0, 3, -100]), linear_bias=w[:, 0] * 2, label_smoothing=0.1
        ),
        [A, (5, 4)],
    ),
    "cross_entropy soft": (lambda L, F, x, y: F.cross_entropy(x, y.softmax(1)), [A, A]),
    "cross_entropy 3d": (
        lambda L, F, x: F.cross_entropy(x, L.tensor([[0, 1, 2, 0], [2, 2, 1, 1]])),
        [C],
    ),
    "losses": (
        lambda L, F, x, y: (
            F.mse_loss(x, y)
            + F.l1_loss(x, y)
            + F.smooth_l1_loss(x, y, beta=0.4)
            + F.huber_loss(x, y, delta=0.6)
        ),
        [A, A],
    ),
    "binary": (
        lambda L, F, x, y: (
            F.binary_cross_entropy_with_logits(x, y.sigmoid())
            + F.binary_cross_entropy(x.sigmoid(), y.sigmoid().detach())
        ),
        [A, A],
    ),
    "kl_div": (
        lambda L, F, x, y: F.kl_div(x.log_softmax(1), y.softmax(1), reduction="batchmean"),
        [A, A],
    ),
    "nll_loss": (lambda L, F, x: F.nll_loss(x.log_softmax(1), L.tensor([0, 3, 1])), [A]),
    "pad": (lambda L, F, x: F.pad(x, (1, 2), value=0.5).sum() + F.pad(x, (1, 0, 2, 1)), [A]),
    "normalize": (
        lambda L, F, x, y: F.normalize(x, dim=1).sum(1) + F.cosine_similarity(x, y),
        [A, A],
    ),
    "one_hot": (lambda L, F, x: F.one_hot(L.tensor([0, 2, 1]), 4) + x * 0, [A]),
}


def both(call: Any, shapes: Any, dtype: str, name: str) -> None:
    random = np.random.default_rng(zlib.crc32(name.encode()))
    arrays = [random.standard_normal(s).astype(dtype) for s in shapes]
    ours = [bt.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    x, y = call(bt, bt.nn.functional, *ours), call(torch, torch.nn.functional, *theirs)
    assert tuple(x.shape) == tuple(y.shape)
    assert repr(x.dtype).split(".")[1] == repr(y.dtype).split(".")[1]
    tolerance = 2e-5 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(
        x.detach().numpy(), y.detach().numpy(), rtol=tolerance, atol=tolerance
    )
    assert x.requires_grad == y.requires_grad
    if x.requires_grad:
        slack = max(10 * tolerance, 1e-7)  # PyTorch has constants of float in some derivatives
        weight = random.standard_normal(tuple(x.shape)).astype(dtype)
        x.backward(bt.tensor(weight))
        y.backward(torch.tensor(weight))
        for a, b in zip(ours, theirs, strict=True):
            assert (a.grad is None) == (b.grad is None)
            if b.grad is not None:
                np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=slack, atol=slack)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CALLS)
def test_function(name: str, dtype: str) -> None:
    both(*CALLS[name], dtype, name)


POINTWISE = [
    name
    for name, op in ops.items()
    if op.kind == "pointwise"
    and not any(pointwise_info(op)["mask_inputs"])
    and (hasattr(torch, name) or hasattr(torch.nn.functional, name))
]


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise(name: str) -> None:
    info = pointwise_info(ops[name])
    low, high = info["range"]
    random = np.random.default_rng(zlib.crc32(name.encode()))
    n = len(info["mask_inputs"])
    for dtypes in [
        ("float32",) * n,
        ("float64",) * n,
        ("int64",) * n,
        ("int32",) * n,
        ("uint8",) * n,
        ("bool",) * n,
        ("bfloat16",) * n,
        ("float32", "int64", "bool")[:n],
        ("int32", "uint8", "float64")[:n],
    ]:
        arrays = [random.uniform(low, high, (4, 5)) for _ in dtypes]
        ours = [bt.tensor(a).to(getattr(bt, d)) for a, d in zip(arrays, dtypes, strict=True)]
        theirs = [
            torch.tensor(a).to(getattr(torch, d)) for a, d in zip(arrays, dtypes, strict=True)
        ]
        if name == "square" and "bool" in dtypes:
            continue
        if any("int" in d for d in dtypes) and name in ("floor_divide", "remainder", "fmod"):
            ours, theirs = [x + 1 for x in ours], [x + 1 for x in theirs]
        theirs_of = getattr(torch, name, None) or getattr(torch.nn.functional, name)
        try:
            want = theirs_of(*theirs)
        except (RuntimeError, TypeError):
            continue  # not defined in PyTorch
        ours_of = getattr(bt, name, None) or getattr(bt.nn.functional, name)
        got = ours_of(*ours)
        assert repr(got.dtype).split(".")[1] == repr(want.dtype).split(".")[1], dtypes
        a, b = got.float().numpy(), want.float().numpy()
        narrow = "bfloat16" in dtypes
        np.testing.assert_allclose(
            a, b, rtol=2e-2 if narrow else 2e-5, atol=2e-2 if narrow else 1e-5
        )


@pytest.mark.parametrize(
    "name", ["sum", "prod", "mean", "amax", "argmax", "cumsum", "any", "all", "var", "norm"]
)
@pytest.mark.parametrize("dtype", ["float64", "int64", "int32", "uint8", "bool", "bfloat16"])
def test_dtypes_of_reductions(name: str, dtype: str) -> None:
    if dtype == "uint8" and name in ("any", "all"):
        pytest.skip("PyTorch keeps uint8 here for old programs; the result is bool")
    a = np.random.default_rng(0).integers(0, 2, (3, 4))
    x, y = bt.tensor(a).to(getattr(bt, dtype)), torch.tensor(a).to(getattr(torch, dtype))
    args = (0,) if name == "cumsum" else ()
    try:
        want = getattr(y, name)(*args)
    except RuntimeError:
        return  # not defined in PyTorch
    got = getattr(x, name)(*args)
    assert repr(got.dtype).split(".")[1] == repr(want.dtype).split(".")[1]
    np.testing.assert_allclose(got.float().numpy(), want.float().numpy(), rtol=1e-2)


@pytest.mark.parametrize(
    "data",
    [
        [1.0, 2.5],
        [1e-5, 2000.0],
        [[1, 20], [-3, 4]],
        [float("nan"), float("inf"), 1.0],
        [[0.1] * 30] * 2,
        [True, False],
        3.5,
        list(range(2000)),
        [2000.0, 1.0],
        [-0.0, 1.0],
        [[[1.5, -2.0]]] * 2,
    ],
)
def test_printing(data: Any) -> None:
    assert repr(bt.tensor(data)) == repr(torch.tensor(data)).replace("torch.", "backtrail.")
