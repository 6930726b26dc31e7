"""The training steps of workloads.py in JAX: the same models, sizes, optimizers and float32.

A workload is made by `WORKLOADS[name]()` and returns a function that does one step and waits for
it. The whole step is one jitted program: loss and gradients by `jax.value_and_grad`, the update
written out, parameters and the optimizer's state donated, so that they are updated in place. Where
JAX has several ways to write a thing, the fastest that was found on a CPU is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax, nn

jax.config.update("jax_platforms", "cpu")

Step = Callable[[], Any]
Update = Callable[[Any, Any, Any], tuple[Any, Any]]  # parameters, state, gradients -> the new two


class Draw:
    """Random arrays, each with a key of its own."""

    def __init__(self, seed: int = 0) -> None:
        self._key = jax.random.key(seed)

    def _next(self) -> Any:
        self._key, key = jax.random.split(self._key)
        return key

    def normal(self, *shape: int, std: float = 1.0) -> Any:
        return jax.random.normal(self._next(), shape) * std

    def uniform(self, *shape: int, bound: float) -> Any:
        return jax.random.uniform(self._next(), shape, minval=-bound, maxval=bound)

    def integers(self, end: int, *shape: int) -> Any:
        return jax.random.randint(self._next(), shape, 0, end)

    def linear(self, inputs: int, outputs: int) -> Any:
        """A weight of (inputs, outputs) and a bias, drawn as PyTorch draws them."""
        bound = 1 / math.sqrt(inputs)
        return self.uniform(inputs, outputs, bound=bound), self.uniform(outputs, bound=bound)


def sgd(lr: float) -> Update:
    def update(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        return jax.tree.map(lambda p, g: p - lr * g, params, grads), state

    return update


def adam(lr: float, beta1: float = 0.9, beta2: float = 0.999, decay: float = 0.0) -> Update:
    """Make Adam's update; with `decay`, AdamW's."""

    def update(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        count, means, squares = state
        count += 1
        means = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, means, grads)
        squares = jax.tree.map(lambda s, g: beta2 * s + (1 - beta2) * g * g, squares, grads)
        rate, root = lr / (1 - beta1**count), jnp.sqrt(1 - beta2**count)

        def moved(p: Any, m: Any, s: Any) -> Any:
            return p * (1 - lr * decay) - rate * m / (jnp.sqrt(s) / root + 1e-8)

        return jax.tree.map(moved, params, means, squares), (count, means, squares)

    return update


def step_of(params: Any, loss_of: Callable[..., Any], batch: Any, update: Update) -> Step:
    """Make the step: the batch is an argument, so that nothing is computed from it beforehand."""
    state = (jnp.float32(0), *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)))

    @partial(jax.jit, donate_argnums=(0, 1))
    def train(params: Any, state: Any, *batch: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, *batch)
        return *update(params, state, grads), loss

    def step() -> Any:
        nonlocal params, state
        params, state, loss = train(params, state, *batch)
        return loss.block_until_ready()  # of one program: when one result is there, all are

    return step


def dense(x: Any, layer: Any) -> Any:
    weight, bias = layer
    return x @ weight + bias


def relu_layers(x: Any, layers: Any) -> Any:
    """Dense layers with ReLU between them."""
    *hidden, last = layers
    for layer in hidden:
        x = nn.relu(dense(x, layer))
    return dense(x, last)


def cross_entropy(logits: Any, targets: Any) -> Any:
    logs = nn.log_softmax(logits)
    return -jnp.take_along_axis(logs, targets[..., None], axis=-1).mean()


def causal_attention(q: Any, k: Any, v: Any, heads: int) -> Any:
    """Attend, all of shape (B, T, C), with C / heads numbers for each head."""
    B, T, C = q.shape
    q, k, v = (x.reshape(B, T, heads, C // heads) for x in (q, k, v))
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / math.sqrt(C // heads)
    scores = jnp.where(jnp.tri(T, dtype=bool), scores, -jnp.inf)
    return jnp.einsum("bhts,bshd->bthd", nn.softmax(scores), v).reshape(B, T, C)


def micrograd() -> Step:
    draw = Draw()
    params = [draw.linear(2, 16), draw.linear(16, 16), draw.linear(16, 1)]
    batch = draw.normal(100, 2), jnp.sign(draw.normal(100, 1))

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        return nn.relu(1 - y * relu_layers(x, params)).mean()

    return step_of(params, loss_of, batch, sgd(0.1))


def mlp() -> Step:
    draw = Draw()
    params = [draw.linear(784, 256), draw.linear(256, 128), draw.linear(128, 10)]
    batch = draw.normal(64, 784), draw.integers(10, 64)

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        return cross_entropy(relu_layers(x, params), y)

    return step_of(params, loss_of, batch, adam(1e-3))


def cnn() -> Step:
    """Images are (N, H, W, C), JAX's own order."""
    draw = Draw()

    def filters(inputs: int, outputs: int) -> Any:
        bound = 1 / math.sqrt(9 * inputs)
        return draw.uniform(3, 3, inputs, outputs, bound=bound), draw.uniform(outputs, bound=bound)

    convs = [filters(1, 32), filters(32, 64)]
    params = convs, [draw.linear(49 * 64, 128), draw.linear(128, 10)]
    batch = draw.normal(64, 28, 28, 1), draw.integers(10, 64)

    def convolved(x: Any, layer: Any) -> Any:
        weight, bias = layer
        order = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=order)
        return nn.relu(x + bias)

    def pooled(x: Any) -> Any:
        n, h, w, c = x.shape  # not by reduce_window, whose gradient takes three times the step
        return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        convs, layers = params
        for layer in convs:
            x = pooled(convolved(x, layer))
        return cross_entropy(relu_layers(x.reshape(len(x), -1), layers), y)

    return step_of(params, loss_of, batch, adam(1e-3))


