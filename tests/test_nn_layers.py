"""The layers, activations and losses of nn, against their formulas and against PyTorch."""

from __future__ import annotations

import math
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn


def values(tensor: Any) -> Any:
    return tensor.detach().tolist()


def spread(tensor: Any) -> tuple[float, float]:
    """Mean and standard deviation."""
    flat = tensor.detach().reshape(-1)
    mean = flat.mean().item()
    return mean, ((flat - mean) ** 2).mean().item() ** 0.5


def test_linear_is_affine_and_starts_in_bounds() -> None:
    bt.manual_seed(0)
    layer = nn.Linear(100, 400)
    bound = 0.1
    for parameter in layer.parameters():
        assert parameter.abs().max().item() <= bound
        assert spread(parameter)[1] == pytest.approx(bound / math.sqrt(3), rel=0.1)
    layer.load_state_dict({"weight": bt.full((400, 100), 2.0), "bias": bt.full((400,), 1.0)})
    assert layer(bt.ones(3, 100))[2, 5].item() == 201
    assert nn.Linear(2, 3, bias=False).bias is None
    assert nn.Linear(2, 3, dtype=bt.float64).weight.dtype == bt.float64


def test_bilinear() -> None:
    layer = nn.Bilinear(2, 3, 4)
    a, b = bt.randn(5, 6, 2), bt.randn(5, 6, 3)
    out = layer(a, b)
    assert out.shape == (5, 6, 4)
    w = values(layer.weight)
    x, y = values(a)[1][2], values(b)[1][2]
    expected = [
        sum(x[i] * w[o][i][j] * y[j] for i in range(2) for j in range(3)) + layer.bias[o].item()
        for o in range(4)
    ]
    assert values(out)[1][2] == pytest.approx(expected, abs=1e-5)


def test_embedding() -> None:
    bt.manual_seed(0)
    table = nn.Embedding(1000, 50, padding_idx=-1)
    mean, std = spread(table.weight[:-1])
    assert abs(mean) < 0.02
    assert std == pytest.approx(1, abs=0.02)
    assert table.padding_idx == 999
    assert values(table.weight[999]) == [0.0] * 50
    index = bt.tensor([[1, 999], [1, 3]])
    assert table(index).shape == (2, 2, 50)
    table(index).sum().backward()
    grad = table.weight.grad
    assert grad[1, 0].item() == 2
    assert grad[999, 0].item() == 0
    assert grad[3, 0].item() == 1
    fixed = nn.Embedding.from_pretrained(bt.ones(3, 2))
    assert not fixed.weight.requires_grad
    assert values(fixed(bt.tensor([1]))) == [[1, 1]]
    with pytest.raises(ValueError, match="padding_idx 3"):
        nn.Embedding(3, 2, padding_idx=3)
    with pytest.raises(ValueError, match="no sparse gradients"):
        nn.Embedding(3, 2, sparse=True)


@pytest.mark.parametrize(
    ("module", "at_minus_2", "at_half"),
    [
        (nn.ReLU(), 0, 0.5),
        (nn.ReLU6(), 0, 0.5),
        (nn.LeakyReLU(0.1), -0.2, 0.5),
        (nn.ELU(), math.exp(-2) - 1, 0.5),
        (nn.GELU(), -1 * math.erfc(math.sqrt(2)), 0.25 * (1 + math.erf(0.5 / math.sqrt(2)))),
        (nn.SiLU(), -2 / (1 + math.exp(2)), 0.5 / (1 + math.exp(-0.5))),
        (nn.Sigmoid(), 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-0.5))),
        (nn.Tanh(), math.tanh(-2), math.tanh(0.5)),
        (nn.Softplus(), math.log1p(math.exp(-2)), math.log1p(math.exp(0.5))),
        (nn.Hardtanh(), -1, 0.5),
        (nn.Softmax(0), 1 / (1 + math.exp(2.5)), 1 / (1 + math.exp(-2.5))),
        (nn.LogSoftmax(-1), -math.log1p(math.exp(2.5)), -math.log1p(math.exp(-2.5))),
        (nn.Identity(1, two=2), -2, 0.5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_activation(module: nn.Module, at_minus_2: float, at_half: float) -> None:
    got = values(module(bt.tensor([-2.0, 0.5])))
    assert got == pytest.approx([at_minus_2, at_half], rel=1e-5, abs=1e-6)


def test_activation_in_place() -> None:
    for module in (nn.ReLU(inplace=True), nn.LeakyReLU(0.5, inplace=True), nn.ReLU6(inplace=True)):
        x = bt.tensor([-2.0, 0.5])
        y = module(x)
        assert values(x) == values(y)
        assert values(x)[1] == 0.5


def test_flatten_and_unflatten() -> None:
    x = bt.zeros(2, 3, 4, 5)
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0, 1)(x).shape == (6, 4, 5)
    assert nn.Unflatten(-1, (5, -1))(x).shape == (2, 3, 4, 5, 1)


