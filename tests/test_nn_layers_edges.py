"""Layers at their edges: shapes of gradients, empty batches, old states, refused arguments."""

from __future__ import annotations

import importlib
from typing import Any

import backtrail as bt
import backtrail.nn.functional as F
import pytest
from backtrail import nn
from backtrail.nn.utils.rnn import pack_sequence

# Every module with parameters, and the shapes of its inputs (a number: so many classes).
WITH_PARAMETERS: dict[str, tuple[Any, list[tuple[int, ...]]]] = {
    "Linear": (lambda: nn.Linear(3, 2), [(4, 5, 3)]),
    "Bilinear": (lambda: nn.Bilinear(3, 2, 4), [(5, 3), (5, 2)]),
    "LayerNorm": (lambda: nn.LayerNorm(3), [(2, 3)]),
    "LayerNorm 2": (lambda: nn.LayerNorm((2, 3)), [(4, 2, 3)]),
    "LayerNorm 3": (lambda: nn.LayerNorm((5, 2, 3)), [(4, 5, 2, 3)]),
    "LayerNorm all": (lambda: nn.LayerNorm((2, 3)), [(2, 3)]),
    "RMSNorm": (lambda: nn.RMSNorm(3), [(2, 3)]),
    "RMSNorm 2": (lambda: nn.RMSNorm((2, 3)), [(4, 2, 3)]),
    "RMSNorm 3": (lambda: nn.RMSNorm((5, 2, 3)), [(4, 5, 2, 3)]),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), [(3, 4, 5)]),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), [(4, 3)]),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), [(4, 3, 2, 2)]),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2), [(2, 4, 7)]),
    "Conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), groups=2), [(2, 4, 7, 5)]),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, groups=2), [(2, 4, 7)]),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, (3, 2), groups=2), [(2, 4, 7, 5)]),
    "RNN": (lambda: nn.RNN(3, 4, 2, bidirectional=True), [(5, 2, 3)]),
    "LSTM": (lambda: nn.LSTM(3, 4, 2, proj_size=2), [(5, 2, 3)]),
    "GRU": (lambda: nn.GRU(3, 4, 2, bidirectional=True), [(5, 3)]),
    "RNNCell": (lambda: nn.RNNCell(3, 4), [(2, 3)]),
    "LSTMCell": (lambda: nn.LSTMCell(3, 4), [(3,)]),
    "GRUCell": (lambda: nn.GRUCell(3, 4), [(2, 3)]),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True, kdim=3, vdim=5),
        [(6, 2, 4), (3, 2, 3), (3, 2, 5)],
    ),
}


def total(result: Any) -> Any:
    if isinstance(result, tuple):
        return sum(total(r) for r in result if r is not None)
    return (result * result).sum()


def test_every_module_with_parameters_is_listed() -> None:
    names = {name.split()[0] for name in WITH_PARAMETERS} | {"Embedding"}
    for name in nn.__all__:
        kind = getattr(nn, name)
        if isinstance(kind, type) and issubclass(kind, nn.Module) and kind is not nn.Module:
            containers = ("ModuleDict", "ModuleList", "ParameterDict", "ParameterList")
            if any(hasattr(k, "reset_parameters") for k in kind.__mro__) and not (
                name in containers or name.endswith("Base")
            ):
                assert name in names, f"{name}: list it"


@pytest.mark.parametrize("name", WITH_PARAMETERS)
@pytest.mark.parametrize("dtype", [bt.float32, bt.float64])
def test_gradients_have_the_shape_of_what_they_belong_to(name: str, dtype: Any) -> None:
    make, shapes = WITH_PARAMETERS[name]
    module = make().to(dtype)
    inputs = [bt.randn(*shape, dtype=dtype).requires_grad_() for shape in shapes]
    leaves = {**dict(module.named_parameters()), **{f"input {i}": x for i, x in enumerate(inputs)}}
    total(module(*inputs)).backward()
    for key, leaf in leaves.items():
        assert leaf.grad is not None, key
        assert leaf.grad.shape == leaf.shape, key
        assert leaf.grad.dtype is leaf.dtype, key
    again = bt.autograd.grad(total(module(*inputs)), list(leaves.values()), create_graph=True)
    for (key, leaf), grad in zip(leaves.items(), again, strict=True):
        assert grad.shape == leaf.shape, key
    if name not in ("RNN", "LSTM", "GRU"):  # of second order: opaque
        sum(total(g) for g in again).backward()
        for key, leaf in leaves.items():
            assert leaf.grad is not None, key
            assert leaf.grad.shape == leaf.shape, key
    for kind in (bt.optim.SGD, bt.optim.AdamW, bt.optim.RMSprop, bt.optim.Adagrad):
        kind(module.parameters(), lr=0.1).step()


