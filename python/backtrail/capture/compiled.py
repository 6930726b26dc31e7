"""Capture: a function is watched once, and from then on replayed by one call into C++.

The first call with arguments of a given form runs as it is while the core lists every kernel that
it starts, on numbered buffers. From the list a plan is made (csrc/plan): what nobody reads left
out, constants computed, pointwise runs fused, all buffers laid into one arena. A later call whose
arguments have the same form, and for which nothing has changed that the function can see
(watch.py), runs the plan: no Python, the same bits.
"""

from __future__ import annotations

import functools
import gc
import random as python_random
import sys
import warnings
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

from .._core import (
    Node,
    Recorder,
    TensorBase,
    capturing,
    fit,
    full,
    set_grad_enabled,
    storage_serial,
)
from ..autograd.graph import gradients, toposort
from ..dtypes import device, dtype
from ..functions.creation import zeros_like
from ..tensor import Tensor
from .plan import Plan
from .watch import Calls, Survey, survey

__all__ = ["CaptureError", "Compiled", "compile"]

_MOST_PLANS = 16  # kept at a time, of one function
_MOST_CAPTURES = 64  # of one function, when hardly any is used again


class CaptureError(RuntimeError):
    """A function does what a replay could not do again; the message names it.

    `result` is what the call returned, where it was refused after it had come to its end.
    """

    result: Any = None


class Compiled:
    """A function that is captured at its first call and replayed at later ones.

    `plan` is the plan used last: `plan.describe()` and `plan.profile()` print what it does and how
    long each part takes. `captures` counts the plans made.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._plans: list[Plan] = []
        self._refused: set[str] = set()  # reasons met once
        self.captures = 0
        self._replays = 0
        self._gave_up = False

    @property
    def plan(self) -> Plan | None:
        return self._plans[0] if self._plans else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        plans = self._plans
        for i, plan in enumerate(plans):
            result = plan.run(args, kwargs)
            if result is not NotImplemented:
                if i:
                    plans.insert(0, plans.pop(i))
                return result
        return self._watch(args, kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self._function,)  # copies have plans of their own

    def _watched(self) -> list[Any]:
        """Return what a captured function that calls this one depends on."""
        return [self._function]

    def __repr__(self) -> str:
        return f"<compiled {getattr(self._function, '__qualname__', self._function)!s}>"

    def _roots(self, arguments: Sequence[Any]) -> list[tuple[Any, str]]:
        name = getattr(self._function, "__name__", type(self._function).__name__)
        others = [a for a in arguments if not isinstance(a, TensorBase)]
        return [(self._function, name), *((a, "an argument") for a in others)]

    def _watch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function as it is, and make a plan of it."""
        if capturing() or self._gave_up:
            return self._function(*args, **kwargs)
        before = survey(self._roots([*args, *kwargs.values()]), before=True)
        checks = _guards(before)
        chance = _foreign_random_state(before.streams)
        recorder = Recorder()
        recorder.start()
        try:
            with Calls() as calls:
                result = self._function(*args, **kwargs)
        finally:
            recorder.stop()
        problem = before.problem or _what_changed(before, checks)
        if not problem and chance != _foreign_random_state(before.streams):
            problem = (
                "it draws numbers from `random` or NumPy, which a replay would not do: draw them "
                "outside, or from backtrail's generators"
            )
        if not problem:
            # Of what the arguments hold, the form is compared at each call, and is not looked into.
            roots = self._roots(_leaves((args, kwargs)))
            after = survey(roots, settings=calls.mention("param_groups"))
            problem = self._make_plan(recorder, after, args, kwargs, result)
        if problem:
            self._refuse(problem, result)
        return result

    def _make_plan(
        self,
        recorder: Recorder,
        after: Survey,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
    ) -> str:
        """Add the plan of a call; returns why that cannot be, or an empty string."""
        tensors: list[Tensor] = []
        _tensors_in((args, kwargs), tensors)
        known = after.serials | {storage_serial(t) for t in tensors}
        outputs: list[Tensor] = []
        _tensors_in(result, outputs)
        live = any(map(_is_live, outputs))
        backward = None
        kept: list[Tensor] = []
        if live:
            if kind := _strange(result):
                return f"it returns a {kind}: return tensors, numbers, lists, tuples and dicts"
            backward, kept, problem = _capture_backward(recorder, outputs, tensors, known)
            if problem:
                return problem
        form = _form((args, kwargs))
        elsewhere = self._elsewhere(form, tensors, after)
        problem = recorder.settle((args, kwargs), (result, kept), live, elsewhere)
        if "is kept after the call" in problem:
            gc.collect()  # what only a cycle holds is not kept
            problem = recorder.settle((args, kwargs), (result, kept), live, elsewhere)
        if problem:
            return problem
        reads = set()
        for tensor, serial in recorder.outside():
            reads.add(serial)
            if serial not in known:
                return (
                    f"it uses a tensor of {tensor.numel()} bytes that cannot be found from the "
                    "function's names: pass it as an argument"
                )
        plan = Plan(recorder.replay(after.checks), after.where, backward, (form, reads))
        self._plans.insert(0, plan)
        self.captures += 1
        del self._plans[_MOST_PLANS:]
        if self.captures >= _MOST_CAPTURES and sum(p.runs for p in self._plans) < self.captures:
            self._gave_up = True
            warnings.warn(
                f"{self!r} was captured {self.captures} times and hardly replayed: its arguments "
                "or what it reads differ at each call. It runs without capture from now on. Pass "
                "what changes as tensors of the same shape",
                RuntimeWarning,
                stacklevel=4,
            )
        return ""

    def _elsewhere(self, form: Any, tensors: Sequence[Tensor], found: Survey) -> set[int]:
        """Return the arguments' memory that the function may have read by another name as well.

        Which of the two it was cannot be told from one call, so that the plan is for that memory
        alone; unless an earlier call of the same form, with other arguments, left it alone.
        """
        both = {storage_serial(t) for t in tensors} & found.serials
        earlier = [plan.reads[1] for plan in self._plans if plan.reads[0] == form]
        return {serial for serial in both if all(serial in reads for reads in earlier)}

    def _refuse(self, problem: str, result: Any) -> None:
        """Forgive a problem once: state that is made at the first call is there at the second."""
        kind = problem.partition(" (")[0]
        if kind not in self._refused and len(self._refused) < 4:
            self._refused.add(kind)
            return
        error = CaptureError(f"{self!r} cannot be captured: {problem}")
        error.result = result
        raise error


