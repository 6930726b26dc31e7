"""Containers of modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

from .module import Module, indent, listing
from .parameter_container import (
    ParameterDict as ParameterDict,
    ParameterList as ParameterList,
    checked_pairs,
)

if TYPE_CHECKING:
    from typing_extensions import Self

Pairs = Mapping[str, Module] | Iterable[tuple[str, Module]]


class _ModuleArray(Module):
    """Modules in order, under the names "0", "1", ...; Sequential may name them otherwise."""

    _modules: dict[str, Module]  # type: ignore[assignment]  # a container holds no None

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.isdigit()]

    def _key(self, index: int) -> str:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of range")
        return next(islice(self._modules, index % size, None))

    def _replace(self, modules: Iterable[tuple[str, Module]]) -> None:
        modules = list(modules)
        for name in list(self._modules):
            self._forget(name)
        for name, module in modules:
            self.add_module(name, module)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Module | Self:
        if not isinstance(index, slice):
            return self._modules[self._key(index)]
        part = type(self).__new__(type(self))
        Module.__init__(part)
        items = list(self._modules.items())[index]
        part._replace(items if isinstance(self, Sequential) else _numbered(m for _, m in items))
        return part

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        if isinstance(index, slice):
            for name in list(self._modules)[index]:
                self._forget(name)
        else:
            self._forget(self._key(index))
        self._renumber()

    def _renumber(self) -> None:
        self._replace(_numbered(self._modules.values()))

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add several modules at the end."""
        if not isinstance(modules, Iterable):
            raise TypeError(
                f"{self._get_name()}.extend should be called with an iterable, "
                f"but got {type(modules).__name__}"
            )
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Put a module before position `index`."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        modules = list(self)
        if not -len(modules) <= index <= len(modules):
            raise IndexError(f"index {index} is out of range")
        modules.insert(index, module)
        self._replace(_numbered(modules))

    def pop(self, index: int = -1) -> Module:
        """Remove a module and return it."""
        module = self[index]
        del self[index]
        return module


def _numbered(modules: Iterable[Module]) -> Iterator[tuple[str, Module]]:
    return ((str(i), module) for i, module in enumerate(modules))


class Sequential(_ModuleArray):
    """Call modules one after the other, each on what the last returned.

    Takes modules, or one mapping from names to modules.
    """

    def __init__(self, *args: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            named: Iterable[tuple[str, Any]] = args[0].items()
        else:
            named = ((str(i), module) for i, module in enumerate(args))
        for name, module in named:
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *_sequential(other))

    def __iadd__(self, other: Sequential) -> Self:
        return self.extend(_sequential(other))

    def __mul__(self, times: int) -> Sequential:
        return Sequential(*self._repeated(times))

    def __rmul__(self, times: int) -> Sequential:
        return self * times

    def __imul__(self, times: int) -> Self:
        return self.extend(self._repeated(times)[len(self) :])

    def _repeated(self, times: int) -> list[Module]:
        if not isinstance(times, int):
            raise TypeError(f"unsupported operand type(s) for *: {type(self)} and {type(times)}")
        if times <= 0:
            raise ValueError(f"Non-positive multiplication factor {times} for {type(self)}")
        return list(self) * times

    def insert(self, index: int, module: Module) -> Self:  # type: ignore[override]
        """Put a module before position `index`; the others are numbered anew."""
        super().insert(index, module)
        return self


def _sequential(other: Any) -> Sequential:
    if not isinstance(other, Sequential):
        raise ValueError(
            f"add operator supports only objects of Sequential class, but {type(other)} is given."
        )
    return other


class ModuleList(_ModuleArray):
    """A list of modules, registered with the module that holds it."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def __repr__(self) -> str:
        # Equal neighbours share a line: (0-3): 4 x Block(...)
        runs: list[tuple[int, int, str]] = []
        for i, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], i, text)
            else:
                runs.append((i, i, text))
        lines = [
            f"({first}): {indent(text)}"
            if first == last
            else f"({first}-{last}): {last - first + 1} x {indent(text)}"
            for first, last, text in runs
        ]
        return listing(self._get_name(), "", lines)


class ModuleDict(Module):
    """A dict of modules, registered with the module that holds it, in order of insertion."""

    _modules: dict[str, Module]  # type: ignore[assignment]  # a container holds no None

    def __init__(self, modules: Pairs | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]
        self._forget(key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Remove all modules."""
        for key in list(self._modules):
            del self[key]

    def pop(self, key: str) -> Module:
        """Remove the module under `key` and return it."""
        module = self[key]
        del self[key]
        return module

    def keys(self) -> KeysView[str]:
        """View the names."""
        return self._modules.keys()

    def items(self) -> ItemsView[str, Module]:
        """View (name, module)."""
        return self._modules.items()

    def values(self) -> ValuesView[Module]:
        """View the modules."""
        return self._modules.values()

    def update(self, modules: Pairs) -> None:
        """Add or replace modules from a mapping or from (name, module) pairs."""
        for key, module in checked_pairs("ModuleDict", modules):
            self[key] = module
