"""A module's state: written to a flat dict of tensors, and read back with every mismatch listed.

Loading is all or nothing: values are written when everything is known to fit. Only a module that
takes part by code of its own (an override of `_load_from_state_dict`, a hook after loading) sees
its values, and those before it, written by the time that code runs.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ...autograd import no_grad
from ...tensor import Tensor
from ..parameter import Parameter
from .hooks import HookTable, RemovableHandle, add_hook
from .members import Tree

_EXTRA = "_extra_state"


class _IncompatibleKeys(NamedTuple):
    """What `load_state_dict` could not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"_IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


class _Journal(threading.local):
    """What is to be written once everything is known to fit; None outside `load_state_dict`."""

    writes: list[Callable[[], None]] | None = None

    def add(self, write: Callable[[], None]) -> None:
        if self.writes is None:
            write()
        else:
            self.writes.append(write)

    def flush(self) -> None:
        if self.writes:
            writes, self.writes = self.writes, []
            for write in writes:
                write()


_journal = _Journal()


class _LoadHook(NamedTuple):
    call: Callable[..., Any]
    with_module: bool


class Stateful(Tree):
    """How a module writes and reads its state."""

    # Raised when what a class saves changes, and saved along: loading then knows what it reads.
    _version: int = 1
    _state_dict_hooks: Any = HookTable(of_calls=False)
    _state_dict_pre_hooks: Any = HookTable(of_calls=False)
    _load_state_dict_pre_hooks: Any = HookTable(of_calls=False)
    _load_state_dict_post_hooks: Any = HookTable(of_calls=False)

    def _hooks_of(self, name: str) -> list[Any]:
        return list(self.__dict__.get(name, {}).values())

    # Writing

    def get_extra_state(self) -> Any:
        """Return what else belongs into `state_dict`; for subclasses to define."""
        raise RuntimeError(
            "Reached a code path in Module.get_extra_state() that should never be called."
        )

    def set_extra_state(self, state: Any) -> None:
        """Take over what `get_extra_state` had returned; for subclasses to define."""
        raise RuntimeError(
            "Reached a code path in Module.set_extra_state() that should never be called."
        )

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Write this module's own parameters, persistent buffers and extra state."""
        for name, parameter in self._parameters.items():
            if parameter is not None:
                destination[prefix + name] = parameter if keep_vars else parameter.detach()
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers_set:
                destination[prefix + name] = buffer if keep_vars else buffer.detach()
        if type(self).get_extra_state is not Stateful.get_extra_state:
            destination[prefix + _EXTRA] = self.get_extra_state()

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Return an ordered dict from dotted names to parameters and persistent buffers.

        The tensors share storage with the module; they are detached unless `keep_vars`. What
        `get_extra_state` returns is added under `_extra_state`.
        """
        if args:
            warnings.warn(
                "Positional args are being deprecated, use kwargs instead. Refer to "
                "https://pytorch.org/docs/main/generated/torch.nn.Module.html#torch.nn.Module."
                "state_dict for details.",
                FutureWarning,
                stacklevel=2,
            )
            given = dict(zip(("destination", "prefix", "keep_vars"), args, strict=False))
            destination = given["destination"] if destination is None else destination
            prefix = given.get("prefix", prefix) if prefix == "" else prefix
            keep_vars = keep_vars or given.get("keep_vars", False)
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in self._hooks_of("_state_dict_pre_hooks"):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(
                    destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars
                )
        for hook in self._hooks_of("_state_dict_hooks"):
            result = hook(self, destination, prefix, metadata)
            if result is not None:
                if getattr(hook, "_from_public_api", False):
                    raise RuntimeError("state_dict post-hook must return None")
                destination = result
        written: dict[str, Any] = destination
        return written

    # Reading

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Copy values from `state_dict` into parameters and buffers, and say what did not match.

        Raises RuntimeError listing every size mismatch and, when `strict`, every missing and
        unexpected key; the module is then unchanged. With `assign` the tensors are taken over
        instead of copied.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        metadata = getattr(state_dict, "_metadata", None)
        given: Any = OrderedDict(state_dict)
        if metadata is not None:
            given._metadata = metadata
        missing: list[str] = []
        unexpected: list[str] = []
        unmatched: list[str] = []

        def load(module: Any, local: Mapping[str, Any], prefix: str) -> None:
            known = {} if metadata is None else metadata.get(prefix[:-1], {})
            if assign:
                known["assign_to_params_buffers"] = True
            module._load_from_state_dict(local, prefix, known, True, missing, unexpected, unmatched)
            for name, child in module._modules.items():
                if child is not None:
                    below = f"{prefix}{name}."
                    load(child, {k: v for k, v in local.items() if k.startswith(below)}, below)
            hooks = module._hooks_of("_load_state_dict_post_hooks")
            if hooks:
                _journal.flush()
            for hook in hooks:
                if hook(module, _IncompatibleKeys(missing, unexpected)) is not None:
                    raise AssertionError(
                        "Hooks registered with ``register_load_state_dict_post_hook`` are not "
                        "expected to return new values, if incompatible_keys need to be modified, "
                        "it should be done inplace."
                    )

        before, _journal.writes = _journal.writes, []
        try:
            load(self, given, "")
            errors = list(unmatched)
            if strict and unexpected:
                errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
            if strict and missing:
                errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
            if errors:
                listing = "\n\t".join(errors)
                raise RuntimeError(
                    f"Error(s) in loading state_dict for {self._get_name()}:\n\t{listing}"
                )
            _journal.flush()
        finally:
            _journal.writes = before
        return _IncompatibleKeys(missing, unexpected)

    def _upgrade_state(self, state_dict: dict[str, Any], prefix: str, version: int | None) -> None:
        """Bring the state of an older version of this class, or None, up to date."""

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Read this module's own parameters, persistent buffers and extra state.

        What does not match is added to the three lists.
        """
        lists = (missing_keys, unexpected_keys, error_msgs)
        for hook in self._hooks_of("_load_state_dict_pre_hooks"):
            owner = (self,) if hook.with_module else ()
            hook.call(*owner, state_dict, prefix, local_metadata, strict, *lists)
        self._upgrade_state(state_dict, prefix, local_metadata.get("version"))
        assign = local_metadata.get("assign_to_params_buffers", False)
        members: dict[str, Any] = dict(self._parameters)
        for name, buffer in self._buffers.items():
            if name not in self._non_persistent_buffers_set:
                members[name] = buffer
        members = {name: member for name, member in members.items() if member is not None}
        for name, member in members.items():
            key = prefix + name
            if key in state_dict:
                problem = self._take(name, member, state_dict[key], assign, key)
                if problem:
                    error_msgs.append(problem)
            elif strict:
                missing_keys.append(key)
        extra = prefix + _EXTRA
        if type(self).set_extra_state is not Stateful.set_extra_state:
            if extra in state_dict:
                state = state_dict[extra]
                _journal.add(lambda: self.set_extra_state(state))
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra:
                    name, *below = key[len(prefix) :].split(".", 1)
                    if name not in (self._modules if below else members):
                        unexpected_keys.append(key)
        if type(self)._load_from_state_dict is not Stateful._load_from_state_dict:
            _journal.flush()  # the override that called this may go on with the values

    def _take(self, name: str, member: Tensor, value: Any, assign: bool, key: str) -> str:
        """Plan to copy or take over one value; return what speaks against it."""
        if not isinstance(value, Tensor):
            return (
                f'While copying the parameter named "{key}", expected a Tensor of backtrail or '
                f"one of its subclasses from checkpoint but received {type(value)}; "
                "backtrail.from_numpy makes one of an array"
            )
        if member.ndim == 0 and value.ndim == 1 and value.shape[0] > 0:
            value = value[0]  # scalars of PyTorch before 0.4
        if value.shape != member.shape:
            return (
                f"size mismatch for {key}: copying a param with shape {tuple(value.shape)} from "
                f"checkpoint, the shape in current model is {tuple(member.shape)}."
            )

        def write() -> None:
            with no_grad():
                if not assign:
                    member.copy_(value)
                elif not isinstance(member, Parameter):
                    setattr(self, name, value)
                elif isinstance(value, Parameter):
                    setattr(self, name, value.requires_grad_(member.requires_grad))
                else:
                    setattr(self, name, Parameter(value, member.requires_grad))

        _journal.add(write)
        return ""

    # Hooks

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, prefix, keep_vars)` before the module writes its state."""
        return add_hook(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata)` after; it changes it in place."""
        hook._from_public_api = True  # type: ignore[attr-defined]
        return add_hook(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Do the same with a hook that may return another dict."""
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError(
                "Cannot register the same function as the state dict post hook that was "
                "previously registered via register_state_dict_post_hook"
            )
        return add_hook(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook` before the module reads its state.

        With (module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
        error_msgs), of which it may change the dict and the lists in place.
        """
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], with_module: bool = False
    ) -> RemovableHandle:
        return add_hook(self._load_state_dict_pre_hooks, _LoadHook(hook, with_module))

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, incompatible_keys)` once the module and all below it have read."""
        return add_hook(self._load_state_dict_post_hooks, hook)


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)
