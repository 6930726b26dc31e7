"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from .._core import pause_capture, resume_capture, sgd_step
from ..functions.creation import zeros_like
from ..tensor import Tensor
from .optimizer import Optimizer, Params, check_implementation, check_settings


class SGD(Optimizer):
    """Step against the gradient, with optional momentum.

    g += weight_decay * p; b = momentum * b + (1 - dampening) * g (at first b = g);
    p -= lr * (g + momentum * b if nesterov else b). `maximize` steps along the gradient.
    `foreach` and `fused` are accepted: one kernel updates a whole group in any case.
    """

    _live_settings = ("lr", "momentum", "dampening", "weight_decay")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_settings(
            lr=(lr, lr >= 0),
            momentum=(momentum, momentum >= 0),
            weight_decay=(weight_decay, weight_decay >= 0),
        )
        check_implementation(foreach, fused, differentiable)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _update(self, group: dict[str, Any]) -> None:
        params: list[Tensor] = []
        grads: list[Tensor] = []
        momentum = float(group["momentum"])
        if momentum == 0:
            for param in group["params"]:
                grad = param.grad
                if grad is not None:
                    params.append(param)
                    grads.append(grad)
            self._launch(group, params, grads, None, momentum, False)
            return
        buffers: list[Tensor] = []
        started = (params, grads, buffers)
        fresh: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            state = self.state[param]
            buffer = state.get("momentum_buffer")
            lists = started
            if buffer is None:
                pause_capture()  # made once: no part of a step
                buffer = state["momentum_buffer"] = zeros_like(param)
                resume_capture()
                lists = fresh
            lists[0].append(param)
            lists[1].append(grad)
            lists[2].append(buffer)
        self._launch(group, *fresh, momentum, True)
        self._launch(group, *started, momentum, False)

    def _launch(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        buffers: list[Tensor] | None,
        momentum: float,
        first: bool,
    ) -> None:
        if params:
            sgd_step(
                params,
                grads,
                buffers,
                lr=float(group["lr"]),
                momentum=momentum,
                dampening=float(group["dampening"]),
                weight_decay=float(group["weight_decay"]),
                nesterov=group["nesterov"],
                maximize=group["maximize"],
                first=first,
                live=(group, []),
            )
