"""Random calls of everything public, with random and hostile arguments, in child processes.

    python tests/fuzz/calls.py --seconds 60 --seed 1

A finding is: a signal, a hang, an exception of a class that no docstring promises or with a C++
type in its text, memory written that belongs to nobody, or a result that differs when memory
begins as zeros and when it begins as ones. Each is printed once, as a snippet ready to paste.
An AttributeError where a tensor was expected counts with --strict only: PyTorch's functions in
Python raise it as well.
"""

from __future__ import annotations

import math
import random
import re
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from children import HEAD, Case, arguments, fuzz
from pools import Pool

# What is not to be called at random: it leaves traces in the process, reads files or the clock, or
# returns memory as it finds it.
LEFT_OUT = re.compile(
    r"set_\w+|use_\w+|load\w*|save|compile|seed|initial_seed|manual_seed|empty\w*|new|new_empty\w*|"
    r"data_ptr|untyped_storage|share_memory_|pin_memory|register_\w+|__\w+__|_\w+|main|"
    r"default_generator|Generator|e|pi|inf|nan|is_tensor|get_rng_state|resize_\w*|backward|"
    r"from_dlpack|from_file|thread\w*|get_num_\w+|enable_grad|no_grad|inference_mode|utils|"
    r"vitals_enabled|warnings?|resolve_\w+|typename|fork_rng|fill_uninitialized_memory"
)
DUNDERS = [
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "rfloordiv"),
    *("mod", "rmod", "pow", "rpow", "matmul", "rmatmul", "and", "or", "xor", "lshift", "rshift"),
    *("eq", "ne", "lt", "le", "gt", "ge", "iadd", "isub", "imul", "itruediv", "ipow", "ifloordiv"),
    *("imod", "iand", "ior", "ixor", "ilshift", "irshift", "contains", "getitem", "format"),
]
PLAIN_DUNDERS = [
    *("neg", "pos", "abs", "invert", "len", "iter", "bool", "float", "int", "index", "repr"),
    *("deepcopy", "array"),
]
ALLOWED = (TypeError, ValueError, RuntimeError, IndexError, MemoryError, ArithmeticError)
FOREIGN = re.compile(
    r"pybind11|std::|backtrail::|incompatible function arguments|Invoked with|basic_string|"
    r"vector::|__cxx11|unordered_map|bad_alloc"
)
BACKWARD = """for t in (r if isinstance(r, (list, tuple)) else [r]):
    if isinstance(t, bt.Tensor) and t.requires_grad and t.grad_fn is not None:
        t.backward(bt.ones_like(t), retain_graph=True)"""
INDICES = [
    "0",
    "-1",
    "5",
    "...",
    "None",
    "slice(None, None, 2)",
    "slice(2, 0)",
    "[0, 1]",
    "[]",
    "True",
    "bt.tensor([0, 1])",
    "bt.tensor([True, False])",
    "bt.tensor([2**40])",
    "(0, ...)",
    "2**63",
    "(slice(None), 0)",
    "(None, [0, 1], None)",
    "bt.randn(2)",
    "'a'",
    "1.5",
    "slice(-2**63, 2**63)",
    "(bt.tensor([[0], [1]]), [0, 1])",
    "slice(0, 2**62, 2**62)",
    "(..., ...)",
    "np.array([0, 1])",
    "slice(None, None, -1)",
    "bt.zeros(2, 3).bool()",
    "range(2)",
    "((0, 1), (1, 0))",
]
VIEWS = [
    "[0]",
    "[1:]",
    ".T",
    ".view(-1)",
    ".reshape(3, 2)",
    ".expand(2, 2, 3)",
    ".detach()",
    ".data",
    "[:, ::2]",
    ".transpose(0, 1)",
    ".unsqueeze(0)",
    ".as_strided((2, 2), (1, 1))",
    ".flatten()",
    ".diagonal()",
    ".unfold(0, 2, 1)",
    ".squeeze()",
    ".view(bt.int32)",
    ".narrow(0, 0, 1)",
    "[None]",
]
IN_PLACE = [
    ".add_(1)",
    ".mul_(bt.randn(3))",
    ".zero_()",
    ".fill_(2)",
    ".exp_()",
    ".copy_(bt.randn(2, 3))",
    ".normal_()",
    ".clamp_(0, 1)",
    "[0] = 5",
    ".sub_(y)",
    ".uniform_()",
    ".t_()",
    ".requires_grad_()",
    ".masked_fill_(bt.tensor([True, False, True]), 1)",
    ".detach_()",
    ".data = bt.randn(5)",
    ".index_fill_(0, bt.tensor([0]), 1)",
    ".scatter_(0, bt.tensor([[0]]), 1.0)",
    ".relu_()",
    ".squeeze_()",
    ".swapaxes_(0, 1)",
    ".bernoulli_()",
    ".index_add_(0, bt.tensor([0]), y[:1])",
]
GRADS = [
    "None",
    "g",
    "g * 2",
    "bt.ones(1000)",
    "bt.ones(1)",
    "g.long()",
    "g > 0",
    "g.double()",
    "1.0",
    "g.sum()",
    "g[None]",
    "g.expand(3, *g.shape)",
    "'x'",
    "[g]",
    "(g, g)",
    "g.T",
    "g.requires_grad_()",
    "g.mul_(2)",
    "g.zero_()",
    "bt.zeros(0)",
    "g.resize_(9)",
]


