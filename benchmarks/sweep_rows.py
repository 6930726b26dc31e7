"""The rows of `benchmarks/kernels.py --sweep`: sizes around every border, where one may stumble."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kernel_rows import Make, Row, gradient, into

# Powers of two, their neighbours, primes.
SIZES = (1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129, 255, 256, 257, 509, 512)
LENGTHS = (1, 13, 64, 1000, 1024, 4097, 16384, 65536, 100_003, 1_048_576, 4_194_301)
ROWS = ((1, 10), (1, 100_000), (7, 7), (32, 1000), (64, 64), (1000, 3), (1024, 1024), (4096, 17))
GRIDS = ((3, 5), (64, 64), (1000, 1000), (1024, 1024), (17, 100_003), (100_003, 17), (1, 4097))


def of_tensors(name: str, *shapes: tuple[int, ...]) -> Make:
    return lambda L: into(L, name, *(L.randn(*s) for s in shapes))


def products() -> Iterator[Row]:
    skinny = (
        *((1, n, n) for n in (16, 64, 256, 1024)),  # a row
        *((n, 1, n) for n in (16, 64, 256, 1024)),  # a column
        *((n, n, 1) for n in (16, 64, 256, 1024)),  # an outer product
        *((n, n, 8) for n in (64, 256, 1024)),
        *((8, n, n) for n in (64, 256, 1024)),
        *((n, 8, n) for n in (64, 256, 1024)),
        (1, 1, 100_003),
        (4096, 3, 3),
        (3, 3, 65536),
        (2, 50257, 64),
        (997, 13, 401),
    )
    for m, n, k in (*((s, s, s) for s in SIZES), *skinny):
        yield Row(f"matmul {m}x{n}x{k}", lambda L, m=m, n=n, k=k: into_mm(L, (m, k), (k, n)))
        if m > 1 and n > 1 and k > 1:
            yield Row(
                f"matmul {m}x{n}x{k}, transposed",
                lambda L, m=m, n=n, k=k: into_mm(L, (k, m), (n, k), True),
            )
    for b, m, n, k in ((64, 8, 8, 8), (12, 64, 64, 32), (1000, 3, 3, 3), (48, 1, 64, 64)):
        yield Row(f"bmm {b}x{m}x{n}x{k}", of_bmm((b, m, k), (b, k, n)))


def into_mm(L: Any, a: tuple[int, int], b: tuple[int, int], transposed: bool = False) -> Any:
    x, y = L.randn(*a), L.randn(*b)
    if transposed:
        return lambda: x.t() @ y.t()
    return lambda: x @ y


def of_bmm(a: tuple[int, ...], b: tuple[int, ...]) -> Make:
    def make(L: Any) -> Any:
        x, y = L.randn(*a), L.randn(*b)
        return lambda: x @ y

    return make


def elements() -> Iterator[Row]:
    for n in LENGTHS:
        yield Row(f"add {n}", of_tensors("add", (n,), (n,)))
        yield Row(f"sum {n}", reduced("sum", (n,), None))
    for shape in GRIDS:
        text = "x".join(map(str, shape))
        yield Row(f"add {text}, a row to each", of_tensors("add", shape, shape[1:]))
        yield Row(f"add {text}, a column to each", of_tensors("add", shape, (shape[0], 1)))
        yield Row(f"add {text}, the transpose", added_transpose(shape))
        yield Row(f"copy of {text} transposed", transposed_copy(shape))
        for name in ("sum", "amax", "argmax"):
            for dim in (0, 1):
                yield Row(f"{name} {text} dim {dim}", reduced(name, shape, dim))
    yield Row("copy of 12x64x4x32, heads forward", permuted((12, 64, 4, 32), (0, 2, 1, 3)))
    yield Row("copy of 32x3x64x64, channels last", permuted((32, 3, 64, 64), (0, 2, 3, 1)))


def reduced(name: str, shape: tuple[int, ...], dim: int | None) -> Make:
    def make(L: Any) -> Any:
        x, function = L.randn(*shape), getattr(L, name)
        return (lambda: function(x)) if dim is None else (lambda: function(x, dim))

    return make


def added_transpose(shape: tuple[int, int]) -> Make:
    def make(L: Any) -> Any:
        x, y = L.randn(*shape), L.randn(*shape[::-1]).t()
        return lambda: x + y

    return make


def transposed_copy(shape: tuple[int, int]) -> Make:
    return permuted(shape, (1, 0))


def permuted(shape: tuple[int, ...], order: tuple[int, ...]) -> Make:
    def make(L: Any) -> Any:
        x = L.randn(*shape).permute(*order)
        return lambda: x.contiguous()

    return make


def rows() -> Iterator[Row]:
    for shape in ROWS:
        text = "x".join(map(str, shape))
        for name in ("softmax", "log_softmax", "cumsum"):
            yield Row(f"{name} {text}", along_last(name, shape))
        yield Row(f"layer_norm {text}", normed(shape, False))
        yield Row(f"layer_norm {text} backward", normed(shape, True))


def along_last(name: str, shape: tuple[int, int]) -> Make:
    def make(L: Any) -> Any:
        x, function = L.randn(*shape), getattr(L, name)
        return lambda: function(x, -1)

    return make


def normed(shape: tuple[int, int], backward: bool) -> Make:
    def make(L: Any) -> Any:
        n, norm = shape[1], L.nn.functional.layer_norm
        x, w, b = (L.randn(*s, requires_grad=backward) for s in (shape, (n,), (n,)))
        if backward:
            return gradient(L, norm(x, (n,), w, b), [x, w, b])
        return lambda: norm(x, (n,), w, b)

    return make


def by_index() -> Iterator[Row]:
    for shape in ((64, 64), (1000, 1000), (8, 100_003), (100_003, 8)):
        text = "x".join(map(str, shape))
        for dim in (0, 1):
            k = min(10, shape[dim])
            yield Row(f"topk {k} of {text} dim {dim}", called("topk", shape, k, dim))
            yield Row(f"sort {text} dim {dim}", called("sort", shape, dim))
            yield Row(f"gather {text} dim {dim}", indexed("gather", shape, dim))
            yield Row(f"scatter_add {text} dim {dim}", indexed("scatter_add", shape, dim))
            yield Row(f"index_select {text} dim {dim}", selected(shape, dim))
            yield Row(f"cat 3 of {text} dim {dim}", joined(shape, dim))
            yield Row(f"roll {text} dim {dim}", called("roll", shape, 3, dim))
            yield Row(f"cumsum {text} dim {dim}", called("cumsum", shape, dim))
    for n, m in ((100, 1000), (100_003, 1000), (1000, 100_003), (1_000_003, 100_003)):
        yield Row(f"searchsorted {m} in {n}", searched(n, m))
    for v, e, n in ((27, 16, 128), (1000, 64, 4096), (50257, 768, 256), (5, 512, 10_000)):
        yield Row(f"embedding {n} of {v}x{e}", embedded(v, e, n, False))
        yield Row(f"embedding {n} of {v}x{e} backward", embedded(v, e, n, True))


def called(name: str, shape: tuple[int, int], *arguments: int) -> Make:
    def make(L: Any) -> Any:
        x, function = L.randn(*shape), getattr(L, name)
        return lambda: function(x, *arguments)

    return make


def indexed(name: str, shape: tuple[int, int], dim: int) -> Make:
    def make(L: Any) -> Any:
        x, function = L.randn(*shape), getattr(L, name)
        index = L.randint(0, shape[dim], shape)
        if name == "gather":
            return lambda: function(x, dim, index)
        source = L.randn(*shape)
        return lambda: function(x, dim, index, source)

    return make


def selected(shape: tuple[int, int], dim: int) -> Make:
    def make(L: Any) -> Any:
        x, index = L.randn(*shape), L.randint(0, shape[dim], (shape[dim],))
        return lambda: L.index_select(x, dim, index)

    return make


def joined(shape: tuple[int, int], dim: int) -> Make:
    def make(L: Any) -> Any:
        parts = [L.randn(*shape) for _ in range(3)]
        return lambda: L.cat(parts, dim)

    return make


def searched(n: int, m: int) -> Make:
    def make(L: Any) -> Any:
        places, values = L.sort(L.randn(n))[0], L.randn(m)
        return lambda: L.searchsorted(places, values)

    return make


def embedded(v: int, e: int, n: int, backward: bool) -> Make:
    def make(L: Any) -> Any:
        table, index = L.randn(v, e, requires_grad=backward), L.randint(0, v, (n,))
        if backward:
            return gradient(L, L.nn.functional.embedding(index, table), [table])
        return lambda: L.nn.functional.embedding(index, table)

    return make


SWEEP: list[Row] = [*products(), *elements(), *rows(), *by_index()]