def test_layer_norm_and_rms_norm() -> None:
    x = bt.tensor([[1.0, 2.0, 3.0, 6.0]])
    norm = nn.LayerNorm(4, eps=0.0)
    root = math.sqrt((4 + 1 + 0 + 9) / 4)
    assert values(norm(x))[0] == pytest.approx([-2 / root, -1 / root, 0, 3 / root], abs=1e-6)
    rms = nn.RMSNorm(4)
    root = math.sqrt((1 + 4 + 9 + 36) / 4)
    assert values(rms(x))[0] == pytest.approx([v / root for v in (1, 2, 3, 6)], rel=1e-5)
    assert list(rms.state_dict()) == ["weight"]
    assert list(norm.state_dict()) == ["weight", "bias"]
    assert nn.LayerNorm((2, 4), elementwise_affine=False).weight is None
    assert list(nn.LayerNorm(4, bias=False).state_dict()) == ["weight"]


def test_group_norm() -> None:
    norm = nn.GroupNorm(2, 4, eps=0.0)
    x = bt.randn(3, 4, 5)
    y = norm(x)
    for sample in range(3):
        for group in range(2):
            mean, std = spread(y[sample, 2 * group : 2 * group + 2])
            assert mean == pytest.approx(0, abs=1e-5)
            assert std == pytest.approx(1, rel=1e-4)
    with pytest.raises(ValueError, match="divisible"):
        nn.GroupNorm(3, 4)


def test_batch_norm_tracks_and_uses_running_statistics() -> None:
    norm = nn.BatchNorm1d(2, momentum=0.5)
    x = bt.tensor([[0.0, 10.0], [2.0, 14.0], [4.0, 18.0]])
    y = norm(x)
    assert values(y.mean(0)) == pytest.approx([0, 0], abs=1e-6)
    assert values(norm.running_mean) == pytest.approx([1, 7])
    assert values(norm.running_var) == pytest.approx([0.5 + 2, 0.5 + 8])
    assert norm.num_batches_tracked.item() == 1
    norm.eval()
    assert values(norm(x))[0] == pytest.approx([-1 / 2.5**0.5, 3 / 8.5**0.5], rel=1e-4)
    assert norm.num_batches_tracked.item() == 1
    norm.reset_running_stats()
    assert values(norm.running_mean) == [0, 0]
    assert values(norm.running_var) == [1, 1]


def test_batch_norm_variants() -> None:
    norm = nn.BatchNorm2d(3, momentum=None)
    for value in (1.0, 3.0):
        norm(bt.full((2, 3, 2, 2), value))
    assert values(norm.running_mean) == pytest.approx([2, 2, 2])
    plain = nn.BatchNorm1d(3, affine=False, track_running_stats=False).eval()
    assert list(plain.state_dict()) == []
    y = plain(bt.randn(50, 3))
    assert values((y * y).mean(0)) == pytest.approx([1, 1, 1], rel=1e-3)
    with pytest.raises(ValueError, match="BatchNorm2d: expected 4D input, got 2D"):
        norm(bt.zeros(2, 3))


def test_dropout() -> None:
    bt.manual_seed(0)
    x = bt.ones(100, 100)
    drop = nn.Dropout(0.2)
    kept = drop(x)
    assert kept.mean().item() == pytest.approx(1, abs=0.03)
    assert set(values(kept.reshape(-1))) == {0.0, 1.25}
    assert values(drop.eval()(x)) == values(x)
    channels = nn.Dropout2d(0.5)(bt.ones(20, 30, 2, 2)).reshape(600, 4)
    assert values(channels.max(1)[0]) == values(channels.min(1)[0])
    assert 200 < values(channels[:, 0]).count(2.0) < 400
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)


