"""`opcheck`: everything that must hold for an op, tried on samples, as one report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import dtypes
from .._core import derived_vjp, guard_storages
from ..autograd import enable_grad, grad
from ..dtypes import float64
from ..extension.foreign import derived_gradients
from ..functions.creation import tensor
from ..functions.random import get_rng_state, set_rng_state
from ..functions.shaping import broadcast_shapes
from ..tensor import Tensor, apply
from . import checks as checking, slopes
from .report import FAIL, NOTE, PASS, SKIP, Report, Result
from .runs import Case, copies, named_outputs, place, said, weighing
from .samples import Sample, Subject, flatten

# What the engine says of a derivative that an op does not have, or not within its limits.
_ABSENT = ("derivatives up to order", "no such derivative", "derivative of order")
_FIRST, _SECOND, _DERIVED = 1e-6, 1e-5, 1e-8  # tolerances of derivatives, of the larger of 1 and it


def opcheck(
    op: Any,
    args: Sequence[Any] | Tensor | None = None,
    kwargs: dict[str, Any] | None = None,
    *,
    checks: Iterable[str] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    raise_exception: bool = True,
) -> Report:
    """Check an op, of a user's library or built in: values, derivatives, memory, replay, threads.

    `op` is its function. `args` (a tuple) and `kwargs` are a call of it; of `args` those that
    require grad are differentiated, all floating ones if none does. Left out, they are invented
    for pointwise ops (in the op's `range`, at default and other attributes) and for reductions and
    row-wise ops. Every sample is tried in float32 and in float64. The checks, of which `checks`
    chooses:

    - run: the op runs, with results of the dtype of its inputs
    - inputs kept: nothing is written to the inputs
    - memory: what is written and read is the op's own, every element of a result is written
    - repeat: two runs agree
    - value: float32 against float64, within atol + rtol * |value|
    - derivative: against finite differences in float64
    - derived: the written derivative against the one derived from `forward`
    - second derivative: against finite differences of the first
    - strides, broadcast, empty: inputs of other layouts, repeated ones, ones without elements
    - replay: inside `backtrail.compile`, bit for bit
    - threads: on one and several, bit for bit
    - finite: no NaN or infinity out of finite inputs

    Returns the report, whose text is a table; a check that cannot be done says why and counts as
    skipped. Raises AssertionError with that table when a check fails (not without
    `raise_exception`), TypeError when inputs must be given, ValueError for an unknown check.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    todo = _ALL if checks is None else {name: _ALL[name] for name in _known(checks)}
    subject = Subject(op)
    before = get_rng_state()
    guard_storages(checking.GUARD)
    try:
        samples = subject.samples(args, dict(kwargs or {}))
        results = _run(subject, samples, todo, rtol, atol)
    finally:
        guard_storages(-1)
        set_rng_state(before)
    report = Report(subject.name, [str(s) for s in samples], results)
    if raise_exception and not report.passed:
        raise AssertionError("\n" + report.text())
    return report


def _known(names: Iterable[str]) -> list[str]:
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in _ALL:
            raise ValueError(f"opcheck: no check {name!r}; there are {', '.join(_ALL)}")
    return names


def _run(
    subject: Subject, samples: Sequence[Sample], todo: dict[str, Any], rtol: float, atol: float
) -> list[Result]:
    cases = []
    for sample in samples:
        case = Case(subject, sample)
        failed = _runs(case)
        if failed and sample is not samples[0] and subject.invents:
            continue  # attributes that the op refuses
        if failed:
            skipped = [Result(n, SKIP, "", "the op does not run") for n in todo if n != "run"]
            return [Result("run", FAIL, "", failed), *skipped]
        cases.append(case)
    results = []
    for name, check in todo.items():
        found = [
            _guarded(name, check, case, rtol, atol)
            for case in cases
            if name in _ON_LARGE or not case.sample.large
        ]
        results.append(_worst(found))
    return results


def _guarded(name: str, check: Any, case: Case, rtol: float, atol: float) -> Result:
    try:
        found: Result = check(case, rtol, atol) if check is _value else check(case)
    except Exception as error:
        found = Result(name, FAIL, "", f"the op raised {said(error)}")
        if name in ("derived", "second derivative") and any(w in str(error) for w in _ABSENT):
            found = Result(name, SKIP, "", str(error))
    if found.verdict == FAIL and name in ("strides", "broadcast") and case.subject.kind == "view":
        why = f"a view depends on how its input lies in memory: {found.where}"
        found = Result(name, SKIP, "", why)
    return found._replace(check=name)


def _worst(found: Sequence[Result]) -> Result:
    """Of one check on several samples: a failure, else a note, else the largest error."""
    order = {FAIL: 0, NOTE: 1, PASS: 2, SKIP: 3}
    return min(found, key=lambda r: (order[r.verdict], -_leading_number(r.error)))


def _leading_number(text: str) -> float:
    try:
        return float(text.split()[0])
    except (IndexError, ValueError):
        return 0.0


# ---- the op runs


def _runs(case: Case) -> str:
    """Return what is wrong with a plain run; nothing when it is fine."""
    for tensors, kind in ((case.single, "float32"), (case.double, "float64")):
        try:
            outs = case.values(tensors)
        except Exception as error:
            return f"the op raised {said(error)} ({kind} inputs)"
        if not outs:
            return "the op returned no tensor"
    return ""


def _run_check(case: Case) -> Result:
    for tensors, kind in ((case.single, dtypes.float32), (case.double, dtypes.float64)):
        outs = case.values(tensors)
        for name, y in named_outputs(outs):
            if y.dtype.is_floating_point and case.sample.floats() and y.dtype is not kind:
                text = f"{name} is {y.dtype.name} for {kind.name} inputs"
                return Result("run", NOTE, "", text)
    shapes = ", ".join(f"{y.dtype.name}{list(y.shape)}" for y in case.values(case.single))
    return Result("run", PASS, "", f"gives {shapes}")


# ---- values


def _value(case: Case, rtol: float, atol: float) -> Result:
    """Float32 against float64 on the same numbers; what is not floating must be equal."""
    single, double = case.values(case.single), case.values(case.double)
    if not case.sample.floats():
        return Result("value", SKIP, "", "no input is of floating point")
    if case.draws():
        return Result("value", SKIP, "", "the op draws random numbers, others for each dtype")
    worst, error, where = -1.0, "", ""
    for (name, a), b in zip(named_outputs(single), double, strict=True):
        if a.shape != b.shape:
            text = f"{name} is of shape {list(a.shape)} in float32, {list(b.shape)} in float64"
            return Result("value", FAIL, "", text)
        if not a.numel():
            continue
        x, y = a.double().reshape(-1), b.double().reshape(-1)
        same = (x == y) | ((x != x) & (y != y))
        off = (x - y).abs().masked_fill(same, 0)
        bad = ~off.isfinite()
        ratio = (off / (atol + rtol * y.abs())).masked_fill(bad, float("inf"))
        i = int(ratio.argmax().item())
        if ratio[i].item() > worst:
            worst = ratio[i].item()
            error = _sized(off[i].item())
            where = f"{place(name, i, a.shape)}: {x[i].item():.9g} in float32, "
            where += f"{y[i].item():.9g} in float64"
    return Result("value", PASS if worst <= 1 else FAIL, error, where)


def _sized(number: float) -> str:
    return f"{number:.1e}" if number else "0"


# ---- derivatives


def _derivative(case: Case) -> Result:
    if case.why_no_slopes:
        return Result("", SKIP, "", case.why_no_slopes)
    inputs = copies(case.double)
    leaves = case.leaves(inputs)
    _, ends = case.ends(leaves)
    weights = [weighing(y) for y in ends]
    reached = [y.requires_grad for y in case.ends(leaves)[0]]
    _, grads = case.slopes(leaves, weights)
    recorded = case.slopes(leaves, weights, again=True)[1]
    for i, a, b in zip(case.wanted, grads, recorded, strict=True):
        if a.shape != inputs[i].shape:
            text = (
                f"{_of(case, i)} is of shape {list(a.shape)}, the input of {list(inputs[i].shape)}"
            )
            return Result("", FAIL, "", text)
        if wrong := _apart(
            _of(case, i), a, b.detach(), _DERIVED, ("plainly", "by create_graph=True")
        ):
            return wrong

    def outputs() -> list[Tensor]:
        outs = case.values(inputs)
        return [y for y, used in zip(outs, reached, strict=True) if used]

    named = [(case.names[i], inputs[i]) for i in case.wanted]
    return _verdict(slopes.compare(outputs, weights, named, grads, _FIRST), _alone(case))


def _alone(case: Case) -> str:
    """Say where the gradient of an input differs when no other one is asked for."""
    if len(case.wanted) < 2:
        return ""
    _, together = case.slopes(case.leaves(case.double))
    everyone = case.wanted
    try:
        for i, want in zip(everyone, together, strict=True):
            case.wanted = [i]
            leaves = case.leaves(case.double)
            _, ends = case.ends(leaves)
            if not ends:
                if bool((want != 0).any()):
                    return f"{_of(case, i)}: there is one only when others are asked for too"
                continue
            _, (got,) = case.slopes(leaves)
            words = ("asked for alone", "with all others")
            if wrong := _apart(_of(case, i), got, want, _DERIVED, words):
                return wrong.where
    finally:
        case.wanted = everyone
    return ""


def _of(case: Case, i: int) -> str:
    return f"gradient of {case.names[i]}"


def _apart(
    name: str, a: Tensor, b: Tensor, tolerance: float, words: tuple[str, str]
) -> Result | None:
    """A failure where two float64 tensors are further apart than `tolerance` of the larger of 1
    and the second."""
    x, y = a.detach().reshape(-1), b.detach().reshape(-1)
    if not x.numel():
        return None
    off = (x - y).abs().masked_fill((x == y) | ((x != x) & (y != y)), 0)
    limit = y.abs().masked_fill(~(y.abs() >= 1), 1)  # 1 for NaN too
    ratio = (off / limit).masked_fill(~off.isfinite(), float("inf"))
    i = int(ratio.argmax().item())
    if ratio[i].item() <= tolerance:
        return None
    text = (
        f"{place(name, i, a.shape)} is {x[i].item():.9g} {words[0]}, {y[i].item():.9g} {words[1]}"
    )
    return Result("", FAIL, _sized(off[i].item()), text)


def _verdict(found: slopes.Slope, other_problem: str = "") -> Result:
    if not found.elements:
        return Result("", SKIP, "", "the inputs have no elements")
    error = _sized(found.difference)
    if found.error > 1:
        return Result("", FAIL, error, found.where)
    if found.unsettled > max(1, found.elements // 4):
        text = (
            f"differences do not settle at {found.unsettled} of {found.elements} elements: the "
            "value jumps there, is not finite, or is computed with less than float64's precision"
        )
        return Result("", FAIL, error, text)
    if other_problem:
        return Result("", FAIL, "", other_problem)
    left = f"; {found.unsettled} at kinks left out" if found.unsettled else ""
    return Result("", PASS, error, f"{found.elements - found.unsettled} elements{left}")


def _derived(case: Case) -> Result:
    """The written derivative against the one that `forward` alone gives."""
    written, op = case.subject.written, case.subject.op
    if case.why_no_slopes:
        return Result("", SKIP, "", case.why_no_slopes)
    if op is None or written is None:
        return Result(
            "", SKIP, "", "only ops with a `forward` in one C++ struct have a derived one"
        )
    if not written:
        return Result("", SKIP, "", "no backward is written: the derivative is the derived one")
    inputs = _plain_inputs(case)
    if inputs is None:
        return Result("", SKIP, "", "give the inputs by position")
    attrs = case.subject.attributes(case.sample)
    floats = [j for j, x in enumerate(inputs) if x.dtype.is_floating_point]
    for j in floats:
        inputs[j].requires_grad_()
    with enable_grad():
        outs = flatten(apply(op, tuple(inputs), attrs))
    incoming = [weighing(y) for y in outs]
    grads = grad(outs, [inputs[j] for j in floats], incoming, materialize_grads=True)
    plain = tuple(x.detach() for x in inputs)
    worst, names = 0.0, case.subject.names()
    if op.kind == "pointwise":
        expected = [derived_vjp(op, j, incoming[0], plain, attrs) for j in range(len(plain))]
    else:
        expected = derived_gradients(op, plain, incoming, attrs)
    for j, got in zip(floats, grads, strict=True):
        want = expected[j]
        if want is None or got is None:
            continue
        name = f"gradient of {names[j] if j < len(names) else f'input {j}'}"
        if wrong := _apart(name, got, want, _DERIVED, ("as written", "derived")):
            return wrong
        if got.numel():
            worst = max(worst, (got - want).abs().amax().item())
    return Result("", PASS, _sized(worst), "as written and derived from forward")


def _plain_inputs(case: Case) -> list[Tensor] | None:
    """The inputs as the op itself takes them: all tensors, of one shape unless it is opaque."""
    given = case.sample.args[: len(case.subject.inputs)]
    if len(given) < len(case.subject.inputs):
        return None
    rest = iter(case.double)
    found = [next(rest) if isinstance(x, Tensor) else tensor(x, dtype=float64) for x in given]
    if case.subject.broadcasts:
        shape = broadcast_shapes(*(x.shape for x in found))
        found = [x.expand(shape) for x in found]
    return copies(found)


def _second(case: Case) -> Result:
    """The derivative of the gradients, for the inputs and for what comes in."""
    if case.why_no_slopes:
        return Result("", SKIP, "", case.why_no_slopes)
    inputs = copies(case.double)
    _, ends = case.ends(case.leaves(inputs))
    incoming = [weighing(y) for y in ends]

    def first(leaves: Sequence[Tensor], coming: Sequence[Tensor], again: bool) -> list[Tensor]:
        return case.slopes(leaves, coming, again)[1]

    leaves = case.leaves(inputs)
    coming = [w.detach().requires_grad_() for w in incoming]
    grads = first(leaves, coming, True)
    weights = [weighing(g) for g in grads]
    linked = [(g, w) for g, w in zip(grads, weights, strict=True) if g.requires_grad]
    names = [case.names[i] for i in case.wanted] + ["incoming gradient" for _ in incoming]
    ends2 = [leaves[i] for i in case.wanted] + coming
    if not linked:
        return Result("", SKIP, "", "the gradient depends on nothing that has a gradient")
    with enable_grad():
        found = grad(
            [g for g, _ in linked],
            ends2,
            [w for _, w in linked],
            allow_unused=True,
            materialize_grads=True,
        )
    variables = [inputs[i] for i in case.wanted] + incoming
    named = list(zip(names, variables, strict=True))

    def outputs() -> list[Tensor]:
        return first(case.leaves(inputs), incoming, False)

    return _verdict(
        slopes.compare(outputs, weights, named, [g for g in found if g is not None], _SECOND)
    )


# What is worth trying on large inputs, which are cut into several tasks.
_ON_LARGE = ("run", "repeat", "strides", "inputs kept", "memory", "replay", "threads")

# In the order of the table: what others rest upon comes first.
_ALL: dict[str, Callable[..., Result]] = {
    "run": _run_check,
    "inputs kept": checking.inputs_kept,
    "memory": checking.memory,
    "repeat": checking.same_again,
    "value": _value,
    "derivative": _derivative,
    "derived": _derived,
    "second derivative": _second,
    "strides": checking.strides,
    "broadcast": checking.broadcast,
    "empty": checking.empties,
    "replay": checking.replay,
    "threads": checking.threads,
    "finite": checking.finite,
}
