"""Ops that a library adds: from the registry to functions, methods and derivative rules.

A function is made from the text of its definition, so that its signature, its defaults and its
messages for wrong arguments are Python's own. Reductions and row-wise ops go along the last
dimension in C++: here inputs are broadcast, and the dimension named is brought there and back.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Sequence
from typing import Any

from .. import _core, dtypes
from .._core import Node, full
from ..autograd.derivatives import publish_derivative
from ..functions.elementwise import forms_of
from ..functions.shaping import broadcast_to
from ..tensor import Op, Tensor, apply, ops

__all__ = ["derived_gradients", "load_library"]

Function = Callable[..., Any]
_published: dict[str, Function] = {}


def load_library(path: str, source: str = "") -> dict[str, Function]:
    """Load a compiled library of ops: all of its ops become functions, or none does.

    `source` says what the library was made from: its ops replace those that the same source gave
    before. Raises ValueError for a name that is taken, RuntimeError for a library that cannot be
    loaded or was built for another version.
    """
    made = _core.load_library(path, source, _check)
    return {op.name: publish(op) for op in made}


def _check(name: str, parameters: list[str]) -> None:
    """Raise ValueError when an op may not have this name, or a parameter not its own."""
    import backtrail

    if keyword.iskeyword(name):
        raise ValueError(f"an op cannot be named {name!r}: the name is a word of Python")
    for place, holder in (("Tensor", Tensor), ("backtrail", backtrail)):
        for taken in (name, name + "_"):
            if name not in _published and hasattr(holder, taken):
                raise ValueError(f"the name {name!r} is taken: {place} has a member {taken}")
    for i, parameter in enumerate(parameters):
        if not parameter.isidentifier() or keyword.iskeyword(parameter) or parameter[0] == "_":
            raise ValueError(f"{name}: {parameter!r} cannot be the name of a parameter in Python")
        if parameter in parameters[:i]:
            raise ValueError(f"{name}: two parameters are named {parameter!r}")


def publish(op: Op) -> Function:
    """Make an op of a library a function and a method, with its derivative."""
    from ..functions import functional

    info = _core.foreign_info(op)
    assert info is not None
    function = _function(op, info)
    ops[op.name] = op
    _published[op.name] = function
    setattr(Tensor, op.name, function)
    setattr(functional, op.name, function)
    if op.name + "_" in vars(Tensor):  # of the op that this one replaces
        delattr(Tensor, op.name + "_")
    if op.kind == "pointwise":
        publish_derivative(op)
        pointwise = _core.pointwise_info(op)
        if not any(pointwise["mask_inputs"]) and not pointwise["mask_output"]:
            names = [name for name, _ in info["inputs"]]
            setattr(Tensor, op.name + "_", forms_of(op, names)[2])
    else:
        op.vjp = op.graph_vjp = _rule
    return function


# ---- functions


def _function(op: Op, info: dict[str, Any]) -> Function:
    """Return the function of an op: inputs, what its kind adds, attributes."""
    names = [name for name, _ in info["inputs"]]
    number = " | float" if len(names) > 1 else ""
    inputs = [
        f"{name}: Tensor{number if kind == 'floating' else ''}" for name, kind in info["inputs"]
    ]
    attrs = [f"{name}: {kind} = _defaults[{i}]" for i, (name, kind, _) in enumerate(info["attrs"])]
    added = {
        "reduction": ["dim: int | Sequence[int] | None = None", "keepdim: bool = False"],
        "rowwise": ["dim: int = -1"],
    }.get(op.kind, [])
    star = ["*"] if attrs and op.kind != "pointwise" else []
    values = f"({''.join(f'{name}, ' for name, _, _ in info['attrs'])})"
    given = "".join(f", {parameter.partition(':')[0]}" for parameter in added)
    call = f"_call(_op, ({', '.join(names)},), {values}{given})"
    result = "Tensor" if op.n_outputs == 1 else f"tuple[{', '.join(['Tensor'] * op.n_outputs)}]"
    space: dict[str, Any] = {
        "__name__": "backtrail",
        "Sequence": Sequence,
        "Tensor": Tensor,
        "_call": {"pointwise": apply, "reduction": _reduce, "rowwise": _along}.get(op.kind, _plain),
        "_defaults": [default for _, _, default in info["attrs"]],
        "_op": op,
    }
    parameters = ", ".join([*inputs, *added, *star, *attrs])
    text = f"def {op.name}({parameters}) -> {result}:\n    return {call}\n"
    exec(compile(text, f"<op {op.name}>", "exec"), space)
    function: Function = space[op.name]
    function.__doc__ = op.__doc__
    op.input_kinds = tuple(kind for _, kind in info["inputs"])
    return function


def _converted(op: Op, inputs: tuple[Any, ...]) -> list[Tensor]:
    """Give the floating inputs one dtype; numbers become tensors."""
    if len(inputs) == 1 and isinstance(inputs[0], Tensor):
        return [inputs[0]]
    kinds = op.input_kinds
    floating = [x for x, kind in zip(inputs, kinds, strict=True) if kind == "floating"]
    dtype = None
    if len(floating) > 1:
        types = {x.dtype if isinstance(x, Tensor) else type(x) for x in floating}
        if len(types) > 1:
            _refuse_others(op, inputs)
            dtype = _core.result_type(*floating)
    found = []
    for i, (x, kind) in enumerate(zip(inputs, kinds, strict=True)):
        if not isinstance(x, Tensor):
            if kind != "floating" or dtype is None:
                raise TypeError(f"{op.name}: input {i} is {type(x).__name__}; expected a Tensor")
            x = full((), x, dtype)
        elif kind == "floating":
            if dtype is not None and x.dtype is not dtype and x.dtype.is_floating_point:
                x = x.to(dtype)
        elif kind == "int64" and x.dtype in (dtypes.int32, dtypes.uint8):
            x = x.to(dtypes.int64)
        found.append(x)
    return found


def _refuse_others(op: Op, inputs: tuple[Any, ...]) -> None:
    for i, x in enumerate(inputs):
        if not isinstance(x, (Tensor, int, float)):
            raise TypeError(
                f"{op.name}: input {i} is {type(x).__name__}; expected a Tensor or a number"
            )


def _broadcast(op: Op, inputs: tuple[Any, ...]) -> list[Tensor]:
    """Return the inputs with one dtype and one shape."""
    found = _converted(op, inputs)
    if len(found) > 1 and any(x.shape != found[0].shape for x in found):
        shape = _core.broadcast_shape(op.name, [tuple(x.shape) for x in found])
        found = [x if x.shape == shape else broadcast_to(x, shape) for x in found]
    return found


def _plain(op: Op, inputs: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
    return apply(op, tuple(_converted(op, inputs)), attrs)


def _dim(op: Op, dim: Any, ndim: int) -> int:
    reach = max(ndim, 1)
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"{op.name}: dim must be an int; got {type(dim).__name__}")
    if not -reach <= dim < reach:
        raise IndexError(
            f"{op.name}: dimension {dim} is out of range: expected one in [{-reach}, {reach - 1}]"
        )
    return int(dim) % reach


def _along(op: Op, inputs: tuple[Any, ...], attrs: tuple[Any, ...], dim: int) -> Tensor:
    """Apply a row-wise op along a dimension."""
    if dim == -1 and len(inputs) == 1 and isinstance(inputs[0], Tensor) and inputs[0].ndim:
        y: Tensor = apply(op, inputs, attrs)  # the usual case, without delay
        return y
    found = _broadcast(op, inputs)
    ndim = found[0].ndim
    dim = _dim(op, dim, ndim)
    if ndim == 0:
        y = apply(op, tuple(x.reshape(1) for x in found), attrs)
        return y.reshape(()) if y.shape[0] == 1 else y
    if dim == ndim - 1:
        return apply(op, tuple(found), attrs)
    return apply(op, tuple(x.transpose(dim, -1) for x in found), attrs).transpose(dim, -1)


def _reduce(
    op: Op, inputs: tuple[Any, ...], attrs: tuple[Any, ...], dim: Any, keepdim: bool
) -> Tensor:
    """Apply a reduction over dimensions: one, several, or all."""
    first = inputs[0]
    if dim == -1 and not keepdim and len(inputs) == 1 and isinstance(first, Tensor) and first.ndim:
        y: Tensor = apply(op, inputs, attrs)  # the usual case, without delay
        return y
    found = _broadcast(op, inputs)
    shape = found[0].shape
    ndim = len(shape)
    if dim is None or (isinstance(dim, Sequence) and not dim):
        dims = list(range(ndim))
    else:
        listed = list(dim) if isinstance(dim, Sequence) else [dim]
        dims = [_dim(op, d, ndim) for d in listed]
        if len(set(dims)) < len(dims):
            raise RuntimeError(f"{op.name}: a dimension is named twice in {tuple(listed)}")
    kept = [d for d in range(ndim) if d not in dims]
    if ndim and dims == [ndim - 1]:
        y = apply(op, tuple(found), attrs)
    else:
        rows, n = [shape[d] for d in kept], 1
        for d in sorted(dims) if ndim else ():
            n *= shape[d]
        order = [*kept, *sorted(dims)] if ndim else []
        if order != list(range(ndim)):
            found = [x.permute(*order) for x in found]
        y = apply(op, tuple(x.reshape(*rows, n) for x in found), attrs)
    if keepdim and ndim:
        y = y.reshape([1 if d in dims else size for d, size in enumerate(shape)])
    return y


# ---- derivatives


def _rule(node: Node, grads: Any) -> list[Tensor | None]:
    """The gradients by the op's own derivative, an op with such a rule itself."""
    return _gradients(node, grads, False)


