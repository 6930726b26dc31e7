"""Adagrad."""

from __future__ import annotations

from typing import Any

from .._core import pause_capture, resume_capture, setting
from ..functions.creation import full_like
from .optimizer import Optimizer, Params, check_implementation, check_settings, counter


class Adagrad(Optimizer):
    """Step by the gradient over the root of the sum of all squared gradients.

    s += g^2; p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps) (Duchi et al. 2011).
    """

    _live_settings = ("lr",)
    _counter = staticmethod(counter)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_settings(
            lr=(lr, lr >= 0),
            lr_decay=(lr_decay, lr_decay >= 0),
            weight_decay=(weight_decay, weight_decay >= 0),
            initial_accumulator_value=(initial_accumulator_value, initial_accumulator_value >= 0),
            eps=(eps, eps >= 0),
        )
        check_implementation(foreach, fused, differentiable)
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for param in group["params"]:
                self._start(param, group)

    def _start(self, param: Any, group: dict[str, Any]) -> None:
        start = group["initial_accumulator_value"]
        self.state[param] = {"step": counter(), "sum": full_like(param, start)}

    def _update(self, group: dict[str, Any]) -> None:
        for param, grad in self._gradients(group):
            if not self.state[param]:
                pause_capture()  # made once: no part of a step
                self._start(param, group)
                resume_capture()
            state = self.state[param]
            rate = setting(group, "lr")
            if group["lr_decay"] != 0:
                rate = rate / (1 + state["step"].double() * group["lr_decay"])
            state["step"] += 1
            state["sum"].addcmul_(grad, grad, value=1)
            param.sub_(rate * (grad / state["sum"].sqrt().add_(group["eps"])))
