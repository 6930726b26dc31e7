"""Whether what a checkpoint holds can take the place of what a run has."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ..autograd import no_grad
from ..functions.creation import ones
from ..nn import Parameter
from ..optim import Optimizer
from ..tensor import Tensor
from .history import History


def check_like(saved: Any, ours: Any, name: str) -> None:
    """Raise ValueError where `saved` has not the names, types, lengths and shapes of `ours`."""
    if isinstance(ours, Mapping):
        if not isinstance(saved, Mapping):
            raise ValueError(f"{name} is of type {type(saved).__name__}")
        if saved.keys() != ours.keys():
            odd = sorted(map(str, saved.keys() ^ ours.keys()))
            raise ValueError(f"{name} lacks or has besides: {', '.join(odd)}")
        for key, value in ours.items():
            check_like(saved[key], value, f"{name}.{key}")
    elif isinstance(ours, (list, tuple)):
        if not isinstance(saved, (list, tuple)) or len(saved) != len(ours):
            raise ValueError(f"{name} is {saved!r:.40}, and not {len(ours)} things")
        for i, (one, other) in enumerate(zip(saved, ours, strict=True)):
            check_like(one, other, f"{name}.{i}")
    elif isinstance(ours, Tensor) and isinstance(saved, Tensor):
        if saved.shape != ours.shape:
            raise ValueError(f"{name} has shape {tuple(saved.shape)}, not {tuple(ours.shape)}")
    elif _sort(saved) != _sort(ours):
        raise ValueError(f"{name} is {saved!r:.40}, and {ours!r:.40} is wanted")


def _sort(value: Any) -> str:
    """Return what may stand for one another: numbers, and choices that may be left open."""
    if value is None or isinstance(value, bool):
        return "choice"
    if isinstance(value, Tensor) and value.numel() == 1:  # counts may be kept in tensors
        return "number"
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def check_optimizer(saved: Any, optimizer: Optimizer) -> None:
    """Raise ValueError for a state that the optimizer's next step could not use."""
    ours = optimizer.state_dict()
    check_like(saved["param_groups"], ours["param_groups"], "param_groups")
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for number, values in saved["state"].items():
        param = params[number] if type(number) is int and 0 <= number < len(params) else None
        if param is None or not isinstance(values, Mapping):
            raise ValueError(f"state.{number} belongs to no parameter")
        for group, kept in zip(optimizer.param_groups, saved["param_groups"], strict=True):
            if any(param is p for p in group["params"]):
                check_like(values, _first_state(optimizer, kept, param), f"state.{number}")
        step = values.get("step", 0)
        if not 0 <= float(step) < 2**53:
            raise ValueError(f"state.{number}.step is {step!r:.40}")


def _first_state(optimizer: Optimizer, settings: Mapping[str, Any], param: Tensor) -> Any:
    """Return what the optimizer keeps of a parameter of this shape after one step."""
    stand_in = Parameter(ones(1).to(param.dtype).expand(param.shape).clone())
    stand_in.grad = stand_in.detach().clone()
    trial = copy.copy(optimizer)
    trial.state = defaultdict(dict)
    with no_grad():
        trial._update({**settings, "params": [stand_in]})
    return trial.state[stand_in]


def check_history(history: History) -> None:
    """Raise ValueError for figures that no run could have written."""
    if not isinstance(history.losses, list) or not all(type(v) is float for v in history.losses):
        raise ValueError("losses are no list of numbers")
    for step, value in history.evaluations:
        numbers = list(value.values()) if isinstance(value, Mapping) else [value]
        if type(step) is not int or not all(isinstance(v, (int, float)) for v in numbers):
            raise ValueError(f"evaluations have ({step!r:.20}, {value!r:.40})")
    if type(history.seconds) not in (int, float) or not 0 <= history.seconds < math.inf:
        raise ValueError(f"seconds are {history.seconds!r:.40}")
    if type(history.tokens) is not int or history.tokens < 0:
        raise ValueError(f"tokens are {history.tokens!r:.40}")


def check_place(index: Any, passes: Any, steps: int) -> None:
    """Raise ValueError for a place in the batches that a run of so many steps cannot have."""
    for name, value in (("index", index), ("passes", passes)):
        if type(value) is not int or not 0 <= value <= steps:
            raise ValueError(f"batches.{name} is {value!r:.40}, after {steps} steps")
