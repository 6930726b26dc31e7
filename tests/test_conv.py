"""Convolution and pooling: odd shapes against loops in NumPy, layers, rules and their messages."""

from __future__ import annotations

from typing import Any

import backtrail as bt
import numpy as np
import pytest
import references_conv as reference
from backtrail import nn
from backtrail._core import equal_bytes
from backtrail.nn import functional as F


def close(got: Any, want: Any, tolerance: float) -> None:
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(40))
def test_shapes_at_random(seed: int, dtype: str) -> None:
    """Values and gradients of conv2d; of sizes around those of vectors, blocks and filters."""
    random = np.random.default_rng(seed)

    def pick(*numbers: int) -> int:
        return int(random.choice(numbers))

    groups = pick(1, 1, 2, 3)
    channels, filters = groups * pick(1, 1, 2, 5), groups * pick(1, 2, 9, 17)
    kernel, stride = (pick(1, 2, 3, 5), pick(1, 2, 3, 5)), (pick(1, 2, 3), pick(1, 1, 2, 3))
    dilation, padding = (pick(1, 1, 2), pick(1, 1, 3)), (pick(0, 1, 6), pick(0, 1, 2, 7))
    image = [
        max(n, d * (k - 1) + 1 - 2 * p)
        for n, d, k, p in zip(
            (pick(1, 4, 7), pick(1, 5, 16, 33)), dilation, kernel, padding, strict=True
        )
    ]
    x = random.standard_normal((pick(1, 2, 3), channels, *image)).astype(dtype)
    w = random.standard_normal((filters, channels // groups, *kernel)).astype(dtype)
    b = random.standard_normal(filters).astype(dtype)
    leaves = [bt.tensor(a, requires_grad=True) for a in (x, w, b)]
    y = F.conv2d(*leaves, stride, padding, dilation, groups)
    own = (stride, padding, dilation, groups)
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    close(y, reference.convolution(x, w, b, *own, y.shape[2:]), tolerance)
    g = random.standard_normal(y.shape).astype(dtype)
    y.backward(bt.tensor(g))
    close(leaves[0].grad, reference.conv_transpose(g, w, None, *own, image), tolerance)
    close(leaves[1].grad, reference.conv_weight(x, g, *own, kernel), tolerance)
    close(leaves[2].grad, g.sum((0, 2, 3)), tolerance)


@pytest.mark.parametrize(
    ("image", "filters", "own"),
    [
        ((1, 2, 90, 130), (3, 2, 3, 3), ((1, 1), (1, 1), (1, 1), 1)),  # several blocks of rows
        ((1, 3, 2, 9000), (4, 3, 1, 7), ((1, 2), (0, 3), (1, 1), 1)),  # blocks of a part of a row
        ((2, 300, 6, 7), (5, 300, 3, 3), ((1, 1), (1, 1), (1, 1), 1)),  # blocks of channels
        ((40, 2, 8, 9), (33, 2, 3, 3), ((2, 2), (1, 1), (1, 1), 1)),  # several images a task
        ((37, 40, 7, 7), (60, 40, 3, 3), ((1, 1), (1, 1), (1, 1), 1)),  # images of few pixels
        ((30, 70, 9, 5), (64, 35, 1, 1), ((1, 1), (0, 0), (1, 1), 2)),  # these, without patches
        ((3, 17, 20, 21), (33, 17, 3, 2), ((1, 1), (2, 0), (2, 1), 1)),  # filters turned round
        ((2, 64, 32, 32), (9, 64, 1, 1), ((1, 1), (0, 0), (1, 1), 1)),  # a product; aliased rows
        ((5, 16, 14, 14), (32, 16, 3, 3), ((1, 1), (1, 1), (1, 1), 1)),  # windows seen in place
        ((2, 70, 13, 28), (46, 70, 3, 3), ((1, 1), (1, 1), (1, 1), 1)),  # and blocks of channels
        ((3, 48, 29, 25), (32, 24, 3, 3), ((2, 2), (1, 1), (1, 1), 2)),  # and groups, with strides
        ((2, 30, 30, 27), (16, 30, 5, 2), ((1, 1), (4, 1), (2, 2), 1)),  # and dilation
        ((1, 16, 130, 140), (16, 16, 3, 3), ((1, 1), (1, 1), (1, 1), 1)),  # and blocks of rows
        ((4, 16, 4, 900), (16, 16, 3, 3), ((1, 3), (1, 0), (1, 1), 1)),  # and long ones
    ],
)
def test_blocks(image: Any, filters: Any, own: Any, rng: np.random.Generator) -> None:
    """Shapes that are cut: in float32 as in float64, where they are cut elsewhere."""
    x, w = rng.standard_normal(image), rng.standard_normal(filters)
    found = []
    for dtype in ("float32", "float64"):
        leaves = [bt.tensor(a.astype(dtype), requires_grad=True) for a in (x, w)]
        y = F.conv2d(*leaves, None, *own)
        y.backward(bt.tensor(np.cos(np.arange(y.numel())).reshape(y.shape).astype(dtype)))
        found.append([y.detach().numpy(), *[a.grad.numpy() for a in leaves]])
    want = reference.convolution(x, w, None, *own, found[0][0].shape[2:])
    np.testing.assert_allclose(found[1][0], want, rtol=1e-11, atol=1e-11)
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1, np.abs(b).max()))
    size = image[2:]
    g = np.cos(np.arange(want.size)).reshape(want.shape)
    if want.size * w.size < 2e6:
        close(bt.tensor(found[1][1]), reference.conv_transpose(g, w, None, *own, size), 1e-11)
        close(bt.tensor(found[1][2]), reference.conv_weight(x, g, *own, filters[2:]), 1e-9)