def _gradients(node: Node, grads: Any, derived: bool) -> list[Tensor | None]:
    op = node.op
    derivative, has_gradient = _derivative(op, derived)
    given = [grads] if node.n_outputs == 1 else list(grads)
    for i, g in enumerate(given):
        if g is None:
            shape, dtype = node.meta(node.n_inputs + i)
            given[i] = full(shape, 0, dtype)
    found = apply(derivative, (*node.saved, *given), node.attrs)
    parts = iter((found,) if isinstance(found, Tensor) else found)
    return [next(parts) if has else None for has in has_gradient]


def _derivative(op: Op, derived: bool = False) -> tuple[Op, list[bool]]:
    """Return the op that computes gradients of an op, and which of its inputs have one."""
    key = "derived" if derived else "derivative"
    if key not in op.__dict__:
        made, has_gradient = _core.derivative_op(op, derived)
        made.vjp = made.graph_vjp = _rule
        op.__dict__[key] = made, has_gradient
    found: tuple[Op, list[bool]] = op.__dict__[key]
    return found


def derived_gradients(
    op: Op, inputs: tuple[Tensor, ...], grads: Sequence[Tensor], attrs: tuple[Any, ...] = ()
) -> list[Tensor | None]:
    """Return the gradients that `forward` alone gives for an op whose `backward` is written.

    The inputs and gradients are as C++ has them: of one shape, rows last. For tests.
    """
    derivative, _ = _derivative(op, True)
    found = apply(derivative, (*inputs, *grads), attrs)
    parts = iter((found,) if isinstance(found, Tensor) else found)
    return [next(parts) if kind == "floating" else None for kind in op.input_kinds]