def test_layer_norm_over_two_dimensions() -> None:
    module = nn.LayerNorm((2, 2), eps=0.0)
    x = bt.tensor([[[1.0, 3.0], [1.0, 3.0]]])
    module(x).sum().backward()
    assert module.weight is not None
    assert module.weight.grad is not None
    assert module.weight.grad.tolist() == [[-1, 1], [-1, 1]]
    for norm in (F.layer_norm, F.rms_norm):
        with pytest.raises(RuntimeError, match="must have the shape normalized_shape"):
            norm(x, (2, 2), bt.ones(4))
        with pytest.raises(RuntimeError, match="must be the last dimensions"):
            norm(x, (2, 3))


def test_empty_batches() -> None:
    mean, var = bt.zeros(4), bt.ones(4)
    for shape in ((0, 4), (0, 4, 3), (2, 4, 0)):
        x = bt.ones(*shape, requires_grad=True)
        for y in (
            F.batch_norm(x, mean, var, training=True),
            F.batch_norm(x, mean, var),
            F.batch_norm(x, None, None, training=True),
            F.group_norm(x, 2, bt.ones(4), bt.zeros(4)),
        ):
            assert y.shape == shape
            assert bt.autograd.grad(y.sum(), x)[0].shape == shape
    assert (mean.tolist(), var.tolist()) == ([0] * 4, [1] * 4)
    assert F.batch_norm(bt.ones(0), bt.zeros(0), bt.zeros(0), training=True).shape == (0,)
    module = nn.BatchNorm1d(4)
    assert module(bt.ones(0, 4)).shape == (0, 4)
    with pytest.raises(ValueError, match="more than 1 value"):
        module(bt.ones(1, 4))


def test_norms_name_what_does_not_fit() -> None:
    x = bt.ones(2, 4)
    with pytest.raises(RuntimeError, match="weight and bias must have one element for each"):
        F.group_norm(x, 2, bt.ones(3))
    with pytest.raises(RuntimeError, match="do not divide into 3 groups"):
        F.group_norm(x, 3)
    with pytest.raises(RuntimeError, match="for each of 4 channels"):
        F.batch_norm(x, bt.zeros(3), bt.ones(3))
    with pytest.raises(ValueError, match="eps must be positive"):
        F.batch_norm(x, None, None, training=True, eps=0.0)
    with pytest.raises(ValueError, match="more than 1 value"):
        F.group_norm(bt.ones(1, 4), 4)


