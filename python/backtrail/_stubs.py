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

from .functions import elementwise, functional
from .tensor import Tensor

BEGIN = "    # ---- made by `python -m backtrail._stubs`\n"
END = "    # ---- end of what is made\n"
WIDTH = 100
HIDDEN = ("bool", "float", "int")  # Tensor has methods of these names
RENAMED = {"dtype": "DType"}  # Tensor has a property of this name
FUNCTIONAL = '''"""Types of the functions over tensors; made by `python -m backtrail._stubs`."""

# Functions of the files below that take `out=` stand here once more.
# mypy: disable-error-code="no-redef"
# ruff: noqa: E501, F403, F405, RUF022

import builtins
from collections.abc import Sequence
from typing import Any

from ..tensor import Tensor
from .convolution import *
from .elementwise import *
from .indexing import *
from .linalg import *
from .placing import *
from .pooling import *
from .reductions import *
from .shaping import *

__all__ = [
    NAMES,
]
FACTORIES: dict[str, Any]
'''


def stubs() -> dict[str, str]:
    """Return the text of every stub by file name."""
    text = Path(__file__).with_name("_core.pyi").read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    methods = "".join(definition(*m, indent=4) for m in attached_methods())
    names = ",\n    ".join(f'"{name}"' for name in functional.__all__)
    functions = "".join("\n" + definition(*f) for f in made_functions())
    return {
        "_core.pyi": head + BEGIN + methods + END + tail,
        "functions/functional.pyi": FUNCTIONAL.replace("NAMES", names) + functions,
    }


def attached_methods() -> Iterator[tuple[str, list[str], str]]:
    """Yield name, parameters and result type of each method that the class body does not define."""
    for name, f in sorted(vars(Tensor).items()):
        if not isinstance(f, FunctionType) or f.__qualname__.startswith("Tensor."):
            continue
        yield name, *declared(f)


def made_functions() -> Iterator[tuple[str, list[str], str, str]]:
    """Yield name, parameters, result type and doc of each function that no file defines by hand."""
    for name, f in sorted(vars(functional).items()):
        if isinstance(f, FunctionType) and (
            name in elementwise.FROM_REGISTRY or "plain" in vars(f)
        ):
            yield name, *declared(f, method=False), f.__doc__ or ""


def declared(f: Callable[..., Any], method: bool = True) -> tuple[list[str], str]:
    """Return the parameters (of a method, the first is self) and result type that f declares.

    The form of another function has the parameters of that one; with `out=`, if it is no method.
    """
    plain = getattr(f, "plain", f)
    signature = inspect.signature(plain)
    parameters = ["self"] if method else []
    starred = False
    after: list[str] = []
    for p in list(signature.parameters.values())[method:]:
        if p.kind is p.KEYWORD_ONLY and not starred:
            parameters.append("*")
        starred = starred or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        prefix = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        value = "" if p.default is p.empty else f" = {default(p.default)}"
        kept = after if p.kind is p.VAR_KEYWORD else parameters
        kept.append(f"{prefix}{p.name}: {annotation(plain, p.annotation)}{value}")
    if "out" in f.__code__.co_varnames and not method and plain is not f:
        parameters += ["out: Any = None"] if starred else ["*", "out: Any = None"]
    result = annotation(plain, signature.return_annotation)
    in_place = plain is not f and f.__name__.endswith("_")
    return parameters + after, "Tensor" if in_place else result


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
