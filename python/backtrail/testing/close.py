"""`assert_close`: are tensors, numbers, or nested sequences and mappings of them, close?"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .. import dtypes
from ..functions.creation import as_tensor
from ..functions.elementwise import isclose, promote_types
from ..tensor import Tensor

Message = str | Callable[[str], str] | None

# (rtol, atol); all other dtypes must be equal.
TOLERANCES = {
    dtypes.float64: (1e-7, 1e-7),
    dtypes.float32: (1.3e-6, 1e-5),
    dtypes.bfloat16: (1.6e-2, 1e-5),
}
_OF_NUMBERS = {int: dtypes.int64, float: dtypes.float64}


class _Different(Exception):
    """A difference, or what cannot be compared, with the way to the item it is in."""

    def __init__(self, text: str, path: tuple[Any, ...], kind: type[Exception]) -> None:
        super().__init__(text)
        self.text, self.path, self.kind = text, path, kind

    def error(self, msg: Message) -> Exception:
        text = self.text
        if self.path:
            text += f"\n\nThe failure occurred for item {''.join(f'[{p!r}]' for p in self.path)}"
        return self.kind(msg if isinstance(msg, str) else msg(text) if callable(msg) else text)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: Message = None,
) -> None:
    """Raise AssertionError unless |actual - expected| <= atol + rtol * |expected| everywhere.

    Takes tensors, NumPy arrays, numbers, bools, None, and sequences and mappings of these, nested.
    Infinities must be equal; NaN equals NaN only with `equal_nan`. Shapes must agree, and dtypes
    (`check_dtype`) and strides (`check_stride`) when asked for. Left out, (rtol, atol) are the
    larger of those of the two dtypes: float64 (1e-7, 1e-7), float32 (1.3e-6, 1e-5), bfloat16
    (1.6e-2, 1e-5), all others 0. The message counts the mismatched elements and says where the
    greatest absolute and relative differences are; `msg` replaces it, or is a function of it.
    `check_device` and `check_layout` are PyTorch's: there is one device and one layout.

    Raises ValueError when one of rtol and atol is given without the other, TypeError for inputs
    that cannot be compared with one another.
    """
    __tracebackhide__ = True  # pytest shows the caller's line

    def compare(actual: Any, expected: Any, path: tuple[Any, ...]) -> None:
        if actual is None or expected is None:
            if actual is not expected:
                raise _Different(f"None mismatch: {actual} is not {expected}", path, AssertionError)
        elif _is_bool(actual) and _is_bool(expected):
            if bool(actual) is not bool(expected):
                text = f"Booleans mismatch: {actual} is not {expected}"
                raise _Different(text, path, AssertionError)
        elif _is_number(actual) and _is_number(expected):
            found = _compare_numbers(
                _number(actual), _number(expected), rtol, atol, equal_nan, check_dtype
            )
            if found:
                raise _Different(found, path, AssertionError)
        else:
            related = isinstance(actual, type(expected)) or isinstance(expected, type(actual))
            same = type(actual) is type(expected) or (allow_subclasses and related)
            tensors = _tensors(actual, expected) if same else None
            if tensors is None:
                raise _Different(
                    f"assert_close: cannot compare {type(actual)} with {type(expected)}",
                    path,
                    TypeError,
                )
            a, b = tensors
            found = _compare_tensors(a, b, rtol, atol, equal_nan, check_dtype, check_stride)
            if found:
                raise _Different(found, path, AssertionError)

    if (rtol is None) is not (atol is None):
        missing = "rtol" if rtol is None else "atol"
        raise ValueError(
            f"assert_close: got no {missing}; give both rtol and atol, or leave both out"
        )
    try:
        for pair in list(_pairs(actual, expected, ())):  # first the structure, then the values
            compare(*pair)
    except _Different as difference:
        error = difference.error(msg)
    else:
        return
    raise error


def _pairs(
    actual: Any, expected: Any, path: tuple[Any, ...]
) -> Iterator[tuple[Any, Any, tuple[Any, ...]]]:
    """Walk both structures at once; yield what is neither a sequence nor a mapping."""
    if _is_sequence(actual) and _is_sequence(expected):
        if len(actual) != len(expected):
            text = f"The length of the sequences mismatch: {len(actual)} != {len(expected)}"
            raise _Different(text, path, AssertionError)
        for i in range(len(actual)):
            yield from _pairs(actual[i], expected[i], (*path, i))
    elif isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if set(actual) != set(expected):
            missing = sorted(set(expected) - set(actual), key=repr)
            additional = sorted(set(actual) - set(expected), key=repr)
            text = (
                f"The keys of the mappings do not match:\n"
                f"Missing keys in the actual mapping: {missing}\n"
                f"Additional keys in the actual mapping: {additional}"
            )
            raise _Different(text, path, AssertionError)
        for key in expected:
            yield from _pairs(actual[key], expected[key], (*path, key))
    else:
        yield actual, expected, path


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _numpy_type(name: str) -> tuple[type, ...]:
    numpy = sys.modules.get("numpy")  # what was never imported made none of the values
    return () if numpy is None else (getattr(numpy, name),)


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, *_numpy_type("bool_")))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, *_numpy_type("number"), *_numpy_type("bool_")))


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _tensors(*values: Any) -> tuple[Tensor, ...] | None:
    found = []
    for value in values:
        try:
            found.append(value if isinstance(value, Tensor) else as_tensor(value))
        except Exception:
            return None
    return tuple(found)


def _tolerances(
    rtol: float | None, atol: float | None, *kinds: dtypes.dtype
) -> tuple[float, float]:
    if rtol is not None and atol is not None:
        return rtol, atol
    known = [TOLERANCES.get(kind, (0.0, 0.0)) for kind in kinds]
    return max(r for r, _ in known), max(a for _, a in known)


def _compare_numbers(
    actual: Any, expected: Any, rtol: Any, atol: Any, equal_nan: bool, check_dtype: bool
) -> str:
    if check_dtype and type(actual) is not type(expected):
        return f"The (d)types do not match: {type(actual)} != {type(expected)}."
    kinds = [_OF_NUMBERS.get(type(x), dtypes.int64) for x in (actual, expected)]
    rtol, atol = _tolerances(rtol, atol, *kinds)
    if actual == expected or (equal_nan and math.isnan(actual) and math.isnan(expected)):
        return ""
    difference = abs(actual - expected)
    if math.isfinite(difference) and difference <= atol + rtol * abs(expected):
        return ""
    return _scalar_message(actual, expected, rtol, atol)


def _compare_tensors(
    actual: Tensor,
    expected: Tensor,
    rtol: Any,
    atol: Any,
    equal_nan: bool,
    check_dtype: bool,
    check_stride: bool,
) -> str:
    """Return what is different, or nothing."""
    actual, expected = actual.detach(), expected.detach()
    for name, a, b in (
        ("shape", actual.shape, expected.shape),
        ("stride()", actual.stride(), expected.stride()),
        ("dtype", actual.dtype, expected.dtype),
    ):
        asked = {"shape": True, "stride()": check_stride, "dtype": check_dtype}[name]
        if asked and a != b:
            return f"The values for attribute '{name}' do not match: {a} != {b}."
    rtol, atol = _tolerances(rtol, atol, actual.dtype, expected.dtype)
    kind = promote_types(actual.dtype, expected.dtype)
    # Narrow integers would wrap, narrow floats round, when they are subtracted.
    kind = kind if kind.itemsize >= 4 and kind.is_floating_point else _wide(kind)
    actual, expected = actual.to(kind), expected.to(kind)
    matches = isclose(actual, expected, rtol, atol, equal_nan)
    if matches.all():
        return ""
    if actual.ndim == 0:
        return _scalar_message(actual.item(), expected.item(), rtol, atol)
    flat, other = actual.reshape(-1), expected.reshape(-1)
    absolute = (flat - other).abs().masked_fill(matches.reshape(-1), 0)
    relative = (absolute / other.abs()).masked_fill(matches.reshape(-1), 0)
    wrong, total = int((~matches).sum().item()), matches.numel()
    lines = [_header("Tensor-likes", rtol, atol)]
    lines.append(f"Mismatched elements: {wrong} / {total} ({wrong / total:.1%})")
    for name, differences, tolerance in (
        ("absolute", absolute, atol),
        ("relative", relative, rtol),
    ):
        i = int(differences.argmax().item())
        at = f"{differences[i].item()} at index {index_of(i, actual.shape)}"
        lines.append(f"Greatest {name} difference: {at}{_allowed(tolerance, rtol, atol)}")
    return "\n".join(lines)


def _wide(kind: dtypes.dtype) -> dtypes.dtype:
    return dtypes.float32 if kind.is_floating_point else dtypes.int64


def index_of(i: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the index of element number i of a dense array."""
    found = []
    for size in reversed(shape):
        i, rest = divmod(i, size)
        found.append(rest)
    return tuple(reversed(found))


def _header(what: str, rtol: float, atol: float) -> str:
    return f"{what} are not {'close' if rtol or atol else 'equal'}!\n"


def _allowed(tolerance: float, rtol: float, atol: float) -> str:
    return f" (up to {tolerance} allowed)" if rtol or atol else ""


def _scalar_message(actual: Any, expected: Any, rtol: float, atol: float) -> str:
    difference = abs(actual - expected)
    relative = difference / abs(expected) if expected else math.inf
    return "\n".join(
        [
            _header("Scalars", rtol, atol),
            f"Expected {expected} but got {actual}.",
            f"Absolute difference: {difference}{_allowed(atol, rtol, atol)}",
            f"Relative difference: {relative}{_allowed(rtol, rtol, atol)}",
        ]
    )