def test_states_of_batch_norm_from_before_batches_were_counted() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2))
    net(bt.randn(4, 2))
    state = {k: v for k, v in net.state_dict().items() if "tracked" not in k}
    assert repr(net.load_state_dict(state)) == "<All keys matched successfully>"
    assert net[0].num_batches_tracked.item() == 1
    assert list(state) == ["0.weight", "0.bias", "0.running_mean", "0.running_var"]
    newer = net.state_dict()
    del newer["0.num_batches_tracked"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"0\.num_batches_tracked"'):
        net.load_state_dict(newer)


# Embedding


def test_embedding_shortens_rows() -> None:
    table = nn.Embedding(3, 2, max_norm=1.0)
    with bt.no_grad():
        table.weight.copy_(bt.tensor([[3.0, 4.0], [0.3, 0.4], [30.0, 40.0]]))
    out = table(bt.tensor([[0, 0], [1, 0]]))
    near = pytest.approx
    assert out[0, 0].tolist() == near([0.6, 0.8])
    assert table.weight[0].tolist() == near([0.6, 0.8])
    assert table.weight[1].tolist() == near([0.3, 0.4])
    assert table.weight[2].tolist() == [30, 40]
    out.sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.tolist() == [[3, 3], [1, 1], [0, 0]]
    weight = bt.tensor([[3.0, 4.0]])
    F.embedding(bt.tensor([0]), weight, max_norm=1.0, norm_type=1.0)
    assert weight[0].tolist() == near([3 / 7, 4 / 7])


def test_embedding_gradients_by_frequency() -> None:
    table = nn.Embedding(4, 2, padding_idx=3, scale_grad_by_freq=True)
    index = bt.tensor([0, 1, 1, 3, 1])
    weights = bt.tensor([1.0, 2.0, 3.0, 4.0, 4.0]).unsqueeze(1)
    (table(index) * weights).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.tolist() == [[1, 1], [3, 3], [0, 0], [0, 0]]


@pytest.mark.parametrize("dtype", [bt.float32, bt.bool, bt.uint8])
def test_embedding_wants_integers(dtype: Any) -> None:
    with pytest.raises(RuntimeError, match="indices must be int64 or int32"):
        nn.Embedding(3, 2)(bt.ones(2, dtype=dtype))
    assert nn.Embedding(3, 2)(bt.ones(2, dtype=bt.int32)).shape == (2, 2)
    with pytest.raises(RuntimeError, match="no sparse gradients"):
        F.embedding(bt.tensor([0]), bt.ones(1, 1), sparse=True)


def test_embedding_says_how_it_was_made() -> None:
    table = nn.Embedding(4, 2, 0, 1.0, 3.0, True)
    text = "Embedding(4, 2, padding_idx=0, max_norm=1.0, norm_type=3.0, scale_grad_by_freq=True)"
    assert repr(table) == text


# Activations and dropout


def test_prelu_weights() -> None:
    x = -bt.ones(2, 3)
    assert F.prelu(x, bt.tensor([1.0, 2.0, 3.0])).tolist() == [[-1, -2, -3]] * 2
    assert F.prelu(x, bt.tensor(0.5)).tolist() == [[-0.5] * 3] * 2
    assert F.prelu(bt.tensor(-1.0), bt.tensor([0.5])).shape == ()
    for weight in (bt.ones(3, 1), bt.ones(2), bt.ones(0)):
        with pytest.raises(RuntimeError, match="prelu: weight"):
            F.prelu(x, weight)
    with pytest.raises(RuntimeError, match="expected 1 or one for each of 1 channels"):
        F.prelu(bt.ones(3), bt.ones(3))


def test_hardtanh_limits() -> None:
    assert F.hardtanh(bt.tensor([2.0]), 1, 1).tolist() == [1]
    with pytest.raises(ValueError, match="cannot be greater"):
        F.hardtanh(bt.ones(1), 1, -1)


def test_dropout_of_channels() -> None:
    flat = F.dropout1d(bt.ones(50, 4))
    assert set(flat.sum(1).tolist()) == {0, 8}
    assert set(F.dropout1d(bt.ones(3, 50, 4)).sum(2).reshape(-1).tolist()) == {0, 8}
    with pytest.warns(UserWarning, match=r"interpreted as shape \(N, C, L\)"):
        rows = F.dropout2d(bt.ones(3, 50, 4))
    assert set(rows.sum(2).reshape(-1).tolist()) == {0, 8}
    with pytest.warns(UserWarning, match="Received a 2-D input"):
        single = F.dropout2d(bt.ones(20, 20))
    assert set(single.reshape(-1).tolist()) == {0, 2}
    with pytest.raises(RuntimeError, match=r"expected \(N, C, H, W\)"):
        F.dropout2d(bt.ones(3))
    with pytest.raises(RuntimeError, match=r"expected \(N, C, L\) or \(C, L\)"):
        F.dropout1d(bt.ones(3))


def test_initialising_nothing_warns() -> None:
    with pytest.warns(UserWarning, match="zero-element tensors is a no-op"):
        nn.Linear(0, 2)


# Packed sequences, paths, text


def test_packed_sequences_convert() -> None:
    packed = pack_sequence([bt.ones(3, 2), bt.ones(1, 2)])
    wide = packed.double()
    assert wide.data.dtype is bt.float64
    assert wide.batch_sizes is packed.batch_sizes
    assert packed.to(bt.float32) is packed
    assert packed.to("cpu") is packed.cpu()
    assert packed.long().data.dtype is bt.int64
    assert not packed.is_cuda
    with pytest.raises(RuntimeError, match="CPU"):
        packed.cuda()
    assert nn.GRU(2, 3).double()(wide)[1].dtype is bt.float64


def test_recurrent_layers_want_one_dtype() -> None:
    for layer in (nn.RNN(2, 2), nn.LSTM(2, 2), nn.GRU(2, 2)):
        with pytest.raises(ValueError, match=r"has dtype .*float64, the weights .*float32"):
            layer(bt.ones(3, 1, 2, dtype=bt.float64))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("linear", "Linear"),
        ("linear", "NonDynamicallyQuantizableLinear"),
        ("activation", "MultiheadAttention"),
        ("rnn", "LSTM"),
        ("rnn", "GRUCell"),
        ("container", "ParameterDict"),
        ("batchnorm", "BatchNorm1d"),
        ("conv", "Conv2d"),
        ("dropout", "Dropout"),
        ("loss", "MSELoss"),
        ("module", "Module"),
        ("normalization", "LayerNorm"),
        ("pooling", "AvgPool1d"),
        ("sparse", "Embedding"),
    ],
)
def test_modules_are_found_where_pytorch_has_them(path: str, name: str) -> None:
    assert hasattr(importlib.import_module(f"backtrail.nn.modules.{path}"), name)
    if name != "NonDynamicallyQuantizableLinear":
        found = getattr(importlib.import_module(f"backtrail.nn.modules.{path}"), name)
        assert getattr(nn, name) is found
        assert name == "Module" or getattr(nn.modules, name) is found


def test_text_of_pooling_and_attention() -> None:
    assert repr(nn.AvgPool1d(2)) == "AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,))"
    assert "(out_proj): NonDynamicallyQuantizableLinear(" in repr(nn.MultiheadAttention(2, 1))
