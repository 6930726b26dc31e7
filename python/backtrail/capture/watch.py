"""What a function can see: the Python objects behind it, as guards for a captured call.

A captured call may be replayed only while every name, attribute and setting that the function could
read is what it was. `survey` goes through all that can be reached from the function (its globals by
name, closure, defaults, the attributes of objects, the items of containers) and returns the checks
that say so. What it cannot look into (modules of the standard library and of installed packages,
objects without a `__dict__`) is held by identity.
"""

from __future__ import annotations

import functools
import sys
import sysconfig
from array import array
from collections import deque
from collections.abc import Iterable
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any

from .._core import TensorBase, storage_serial

_ATOMS = (bool, int, float, complex, str, bytes, type(None), type(...), range, slice, CodeType)
_OPAQUE = (
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    property,
    staticmethod,
    classmethod,
)
_FOREIGN_FOLDERS = tuple(
    {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_MOST_CHECKS = 100_000
_MOST_BYTES = 16_384  # of memory that is not a tensor's and is compared at each call
_OWN = __name__.partition(".")[0]
_OWN_FOLDER = __file__.rpartition("/capture/")[0] + "/"


Found = list[tuple[Any, str]]  # objects to look into next, and where they were found


class Survey:
    """The checks of one look around, with a text for each that says where it was found."""

    def __init__(self, before: bool = False, settings: bool = False) -> None:
        self.checks: list[tuple[Any, ...]] = []
        self.where: list[str] = []
        self.serials: set[int] = set()  # of the memory of all tensors that were reached
        self.streams: list[Any] = []  # generators of random numbers that are not ours
        self.problem = ""  # something whose state cannot be watched
        self._seen: set[int] = set()
        self._kept: list[Any] = []  # keeps ids in `_seen` valid
        self._before, self._settings = before, settings

    def visit(self, root: Any, path: str) -> None:
        """Go through all that can be reached from an object."""
        todo = [(root, path)]
        while todo:
            obj, where = todo.pop()
            if isinstance(obj, _ATOMS) or id(obj) in self._seen:
                continue
            self._seen.add(id(obj))
            self._kept.append(obj)
            todo.extend(self._look_into(obj, where))
            if len(self.checks) > _MOST_CHECKS:
                self.problem = f"it can reach too many objects, some of them from `{where}`"
                return

    def _check(self, where: str, *check: Any) -> None:
        self.checks.append(check)
        self.where.append(where)

    def _look_into(self, obj: Any, where: str) -> Found:
        if isinstance(obj, TensorBase):
            self._check(where, "tensor", obj)
            self.serials.add(storage_serial(obj))
            return [(hook, f"{where}'s hook") for hook in obj._hooks or []]
        if isinstance(obj, FunctionType):
            return self._function(obj, where)
        if isinstance(obj, MethodType):
            return [(obj.__self__, where.rpartition(".")[0] or where), (obj.__func__, where)]
        if isinstance(obj, functools.partial):
            return [(obj.func, where), (obj.args, where), (obj.keywords, where)]
        if isinstance(obj, dict):
            return self._items(obj, where)
        if isinstance(obj, (list, tuple)):
            if isinstance(obj, list):
                self._check(where, "items", obj, tuple(obj))
            return [(item, f"{where}[{i}]") for i, item in enumerate(obj)]
        if isinstance(obj, (set, frozenset)):
            self._check(where, "set", obj, frozenset(obj))
            return [(item, where) for item in obj]
        if isinstance(obj, deque):
            self._check(where, "set", obj, obj.copy())
            return [(item, where) for item in obj]
        if isinstance(obj, CellType):
            return self._cell(obj, where)
        if isinstance(obj, type):
            return self._class(obj, where)
        kind: Any = type(obj)
        if isinstance(obj, (BuiltinFunctionType, MethodWrapperType)):  # items.get, items.__len__
            owner = obj.__self__
            return [] if isinstance(owner, (ModuleType, type)) else [(owner, where)]
        if isinstance(obj, (ModuleType, *_OPAQUE)):
            return []
        if hasattr(kind, "__next__"):
            self.problem = (
                f"it can reach the iterator `{where}`, and a replay takes nothing from it: pass "
                "what it gives as an argument"
            )
            return []
        if hasattr(kind, "getstate") or hasattr(kind, "bit_generator"):  # random numbers
            self.streams.append(obj)
            return []
        if hasattr(kind, "__array_interface__") or isinstance(obj, (bytearray, array)):
            try:
                with memoryview(obj) as memory:
                    if memory.nbytes <= _MOST_BYTES:
                        self._check(where, "memory", obj, memory.tobytes())
            except (TypeError, ValueError, BufferError):  # dates of NumPy
                pass
            return []
        if hasattr(kind, "_watched"):
            return [(part, where) for part in obj._watched()]
        return self._instance(obj, where)

    def _items(self, obj: dict[Any, Any], where: str, but: tuple[str, ...] = ()) -> Found:
        self._check(where, "length", obj, len(obj))
        found: Found = []
        for key, value in obj.items():
            text = f"{where}.{key}" if isinstance(key, str) else f"{where}[...]"
            if not (isinstance(key, str) and key in but):
                self._check(text, "item", obj, key, value)
                found.append((value, text))
        return found

    def _cell(self, cell: CellType, where: str) -> Found:
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            return []
        self._check(where, "cell", cell, value)
        return [(value, where)]

    def _function(self, f: FunctionType, where: str) -> Found:
        found: Found = [(f.__defaults__, where), (f.__kwdefaults__, where)]
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            found.append((cell, name))
        if _is_own(f.__module__) or _is_foreign_file(f.__code__.co_filename):
            return found  # its globals do not change
        known = f.__globals__
        names = _names(f.__code__)
        for name in names:
            if name in known:
                value = known[name]
                self._check(name, "item", known, name, value)
                if isinstance(value, ModuleType):
                    found += self._module(value, names, name)
                else:
                    found.append((value, name))
        if f.__dict__:
            found.append((f.__dict__, where))
        return found

    def _module(self, module: ModuleType, names: set[str], where: str) -> Found:
        """Names that a function reads from a module of the user's."""
        if _is_own(module.__name__) or _is_foreign_file(getattr(module, "__file__", None) or ""):
            return []
        space = vars(module)
        found: Found = []
        for name in names & space.keys():
            self._check(f"{where}.{name}", "item", space, name, space[name])
            found.append((space[name], f"{where}.{name}"))
        return found

    def _class(self, cls: type, where: str) -> Found:
        if _is_own(cls.__module__) or _is_foreign(cls):
            return []
        found: Found = []
        for base in cls.__mro__:
            if not (_is_own(base.__module__) or _is_foreign(base)):
                for name, value in vars(base).items():
                    if isinstance(value, (FunctionType, staticmethod, classmethod, property)):
                        for part in _functions_of(value):
                            found.append((part, f"{base.__name__}.{name}"))
                    elif not (name.startswith("__") or name == "_abc_impl"):
                        now = getattr(cls, name, None)
                        if not callable(now):
                            self._check(f"{where}.{name}", "attribute", cls, name, now)
                            found.append((now, f"{where}.{name}"))
        return found

    def _instance(self, obj: Any, where: str) -> Found:
        self._check(where, "type", obj, type(obj))
        found: Found = [(type(obj), type(obj).__name__)]
        shared = getattr(type(obj), "_of_every_instance", None)
        if shared is not None:  # the hooks on all modules, or optimizers
            found.append((shared, type(obj).__name__))
        settings = getattr(type(obj), "_live_settings", None)
        if settings is not None:  # an optimizer
            return found + self._optimizer(obj, settings, where)
        if hasattr(obj, "__dict__"):
            found += self._items(obj.__dict__, where)
            self._seen.add(id(obj.__dict__))
        for name in getattr(type(obj), "__slots__", ()):
            if isinstance(name, str) and not name.startswith("__") and hasattr(obj, name):
                value = getattr(obj, name)
                self._check(f"{where}.{name}", "attribute", obj, name, value)
                found.append((value, f"{where}.{name}"))
        return found

    def _optimizer(self, obj: Any, settings: tuple[str, ...], where: str) -> Found:
        """An optimizer: but for the settings and counts that a replay reads anew."""
        found: Found = []
        for name, value in obj.__dict__.items():
            text = f"{where}.{name}"
            if name == "_opt_called":
                continue
            self._check(text, "item", obj.__dict__, name, value)
            if name == "param_groups":
                self._check(text, "items", value, tuple(value))
                for i, group in enumerate(value):
                    every = self._before or self._settings
                    found += self._items(group, f"{text}[{i}]", () if every else settings)
            elif name == "state":
                if self._before and settings:
                    continue
                self._check(text, "length", value, len(value))
                for state in value.values():
                    number = settings and isinstance(state.get("step"), int)  # of Adam
                    found += self._items(state, text, ("step",) if number else ())
                for param, state in value.items():
                    self._check(text, "item", value, param, state)
            else:
                found.append((value, text))
        return found


def _functions_of(value: Any) -> list[Any]:
    if isinstance(value, property):
        return [f for f in (value.fget,) if f is not None]
    return [getattr(value, "__func__", value)]


def _is_own(module: str | None) -> bool:
    return (module or "").partition(".")[0] == _OWN


@functools.cache
def _is_foreign_file(path: str) -> bool:
    return not path or path.startswith("<frozen") or path.startswith(_FOREIGN_FOLDERS)


@functools.cache
def _is_foreign(cls: type) -> bool:
    """Whether a class is of the standard library or of another installed package."""
    name = cls.__module__
    if _is_own(name) or name in ("__main__", "__mp_main__"):
        return False
    module = sys.modules.get(name)
    return module is None or _is_foreign_file(getattr(module, "__file__", None) or "")


@functools.cache
def _names(code: CodeType) -> set[str]:
    """Every name that the code, or a function defined in it, may look up."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def survey(
    roots: Iterable[tuple[Any, str]], before: bool = False, settings: bool = False
) -> Survey:
    """Look around from (object, name) pairs.

    After a call, the settings of optimizers that a replay reads anew are left out, unless the
    function reads them as well (`settings`). `before` one they are not, for the call might change
    them; the state of such optimizers is, for a replay changes it too.
    """
    found = Survey(before, settings)
    for obj, name in roots:
        found.visit(obj, name)
    return found


class Calls:
    """The Python functions that are called while one of these is entered."""

    def __enter__(self) -> Calls:
        self._codes: set[CodeType] = set()
        self._previous = sys.getprofile()
        if self._previous is None:
            add = self._codes.add
            sys.setprofile(lambda frame, event, _: add(frame.f_code) if event == "call" else None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is None:
            sys.setprofile(None)

    def mention(self, name: str) -> bool:
        """Whether any of them but our own looks the name up; True where that is not known."""
        return self._previous is not None or any(
            name in code.co_names
            and not _is_foreign_file(code.co_filename)
            and not code.co_filename.startswith(_OWN_FOLDER)
            for code in self._codes
        )
