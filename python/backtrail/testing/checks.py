"""The checks of `opcheck` that compare runs bit for bit, or look at what a run did to memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from .. import dtypes
from .._core import guard_damage, guard_storages, released_damage, set_task_order
from ..functions.creation import empty, tensor
from ..functions.shaping import broadcast_shapes
from ..tensor import Tensor
from .close import index_of
from .report import FAIL, NOTE, PASS, SKIP, Result
from .runs import Case, Named, attempt, copies, difference, named_outputs, place, said
from .samples import DEFAULT_RANGE

PATTERNS = (0x00, 0xFF, 0x5B)  # 0.0, NaN and 6e16, as floats
GUARD = PATTERNS[-1]  # all checks run with it, so that a wrong write hits nothing that matters
EXPECTED_ERRORS = (ValueError, RuntimeError, IndexError, TypeError)
ELEMENTWISE = ("pointwise",)


def inputs_kept(case: Case) -> Result:
    """Inputs, and the gradients that come in, are not written to."""
    for tensors in case.fresh():  # what earlier checks ran on may be changed by now
        before = copies(tensors)
        case.everything(tensors)
        for name, x, y in zip(case.names, tensors, before, strict=True):
            wrong = difference([(name, x)], [(name, y)], ("after the call", "before"))
            if wrong:
                return Result("inputs kept", FAIL, "", wrong)
    return Result("inputs kept", PASS, "", "no input was written to")


def memory(case: Case) -> Result:
    """Every element of a result is written; nothing else is, and nothing else is read."""
    for tensors in (case.single, case.double):
        first: Named = []
        for pattern in PATTERNS:
            guard_storages(pattern)
            try:
                guarded = copies(tensors)
                found = case.everything(guarded)
                around = [*found, *zip(case.names, guarded, strict=True)]
                for name, t in around:
                    if damage := guard_damage(t):
                        return Result("memory", FAIL, "", _overrun(name, damage))
                del around
            finally:
                damage = released_damage()
                guard_storages(GUARD)
            if damage:
                return Result("memory", FAIL, "", _overrun("a result in between", damage))
            first = first or found
            words = (f"in memory filled with {pattern:#04x}", f"with {PATTERNS[0]:#04x}")
            if wrong := difference(found, first, words):
                text = "what was never written, or lies outside of the inputs, was read: "
                return Result("memory", FAIL, "", text + wrong)
    text = f"the same in memory filled with {', '.join(f'{p:#04x}' for p in PATTERNS)}"
    return Result("memory", PASS, "", text + "; nothing written around it")


def _overrun(name: str, damage: int) -> str:
    side = "before the first" if damage < 0 else "after the last"
    return f"memory outside of {name} was written: byte {abs(damage)} {side} of its own"


def strides(case: Case) -> Result:
    """Transposed, stepped and shifted inputs give the bits of dense ones."""
    tried = []
    for tensors in (case.single, case.double):
        want = case.everything(tensors)
        for how, arrange in (
            ("transposed", _transposed),
            ("stepped", _stepped),
            ("shifted", _shifted),
        ):
            spread = [arrange(t) for t in tensors]
            if all(s is t for s, t in zip(spread, tensors, strict=True)):
                continue
            if error := attempt(lambda spread=spread: case.everything(spread)):  # type: ignore[misc]
                return Result("strides", FAIL, "", f"{how} inputs: {error}")
            if wrong := difference(case.everything(spread), want, (f"{how}", "dense")):
                return Result("strides", FAIL, "", wrong)
            tried.append(how)
    if not tried:
        return Result("strides", SKIP, "", "no input has two elements")
    return Result(
        "strides", PASS, "", f"{', '.join(dict.fromkeys(tried))}: the bits of dense inputs"
    )


def _transposed(t: Tensor) -> Tensor:
    if t.ndim < 2 or t.numel() < 2:
        return t
    return t.transpose(0, -1).contiguous().transpose(0, -1)


def _stepped(t: Tensor) -> Tensor:
    if not t.ndim or t.numel() < 2:
        return t
    room = empty(*(2 * n + 1 for n in t.shape), dtype=t.dtype)
    room.fill_(1)
    view = room[tuple(slice(1, 2 * n + 1, 2) for n in t.shape)]
    view.copy_(t)
    return view


def _shifted(t: Tensor) -> Tensor:
    """Dense, but not where a vector begins."""
    if not t.ndim or not t.numel():
        return t
    room = empty(t.numel() + 3, dtype=t.dtype)[3:]
    room.copy_(t.reshape(-1))
    return room.view(t.shape)


def broadcast(case: Case) -> Result:
    """A small input against large ones, or one repeated without memory, is as if it were copied."""
    tried = 0
    for repeated, whole in _broadcasts(case):
        want = case.everything(whole)
        got = case.everything(repeated)
        k = len(want) if case.why_no_slopes else len(want) - len(case.wanted)  # outputs, gradients
        words = ("broadcast", "with the same values copied")
        if wrong := difference(got[:k], want[:k], words):
            return Result("broadcast", FAIL, "", wrong)
        if not case.why_no_slopes:
            for i, (name, g), (_, full) in zip(case.wanted, got[k:], want[k:], strict=True):
                if g.shape != repeated[i].shape:
                    text = f"{name} is of shape {list(g.shape)}, not {list(repeated[i].shape)}"
                    return Result("broadcast", FAIL, "", text)
                total = _summed(full, repeated[i].shape)
                error = (g.double() - total).abs()
                allowed = 1e-5 * (1 + _summed(full.abs(), repeated[i].shape))
                if bool((error > allowed).any()):
                    at = int((error / allowed).reshape(-1).argmax().item())
                    where = (
                        f"{place(name, at, g.shape)} is {g.reshape(-1)[at].item():.9g}; those "
                        f"of the copies add up to {total.reshape(-1)[at].item():.9g}"
                    )
                    return Result("broadcast", FAIL, "", where)
        tried += 1
    if not tried:
        return Result("broadcast", SKIP, "", "no input has a dimension to repeat")
    return Result("broadcast", PASS, "", f"{tried} ways: as if the repeated values were copied")


def _summed(t: Tensor, shape: Sequence[int]) -> Tensor:
    t = t.double()
    while t.ndim > len(shape):
        t = t.sum(0)
    for d, n in enumerate(shape):
        if n == 1 and t.shape[d] != 1:
            t = t.sum(d, True)
    return t


def _broadcasts(case: Case) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Inputs of which some are repeated, and the same inputs with the copies made."""
    tensors = case.single
    for d in (0, -1):
        cut = [t.narrow(d, 0, 1).expand(t.shape) if t.ndim and t.numel() else t for t in tensors]
        if any(t.ndim and t.numel() > 1 for t in tensors):
            yield cut, copies(cut)
    if not case.subject.broadcasts or len(tensors) < 2:
        return
    shape = broadcast_shapes(*(t.shape for t in tensors))
    full = [t.expand(shape).clone() for t in tensors]
    for j, t in enumerate(full):
        for small in (t[..., :1], t[:1], t[0]) if t.ndim and t.numel() else ():
            parts, whole = list(full), list(full)
            parts[j], whole[j] = small.clone(), small.expand(shape).clone()
            yield parts, whole