def test_losses() -> None:
    x, y = bt.tensor([0.0, 2.0, -1.0]), bt.tensor([1.0, 2.5, 3.0])
    assert nn.MSELoss()(x, y).item() == pytest.approx((1 + 0.25 + 16) / 3)
    assert nn.MSELoss(reduction="sum")(x, y).item() == pytest.approx(17.25)
    assert values(nn.L1Loss(reduction="none")(x, y)) == [1, 0.5, 4]
    assert values(nn.SmoothL1Loss(reduction="none", beta=2.0)(x, y)) == [0.25, 0.0625, 3]
    assert values(nn.HuberLoss(reduction="none", delta=2.0)(x, y)) == [0.5, 0.125, 6]
    p, t = bt.tensor([0.25, 0.5]), bt.tensor([1.0, 0.0])
    assert nn.BCELoss()(p, t).item() == pytest.approx((math.log(4) + math.log(2)) / 2)
    logits = bt.tensor([math.log(1 / 3), 0.0])
    assert nn.BCEWithLogitsLoss()(logits, t).item() == pytest.approx(
        (math.log(4) + math.log(2)) / 2, rel=1e-6
    )
    weighted = nn.BCEWithLogitsLoss(pos_weight=bt.tensor([3.0, 3.0]), reduction="sum")
    assert weighted(logits, t).item() == pytest.approx(3 * math.log(4) + math.log(2), rel=1e-6)
    q = bt.tensor([[0.5, 0.5]])
    log_p = bt.tensor([[math.log(0.25), math.log(0.75)]])
    expected = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)
    assert nn.KLDivLoss(reduction="batchmean")(log_p, q).item() == pytest.approx(expected)
    assert nn.KLDivLoss(reduction="sum", log_target=True)(log_p, q.log()).item() == pytest.approx(
        expected
    )


def test_cross_entropy() -> None:
    logits = bt.tensor([[math.log(1.0), math.log(3.0)], [math.log(2.0), math.log(2.0)]])
    target = bt.tensor([1, 0])
    first, second = math.log(4 / 3), math.log(2)
    assert nn.CrossEntropyLoss()(logits, target).item() == pytest.approx((first + second) / 2)
    assert nn.NLLLoss()(nn.LogSoftmax(1)(logits), target).item() == pytest.approx(
        (first + second) / 2
    )
    ignoring = nn.CrossEntropyLoss(ignore_index=0)
    assert ignoring(logits, target).item() == pytest.approx(first)
    weighted = nn.CrossEntropyLoss(weight=bt.tensor([1.0, 3.0]))
    assert weighted(logits, target).item() == pytest.approx((3 * first + second) / 4)
    assert list(weighted.state_dict()) == ["weight"]
    smooth = nn.CrossEntropyLoss(label_smoothing=0.2, reduction="none")
    assert values(smooth(logits, target))[0] == pytest.approx(0.9 * first + 0.1 * math.log(4))


def test_former_reduction_flags() -> None:
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert nn.L1Loss(reduce=False).reduction == "none"


# Attention


def test_attention_shapes_and_weights() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = bt.randn(3, 5, 8)
    out, weights = attention(x, x, x)
    assert out.shape == (3, 5, 8)
    assert weights.shape == (3, 5, 5)
    assert values(weights.sum(-1).reshape(-1)) == pytest.approx([1] * 15, abs=1e-5)
    fused, none = attention(x, x, x, need_weights=False)
    assert none is None
    assert (fused - out).abs().max().item() < 1e-5
    _, heads = attention(x, x, x, average_attn_weights=False)
    assert heads.shape == (3, 2, 5, 5)
    single, _ = attention(x[0], x[0], x[0])
    assert (single - out[0]).abs().max().item() < 1e-5
    seq_first = nn.MultiheadAttention(8, 2)
    seq_first.load_state_dict(attention.state_dict())
    turned = x.transpose(0, 1)
    assert (seq_first(turned, turned, turned)[0].transpose(0, 1) - out).abs().max().item() < 1e-5


