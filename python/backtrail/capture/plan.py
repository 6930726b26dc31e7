"""Plans as people and `compile` see them: running one, describing it, timing its parts."""

from __future__ import annotations

from typing import Any

from .._core import Node, TensorBase

__all__ = ["Plan"]


class Plan:
    """A captured call. `runs` counts its replays."""

    def __init__(
        self, replay: Any, where: list[str], backward: Any = None, reads: Any = None
    ) -> None:
        self.reads = reads  # the form of the call, and numbers of the memory that was there before
        self._replay = replay
        self._where = where
        self._backward = backward
        self.runs = 0

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replay; NotImplemented when the call is not what was captured."""
        if self._backward is None:
            found = self._replay.call(args, kwargs)
            if found is NotImplemented:
                return found
            self.runs += 1
            return found[0]
        found = self._replay.call_and_draws(args, kwargs)
        if found is NotImplemented:
            return found
        self.runs += 1
        (result, kept), draws = found
        self._hang(args, kwargs, result, kept, draws)
        return result

    def _hang(self, args: Any, kwargs: Any, result: Any, kept: list[Any], draws: Any) -> None:
        """Make the graph node of a result that will be differentiated."""
        backward = self._backward
        outputs = [t for i, t in enumerate(_tensors(result)) if i in backward.outputs]
        given = _tensors((args, kwargs))
        inputs = tuple(given[t] if isinstance(t, int) else t for t in backward.inputs)
        Node(backward, inputs, tuple(outputs), (draws,), (*kept, *backward.params))

    def broken(self) -> str:
        """Return what has changed since the capture, or an empty string."""
        number = self._replay.broken()
        return self._where[number] if number >= 0 else ""

    @property
    def flops(self) -> float:
        """Floating point operations of a run, about: those of products, and one an element."""
        return sum(float(node["flops"]) for node in self._replay.nodes()["nodes"])

    def __str__(self) -> str:
        return _table(self._replay.nodes(), None)

    def describe(self) -> None:
        """Print the nodes of the plan, what was fused, and the memory it needs."""
        print(self)

    def profile(self, n: int = 100) -> None:
        """Print the median time of each node over n replays of the last call; nothing changes."""
        print(_table(self._replay.nodes(), self._replay.profile(n)))


def _tensors(value: Any) -> list[Any]:
    if isinstance(value, TensorBase):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in _tensors(v)] if isinstance(value, (list, tuple)) else []


def _table(plan: dict[str, Any], seconds: list[float] | None) -> str:
    from textwrap import fill

    names, writes = (35, 19) if seconds is None else (21, 16)  # 80 columns in all
    nodes = plan["nodes"]
    lines = []
    total = sum(seconds) if seconds else 0.0
    for i, node in enumerate(nodes):
        name = " + ".join(_runs(node["ops"]))
        if len(name) > names:
            name = name[: names - 3] + "..."
        shapes = ", ".join("x".join(map(str, shape)) or "()" for shape, _, _ in node["outputs"])
        if len(shapes) > writes:
            shapes = shapes[: writes - 3] + "..."
        work = "  ".join(f"{_short(node[kind]):>7s}" for kind in ("flops", "bytes"))
        line = f"{i:3d}  {name:{names}s}  {shapes:{writes}s}  {work}"
        if seconds is not None:
            share = seconds[i] / total if total else 0.0
            line += f"  {seconds[i] * 1e6:8.2f}  {share:6.1%}"
        lines.append(line)
    head = f"{'':3s}  {'computes':{names}s}  {'writes':{writes}s}  {'FLOPs':>7s}  {'bytes':>7s}"
    if seconds is not None:
        head += f"  {'us':>8s}  {'share':>6s}"
    fused = sum(len(n["ops"]) for n in nodes if n["kind"] == "fused")
    groups = sum(n["kind"] == "fused" for n in nodes)
    tail = [
        f"{len(nodes)} nodes from {plan['recorded']} recorded steps: {plan['folded']} computed "
        f"once, {plan['dead']} left out, {fused} fused into {groups}",
        f"{_short(plan['arena_bytes'])}B of buffers ({_short(plan['unshared_bytes'])}B if none "
        f"shared memory), {_short(plan['constant_bytes'])}B of constants, {plan['guards']} guards",
    ]
    if seconds is not None:
        tail.append(f"{total * 1e6:,.1f} us in all nodes")
    return "\n".join([head, *lines, *(fill(line, 80) for line in tail)])


def _runs(names: list[str]) -> list[str]:
    """Join repetitions: ['add', 'add', 'mul'] -> ['2 add', 'mul']."""
    found: list[tuple[str, int]] = []
    for name in names:
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1] + 1)
        else:
            found.append((name, 1))
    return [name if n == 1 else f"{n} {name}" for name, n in found]


def _short(n: float) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= scale:
            return f"{n / scale:.1f}{unit}"
    return f"{n:.0f}"