class Calls:
    """An endless stream of cases from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.pool = Pool(self.rng)
        self.functions, self.methods, self.modules, self.optimizers = subjects()

    def __iter__(self) -> Iterator[Case]:
        makers: list[Callable[[], Case]] = [
            *[self.function] * 8,
            *[self.method] * 8,
            *[self.module] * 4,
            self.optimizer,
            self.dunder,
            self.index,
            self.views,
            self.hook,
            self.custom,
            self.captured,
        ]
        while True:
            yield self.rng.choice(makers)()

    def hostile(self) -> float:
        return self.rng.choice([0.05, 0.05, 0.3, 0.8])

    def call(self, name: str, of: object, skip: int = 0) -> str:
        return f"{name}({', '.join(self.pool.arguments(of, skip, self.hostile()))})"

    def function(self) -> Case:
        name = self.rng.choice(list(self.functions))
        return Case(name, f"r = {self.call(name, self.functions[name])}\n{BACKWARD}")

    def method(self) -> Case:
        name = self.rng.choice(list(self.methods))
        code = f"x = {self.pool.tensor()}\nr = {self.call('x.' + name, self.methods[name], 1)}"
        return Case(f"Tensor.{name}", f"{code}\n{BACKWARD}")

    def dunder(self) -> Case:
        if self.rng.random() < 0.2:
            name, given = self.rng.choice(PLAIN_DUNDERS), ""
            given = "{}" if name == "deepcopy" else ""
        else:
            name, given = self.rng.choice(DUNDERS), self.pool.anything()
        code = f"x = {self.pool.tensor()}\nr = x.__{name}__({given})"
        return Case(f"Tensor.__{name}__", f"{code}\n{BACKWARD}")

    def index(self) -> Case:
        x, i = self.pool.tensor(), self.rng.choice(INDICES)
        if self.rng.random() < 0.5:
            return Case("x[i]", f"x = {x}\nr = x[{i}]\n{BACKWARD}")
        return Case("x[i] = y", f"x = {x}\nx[{i}] = {self.pool.anything()}\nr = x\n{BACKWARD}")

    def module(self) -> Case:
        name = self.rng.choice(list(self.modules))
        lines = [f"m = {self.call('nn.' + name, self.modules[name], 0)}"]
        if self.rng.random() < 0.2:
            lines.append(self.rng.choice(["m.eval()", "m.double()", "m.requires_grad_(False)"]))
        if self.rng.random() < 0.15:
            where = self.rng.choice(
                ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"]
            )
            lines.append(f"m.register_{where}(lambda *a: {self.pool.anything()})")
        given = ", ".join(self.pool.tensor() for _ in range(self.rng.choice([1, 1, 1, 2, 3])))
        lines += [f"r = m({given})", BACKWARD, "s = m.state_dict()", "p = repr(m)"]
        return Case(f"nn.{name}", "\n".join(lines))

    def optimizer(self) -> Case:
        name = self.rng.choice(list(self.optimizers))
        p = self.rng.choice(["nn.Parameter(bt.randn(3, 2))", self.pool.tensor()])
        given = self.pool.arguments(self.optimizers[name], 1, self.hostile())
        lines = [f"p = {p}", f"o = bt.optim.{name}({', '.join(['[p]', *given])})"]
        lines += [f"p.grad = {self.rng.choice([self.pool.tensor(), 'bt.randn(3, 2)', 'None'])}"]
        lines += ["o.step()", "o.step()", "s = o.state_dict()", "o.load_state_dict(s)", "o.step()"]
        return Case(f"optim.{name}", "\n".join(lines))

    def views(self) -> Case:
        chain = "".join(self.rng.choice(VIEWS) for _ in range(self.rng.choice([1, 1, 2, 3])))
        x = self.rng.choice(["bt.randn(2, 3)", "bt.randn(2, 3, requires_grad=True)", "(w * 2)"])
        lines = ["w = bt.randn(2, 3, requires_grad=True)", "y = bt.randn(2, 3)", f"x = {x}"]
        lines += [f"v = x{chain}", "z = x.exp()"]
        for _ in range(self.rng.choice([1, 2, 3])):
            lines.append(f"{self.rng.choice(['x', 'v', 'z'])}{self.rng.choice(IN_PLACE)}")
        lines += ["r = [x, v, z, x.sum() * 2, v.sum() + z.sum()]", BACKWARD]
        return Case("views", "\n".join(lines))

    def hook(self) -> Case:
        op = self.rng.choice(
            ["exp()", "sum()", "T", "relu()", "[0]", "softmax(0)", "expand(2, 2, 3)", "cumsum(0)"]
        )
        on = self.rng.choice(["x", "h", "r"])
        dot = "" if op.startswith("[") else "."
        lines = ["x = bt.randn(2, 3, requires_grad=True)", "h = x * 2", f"r = h{dot}{op} * 3"]
        kind = self.rng.choice(["register_hook", "register_hook", "grad_fn.register_hook"])
        if kind == "register_hook":
            lines.append(f"{on}.register_hook(lambda g: {self.rng.choice(GRADS)})")
        else:
            lines.append(f"r.grad_fn.register_hook(lambda gi, go: {self.rng.choice(GRADS)})")
            lines[-1] = lines[-1].replace("gi, go: ", "gi, go, g=bt.ones(2, 3): ")
        seed = self.rng.choice(["bt.ones_like(r)", "bt.ones_like(r).long()", "bt.ones(7)", "None"])
        lines.append(f"r.backward({seed})")
        return Case("hooks", "\n".join(lines))

    def custom(self) -> Case:
        given = self.rng.choice(GRADS)
        lines = [
            "class Own(bt.autograd.Function):",
            "    @staticmethod",
            f"    def forward(ctx, x): return {self.rng.choice(['x * 2', 'x', 'x.sum()', 'None'])}",
            "    @staticmethod",
            f"    def backward(ctx, g): return {given}",
            f"r = Own.apply({self.pool.tensor()} * 2).sum()",
            BACKWARD,
        ]
        return Case("Function", "\n".join(lines))

    def captured(self) -> Case:
        name = self.rng.choice(list(self.functions))
        given = self.pool.arguments(self.functions[name], 0, self.hostile())
        by_position = [g for g in given if not re.match(r"[a-z_][a-z_0-9]*=[^=]", g)]
        lines = [f"a = [{', '.join(by_position)}]"]
        lines += [f"f = bt.compile(lambda *a: {name}(*a))", "r = f(*a)", "r = f(*a)", BACKWARD]
        return Case(f"compile {name}", "\n".join(lines))


def subjects() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return all that is public, by the name it is called by."""
    import backtrail as bt
    import backtrail.nn.functional as F
    from backtrail import nn

    functions: dict[str, Any] = {}
    for prefix, holder in (("bt", bt), ("F", F), ("bt.linalg", bt.linalg), ("nn.init", nn.init)):
        for name in dir(holder):
            found = getattr(holder, name)
            if callable(found) and not isinstance(found, type) and not LEFT_OUT.fullmatch(name):
                functions[f"{prefix}.{name}"] = found
    functions["nn.utils.clip_grad_norm_"] = nn.utils.clip_grad_norm_
    functions["bt.autograd.grad"] = bt.autograd.grad
    for name in ("jacobian", "hessian", "vjp", "jvp"):
        if hasattr(bt.autograd, name):
            functions[f"bt.autograd.{name}"] = getattr(bt.autograd, name)
    methods = {
        name: getattr(bt.Tensor, name)
        for name in dir(bt.Tensor)
        if callable(getattr(bt.Tensor, name)) and not LEFT_OUT.fullmatch(name)
    }
    modules = {
        name: getattr(nn, name)
        for name in dir(nn)
        if isinstance(getattr(nn, name), type)
        and issubclass(getattr(nn, name), nn.Module)
        and name != "Module"
    }
    optimizers = {
        name: getattr(bt.optim, name)
        for name in dir(bt.optim)
        if isinstance(getattr(bt.optim, name), type) and name != "Optimizer"
    }
    return functions, methods, modules, optimizers


