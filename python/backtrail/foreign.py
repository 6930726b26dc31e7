"""Ops that a library adds: from the registry to functions, methods and derivative rules.

A function is made from the text of its definition, so that its signature, its defaults and its
messages for wrong arguments are Python's own.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

from . import _core
from .derivatives import publish_derivative
from .elementwise import in_place_function
from .tensor import Op, Tensor, apply, ops

__all__ = ["load_library"]

Function = Callable[..., Any]
_published: dict[str, Function] = {}


def load_library(path: str, source: str = "") -> dict[str, Function]:
    """Load a compiled library of ops: all of its ops become functions, or none does.

    `source` says what the library was made from: its ops replace those that the same source gave
    before. Raises ValueError for a name that is taken, RuntimeError for a library that cannot be
    loaded or was built for another version.
    """
    made = {op.name: op for op in _core.load_library(path, source, _check_name)}
    return {name: publish(op) for name, op in made.items()}


def _check_name(name: str) -> None:
    """Raise ValueError when an op may not have this name."""
    import backtrail

    if keyword.iskeyword(name):
        raise ValueError(f"an op cannot be named {name!r}: the name is a word of Python")
    if name in _published:
        return
    for place, holder in (("Tensor", Tensor), ("backtrail", backtrail)):
        if hasattr(holder, name):
            raise ValueError(f"the name {name!r} is taken: {place} has a member of that name")


def publish(op: Op) -> Function:
    """Make an op of a library a function and a method, with its derivative."""
    from . import functional

    info = _core.foreign_info(op)
    assert info is not None
    function = _function(op, info)
    publish_derivative(op)
    ops[op.name] = op
    _published[op.name] = function
    setattr(Tensor, op.name, function)
    pointwise = _core.pointwise_info(op)
    if not any(pointwise["mask_inputs"]) and not pointwise["mask_output"]:
        setattr(Tensor, op.name + "_", in_place_function(op))
    setattr(functional, op.name, function)
    return function


def input_names(info: dict[str, Any]) -> list[str]:
    """Return a name for every input: the author's, or those that built-in ops have."""
    n = len(info["inputs"])
    usual = ["input", *(["other"] if n == 2 else [f"tensor{i}" for i in range(1, n)])]
    return [name or u for (name, _), u in zip(info["inputs"], usual, strict=True)]


def _function(op: Op, info: dict[str, Any]) -> Function:
    inputs = input_names(info)
    names = [name for name, _, _ in info["attrs"]]
    _check_parameters(op, [*inputs, *names])
    number = " | float" if len(inputs) > 1 else ""
    parameters = [f"{name}: Tensor{number}" for name in inputs]
    parameters += [
        f"{name}: {kind} = _defaults[{i}]" for i, (name, kind, _) in enumerate(info["attrs"])
    ]
    call = f"_apply(_op, ({', '.join(inputs)},), ({''.join(f'{n}, ' for n in names)}))"
    text = f"def {op.name}({', '.join(parameters)}) -> Tensor:\n    return {call}\n"
    space: dict[str, Any] = {
        "__name__": "backtrail",
        "Tensor": Tensor,
        "_apply": apply,
        "_op": op,
        "_defaults": [default for _, _, default in info["attrs"]],
    }
    exec(compile(text, f"<op {op.name}>", "exec"), space)
    function: Function = space[op.name]
    function.__doc__ = op.__doc__
    return function


def _check_parameters(op: Op, names: list[str]) -> None:
    for i, name in enumerate(names):
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            raise ValueError(f"{op.name}: {name!r} cannot be the name of a parameter in Python")
        if name in names[:i]:
            raise ValueError(f"{op.name}: two parameters are named {name!r}")
