"""What a module is made of: the tables of its parameters, buffers and submodules, and their walks.

A member lives in one of the ordered tables `_parameters`, `_buffers`, `_modules`, which the walks
read, and in the module's `__dict__`, which makes reading `self.weight` as cheap as reading any
attribute. The tables write through, so the two never differ, whichever of them a program changes.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ...tensor import Tensor
from ..parameter import Buffer, Parameter

if TYPE_CHECKING:
    from .module import Module

Member = TypeVar("Member")
_ABSENT: Any = object()


class Table(dict[str, Any]):
    """Members by name; what is written here, the modules that hold the table show as attributes.

    Usually that is one module; a shallow copy of a module shares the table of its original.
    """

    __slots__ = ("_owners",)
    _owners: list[weakref.ref[Any]]

    def __init__(self, owners: Iterable[Any] = ()) -> None:
        super().__init__()
        self._owners = [weakref.ref(owner) for owner in owners]

    def adopt(self, owner: Any) -> None:
        """Show the members in one more module, from here on."""
        if all(ref() is not owner for ref in self._owners):
            self._owners.append(weakref.ref(owner))

    def disown(self, owner: Any) -> None:
        """Show the members in this module no longer."""
        self._owners = [ref for ref in self._owners if ref() is not owner]

    def _spaces(self) -> Iterator[dict[str, Any]]:
        for ref in self._owners:
            owner = ref()
            if owner is not None:
                yield owner.__dict__

    def __setitem__(self, name: str, member: Any) -> None:
        super().__setitem__(name, member)
        for space in self._spaces():
            space[name] = member

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        for space in self._spaces():
            space.pop(name, None)

    def pop(self, name: str, default: Any = _ABSENT) -> Any:
        if name not in self and default is not _ABSENT:
            return default
        member = self[name]
        del self[name]
        return member

    def popitem(self) -> tuple[str, Any]:
        if not self:
            raise KeyError("popitem: the table is empty")
        name = next(reversed(self))
        return name, self.pop(name)

    def clear(self) -> None:
        for name in list(self):
            del self[name]

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for name, member in dict(*args, **kwargs).items():
            self[name] = member

    def __ior__(self, other: Any) -> Table:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        owners = [owner for ref in self._owners if (owner := ref()) is not None]
        return Table, (owners,), None, None, iter(self.items())


_TABLES = ("_parameters", "_buffers", "_modules")
special_names = set(_TABLES)  # attributes that are not simply set
# Called with (module, name, member) at each registration anywhere; may return another member.
registration_hooks: dict[str, OrderedDict[int, Callable[..., Any]]] = {
    name: OrderedDict() for name in _TABLES
}


class Tree:
    """The members of a module, registered by plain assignment, and the walks over them."""

    training: bool
    _parameters: Table
    _buffers: Table
    _modules: Table
    _non_persistent_buffers_set: set[str]

    def _init_members(self) -> None:
        owners = (self,)
        self.__dict__.update(
            training=True,
            _parameters=Table(owners),
            _buffers=Table(owners),
            _modules=Table(owners),
            _non_persistent_buffers_set=set(),
        )

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        parameters = own.get("_parameters")
        if parameters is None:
            if isinstance(value, (Parameter, Tree)):
                kind = "parameters" if isinstance(value, Parameter) else "module"
                raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            if name not in parameters:
                self._forget(name)
            self.register_parameter(name, value)
        elif isinstance(value, Tree):
            if name not in own["_modules"]:
                self._forget(name)
            own["_modules"][name] = self._registered("_modules", name, value)
        elif name in parameters:
            _set_to_none(parameters, name, value, "parameter", "nn.Parameter or None")
        elif name in own["_modules"]:
            _set_to_none(own["_modules"], name, value, "child module", "nn.Module or None")
        elif name in own["_buffers"]:
            if value is not None and not isinstance(value, Tensor):
                _set_to_none(own["_buffers"], name, value, "buffer", "Tensor or None")
            own["_buffers"][name] = self._registered("_buffers", name, value)
        elif isinstance(value, Buffer):
            self._forget(name)
            self.register_buffer(name, value, value.persistent)
        elif name in special_names:
            self._set_special(name, value)
        else:
            object.__setattr__(self, name, value)

    def _set_special(self, name: str, value: Any) -> None:
        if name in _TABLES:
            self._replace_table(name, value)
        else:
            object.__setattr__(self, name, value)

    def _replace_table(self, name: str, members: Mapping[str, Any]) -> None:
        before = self.__dict__[name]
        members = dict(members)  # which may be the table itself
        for old in before:
            self.__dict__.pop(old, None)
        if isinstance(before, Table):
            before.disown(self)
        table = self.__dict__[name] = Table((self,))
        table.update(members)

    def _adopt_tables(self) -> None:
        """Make the tables of a `__dict__` that came from elsewhere show their members here."""
        for name in _TABLES:
            table = self.__dict__.get(name)
            if isinstance(table, Table):
                table.adopt(self)
            elif table is not None:
                self._replace_table(name, table)

    def __delattr__(self, name: str) -> None:
        for table in _TABLES:
            if name in self.__dict__.get(table, ()):
                return self._forget(name)
        return object.__delattr__(self, name)

    def _forget(self, name: str) -> None:
        for table in (self._parameters, self._buffers, self._modules):
            table.pop(name, None)
        self.__dict__.pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __dir__(self) -> list[str]:
        return sorted(name for name in object.__dir__(self) if not name[:1].isdigit())

    # Registration

    def _check_new_name(self, kind: str, name: str, table: str) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: "{name}"')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if hasattr(self, name) and name not in self.__dict__[table]:
            raise KeyError(f"attribute '{name}' already exists")

    def _registered(self, table: str, name: str, member: Any) -> Any:
        """Show a member that is about to be registered to the hooks that watch this everywhere."""
        for hook in tuple(registration_hooks[table].values()):
            other = hook(self, name, member)
            member = member if other is None else other
        return member

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, reachable as an attribute; None reserves the name."""
        self._check_new_name("parameter", name, "_parameters")
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
                    "(nn.Parameter or None required)"
                )
            if param.grad_fn is not None:
                raise ValueError(
                    f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must "
                    "be created explicitly; compute derived tensors in forward()."
                )
            param = self._registered("_parameters", name, param)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that moves and is saved with the module but is not trained.

        A buffer that is not `persistent` stays out of `state_dict`.
        """
        self._check_new_name("buffer", name, "_buffers")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' "
                "(Tensor or None required)"
            )
        self._buffers[name] = self._registered("_buffers", name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule, reachable as an attribute; None reserves the name."""
        if module is not None and not isinstance(module, Tree):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_new_name("module", name, "_modules")
        self._modules[name] = self._registered("_modules", name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """Do what `add_module` does."""
        self.add_module(name, module)

    # Walks

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yield (dotted name, module) for this module and all below it, depth first."""
        memo = set() if memo is None else memo
        this: Any = self
        if this in memo:
            return
        if remove_duplicate:
            memo.add(this)
        yield prefix, this
        for name, module in self._modules.items():
            if module is not None:
                below = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, below, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Yield this module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for the immediate submodules, each once."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """Yield the immediate submodules, each once."""
        return (module for _, module in self.named_children())

    def _named_members(
        self,
        get_members_fn: Callable[[Module], Iterable[tuple[str, Member | None]]],
        prefix: str = "",
        recurse: bool = True,
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Member]]:
        seen: set[int] = set()
        modules: Any = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for path, module in modules:
            for name, member in get_members_fn(module):
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield (f"{path}.{name}" if path else name), member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield (dotted name, parameter); a tied parameter comes once, under its first name."""
        return self._named_members(
            lambda module: module._parameters.items(), prefix, recurse, remove_duplicate
        )

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield the parameters, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield (dotted name, buffer), persistent or not."""
        return self._named_members(
            lambda module: module._buffers.items(), prefix, recurse, remove_duplicate
        )

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yield the buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    # Paths

    def _get_name(self) -> str:
        return type(self).__name__

    def get_submodule(self, target: str) -> Module:
        """Return the module at a dotted path; the empty path is this module.

        Raises AttributeError naming the first step that is missing or is no module.
        """
        module: Any = self
        for name in target.split(".") if target else ():
            step = getattr(module, name, None)
            if step is None:
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            if not isinstance(step, Tree):
                raise AttributeError(f"`{name}` is not an nn.Module")
            module = step
        found: Module = module
        return found

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put `module` at a dotted path; with `strict`, only where there is one already.

        Raises ValueError for an empty path or what is no module, AttributeError for a step that
        is missing or is no module.
        """
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Tree):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict or hasattr(parent, name):
            parent.get_submodule(name)
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter at a dotted path, or raise AttributeError."""
        found = self._get_member(target)
        if not isinstance(found, Parameter):
            raise AttributeError(f"`{target.rpartition('.')[2]}` is not an nn.Parameter")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """Return the buffer at a dotted path, or raise AttributeError."""
        path, _, name = target.rpartition(".")
        found: Tensor = self._get_member(target)
        if name not in self.get_submodule(path)._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return found

    def _get_member(self, target: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        return getattr(module, name)


def _set_to_none(table: Table, name: str, value: Any, kind: str, expected: str) -> None:
    """Empty the place of a member, the only thing but another member that it may hold."""
    if value is not None:
        raise TypeError(
            f"cannot assign '{type(value).__name__}' object to {kind} '{name}' "
            f"({expected} expected)"
        )
    table[name] = None