# In the child


def check(code: str) -> dict[str, str]:
    """Run a snippet twice, on memory of zeros and of ones; return what is wrong, or nothing."""
    import warnings

    from backtrail import _core

    outcomes = []
    compiled = compile(HEAD + code, "<snippet>", "exec")
    for pattern in (0x00, 0xFF):
        _core.guard_storages(pattern)
        space: dict[str, Any] = {}
        reset()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(compiled, space)
            error: BaseException | None = None
        except BaseException as raised:
            error = raised
        outcome = repr(type(error)), {k: digest(v) for k, v in space.items() if len(k) == 1}
        if damage := max((_core.guard_damage(t) for t in tensors(space)), default=0):
            return {"kind": "beside", "what": f"memory was written {damage} bytes beside a tensor"}
        if error is not None and (wrong := wrong_with(error)):
            return wrong
        outcomes.append(outcome)
        del space, error
        if damage := _core.released_damage():
            return {"kind": "beside", "what": f"memory was written {damage} bytes beside a tensor"}
    _core.guard_storages(-1)
    if outcomes[0] != outcomes[1]:
        (one, a), (other, b) = outcomes
        names = [name for name in a if a[name] != b.get(name)]
        what = f"{one} and {other}" if one != other else f"{', '.join(names)} differ"
        return {"kind": "unlike", "what": f"on memory of zeros and of ones: {what}"}
    return {}


