"""Gradients on request: `grad`, grad mode, functions with a derivative of their own, vjp, jvp,
jacobian, hessian, and `gradcheck`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import graph
from ._core import Node, is_grad_enabled, set_grad_enabled
from .creation import zeros, zeros_like
from .shaping import stack
from .tensor import Tensor

__all__ = [
    "Function",
    "backward",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "hessian",
    "inference_mode",
    "is_grad_enabled",
    "jacobian",
    "jvp",
    "no_grad",
    "set_grad_enabled",
    "vjp",
]


class _GradMode:
    """Switch recording on or off: a context manager and a decorator."""

    _mode = True

    def __enter__(self) -> None:
        self._before = set_grad_enabled(self._mode)

    def __exit__(self, *_: object) -> None:
        set_grad_enabled(self._before)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped


class enable_grad(_GradMode):
    """Record operations, inside a `no_grad` block too."""


class no_grad(_GradMode):
    """Do not record operations: results require no grad. A context manager and a decorator."""

    _mode = False

    def __new__(cls, function: Any = None) -> Any:
        made = super().__new__(cls)
        return made if function is None else made(function)


class inference_mode(no_grad):
    """Do not record operations; `inference_mode(False)` changes nothing."""

    def __new__(cls, mode: Any = True) -> Any:
        made = object.__new__(cls)
        if callable(mode):
            return made(mode)
        made._mode = is_grad_enabled() and not mode
        return made


class set_grad_mode(_GradMode):
    """Record operations or not, from here on; as a context manager, until its end.

    `torch.set_grad_enabled` by name.
    """

    def __init__(self, mode: bool) -> None:
        self._mode = bool(mode)
        self._before = set_grad_enabled(self._mode)

    def __enter__(self) -> None:
        set_grad_enabled(self._mode)


def _list(x: Any) -> list[Any]:
    return [x] if isinstance(x, Tensor) else list(x)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of outputs with respect to inputs, without touching any `.grad`.

    `grad_outputs` weighs the outputs and may be left out for scalars. Raises RuntimeError when an
    input was not used, unless `allow_unused` (then None) or `materialize_grads` (then zeros).
    """
    outs, ins = _list(outputs), _list(inputs)
    weights = [None] * len(outs) if grad_outputs is None else _list(grad_outputs)
    for i, x in enumerate(ins):
        if not x.requires_grad:
            raise RuntimeError(f"grad: input {i} does not require grad")
    keep = create_graph if retain_graph is None else retain_graph
    found: list[Any] = graph.gradients(outs, weights, ins, keep, create_graph)
    for i, g in enumerate(found):
        if g is None and materialize_grads:
            found[i] = zeros_like(ins[i])
        elif g is None and not allow_unused:
            raise RuntimeError(
                f"grad: input {i} was not used to compute the outputs; pass allow_unused=True to "
                f"get None for it"
            )
    return tuple(found)


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of several tensors to the `grad` of every leaf that led to them."""
    outs = _list(tensors)
    weights = [None] * len(outs) if grad_tensors is None else _list(grad_tensors)
    keep = create_graph if retain_graph is None else retain_graph
    graph.backward(outs, weights, keep, create_graph, None if inputs is None else _list(inputs))


class Context:
    """What `forward` of a Function leaves for its `backward`."""

    def __init__(self) -> None:
        self._to_save: tuple[Any, ...] = ()
        self._non_differentiable: tuple[Any, ...] = ()
        self._node: Node | None = None
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors (inputs, outputs or others) for `backward`, guarded against changes."""
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return self._to_save if self._node is None else self._node.saved

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs have no gradient."""
        self._non_differentiable = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs were changed in place: no effect, versions are counted anyway."""

    def set_materialize_grads(self, value: bool) -> None:
        """Say whether gradients of unused outputs reach `backward` as zeros (they do) or None."""
        self._materialize = value

    _materialize = True


