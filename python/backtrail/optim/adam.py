"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from .._core import adam_step, pause_capture, resume_capture
from ..functions.creation import zeros_like
from .optimizer import (
    Count,
    Optimizer,
    Params,
    beta,
    check_implementation,
    check_settings,
    check_tensors,
)


class Adam(Optimizer):
    """Step by the gradient's running mean over the root of its running square.

    m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2;
    p -= lr * m' / (sqrt(v') + eps), m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)
    (Kingma and Ba 2014). `weight_decay` is added to g, or, when decoupled, shrinks p by
    lr * weight_decay. `amsgrad` takes the largest v so far (Reddi et al. 2018). `maximize` steps
    along the gradient. `foreach`, `fused` and `capturable` are accepted: one kernel updates a
    whole group in any case.
    """

    _live_settings = ("lr", "betas", "eps", "weight_decay")
    _counter = Count

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_settings(
            lr=(lr, lr >= 0),
            eps=(eps, eps >= 0),
            beta1=beta(betas, 0),
            beta2=beta(betas, 1),
            weight_decay=(weight_decay, weight_decay >= 0),
        )
        check_tensors(lr, betas, foreach, capturable)
        check_implementation(foreach, fused, differentiable)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _update(self, group: dict[str, Any]) -> None:
        # The lists are gathered anew each time: 0.4 us a parameter buys freedom from any cache
        # that a changed group, state or gradient could leave stale.
        amsgrad = group["amsgrad"]
        states = self.state
        batches: dict[int, tuple[list[Any], ...]] = {}  # by number of steps taken
        batch_step = 0
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            state = states[param]
            if not state or (amsgrad and "max_exp_avg_sq" not in state):
                pause_capture()  # made once: no part of a step
                if not state:
                    state["step"] = Count(0)
                    state["exp_avg"] = zeros_like(param)
                    state["exp_avg_sq"] = zeros_like(param)
                if amsgrad:
                    state["max_exp_avg_sq"] = zeros_like(param)
                resume_capture()
            step = state["step"] + 1
            if step != batch_step:
                batch_step = step
                count = Count(step)
                lists = batches.setdefault(step, ([], [], [], [], [], []))
                params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, taken = lists
            state["step"] = count
            taken.append(state)
            params.append(param)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            if amsgrad:
                max_exp_avg_sqs.append(state["max_exp_avg_sq"])
        beta1, beta2 = group["betas"]
        for step, lists in batches.items():
            params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, taken = lists
            adam_step(
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                max_exp_avg_sqs if amsgrad else None,
                step=int(step),
                lr=float(group["lr"]),
                beta1=float(beta1),
                beta2=float(beta2),
                eps=float(group["eps"]),
                weight_decay=float(group["weight_decay"]),
                decoupled=group["decoupled_weight_decay"],
                amsgrad=amsgrad,
                maximize=group["maximize"],
                live=(group, taken),
            )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017)."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
