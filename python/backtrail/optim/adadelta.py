"""Adadelta."""

from __future__ import annotations

from typing import Any

from .._core import pause_capture, resume_capture, setting
from ..functions.creation import zeros_like
from .optimizer import Optimizer, Params, check_implementation, check_settings, counter


class Adadelta(Optimizer):
    """Step in proportion to the root mean square of earlier steps over that of the gradients.

    v = rho * v + (1 - rho) * g^2; d = g * sqrt(u + eps) / sqrt(v + eps);
    u = rho * u + (1 - rho) * d^2; p -= lr * d (Zeiler 2012).
    """

    _live_settings = ("lr",)
    _counter = staticmethod(counter)

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_settings(
            lr=(lr, lr >= 0),
            rho=(rho, 0 <= rho <= 1),
            eps=(eps, eps >= 0),
            weight_decay=(weight_decay, weight_decay >= 0),
        )
        check_implementation(foreach, None, differentiable)
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _update(self, group: dict[str, Any]) -> None:
        rate, rho, eps = setting(group, "lr"), group["rho"], group["eps"]
        for param, grad in self._gradients(group):
            state = self.state[param]
            if not state:
                pause_capture()  # made once: no part of a step
                state["step"] = counter()
                state["square_avg"] = zeros_like(param)
                state["acc_delta"] = zeros_like(param)
                resume_capture()
            state["step"] += 1
            square_avg, acc_delta = state["square_avg"], state["acc_delta"]
            square_avg.mul_(rho).addcmul_(grad, grad, value=1 - rho)
            delta = (acc_delta + eps).sqrt() / (square_avg + eps).sqrt() * grad
            acc_delta.mul_(rho).addcmul_(delta, delta, value=1 - rho)
            param.sub_(rate * delta)
