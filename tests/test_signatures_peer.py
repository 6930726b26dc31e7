"""Names, order and kinds of parameters against PyTorch's schemas; calls by position and by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import backtrail as bt
import pytest
from signatures import FUNCTIONS, METHODS, parameters, rows
from test_forms import OUT_ARGUMENTS, WITH_OUT, out_arguments

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

# What a schema has beside what PyTorch's Python takes, or is about devices.
UNUSED = {"pin_memory", "layout", "device", "memory_format", "generator"}
# Overloads that only TorchScript has, or PyTorch writes in Python with other names.
ELSEWHERE = {
    *("atleast_1d", "broadcast_tensors", "dropout", "einsum", "is_grad_enabled", "meshgrid"),
    *("result_type", "save", "split", "tensordot", "initial_seed", "seed", "manual_seed"),
    *(
        "diff",
        "std_mean",
        "var_mean",
        "get_default_dtype",
        "set_grad_enabled",
        "detach_",
        "pin_memory",
        "copy_",
        "where",
        "size",
    ),
    *("stride", "to", "type", "tolist", "item", "numpy", "equal", "is_contiguous", "dim", "data"),
    *("unflatten", "load", "compile", "range", "is_complex", "is_floating_point", "numel", "norm"),
}


def schemas() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for schema in torch._C._jit_get_all_schemas():
        space, name = schema.name.split("::")
        if space == "aten" and usable(schema):
            found.setdefault(name, []).append(schema)
    return found


def usable(schema: Any) -> bool:
    kinds = [str(a.type) for a in schema.arguments]
    names = [a.name for a in schema.arguments]
    if "Dimname" in str(schema) or "omplex" in str(schema) or "dtype" in schema.overload_name:
        return False
    if not kinds or kinds[0] in ("number", "str", "bool", "float") or names[0] in ("a", "b", "l"):
        return False
    return (
        (names[0] != "self" or kinds[0] == "Tensor")
        and schema.overload_name not in ("t", "int", "float", "left_t", "right_")
        and "reverse" not in names
    )


def signature(schema: Any, method: bool) -> tuple[str, ...]:
    """The parameters of a schema, the keyword-only ones after a star."""
    positional: list[str] = []
    named: list[str] = []
    outs = [a.name for a in schema.arguments if a.is_out]
    for a in schema.arguments:
        if a.name in UNUSED or a.name in outs:
            continue
        name = "input" if a.name == "self" else a.name
        (named if a.kwarg_only else positional).append(name)
    if method:
        positional.remove("input")
    return (*positional, *(["*"] if named or outs else []), *named, *(["out"] if outs else []))


def wanted(method: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name and parameters of every overload that both libraries have."""
    ours, theirs = (bt.Tensor, torch.Tensor) if method else (bt, torch)
    for name, overloads in sorted(schemas().items()):
        if name.startswith("_") or name in ELSEWHERE or not hasattr(ours, name):
            continue
        if not callable(getattr(theirs, name, None)) or inspect.isclass(getattr(ours, name)):
            continue
        for schema in overloads:
            out = any(a.is_out for a in schema.arguments)
            if method and (out or schema.arguments[0].name != "self"):
                continue
            if out and not takes_out(name):
                continue
            yield name, signature(schema, method)


def takes_out(name: str) -> bool:
    """PyTorch's Python binds few of the overloads with out: ask it. Its documents say more."""
    if name.endswith("_like") or name in ("std_mean", "var_mean", "tril_indices", "triu_indices"):
        return False
    try:
        getattr(torch, name)(*[object()] * 9, out=object())
    except Exception as error:
        documented = "out=" in (getattr(torch, name).__doc__ or "").replace(" ", "")
        return "unexpected keyword argument 'out'" not in str(error) and documented
    return False


@pytest.mark.parametrize("method", [False, True])
def test_the_table_is_pytorchs(method: bool) -> None:
    table = rows(METHODS if method else FUNCTIONS)
    missing = {(n, s) for n, s in wanted(method)} - {
        (n, s) for n, all_ in table.items() for s in all_
    }
    assert not missing


DRAWN = ("empty", "bernoulli", "multinomial", "normal", "rand", "randint", "randn", "randperm")
CALLED = sorted(
    name
    for name in {*OUT_ARGUMENTS, *WITH_OUT} - {*DRAWN, *ELSEWHERE}
    if hasattr(torch, name) and hasattr(bt, name)
)


def theirs(value: Any) -> Any:
    if isinstance(value, bt.Tensor):
        return torch.tensor(value.tolist(), dtype=getattr(torch, value.dtype.name))
    return type(value)(map(theirs, value)) if isinstance(value, (list, tuple)) else value


def flat(result: Any) -> list[Any]:
    return [r.tolist() for r in (result if isinstance(result, tuple) else (result,))]


def close(got: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return len(got) == len(expected) and all(map(close, got, expected))
    return bool(got == pytest.approx(expected, rel=1e-6, nan_ok=True))


def named_call(name: str, args: tuple[Any, ...]) -> dict[str, Any] | None:
    """The arguments by the names of the first overload that PyTorch takes them by."""
    for parameters_ in rows(FUNCTIONS)[name]:
        names = parameters(parameters_)[0][: len(args)]
        if len(names) == len(args):
            try:
                getattr(torch, name)(**dict(zip(names, theirs(args), strict=True)))
            except (TypeError, RuntimeError):
                continue
            return dict(zip(names, args, strict=True))
    return None


@pytest.mark.parametrize("name", CALLED)
def test_calls_by_position_and_by_name_agree_with_pytorchs(name: str) -> None:
    args = out_arguments(name)
    expected = flat(getattr(torch, name)(*theirs(args)))
    assert close(flat(getattr(bt, name)(*args)), expected)
    by_name = named_call(name, args) if name in rows(FUNCTIONS) else None
    if by_name is not None:
        assert close(flat(getattr(bt, name)(**by_name)), expected)


def test_every_in_place_method_is_there_whose_function_is() -> None:
    theirs_ = {n[:-1] for n in dir(torch.Tensor) if n.endswith("_") and n[0] != "_"}
    lacking = {n for n in theirs_ if hasattr(bt.Tensor, n) and not hasattr(bt.Tensor, n + "_")}
    assert lacking <= {"apply", "map"}
