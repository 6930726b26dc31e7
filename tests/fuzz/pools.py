"""Arguments for random calls: what fits a parameter by its name, and what is hostile anywhere."""

from __future__ import annotations

import inspect
import random

FLOATS = [
    "bt.randn(2, 3)",
    "bt.randn(3)",
    "bt.randn(())",
    "bt.randn(3, 3)",
    "bt.randn(2, 3, 4)",
    "bt.randn(1, 2, 5, 5)",
    "bt.randn(2, 3, requires_grad=True)",
    "bt.randn(3, requires_grad=True)",
    "bt.randn(3, 3, dtype=bt.float64, requires_grad=True)",
    "bt.randn(1, 2, 5, 5, requires_grad=True)",
    "bt.randn(3, 2, requires_grad=True).T",
    "bt.randn(4, 6)[::2, ::3]",
    "bt.randn(3, 1).expand(3, 4)",
    "bt.randn(6).as_strided((3, 3), (1, 1))",
    "bt.zeros(0, 3)",
    "bt.zeros(0)",
    "bt.zeros(2, 0, requires_grad=True)",
    "bt.tensor([float('nan'), float('inf'), -0.0])",
    "bt.randn(2, 3).to(bt.bfloat16)",
    "bt.rand(2, 3)",
    "bt.randn(20000)",
    "nn.Parameter(bt.randn(3))",
    "(bt.randn(2, 3, requires_grad=True) * 2)",
]
OTHERS = [
    "bt.arange(6).reshape(2, 3)",
    "bt.tensor([1, 0, 2])",
    "bt.tensor(1)",
    "bt.tensor([0, 1], dtype=bt.int32)",
    "bt.tensor([255, 1], dtype=bt.uint8)",
    "bt.tensor([True, False, True])",
    "(bt.randn(2, 3) > 0)",
    "bt.zeros(0, dtype=bt.int64)",
    "bt.tensor([-1, 5, 2**62])",
    "bt.tensor([2**63 - 1, -2**63])",
]
RARE = [
    "bt.ones(1).expand(2**31)",
    "bt.ones(1).expand(2**32, 2**31)",
    "bt.zeros(0).expand(2**40, 0)",
]
HOSTILE = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "2**31 - 1",
    "2**31",
    "2**40",
    "2**62",
    "2**63 - 1",
    "-2**63",
    "2**64",
    "10**30",
    "0.5",
    "-0.0",
    "1e300",
    "1e-300",
    "float('nan')",
    "float('inf')",
    "True",
    "None",
    "''",
    "'sum'",
    "'x\\0y'",
    "b'x'",
    "[]",
    "()",
    "{}",
    "[1, 2]",
    "(2, 3)",
    "[2**40, 2**40]",
    "(-1, 2**62)",
    "[None]",
    "[[1], [2, 3]]",
    "['a']",
    "slice(None)",
    "...",
    "1j",
    "object()",
    "print",
    "int",
    "np.float64(2)",
    "np.int8(-1)",
    "np.ones((2, 3))",
    "np.zeros(3, np.float32)[::-1]",
    "np.array(['a'])",
    "np.datetime64('2020-01-01')",
    "range(3)",
    "iter([1, 2])",
    "bt.float32",
    "bt.Size([2])",
    "bt.device('cpu')",
    "nn.Linear(2, 2)",
    "memoryview(b'abcd')",
    "bytearray(8)",
    "[bt.ones(2), bt.ones(3)]",
    "(bt.ones(2, 3), bt.zeros(2, 3))",
    "lambda *a: a",
]
SMALL = ["0", "1", "2", "3", "-1", "1", "2"]
BY_NAME = {
    "dim": ["0", "1", "-1", "-2", "(0, 1)", "None", "5", "()"],
    "size": ["(2, 3)", "(3, 2)", "(6,)", "-1", "2", "(0,)", "(2**32, 2**32)", "(-1, 3)"],
    "dtype": ["bt.float64", "bt.float32", "bt.int64", "bt.bool", "bt.bfloat16", "None", "bt.uint8"],
    "reduction": ["'mean'", "'sum'", "'none'"],
    "mode": ["'nearest'", "'bilinear'", "'constant'", "'reflect'", "'sum'", "'fan_in'"],
    "generator": ["None", "bt.Generator()"],
    "padding": ["0", "1", "(1, 2)", "'same'", "'valid'", "-1"],
    "device": ["None", "'cpu'"],
    "fn": ["(lambda *a: a[0])", "(lambda *a: a[0] * 2)", "(lambda *a: None)"],
    "tensors": ["[bt.ones(2, 3), bt.ones(2, 3)]", "[bt.randn(3, requires_grad=True)]", "[]"],
    "out": ["None", "bt.empty(2, 3).zero_()", "bt.zeros(3)"],
    "memory_format": ["bt.contiguous_format", "bt.channels_last"],
}
ALIASES = {
    "axis": "dim",
    "dims": "dim",
    "dim0": "dim",
    "dim1": "dim",
    "start_dim": "dim",
    "end_dim": "dim",
    "shape": "size",
    "normalized_shape": "size",
    "output_size": "size",
    "sizes": "size",
    "func": "fn",
    "hook": "fn",
    "function": "fn",
    "callable": "fn",
    "closure": "fn",
    "parameters": "tensors",
    "params": "tensors",
    "seq": "tensors",
}


