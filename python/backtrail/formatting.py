"""How a tensor prints: PyTorch's layout, without NumPy."""

from __future__ import annotations

from typing import Any

from . import dtypes
from ._core import apply, ops

PRECISION = 4  # digits after the point
THRESHOLD = 1000  # elements from which the middle is left out
EDGE = 3  # elements shown at each end then
WIDTH = 80  # characters of a line


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
) -> None:
    """Set how tensors print: digits, when to shorten, elements at each end, width of a line."""
    global PRECISION, THRESHOLD, EDGE, WIDTH
    PRECISION = PRECISION if precision is None else precision
    THRESHOLD = THRESHOLD if threshold is None else threshold
    EDGE = EDGE if edgeitems is None else edgeitems
    WIDTH = WIDTH if linewidth is None else linewidth


def tensor_repr(t: Any) -> str:
    """Return what `repr(tensor)` shows."""
    prefix = "tensor("
    shorten = t._numel > THRESHOLD
    shown = _edges(t.detach(), 0) if shorten else t.detach()
    if t._numel == 0:
        body = "[]"
    else:
        values = _flatten(shown.tolist(), t.ndim)
        body = _lines(shown.tolist(), t, 0, _formatter(values, t.dtype), len(prefix), shorten)
    notes = []
    if t._numel == 0 and t.ndim != 1:
        notes.append(f"size={tuple(t.shape)}")
    if t.dtype not in (dtypes.float32, dtypes.int64, dtypes.bool_) or (
        t._numel == 0 and t.dtype is not dtypes.float32
    ):
        notes.append(f"dtype={t.dtype}")
    if t.grad_fn is not None:
        notes.append(f"grad_fn={t.grad_fn!r}")
    elif t.requires_grad:
        notes.append("requires_grad=True")
    return prefix + ", ".join([body, *notes]) + ")"


def _edges(t: Any, dim: int) -> Any:
    """The ends of every long dimension."""
    for d in range(t.ndim):
        size = t.shape[d]
        if size > 2 * EDGE:
            t = apply(ops["cat"], (t.narrow(d, 0, EDGE), t.narrow(d, size - EDGE, EDGE)), (d,))
    return t


def _flatten(values: Any, ndim: int) -> list[Any]:
    for _ in range(ndim - 1):
        values = [x for row in values for x in row]
    return values if ndim else [values]


def _formatter(values: list[Any], dtype: dtypes.dtype) -> Any:
    """A function from element to text of one width for all of them."""
    if not dtype.is_floating_point:
        width = max((len(str(v)) for v in values), default=0)
        return lambda v: str(v).rjust(width)
    # What decides the form and the width, as in PyTorch: the finite numbers that are not 0.
    shown = [v for v in values if v and v == v and abs(v) != float("inf")]
    largest = max((abs(v) for v in shown), default=0.0)
    smallest = min((abs(v) for v in shown), default=0.0)
    whole = all(v == int(v) for v in shown)
    if shown and (largest / smallest > 1000 or largest > 1e8 or (smallest < 1e-4 and not whole)):
        spec = f".{PRECISION}e"
    elif whole:
        spec = ".0f"
    else:
        spec = f".{PRECISION}f"

    def text(v: float) -> str:
        s = format(v, spec)
        return s + "." if spec == ".0f" and s.lstrip("-").isdigit() else s

    width = max((len(text(v)) for v in shown), default=1)
    return lambda v: text(v).rjust(width)


def _lines(values: Any, t: Any, dim: int, text: Any, indent: int, shorten: bool) -> str:
    if dim == t.ndim:
        return str(text(values)).strip()
    cut = shorten and t.shape[dim] > 2 * EDGE
    if dim == t.ndim - 1:
        parts = [text(v) for v in values]
        if cut:
            parts.insert(EDGE, " ...")
        return "[" + _wrap(parts, indent) + "]"
    rows = [_lines(v, t, dim + 1, text, indent + 1, shorten) for v in values]
    if cut:
        rows.insert(EDGE, "...")
    gap: str = "\n" * (t.ndim - dim - 1) + " " * (indent + 1)
    return "[" + ("," + gap).join(rows) + "]"


def _wrap(parts: list[str], indent: int) -> str:
    width = max((len(p) for p in parts if p != " ..."), default=1) + 2
    per_line = max(1, (WIDTH - indent) // width)
    lines = [", ".join(parts[i : i + per_line]) for i in range(0, len(parts), per_line)]
    return (",\n" + " " * (indent + 1)).join(lines)