def reset() -> None:
    """Undo what a snippet may have left."""
    import backtrail as bt

    bt.manual_seed(0)
    bt.set_grad_enabled(True)
    if hasattr(bt, "set_default_dtype"):
        bt.set_default_dtype(bt.float32)


def wrong_with(error: BaseException) -> dict[str, str]:
    """Return what is wrong with an exception: its class, or what it says."""
    import traceback

    text = f"{type(error).__name__}: {str(error)[:300]}"
    last = traceback.extract_tb(error.__traceback__)
    ours = bool(last) and "<snippet>" not in last[-1].filename
    if isinstance(error, (SystemExit, KeyboardInterrupt)) or not isinstance(error, ALLOWED):
        # An attribute that a snippet itself asks for, of a result of another type, is its own.
        kind = "unclear" if type(error) is AttributeError else "class"
        return {"kind": kind, "what": text} if ours else {}
    if FOREIGN.search(str(error)) and ours:
        return {"kind": "text", "what": text}
    return {}


def tensors(value: Any, depth: int = 4) -> list[Any]:
    from backtrail import Tensor

    if isinstance(value, Tensor):
        return (
            [value, *tensors(value.grad)] if value.is_leaf and value.grad is not None else [value]
        )
    if depth and isinstance(value, (list, tuple, dict)):
        items = list(value.values()) if isinstance(value, dict) else value
        return [t for item in items for t in tensors(item, depth - 1)]
    return []


def digest(value: Any, depth: int = 5) -> Any:
    """Return the contents of a result, for comparing."""
    import hashlib

    from backtrail import Tensor, _core

    if isinstance(value, Tensor):
        if math.prod(value.shape) > 1 << 24:
            return str(value.dtype), tuple(value.shape)
        data = hashlib.blake2b(_core.to_bytes(value.detach()), digest_size=12).hexdigest()
        grad = digest(value.grad) if value.is_leaf and value.grad is not None else None
        return str(value.dtype), tuple(value.shape), tuple(value.stride()), data, grad
    if isinstance(value, float):
        return struct.pack("d", value)
    if isinstance(value, (bool, int, str, bytes, type(None))):
        return value
    if depth and isinstance(value, (list, tuple)):
        return type(value).__name__, [digest(item, depth - 1) for item in value]
    if depth and isinstance(value, dict):
        return [(str(k), digest(item, depth - 1)) for k, item in value.items()]
    return type(value).__name__


if __name__ == "__main__":
    given = arguments("Call everything public with random and hostile arguments.")
    with tempfile.TemporaryDirectory() as folder:
        left_out = frozenset() if given.strict else frozenset({"unclear"})
        cases = Calls(given.seed)
        kinds = fuzz(Path(__file__).resolve(), cases, given.seconds, Path(folder), left_out)
    raise SystemExit(1 if kinds else 0)
