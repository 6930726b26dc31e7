"""Hooks of optimizers: around a step, of one optimizer or of all, and around its state."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ..nn.modules.hooks import HookTable, RemovableHandle, add_hook

Hook = Callable[..., Any]


class _Everywhere:
    """The hooks around the steps of every optimizer."""

    def __init__(self) -> None:
        self.before: OrderedDict[int, Hook] = OrderedDict()
        self.after: OrderedDict[int, Hook] = OrderedDict()

    def _watched(self) -> list[Any]:
        """List what a captured call depends on."""
        return [self.before, self.after]


everywhere = _Everywhere()


def register_optimizer_step_pre_hook(hook: Hook) -> RemovableHandle:
    """Call `hook(optimizer, args, kwargs)` before each step of every optimizer."""
    return add_hook(everywhere.before, hook)


def register_optimizer_step_post_hook(hook: Hook) -> RemovableHandle:
    """Call `hook(optimizer, args, kwargs)` after each step of every optimizer."""
    return add_hook(everywhere.after, hook)


class Hooked:
    """The hooks of one optimizer."""

    _optimizer_step_pre_hooks: OrderedDict[int, Hook]
    _optimizer_step_post_hooks: OrderedDict[int, Hook]
    _optimizer_state_dict_pre_hooks: Any = HookTable(of_calls=False)
    _optimizer_state_dict_post_hooks: Any = HookTable(of_calls=False)
    _optimizer_load_state_dict_pre_hooks: Any = HookTable(of_calls=False)
    _optimizer_load_state_dict_post_hooks: Any = HookTable(of_calls=False)
    _of_every_instance = everywhere
    # Whether a step was taken, for schedules; and whether one is going on, with its hooks.
    _opt_called: bool
    _stepping: bool
    _scheduled: bool

    def _init_hooks(self) -> None:
        self._optimizer_step_pre_hooks = OrderedDict()
        self._optimizer_step_post_hooks = OrderedDict()
        self._opt_called = self._stepping = False

    def _step_with_hooks(self, step: Hook, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call `step(*args, **kwargs)`, of which the first is this optimizer, between the hooks."""
        if self._stepping:  # a step of the base class within that of a subclass
            return step(*args, **kwargs)
        self._stepping = True
        try:
            for hook in (*everywhere.before.values(), *self._optimizer_step_pre_hooks.values()):
                changed = hook(self, args, kwargs)
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise RuntimeError(
                            f"{hook} must return None or a tuple of (new_args, new_kwargs), but "
                            f"got {type(changed)}."
                        )
                    args, kwargs = changed
            result = step(*args, **kwargs)
            for hook in (*self._optimizer_step_post_hooks.values(), *everywhere.after.values()):
                hook(self, args, kwargs)
            return result
        finally:
            self._stepping = False

    def register_step_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before each step; it may return other arguments.

        The first of `args` is the optimizer.
        """
        return add_hook(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return add_hook(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` before the state is written."""
        return add_hook(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` after; what it returns, if anything, replaces it."""
        return add_hook(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Hook, prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` before loading; it may return another one."""
        return add_hook(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Hook, prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(optimizer)` after loading."""
        return add_hook(self._optimizer_load_state_dict_post_hooks, hook, prepend)


def with_hooks(step: Hook) -> Hook:
    """Wrap the step of a class of the user's."""

    @functools.wraps(step)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._opt_called = True
        return self._step_with_hooks(step, (self, *args), kwargs)

    return wrapped
