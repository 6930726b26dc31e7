"""A GPT and its autograd in the standard library alone: what Backtrail is compared to.

    python benchmarks/pure_python.py --data names.txt --steps 1000 --seed 42

Every number is a `Value` that remembers how it was made. The model is the one `backtrail train`
trains: token and position embeddings, RMSNorm, causal attention, a ReLU network, a linear head.
"""

# ruff: noqa: B905 - zip as one writes it, and at its full speed

from __future__ import annotations

import argparse
import gc
import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


class Value:
    """A number, the values it was made from, and its derivative with respect to each of them."""

    __slots__ = ("data", "grad", "parents", "slopes")

    def __init__(
        self, data: float, parents: tuple[Value, ...] = (), slopes: tuple[float, ...] = ()
    ) -> None:
        self.data = data
        self.grad = 0.0
        self.parents = parents
        self.slopes = slopes

    def __add__(self, other: Value | float) -> Value:
        if isinstance(other, Value):
            return Value(self.data + other.data, (self, other), (1.0, 1.0))
        return Value(self.data + other, (self,), (1.0,))

    def __mul__(self, other: Value | float) -> Value:
        if isinstance(other, Value):
            return Value(self.data * other.data, (self, other), (other.data, self.data))
        return Value(self.data * other, (self,), (other,))

    def __pow__(self, power: float) -> Value:
        return Value(self.data**power, (self,), (power * self.data ** (power - 1),))

    def __neg__(self) -> Value:
        return self * -1.0

    def __sub__(self, other: Value | float) -> Value:
        return self + -other

    def __truediv__(self, other: Value | float) -> Value:
        return self * other**-1

    __radd__ = __add__
    __rmul__ = __mul__

    def exp(self) -> Value:
        y = math.exp(self.data)
        return Value(y, (self,), (y,))

    def log(self) -> Value:
        return Value(math.log(self.data), (self,), (1 / self.data,))

    def relu(self) -> Value:
        positive = self.data > 0
        return Value(self.data if positive else 0.0, (self,), (1.0 if positive else 0.0,))

    def backward(self) -> None:
        """Add d(self)/d(v) to `v.grad` for every value v that self was made from."""
        self.grad = 1.0
        for value in reversed(toposort(self)):
            grad = value.grad
            for parent, slope in zip(value.parents, value.slopes):
                parent.grad += slope * grad


def toposort(root: Value) -> list[Value]:
    """Return every value that `root` was made from, parents before children.

    Iterative: the depth of the graph is no limit.
    """
    order, seen = [], {root}
    stack: list[tuple[Value, Iterator[Value]]] = [(root, iter(root.parents))]
    while stack:
        value, parents = stack[-1]
        for parent in parents:
            if parent not in seen:
                seen.add(parent)
                stack.append((parent, iter(parent.parents)))
                break
        else:
            order.append(value)
            stack.pop()
    return order


Vector = list[Value]
Matrix = list[Vector]


def linear(w: Matrix, x: Vector) -> Vector:
    return [sum(wi * xi for wi, xi in zip(row, x)) for row in w]  # type: ignore[misc]


def add(x: Vector, y: Vector) -> Vector:
    return [xi + yi for xi, yi in zip(x, y)]