def test_an_image_alone_is_a_batch_of_one() -> None:
    x, w = bt.randn(3, 6, 5), bt.randn(4, 3, 3, 3)
    assert equal_bytes(F.conv2d(x, w), F.conv2d(x[None], w)[0])
    assert equal_bytes(F.conv1d(x[:, 0], w[:, :, 0]), F.conv1d(x[None, :, 0], w[:, :, 0])[0])
    g = bt.randn(4, 4, 3)
    assert equal_bytes(F.conv_transpose2d(g, w), F.conv_transpose2d(g[None], w)[0])
    for pool in (F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d):
        assert equal_bytes(pool(x, 2), pool(x[None], 2)[0])


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 9, 10), (32, 14, 14), (60, 9, 25)])
def test_an_image_has_the_same_bits_in_any_batch(channels: int, height: int, width: int) -> None:
    x, w, b = bt.randn(20, channels, height, width), bt.randn(48, channels, 3, 3), bt.randn(48)
    together = F.conv2d(x, w, b, padding=1)
    assert all(equal_bytes(together[i], F.conv2d(x[i : i + 1], w, b, padding=1)[0]) for i in (0, 7))


def test_padding_by_name() -> None:
    x, w = bt.randn(2, 3, 7, 6), bt.randn(4, 3, 4, 3)
    assert equal_bytes(F.conv2d(x, w, padding="valid"), F.conv2d(x, w))
    same = F.conv2d(x, w, padding="same", dilation=(1, 2))
    assert same.shape == (2, 4, 7, 6)
    padded = F.pad(x, (2, 2, 1, 2))  # of an odd number the end gets more
    close(same, F.conv2d(padded, w, dilation=(1, 2)).numpy(), 1e-5)


def test_half_precision() -> None:
    x, w = bt.randn(2, 3, 7, 6), bt.randn(4, 3, 3, 3)
    y = F.conv2d(x.bfloat16(), w.bfloat16())
    assert y.dtype is bt.bfloat16
    close(y.float(), F.conv2d(x, w).numpy(), 0.1)


def test_empty_batch() -> None:
    x = bt.zeros(0, 3, 6, 5, requires_grad=True)
    layer = nn.Conv2d(3, 4, 3)
    y = F.max_pool2d(layer(x), 2)
    assert y.shape == (0, 4, 2, 1)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert layer.weight.grad.abs().sum().item() == 0
    assert layer.bias.grad.tolist() == [0] * 4