def _is_live(t: Tensor) -> bool:
    """Whether a backward pass can still go through what made the tensor."""
    return t.grad_fn is not None and not t.grad_fn.walked


def _guards(found: Survey) -> Any:
    from .._core import Guards

    return Guards(found.checks)


def _what_changed(before: Survey, checks: Any) -> str:
    broken = checks.broken()
    if broken < 0:
        return ""
    kind, holder, *rest = before.checks[broken]
    where = before.where[broken]
    change = ""
    if kind == "item" and rest[0] in holder:
        change = f" ({_short(rest[1])} became {_short(holder[rest[0]])})"
    return (
        f"a call changes `{where}`{change}, which a replay would not do: change it outside, or "
        "keep it in a tensor that is changed in place"
    )


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, (bool, int, float, str, type(None))) else ""
    return text if 0 < len(text) < 40 else f"a {type(value).__name__}"


def _foreign_random_state(streams: Sequence[Any]) -> Any:
    state: list[Any] = [python_random.getstate()]
    for stream in streams:
        bits = getattr(stream, "bit_generator", None)
        state.append(str(bits.state) if bits is not None else stream.getstate())
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        state.append(tuple(map(str, numpy.random.get_state(legacy=True))))
    return state


def _tensors_in(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, TensorBase):
        found.append(value)  # type: ignore[arg-type]
    elif isinstance(value, (list, tuple)):
        for item in value:
            _tensors_in(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            _tensors_in(item, found)


def _leaves(value: Any) -> list[Any]:
    """Return what is in tuples, lists and dicts, however deep."""
    if isinstance(value, tuple) or type(value) is list:
        return [leaf for item in value for leaf in _leaves(item)]
    if type(value) is dict:
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [value]


def _strange(value: Any) -> str:
    """Return the type of an object in a result that tensors might hide in, or an empty string."""
    if isinstance(value, tuple) or type(value) is list:
        return next(filter(None, map(_strange, value)), "")
    if type(value) is dict:
        return _strange(list(value.values()))
    known = isinstance(value, (TensorBase, bool, int, float, str, bytes, type(None), dtype, device))
    return "" if known or callable(value) else type(value).__name__


def _form(value: Any) -> Any:
    """What two calls have in common that a function's Python cannot tell apart."""
    if isinstance(value, TensorBase):
        return value.shape, value.dtype
    if isinstance(value, (list, tuple)):
        return type(value), *map(_form, value)
    if isinstance(value, dict):
        return dict, *((key, _form(item)) for key, item in value.items())
    return value if isinstance(value, (bool, int, float, str)) else id(value)


# ---- functions whose result is differentiated outside


class Backward:
    """The plan of a backward pass through a captured forward pass; an op of the graph."""

    name = "compiled"

    def __init__(
        self,
        replay: Any,
        inputs: Sequence[Tensor | int],
        outputs: Sequence[int],
        kept: int,
        params: Sequence[Tensor],
    ) -> None:
        self.replay = replay
        self.inputs = inputs  # parameters, or numbers of arguments
        self.outputs = outputs  # which of the results
        self.kept = kept
        self.params = params  # that the pass reads

    def vjp(self, node: Node, grad: Any) -> Any:
        """Gradients of the inputs, by the plan."""
        grads = list(grad) if node.n_outputs > 1 else [grad]
        values = node.saved
        kept, draws = values[: self.kept], node.attrs[0]
        for i, g in enumerate(grads):
            shape, dtype = node.meta(node.n_inputs + i)
            grads[i] = full(shape, 0, dtype) if g is None else fit(g.detach(), shape, dtype)
            grads[i] = grads[i].contiguous()
        found = self.replay.call((tuple(grads), tuple(kept)), {}, draws)
        if found is NotImplemented:
            raise RuntimeError(
                "backward: a parameter of a compiled function was replaced, frozen or given hooks "
                "between its forward and its backward pass"
            )
        return found

    def graph_vjp(self, node: Node, grad: Any) -> Any:
        """Refuse: the plan is not recorded."""
        raise RuntimeError(
            "backward: create_graph=True goes through a compiled function; call the function "
            "itself for second derivatives"
        )


def _capture_backward(
    recorder: Recorder, results: list[Tensor], arguments: list[Tensor], known: set[int]
) -> tuple[Backward | None, list[Tensor], str]:
    """Capture the backward pass of a call that has been captured.

    Returns its plan, the tensors that the forward pass keeps for it, and what is in the way.
    """
    places = [i for i, t in enumerate(results) if _is_live(t)]
    outputs = [results[i] for i in places]
    inputs: list[Tensor] = [t for t in arguments if t.requires_grad]
    if any(t.grad_fn is not None for t in inputs):
        return None, [], "an argument was computed from tensors that require gradients: detach it"
    for node in toposort([t.grad_fn for t in outputs]):  # type: ignore[misc]
        for edge in node.edges:
            if isinstance(edge, TensorBase) and not any(edge is t for t in inputs):
                inputs.append(edge)
    grads = [zeros_like(t).contiguous() for t in outputs]
    back = Recorder()
    back.adopt_draws(recorder)
    before = set_grad_enabled(False)  # as it will be when the plan is used
    back.start()
    try:
        found = gradients(outputs, grads, inputs, True, False, leaf_hooks=False)
    finally:
        back.stop()
        set_grad_enabled(before)
    kept: list[Tensor] = []
    params: list[Tensor] = []
    given = {storage_serial(t): t for t in arguments}
    ours = {storage_serial(t) for t in grads}
    for tensor, serial in back.outside():
        if serial in ours:
            continue
        if serial in given:
            kept.append(given[serial])
        elif recorder.made(tensor):
            kept.append(tensor)
        elif serial not in known:
            return None, [], "its backward pass reads a tensor that cannot be found from its names"
        else:
            params.append(tensor)
    problem = back.settle(((tuple(grads), tuple(kept)), {}), tuple(found), True)
    if problem:
        return None, [], problem
    checks = [("tensor", t) for t in inputs if not any(t is a for a in arguments)]
    numbers = {id(t): i for i, t in enumerate(arguments)}
    sources = [numbers.get(id(t), t) for t in inputs]
    return Backward(back.replay(checks), sources, places, len(kept), params), kept, ""


# ---- the public function


def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = None,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    disable: bool = False,
) -> Any:
    """Return a function or module that is captured once and replayed at C speed; a decorator too.

    The first call with arguments of a given form (shapes, dtypes, strides, Python scalars) runs as
    it is and is watched; later ones replay it: forward, backward, gradient clipping, the
    optimizer's step, random numbers and changes in place included, with the same bits. A change of
    anything the function reads (a parameter, a setting, training mode) captures anew. Learning
    rates, and the other settings of Adam and SGD, are read at each replay.

    Python in the function runs only while it is watched: what it prints, counts or appends is not
    repeated. Looking at a tensor's value in it (`if loss < 1`, `.item()`) raises CaptureError; so
    does state that a replay would not change.

    `plan` of the result is what the last call ran: `plan.describe()` and `plan.profile()` print
    it. `captures` counts the plans made.

    The keyword arguments are PyTorch's; of them only `disable` has an effect here.
    """
    if model is None:
        return functools.partial(compile, disable=disable)
    if disable:
        return model
    if not callable(model):
        raise TypeError(f"compile: expected a function or a module; got {type(model).__name__}")
    if hasattr(model, "named_parameters"):
        return _compiled_module(model)
    return Compiled(model)


def _compiled_module(model: Any) -> Any:
    """Return a twin of a module, with the same attributes, whose calls are captured."""
    kind = type(model)
    compiled = Compiled(model)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return compiled(*args, **kwargs)

    members = {
        "__call__": call,
        "__reduce_ex__": lambda self, _: (compile, (model,)),  # copies have a model of their own
        "__module__": kind.__module__,
        "_orig_mod": property(lambda self: model),
    }
    for name in ("plan", "captures"):
        if not hasattr(model, name):
            members[name] = property(
                functools.partial(lambda name, _: getattr(compiled, name), name)
            )
    twin_class = type(kind.__name__, (kind,), members)
    twin: Any = object.__new__(twin_class)
    object.__setattr__(twin, "__dict__", model.__dict__)
    return twin
