"""Optimizer: parameter groups, per-parameter state, and how both are saved."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any

from ..autograd import enable_grad, no_grad
from ..dtypes import float32
from ..functions.creation import full
from ..tensor import Tensor
from .hooks import (
    Hooked,
    everywhere,
    register_optimizer_step_post_hook as register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook as register_optimizer_step_pre_hook,
    with_hooks,
)

Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
Closure = Callable[[], Any]


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()  # the default of a setting that each group must bring


def counter(steps: Any = 0) -> Tensor:
    """Return a count of steps as a scalar of float32, which can be raised in captured functions."""
    return full((), float(steps), dtype=float32)


class Count(int):
    """A count of steps: a plain int that programs may read as the tensor that PyTorch has."""

    def item(self) -> float:
        """Return the count as the float that PyTorch counts in."""
        return float(self)

    tolist = item


class Optimizer(Hooked):
    """Hold what is trained, in groups of parameters that share their settings.

    `param_groups` is a list of dicts: "params", and one entry for each of `defaults`. `state` maps
    a parameter to a dict of what is remembered about it.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or "
                "dicts, but got a single Tensor"
            )
        self._init_hooks()
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        listed: list[Any] = list(params)
        if len(listed) == 0:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(listed[0], dict):
            listed = [{"params": listed}]
        for group in listed:
            self.add_param_group(group)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = with_hooks(cls.step)  # type: ignore[method-assign]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a dict with "params" and any settings that differ from the defaults.

        Raises TypeError for what is no tensor, ValueError for a tensor that is no leaf, a missing
        setting, or a parameter that another group already holds.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group).__name__}")
        params = param_group["params"]
        if isinstance(params, Tensor):
            params = [params]
        elif isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the "
                "ordering of tensors in sets will change between runs. Please use a list instead."
            )
        params = list(params)
        names = [param[0] for param in params if isinstance(param, tuple)]
        if names and len(names) != len(params):
            raise ValueError(
                "all optimizer params should be with/without names. Some param names are missing"
            )
        if names:
            params = [param for _, param in params]
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(
                    "optimizer can only optimize Tensors, but one of the params is "
                    f"{type(param).__name__}"
                )
            if not (param.is_leaf or self.defaults.get("differentiable")):
                raise ValueError("can't optimize a non-leaf Tensor")
        group = {key: value for key, value in param_group.items() if key != "params"}
        for name, default in self.defaults.items():
            if default is required:
                if name not in group:
                    raise ValueError(
                        "parameter group didn't specify a value of required optimization "
                        f"parameter {name}"
                    )
            else:
                group.setdefault(name, default)
        if len({id(param) for param in params}) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this "
                "will cause an error",
                stacklevel=3,
            )
        taken = {id(param) for other in self.param_groups for param in other["params"]}
        if any(id(param) in taken for param in params):
            raise ValueError("some parameters appear in more than one parameter group")
        if names:
            group["param_names"] = names
        for other in self.param_groups:
            if ("param_names" in other) != ("param_names" in group):
                how = "with" if "param_names" in group else "without"
                raise ValueError(
                    "all optimizer param groups should be with/without names. cannot add param "
                    f"group {how} names to the optimizer"
                )
        self.param_groups.append({"params": params, **group})

    # Settings that a replay of a captured step reads anew; none: an optimizer of the user's.
    _live_settings: tuple[str, ...] = ()
    # How a saved count of steps is taken over.
    _counter: Callable[[Any], Any] = staticmethod(deepcopy)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._init_hooks()
        self.__dict__.update(state)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop every gradient, or fill it with zeros in place."""
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                elif (grad := param.grad) is not None:
                    grad.detach_().zero_()

    def step(self, closure: Closure | None = None) -> Any:
        """Update the parameters once from their gradients.

        `closure`, if given, computes the loss anew and returns it; its value is returned.
        """
        self._opt_called = True
        hooked = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        if (hooked or everywhere.before or everywhere.after) and not self._stepping:
            given = () if closure is None else (closure,)
            return self._step_with_hooks(Optimizer.step, (self, *given), {})
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            for group in self.param_groups:
                self._update(group)
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        """Update the parameters of one group that have a gradient."""
        raise NotImplementedError(f"{type(self).__name__} defines neither step nor _update")

    def _gradients(self, group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (parameter, gradient), with the sign and weight decay that the group asks for."""
        weight_decay = group["weight_decay"]
        for param in group["params"]:
            grad = param.grad
            if grad is not None:
                if group["maximize"]:
                    grad = -grad
                if weight_decay != 0:
                    grad = grad.add(param, alpha=weight_decay)
                yield param, grad

    def state_dict(self) -> dict[str, Any]:
        """Return {"state", "param_groups"} with parameters replaced by their running number.

        The tensors are the optimizer's own, not copies; steps are counted in tensors.
        """
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            packed = {key: value for key, value in group.items() if key != "params"}
            packed["params"] = [numbers.setdefault(id(p), len(numbers)) for p in group["params"]]
            groups.append(packed)
        state = {
            numbers[id(key)] if isinstance(key, Tensor) else key: _with_tensor_count(value)
            for key, value in self.state.items()
        }
        made: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, made)
            made = made if changed is None else changed
        return made

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a copy of what `state_dict` returned, by position of group and parameter.

        Floating state takes its parameter's dtype. Raises ValueError when the groups differ in
        number or size.
        """
        state_dict = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        saved = state_dict["param_groups"]
        groups = self.param_groups
        if len(saved) != len(groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(
            len(old["params"]) != len(new["params"]) for old, new in zip(saved, groups, strict=True)
        ):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                "optimizer's group"
            )
        params = {
            number: param
            for old, new in zip(saved, groups, strict=True)
            for number, param in zip(old["params"], new["params"], strict=True)
        }
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for number, values in state_dict["state"].items():
            param = params.get(number)
            if param is None:
                state[number] = deepcopy(values)
            else:
                state[param] = {
                    name: self._counter(value) if name == "step" else _taken(value, param)
                    for name, value in values.items()
                }
        self.state = state
        self.param_groups = [
            {"params": new["params"]}
            | {key: deepcopy(value) for key, value in old.items() if key != "params"}
            for old, new in zip(saved, groups, strict=True)
        ]
        for group, new in zip(self.param_groups, groups, strict=True):
            for name, default in self.defaults.items():
                group.setdefault(name, default)
            if "param_names" in new:
                group.setdefault("param_names", new["param_names"])
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
            lines.append("")
        return "\n".join(lines[:-1]) + "\n)"


def _with_tensor_count(state: Any) -> Any:
    count = state.get("step") if isinstance(state, dict) else None
    return {**state, "step": counter(count)} if isinstance(count, Count) else state


def _taken(value: Any, param: Tensor) -> Any:
    """Copy one saved entry, in the form that this parameter's update expects."""
    if isinstance(value, Tensor):
        value = value.detach().clone()
        return value.to(param.dtype) if param.is_floating_point() else value
    return deepcopy(value)


