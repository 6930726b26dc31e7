"""Hooks on the calls of modules: before and after forward, and around backward.

Hooks are kept as PyTorch's programs expect them, in ordered dicts `_forward_hooks` and so on, but
a module gets such a dict when it is first asked for. Until then a call knows by one flag,
`_hooked`, that there is nothing to run.
"""

from __future__ import annotations

import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .backward_hooks import BackwardHooks
from .members import Tree, registration_hooks, special_names

if TYPE_CHECKING:
    pass

Hook = Callable[..., Any]


class RemovableHandle:
    """What registers a hook returns: `remove()` takes the hook away; so does the end of `with`."""

    _next_id = 0

    def __init__(self, hooks: OrderedDict[int, Any], *, extra_dict: Any = None) -> None:
        self.id = RemovableHandle._next_id
        RemovableHandle._next_id += 1
        extra = extra_dict if isinstance(extra_dict, list) else [extra_dict] if extra_dict else []
        self._tables = [weakref.ref(table) for table in (hooks, *extra)]

    def remove(self) -> None:
        """Take the hook away; once is enough."""
        for ref in self._tables:
            table = ref()
            if table is not None:
                table.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def add_hook(
    hooks: OrderedDict[int, Any],
    hook: Any,
    prepend: bool = False,
    flags: OrderedDict[int, bool] | None = None,
    flag: bool = False,
) -> RemovableHandle:
    """Put a hook into its table, and into a table of flags if it has the flag."""
    handle = RemovableHandle(hooks, extra_dict=[] if flags is None else [flags])
    hooks[handle.id] = hook
    if flags is not None and flag:
        flags[handle.id] = True
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


class HookTable:
    """A dict of hooks as an attribute that a module gets when it is first read."""

    def __init__(self, of_calls: bool = True) -> None:
        self._of_calls = of_calls

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        if self._of_calls:
            special_names.add(name)

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        if self._of_calls:
            module.__dict__["_hooked"] = True
        table: OrderedDict[int, Any] = OrderedDict()
        return module.__dict__.setdefault(self._name, table)


_NONE: OrderedDict[int, Any] = OrderedDict()  # stands for tables that a module has not got


class _Everywhere:
    """The hooks that run at the call of every module."""

    def __init__(self) -> None:
        self.pre: OrderedDict[int, Hook] = OrderedDict()
        self.forward: OrderedDict[int, Hook] = OrderedDict()
        self.with_kwargs: OrderedDict[int, bool] = OrderedDict()
        self.always_called: OrderedDict[int, bool] = OrderedDict()
        self.backward_pre: OrderedDict[int, Hook] = OrderedDict()
        self.backward: OrderedDict[int, Hook] = OrderedDict()
        self.full: bool | None = None  # whether `backward` holds full hooks

    def _watched(self) -> list[Any]:
        """List what a captured call depends on."""
        return [self.pre, self.forward, self.backward_pre, self.backward]

    def any(self) -> bool:
        return bool(self.pre or self.forward or self.backward_pre or self.backward)


everywhere = _Everywhere()
# Not empty while there may be such hooks: what a call looks at first.
any_everywhere: list[bool] = []


