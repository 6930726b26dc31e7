"""What an op is checked on: the inputs that were given, or inputs invented from the registry."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes
from .._core import Op, foreign_info, pointwise_info
from ..functions.creation import tensor
from ..functions.random import Generator, rand, randint
from ..tensor import Tensor, apply, ops

DEFAULT_RANGE = (-3.0, 3.0)


class Sample:
    """Arguments of one call: its tensors by name, whatever they are nested in, and the rest."""

    def __init__(self, args: Sequence[Any], kwargs: dict[str, Any], names: Sequence[str]) -> None:
        self.args, self.kwargs = tuple(args), dict(kwargs)
        self.large = False  # for the checks that need large tensors only
        self.tensors: list[Tensor] = []
        self.names: list[str] = []
        for i, value in enumerate(self.args):
            self._collect(value, names[i] if i < len(names) else f"input {i}")
        for key, value in self.kwargs.items():
            self._collect(value, key)

    def _collect(self, value: Any, name: str) -> None:
        if isinstance(value, Tensor):
            self.tensors.append(value)
            self.names.append(name)
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                self._collect(item, f"{name}[{i}]")
        elif isinstance(value, dict):
            for key, item in value.items():
                self._collect(item, f"{name}[{key!r}]")

    def call(self, function: Callable[..., Any], tensors: Sequence[Tensor]) -> Any:
        """Call with other tensors in the places of these."""
        rest = iter(tensors)
        args = [_replaced(value, rest) for value in self.args]
        return function(*args, **{k: _replaced(v, rest) for k, v in self.kwargs.items()})

    def floats(self) -> list[int]:
        return [i for i, t in enumerate(self.tensors) if t.dtype.is_floating_point]

    def wanted(self) -> list[int]:
        """The inputs to differentiate: those that require grad, or all floats when none does."""
        asked = [i for i, t in enumerate(self.tensors) if t.requires_grad]
        return asked or self.floats()

    def cast(self, kind: dtypes.dtype) -> list[Tensor]:
        """Dense copies of the tensors, those of floats in another type."""
        found = []
        for t in self.tensors:
            t = t.detach()
            t = t.to(kind) if t.dtype.is_floating_point else t
            found.append(t.clone())
        return found

    def __str__(self) -> str:
        parts = [_shown(v) for v in self.args] + [
            f"{k}={_shown(v)}" for k, v in self.kwargs.items()
        ]
        return f"({', '.join(parts)})"


def _replaced(value: Any, rest: Any) -> Any:
    if isinstance(value, Tensor):
        return next(rest)
    if isinstance(value, (list, tuple)):
        items = [_replaced(item, rest) for item in value]
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, dict):
        return {key: _replaced(item, rest) for key, item in value.items()}
    return value


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype.name}[{', '.join(map(str, value.shape))}]"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(_shown, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(value)


def flatten(value: Any) -> list[Tensor]:
    """Return the tensors of a result, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in flatten(item)]
    if isinstance(value, dict):
        return [t for item in value.values() for t in flatten(item)]
    return [tensor(value)] if isinstance(value, (bool, int, float)) else []


