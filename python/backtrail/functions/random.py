"""Random numbers: generators, seeds, and tensors drawn from distributions.

Numbers come from a counter (Philox, in the core): the i-th of a draw depends on the seed, the
generator's offset and i alone, hence not on the number of threads.
"""

from __future__ import annotations

from typing import Any

from .. import _core, dtypes
from .._core import draw, get_default_dtype, refuse_value
from ..dtypes import dtype as DType
from ..tensor import Tensor, apply, method, ops
from .creation import _given, _made, _shape, tensor

__all__ = [
    "Generator",
    "bernoulli",
    "default_generator",
    "dropout",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "multinomial",
    "normal",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "seed",
    "set_rng_state",
]

_MASK = (1 << 64) - 1
_SIGN = 1 << 63


class Generator:
    """A stream of random numbers: a seed and how much of its stream has been used."""

    def __init__(self, device: Any = "cpu") -> None:
        dtypes.check_device(device)
        self._seed = 67280421310721
        self._offset = 0

    @property
    def device(self) -> dtypes.device:
        """The CPU."""
        return dtypes.CPU

    def _watched(self) -> list[Any]:
        """Return nothing: a captured function goes on with the stream wherever it stands."""
        return []

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of `seed` from its beginning."""
        refuse_value("manual_seed")
        self._seed = int(seed) & _MASK
        self._offset = 0
        return self

    def seed(self) -> int:
        """Start a stream whose seed is drawn from the system; returns it."""
        import os

        return self.manual_seed(int.from_bytes(os.urandom(8), "little")).initial_seed()

    def initial_seed(self) -> int:
        """Return the seed."""
        return self._seed

    def get_state(self) -> Tensor:
        """Return seed and offset as 16 bytes."""
        refuse_value("get_state")
        data = self._seed.to_bytes(8, "little") + self._offset.to_bytes(8, "little")
        return _core.from_bytes(data, dtypes.uint8, (16,))

    def set_state(self, new_state: Tensor) -> Generator:
        """Continue from a state that get_state() returned."""
        refuse_value("set_state")
        if new_state.dtype is not dtypes.uint8 or tuple(new_state.shape) != (16,):
            raise RuntimeError(
                f"set_state: got shape {tuple(new_state.shape)} of {new_state.dtype}; expected the "
                f"16 uint8 values of get_state()"
            )
        data = _core.to_bytes(new_state)
        self._seed = int.from_bytes(data[:8], "little")
        self._offset = int.from_bytes(data[8:], "little")
        return self

    def _take(self, n: int) -> tuple[int, int]:
        """Use up n numbers: the seed and offset of a draw, as signed 64-bit attributes."""
        seed, offset = self._seed, self._offset
        self._offset = (offset + n) & _MASK
        seed = seed - (1 << 64) if seed >= _SIGN else seed
        offset = offset - (1 << 64) if offset >= _SIGN else offset
        draw(self, n, seed, offset)
        return seed, offset


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """Return the seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """Return the state of the default generator, a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Continue the default generator from a state that get_rng_state() returned."""
    default_generator.set_state(new_state)


def _count(shape: tuple[int, ...]) -> int:
    n = 1
    for size in shape:
        n *= size
    return max(n, 1)


def _draw(op: str, shape: tuple[int, ...], dtype: DType, a: Any, b: Any, generator: Any) -> Tensor:
    if min(shape, default=0) < 0:
        raise RuntimeError(f"{op}: sizes must not be negative; got {tuple(shape)}")
    stream = (generator or default_generator)._take(_count(shape))
    return apply(ops[op], (), (shape, dtype.code, a, b, *stream))


def _kind(name: str, dtype: Any, device: Any, default: DType | None = None) -> DType:
    """The dtype of a draw, and a look at the device."""
    dtypes.check_device(device)
    if dtype is None:
        return default or get_default_dtype()
    return dtypes.as_dtype(dtype, f"{name}: dtype")


