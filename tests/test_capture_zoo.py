"""Whole models, trained as they are and captured: the same weights, on any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import backtrail as bt
import pytest
from backtrail import nn
from backtrail.examples import gpt
from backtrail.nn import functional as F
from capture_models import pair, same

Batch = tuple[bt.Tensor, ...]


def tokens(rows: int, length: int = 9, high: int = 20) -> bt.Tensor:
    return bt.randint(0, high, (rows, length))


def labels(rows: int) -> bt.Tensor:
    return bt.randint(0, 5, (rows,))


class ConvNet(nn.Module):
    """Batch norm, pooling of both kinds, groups, dropout of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 12, 1), nn.GroupNorm(3, 12),
            nn.SiLU(), nn.Dropout2d(0.2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(12, 5)

    def forward(self, x: bt.Tensor) -> bt.Tensor:
        return self.head(self.features(x))


class AutoEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv1d(1, 4, 4, stride=2), nn.Tanh(), nn.MaxPool1d(2))
        self.up = nn.ConvTranspose1d(4, 1, 6, stride=4)

    def forward(self, x: bt.Tensor) -> bt.Tensor:
        code = self.down(x) + bt.randn(3) * 0.1
        return F.pad(self.up(code), (0, 2)).mean(1)[:, :5]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6, padding_idx=0)
        self.body = kind(6, 7, batch_first=True, **options)
        self.head = nn.Linear(7 * (2 if options.get("bidirectional") else 1), 5)

    def forward(self, index: bt.Tensor) -> bt.Tensor:
        return self.head(self.body(self.embed(index))[0][:, -1])


class Cells(nn.Module):
    """A loop over time in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.head = nn.Embedding(20, 6), nn.LSTMCell(6, 7), nn.Linear(7, 5)

    def forward(self, index: bt.Tensor) -> bt.Tensor:
        state = None
        for x in self.embed(index).unbind(1):
            state = self.cell(x, state)
        return self.head(state[0])


class Transformer(nn.Module):
    """A block around nn.MultiheadAttention with a mask, weights tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.places = nn.Parameter(bt.randn(9, 12) * 0.1)
        self.attention = nn.MultiheadAttention(12, 3, dropout=0.1, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(12), nn.RMSNorm(12)
        self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Dropout(0.1), nn.Linear(24, 12))
        self.register_buffer("mask", bt.ones(9, 9).triu(1).bool())

    def forward(self, index: bt.Tensor) -> bt.Tensor:
        x = self.embed(index) + self.places
        h = self.norm1(x)
        x = x + self.attention(h, h, h, attn_mask=self.mask, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        return F.linear(x, self.embed.weight).mean(1)[:, :5]


class Words(nn.Module):
    """A bag of words: means of embeddings where there is a word, by a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 6), nn.Linear(6, 5)

    def forward(self, index: bt.Tensor) -> bt.Tensor:
        there = (index != 0).float().unsqueeze(-1)
        return self.head((self.embed(index) * there).sum(1) / there.sum(1).clamp(min=1))


class Graph(nn.Module):
    """Messages along edges, added up at their ends, and the largest value of each node."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.update = nn.Linear(4, 6), nn.Linear(10, 5)

    def forward(self, x: bt.Tensor, edges: bt.Tensor) -> bt.Tensor:
        sent = self.message(x).relu().index_select(0, edges[0])
        got = bt.zeros(x.shape[0], 6).index_add(0, edges[1], sent)
        count = bt.zeros(x.shape[0]).scatter_add(0, edges[1], bt.ones(edges.shape[1]))
        near = x[edges[1], edges[0] % 4]
        got = got / count.clamp(min=1).unsqueeze(1) + near.mean()
        return self.update(bt.cat([x, got], 1))


class Variational(nn.Module):
    """A sample of a normal distribution, and a running mean kept by hand."""

    mean: bt.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 6), nn.Linear(3, 5)
        self.register_buffer("mean", bt.zeros(3))

    def forward(self, x: bt.Tensor) -> bt.Tensor:
        mu, log_var = self.inner(x).chunk(2, 1)
        z = mu + (0.5 * log_var).exp() * bt.randn_like(mu)
        if self.training:
            with bt.no_grad():
                self.mean.lerp_(z.mean(0), 0.1)
        return self.outer(z - self.mean)


def edges(n: int) -> bt.Tensor:
    return bt.randint(0, n, (2, 3 * n))