def empties(case: Case) -> Result:
    """Inputs without elements give results without elements, and gradients too."""
    refused, accepted = [], []
    for how, new in _emptied(case):
        tensors = [empty(*s, dtype=t.dtype) for s, t in zip(new, case.single, strict=True)]
        try:
            found = case.everything(tensors)
        except EXPECTED_ERRORS as error:
            refused.append(f"{how}: {said(error)}")
            continue
        if not case.why_no_slopes:
            for i, (name, g) in zip(case.wanted, found[-len(case.wanted) :], strict=True):
                if g.shape != tensors[i].shape:
                    text = f"{name} is of shape {list(g.shape)}, its input of {list(new[i])}"
                    return Result("empty", FAIL, "", text)
        if case.subject.kind in ELEMENTWISE and found[0][1].numel():
            text = f"inputs without elements give an output of shape {list(found[0][1].shape)}"
            return Result("empty", FAIL, "", text)
        accepted.append(f"{list(new[0])} -> {list(found[0][1].shape)}" if new else "")
    if refused and case.subject.kind in ELEMENTWISE:
        return Result("empty", FAIL, "", "; ".join(refused))
    if accepted:
        also = f"; refused: {refused[0]}" if refused else ""
        return Result("empty", PASS, "", f"shapes {', '.join(accepted)}{also}")
    why = f"refused: {refused[0]}" if refused else "no input has a dimension"
    return Result("empty", SKIP, "", why)