def rand(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Draw evenly from [0, 1)."""
    shape = _shape("rand", _given("rand", sizes, size))
    made = _draw("uniform", shape, _kind("rand", dtype, device), 0.0, 1.0, generator)
    return _made(made, requires_grad)


def randn(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Draw from the normal distribution of mean 0 and standard deviation 1."""
    shape = _shape("randn", _given("randn", sizes, size))
    made = _draw("normal", shape, _kind("randn", dtype, device), 0.0, 1.0, generator)
    return _made(made, requires_grad)


def rand_like(
    input: Tensor, *, dtype: DType | None = None, memory_format: Any = None, **kwargs: Any
) -> Tensor:
    """Draw evenly from [0, 1) with the shape and dtype of another tensor."""
    return rand(input.shape, dtype=dtype or input.dtype, **kwargs)


def randn_like(
    input: Tensor, *, dtype: DType | None = None, memory_format: Any = None, **kwargs: Any
) -> Tensor:
    """Draw normal numbers with the shape and dtype of another tensor."""
    return randn(input.shape, dtype=dtype or input.dtype, **kwargs)


def randint(
    low: Any = None,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Draw integers evenly from [low, high); `randint(high, size)` starts at 0."""
    if low is None:
        low = 0
    elif size is None and hasattr(high, "__iter__"):
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if size is None:
        raise TypeError("randint: the size is missing; use randint(low, high, size)")
    low, high = _shape("randint", (low, high))
    kind = _kind("randint", dtype, device, dtypes.int64)
    shape = _shape("randint", (size,))
    if low >= high and 0 not in shape:
        raise RuntimeError(f"randint: there is no integer in [{low}, {high})")
    if not kind.is_floating_point and kind is not dtypes.bool_:
        limits = dtypes.iinfo(kind)
        if low < limits.min or high - 1 > limits.max:
            raise RuntimeError(f"randint: [{low}, {high}) does not fit in {kind}")
    return _made(_draw("randint", shape, kind, low, high, generator), requires_grad)


def randint_like(
    input: Tensor, low: Any = None, high: Any = None, *, memory_format: Any = None, **kwargs: Any
) -> Tensor:
    """Draw integers with the shape of another tensor."""
    if low is None and high is None:
        raise TypeError("randint_like: the bound is missing; use randint_like(input, high)")
    low, high = (0, low) if high is None else (low or 0, high)
    return randint(low, high, input.shape, **{"dtype": input.dtype, **kwargs})


def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Draw an order of 0 ... n - 1."""
    kind = _kind("randperm", dtype, device, dtypes.int64)
    (n,) = _shape("randperm", (n,))
    if n < 0:
        raise RuntimeError(f"randperm: n is {n}; it must not be negative")
    stream = (generator or default_generator)._take(max(n, 1))
    order = apply(ops["randperm"], (), (n, *stream))
    return _made(order if kind is dtypes.int64 else order.to(kind), requires_grad)


def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    **kw: Any,
) -> Tensor:
    """Draw normal numbers of the given mean and standard deviation: numbers, or tensors."""
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        like = mean if isinstance(mean, Tensor) else std
        if isinstance(mean, Tensor) and isinstance(std, Tensor):
            like = mean + std
        made = randn(like.shape, generator=generator, dtype=like.dtype)
    else:
        made = randn(size, generator=generator, **kw)
    scaled: Tensor = made * std + mean
    return scaled


@method
def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Draw 1 with the probability that each element says (or p), else 0."""
    if p is not None:
        input = apply(ops["fill"], (input, p))
    stream = (generator or default_generator)._take(max(input._numel, 1))
    drawn = apply(ops["bernoulli"], (input.detach(),), stream)
    return apply(ops["fill"], (input, drawn)) if input.requires_grad else drawn  # slope 0


@method
def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Draw indices with the probabilities of each row (they need not add up to 1).

    input (n) or (m, n), not negative -> int64 (num_samples) or (m, num_samples).
    """
    rows = input.shape[0] if input.ndim > 1 else 1
    stream = (generator or default_generator)._take(max(input._numel, rows * num_samples, 1))
    return apply(ops["multinomial"], (input.detach(),), (num_samples, replacement, *stream))


def dropout(input: Tensor, p: float, generator: Generator | None = None) -> Tensor:
    """Zero elements with probability p and scale the others by 1 / (1 - p)."""
    stream = (generator or default_generator)._take(max(input._numel, 1))
    return apply(ops["dropout"], (input,), (float(p), *stream))


def _fill(self: Tensor, op: str, a: Any, b: Any, generator: Generator | None) -> Tensor:
    return self.copy_(_draw(op, tuple(self.shape), self.dtype, a, b, generator))


def _bounds(name: str, low: Any, high: Any, named: dict[str, Any]) -> tuple[Any, Any]:
    """PyTorch names the bounds `from` and `to`; no parameter of Python can be named `from`."""
    unknown = named.keys() - {"from", "to"}
    if unknown:
        raise TypeError(f"{name}: unexpected arguments {', '.join(sorted(unknown))}")
    return named.get("from", low), named.get("to", high)


@method
def uniform_(
    self: Tensor,
    a: float = 0.0,
    b: float = 1.0,
    *,
    generator: Generator | None = None,
    **bounds: Any,
) -> Tensor:
    """Fill with numbers drawn evenly from [a, b); by name the bounds are `from` and `to`."""
    a, b = _bounds("uniform_", a, b, bounds)
    return _fill(self, "uniform", float(a), float(b), generator)


@method
def normal_(
    self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal numbers."""
    return _fill(self, "normal", float(mean), float(std), generator)


@method
def random_(
    self: Tensor,
    low: int = 0,
    high: int | None = None,
    *,
    generator: Generator | None = None,
    **bounds: Any,
) -> Tensor:
    """Fill with integers drawn evenly from [low, high); `random_(high)` starts at 0.

    By name the bounds are `from` and `to`.
    """
    low, high = _bounds("random_", low, high, bounds)
    if high is None:
        low, high = (0, low) if low else (0, 1 << 24)
    draw = _draw("randint", tuple(self.shape), dtypes.int64, int(low), int(high), generator)
    return self.copy_(draw)


@method
def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability p (a number or a tensor), else 0."""
    chance = p if isinstance(p, Tensor) else tensor(float(p))
    chance = chance.expand(*self.shape).contiguous()
    return self.copy_(bernoulli(chance, generator=generator))


@method
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of the exponential distribution of rate lambd."""
    if not lambd > 0:
        raise RuntimeError(f"exponential_: lambd is {lambd}; it must be positive")
    u = _draw("uniform", tuple(self.shape), self.dtype, 0.0, 1.0, generator)
    return self.copy_((1.0 - u).log() / -lambd)
