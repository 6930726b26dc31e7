"""A module's state: written to a flat dict of tensors, and read back with every mismatch listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ...autograd import no_grad
from ...tensor import Tensor
from ..parameter import Parameter

if TYPE_CHECKING:
    from .module import Module


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` could not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


def members(module: Module) -> Iterator[tuple[str, Module, str, Tensor]]:
    """Yield (dotted key, owner, name, tensor) of all that is saved; tied tensors under each key."""
    for path, owner in module.named_modules(remove_duplicate=False):
        start = f"{path}." if path else ""
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                yield start + name, owner, name, parameter
        for name, buffer in owner._buffers.items():
            if buffer is not None and name not in owner._non_persistent:
                yield start + name, owner, name, buffer


def load(
    module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool
) -> IncompatibleKeys:
    """Copy the tensors of `state_dict` into `module`; change nothing unless all of them fit.

    With `assign`, take the tensors themselves instead of copying their values.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict).__name__}.")
    missing: list[str] = []
    unmatched: list[str] = []
    fitting: list[tuple[Module, str, Tensor, Tensor]] = []
    expected: set[str] = set()
    for key, owner, name, tensor in members(module):
        expected.add(key)
        value = state_dict.get(key)
        if key not in state_dict:
            missing.append(key)
        elif not isinstance(value, Tensor):
            unmatched.append(
                f'"{key}": expected a Tensor from checkpoint, got {type(value).__name__}.'
            )
        elif value.shape != tensor.shape:
            unmatched.append(
                f"size mismatch for {key}: copying a param with shape {tuple(value.shape)} from "
                f"checkpoint, the shape in current model is {tuple(tensor.shape)}."
            )
        else:
            fitting.append((owner, name, tensor, value))
    unexpected = [key for key in state_dict if key not in expected]

    errors: list[str] = []
    if strict and missing:
        errors.append(f"Missing key(s) in state_dict: {_quoted(missing)}. ")
    if strict and unexpected:
        errors.append(f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
    errors += unmatched
    if errors:
        listing = "\n\t".join(errors)
        raise RuntimeError(
            f"Error(s) in loading state_dict for {type(module).__name__}:\n\t{listing}"
        )
    with no_grad():
        for owner, name, tensor, value in fitting:
            if not assign:
                tensor.copy_(value)
            elif isinstance(tensor, Parameter) and not isinstance(value, Parameter):
                setattr(owner, name, Parameter(value, tensor.requires_grad))
            else:
                setattr(owner, name, value)
    return IncompatibleKeys(missing, unexpected)


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)