Case = tuple[Callable[[], nn.Module], Callable[[], Batch]]
ZOO: dict[str, Case] = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Dropout(0.1), nn.Linear(40, 5)),
        lambda: (bt.randn(8, 6), labels(8)),
    ),
    "convolutions": (ConvNet, lambda: (bt.randn(3, 2, 12, 10), labels(3))),
    "autoencoder": (AutoEncoder, lambda: (bt.randn(4, 1, 15), labels(4))),
    "rnn": (lambda: Recurrent(nn.RNN, nonlinearity="relu"), lambda: (tokens(4), labels(4))),
    "lstm": (
        lambda: Recurrent(nn.LSTM, num_layers=2, dropout=0.2, bidirectional=True),
        lambda: (tokens(4), labels(4)),
    ),
    "gru": (lambda: Recurrent(nn.GRU, num_layers=2), lambda: (tokens(4), labels(4))),
    "cells": (Cells, lambda: (tokens(3, 5), labels(3))),
    "transformer": (Transformer, lambda: (tokens(3), labels(3))),
    "words": (Words, lambda: (tokens(6), labels(6))),
    "graph": (Graph, lambda: (bt.randn(7, 4), edges(7), labels(7))),
    "variational": (Variational, lambda: (bt.randn(6, 8), labels(6))),
}


def step_of(model: nn.Module, optimizer: Any) -> Callable[..., bt.Tensor]:
    def step(*batch: bt.Tensor) -> bt.Tensor:
        *inputs, target = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(*inputs), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step


def trained(model: nn.Module, batch: Callable[[], Batch], captured: bool) -> list[bt.Tensor]:
    """Four losses, the state, the gradients and the random stream after as many steps."""
    optimizer = bt.optim.AdamW(model.parameters(), lr=0.01)
    step = step_of(model, optimizer)
    run = bt.compile(step) if captured else step
    bt.manual_seed(9)
    losses = [run(*batch()).detach() for _ in range(4)]
    if captured:
        assert run.plan.runs > 0
    grads = [p.grad for p in model.parameters()]
    return [*losses, *model.state_dict().values(), *grads, bt.get_rng_state()]


@pytest.mark.parametrize("name", ZOO)
def test_training(name: str) -> None:
    make, batch = ZOO[name]
    one, two = pair(make)
    want, got = trained(one, batch, False), trained(two, batch, True)
    assert all(same(a, b) for a, b in zip(want, got, strict=True))


