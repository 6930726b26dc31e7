"""Module: the tree of parameters, buffers and submodules that every network is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ...autograd.methods import RemovableHandle
from ...dtypes import bfloat16, device as Device, dtype as DType, float32, float64
from ...tensor import Tensor
from ..parameter import Parameter
from . import state_dict as state

if TYPE_CHECKING:
    from typing_extensions import Self

Member = TypeVar("Member")


_ABSENT: Any = object()


class _Hook(NamedTuple):
    call: Callable[..., Any]
    with_kwargs: bool  # whether it wants the keyword arguments too


def _add_hook(hooks: list[_Hook], hook: _Hook, prepend: bool) -> RemovableHandle:
    hooks.insert(0 if prepend else len(hooks), hook)
    return RemovableHandle(hooks, hook)


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


class Module:
    """Hold parameters, buffers and submodules, registered by plain assignment.

    Members live both in the instance's `__dict__`, which makes reading `self.weight` as cheap as
    reading any attribute, and in the ordered tables `_parameters`, `_buffers` and `_modules`,
    which walks of the tree read. Only `__setattr__`, `__delattr__` and `register_*` write them.
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent: set[str]
    _forward_hooks: list[_Hook]
    _forward_pre_hooks: list[_Hook]

    def __init__(self) -> None:
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _non_persistent=set(),
            _forward_hooks=[],
            _forward_pre_hooks=[],
        )

    # Annotated as a variable so that a subclass may narrow the signature.
    forward: Callable[..., Any] = _forward_missing

    def __call__(self, first: Any = _ABSENT, /, *rest: Any, **kwargs: Any) -> Any:
        hooked = self._forward_pre_hooks or self._forward_hooks
        if rest or kwargs or hooked or first is _ABSENT:
            args = () if first is _ABSENT else (first, *rest)
            return self._call_with_hooks(args, kwargs) if hooked else self.forward(*args, **kwargs)
        # The usual call, one argument and no hooks, spares the packing of a tuple and a dict.
        return self.forward(first)

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook in tuple(self._forward_pre_hooks):
            if hook.with_kwargs:
                changed = hook.call(self, args, kwargs)
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise RuntimeError(
                            "forward pre-hook: a hook registered with with_kwargs=True must return "
                            f"None or a tuple (args, kwargs), got {changed!r}"
                        )
                    args, kwargs = changed
            else:
                changed = hook.call(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **kwargs)
        for hook in tuple(self._forward_hooks):
            if hook.with_kwargs:
                changed = hook.call(self, args, kwargs, result)
            else:
                changed = hook.call(self, args, result)
            if changed is not None:
                result = changed
        return result

    # Members

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        parameters = own.get("_parameters")
        if parameters is None:
            if isinstance(value, (Parameter, Module)):
                kind = "parameters" if isinstance(value, Parameter) else "module"
                raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
            object.__setattr__(self, name, value)
            return
        if isinstance(value, Parameter):
            if name not in parameters:
                self._forget(name)
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            if name not in own["_modules"]:
                self._forget(name)
            own["_modules"][name] = own[name] = value
        elif name in parameters:
            self._assign(parameters, name, value, "parameter", "nn.Parameter or None")
        elif name in own["_modules"]:
            self._assign(own["_modules"], name, value, "child module", "nn.Module or None")
        elif name in own["_buffers"]:
            if value is not None and not isinstance(value, Tensor):
                self._assign(own["_buffers"], name, value, "buffer", "Tensor or None")
            own["_buffers"][name] = own[name] = value
        else:
            object.__setattr__(self, name, value)

    def _assign(
        self, table: dict[str, Any], name: str, value: Any, kind: str, expected: str
    ) -> None:
        if value is not None:
            raise TypeError(
                f"cannot assign '{type(value).__name__}' object to {kind} '{name}' "
                f"({expected} expected)"
            )
        table[name] = self.__dict__[name] = None

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self.__dict__.pop(name, None)
        self._parameters.pop(name, None)
        self._buffers.pop(name, None)
        self._modules.pop(name, None)
        self._non_persistent.discard(name)

    def _check_new_name(self, kind: str, name: str, table: Mapping[str, Any]) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: "{name}"')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if hasattr(self, name) and name not in table:
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, reachable as an attribute; None reserves the name."""
        self._check_new_name("parameter", name, self.__dict__.get("_parameters", {}))
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
        self._parameters[name] = self.__dict__[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that moves and is saved with the module but is not trained.

        A buffer that is not `persistent` stays out of `state_dict`.
        """
        self._check_new_name("buffer", name, self.__dict__.get("_buffers", {}))
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' "
                "(Tensor or None required)"
            )
        self._buffers[name] = self.__dict__[name] = tensor
        if persistent:
            self._non_persistent.discard(name)
        else:
            self._non_persistent.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule, reachable as an attribute; None reserves the name."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_new_name("module", name, self.__dict__.get("_modules", {}))
        self._modules[name] = self.__dict__[name] = module

    register_module = add_module

    # Walks

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yield (dotted name, module) for this module and all below it, depth first."""
        if memo is None:
            memo = set()
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
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
        modules = (
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

    def get_submodule(self, target: str) -> Module:
        """Return the module at a dotted path; the empty path is this module.

        Raises AttributeError naming the first step that is missing or is no module.
        """
        module: Module = self
        for name in target.split(".") if target else ():
            step = getattr(module, name, None)
            if step is None:
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            if not isinstance(step, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
            module = step
        return module

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter at a dotted path, or raise AttributeError."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        parameter = module._parameters.get(name)
        if parameter is None:
            raise AttributeError(f"{module._get_name()} has no parameter `{name}`")
        return parameter

    def get_buffer(self, target: str) -> Tensor:
        """Return the buffer at a dotted path, or raise AttributeError."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        buffer = module._buffers.get(name)
        if buffer is None:
            raise AttributeError(f"{module._get_name()} has no buffer `{name}`")
        return buffer

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
        self.__dict__["training"] = mode
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

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> Self:
        # Parameters keep their identity, so optimizers and ties stay valid.
        for parameter in self.parameters():
            parameter.data = fn(parameter.data)
            if parameter.grad is not None:
                parameter.grad = fn(parameter.grad.data)
        moved: dict[int, Tensor] = {}
        for module in self.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    if id(buffer) not in moved:
                        moved[id(buffer)] = fn(buffer)
                    module._buffers[name] = module.__dict__[name] = moved[id(buffer)]
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Convert floating parameters and buffers in place: to(device), to(dtype), to(tensor).

        Integer and boolean tensors keep their dtype. Raises TypeError for a dtype without
        fractions.
        """
        dtype: DType | None = kwargs.get("dtype")
        device: Device | str | None = kwargs.get("device")
        for value in (*args, kwargs.get("tensor")):
            if isinstance(value, Tensor):
                dtype = value.dtype
            elif isinstance(value, DType):
                dtype = value
            elif isinstance(value, (Device, str)):
                device = value
        if device is not None:
            Device(device)  # refuses an unknown device, even when there is no tensor to move
        if dtype is None:
            return self
        if not dtype.is_floating_point:
            raise TypeError(
                f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}"
            )
        chosen = dtype
        return self._apply(lambda t: t.to(chosen) if t.is_floating_point() else t)

    def float(self) -> Self:
        """Convert floating parameters and buffers to float32."""
        return self.to(float32)

    def double(self) -> Self:
        """Convert floating parameters and buffers to float64."""
        return self.to(float64)

    def bfloat16(self) -> Self:
        """Convert floating parameters and buffers to bfloat16."""
        return self.to(bfloat16)

    def cpu(self) -> Self:
        """Return self: there is no other device."""
        return self

    # State

    def state_dict(
        self,
        *,
        destination: dict[str, Tensor] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Tensor]:
        """Return a dict from dotted names to parameters and persistent buffers.

        The tensors share storage with the module; they are detached unless `keep_vars`.
        """
        if destination is None:
            destination = {}
        for key, _, _, tensor in state.members(self):
            destination[prefix + key] = tensor if keep_vars else tensor.detach()
        return destination

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> state.IncompatibleKeys:
        """Copy values from `state_dict` into parameters and buffers, and say what did not match.

        Raises RuntimeError listing every size mismatch and, when `strict`, every missing and
        unexpected key; the module is then unchanged. With `assign` the tensors are taken over
        instead of copied.
        """
        return state.load(self, state_dict, strict, assign)

    # Hooks

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before forward; what it returns, if anything, replaces args.

        With `with_kwargs`, call `hook(module, args, kwargs)`, which may return (args, kwargs).
        """
        return _add_hook(self._forward_pre_hooks, _Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after forward; a return value replaces the output.

        With `with_kwargs`, call `hook(module, args, kwargs, output)`.
        """
        return _add_hook(self._forward_hooks, _Hook(hook, with_kwargs), prepend)

    # Printing

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """Return what goes between the parentheses of this module's own line."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {indent(repr(module))}" for name, module in self._modules.items()]
        return listing(self._get_name(), extra, children)
