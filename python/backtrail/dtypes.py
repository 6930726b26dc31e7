"""Element types, the one device, and sizes."""

from __future__ import annotations

from typing import Any


class dtype:
    """The type of a tensor's elements: `backtrail.float32` and its like. There is one of each."""

    __slots__ = ("code", "is_floating_point", "itemsize", "name")

    def __init__(self, name: str, code: int, itemsize: int, is_floating_point: bool) -> None:
        self.name = name
        self.code = code
        self.itemsize = itemsize
        self.is_floating_point = is_floating_point

    @property
    def is_complex(self) -> bool:
        return False

    @property
    def is_signed(self) -> bool:
        return self.name not in ("uint8", "bool")

    def __repr__(self) -> str:
        return f"backtrail.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name, (self.name,)


float32 = dtype("float32", 0, 4, True)
float64 = dtype("float64", 1, 8, True)
int64 = dtype("int64", 2, 8, False)
int32 = dtype("int32", 3, 4, False)
uint8 = dtype("uint8", 4, 1, False)
bool_ = dtype("bool", 5, 1, False)  # `backtrail.bool`
bfloat16 = dtype("bfloat16", 6, 2, True)

ALL = (float32, float64, int64, int32, uint8, bool_, bfloat16)  # by code


def _by_name(name: str) -> dtype:
    return next(t for t in ALL if t.name == name)


class finfo:
    """Limits of a floating point type: `bits`, `eps`, `max`, `min`, `tiny`."""

    def __init__(self, type: dtype) -> None:
        # bits of the fraction, largest exponent
        fraction, exponent = {"float32": (23, 127), "float64": (52, 1023), "bfloat16": (7, 127)}[
            type.name
        ]
        self.dtype = type.name
        self.bits = type.itemsize * 8
        self.eps = 2.0**-fraction
        self.max = (2.0 - self.eps) * 2.0**exponent
        self.min = -self.max
        self.tiny = self.smallest_normal = 2.0 ** (1 - exponent)


class iinfo:
    """Limits of an integer type: `bits`, `min`, `max`."""

    def __init__(self, type: dtype) -> None:
        self.dtype = type.name
        self.bits = type.itemsize * 8
        self.max = 2 ** (self.bits - type.is_signed) - 1
        self.min = -self.max - 1 if type.is_signed else 0


class device:
    """Where a tensor lives: always the CPU."""

    __slots__ = ("index", "type")

    def __init__(self, type: Any = "cpu", index: Any = None) -> None:
        name = str(type)  # of a device too
        if name.split(":")[0] != "cpu":
            raise RuntimeError(f"device: got {name!r}; backtrail computes on the CPU only")
        self.type = "cpu"
        self.index = index

    def __repr__(self) -> str:
        return "device(type='cpu')"

    def __str__(self) -> str:
        return "cpu"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) or other == "cpu"

    def __hash__(self) -> int:
        return hash("cpu")


class Size(tuple[int, ...]):
    """A tensor's shape: a tuple that can count its elements."""

    __slots__ = ()

    def numel(self) -> int:
        """Return the product of the sizes."""
        n: int = 1
        for size in self:
            n *= size
        return n

    def __repr__(self) -> str:
        return f"backtrail.Size({list(self)})"


CPU = device()
strided = "strided"
contiguous_format = "contiguous_format"
preserve_format = "preserve_format"
channels_last = "channels_last"
