"""PyTorch's own database of operators against ours: values, derivatives, memory, errors.

Run with `-m peer`. Every entry whose function we have is called on PyTorch's sample inputs.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import backtrail as bt
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

DTYPES = ("float64", "float32", "int64", "bool")


# What is drawn differs in any case, and what is not initialised too; tests/test_random.py.
DRAWN = {
    "bernoulli", "empty", "empty_like", "multinomial", "new_empty", "new_empty_strided", "normal",
    "rand_like", "randint", "randint_like", "randn", "randn_like", "uniform", "empty_strided",
    "empty_permuted", "exponential", "cauchy", "geometric", "log_normal",
    "nn.functional.alpha_dropout", "nn.functional.dropout", "nn.functional.dropout2d",
    "nn.functional.dropout3d", "nn.functional.feature_alpha_dropout_with_train",
    "nn.functional.feature_alpha_dropout", "nn.functional.rrelu", "pca_lowrank", "svd_lowrank",
}  # fmt: skip


# Called as methods: as functions these take other arguments, or are something else.
CALLS = {
    "nn.functional.embedding": lambda weight, index, **k: bt.nn.functional.embedding(
        index, weight, **k
    ),
}
METHODS = {"where", "bfloat16", "bool", "double", "float", "int", "long", "byte"}


def ours(entry: Any) -> Callable[..., Any] | None:
    """Our function of the entry's name, or None."""
    if entry.name in CALLS:
        return CALLS[entry.name]
    if entry.name in METHODS:
        return getattr(bt.Tensor, entry.name)
    place: Any = bt
    for part in entry.name.split("."):
        place = getattr(place, part, None)
        if place is None:
            break
    if place is None and "." not in entry.name:
        place = getattr(bt.Tensor, entry.name, None)
    return place.__get__ if isinstance(place, property) else place


def entries() -> dict[str, Any]:
    from torch.testing._internal.common_methods_invocations import op_db

    found = {}
    for entry in op_db:
        if ours(entry) is not None and entry.name not in DRAWN:
            variant = entry.variant_test_name
            found[f"{entry.name}.{variant}" if variant else entry.name] = entry
    return found


ENTRIES = entries()
WHOLE = {torch.float64: bt.float64, torch.float32: bt.float32, torch.int64: bt.int64,
         torch.int32: bt.int32, torch.uint8: bt.uint8, torch.bool: bt.bool,
         torch.bfloat16: bt.bfloat16}  # fmt: skip


class NoCounterpartError(Exception):
    """An argument of a kind that we do not have: complex numbers, float16, sparse layouts."""


def convert(x: Any) -> Any:
    """A tensor, or whatever holds some, in our types."""
    if isinstance(x, torch.Tensor):
        if x.dtype not in WHOLE or x.layout is not torch.strided:
            raise NoCounterpartError(str(x.dtype))
        if x.dtype is torch.bfloat16:
            return bt.tensor(x.detach().float().numpy()).to(bt.bfloat16)
        if x.device.type != "cpu":
            raise NoCounterpartError(str(x.device))
        # The whole storage, so that views show the same part of it.
        storage = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage()).numpy().copy()
        place = x.shape, x.stride(), x.storage_offset()
        if x.ndim > 8:
            raise NoCounterpartError("more than 8 dimensions")
        made = bt.from_numpy(storage).as_strided(*place).detach()
        made.requires_grad = x.requires_grad
        return made
    if isinstance(x, torch.dtype):
        if x not in WHOLE:
            raise NoCounterpartError(str(x))
        return WHOLE[x]
    if isinstance(x, torch.device):
        if x.type != "cpu":
            raise NoCounterpartError(str(x))
        return "cpu"
    if isinstance(x, (torch.layout, torch.memory_format, complex)):
        raise NoCounterpartError(str(x))
    if isinstance(x, (list, tuple)):
        items = [convert(v) for v in x]
        return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
    if isinstance(x, dict):
        return {k: convert(v) for k, v in x.items()}
    if isinstance(x, slice):
        return slice(*(convert(v) for v in (x.start, x.stop, x.step)))
    return x


def flat(x: Any) -> list[Any]:
    if isinstance(x, (list, tuple)):
        return [y for v in x for y in flat(v)]
    if isinstance(x, dict):
        return [y for v in x.values() for y in flat(v)]
    return [x]


def tensors(x: Any) -> list[Any]:
    return [t for t in flat(x) if isinstance(t, (torch.Tensor, bt.Tensor))]


def array(t: Any) -> Any:
    t = t.detach()
    t = t.float() if str(t.dtype).endswith("bfloat16") else t
    return t.numpy(force=True)