def _emptied(case: Case) -> Iterator[tuple[str, list[tuple[int, ...]]]]:
    """Shapes of the inputs with a size 0: of a dimension that they share, or wherever a size is."""
    shapes = [tuple(t.shape) for t in case.single]
    if case.subject.kind in ELEMENTWISE:
        whole = tuple(case.values(case.single)[0].shape)
        for d in range(1, len(whole) + 1):
            cut = [
                tuple(0 if len(s) - i == d and n == whole[-d] else n for i, n in enumerate(s))
                for s in shapes
            ]
            yield f"dimension {len(whole) - d}", cut
        return
    for size in sorted({n for s in shapes for n in s if n}):
        yield f"{size} -> 0", [tuple(0 if n == size else n for n in s) for s in shapes]


def threads(case: Case) -> Result:
    """Any number of threads, and tasks in the other order, give the same bits."""
    from .. import get_num_threads, set_num_threads

    before = get_num_threads()
    tried = (1, 2, 3, 8)
    try:
        for tensors in (case.single, case.double):
            set_num_threads(1)
            want = case.everything(tensors)
            set_task_order(2)
            if wrong := difference(
                case.everything(tensors), want, ("with tasks in reverse order", "in order")
            ):
                return Result("threads", FAIL, "", wrong)
            set_task_order(1)
            for n in tried[1:]:
                set_num_threads(n)
                for _ in range(2):
                    got = case.everything(tensors)
                    if wrong := difference(got, want, (f"on {n} threads", "on 1")):
                        return Result("threads", FAIL, "", wrong)
            set_task_order(0)
    finally:
        set_task_order(0)
        set_num_threads(before)
    return Result("threads", PASS, "", "the same bits on 1, 2, 3 and 8, and in reverse order")


def replay(case: Case) -> Result:
    """A captured function that uses the op gives the bits of the function as it is."""
    from ..capture.compiled import CaptureError, compile

    def alone(*tensors: Tensor) -> list[Tensor]:
        return [t for _, t in case.everything(tensors)]

    def among_others(*tensors: Tensor) -> list[Tensor]:
        # x / 2 + x / 2 is x: the op still sees the values it is for.
        moved = [t * 0.5 + t * 0.5 if t.dtype.is_floating_point else t for t in tensors]
        outs = case.values(moved)
        return [y * 2 + y if y.dtype.is_floating_point else y for y in outs]

    for tensors in (case.single, case.double):
        for program in (alone, among_others):
            captured = compile(program)
            for turn in range(3):
                given = _turned(case, tensors, turn)
                want = named_outputs(program(*given))
                case.seed()
                try:
                    got = named_outputs(captured(*given))
                except CaptureError as error:
                    return Result("replay", SKIP, "", str(error))
                if wrong := difference(got, want, (f"captured (call {turn + 1})", "eager")):
                    return Result("replay", FAIL, "", wrong)
            if captured.captures != 1:
                text = f"three calls of one form were captured {captured.captures} times"
                return Result("replay", FAIL, "", text)
    return Result("replay", PASS, "", "the bits of eager runs, gradients too, over three calls")


def _turned(case: Case, tensors: Sequence[Tensor], turn: int) -> list[Tensor]:
    """Other inputs of the same form, if the op takes them."""
    moved = [
        t.reshape(-1).roll(turn, 0).reshape(t.shape) if t.dtype.is_floating_point and t.ndim else t
        for t in tensors
    ]
    return copies(tensors) if attempt(lambda: case.values(moved)) else moved


