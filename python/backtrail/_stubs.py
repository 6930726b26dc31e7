"""Type stubs that follow from the registry: the methods of Tensor that are attached at run time,
and the functions that pointwise ops become. `python -m backtrail._stubs DIRECTORY` writes them.

A method defined in the body of the class Tensor needs no stub; every other one is read off the
running class, its types off its annotations, those of a pointwise op off the op itself.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from ._core import Op, ops, pointwise_info
from .functions import elementwise, functional
from .tensor import Tensor

BEGIN = "    # ---- made by `python -m backtrail._stubs`\n"
END = "    # ---- end of what is made\n"
WIDTH = 100
HIDDEN = ("bool", "float", "int")  # Tensor has methods of these names
RENAMED = {"dtype": "DType"}  # Tensor has a property of this name
FUNCTIONAL = '''"""Types of the functions over tensors; made by `python -m backtrail._stubs`."""

from typing import Any

from .convolution import *  # noqa: F403
from .elementwise import *  # noqa: F403
from .indexing import *  # noqa: F403
from .linalg import *  # noqa: F403
from .pooling import *  # noqa: F403
from .reductions import *  # noqa: F403
from .shaping import *  # noqa: F403
from ..tensor import Tensor
'''


def stubs() -> dict[str, str]:
    """Return the text of every stub by file name."""
    text = Path(__file__).with_name("_core.pyi").read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    methods = "".join(definition(*m, indent=4) for m in attached_methods())
    functions = "".join("\n" + definition(*f) for f in registry_functions())
    return {
        "_core.pyi": head + BEGIN + methods + END + tail,
        "functions/functional.pyi": FUNCTIONAL + functions,
    }


def attached_methods() -> Iterator[tuple[str, list[str], str]]:
    """Yield name, parameters and result type of each method that the class body does not define."""
    for name, f in sorted(vars(Tensor).items()):
        if not isinstance(f, FunctionType) or f.__qualname__.startswith("Tensor."):
            continue
        op = registry_op(f)
        yield name, *(declared(f) if op is None else (method_parameters(op, name), "Tensor"))


def registry_functions() -> Iterator[tuple[str, list[str], str, str]]:
    """Yield name, parameters, result type and doc of each function that no file defines by hand."""
    for name in sorted(elementwise.FROM_REGISTRY):
        op = registry_op(getattr(functional, name))
        if op is not None:
            inputs, attrs = pointwise_parameters(op)
            inputs[0] = f"{inputs[0]}: {'Any' if inputs[1:] else 'Tensor'}"
            # Only a function of nothing but one or two inputs takes them by name.
            mark = ["/"] if attrs or len(inputs) > 2 else []
            yield name, [*inputs, *mark, *attrs], "Tensor", op.__doc__ or ""


def method_parameters(op: Op, name: str) -> list[str]:
    """Return the parameters of a method that a pointwise op became."""
    (_, *inputs), attrs = pointwise_parameters(op)
    by_position = attrs or len(inputs) > 1 or name.endswith("_")
    mark = ["/"] if inputs and by_position else []
    return ["self", *inputs, *mark, *(a.replace("float", "builtins.float") for a in attrs)]


def registry_op(f: Callable[..., Any]) -> Op | None:
    """Return the op that a function was made from, if it was."""
    made = f.__qualname__ == f.__name__ and f.__code__.co_name == "function"  # renamed by its maker
    return ops[f.__name__.removesuffix("_")] if made else None


def pointwise_parameters(op: Op) -> tuple[list[str], list[str]]:
    """Return the inputs of a pointwise op, the first without its type, and its attributes."""
    others = ["other"] if op.n_inputs == 2 else [f"tensor{i}" for i in range(1, op.n_inputs)]
    attrs = pointwise_info(op)["attrs"].items()
    return (
        ["input", *(f"{n}: Any" for n in others)],
        [f"{n}: float = {default(value)}" for n, value in attrs],
    )


def declared(f: Callable[..., Any]) -> tuple[list[str], str]:
    """Return the parameters (the first becomes self) and result type that a function declares."""
    signature = inspect.signature(f)
    parameters = ["self"]
    starred = False
    for p in list(signature.parameters.values())[1:]:
        if p.kind is p.KEYWORD_ONLY and not starred:
            parameters.append("*")
        starred = starred or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        prefix = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        value = "" if p.default is p.empty else f" = {default(p.default)}"
        parameters.append(f"{prefix}{p.name}: {annotation(f, p.annotation)}{value}")
    return parameters, annotation(f, signature.return_annotation)


def annotation(f: Callable[..., Any], text: str) -> str:
    """Return an annotation with each name as the stub knows it."""

    def known(match: re.Match[str]) -> str:
        value = eval(match[0], f.__globals__)
        if value is Any or value is None:
            return "Any" if value else "None"
        name: str = value.__name__
        return f"builtins.{name}" if name in HIDDEN else RENAMED.get(name, name)

    return re.sub(r"[A-Za-z_][\w.]*", known, text)


def default(value: object) -> str:
    """Return a default value as text; `...` for one that has no short form."""
    if isinstance(value, str):
        return f'"{value}"'
    plain = value is None or isinstance(value, (int, tuple))
    return repr(value) if plain or (isinstance(value, float) and abs(value) < 1e9) else "..."


def definition(
    name: str, parameters: list[str], result: str, doc: str = "", indent: int = 0
) -> str:
    """Return `def name(parameters) -> result`, broken into lines as a formatter would."""
    space = " " * indent
    body = f'\n{space}    """{doc}"""\n' if doc else " ...\n"
    tail = f") -> {result}:"
    line = f"{space}def {name}({', '.join(parameters)}{tail}"
    if len(line + ("" if doc else " ...")) <= WIDTH:
        return line + body
    inner = f"{space}    {', '.join(parameters)}"
    if len(inner) > WIDTH:
        inner = "\n".join(f"{space}    {p}," for p in parameters)
    return f"{space}def {name}(\n{inner}\n{space}{tail}{body}"


def main(directory: str) -> None:
    """Write the stubs into a directory."""
    for name, text in stubs().items():
        path = Path(directory, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
