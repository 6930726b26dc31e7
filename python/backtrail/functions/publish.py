"""Functions made public: under the name they are pickled by, and clear about what is no tensor."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any

from .._core import TensorBase

Function = Callable[..., Any]
_MAIN = "backtrail"
_SEVERAL = "Sequence[Tensor]"
_IS: dict[str, Callable[[Any], bool]] = {  # by annotation: what an argument has to be
    "Tensor": lambda x: isinstance(x, TensorBase),
    "Generator": lambda x: hasattr(x, "get_state"),
    "str": lambda x: isinstance(x, str),
}


def complain(f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise TypeError where an argument of a call that failed is no tensor and should be one."""
    f = getattr(f, "plain", f)
    code, kinds = f.__code__, f.__annotations__
    named = dict(zip(code.co_varnames[: code.co_argcount], args, strict=False))
    many = args[code.co_argcount :]
    if code.co_flags & 4:  # *args
        name = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        named.update({f"{name}[{i}]": value for i, value in enumerate(many)})
        kinds = {**kinds, **{key: kinds.get(name) for key in named if key not in kinds}}
    for name, value in {**named, **kwargs}.items():
        kind = str(kinds.get(name))
        if value is None and kind.endswith("| None"):
            continue
        wanted = kind.removesuffix(" | None")
        if wanted == _SEVERAL:
            items = list(value) if isinstance(value, (tuple, list)) else [value]
            wrong = [item for item in items if not isinstance(item, TensorBase)]
            if not wrong:
                continue
            value, wanted = wrong[0], "sequence of Tensors"
        elif wanted not in _IS or _IS[wanted](value):
            continue
        message = f"{f.__name__}: {name} must be a {wanted}; got {type(value).__name__}"
        raise TypeError(message) from None


def checked(f: Function) -> Function:
    """Return a function whose errors name an argument that is no tensor and should be one."""

    @wraps(f)
    def form(*args: Any, **kwargs: Any) -> Any:
        try:
            return f(*args, **kwargs)
        except (AttributeError, TypeError):
            complain(f, args, kwargs)
            raise

    form.__dict__["plain"] = getattr(f, "plain", f)
    return form


def _takes_tensors(f: Any, skip: int = 0) -> bool:
    """Return whether parameters of a function, but for the first `skip`, must be tensors."""
    first = f.__code__.co_varnames[:skip]
    kinds = ("Tensor", "Tensor | None", _SEVERAL, "str")
    return any(
        kind in kinds and name not in ("return", *first) for name, kind in f.__annotations__.items()
    )


def _only_applies(f: Any) -> bool:
    """Return whether a function hands its arguments to `apply`, which looks at them itself."""
    return all(n in ("apply", "apply_") or n.isupper() for n in f.__code__.co_names) or (
        f.__code__.co_name == "function"  # of the registry
    )


def publish(space: dict[str, Any], module: str) -> None:
    """Make the functions that were gathered in a namespace its own, and clear in their errors."""
    forms: dict[int, Function] = {}
    for name, f in list(space.items()):
        if name.startswith("_") or not isinstance(f, FunctionType):
            continue
        if not f.__module__.startswith(("backtrail.functions.", module)):
            continue
        if "plain" not in vars(f) and not _only_applies(f) and _takes_tensors(f):
            f = forms.setdefault(id(f), checked(f))
        space[name] = f
        if f.__module__ != _MAIN:  # a function that several namespaces have belongs to the first
            f.__module__ = module
    for name, f in space.items():
        mine = isinstance(f, FunctionType) and f.__module__ == module
        if mine and space.get(f.__qualname__) is not f:  # an alias with a form of its own
            f.__qualname__ = name


def check_methods(kind: type) -> None:
    """Check the other tensors that methods take: `self` is one in any case."""
    for name, f in list(vars(kind).items()):
        if name.startswith("__") or not isinstance(f, FunctionType) or "plain" in vars(f):
            continue
        if _takes_tensors(f, 1):
            setattr(kind, name, checked(f))
