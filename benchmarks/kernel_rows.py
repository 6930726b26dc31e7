"""The rows of benchmarks/kernels.py: each a line of data, written once for PyTorch's names.

`make(L)` gets backtrail or PyTorch, makes the operands, and returns the function to time; `numpy`
does the same with NumPy where it has the operation. A library without the operation raises
AttributeError and has no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Make = Callable[[Any], Callable[[], object]]


@dataclass(frozen=True)
class Row:
    """One kernel. `flops` and `bytes` are the least that a call must do; 0: not known."""

    name: str
    make: Make
    numpy: Make | None = None
    flops: float = 0.0  # a multiply-add is 2, a transcendental function TRANSCENDENTAL
    bytes: float = 0.0
    traffic: str = "triad"  # what moves them best: triad (two in, one out), update or read
    peak: str = "flops"  # the limit of arithmetic that applies
    group: str = ""


TRANSCENDENTAL = 16  # the operations of a polynomial and what surrounds it
F32 = 4


def into(L: Any, name: str, *operands: Any) -> Callable[[], object]:
    """Return the call of a function that writes to memory it had before, as each library does so.

    Backtrail's pool gives the same block again; the others take `out`.
    """
    function = getattr(L, name)
    if L.__name__ == "backtrail":
        return lambda: function(*operands)
    out = L.empty_like(operands[0])
    return lambda: function(*operands, out=out)


def gradient(L: Any, y: Any, inputs: Any) -> Callable[[], object]:
    """Return the call that computes the gradients of y once more."""
    g = L.randn(*y.shape)
    return lambda: L.autograd.grad(y, inputs, g, retain_graph=True)


def numbers(np: Any, *shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


# ---- products


def square(n: int) -> Row:
    def make(L: Any) -> Any:
        return into(L, "mm", L.randn(n, n), L.randn(n, n))

    def numpy(np: Any) -> Any:
        a, b, out = (numbers(np, n, n) for _ in range(3))
        return lambda: np.matmul(a, b, out=out)

    return Row(f"matmul {n}^3", make, numpy, 2 * n**3, 3 * n * n * F32, group="matmul")


def layer(m: int, n: int, k: int) -> Iterator[Row]:
    """The three products of a linear layer: forward, and the gradients of input and weight."""

    def operands(L: Any) -> Any:
        return L.randn(m, k), L.randn(n, k), L.randn(m, n)

    def forward(L: Any) -> Any:
        x, w, _ = operands(L)
        return lambda: L.nn.functional.linear(x, w)

    def for_input(L: Any) -> Any:
        _, w, g = operands(L)
        return lambda: g @ w

    def for_weight(L: Any) -> Any:
        x, _, g = operands(L)
        return lambda: g.t() @ x

    def numpy(which: int) -> Make:
        def make(np: Any) -> Any:
            x, w, g = numbers(np, m, k), numbers(np, n, k), numbers(np, m, n)
            return (lambda: x @ w.T, lambda: g @ w, lambda: g.T @ x)[which]

        return make

    for i, (text, make) in enumerate(
        (("x @ W.T", forward), ("g @ W", for_input), ("g.T @ x", for_weight))
    ):
        size = (m * k + n * k + m * n) * F32
        yield Row(
            f"{text} {m}x{n}x{k}", make, numpy(i), 2.0 * m * n * k, size, "read", group="layer"
        )


def bfloat16(n: int) -> Row:
    def make(L: Any) -> Any:
        a, b = L.randn(n, n).bfloat16(), L.randn(n, n).bfloat16()
        return lambda: a @ b

    return Row(
        f"matmul bf16 {n}^3", make, None, 2 * n**3, 6 * n * n, "read", "flops_bf16", "matmul"
    )


# ---- elementwise


def elementwise(name: str, n: int, flops: int) -> Row:
    def make(L: Any) -> Any:
        if name == "gelu":
            x, gelu = L.randn(n), L.nn.functional.gelu
            return lambda: gelu(x, approximate="tanh")
        return into(L, name, *(L.randn(n) for _ in range(2 if name == "add" else 1)))

    def numpy(np: Any) -> Any:
        x, out = [numbers(np, n) for _ in range(2 if name == "add" else 1)], numbers(np, n)
        function = getattr(np, name)
        return lambda: function(*x, out=out)

    size = n * F32 * (3 if name == "add" else 2)
    return Row(
        f"{name} {n:,}",
        make,
        numpy if name in ("add", "exp", "tanh") else None,
        n * flops,
        size,
        group="elementwise",
    )


# ---- rows, attention, optimizer: forward and backward


def pair(
    name: str, build: Any, flops: tuple[float, float], size: tuple[float, float], group: str
) -> Iterator[Row]:
    """`build(L)` returns the function of its leaves, and the leaves."""

    def forward(L: Any) -> Any:
        function, leaves = build(L)
        leaves = [x.detach() for x in leaves]
        return lambda: function(*leaves)

    def backward(L: Any) -> Any:
        function, leaves = build(L)
        return gradient(L, function(*leaves), leaves)

    yield Row(f"{name} forward", forward, None, flops[0], size[0], group=group)
    yield Row(f"{name} backward", backward, None, flops[1], size[1], group=group)


def leaf(L: Any, *shape: int) -> Any:
    return L.randn(*shape, requires_grad=True)


def softmax(rows: int, n: int) -> Iterator[Row]:
    e = rows * n
    return pair(
        f"softmax {rows}x{n}",
        lambda L: (lambda x: L.softmax(x, -1), [leaf(L, rows, n)]),
        (e * (TRANSCENDENTAL + 4), e * 4),
        (2 * e * F32, 3 * e * F32),
        "rows",
    )


def layer_norm(rows: int, n: int) -> Iterator[Row]:
    e = rows * n
    return pair(
        f"layer norm {rows}x{n}",
        lambda L: (
            lambda x, w, b: L.nn.functional.layer_norm(x, (n,), w, b),
            [leaf(L, rows, n), leaf(L, n), leaf(L, n)],
        ),
        (e * 8, e * 14),
        (2 * e * F32, 3 * e * F32),
        "rows",
    )


def attention(b: int, h: int, t: int, d: int) -> Iterator[Row]:
    """Causal: half of the products count."""
    product = b * h * t * t * d  # 2 flops, halved
    return pair(
        f"attention B{b} H{h} T{t} D{d}",
        lambda L: (
            lambda q, k, v: L.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
            [leaf(L, b, h, t, d) for _ in range(3)],
        ),
        (2 * product + b * h * t * t / 2 * TRANSCENDENTAL, 5 * product),
        (4 * b * h * t * d * F32, 8 * b * h * t * d * F32),
        "attention",
    )


def conv(n: int, c: int, out: int, size: int, kernel: int) -> Iterator[Row]:
    product = 2.0 * n * out * size * size * c * kernel * kernel
    images, results = n * c * size * size * F32, n * out * size * size * F32
    return pair(
        f"conv2d {n}x{c}x{size}x{size} to {out}, {kernel}x{kernel}",
        lambda L: (
            lambda x, w, b: L.nn.functional.conv2d(x, w, b, padding=kernel // 2),
            [leaf(L, n, c, size, size), leaf(L, out, c, kernel, kernel), leaf(L, out)],
        ),
        (product, 2 * product),
        (images + results, 2 * images + results),
        "conv",
    )


def pool(n: int, c: int, size: int) -> Iterator[Row]:
    e = n * c * size * size * F32
    return pair(
        f"max_pool2d {n}x{c}x{size}x{size}, 2x2",
        lambda L: (lambda x: L.nn.functional.max_pool2d(x, 2), [leaf(L, n, c, size, size)]),
        (e / F32, e / F32),
        (1.25 * e, 1.5 * e),
        "conv",
    )


def recurrent(kind: str, gates: int, n: int, t: int, width: int, hidden: int) -> Iterator[Row]:
    def build(L: Any) -> Any:
        module = getattr(L.nn, kind)(width, hidden, batch_first=True)
        return lambda x, *_: module(x)[0], [leaf(L, n, t, width), *module.parameters()]

    product = 2.0 * n * t * gates * hidden * (width + hidden)
    size = n * t * (width + hidden) * F32
    return pair(
        f"{kind} {n}x{t}x{width} to {hidden}",
        build,
        (product, 2 * product),
        (size, 2 * size),
        "recurrent",
    )


def adamw(n: int) -> Row:
    def make(L: Any) -> Any:
        p = L.nn.Parameter(L.randn(n))
        p.grad = L.randn(n)
        rest = {} if L.__name__ == "backtrail" else {"fused": True}
        return L.optim.AdamW([p], lr=1e-3, **rest).step

    # p, m, v are read and written, the gradient is read.
    return Row(f"AdamW {n:,}", make, None, 16.0 * n, 7 * n * F32, "update", group="optimizer")


ELEMENTWISE = (
    ("add", 1),
    ("exp", TRANSCENDENTAL),
    ("tanh", TRANSCENDENTAL + 6),
    ("gelu", TRANSCENDENTAL + 12),
    ("sigmoid", TRANSCENDENTAL + 4),
)

KERNELS: list[Row] = [
    *(square(n) for n in (1024, 256, 128, 64, 32, 8)),
    *layer(256, 50257, 768),
    *layer(64, 256, 784),
    bfloat16(1024),
    *(elementwise(name, 10_000_000, flops) for name, flops in ELEMENTWISE),
    *(elementwise(name, 100_000, flops) for name, flops in ELEMENTWISE),
    *softmax(256, 50257),
    *softmax(768, 65),
    *layer_norm(768, 768),
    *attention(12, 4, 64, 32),
    *attention(1, 12, 1024, 64),
    *conv(64, 1, 32, 28, 3),
    *conv(64, 32, 64, 14, 3),
    *conv(8, 64, 64, 56, 3),
    *pool(64, 32, 28),
    *recurrent("LSTM", 4, 32, 64, 128, 256),
    *recurrent("GRU", 3, 32, 64, 128, 256),
    adamw(10_000_000),
]
