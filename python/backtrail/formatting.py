"""How a tensor prints: PyTorch's layout, without NumPy."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

from . import dtypes
from ._core import Op, get_default_dtype

_PROFILES = {  # digits after the point; elements from which the middle is left out; elements shown
    "default": (4, 1000, 3, 80),  # at each end then; characters of a line
    "short": (2, 1000, 2, 80),
    "full": (4, inf, 3, 80),
}
PRECISION, THRESHOLD, EDGE, WIDTH = _PROFILES["default"]
SCIENTIFIC: bool | None = None  # None: where the numbers ask for it
_LONGER = len("backtrail") - len("torch")  # lines break where they would with PyTorch's names


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors print: digits, when to shorten, elements at each end, width of a line.

    `profile` sets these at once: "default", "short" or "full". `sci_mode` asks for numbers such as
    1.0000e+00, or for none (False); None, also when it is left out, leaves it to the numbers.
    """
    global PRECISION, THRESHOLD, EDGE, WIDTH, SCIENTIFIC
    if profile is not None:
        if profile.lower() not in _PROFILES:
            raise ValueError(
                f"set_printoptions: profile is {profile!r}; expected one of {', '.join(_PROFILES)}"
            )
        PRECISION, THRESHOLD, EDGE, WIDTH = _PROFILES[profile.lower()]
    PRECISION = PRECISION if precision is None else precision
    THRESHOLD = THRESHOLD if threshold is None else threshold
    EDGE = EDGE if edgeitems is None else edgeitems
    WIDTH = WIDTH if linewidth is None else linewidth
    SCIENTIFIC = sci_mode


def tensor_repr(t: Any) -> str:
    """Return what `repr(tensor)` shows."""
    kind = type(t).__name__
    prefix = "tensor(" if kind in ("Tensor", "Parameter") else kind + "("
    notes = []
    if t._numel == 0:
        body = "[]"
        if t.ndim != 1:
            notes.append(f"size={tuple(t.shape)}")
        plain = t.dtype is get_default_dtype()
    else:
        shorten = t._numel > THRESHOLD
        shown = _ends(t.detach(), 0) if shorten else t.detach().tolist()
        text, width = _formatter(_flatten(shown, t.ndim), t.dtype)
        body = _lines(shown, t.shape, text, width, len(prefix), shorten)
        plain = t.dtype in (get_default_dtype(), dtypes.int64, dtypes.bool_)
    if not plain:
        notes.append(f"dtype={t.dtype}")
    if t.grad_fn is not None:
        notes.append(f"grad_fn=<{node_name(t.grad_fn)}>")
    elif t.requires_grad:
        notes.append("requires_grad=True")
    return _annotated(prefix + body, notes, len(prefix)) + ")"


def _annotated(text: str, notes: list[str], indent: int) -> str:
    """The text with its notes, each on a line of its own where the last one is full."""
    length = len(text) - text.rfind("\n") + 1
    for note in notes:
        size = len(note) - _LONGER * note.startswith("dtype=")
        if length + size + 2 > WIDTH:
            text += ",\n" + " " * indent + note
            length = indent + size
        else:
            text += ", " + note
            length += size + 2
    return text


# PyTorch's names of nodes, where they are not those of our ops.
_NODES = {
    "linear": "AddmmBackward0",
    "square": "PowBackward0",
    "basic_index": "SliceBackward0",
    "reshape": "ViewBackward0",
    "cast": "ToCopyBackward0",
    "max_dim": "MaxBackward0",
    "min_dim": "MinBackward0",
    "matmul": "MmBackward0",
}


def node_name(node: Any) -> str:
    """Return what PyTorch calls such a node of the graph: MulBackward0."""
    name = node.op.name
    if not isinstance(node.op, Op):  # a user's Function
        return name if name.endswith("Backward") else f"{name}Backward"
    if name in _NODES:
        return _NODES[name]
    return "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Backward0"


def _ends(t: Any, dim: int) -> Any:
    """Nested lists of the elements, of every long dimension only its ends."""
    if dim == t.ndim:
        return t.tolist()
    size = t.shape[dim]
    if size <= 2 * EDGE:
        return _ends(t, dim + 1)
    first, last = t.narrow(dim, 0, EDGE), t.narrow(dim, size - EDGE, EDGE)
    return _joined(_ends(first, dim + 1), _ends(last, dim + 1), dim)


def _joined(a: Any, b: Any, dim: int) -> Any:
    return [_joined(x, y, dim - 1) for x, y in zip(a, b, strict=True)] if dim else a + b


def _flatten(values: Any, ndim: int) -> list[Any]:
    for _ in range(ndim - 1):
        values = [x for row in values for x in row]
    return values if ndim else [values]


def _formatter(values: list[Any], dtype: dtypes.dtype) -> tuple[Any, int]:
    """A function from element to text, and the width that it fills."""
    if not dtype.is_floating_point:
        width = max((len(str(v)) for v in values), default=1)
        return lambda v: str(v).rjust(width), width
    # What decides the form and the width: the finite numbers that are not 0.
    shown = [v for v in values if v and isfinite(v)]
    largest = max((abs(v) for v in shown), default=1.0)
    smallest = min((abs(v) for v in shown), default=1.0)
    whole = all(v == int(v) for v in shown)
    scientific = SCIENTIFIC if shown else False
    if scientific is None:
        scientific = largest / smallest > 1000 or largest > 1e8 or smallest < 1e-4
    spec = f".{PRECISION}e" if scientific else ".0f" if whole else f".{PRECISION}f"

    def text(v: float) -> str:
        s = format(v, spec)
        return s + "." if spec == ".0f" and isfinite(v) else s

    width = max((len(text(v)) for v in shown), default=1)
    return lambda v: text(v).rjust(width), width


def _lines(values: Any, shape: Any, text: Any, width: int, indent: int, shorten: bool) -> str:
    if not shape:
        return str(text(values))
    cut = shorten and shape[0] > 2 * EDGE
    if len(shape) == 1:
        parts = [text(v) for v in values]
        if cut:
            parts.insert(EDGE, " ..." if EDGE else "...")
        per_line = max(1, (WIDTH - indent) // (width + 2))
        rows = [", ".join(parts[i : i + per_line]) for i in range(0, len(parts), per_line)]
    else:
        rows = [_lines(v, shape[1:], text, width, indent + 1, shorten) for v in values]
        if cut:
            rows.insert(EDGE, "...")
    gap: str = "\n" * max(1, len(shape) - 1) + " " * (indent + 1)
    return "[" + ("," + gap).join(rows) + "]"
