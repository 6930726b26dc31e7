"""RNN, LSTM, GRU and their cells: values, gradients of every order, packed sequences, PyTorch."""

from __future__ import annotations

import re
from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail import nn
from backtrail._core import ops
from backtrail.functions import recurrent
from backtrail.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
)
from backtrail.tensor import apply
from recurrent_reference import layer

MODES: dict[str, tuple[str, int, tuple[bool, ...]]] = {  # name: op, gates, attributes
    "tanh": ("rnn", 1, (False,)),
    "relu": ("rnn", 1, (True,)),
    "lstm": ("lstm", 4, ()),
    "gru": ("gru", 3, ()),
}
KINDS = ["RNN", "LSTM", "GRU"]
# steps, batch, inputs, hidden: borders of vectors and tiles; few rows of a large weight, whose
# steps are cut by units; a single step; nothing
SIZES = [(3, 2, 3, 1), (4, 17, 5, 7), (5, 3, 2, 65), (6, 5, 3, 128), (1, 9, 4, 40), (3, 0, 2, 4)]
LARGE = [(5, 40, 7, 96), (4, 6, 9, 260), (1, 64, 30, 70), (9, 1, 8, 200)]


def arguments(mode: str, t: int, b: int, i: int, h: int, rng: np.random.Generator) -> list[Any]:
    name, gates, _ = MODES[mode]
    shapes = [(t, b, i), (gates * h, i), (gates * h, h), (gates * h,), (b, h)]
    shapes += {"rnn": [], "lstm": [(b, h)], "gru": [(gates * h,)]}[name]
    arrays = [rng.standard_normal(s) for s in shapes]
    for w in arrays[1:3]:
        w /= 1 + w.shape[1] ** 0.5
    return arrays


def run(mode: str, inputs: Any, reverse: bool) -> Any:
    return apply(ops[MODES[mode][0]], tuple(inputs), (reverse, *MODES[mode][2]))


def gradients(mode: str, arrays: list[Any], reverse: bool, dtype: Any, function: Any = run) -> Any:
    """Outputs, and the gradients of all inputs from some gradients of all outputs."""
    leaves = [bt.tensor(a, dtype=dtype).requires_grad_() for a in arrays]
    outputs = function(mode, leaves, reverse)
    grads = [np.cos(np.arange(y.numel())).reshape(y.shape) for y in outputs]
    bt.autograd.backward(outputs, [bt.tensor(g, dtype=dtype) for g in grads])
    return [y.detach().numpy() for y in outputs] + [x.grad.numpy() for x in leaves]