def test_attention_masks() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = bt.randn(2, 4, 8)
    causal = bt.ones(4, 4, dtype=bt.bool).triu(1)
    out, weights = attention(x, x, x, attn_mask=causal)
    assert values(weights[0, 0]) == [1, 0, 0, 0]
    fused, _ = attention(x, x, x, attn_mask=causal, is_causal=True, need_weights=False)
    assert (fused - out).abs().max().item() < 1e-5
    padding = bt.tensor([[False, False, False, True]] * 2)
    _, weights = attention(x, x, x, key_padding_mask=padding)
    assert values(weights[:, :, 3].reshape(-1)) == [0] * 8
    both, _ = attention(x, x, x, key_padding_mask=padding, attn_mask=causal)
    assert (both - out)[:, :3].abs().max().item() < 1e-5
    with pytest.raises(RuntimeError, match="is_causal needs attn_mask"):
        attention(x, x, x, is_causal=True)
    with pytest.raises(ValueError, match="divisible"):
        nn.MultiheadAttention(8, 3)


# Against PyTorch


def to_torch(torch: Any, tensor: Any) -> Any:
    return torch.tensor(tensor.detach().tolist(), dtype=getattr(torch, dtype_name(tensor)))


def dtype_name(tensor: Any) -> str:
    return str(tensor.dtype).rpartition(".")[2]


PAIRS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Linear", (4, 3), {}, (2, 5, 4)),
    ("Linear", (4, 3), {"bias": False}, (4,)),
    ("ReLU", (), {}, (3, 4)),
    ("ReLU6", (), {}, (3, 4)),
    ("LeakyReLU", (0.2,), {}, (3, 4)),
    ("ELU", (0.7,), {}, (3, 4)),
    ("GELU", (), {}, (3, 4)),
    ("GELU", ("tanh",), {}, (3, 4)),
    ("SiLU", (), {}, (3, 4)),
    ("Sigmoid", (), {}, (3, 4)),
    ("Tanh", (), {}, (3, 4)),
    ("Softmax", (1,), {}, (3, 4, 5)),
    ("LogSoftmax", (-1,), {}, (3, 4)),
    ("Softplus", (2.0, 1.0), {}, (3, 4)),
    ("Hardtanh", (-0.5, 0.25), {}, (3, 4)),
    ("LayerNorm", ((4, 5),), {}, (3, 4, 5)),
    ("LayerNorm", (5,), {"bias": False}, (3, 4, 5)),
    ("RMSNorm", (5,), {}, (3, 4, 5)),
    ("RMSNorm", ((4, 5),), {"eps": 0.1}, (3, 4, 5)),
    ("GroupNorm", (2, 4), {}, (3, 4, 5, 2)),
    ("BatchNorm1d", (4,), {}, (6, 4)),
    ("BatchNorm1d", (4,), {"affine": False}, (6, 4, 3)),
    ("BatchNorm2d", (4,), {"momentum": None}, (6, 4, 3, 2)),
    ("Flatten", (), {}, (2, 3, 4)),
    ("Unflatten", (1, (2, 2)), {}, (3, 4)),
    ("Dropout", (0.0,), {}, (3, 4)),
    ("Identity", (), {}, (3, 4)),
]


