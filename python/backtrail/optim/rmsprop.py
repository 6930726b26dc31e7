"""RMSprop."""

from __future__ import annotations

from typing import Any

from .._core import pause_capture, resume_capture, setting
from ..functions.creation import zeros_like
from .optimizer import Optimizer, Params, check_implementation, check_settings, counter


class RMSprop(Optimizer):
    """Step by the gradient over the root of its running square (Hinton 2012).

    v = alpha * v + (1 - alpha) * g^2, less the square of the running mean when `centered`;
    d = g / (sqrt(v) + eps); with momentum b = momentum * b + d and p -= lr * b, else p -= lr * d.
    """

    _live_settings = ("lr",)
    _counter = staticmethod(counter)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_settings(
            lr=(lr, lr >= 0),
            eps=(eps, eps >= 0),
            momentum=(momentum, momentum >= 0),
            weight_decay=(weight_decay, weight_decay >= 0),
            alpha=(alpha, alpha >= 0),
        )
        check_implementation(foreach, None, differentiable)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _update(self, group: dict[str, Any]) -> None:
        rate, alpha, momentum = setting(group, "lr"), group["alpha"], group["momentum"]
        for param, grad in self._gradients(group):
            state = self.state[param]
            if not state:
                pause_capture()  # made once: no part of a step
                state["step"] = counter()
                state["square_avg"] = zeros_like(param)
                if momentum > 0:
                    state["momentum_buffer"] = zeros_like(param)
                if group["centered"]:
                    state["grad_avg"] = zeros_like(param)
                resume_capture()
            state["step"] += 1
            spread = state["square_avg"].mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
            if group["centered"]:
                mean = state["grad_avg"].lerp_(grad, 1 - alpha)
                spread = spread.addcmul(mean, mean, value=-1)
            scale = spread.sqrt().add_(group["eps"])
            if momentum > 0:
                buffer = state["momentum_buffer"].mul_(momentum).addcdiv_(grad, scale)
                param.sub_(rate * buffer)
            else:
                param.sub_(rate * (grad / scale))