def call(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module's forward with all hooks around it."""
    own = module.__dict__
    after = own.get("_forward_hooks", _NONE)
    backward = own.get("_backward_hooks", _NONE) or own.get("_backward_pre_hooks", _NONE)
    if not everywhere.any():
        any_everywhere.clear()
        if not (after or backward or own.get("_forward_pre_hooks")):
            return module.forward(*args, **kwargs)
    always = own.get("_forward_hooks_always_called", _NONE)
    if not (always or everywhere.always_called):
        return _call(module, args, kwargs, after, set())
    called: set[int] = set()
    try:
        return _call(module, args, kwargs, after, called)
    except Exception:
        kwargs_wanted = own.get("_forward_hooks_with_kwargs", _NONE)
        for hooks, flags, wanted in (
            (everywhere.forward, everywhere.always_called, everywhere.with_kwargs),
            (after, always, kwargs_wanted),
        ):
            for key, hook in tuple(hooks.items()):
                if key in flags and key not in called:
                    try:
                        _after(hook, key in wanted, module, args, kwargs, None)
                    except Exception as error:
                        warnings.warn(
                            "module forward hook with ``always_call=True`` raised an exception "
                            "that was silenced as another error was raised in forward: "
                            f"{error}",
                            stacklevel=3,
                        )
        raise


def _after(
    hook: Hook,
    with_kwargs: bool,
    module: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: Any,
) -> Any:
    """Call a forward hook; return the result that is to follow."""
    changed = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
    return result if changed is None else changed


def _call(
    module: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    after: OrderedDict[int, Hook],
    called: set[int],
) -> Any:
    own = module.__dict__
    before_wanted = own.get("_forward_pre_hooks_with_kwargs", _NONE)
    after_wanted = own.get("_forward_hooks_with_kwargs", _NONE)
    for hook in tuple(everywhere.pre.values()):
        changed = hook(module, args)
        if changed is not None:
            args = changed if isinstance(changed, tuple) else (changed,)
    for key, hook in tuple(own.get("_forward_pre_hooks", _NONE).items()):
        if key in before_wanted:
            changed = hook(module, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        "forward pre-hook must return None or a tuple of (new_args, new_kwargs), "
                        f"but got {changed}."
                    )
                args, kwargs = changed
        else:
            changed = hook(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    watch = _backward_hooks(module)
    if watch is not None:
        args = watch.inputs(args)
    result = module.forward(*args, **kwargs)
    if watch is not None:
        watch.check_inputs()
    for key, hook in tuple(everywhere.forward.items()):
        called.add(key)
        result = _after(hook, key in everywhere.with_kwargs, module, args, kwargs, result)
    for key, hook in tuple(after.items()):
        called.add(key)
        result = _after(hook, key in after_wanted, module, args, kwargs, result)
    return result if watch is None else watch.outputs(result)


def _backward_hooks(module: Any) -> BackwardHooks | None:
    own = module.__dict__
    hooks = [*everywhere.backward.values(), *own.get("_backward_hooks", _NONE).values()]
    before = [*everywhere.backward_pre.values(), *own.get("_backward_pre_hooks", _NONE).values()]
    return BackwardHooks(module, hooks, before) if hooks or before else None


class Hooked(Tree):
    """The hooks of one module."""

    _forward_hooks: Any = HookTable()
    _forward_hooks_with_kwargs: Any = HookTable()
    _forward_hooks_always_called: Any = HookTable()
    _forward_pre_hooks: Any = HookTable()
    _forward_pre_hooks_with_kwargs: Any = HookTable()
    _backward_hooks: Any = HookTable()
    _backward_pre_hooks: Any = HookTable()
    _hooked: bool
    _of_every_instance = everywhere
    _is_full_backward_hook: bool | None = None

    def _set_special(self, name: str, value: Any) -> None:
        super()._set_special(name, value)
        self.__dict__["_hooked"] = True  # at worst a look at tables that are empty

    def register_forward_pre_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before forward; what it returns, if anything, replaces args.

        With `with_kwargs`, call `hook(module, args, kwargs)`, which may return (args, kwargs).
        `prepend` puts it before the module's other hooks.
        """
        flags = self._forward_pre_hooks_with_kwargs
        return add_hook(self._forward_pre_hooks, hook, prepend, flags, with_kwargs)

    def register_forward_hook(
        self,
        hook: Hook,
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after forward; a return value replaces the output.

        With `with_kwargs`, call `hook(module, args, kwargs, output)`. With `always_call`, call it
        also when forward raises, with None as output. `prepend` puts it before the other hooks.
        """
        hooks, always = self._forward_hooks, self._forward_hooks_always_called
        flags = self._forward_hooks_with_kwargs
        handle = add_hook(hooks, hook, prepend, flags, with_kwargs)
        if always_call:
            always[handle.id] = True
            handle._tables.append(weakref.ref(always))
        return handle

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` once the gradients of the inputs are known.

        Both are tuples, with None for what is no tensor or has no gradient. A tuple that the hook
        returns replaces grad_input. Only positional inputs are watched.
        """
        self._set_full(True)
        return add_hook(self._backward_hooks, hook, prepend)

    def register_full_backward_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_output)` before the module's backward.

        A tuple that the hook returns replaces grad_output.
        """
        return add_hook(self._backward_pre_hooks, hook, prepend)

    def register_backward_hook(self, hook: Hook) -> RemovableHandle:
        """Do what `register_full_backward_hook` does, under PyTorch's former name.

        What PyTorch passes here as grad_input depends on the module's last operation; here it is
        the gradients of the module's inputs.
        """
        self._set_full(False)
        return add_hook(self._backward_hooks, hook)

    def _set_full(self, full: bool) -> None:
        if self._is_full_backward_hook is (not full):
            raise RuntimeError(
                "Cannot use both regular backward hooks and full backward hooks on a single "
                "Module. Please use only one of them."
            )
        self._is_full_backward_hook = full


def register_module_forward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call `hook(module, args)` before the forward of every module; it may return other args."""
    any_everywhere.append(True)
    return add_hook(everywhere.pre, hook)


def register_module_forward_hook(
    hook: Hook, *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Call `hook(module, args, output)` after the forward of every module, before its own hooks.

    The arguments are those of `Module.register_forward_hook`.
    """
    any_everywhere.append(True)
    handle = add_hook(everywhere.forward, hook, False, everywhere.with_kwargs, with_kwargs)
    if always_call:
        everywhere.always_called[handle.id] = True
        handle._tables.append(weakref.ref(everywhere.always_called))
    return handle


def register_module_full_backward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call `hook(module, grad_output)` before the backward of every module."""
    any_everywhere.append(True)
    return add_hook(everywhere.backward_pre, hook)


def register_module_full_backward_hook(hook: Hook) -> RemovableHandle:
    """Call `hook(module, grad_input, grad_output)` after the backward of every module."""
    return _register_everywhere(hook, True)


def register_module_backward_hook(hook: Hook) -> RemovableHandle:
    """Do what `register_module_full_backward_hook` does, under PyTorch's former name."""
    return _register_everywhere(hook, False)


def _register_everywhere(hook: Hook, full: bool) -> RemovableHandle:
    if everywhere.full is (not full):
        raise RuntimeError(
            "Cannot use both regular backward hooks and full backward hooks as a global Module "
            "hook. Please use only one of them."
        )
    everywhere.full = full
    any_everywhere.append(True)
    return add_hook(everywhere.backward, hook)


def register_module_parameter_registration_hook(hook: Hook) -> RemovableHandle:
    """Call `hook(module, name, parameter)` at every registration; it may return another one."""
    return add_hook(registration_hooks["_parameters"], hook)


def register_module_buffer_registration_hook(hook: Hook) -> RemovableHandle:
    """Call `hook(module, name, buffer)` at every registration; it may return another one."""
    return add_hook(registration_hooks["_buffers"], hook)


def register_module_module_registration_hook(hook: Hook) -> RemovableHandle:
    """Call `hook(module, name, submodule)` at every registration; it may return another one."""
    return add_hook(registration_hooks["_modules"], hook)
