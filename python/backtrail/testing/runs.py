"""One op on one sample: its outputs and gradients, and where two runs of it differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes
from .._core import capturing, equal_bytes
from ..autograd import enable_grad, grad, no_grad
from ..functions.creation import arange
from ..functions.random import get_rng_state, set_rng_state
from ..tensor import Tensor
from .close import index_of
from .samples import Sample, Subject, flatten

Named = list[tuple[str, Tensor]]


class Case:
    """An op on a sample, in float32 and, from the same values, in float64."""

    def __init__(self, subject: Subject, sample: Sample) -> None:
        self.subject, self.sample = subject, sample
        self.single, self.double = self.fresh()
        self.wanted = sample.wanted()
        self.names = sample.names
        self.random = get_rng_state()
        self.why_no_slopes = self._why_no_slopes()

    def fresh(self) -> tuple[list[Tensor], list[Tensor]]:
        """Copies of the inputs in float32, and the same numbers in float64."""
        single = self.sample.cast(dtypes.float32)
        double = [t.to(dtypes.float64) if t.dtype is dtypes.float32 else t.clone() for t in single]
        return single, double

    def values(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The outputs, nothing recorded. Random numbers are the same at each run."""
        self.seed()
        with no_grad():
            return flatten(self.sample.call(self.subject.function, tensors))

    def seed(self) -> None:
        """Start the random numbers anew; while a call is captured its caller does."""
        if not capturing():
            set_rng_state(self.random)

    def draws(self) -> bool:
        """Whether the op takes numbers from the default generator."""
        self.values(self.single)
        return not equal_bytes(get_rng_state(), self.random)

    def ends(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """All outputs, recorded; and those that have a gradient."""
        self.seed()
        with enable_grad():
            outs = flatten(self.sample.call(self.subject.function, tensors))
        return outs, [y for y in outs if y.requires_grad]

    def leaves(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The same memory, the wanted ones as leaves of a graph."""
        found = [t.detach() for t in tensors]
        for i in self.wanted:
            found[i].requires_grad_()
        return found

    def slopes(
        self, leaves: Sequence[Tensor], weights: Sequence[Tensor] | None = None, again: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs; and the gradients of their weighted sum for the wanted leaves."""
        outs, ends = self.ends(leaves)
        inputs = [leaves[i] for i in self.wanted]
        weights = [weighing(y) for y in ends] if weights is None else list(weights)
        with enable_grad():
            found = grad(
                ends, inputs, weights, create_graph=again, allow_unused=True, materialize_grads=True
            )
        return outs, [g for g in found if g is not None]

    def everything(self, tensors: Sequence[Tensor]) -> Named:
        """Outputs and gradients, by name."""
        if self.why_no_slopes:
            return named_outputs(self.values(tensors))
        outs, grads = self.slopes(self.leaves(tensors))
        named = [
            (f"gradient of {self.names[i]}", g) for i, g in zip(self.wanted, grads, strict=True)
        ]
        return [*((n, y.detach()) for n, y in named_outputs(outs)), *named]

    def _why_no_slopes(self) -> str:
        if not self.wanted:
            return "no input is of floating point"
        try:
            _, ends = self.ends(self.leaves(self.single))
        except Exception:
            return "the op did not run"  # its own check says more
        return "" if ends else "the op is not differentiable: no output requires grad"


def weighing(out: Tensor) -> Tensor:
    """Fixed weights between 0.5 and 2.5 that differ from element to element."""
    numbers = arange(out.numel(), dtype=dtypes.float64)
    return ((numbers * 0.7 + 0.3).sin() + 1.5).reshape(out.shape).to(out.dtype)


def named_outputs(outs: Sequence[Tensor]) -> Named:
    return [("output" if len(outs) == 1 else f"output {i}", y) for i, y in enumerate(outs)]


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.detach().clone() for t in tensors]


def difference(a: Named, b: Named, words: tuple[str, str]) -> str:
    """Say where two runs differ first; nothing when they agree to the bit."""
    if len(a) != len(b):
        return f"{len(a)} results {words[0]}, {len(b)} {words[1]}"
    for (name, x), (_, y) in zip(a, b, strict=True):
        if x.shape != y.shape or x.dtype is not y.dtype:
            return (
                f"{name} is {x.dtype.name}{list(x.shape)} {words[0]}, "
                f"{y.dtype.name}{list(y.shape)} {words[1]}"
            )
        if equal_bytes(x, y):
            continue
        flat, other = x.detach().reshape(-1), y.detach().reshape(-1)
        unequal = (flat != other) & ~((flat != flat) & (other != other))
        count = int(unequal.sum().item())
        if not count:
            return f"{name} has other bits (the sign of a zero or a NaN) {words[0]} and {words[1]}"
        i = int(unequal.to(dtypes.int64).argmax().item())
        return (
            f"{place(name, i, x.shape)} is {flat[i].item():.9g} {words[0]}, "
            f"{other[i].item():.9g} {words[1]} ({count} of {x.numel()} elements differ)"
        )
    return ""


def place(name: str, i: int, shape: Sequence[int]) -> str:
    return f"{name}{list(index_of(i, shape))}" if shape else name


def attempt(action: Callable[[], Any]) -> str:
    """Run; return the error that it raises as text, or nothing."""
    try:
        action()
    except Exception as error:
        return said(error)
    return ""


def said(error: BaseException) -> str:
    text = str(error).strip() or "(without a message)"
    return f"{type(error).__name__}: {text}"