def finite(case: Case) -> Result:
    """Finite inputs give finite results; numbers at the edge are looked at too."""
    for tensors, kind in ((case.single, "float32"), (case.double, "float64")):
        for name, t in zip(case.names, tensors, strict=True):
            if _first_not_finite(t) is not None:
                return Result("finite", SKIP, "", f"{name} itself holds NaN or infinity")
        for name, t in case.everything(tensors):
            if (i := _first_not_finite(t)) is not None:
                value = t.detach().reshape(-1)[i].item()
                text = f"{place(name, i, t.shape)} is {value} in {kind}, {_made_by(case, t, i)}"
                return Result("finite", FAIL, str(value), text)
    if note := _at_the_edges(case):
        return Result("finite", NOTE, "", note)
    return Result("finite", PASS, "", "no NaN or infinity")


def _first_not_finite(t: Tensor) -> int | None:
    if not t.dtype.is_floating_point or not t.numel():
        return None
    bad = ~t.detach().reshape(-1).isfinite()
    return int(bad.to(dtypes.int64).argmax().item()) if bool(bad.any()) else None


def _made_by(case: Case, result: Tensor, i: int) -> str:
    """The inputs that element i of a result comes from, as far as that is known."""
    parts = []
    dim = case.sample.kwargs.get("dim", -1)
    if case.subject.broadcasts and case.subject.kind not in ELEMENTWISE and isinstance(dim, int):
        shape = broadcast_shapes(*(t.shape for t in case.single))
        dim %= max(len(shape), 1)
        place_of = list(index_of(i, result.shape))
        if len(place_of) == len(shape):
            del place_of[dim]
        for name, t in zip(case.names, case.single, strict=True):
            row = t.expand(shape).movedim(dim, -1)[tuple(place_of)].tolist()
            numbers = ", ".join(map(_number, row[:6])) + ", ..." * (len(row) > 6)
            parts.append(f"{name} = [{numbers}]")
        return f"from the row {', '.join(parts)}"
    for name, t in zip(case.names, case.single, strict=True):
        if case.subject.kind in ELEMENTWISE and t.numel() == result.numel():
            parts.append(f"{name} = {_number(t.reshape(-1)[i].item())}")
        elif case.subject.kind in ELEMENTWISE and t.numel() == 1:
            parts.append(f"{name} = {_number(t.item())}")
        elif t.numel() and t.dtype.is_floating_point:
            low, high = t.amin().item(), t.amax().item()
            parts.append(f"{name} from {_number(low)} to {_number(high)}")
    return f"from {', '.join(parts)}"


def _number(value: float) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _at_the_edges(case: Case) -> str:
    """NaN from zero, the ends of the range or (if the op names no range) large numbers."""
    (low, high), kinds = case.subject.range, case.subject.inputs
    if not case.subject.broadcasts or "floating" not in kinds:
        return ""
    numbers = [n for n in (0.0, low, high, 1e-30, -1e-30) if low <= n <= high]
    if (low, high) == DEFAULT_RANGE:
        numbers += [s * n for n in (30.0, 1e3, 1e10) for s in (1, -1)]
    n = 1 if case.subject.kind == "pointwise" else 3
    for number in numbers:
        for first in (number, low + 0.7 * (high - low))[:n]:  # of a row
            row = tensor([first] + [number] * (n - 1), dtype=dtypes.float32)
            given = [
                row if t.dtype.is_floating_point else t.reshape(-1)[:1].expand(n)
                for t in case.single
            ]
            try:
                found = case.everything(given)
            except EXPECTED_ERRORS:
                continue
            for name, t in found:
                i = _first_not_finite(t)
                value = 0.0 if i is None else t.detach().reshape(-1)[i].item()
                if math.isnan(value) or (math.isinf(value) and low <= number <= high):
                    all_of = "every input is" if n == 1 else "the row of each input is"
                    what = f"{first:g}" if n == 1 else f"{[float(f'{v:g}') for v in row.tolist()]}"
                    return f"{name} is {value} where {all_of} {what}"
    return ""


Check = Callable[[Case], Result]


def same_again(case: Case) -> Result:
    """Two runs on the same inputs agree."""
    for tensors in (case.single, case.double):
        first = case.everything(tensors)
        if wrong := difference(case.everything(tensors), first, ("the second time", "the first")):
            return Result("repeat", FAIL, "", wrong)
    return Result("repeat", PASS, "", "two runs: the same bits")