class Subject:
    """What is checked: a function, and what the registry knows of the op behind it."""

    def __init__(self, function: Any) -> None:
        self.op, self.made = _op_of(function)
        self.kind = self.op.kind if self.op else "function"
        self.name = self.op.name if self.op else getattr(function, "__name__", repr(function))
        self.function = _of_handle(function) if isinstance(function, Op) else function
        if not callable(self.function):
            raise TypeError(
                f"opcheck: got {type(function).__name__}; expected the function of an op"
            )
        self.invents = False  # the samples are not the caller's
        self.inputs: list[str] = []  # "floating", "int64" or "bool", of an op made of one struct
        self.attrs: dict[str, Any] = {}  # with their defaults
        self.range = DEFAULT_RANGE
        self.written: bool | None = None  # whether its backward is; None: not of one struct
        self.broadcasts = self.kind == "pointwise"
        if self.op is not None:
            self._ask(self.op)

    def _ask(self, op: Op) -> None:
        if (info := pointwise_info(op)) is not None:
            number = "floating" if info["floats"] else "int64"
            self.inputs = ["bool" if mask else number for mask in info["mask_inputs"]]
            self.attrs = info["attrs"]
        elif (info := foreign_info(op)) is not None:
            self.inputs = [kind for _, kind in info["inputs"]]
            self.attrs = {name: default for name, _, default in info["attrs"]}
            self.broadcasts = self.kind != "opaque"
        else:
            return
        self.range = info["range"]
        self.written = info["written_backward"]

    def names(self) -> list[str]:
        """The names of the positional parameters, where the function tells."""
        import inspect

        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):
            return []
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return [p.name for p in parameters if p.kind in positional]

    def samples(self, args: Any, kwargs: dict[str, Any]) -> list[Sample]:
        """Return the sample of these arguments, or several of invented ones."""
        if args is not None:
            if isinstance(args, Tensor):
                args = (args,)
            return [Sample(args, kwargs, self.names())]
        self.invents = True
        op, known = self.op, list(self.inputs)
        if self.kind in ("reduction", "rowwise") and op is not None and op.n_inputs == 1:
            known = known or ["floating"]  # a built-in one
        elif not self.made:
            known = []  # its function has a signature of its own
        if not known or self.kind == "opaque":
            raise TypeError(
                f"opcheck: {self.name} takes inputs that cannot be invented: give them, as in "
                "opcheck(op, (x, y))"
            )
        along: list[dict[str, Any]] = [{}]
        if self.kind != "pointwise" and "dim" in self.names():
            along = [{"dim": -1}, {"dim": 0}]
        others = {k: _other(v) for k, v in self.attrs.items() if k not in kwargs}
        changed = any(v != self.attrs[k] for k, v in others.items())
        made = [self._invented(known, (3, 7), {**dim, **kwargs}) for dim in along]
        if changed:
            made.append(self._invented(known, (3, 7), {**along[0], **kwargs, **others}))
        if self.kind != "pointwise":
            made.append(self._invented(known, (2, 1, 18), {**along[0], **kwargs}))
        for dim in along:
            made.append(self._invented(known, (3, 20_011), {**dim, **kwargs}))
            made[-1].large = True
        return made

    def _invented(
        self, known: Sequence[str], shape: tuple[int, ...], kwargs: dict[str, Any]
    ) -> Sample:
        """Inputs of one shape, floating ones in the range where the op is smooth."""
        random = Generator().manual_seed(zlib.crc32(self.name.encode()))
        low, high = self.range
        inputs = []
        for kind in known:
            if kind == "bool":
                inputs.append(randint(0, 2, shape, generator=random) > 0)
            elif kind == "int64":
                most = 60 if self.kind == "pointwise" else min(shape)  # indices, perhaps
                inputs.append(randint(int(most == 60), most, shape, generator=random))
            else:
                numbers = rand(*shape, generator=random, dtype=dtypes.float32)
                inputs.append(numbers * (high - low) + low)
        names = self.names()
        usual = [f"input {i}" for i in range(len(inputs))]
        return Sample(inputs, kwargs, names if len(names) >= len(inputs) else usual)

    def attributes(self, sample: Sample) -> tuple[Any, ...]:
        """All attributes in a call of the op's function."""
        given = sample.args[len(self.inputs) :] if self.kind == "pointwise" else ()
        named = dict(zip(self.attrs, given, strict=False))
        return tuple({**self.attrs, **named, **sample.kwargs}[name] for name in self.attrs)


def _of_handle(op: Op) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        n = len(args) if op.n_inputs < 0 else op.n_inputs
        names = list((pointwise_info(op) or {"attrs": {}})["attrs"])
        values = list(op.attr_defaults) if names else list(args[n:])
        for key, value in kwargs.items():
            values[names.index(key)] = value
        return apply(op, args[:n], tuple(values))

    function.__name__ = op.name
    return function


def _op_of(function: Any) -> tuple[Op | None, bool]:
    """The op of the registry behind a function, if there is one; whether it made the function."""
    if isinstance(function, Op):
        return function, True
    op = getattr(function, "op", None)
    if isinstance(op, Op):
        return op, True
    code = getattr(function, "__code__", None)
    if code is not None and code.co_filename.startswith("<op "):  # of a library
        return function.__globals__["_op"], True
    for cell in getattr(function, "__closure__", None) or ():
        if isinstance(cell.cell_contents, Op):
            return cell.cell_contents, True
    package = str(getattr(function, "__module__", "")).partition(".")[0]
    ours = package == __package__.partition(".")[0]
    return ops.get(getattr(function, "__name__", "")) if ours else None, False


def _other(value: Any) -> Any:
    """An attribute's value near its default."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return 0.8 * value + 0.3 if abs(value) < 1e9 else value
