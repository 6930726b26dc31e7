"""`backtrail new-op NAME`: write a small package with an op of one's own, ready to be installed.

The files are templates in the folder beside this one: those of every package in `common`, those of
a kind of op in the folder of its name.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import keyword
import re
import sys
from pathlib import Path

import backtrail as bt
from backtrail.tensor import ops

from .arguments import Commands, Parser, UserError

TEMPLATES = Path(__file__).parent / "templates"
KINDS = {
    "pointwise": "each element from those at its place, like exp or mul",
    "reduction": "a number for each row, like sum",
    "rowwise": "a row for each row, like softmax",
    "opaque": "any shapes, like matmul",
}
# Names that CMake keeps for itself, or that the package's own folders have.
RESERVED = ("all", "backtrail", "clean", "dist", "help", "install", "package", "test", "tests")


def add_parser(commands: Commands[Parser]) -> None:
    parser = commands.add_parser(
        "new-op",
        help="write a package with an operation of your own in C++",
        description="Write a small package with an operation in C++: its source, the build for "
        "pip, types, tests and a README. It installs and passes its tests as it is: then make it "
        "yours.",
        epilog="kinds: " + "; ".join(f"{kind}, {what}" for kind, what in KINDS.items()),
    )
    parser.add_argument("name", metavar="NAME", help="of the operation and of its package")
    parser.add_argument("--kind", choices=KINDS, default="pointwise", help="(%(default)s)")
    parser.add_argument("--directory", type=Path, metavar="D", help="to write to (./NAME)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    check_name(args.name)
    folder: Path = args.directory or Path(args.name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already: name another folder with --directory")
    written = write_package(args.name, args.kind, folder)
    print(f"A {args.kind} op in {folder}:")
    for path in written:
        print(f"  {path}")
    print("Next:")
    print(f"  cd {folder}")
    for command in install_commands():
        print(f"  {command}")
    print("  pytest")
    return 0


def check_name(name: str) -> None:
    """Raise UserError unless an op and a package can have a name."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]|[a-z]", name):
        wrong = "must be lower-case letters, digits and underscores, and begin with a letter"
    elif keyword.iskeyword(name):
        wrong = "is a keyword of Python"
    elif name in ops:
        wrong = "is a built-in op"
    elif hasattr(bt.Tensor, name) or hasattr(bt.Tensor, f"{name}_"):
        wrong = "is a method of Tensor"
    elif hasattr(bt, name):
        wrong = "is a member of backtrail"
    elif name in sys.stdlib_module_names:
        wrong = "is a module of Python's own"
    elif name in RESERVED:
        wrong = "means something else to CMake or pip"
    else:
        return
    raise UserError(f"NAME: {name!r} {wrong}")


def write_package(name: str, kind: str, folder: Path) -> list[str]:
    """Write the files of a package and return their paths in it."""
    values = {
        "NAME": name,
        "PROJECT": name.replace("_", "-"),
        "STRUCT": "".join(part.capitalize() for part in name.split("_")),
        "VERSION": bt.__version__,
    }
    values["USAGE"] = fill(TEMPLATES / kind / "usage.py.in", values).strip()
    written = []
    for template in sorted(
        [*TEMPLATES.glob("common/**/*.in"), *TEMPLATES.glob(f"{kind}/*/**/*.in")]
    ):
        inner = template.relative_to(TEMPLATES).parts[1:]
        path = Path(*inner).with_suffix("").as_posix().replace("NAME", name).replace("dot-", ".")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(fill(template, values), encoding="utf-8")
        written.append(path)
    return sorted(written)


def fill(template: Path, values: dict[str, str]) -> str:
    """Return the text of a template with a value for each @NAME@."""
    text = template.read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], text)


def install_commands() -> list[str]:
    """Return the commands that install a package that is built with this very backtrail."""
    try:
        local = importlib.metadata.distribution("backtrail").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        local = "not installed"
    if not local:
        return ['pip install ".[test]"']
    return [  # pip could not fetch this backtrail from an index to build with
        "pip install scikit-build-core cmake ninja",
        'pip install --no-build-isolation ".[test]"',
    ]