@pytest.mark.parametrize("name", ZOO)
def test_the_module_alone(name: str) -> None:
    """A compiled module whose backward pass and update are the user's, trained and evaluated."""
    make, batch = ZOO[name]
    models = pair(make)
    runs = models[0], bt.compile(models[1])
    optimizers = [bt.optim.SGD(m.parameters(), lr=0.1, momentum=0.5) for m in models]
    for turn in range(4):
        results = []
        for model, run, optimizer in zip(models, runs, optimizers, strict=True):
            bt.manual_seed(turn)
            *inputs, target = batch()
            model.train()
            loss = F.cross_entropy(run(*inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.eval()
            with bt.no_grad():
                results.append([run(*inputs), loss.detach(), *model.state_dict().values()])
        assert all(same(a, b) for a, b in zip(*results, strict=True))


def test_the_gpt_of_the_command_line() -> None:
    def make() -> nn.Module:
        return gpt.GPT(20, 16, 16, 4, 2)

    results = []
    for n, model in enumerate(pair(make)):
        optimizer = bt.optim.Adam(model.parameters(), lr=0.01, betas=(0.85, 0.99))

        def step(x: bt.Tensor, y: bt.Tensor, model: Any = model, by: Any = optimizer) -> bt.Tensor:
            by.zero_grad()
            loss = gpt.loss_fn(model, (x, y))
            loss.backward()
            by.step()
            return loss

        run = bt.compile(step) if n else step
        bt.manual_seed(2)
        losses = [run(tokens(1, t), tokens(1, t)).detach() for t in (5, 7, 5, 5, 7)]
        results.append([*losses, *model.parameters()])
    assert all(same(a, b) for a, b in zip(*results, strict=True))


# ---- threads, and ops of a user's


class Wide(nn.Module):
    """Large enough for all its parts to be cut into tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.LayerNorm(16 * 8)
        self.lstm, self.head = nn.LSTM(128, 96, batch_first=True), nn.Linear(96, 300)
        self.heads = nn.MultiheadAttention(96, 4, batch_first=True)

    def forward(self, x: bt.Tensor) -> bt.Tensor:
        x = F.gelu(self.conv(x)).transpose(1, 2).flatten(2)
        x = self.lstm(self.norm(x))[0]
        x = x + self.heads(x, x, x, need_weights=False)[0]
        return F.dropout(self.head(x.tanh() * 1.5 + 0.1).softmax(-1), 0.1).mean(1)


def test_replays_have_the_same_bits_on_any_number_of_threads() -> None:
    results = []
    for captured, threads in ((False, 1), (True, 1), (True, 2), (True, 3)):
        bt.set_num_threads(threads)
        bt.manual_seed(3)
        results.append(trained(Wide(), lambda: (bt.randn(16, 3, 40, 8), labels(16)), captured))
    for other in results[1:]:
        assert all(same(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_plan_runs_on_whatever_threads_there_are() -> None:
    """The number may change between replays of one plan."""
    bt.set_num_threads(1)
    x, w = bt.randn(300, 200), bt.randn(200, 250, requires_grad=True)
    f = bt.compile(lambda x: bt.autograd.grad((x @ w).tanh().sum(), w)[0].softmax(0))
    want = f(x)
    for threads in (1, 2, 3, 1):
        bt.set_num_threads(threads)
        assert same(f(x), want)
    assert f.captures == 1


def test_an_op_of_the_users_in_a_step(tmp_path: Path) -> None:
    ops = bt.cpp_extension.load_inline(
        """
        struct Wave {
          static constexpr auto name = "wave_for_capture";
          static constexpr auto doc = "input + sin(a * input)^2 / a.";
          static constexpr Attr attrs[] = {{"a", 1}};
          template <class V> static V forward(V x, V a) { V s = sin(a * x); return x + s * s / a; }
        };
        BACKTRAIL_OPS(Wave)
        """,
        build_directory=tmp_path,
    )

    class Waves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 30), nn.Linear(30, 5)

        def forward(self, x: bt.Tensor) -> bt.Tensor:
            h = ops.wave_for_capture(self.one(x), a=2.0) * 1.1
            return self.two(h.wave_for_capture_() - 0.2)

    one, two = pair(Waves)

    def batch() -> Batch:
        return bt.randn(8, 6), labels(8)

    want, got = trained(one, batch, False), trained(two, batch, True)
    assert all(same(a, b) for a, b in zip(want, got, strict=True))


# ---- steps that are more than a loss and an update


def adversaries() -> tuple[Callable[..., Any], list[bt.Tensor]]:
    """Two networks and two optimizers; one's output is detached for the other."""
    maker, judge = nn.Linear(3, 4), nn.Linear(4, 1)
    by_maker, by_judge = (bt.optim.Adam(m.parameters(), lr=0.1) for m in (maker, judge))

    def step(x: bt.Tensor) -> Any:
        made = maker(bt.randn(6, 3))
        by_judge.zero_grad()
        judged = F.softplus(-judge(x)).mean() + F.softplus(judge(made.detach())).mean()
        judged.backward()
        by_judge.step()
        by_maker.zero_grad()
        fooled = F.softplus(-judge(made)).mean()
        fooled.backward()
        by_maker.step()
        return judged.detach() + fooled.detach()

    return step, [*maker.parameters(), *judge.parameters()]


def penalty() -> tuple[Callable[..., Any], list[bt.Tensor]]:
    """A gradient in the loss, for an input made to require one; averages of the weights."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = bt.optim.Adam(model.parameters(), lr=0.05)
    average = [p.detach().clone() for p in model.parameters()]

    def step(x: bt.Tensor) -> Any:
        leaf = x.detach().requires_grad_()
        optimizer.zero_grad()
        y = model(leaf).sum()
        (slope,) = bt.autograd.grad(y, leaf, create_graph=True)
        loss = ((slope.norm(dim=1) - 1) ** 2).mean() + 0.1 * y
        loss.backward()
        optimizer.step()
        with bt.no_grad():
            for a, p in zip(average, model.parameters(), strict=True):
                a.lerp_(p, 0.1)
        return loss.detach()

    return step, [*model.parameters(), *average]


class Square(bt.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: bt.Tensor) -> bt.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: bt.Tensor) -> bt.Tensor:
        (x,) = ctx.saved_tensors
        return 2 * grad * x


def own_function() -> tuple[Callable[..., Any], list[bt.Tensor]]:
    weight = nn.Parameter(bt.randn(4))

    def step(x: bt.Tensor) -> Any:
        loss = 0
        for part in x.chunk(3):  # gradients add up
            share = Square.apply(part * weight).mean()
            share.backward()
            loss = loss + share.detach()
        with bt.no_grad():
            weight.sub_(weight.grad, alpha=0.1)
            weight.grad.zero_()
        return loss

    return step, [weight]


@pytest.mark.parametrize("make", [adversaries, penalty, own_function])
def test_other_steps(make: Callable[[], tuple[Callable[..., Any], list[bt.Tensor]]]) -> None:
    results = []
    for captured in (False, True):
        bt.manual_seed(0)
        step, weights = make()
        run = bt.compile(step) if captured else step
        results.append([*(run(bt.randn(6, 4)) for _ in range(5)), *weights, bt.get_rng_state()])
    assert run.plan.runs > 2
    assert all(same(a, b) for a, b in zip(*results, strict=True))