def defined(mode: str, inputs: Any, reverse: bool) -> Any:
    name, _, attrs = MODES[mode]
    return getattr(recurrent, name)(*inputs, reverse, *attrs)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", SIZES + LARGE, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_values_and_gradients(mode: str, size: Any, reverse: bool, rng: Any) -> None:
    arrays = arguments(mode, *size, rng)
    name, _, attrs = MODES[mode]
    want = layer(name, *arrays, reverse, *attrs)
    plain = gradients(mode, arrays, reverse, bt.float64, defined)
    for a, b in zip(plain, want, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    for dtype, tolerance in ((bt.float64, 1e-12), (bt.float32, 2e-5)):
        fused = gradients(mode, arrays, reverse, dtype)
        for a, b in zip(fused, plain, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * size[0])


@pytest.mark.parametrize("mode", MODES)
def test_any_cut_gives_the_same_bits(mode: str, rng: np.random.Generator) -> None:
    for size in LARGE:
        arrays = arguments(mode, *size, rng)
        bt.set_num_threads(1)
        one = gradients(mode, arrays, False, bt.float32)
        for threads in (2, 3, 8):
            bt.set_num_threads(threads)
            for a, b in zip(gradients(mode, arrays, False, bt.float32), one, strict=True):
                assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_only_some_gradients(kind: str) -> None:
    """Of the last state alone; with nothing but the input to differentiate; second order."""
    module = getattr(nn, kind)(2, 3, 2, bidirectional=True).double()
    x = bt.randn(3, 2, 2, dtype=bt.float64, requires_grad=True)

    def last(x: bt.Tensor) -> bt.Tensor:
        state = module(x)[1]
        return state[1] if kind == "LSTM" else state

    assert bt.autograd.gradcheck(last, [x])
    module.requires_grad_(False)
    assert bt.autograd.gradgradcheck(lambda x: module(x)[0], [x])


def test_a_changed_output_is_an_error() -> None:
    y = nn.LSTM(2, 3)(bt.randn(4, 1, 2))[0]
    y.detach().zero_()
    with pytest.raises(RuntimeError, match="'lstm' needs the value of its output"):
        y.sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_what_they_are_made_of(kind: str) -> None:
    """Two bidirectional layers against four runs of one direction, by hand."""
    bt.manual_seed(1)
    module = getattr(nn, kind)(3, 5, 2, bidirectional=True)
    x = h = bt.randn(6, 4, 3)
    lasts = []
    for k in range(2):
        outputs = []
        for suffix in ("", "_reverse"):
            single = getattr(nn, kind)(h.shape[-1], 5)
            names = single.state_dict()
            single.load_state_dict({n: getattr(module, n[:-1] + str(k) + suffix) for n in names})
            y, last = single(h.flip(0) if suffix else h)
            outputs.append(y.flip(0) if suffix else y)
            lasts.append(last if kind == "LSTM" else (last,))
        h = bt.cat(outputs, -1)
    y, last = module(x)
    assert y.equal(h)
    last = last if kind == "LSTM" else (last,)
    for found, parts in zip(last, zip(*lasts, strict=True), strict=True):
        assert found.equal(bt.cat(parts))


@pytest.mark.parametrize("kind", KINDS)
def test_arrangements_of_the_input(kind: str) -> None:
    """batch_first, no batch at all, and zero states when none are given."""
    bt.manual_seed(2)
    module = getattr(nn, kind)(3, 5, 2)
    first = getattr(nn, kind)(3, 5, 2, batch_first=True)
    first.load_state_dict(module.state_dict())
    x = bt.randn(6, 4, 3)
    y, last = module(x)
    zero = bt.zeros(2, 4, 5)
    assert module(x, (zero, zero) if kind == "LSTM" else zero)[0].equal(y)
    assert first(x.transpose(0, 1))[0].equal(y.transpose(0, 1))
    for m in (module, first):
        single, state = m(x[:, 1])
        assert single.equal(y[:, 1])
        for a, b in zip(state, last, strict=True):
            assert a.equal(b[..., 1, :])
        again = m(x[:, 1], state)[0]
        assert again.shape == (6, 5)


def test_dropout_between_layers() -> None:
    bt.manual_seed(0)
    module = nn.GRU(4, 50, 2, dropout=0.5)
    x = bt.randn(3, 2, 4)
    assert not module(x)[0].equal(module(x)[0])
    module.eval()
    assert module(x)[0].equal(module(x)[0])
    dropped = nn.GRU(4, 50, 2, dropout=1.0)
    dropped.load_state_dict(module.state_dict())
    # The second layer sees zeros only, the first one is not touched.
    assert dropped(x)[0].equal(dropped(bt.randn(3, 2, 4))[0])
    assert not dropped(x)[1][0].equal(dropped(bt.randn(3, 2, 4))[1][0])
    with pytest.warns(UserWarning, match="between layers"):
        nn.GRU(4, 5, dropout=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_cells_are_one_step(kind: str) -> None:
    bt.manual_seed(0)
    cell = getattr(nn, f"{kind}Cell")(3, 5)
    whole = getattr(nn, kind)(3, 5)
    whole.load_state_dict({f"{n}_l0": p for n, p in cell.state_dict().items()})
    x = bt.randn(4, 2, 3)
    y, _ = whole(x)
    state = None
    for t in range(4):
        state = cell(x[t], state)
        h = state[0] if kind == "LSTM" else state
        np.testing.assert_allclose(h.detach().numpy(), y[t].detach().numpy(), atol=1e-6)
    one = cell(x[0, 1])
    one = one[0] if kind == "LSTM" else one
    assert one.shape == (5,)
    np.testing.assert_allclose(one.detach().numpy(), y[0, 1].detach().numpy(), atol=1e-6)


def test_start_of_the_weights() -> None:
    module = nn.LSTM(3, 100, 2, bidirectional=True)
    assert len(module.all_weights) == 4
    for p in module.parameters():
        assert p.abs().max().item() <= 0.1
        assert p.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.15)
    assert [n for n, _ in nn.GRU(3, 5, bias=False).named_parameters()] == [
        "weight_ih_l0",
        "weight_hh_l0",
    ]
    module.flatten_parameters()
    cell = nn.RNNCell(3, 4, bias=False, nonlinearity="relu")
    assert cell.bias_ih is None
    assert repr(cell) == "RNNCell(3, 4, bias=False, nonlinearity=relu)"


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences(kind: str, bidirectional: bool) -> None:
    """Each sequence as if it were alone, in its place of the batch."""
    bt.manual_seed(0)
    module = getattr(nn, kind)(3, 5, 2, bidirectional=bidirectional)
    sequences = [bt.randn(n, 3) for n in (2, 5, 1, 5, 3)]
    given = [bt.randn(4 if bidirectional else 2, 5, 5) for _ in range(2)]
    packed = pack_sequence(sequences, enforce_sorted=False)
    assert packed.batch_sizes.tolist() == [5, 4, 3, 2, 2]
    for states in (None, given):
        hx = None if states is None else tuple(states) if kind == "LSTM" else states[0]
        out, last = module(packed, hx)
        assert isinstance(out, PackedSequence)
        for b, (x, y) in enumerate(zip(sequences, unpack_sequence(out), strict=True)):
            own = None if states is None else tuple(s[:, b] for s in states)
            own = own if own is None or kind == "LSTM" else own[0]
            want, want_last = module(x, own)
            np.testing.assert_allclose(y.detach().numpy(), want.detach().numpy(), atol=1e-6)
            pairs = zip(last, want_last, strict=True) if kind == "LSTM" else [(last, want_last)]
            for a, w in pairs:
                np.testing.assert_allclose(a[:, b].detach().numpy(), w.detach().numpy(), atol=1e-6)
    out.data.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_packing_and_padding() -> None:
    sequences = [bt.arange(n) + 10 * n for n in (3, 2, 2)]
    packed = pack_padded_sequence(pad_sequence(sequences, True), [3, 2, 2], batch_first=True)
    assert packed.data.tolist() == [30, 20, 20, 31, 21, 21, 32]
    assert packed.sorted_indices is None
    padded, lengths = pad_packed_sequence(packed, True, padding_value=-1, total_length=4)
    assert padded.tolist() == [[30, 31, 32, -1], [20, 21, -1, -1], [20, 21, -1, -1]]
    assert lengths.tolist() == [3, 2, 2]
    with pytest.raises(RuntimeError, match="must not increase"):
        pack_padded_sequence(bt.zeros(3, 2), [1, 3])
    for wrong in ([3, 0], [4, 1]):
        with pytest.raises(RuntimeError, match=re.escape("each must be in 1 ... 3")):
            pack_padded_sequence(bt.zeros(3, 2), wrong)
    with pytest.raises(ValueError, match="total_length 2 is less"):
        pad_packed_sequence(packed, total_length=2)


def test_errors_name_what_is_wrong() -> None:
    module = nn.LSTM(3, 4)
    for call, message in {
        lambda: module(bt.zeros(0, 2, 3)): "has no steps",
        lambda: module(bt.zeros(2, 2, 5)): "Expected 3, got 5",
        lambda: module(bt.zeros(2, 2, 3), (bt.zeros(1, 1, 4), bt.zeros(1, 2, 4))): "Expected h_0",
        lambda: module(bt.zeros(2, 2, 3), (bt.zeros(1, 2, 4), bt.zeros(1, 2, 3))): "Expected c_0",
        lambda: module(bt.zeros(3)): "expected 2-D or 3-D",
        lambda: module.double()(bt.zeros(2, 2, 3)): "convert one of them",
        lambda: nn.GRU(3, 4, proj_size=2): "proj_size",
        lambda: nn.LSTM(3, 4, proj_size=4): "proj_size must be smaller than hidden_size 4",
        lambda: nn.RNN(3, 4, nonlinearity="gelu"): "must be 'tanh' or 'relu', got 'gelu'",
        lambda: nn.GRU(3, 0): "hidden_size must be greater than zero, got 0",
        lambda: nn.GRU(3, 4, dropout=2): "dropout must be a number in",
        lambda: nn.GRUCell(3, 4)(bt.zeros(2, 3, 4)): "expected 1-D or 2-D",
        lambda: apply(ops["rnn"], (bt.zeros(2, 3), bt.zeros(4, 3), bt.zeros(4, 4), None, None)): (
            "expected (steps, batch, features)"
        ),
        lambda: apply(
            ops["gru"], (bt.zeros(2, 1, 3), bt.zeros(4, 3), bt.zeros(6, 2), None, None, None)
        ): "gru: w_ih has shape (4, 3); expected (6, 3)",
    }.items():
        with pytest.raises((RuntimeError, ValueError, TypeError), match=re.escape(message)):
            call()


@pytest.mark.parametrize("kind", KINDS)
def test_captured_steps_are_the_same(kind: str) -> None:
    def losses(wrap: Any) -> list[float]:
        bt.manual_seed(0)
        module = getattr(nn, kind)(3, 20, 2, bidirectional=True)
        optimizer = bt.optim.Adam(module.parameters(), lr=1e-2)

        def step(x: bt.Tensor) -> bt.Tensor:
            optimizer.zero_grad()
            loss = (module(x)[0] - 0.1).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        step = wrap(step)
        return [step(bt.randn(5, 4, 3)).item() for _ in range(6)]

    assert losses(bt.compile) == losses(lambda f: f)


def test_bfloat16() -> None:
    module = nn.GRU(3, 4).to(bt.bfloat16)
    y, _ = module(bt.randn(5, 2, 3).to(bt.bfloat16))
    assert y.dtype is bt.bfloat16
    y.sum().backward()
    assert module.weight_hh_l0.grad.dtype is bt.bfloat16


PEER_OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"bias": False, "batch_first": True},
]