def test_nan_and_infinity() -> None:
    """A NaN wins every window that sees it; zeros of the padding do not spread it."""
    x = bt.tensor([[[1.0, float("nan"), 3.0, 4.0], [5.0, 6.0, float("-inf"), 7.0]]])
    y, where = F.max_pool2d(x, 2, return_indices=True)
    assert y[0, 0, 0].isnan().item()
    assert y[0, 0, 1].item() == 7
    assert where.tolist() == [[[1, 7]]]
    assert F.max_pool1d(x[0, 1:], 2).tolist() == [[6.0, 7.0]]
    low = bt.full((1, 2, 4), -float("inf"))
    y, where = F.max_pool2d(low, 2, return_indices=True)
    assert y.tolist() == [[[-float("inf")] * 2]]
    assert where.tolist() == [[[0, 2]]]
    image = bt.zeros(1, 1, 5, 20)
    image[0, 0, 2, 16] = float("nan")
    nans = F.conv2d(image, bt.ones(1, 1, 3, 3), padding=1).isnan()[0, 0]
    assert nans.sum().item() == 9
    assert nans[1:4, 15:18].all().item()
    image = bt.zeros(1, 1, 1, 3, requires_grad=True)
    weight = bt.ones(1, 1, 1, 3, requires_grad=True)
    F.conv2d(image, weight, padding=(0, 1)).backward(bt.tensor([[[[0.0, 0.0, float("inf")]]]]))
    assert image.grad.tolist() == [[[[0.0, float("inf"), float("inf")]]]]


def test_padding_modes() -> None:
    x = bt.randn(2, 3, 6, 5)
    for mode in ("reflect", "replicate", "circular"):
        layer = nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode=mode)
        want = F.conv2d(F.pad(x, (1, 1, 2, 2), mode=mode), layer.weight, layer.bias)
        assert equal_bytes(layer(x), want)
    around = nn.Conv1d(3, 4, 4, padding="same", padding_mode="circular")
    assert around(x[:, :, 0]).shape == (2, 4, 5)


def test_layers() -> None:
    bt.manual_seed(0)
    layer = nn.Conv2d(8, 64, (3, 5), groups=2)
    assert {k: tuple(v.shape) for k, v in layer.state_dict().items()} == {
        "weight": (64, 4, 3, 5),
        "bias": (64,),
    }
    bound = 1 / 60**0.5
    for parameter in layer.parameters():
        assert 0.8 * bound < parameter.abs().max().item() <= bound
    assert nn.ConvTranspose2d(8, 6, 3, groups=2).weight.shape == (8, 3, 3, 3)
    up = nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1)
    x = bt.randn(1, 3, 5, 5)
    assert up(x).shape == (1, 2, 9, 9)
    assert up(x, output_size=(10, 9)).shape == (1, 2, 10, 9)
    with pytest.raises(ValueError, match="output_size"):
        up(x, output_size=(11, 9))
    assert nn.ConvTranspose1d(3, 2, 4, 2)(x[0, :, 0]).shape == (2, 12)
    assert repr(nn.Conv2d(3, 8, 3, padding=1, groups=1, bias=False)) == (
        "Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)"
    )
    assert repr(nn.MaxPool2d(2)) == (
        "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"
    )
    assert repr(nn.AdaptiveAvgPool2d((1, None))) == "AdaptiveAvgPool2d(output_size=(1, None))"
    for pool, shape in [
        (nn.MaxPool2d(2), (1, 3, 2, 2)),
        (nn.MaxPool1d(2), (1, 3, 2)),
        (nn.AvgPool2d(3, 2, 1), (1, 3, 3, 3)),
        (nn.AvgPool1d(3, 2, 1), (1, 3, 3)),
        (nn.AdaptiveAvgPool2d(1), (1, 3, 1, 1)),
        (nn.AdaptiveAvgPool1d(2), (1, 3, 2)),
        (nn.AdaptiveMaxPool2d((2, 3)), (1, 3, 2, 3)),
        (nn.AdaptiveMaxPool1d(2), (1, 3, 2)),
    ]:
        assert pool(x if len(shape) == 4 else x[:, :, 0]).shape == shape


