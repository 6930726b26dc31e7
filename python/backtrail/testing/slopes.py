"""Derivatives by finite differences, exact enough to hold a derivative against them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..tensor import Tensor
from .close import index_of

# Steps relative to the element: the first is the most exact one for smooth functions; the others
# come closer where there is a kink or the end of the domain nearby.
_STEPS = (2e-3, 5e-5, 1e-6)
_EPS = 2.0**-52
_MOST_ELEMENTS = 24  # of each input

# What is differentiated: the outputs, as float64 tensors, whose weighted sum is taken.
Outputs = Callable[[], Sequence[Tensor]]


class Slope(NamedTuple):
    """The largest disagreement of a derivative with finite differences."""

    error: float  # over what is allowed
    difference: float
    where: str
    unsettled: int  # elements at which differences give no answer, of so many
    elements: int


def compare(
    outputs: Outputs,
    weights: Sequence[Tensor],
    inputs: Sequence[tuple[str, Tensor]],
    slopes: Sequence[Tensor],
    tolerance: float,
) -> Slope:
    """Hold the gradients `slopes` of sum(weights * outputs()) against differences.

    `inputs` (named, float64, dense) are changed in place and put back. Allowed is `tolerance` of
    the larger of 1 and the slope, and what rounding does to the differences.
    """
    worst = Slope(0.0, 0.0, "", 0, 0)
    unsettled = total = 0
    middle = [y.detach().clone() for y in outputs()]
    for (name, x), slope in zip(inputs, slopes, strict=True):
        flat, expected = x.detach().reshape(-1), slope.detach().reshape(-1)
        n = flat.numel()
        largest = float(expected.abs().amax().item()) if n else 0.0
        for i in _chosen(n):
            total += 1
            got = float(expected[i].item())
            allowed = tolerance * max(1.0, abs(got), 0.01 * largest)
            found = _at(outputs, weights, middle, flat, i, got, allowed)
            if found is None:
                unsettled += 1
                continue
            ratio = abs(got - found) / allowed
            if not ratio <= worst.error:
                at = f"{name}{list(index_of(i, x.shape))}" if x.ndim else name
                value = float(flat[i].item())
                worst = Slope(
                    ratio,
                    abs(got - found),
                    f"{at} = {value:.6g}: the derivative is {got:.9g}, differences give "
                    f"{found:.9g}",
                    0,
                    0,
                )
    return worst._replace(unsettled=unsettled, elements=total)


def _chosen(n: int) -> list[int]:
    if n <= _MOST_ELEMENTS:
        return list(range(n))
    return [k * n // _MOST_ELEMENTS for k in range(_MOST_ELEMENTS)]


def _at(
    outputs: Outputs,
    weights: Sequence[Tensor],
    middle: Sequence[Tensor],
    flat: Tensor,
    i: int,
    expected: float,
    allowed: float,
) -> float | None:
    """Return the slope at one element by differences; None where they do not settle.

    Where there is a kink it is the nearest slope between those of the two sides.
    """
    value = float(flat[i].item())

    def moved(step: float) -> tuple[list[Tensor], float]:
        flat[i] = value + step
        try:
            return [y.detach().clone() for y in outputs()], float(flat[i].item()) - value
        finally:
            flat[i] = value

    def between(a: Sequence[Tensor], b: Sequence[Tensor], width: float) -> tuple[float, float]:
        """The slope from b to a, and how far rounding can put it off."""
        rise = size = 0.0
        for y, z, w in zip(a, b, weights, strict=True):
            rise += float(((y - z) * w).sum().item())
            # Only what the element moves has rounding errors that do not cancel.
            size += float(((y.abs() + z.abs()) * w.abs() * (y != z).to(y.dtype)).sum().item())
        return rise / width, 32 * _EPS * size / abs(width)

    central: list[float] = []
    sides: list[tuple[float, float]] = []
    for step in _STEPS:
        h = step * max(abs(value), 0.05)
        (up, a), (down, b) = moved(h), moved(-h)
        (near_up, c), (near_down, d) = moved(h / 2), moved(-h / 2)
        wide, _ = between(up, down, a - b)
        near, noise = between(near_up, near_down, c - d)
        best = (4 * near - wide) / 3  # the error of second order cancels
        if abs(best - expected) <= allowed + noise:
            return best if abs(best - expected) <= allowed else expected
        central.append(best)
        sides.append((between(near_up, middle, c)[0], between(near_down, middle, d)[0]))

    def settled(a: float, b: float) -> bool:
        return abs(a - b) <= 1e-3 * max(abs(a), abs(b), 1e-3)  # not so of NaN

    if not all(settled(a, b) for a, b in zip(sides[-1], sides[-2], strict=True)):
        return None  # it jumps, or rounding hides the slope
    if settled(*sides[-1]):
        return central[-2] if settled(central[-1], central[-2]) else None
    return min(max(expected, min(sides[-1])), max(sides[-1]))