@pytest.mark.peer
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("options", PEER_OPTIONS, ids=str)
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("RNN", {}),
        ("RNN", {"nonlinearity": "relu"}),
        ("LSTM", {}),
        ("LSTM", {"proj_size": 2}),
        ("GRU", {}),
    ],
    ids=str,
)
def test_side_by_side(kind: str, more: Any, options: Any, given: bool) -> None:
    """Parameters, outputs and all gradients, with PyTorch's weights."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(3, 7, **options, **more).double()
    ours = getattr(nn, kind)(3, 7, **options, **more).double()
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({n: bt.tensor(p.numpy()) for n, p in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    layers = options.get("num_layers", 1) * (2 if "bidirectional" in options else 1)
    x = rng.standard_normal((5, 4, 3))
    batch = 5 if "batch_first" in options else 4
    states = [rng.standard_normal((layers, batch, w)) for w in (more.get("proj_size", 7), 7)]
    found = []
    for library, module in ((bt, ours), (torch, theirs)):
        leaves = [library.tensor(a, requires_grad=True) for a in (x, *states)]
        hx = tuple(leaves[1:]) if kind == "LSTM" else leaves[1]
        y, last = module(leaves[0], hx if given else None)
        outputs = [y, *(last if kind == "LSTM" else (last,))]
        weights = [np.cos(np.arange(t.numel())).reshape(t.shape) for t in outputs]
        sum((t * library.tensor(w)).sum() for t, w in zip(outputs, weights, strict=True)).backward()
        used = leaves if given and kind == "LSTM" else leaves[: 1 + given]
        tensors = [*outputs, *(t.grad for t in (*used, *module.parameters()))]
        found.append([t.detach().numpy() for t in tensors])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.peer
@pytest.mark.parametrize("kind", KINDS)
def test_cells_side_by_side(kind: str) -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = (getattr(library, f"{kind}Cell")(3, 7) for library in (torch.nn, nn))
    ours.load_state_dict({n: bt.tensor(p.numpy()) for n, p in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    found = []
    for library, module in ((bt, ours), (torch, theirs)):
        state = module(library.tensor(x), module(library.tensor(x)))
        state = library.cat(state) if kind == "LSTM" else state
        state.sum().backward()
        found.append([t.detach().numpy() for t in (state, *(p.grad for p in module.parameters()))])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.peer
def test_packed_side_by_side() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    ours = nn.LSTM(3, 4, 2, bidirectional=True)
    ours.load_state_dict({n: bt.tensor(p.numpy()) for n, p in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((6, 4, 3)).astype("float32")
    found = []
    for library, module in ((bt, ours), (torch, theirs)):
        rnn = library.nn.utils.rnn
        packed = rnn.pack_padded_sequence(library.tensor(x), [2, 5, 6, 1], enforce_sorted=False)
        y, last = module(packed)
        padded, lengths = rnn.pad_packed_sequence(y)
        assert lengths.tolist() == [2, 5, 6, 1]
        (padded.sum() + last[1].sum()).backward()
        tensors = [packed.data, packed.batch_sizes, packed.sorted_indices, padded, *last]
        tensors += [p.grad for p in module.parameters()]
        found.append([t.detach().numpy() for t in tensors])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
