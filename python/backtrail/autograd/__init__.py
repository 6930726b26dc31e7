"""Gradients on request, grad mode, functions with a derivative of their own, vjp, jvp, jacobian,
hessian, and `gradcheck`."""

from __future__ import annotations

from .._core import is_grad_enabled, set_grad_enabled
from . import definitions, derivatives, functional, graph, methods, recurrent, views
from .function import Function
from .functional import hessian, jacobian, jvp, vjp
from .grad_mode import enable_grad, inference_mode, no_grad, set_grad_mode
from .gradcheck import gradcheck, gradgradcheck
from .gradients import backward, grad

__all__ = [
    "Function",
    "backward",
    "definitions",
    "derivatives",
    "enable_grad",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "hessian",
    "inference_mode",
    "is_grad_enabled",
    "jacobian",
    "jvp",
    "methods",
    "no_grad",
    "recurrent",
    "set_grad_enabled",
    "set_grad_mode",
    "views",
    "vjp",
]