def test_a_small_network_learns() -> None:
    bt.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 2),
    )  # fmt: skip
    x = bt.randn(64, 1, 8, 8)
    y = (x[:, 0, :, 1:] * x[:, 0, :, :-1]).sum((1, 2)) > 0  # whether neighbours agree
    optimizer = bt.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        loss = F.cross_entropy(model(x), y.long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


X = bt.zeros(2, 4, 5, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.conv2d(X, bt.zeros(8, 3, 3, 3)), "conv2d.*expected 3 input channels; got 4"),
        (lambda: F.conv2d(X, bt.zeros(8, 4, 3)), "conv2d: weight has shape .*4 dimensions"),
        (lambda: F.conv2d(X[0, 0], bt.zeros(8, 4, 3, 3)), "conv2d: input has shape .*4 dimensions"),
        (lambda: F.conv2d(X, bt.zeros(8, 4, 6, 3)), "conv2d.*must not be larger than the padded"),
        (lambda: F.conv2d(X, bt.zeros(7, 2, 3, 3), groups=2), "conv2d.*divide into 2 groups"),
        (lambda: F.conv2d(X, bt.zeros(8, 4, 3, 3), bt.zeros(7)), r"conv2d: bias .*\(8,\)"),
        (lambda: F.conv2d(X, bt.zeros(8, 4, 3, 3), stride=0), "conv2d: stride is 0"),
        (lambda: F.conv2d(X, bt.zeros(8, 4, 3, 3), padding=-1), "conv2d: padding is -1"),
        (lambda: F.conv2d(X, bt.zeros(8, 4, 3, 3), padding=(1, 1, 1)), "padding is .1, 1, 1."),
        (lambda: F.conv2d(X, bt.zeros(8, 4, 3, 3), padding="full"), "conv2d: padding is 'full'"),
        (
            lambda: F.conv2d(X, bt.zeros(8, 4, 3, 3), stride=2, padding="same"),
            "conv2d: padding='same' needs a stride of 1",
        ),
        (lambda: F.conv2d(X, bt.zeros(8, 4, 3, 3).double()), "float32 and weight is float64"),
        (lambda: F.conv1d(X, bt.zeros(8, 4, 3)), "conv1d: input has shape"),
        (lambda: F.conv_transpose2d(X, bt.zeros(3, 4, 3, 3)), "expected 3 input channels; got 4"),
        (
            lambda: F.conv_transpose2d(X, bt.zeros(4, 4, 3, 3), output_padding=1),
            "output_padding=.1, 1. must be smaller than stride",
        ),
        (lambda: F.conv_transpose2d(X, bt.zeros(4, 4, 1, 1), padding=3), "would have size"),
        (lambda: F.max_pool2d(X, 7), "max_pool2d.*must not be larger than the padded"),
        (lambda: F.max_pool2d(X, 2, padding=2), "max_pool2d: padding=.2, 2. must be at most half"),
        (lambda: F.max_pool2d(X, 0), "max_pool2d: kernel_size is 0"),
        (lambda: F.avg_pool2d(X, 2, divisor_override=0), "divisor_override"),
        (lambda: F.max_pool1d(X, 2), "max_pool1d: input has shape"),
        (lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)), "output_size is"),
    ],
)
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        call()


def test_messages_of_layers() -> None:
    with pytest.raises(ValueError, match="in_channels=4 does not divide into 3 groups"):
        nn.Conv2d(4, 6, 3, groups=3)
    with pytest.raises(ValueError, match="padding_mode is 'mirror'"):
        nn.Conv2d(4, 6, 3, padding_mode="mirror")
    with pytest.raises(ValueError, match="needs a stride of 1"):
        nn.Conv2d(4, 6, 3, stride=2, padding="same")
    numbers = bt.arange(16).reshape(1, 1, 4, 4)
    assert F.max_pool2d(numbers, 2).tolist() == [[[[5, 7], [13, 15]]]]