def microgpt(documents: int = 1, length: int = 8) -> Step:
    draw = Draw()
    shapes = {
        "wte": (27, 16), "wpe": (16, 16), "head": (16, 27),
        "wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "wo": (16, 16),
        "fc1": (16, 64), "fc2": (64, 16),
    }  # fmt: skip
    params = {name: draw.normal(*shape, std=0.08) for name, shape in shapes.items()}
    batch = draw.integers(27, documents, length), draw.integers(27, documents, length)

    def norm(x: Any) -> Any:
        return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)

    def loss_of(p: Any, tokens: Any, targets: Any) -> Any:
        x = norm(p["wte"][tokens] + p["wpe"][: tokens.shape[1]])
        h = norm(x)
        x = x + causal_attention(h @ p["wq"], h @ p["wk"], h @ p["wv"], 4) @ p["wo"]
        x = x + nn.relu(norm(x) @ p["fc1"]) @ p["fc2"]
        return cross_entropy(x @ p["head"], targets)

    return step_of(params, loss_of, batch, adam(0.01, 0.85, 0.99))


def microgpt_b32() -> Step:
    return microgpt(32, 16)


def gpt(
    vocab: int, block: int, width: int, heads: int, layers: int, batch: int, length: int, lr: float
) -> Step:
    draw = Draw()

    def drawn(*shape: int) -> Any:
        return draw.normal(*shape, std=0.02)

    def layer(inputs: int, outputs: int) -> Any:
        return drawn(inputs, outputs), drawn(outputs)

    def gains() -> Any:
        return drawn(width), drawn(width)

    blocks = [
        {
            "norm1": gains(), "qkv": layer(width, 3 * width), "out": layer(width, width),
            "norm2": gains(), "up": layer(width, 4 * width), "down": layer(4 * width, width),
        }
        for _ in range(layers)
    ]  # fmt: skip
    embeddings = {"wte": drawn(vocab, width), "wpe": drawn(block, width)}
    params = {**embeddings, "blocks": blocks, "norm": gains()}

    def norm(x: Any, gains: Any) -> Any:
        weight, bias = gains
        x = x - x.mean(-1, keepdims=True)
        return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5) * weight + bias

    def loss_of(p: Any, tokens: Any, targets: Any) -> Any:
        x = p["wte"][tokens] + p["wpe"][: tokens.shape[1]]
        for b in p["blocks"]:
            q, k, v = jnp.split(dense(norm(x, b["norm1"]), b["qkv"]), 3, axis=-1)
            x = x + dense(causal_attention(q, k, v, heads), b["out"])
            x = x + dense(nn.gelu(dense(norm(x, b["norm2"]), b["up"])), b["down"])
        return cross_entropy(norm(x, p["norm"]) @ p["wte"].T, targets)

    tokens = draw.integers(vocab, batch, length), draw.integers(vocab, batch, length)
    return step_of(params, loss_of, tokens, adam(lr, decay=0.01))


def nanogpt() -> Step:
    return gpt(65, 64, 128, heads=4, layers=4, batch=12, length=64, lr=1e-3)


def gpt2() -> Step:
    return gpt(50257, 1024, 768, heads=12, layers=12, batch=4, length=64, lr=1e-4)


def lstm() -> Step:
    """The gates' products with the input are taken out of the loop over time."""
    draw = Draw()
    bound = 1 / math.sqrt(256)
    params = {
        "embedding": draw.normal(65, 128),
        "w_in": draw.uniform(128, 1024, bound=bound),
        "b_in": draw.uniform(1024, bound=bound),
        "w_state": draw.uniform(256, 1024, bound=bound),
        "b_state": draw.uniform(1024, bound=bound),
        "head": draw.linear(256, 65),
    }

    def loss_of(p: Any, tokens: Any, targets: Any) -> Any:
        inputs = p["embedding"][tokens.T] @ p["w_in"] + (p["b_in"] + p["b_state"])

        def cell(state: Any, x: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(x + h @ p["w_state"], 4, axis=-1)
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            h = nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((len(tokens), 256))
        _, states = lax.scan(cell, (zeros, zeros), inputs)  # (T, B, 256)
        return cross_entropy(dense(states, p["head"]), targets.T)

    batch = draw.integers(65, 32, 64), draw.integers(65, 32, 64)
    return step_of(params, loss_of, batch, adam(1e-3))


WORKLOADS: dict[str, Callable[[], Step]] = {
    f.__name__: f for f in (micrograd, microgpt, microgpt_b32, mlp, cnn, lstm, nanogpt, gpt2)
}