class Pool:
    """Draws arguments as source text."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def tensor(self) -> str:
        place = self.rng.random()
        if place < 0.7:
            return self.rng.choice(FLOATS)
        return self.rng.choice(OTHERS if place < 0.995 else RARE)

    def anything(self) -> str:
        return self.tensor() if self.rng.random() < 0.4 else self.rng.choice(HOSTILE)

    def value(self, parameter: inspect.Parameter, hostile: float) -> str:
        """Return something for a parameter; out of place with the given chance."""
        if self.rng.random() < hostile:
            return self.anything()
        name = parameter.name.lower()
        name = ALIASES.get(name, name)
        if name in BY_NAME:
            return self.rng.choice(BY_NAME[name])
        kind = str(parameter.annotation)
        if "Tensor" in kind or name in ("input", "other", "x", "target", "weight", "source"):
            return self.tensor()
        if kind in ("bool", "builtins.bool") or isinstance(parameter.default, bool):
            return self.rng.choice(["True", "False"])
        if "float" in kind or isinstance(parameter.default, float):
            return self.rng.choice(["0.5", "0.0", "1.0", "2", "-1.0", "1e-3"])
        if "int" in kind or isinstance(parameter.default, int):
            return self.rng.choice(SMALL)
        return self.tensor() if self.rng.random() < 0.6 else self.rng.choice(SMALL)

    def arguments(self, of: object, skip: int, hostile: float) -> list[str]:
        """Return arguments for a call, by the signature where there is one."""
        try:
            parameters = list(inspect.signature(of).parameters.values())[skip:]  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return [self.anything() for _ in range(self.rng.choice([0, 1, 1, 2, 2, 3]))]
        given: list[str] = []
        named = False
        for parameter in parameters:
            optional = parameter.default is not inspect.Parameter.empty
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                count = self.rng.choice([0, 1, 1, 2, 3])
                given += [] if named else [self.value(parameter, hostile) for _ in range(count)]
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                if self.rng.random() < hostile / 4:
                    given.append(f"{self.rng.choice(['dim', 'dtype', 'bogus'])}={self.anything()}")
            elif optional and self.rng.random() < 0.7:
                named = True
            elif named or parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                named = True
                given.append(f"{parameter.name}={self.value(parameter, hostile)}")
            else:
                given.append(self.value(parameter, hostile))
        if self.rng.random() < hostile / 8:
            given.insert(0, self.anything())
        return given