def check_settings(**limits: tuple[Any, bool]) -> None:
    """Raise ValueError for the first name whose (value, whether it is allowed) says no."""
    for name, (value, holds) in limits.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"Tensor {name} must be 1-element, got shape {tuple(value.shape)}")
        if not holds:
            raise ValueError(f"{_SETTINGS.get(name, f'Invalid {name} value')}: {value}")


# What PyTorch says of a setting, where that is more than its name.
_SETTINGS = {
    "lr": "Invalid learning rate",
    "eps": "Invalid epsilon value",
    "beta1": "Invalid beta parameter at index 0",
    "beta2": "Invalid beta parameter at index 1",
}


def check_implementation(foreach: bool | None, fused: bool | None, differentiable: bool) -> None:
    """Refuse what no implementation can do; which one runs is otherwise not for the caller."""
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if differentiable:
        raise ValueError("differentiable=True is not supported: steps are not recorded")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def beta(betas: Any, i: int) -> tuple[float, bool]:
    """Return one of the factors of Adam, and whether it is allowed."""
    if isinstance(betas[0], Tensor) != isinstance(betas[1], Tensor):
        raise ValueError("betas must be either both floats or both Tensors")
    if isinstance(betas[i], Tensor) and betas[i].numel() != 1:
        raise ValueError(f"Tensor betas[{i}] must be 1-element")
    value = float(betas[i])
    return value, 0 <= value < 1


def check_tensors(lr: Any, betas: Any, foreach: bool | None, capturable: bool) -> None:
    """Refuse the settings as tensors that PyTorch refuses with `foreach`."""
    if foreach and not capturable:
        for name, value in (("lr", lr), ("betas[0]", betas[0]), ("betas[1]", betas[1])):
            if isinstance(value, Tensor):
                raise ValueError(
                    f"{name} as a Tensor is not supported for capturable=False and foreach=True"
                )
