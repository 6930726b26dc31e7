"""Training steps that are measured, written once for every library with PyTorch's names.

A workload is made by `WORKLOADS[name](torch)`, where `torch` is backtrail or PyTorch, and returns a
function that does one step: zero the gradients, forward, backward, update; it returns the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Step = Callable[[], Any]


def step_of(model: Any, loss_of: Callable[[], Any], optimizer: Any) -> Step:
    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss

    return step


def micrograd(torch: Any) -> Step:
    """Train a 2-16-16-1 network on 100 points with a margin loss, by SGD."""
    nn = torch.nn
    model = nn.Sequential(
        nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)
    )
    x, y = torch.randn(100, 2), torch.sign(torch.randn(100, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return step_of(model, lambda: nn.functional.relu(1 - y * model(x)).mean(), optimizer)


def mlp(torch: Any) -> Step:
    """Train a 784-256-128-10 classifier on a batch of 64, by Adam."""
    nn = torch.nn
    model = nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    x, y = torch.randn(64, 784), torch.randint(0, 10, (64,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return step_of(model, lambda: nn.functional.cross_entropy(model(x), y), optimizer)


def cnn(torch: Any) -> Step:
    """Train 2 convolutions and 2 dense layers on 64 images of 28 x 28, by Adam."""
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    x, y = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return step_of(model, lambda: nn.functional.cross_entropy(model(x), y), optimizer)


def split_heads(x: Any, heads: int) -> Any:
    """(B, T, C) -> (B, H, T, C / H)"""
    B, T, C = x.shape
    return x.view(B, T, heads, C // heads).transpose(1, 2)


def microgpt_model(torch: Any, vocab: int = 27, block: int = 16, width: int = 16) -> Any:
    """Make the GPT of `backtrail train`: one layer, 4 heads, RMSNorm without gain, no biases."""
    nn, F = torch.nn, torch.nn.functional

    class MicroGPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()

            def weight(rows: int, cols: int) -> Any:
                return nn.Parameter(torch.randn(rows, cols) * 0.08)

            self.wte, self.wpe, self.head = (
                weight(vocab, width),
                weight(block, width),
                weight(vocab, width),
            )
            self.wq, self.wk, self.wv, self.wo = (weight(width, width) for _ in range(4))
            self.fc1, self.fc2 = weight(4 * width, width), weight(width, 4 * width)

        def forward(self, tokens: Any) -> Any:
            B, T = tokens.shape
            x = norm(F.embedding(tokens, self.wte) + self.wpe[:T])
            h = norm(x)
            q, k, v = (split_heads(F.linear(h, w), 4) for w in (self.wq, self.wk, self.wv))
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + F.linear(a.transpose(1, 2).reshape(B, T, width), self.wo)
            x = x + F.linear(F.relu(F.linear(norm(x), self.fc1)), self.fc2)
            return F.linear(x, self.head)

    def norm(x: Any) -> Any:
        return F.rms_norm(x, (width,), eps=1e-5)

    return MicroGPT()


def microgpt(torch: Any, documents: int = 1, length: int = 8) -> Step:
    """Train the GPT of 4,192 parameters on one document of 8 tokens, by Adam."""
    F = torch.nn.functional
    model = microgpt_model(torch)
    tokens, targets = (torch.randint(0, 27, (documents, length)) for _ in range(2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.85, 0.99))
    return step_of(
        model, lambda: F.cross_entropy(model(tokens).view(-1, 27), targets.view(-1)), optimizer
    )


def microgpt_b32(torch: Any) -> Step:
    """Train the same GPT on 32 documents of 16 tokens."""
    return microgpt(torch, 32, 16)


def gpt(torch: Any, vocab: int, block: int, width: int, heads: int, layers: int) -> Any:
    """Make a GPT-2: LayerNorm, GELU by tanh, biases, and the embedding tied to the output head."""
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
            self.out, self.norm2 = nn.Linear(width, width), nn.LayerNorm(width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            B, T, C = x.shape
            q, k, v = (split_heads(p, heads) for p in self.qkv(self.norm1(x)).split(C, dim=2))
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(a.transpose(1, 2).reshape(B, T, C))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(block, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocab, bias=False)
            self.head.weight = self.wte.weight
            for p in self.parameters():
                nn.init.normal_(p, 0, 0.02)

        def forward(self, tokens: Any) -> Any:
            x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
            for layer in self.blocks:
                x = layer(x)
            return self.head(self.norm(x))

    return GPT()


def train_gpt(torch: Any, vocab: int, batch: int, length: int, lr: float, **sizes: int) -> Step:
    F = torch.nn.functional
    model = gpt(torch, vocab, **sizes)
    tokens, targets = (torch.randint(0, vocab, (batch, length)) for _ in range(2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    return step_of(
        model, lambda: F.cross_entropy(model(tokens).view(-1, vocab), targets.view(-1)), optimizer
    )


def nanogpt(torch: Any) -> Step:
    """Train a GPT of 4 layers, 4 heads, 128 wide on 12 x 64 tokens, by AdamW."""
    return train_gpt(torch, 65, 12, 64, 1e-3, block=64, width=128, heads=4, layers=4)


def gpt2(torch: Any) -> Step:
    """Train the GPT-2 of 124M parameters on 4 x 64 tokens, by AdamW."""
    return train_gpt(torch, 50257, 4, 64, 1e-4, block=1024, width=768, heads=12, layers=12)


def lstm(torch: Any) -> Step:
    """Train an embedding, an LSTM of 256 and a linear layer on 32 x 64 characters, by Adam."""
    nn, F = torch.nn, torch.nn.functional

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(65, 128)
            self.lstm = nn.LSTM(128, 256, batch_first=True)
            self.head = nn.Linear(256, 65)

        def forward(self, tokens: Any) -> Any:
            return self.head(self.lstm(self.embedding(tokens))[0])

    model = Model()
    tokens, targets = (torch.randint(0, 65, (32, 64)) for _ in range(2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return step_of(
        model, lambda: F.cross_entropy(model(tokens).view(-1, 65), targets.view(-1)), optimizer
    )


WORKLOADS: dict[str, Callable[[Any], Step]] = {
    f.__name__: f for f in (micrograd, microgpt, microgpt_b32, mlp, cnn, lstm, nanogpt, gpt2)
}
