"""Models and training steps that the tests of captured functions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import backtrail as bt
from backtrail import nn
from backtrail.nn import functional as F


def same(a: bt.Tensor, b: bt.Tensor) -> bool:
    """Whether two tensors agree in shape, dtype and every byte."""
    return bt._core.equal_bytes(a.detach(), b.detach())


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.GELU(), nn.Linear(12, 3)
    )


class Net(nn.Module):
    """Norms, dropout, an embedding, a branch: what real models have."""

    def __init__(self, p: float = 0.3) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.norm = nn.LayerNorm(6)
        self.batch = nn.BatchNorm1d(6)
        self.body = mlp()
        self.drop = nn.Dropout(p)
        self.scale = 1.0

    def forward(self, index: bt.Tensor) -> bt.Tensor:
        x = self.norm(self.embed(index))
        x = self.batch(x.view(-1, 6)).view(x.shape)
        return self.body(self.drop(x) + x.mean(1, keepdim=True)).mean(1) * self.scale


def trainer(
    model: nn.Module, optimizer: Any, clip: float | None = None
) -> Callable[[bt.Tensor, bt.Tensor], Any]:
    def step(x: bt.Tensor, y: bt.Tensor) -> Any:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        norm = None if clip is None else nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss, {"out": out.detach(), "norm": norm}

    return step


def repeat(f: Callable[..., Any], *args: Any, times: int = 3) -> None:
    """Call a function that is forgiven the first time."""
    for _ in range(times):
        f(*args)


def pair(make: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    bt.manual_seed(3)
    a = make()
    bt.manual_seed(3)
    b = make()
    return a, b


def batch(n: int = 8) -> tuple[bt.Tensor, bt.Tensor]:
    return bt.randint(0, 11, (n, 5)), bt.randint(0, 3, (n,))