def rms_norm(x: Vector) -> Vector:
    scale = (sum(xi * xi for xi in x) / len(x) + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def softmax(x: Vector) -> Vector:
    largest = max(xi.data for xi in x)  # a constant: it cancels, and keeps exp from overflowing
    exps = [(xi - largest).exp() for xi in x]
    total = sum(exps)
    return [e / total for e in exps]


class GPT:
    """The weights, by name, in the order in which they are drawn, and the forward pass."""

    def __init__(
        self, vocab_size: int, block_size: int, n_embd: int, n_head: int, n_layer: int
    ) -> None:
        self.block_size, self.n_head, self.n_layer = block_size, n_head, n_layer
        self.shapes = {
            "wte": (vocab_size, n_embd),
            "wpe": (block_size, n_embd),
            "lm_head": (vocab_size, n_embd),
        }
        for i in range(n_layer):
            self.shapes |= {f"{i}.{w}": (n_embd, n_embd) for w in ("wq", "wk", "wv", "wo")}
            self.shapes |= {f"{i}.fc1": (4 * n_embd, n_embd), f"{i}.fc2": (n_embd, 4 * n_embd)}
        self.weights: dict[str, Matrix] = {}

    def draw(self, rng: Any = random, std: float = 0.08) -> GPT:
        """Draw Gaussian weights row by row."""
        return self.load(
            [[rng.gauss(0, std) for _ in range(cols)] for _ in range(rows)]
            for rows, cols in self.shapes.values()
        )

    def load(self, matrices: Iterable[Sequence[Sequence[float]]]) -> GPT:
        """Take weights as nested lists in the order of `shapes`."""
        self.weights = {
            name: [[Value(x) for x in row] for row in matrix]
            for name, matrix in zip(self.shapes, matrices)
        }
        return self

    def parameters(self) -> Vector:
        return [value for matrix in self.weights.values() for row in matrix for value in row]

    def new_cache(self) -> list[tuple[Matrix, Matrix]]:
        """Return empty keys and values, one pair a layer."""
        return [([], []) for _ in range(self.n_layer)]

    def forward(self, token: int, position: int, cache: list[tuple[Matrix, Matrix]]) -> Vector:
        """Return the logits that follow `token`; its keys and values are added to `cache`."""
        w = self.weights
        x = rms_norm(add(w["wte"][token], w["wpe"][position]))
        for i, (keys, values) in enumerate(cache):
            h = rms_norm(x)
            q = linear(w[f"{i}.wq"], h)
            keys.append(linear(w[f"{i}.wk"], h))
            values.append(linear(w[f"{i}.wv"], h))
            x = add(x, linear(w[f"{i}.wo"], self.attend(q, keys, values)))
            h = linear(w[f"{i}.fc1"], rms_norm(x))
            x = add(x, linear(w[f"{i}.fc2"], [hi.relu() for hi in h]))
        return linear(w["lm_head"], x)

    def attend(self, q: Vector, keys: Matrix, values: Matrix) -> Vector:
        """Return softmax(q @ keys / sqrt(d)) @ values, head by head."""
        out = []
        d = len(q) // self.n_head
        for start in range(0, len(q), d):
            head = slice(start, start + d)
            scores = [value / d**0.5 for value in linear([k[head] for k in keys], q[head])]
            columns = zip(*[v[head] for v in values])
            out += linear([list(column) for column in columns], softmax(scores))
        return out

    def loss(self, tokens: Sequence[int]) -> Value:
        """Return the mean cross entropy of every next token, `block_size` of them at most."""
        n = min(self.block_size, len(tokens) - 1)
        cache = self.new_cache()
        losses = []
        for t in range(n):
            probs = softmax(self.forward(tokens[t], t, cache))
            losses.append(-probs[tokens[t + 1]].log())
        return sum(losses) / n  # type: ignore[return-value]

    def sample(self, bos: int, temperature: float, rng: Any = random) -> list[int]:
        """Draw tokens until `bos` comes up or the block is full."""
        tokens, cache = [bos], self.new_cache()
        for t in range(self.block_size):
            logits = self.forward(tokens[-1], t, cache)
            probs = [p.data for p in softmax([value / temperature for value in logits])]
            tokens += rng.choices(range(len(probs)), probs)
            if tokens[-1] == bos:
                break
        return tokens[1:]


class Adam:
    """Adam with bias correction, https://arxiv.org/abs/1412.6980."""

    def __init__(self, params: Vector, betas: tuple[float, float] = (0.85, 0.99)) -> None:
        self.params, self.betas, self.steps = params, betas, 0
        self.m = [0.0] * len(params)
        self.v = [0.0] * len(params)

    def step(self, lr: float, eps: float = 1e-8) -> None:
        self.steps += 1
        beta1, beta2 = self.betas
        correct1, correct2 = 1 - beta1**self.steps, 1 - beta2**self.steps
        for i, p in enumerate(self.params):
            m = self.m[i] = beta1 * self.m[i] + (1 - beta1) * p.grad
            v = self.v[i] = beta2 * self.v[i] + (1 - beta2) * p.grad**2
            p.data -= lr * (m / correct1) / (math.sqrt(v / correct2) + eps)
            p.grad = 0.0


def train_step(model: GPT, optimizer: Adam, tokens: Sequence[int], lr: float) -> float:
    """Do one forward, backward and update on one document; return its loss before the update."""
    loss = model.loss(tokens)
    loss.backward()
    optimizer.step(lr)
    return loss.data


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a GPT in plain Python, one scalar a time.")
    parser.add_argument("--data", type=Path, required=True, help="text file, one document a line")
    parser.add_argument("--steps", type=int, default=1000, help="one document each")
    parser.add_argument("--decay-steps", type=int, default=1000, help="the rate is 0 from then on")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--names", type=int, default=20, help="how many to invent at the end")
    parser.add_argument("--no-gc", action="store_true", help="do without the cycle collector")
    args = parser.parse_args()
    if args.no_gc:  # the graph has no cycles: reference counts free it
        gc.disable()

    random.seed(args.seed)
    docs = [line.strip() for line in args.data.read_text("utf-8").splitlines() if line.strip()]
    random.shuffle(docs)
    chars = sorted(set("".join(docs)))
    ids, bos = {c: i for i, c in enumerate(chars)}, len(chars)

    model = GPT(len(chars) + 1, block_size=16, n_embd=16, n_head=4, n_layer=1).draw()
    optimizer = Adam(model.parameters())
    print(f"{len(docs)} documents, {len(chars) + 1} tokens, {len(optimizer.params)} parameters")

    losses, start = [], time.perf_counter()
    for step in range(args.steps):
        tokens = [bos, *(ids[c] for c in docs[step % len(docs)]), bos]
        began = time.perf_counter()
        lr = 0.01 * max(0.0, 1 - step / args.decay_steps)
        losses.append(train_step(model, optimizer, tokens, lr))
        ms = 1e3 * (time.perf_counter() - began)
        print(f"step {step + 1:5d}   loss {losses[-1]:.10f}   {ms:7.1f} ms")
    ms = 1e3 * (time.perf_counter() - start) / max(args.steps, 1)
    last = losses[-100:]
    if last:
        print(
            f"mean of the last {len(last)} losses {sum(last) / len(last):.4f}, {ms:.1f} ms a step"
        )
    for _ in range(args.names):
        print("".join(chars[t] for t in model.sample(bos, temperature=0.5) if t != bos))


if __name__ == "__main__":
    main()