@pytest.mark.peer
@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), PAIRS)
@pytest.mark.parametrize("training", [True, False])
def test_layer_matches_torch(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], shape: tuple[int, ...], training: bool
) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs)
    assert repr(ours) == repr(theirs)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    for key, value in ours.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
        state[key] = to_torch(torch, value)
    theirs.load_state_dict(state)
    ours.train(training), theirs.train(training)
    x = bt.randn(*shape, requires_grad=True)
    tx = to_torch(torch, x).requires_grad_()
    for _ in range(2):  # twice: running statistics
        y, ty = ours(x), theirs(tx)
    assert tuple(y.shape) == tuple(ty.shape)
    assert flat(y) == pytest.approx(flat(ty), rel=1e-4, abs=1e-5)
    seed = bt.randn(*y.shape)
    y.backward(seed)
    ty.backward(to_torch(torch, seed))
    assert flat(x.grad) == pytest.approx(flat(tx.grad), rel=1e-3, abs=2e-5)
    for (_, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert flat(a.grad) == pytest.approx(flat(b.grad), rel=1e-3, abs=2e-5)
    for key, value in ours.state_dict().items():
        assert flat(value) == pytest.approx(flat(theirs.state_dict()[key]), rel=1e-4, abs=1e-5)


def flat(tensor: Any) -> list[float]:
    result: list[float] = tensor.detach().reshape(-1).tolist()
    return result


LOSSES: list[tuple[str, dict[str, Any], str]] = [
    ("MSELoss", {}, "same"),
    ("L1Loss", {}, "same"),
    ("SmoothL1Loss", {"beta": 0.3}, "same"),
    ("HuberLoss", {"delta": 0.7}, "same"),
    ("BCEWithLogitsLoss", {}, "unit"),
    ("BCELoss", {}, "units"),
    ("KLDivLoss", {}, "units"),
    ("KLDivLoss", {"log_target": True}, "same"),
    ("CrossEntropyLoss", {}, "classes"),
    ("CrossEntropyLoss", {"ignore_index": 1}, "classes"),
    ("CrossEntropyLoss", {"label_smoothing": 0.2}, "classes"),
    ("CrossEntropyLoss", {}, "unit"),
    ("NLLLoss", {"ignore_index": 2}, "classes"),
]


@pytest.mark.peer
@pytest.mark.parametrize(("name", "kwargs", "kind"), LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
def test_loss_matches_torch(name: str, kwargs: dict[str, Any], kind: str, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    x = bt.rand(6, 4) if kind == "units" else bt.randn(6, 4)
    x.requires_grad_()
    target = {
        "same": lambda: bt.randn(6, 4),
        "unit": lambda: bt.rand(6, 4),
        "units": lambda: bt.rand(6, 4),
        "classes": lambda: bt.randint(0, 4, (6,)),
    }[kind]()
    tx = to_torch(torch, x).requires_grad_()
    loss = getattr(nn, name)(reduction=reduction, **kwargs)(x, target)
    theirs = getattr(torch.nn, name)(reduction=reduction, **kwargs)(tx, to_torch(torch, target))
    assert tuple(loss.shape) == tuple(theirs.shape)
    assert flat(loss) == pytest.approx(flat(theirs), rel=1e-4, abs=1e-6)
    loss.sum().backward()
    theirs.sum().backward()
    assert flat(x.grad) == pytest.approx(flat(tx.grad), rel=1e-4, abs=1e-5)


@pytest.mark.peer
@pytest.mark.parametrize(
    "options",
    [{}, {"kdim": 6, "vdim": 10}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"bias": False}],
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_matches_torch(options: dict[str, Any], masked: bool, need_weights: bool) -> None:
    torch = pytest.importorskip("torch")
    ours = nn.MultiheadAttention(8, 2, **options)
    theirs = torch.nn.MultiheadAttention(8, 2, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for value in ours.state_dict().values():
        value.uniform_(-0.5, 0.5)
    theirs.load_state_dict({k: to_torch(torch, v) for k, v in ours.state_dict().items()})
    q, k, v = bt.randn(4, 3, 8), bt.randn(5, 3, ours.kdim), bt.randn(5, 3, ours.vdim)
    masks: dict[str, Any] = {}
    if masked:
        masks["attn_mask"] = bt.randn(3 * 2, 4, 5)
        masks["key_padding_mask"] = bt.tensor([[0.0, 0.0, 0.0, 0.0, -math.inf]] * 3)
    out, weights = ours(q, k, v, need_weights=need_weights, **masks)
    expected, expected_weights = theirs(
        *(to_torch(torch, x) for x in (q, k, v)),
        need_weights=need_weights,
        **{name: to_torch(torch, mask) for name, mask in masks.items()},
    )
    assert tuple(out.shape) == tuple(expected.shape)
    assert flat(out) == pytest.approx(flat(expected), rel=1e-4, abs=1e-5)
    if need_weights:
        assert tuple(weights.shape) == tuple(expected_weights.shape)
        assert flat(weights) == pytest.approx(flat(expected_weights), rel=1e-4, abs=1e-5)