class _FunctionOp:
    """The op of a node that a Function made."""

    def __init__(self, function: type[Function], context: Context) -> None:
        self.name = function.__name__
        self.function = function
        self.context = context

    def vjp(self, node: Node, grad: Any) -> Any:
        context = self.context
        grads = grad if node.n_outputs > 1 else [grad]
        if context._materialize:
            grads = [
                zeros(*shape, dtype=dtype) if g is None else g
                for g, (shape, dtype) in zip(
                    grads,
                    [node.meta(node.n_inputs + i) for i in range(node.n_outputs)],
                    strict=True,
                )
            ]
        asked = context.needs_input_grad
        context._node = node
        context.needs_input_grad = tuple(edge is not None for edge in node.edges)
        try:
            found = self.function.backward(context, *grads)
        finally:
            context._node = None
            context.needs_input_grad = asked
        found = found if isinstance(found, tuple) else (found,)
        if len(found) < node.n_inputs or any(g is not None for g in found[node.n_inputs :]):
            raise RuntimeError(
                f"{self.name}.backward: returned {len(found)} gradients for {node.n_inputs} inputs"
            )
        for i, (g, edge) in enumerate(zip(found, node.edges)):  # noqa: B905
            if g is not None and edge is not None and g.shape != node.shape(i):
                raise RuntimeError(
                    f"{self.name}.backward: the gradient of input {i} has shape {tuple(g.shape)}; "
                    f"expected {tuple(node.shape(i))}"
                )
        return found

    graph_vjp = vjp


class Function:
    """A function with a derivative of its own: subclass it, write `forward` and `backward`.

    Both are static methods that take a context first; `backward` takes the gradient of every output
    and returns one for every input of `forward` (None where there is none). Call it with `apply`.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute the outputs from the inputs."""
        raise NotImplementedError("a Function must define forward")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Compute the gradients of the inputs from those of the outputs."""
        raise NotImplementedError("a Function must define backward to be differentiated")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Compute `forward` and record `backward`."""
        context = Context()
        context.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        before = set_grad_enabled(False)
        try:
            if hasattr(cls, "setup_context"):
                result = cls.forward(*args)
                cls.setup_context(context, args, result)
            else:
                result = cls.forward(context, *args)
        finally:
            set_grad_enabled(before)
        if not (is_grad_enabled() and any(context.needs_input_grad)):
            return result
        outputs = result if isinstance(result, tuple) else (result,)
        # An input that is returned as it is gets an identity of its own.
        outputs = tuple(
            o.detach() if isinstance(o, Tensor) and any(o is a for a in args) else o
            for o in outputs
        )
        skipped = {id(o) for o in context._non_differentiable}
        hung = tuple(o if id(o) not in skipped else None for o in outputs)
        Node(_FunctionOp(cls, context), args, hung, (), context._to_save)
        context._to_save = ()
        return outputs if isinstance(result, tuple) else outputs[0]


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and the product of v with its Jacobian."""
    ins = [x.detach().requires_grad_() if not create_graph else x for x in _list(inputs)]
    with enable_grad():
        out = func(*ins)
        found = grad(
            out, ins, v, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    value = out if create_graph else _detached(out)
    return value, found[0] if isinstance(inputs, Tensor) else found


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and the product of its Jacobian with v.

    By differentiating the vjp, which is linear in its weights, with respect to them.
    """
    ins = [x.detach().requires_grad_() if not create_graph else x for x in _list(inputs)]
    directions = [zeros_like(x) + 1 for x in ins] if v is None else _list(v)
    with enable_grad():
        out = func(*ins)
        outs = _list(out)
        weights = [zeros_like(o).requires_grad_() for o in outs]
        back = grad(
            outs, ins, weights, create_graph=True, allow_unused=True, materialize_grads=True
        )
        linked = [
            (b, d)
            for b, d in zip(back, directions, strict=True)
            if b is not None and b.requires_grad
        ]
        if linked:
            found = grad(
                [b for b, _ in linked],
                weights,
                [d for _, d in linked],
                create_graph=create_graph,
                allow_unused=True,
                materialize_grads=True,
            )
        else:
            found = tuple(zeros_like(o) for o in outs)
    value = out if create_graph else _detached(out)
    return value, found[0] if isinstance(out, Tensor) else found


def _detached(out: Any) -> Any:
    return out.detach() if isinstance(out, Tensor) else tuple(o.detach() for o in out)


def jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, **_: Any) -> Any:
    """Return the Jacobian: for each output and input a tensor of output.shape + input.shape."""
    ins = [x.detach().requires_grad_() if not create_graph else x for x in _list(inputs)]
    with enable_grad():
        out = func(*ins)
        rows: list[Any] = []
        for o in _list(out):
            flat = o.reshape(-1)
            parts: list[list[Tensor]] = [[] for _ in ins]
            for i in range(flat._numel):
                found = (
                    grad(
                        flat[i],
                        ins,
                        retain_graph=True,
                        create_graph=create_graph,
                        allow_unused=True,
                        materialize_grads=True,
                    )
                    if flat.requires_grad
                    else tuple(zeros_like(x) for x in ins)
                )
                for part, g in zip(parts, found, strict=True):
                    part.append(g)  # type: ignore[arg-type]
            rows.append(
                tuple(
                    stack(part).reshape(*o.shape, *x.shape) if part else zeros(*o.shape, *x.shape)
                    for part, x in zip(parts, ins, strict=True)
                )
            )
    single_in, single_out = isinstance(inputs, Tensor), isinstance(out, Tensor)
    shaped = [row[0] if single_in else row for row in rows]
    return shaped[0] if single_out else tuple(shaped)


def hessian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, **_: Any) -> Any:
    """Return the second derivatives of a scalar function: the Jacobian of its gradient."""
    single = isinstance(inputs, Tensor)

    def gradient(*ins: Tensor) -> Any:
        found = grad(func(*ins), ins, create_graph=True, allow_unused=True, materialize_grads=True)
        return found[0] if single else found

    return jacobian(gradient, inputs, create_graph)


def _numeric(func: Callable[[], Tensor], x: Tensor, weight: Tensor, eps: float) -> list[float]:
    """Central differences of sum(func() * weight) for every element of x."""
    flat = x.detach().reshape(-1)
    if not x._contiguous:
        raise ValueError("gradcheck: inputs must be contiguous")
    slopes = []
    for i in range(flat._numel):
        value = flat[i].item()
        sums = []
        for step in (eps, -eps):
            flat[i] = value + step
            sums.append((func().detach() * weight).sum().item())
        flat[i] = value
        slopes.append((sums[0] - sums[1]) / (2 * eps))
    return slopes


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    **_: Any,
) -> bool:
    """Compare the gradients of a function with central differences, in float64.

    Every output is weighed with fixed numbers that differ from element to element. Returns True, or
    raises RuntimeError (returns False without `raise_exception`) naming the input and the element.
    """
    ins = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [i for i, x in enumerate(ins) if isinstance(x, Tensor) and x.requires_grad]
    if not wanted:
        raise ValueError("gradcheck: no input requires grad")
    for i in wanted:
        if ins[i].dtype.itemsize != 8:
            raise ValueError(f"gradcheck: input {i} is {ins[i].dtype}; differences need float64")
    outs = [o for o in _list(func(*ins)) if o.dtype.is_floating_point]
    for k, out in enumerate(outs):
        weight = _weights(out)

        def output(k: int = k) -> Tensor:
            return [o for o in _list(func(*ins)) if o.dtype.is_floating_point][k]  # type: ignore[no-any-return]

        found = (
            grad(
                output(),
                [ins[i] for i in wanted],
                weight,
                allow_unused=True,
                materialize_grads=True,
            )
            if out.requires_grad
            else [zeros_like(ins[i]) for i in wanted]
        )
        for i, g in zip(wanted, found, strict=True):
            numeric = _numeric(output, ins[i], weight, eps)
            for j, (a, b) in enumerate(zip(g.reshape(-1).tolist(), numeric, strict=True)):  # type: ignore[union-attr]
                if not abs(a - b) <= atol + rtol * abs(b):
                    if not raise_exception:
                        return False
                    raise RuntimeError(
                        f"gradcheck: output {k}, input {i}, element {j}: the derivative is {a!r}, "
                        f"central differences give {b!r}"
                    )
    return True


def _weights(out: Tensor) -> Tensor:
    from .creation import arange

    return (arange(out._numel, dtype=out.dtype) * 0.7 + 0.3).sin().reshape(out.shape) + 1.5


def gradgradcheck(func: Callable[..., Any], inputs: Any, **kwargs: Any) -> bool:
    """Compare second derivatives with central differences of the first, in float64."""
    ins = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [i for i, x in enumerate(ins) if isinstance(x, Tensor) and x.requires_grad]

    def first(*args: Any) -> Any:
        with enable_grad():
            outs = [o for o in _list(func(*args)) if o.requires_grad]
            return grad(
                outs,
                [args[i] for i in wanted],
                [_weights(o) for o in outs],
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )

    return gradcheck(first, ins, **kwargs)
