"""Module: the tree of parameters, buffers and submodules that every network is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .conversion import Converted
from .hooks import (
    Hooked,
    any_everywhere,
    call,
    register_module_backward_hook as register_module_backward_hook,
    register_module_buffer_registration_hook as register_module_buffer_registration_hook,
    register_module_forward_hook as register_module_forward_hook,
    register_module_forward_pre_hook as register_module_forward_pre_hook,
    register_module_full_backward_hook as register_module_full_backward_hook,
    register_module_full_backward_pre_hook as register_module_full_backward_pre_hook,
    register_module_module_registration_hook as register_module_module_registration_hook,
    register_module_parameter_registration_hook as register_module_parameter_registration_hook,
)
from .state_dict import Stateful, _IncompatibleKeys as _IncompatibleKeys

if TYPE_CHECKING:
    from typing_extensions import Self

_ABSENT: Any = object()


def _forward_missing(self: Module, *args: Any, **kwargs: Any) -> Any:
    name = type(self).__name__
    raise NotImplementedError(f'Module [{name}] is missing the required "forward" function')


def indent(text: str) -> str:
    """Shift every line but the first by two spaces."""
    return text.replace("\n", "\n  ")


def listing(name: str, extra: str, children: list[str]) -> str:
    """Lay out `name(extra)`, on one line where there are no children and one line of extra."""
    lines = extra.split("\n") if extra else []
    if len(lines) <= 1 and not children:
        return f"{name}({extra})"
    return "\n  ".join([f"{name}(", *lines, *children]) + "\n)"


class Module(Hooked, Stateful, Converted):
    """Hold parameters, buffers and submodules, registered by plain assignment.

    A subclass calls `super().__init__()`, assigns its members and defines `forward`; the module is
    then called like a function.
    """

    # For subclasses with further bases: whether `__init__` passes its arguments on to them.
    call_super_init: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if (args or kwargs) and not self.call_super_init:
            name = f"{type(self).__name__}.__init__()"
            if kwargs:
                raise TypeError(f"{name} got an unexpected keyword argument '{next(iter(kwargs))}'")
            raise TypeError(f"{name} takes 1 positional argument but {len(args) + 1} were given")
        self._init_members()
        self.__dict__["_hooked"] = False
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def __init_subclass__(cls, _ends_lookup: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__getattr__" in cls.__dict__ and not (_ends_lookup or issubclass(cls, _Asked)):
            # It may call super().__getattr__. That is no method of Module's own, for in a class
            # that has one every reading of an attribute is slower.
            bases = tuple(_Asked if base is Module else base for base in cls.__bases__)
            cls.__bases__ = bases if _Asked in bases else (*bases, _Asked)

    # Annotated as a variable so that a subclass may narrow the signature.
    forward: Callable[..., Any] = _forward_missing

    def __call__(self, first: Any = _ABSENT, /, *rest: Any, **kwargs: Any) -> Any:
        hooked = self._hooked or any_everywhere
        if rest or kwargs or hooked or first is _ABSENT:
            args = () if first is _ABSENT else (first, *rest)
            return call(self, args, kwargs) if hooked else self.forward(*args, **kwargs)
        # The usual call, one argument and no hooks, spares the packing of a tuple and a dict.
        return self.forward(first)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__.setdefault("_hooked", False)
        self._adopt_tables()

    # Changes to the whole tree

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Call `fn` on every submodule, children first, then on this module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Set training mode here and below (dropout draws, batch norm updates its averages)."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode: the same as `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Make every parameter record gradients, or freeze them."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop every parameter's gradient, or fill it with zeros in place."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                if set_to_none:
                    parameter.grad = None
                else:
                    parameter.grad.detach_().zero_()

    # Printing

    def extra_repr(self) -> str:
        """Return what goes between the parentheses of this module's own line."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {indent(repr(module))}" for name, module in self._modules.items()]
        return listing(self._get_name(), extra, children)


class _Asked(Module, _ends_lookup=True):
    """What stands behind a class with an attribute lookup of its own: its end."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
