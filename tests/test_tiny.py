"""The whole engine in seconds: a neuron, a small network, a small GPT learn what they must."""

from __future__ import annotations

import math

import backtrail as bt
from backtrail import nn
from backtrail.nn import functional as F


def test_a_neuron_learns_a_line() -> None:
    x = bt.linspace(-1, 1, 50).reshape(50, 1)
    y = 2 * x + 1
    model = nn.Linear(1, 1)
    optimizer = bt.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(200):
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-8
    assert abs(model.weight.item() - 2) < 1e-3
    assert abs(model.bias.item() - 1) < 1e-3


def test_a_network_learns_exclusive_or() -> None:
    x = bt.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = bt.tensor([0, 1, 1, 0])
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = bt.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02
    assert model(x).argmax(1).tolist() == [0, 1, 1, 0]


class Block(nn.Module):
    """Attention, then a small network, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: bt.Tensor) -> bt.Tensor:
        b, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary: int, context: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(2))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, index: bt.Tensor) -> bt.Tensor:
        x = self.tokens(index) + self.places(bt.arange(index.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_a_gpt_learns_to_copy_with_attention() -> None:
    """The second half of each row repeats the first: a bigram cannot know it, attention can."""
    vocabulary, half = 8, 6
    model = GPT(vocabulary, 2 * half, 32)
    optimizer = bt.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = bt.optim.lr_scheduler.CosineAnnealingLR(optimizer, 250)
    first = 0.0
    for _ in range(250):
        row = bt.randint(vocabulary, (64, half))
        rows = bt.cat([row, row], 1)
        logits = model(rows[:, :-1])
        known = logits[:, half - 1 :].reshape(-1, vocabulary)
        loss = F.cross_entropy(known, rows[:, half:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        first = first or loss.item()
    assert abs(first - math.log(vocabulary)) < 0.8
    assert loss.item() < 0.1  # a gradient that is wrong anywhere stays above 1
