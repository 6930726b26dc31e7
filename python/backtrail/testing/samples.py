"""What an op is checked on: the inputs that were given, or inputs invented from the registry."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes
from .._core import Op, pointwise_info
from ..creation import tensor
from ..random import Generator, rand, randint
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
        self.info: dict[str, Any] = (pointwise_info(self.op) if self.op else None) or {}
        self.kind = self.op.kind if self.op else "function"
        self.name = self.op.name if self.op else getattr(function, "__name__", repr(function))
        self.function = _of_handle(function) if isinstance(function, Op) else function
        if not callable(self.function):
            raise TypeError(
                f"opcheck: got {type(function).__name__}; expected the function of an op"
            )
        self.invents = False  # the samples are not the caller's
        self.range: tuple[float, float] = self.info.get("range", DEFAULT_RANGE)

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
        if self.kind == "pointwise" and self.made:
            made = [self.invented((3, 7), kwargs)]
            others = {k: _other(v) for k, v in self.info["attrs"].items() if k not in kwargs}
            if others != {k: self.info["attrs"][k] for k in others}:
                made.append(self.invented((3, 7), {**kwargs, **others}))
            made.append(self.invented((3, 20_011), kwargs))
            made[-1].large = True
            return made
        if self.kind in ("reduction", "rowwise") and self.op is not None and self.op.n_inputs == 1:
            x = self._floats((3, 7))
            along = [{"dim": -1}, {"dim": 0}] if "dim" in self.names() else [{}]
            made = [Sample((x,), {**dim, **kwargs}, self.names()) for dim in along]
            wide = self._floats((3, 20_011))
            made += [Sample((wide,), {**dim, **kwargs}, self.names()) for dim in along]
            for sample in made[len(along) :]:
                sample.large = True
            return made
        raise TypeError(
            f"opcheck: {self.name} takes inputs that cannot be invented: give them, as in "
            "opcheck(op, (x, y))"
        )

    def invented(self, shape: tuple[int, ...], kwargs: dict[str, Any]) -> Sample:
        """Inputs of a pointwise op, all of one shape, in the range where it is smooth."""
        random = Generator().manual_seed(zlib.crc32(self.name.encode()))
        inputs = []
        for mask in self.info["mask_inputs"]:
            if mask:
                inputs.append(randint(0, 2, shape, generator=random) > 0)
            elif self.info["floats"]:
                inputs.append(self._floats(shape, random))
            else:
                inputs.append(randint(1, 60, shape, generator=random))
        return Sample(inputs, kwargs, [f"input {i}" for i in range(len(inputs))])

    def attributes(self, sample: Sample) -> tuple[Any, ...]:
        """All attributes of a pointwise op in a call of its function."""
        given = sample.args[len(self.info["mask_inputs"]) :]
        values = list(given) + list(self.info["attrs"].values())[len(given) :]
        for key, value in sample.kwargs.items():
            values[list(self.info["attrs"]).index(key)] = value
        return tuple(values)

    def _floats(self, shape: tuple[int, ...], random: Generator | None = None) -> Tensor:
        low, high = self.range
        random = random or Generator().manual_seed(0)
        return rand(*shape, generator=random, dtype=dtypes.float32) * (high - low) + low


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
    for cell in getattr(function, "__closure__", None) or ():
        if isinstance(cell.cell_contents, Op):
            return cell.cell_contents, True
    package = str(getattr(function, "__module__", "")).partition(".")[0]
    ours = package == __package__.partition(".")[0]
    return ops.get(getattr(function, "__name__", "")) if ours else None, False


def _other(value: Any) -> Any:
    """An attribute's value near its default."""
    plain = isinstance(value, float) and abs(value) < 1e9
    return 0.8 * value + 0.3 if plain else value