def unlike(t: Any, b: Any, where: str, slack: float = 1) -> str | None:
    """What differs between PyTorch's result and ours, or None."""
    if not isinstance(t, torch.Tensor):
        return None if t == b or (t != t and b != b) else f"{where}: {t} {b}"
    if not isinstance(b, bt.Tensor):
        return f"{where}: {type(b).__name__} for a tensor"
    if tuple(t.shape) != tuple(b.shape):
        return f"{where} shape: {tuple(t.shape)} {tuple(b.shape)}"
    if str(t.dtype).removeprefix("torch.") != str(b.dtype).split(".")[-1]:
        return f"{where} dtype: {t.dtype} {b.dtype}"
    x, y = array(t), array(b)
    tolerance = {"float64": 1e-9, "float32": 2e-5}.get(str(x.dtype), 0) * slack
    if str(b.dtype).endswith("bfloat16"):
        tolerance = 2e-2
    scale = 1 + np.max(np.abs(np.where(np.isfinite(x), x, 0)), initial=0.0) if tolerance else 1
    with np.errstate(all="ignore"):
        close = np.isclose(x, y, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    if close.all():
        return None
    i = np.unravel_index(int(np.argmin(close)), x.shape) if x.ndim else ()
    i = tuple(int(k) for k in i)
    return f"{where} value at {i}: {x[i]} {y[i]}"


def shared(inputs: Any, results: Any) -> list[bool]:
    """For each result whether it lies in the memory of an input."""
    lie = [array(t) for t in tensors(inputs) if not str(t.dtype).endswith("bfloat16")]
    return [any(np.shares_memory(array(r), a) for a in lie) for r in tensors(results)]


def samples(entry: Any, dtype: str, grad: bool) -> list[Any]:
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    if kind not in entry.dtypes:
        return []
    every = entry.sample_inputs("cpu", kind, requires_grad=grad)
    return [s for s in every if not s.kwargs.get("dropout_p")][:60]


def given(sample: Any) -> tuple[Any, Any]:
    return (sample.input, *sample.args), sample.kwargs


def weighted(L: Any, results: Any, post: Any = None) -> Any:
    total = None
    for k, y in enumerate(tensors(results)):
        if not y.requires_grad:
            continue
        w = np.cos(np.arange(y.numel()) + k).reshape(tuple(y.shape))
        term = (y * L.tensor(w, dtype=y.dtype)).sum()
        total = term if total is None else total + term
    return total


def derivatives(L: Any, grad: Any, results: Any, inputs: list[Any], second: bool) -> list[Any]:
    loss = weighted(L, results)
    if loss is None:
        return []
    first = grad(loss, inputs, create_graph=second, allow_unused=True)
    found = list(first)
    again = weighted(L, [g for g in first if g is not None]) if second else None
    if again is not None:
        found += grad(again, inputs, allow_unused=True)
    return found


def differences(entry: Any, dtype: str) -> list[str]:
    """What differs in values, memory, derivatives and in-place forms, without repetitions."""
    found: dict[str, None] = {}
    function = ours(entry)
    assert function is not None
    smooth = dtype == "float64" and entry.supports_autograd
    for sample in samples(entry, dtype, smooth):
        args, kwargs = given(sample)
        try:
            own_args, own_kwargs = convert(args), convert(kwargs)
        except NoCounterpartError:
            continue
        try:
            expected = entry.op(*args, **kwargs)
        except Exception:
            continue
        told = dtype if dtype in ("int64", "bool") else "float"
        try:
            result = function(*own_args, **own_kwargs)
        except Exception as e:
            found[f"{told} raises {type(e).__name__}: {str(e)[:150]}"] = None
            continue
        t, b = flat(expected), flat(result)
        if len(t) != len(b):
            found[f"{told}: {len(t)} results, ours {len(b)}"] = None
            continue
        wrong = [unlike(x, y, told) for x, y in zip(t, b, strict=True)]
        found.update((w, None) for w in wrong if w)
        if any(wrong):
            continue
        views = shared((args, kwargs), expected), shared((own_args, own_kwargs), result)
        if views[0] != views[1]:
            found[f"memory: shared {views[0]}, ours {views[1]}"] = None
        if smooth:
            message = _compare_derivatives(
                entry, args, kwargs, expected, own_args, own_kwargs, result
            )
            if message:
                found[message] = None
        message = _compare_in_place(entry, sample, told)
        if message:
            found[message] = None
    return list(found)


def _compare_derivatives(
    entry: Any, args: Any, kwargs: Any, expected: Any, own_args: Any, own_kwargs: Any, result: Any
) -> str | None:
    of = [x for x in tensors((args, kwargs)) if x.requires_grad]
    own = [x for x in tensors((own_args, own_kwargs)) if x.requires_grad]
    try:
        wanted = derivatives(torch, torch.autograd.grad, expected, of, entry.supports_gradgrad)
    except Exception:
        return None
    try:
        got = derivatives(bt, bt.autograd.grad, result, own, entry.supports_gradgrad)
    except Exception as e:
        return f"derivative raises {type(e).__name__}: {str(e)[:150]}"
    if not wanted and not got:
        return None
    wanted += [None] * (len(got) - len(wanted))
    got += [None] * (len(wanted) - len(got))
    for k, (x, y) in enumerate(zip(wanted, got, strict=True)):
        order = "first" if k < len(of) else "second"
        if x is None and y is None:
            continue
        like = of[k % len(of)]
        x = torch.zeros_like(like) if x is None else x
        y = bt.zeros(*x.shape, dtype=bt.float64) if y is None else y
        message = unlike(x, y, f"{order} derivative", 1e3 if order == "second" else 10)
        if message:
            return message
    return None


def _compare_in_place(entry: Any, sample: Any, told: str) -> str | None:
    method = getattr(bt.Tensor, entry.name + "_", None)
    if (
        entry.inplace_variant is None
        or method is None
        or not isinstance(sample.input, torch.Tensor)
    ):
        return None
    args, kwargs = copy.deepcopy(sample.args), copy.deepcopy(sample.kwargs)
    target = sample.input.detach().clone()
    own = convert(target)
    try:
        own_args, own_kwargs = convert(args), convert(kwargs)
        with torch.no_grad():
            entry.inplace_variant(target, *args, **kwargs)
    except Exception:
        return None
    try:
        with bt.no_grad():
            back = method(own, *own_args, **own_kwargs)
    except Exception as e:
        return f"{told} in place raises {type(e).__name__}: {str(e)[:120]}"
    return (
        "in place: not the tensor itself"
        if back is not own
        else unlike(target, own, f"{told} in place")
    )


def accepted(entry: Any) -> list[str]:
    """The wrong inputs that PyTorch refuses and we do not."""
    found = []
    function = ours(entry)
    assert function is not None
    if entry.error_inputs_func is None:
        return []
    for wrong in entry.error_inputs("cpu"):
        args, kwargs = given(wrong.sample_input)
        try:
            own_args, own_kwargs = convert(args), convert(kwargs)
        except NoCounterpartError:
            continue
        try:
            function(*own_args, **own_kwargs)
        except Exception:
            continue
        found.append(f"accepts what is refused with: {wrong.error_regex[:120]}")
    return found


# Binary operators take a number first and numbers alone; `out` may lie on an input.
TIES = "PyTorch's order of equal elements is not stable; ours is"
SHADOW = r"accepts what is refused with: (|Expected all tensors to be on the same.*|unsupported.*)$"
# name: (pattern of the differences, why they are there). An entry without a variant covers all.
KNOWN: dict[str, tuple[str, str]] = {
    "index_fill": (
        "first derivative", "of an index that is there twice: ours is that of the write that stayed"
    ),
    "cat": ("accepts", "out= is written to when the result is complete; lists are sequences"),
    "einsum": (".*raises", "the entry gives the operands before the equation"),
    "linspace": ("int64 value", "PyTorch's vectors round a step of float32 once more"),
    "char": (".*", "no such dtype"),
    "half": (".*", "no such dtype"),
    "short": (".*", "no such dtype"),
    "cdouble": (".*", "no such dtype"),
    "cfloat": (".*", "no such dtype"),
    "chalf": (".*", "no such dtype"),
    "argsort": ("bool value", TIES),
    "kthvalue": ("int64 value", TIES),
    "sort": ("bool value", TIES),
    "topk": ("(int64|bool) value", TIES),
    "linalg.norm": ("second derivative", "PyTorch has NaN at 0"),
    "linalg.vector_norm": ("second derivative", "PyTorch has NaN at 0"),
    "nn.functional.linear_cross_entropy": (
        "second derivative", "PyTorch's chunks have lost their graph: the derivative is 0"
    ),
    "norm": ("float raises RuntimeError: norm: p is 'nuc'", "linalg.matrix_norm has it"),
    "nn.functional.embedding": ("float raises", "PyTorch reads beside a table that is too small"),
    "zero_": (".*", "the samples require grad; in place on a leaf is refused"),
}  # fmt: skip


def known(name: str, difference: str) -> bool:
    """Whether a difference is one of the table, or one that all binary operators have."""
    if re.match(SHADOW, difference):
        return True
    for key in (
        name,
        name.split(".")[0] if "functional" not in name else name.rsplit(".", 1)[0],
        ENTRIES[name].name,
    ):
        if key in KNOWN and re.match(KNOWN[key][0], difference):
            return True
    return False


@pytest.mark.parametrize("name", ENTRIES)
def test_entry(name: str) -> None:
    entry = ENTRIES[name]
    found = [d for dtype in DTYPES for d in differences(entry, dtype)] + accepted(entry)
    assert [d for d in dict.fromkeys(found) if not known(name, d)] == []
