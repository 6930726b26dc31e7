"""Element types and their limits, devices, and sizes."""

from __future__ import annotations

from typing import Any

from ._core import Size as Size, get_default_dtype


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


float32: dtype = dtype("float32", 0, 4, True)
float64: dtype = dtype("float64", 1, 8, True)
int64: dtype = dtype("int64", 2, 8, False)
int32: dtype = dtype("int32", 3, 4, False)
uint8: dtype = dtype("uint8", 4, 1, False)
bool_: dtype = dtype("bool", 5, 1, False)  # `backtrail.bool`
bfloat16: dtype = dtype("bfloat16", 6, 2, True)

ALL: tuple[dtype, ...] = (float32, float64, int64, int32, uint8, bool_, bfloat16)  # by code


def _by_name(name: str) -> dtype:
    return next(t for t in ALL if t.name == name)


_PYTHON = {float: float64, int: int64, bool: bool_}


def as_dtype(kind: Any, name: str = "dtype") -> dtype:
    """Return the dtype that is meant: one of ours, or Python's float, int or bool."""
    if isinstance(kind, dtype):
        return kind
    try:
        return _PYTHON[kind]
    except (KeyError, TypeError):
        raise TypeError(
            f"{name}: expected a dtype such as backtrail.float32; got {kind!r} "
            f"({type(kind).__name__})"
        ) from None


class finfo:
    """Limits of a floating point type: `bits`, `eps`, `max`, `min`, `tiny`, `resolution`."""

    def __init__(self, type: Any = None) -> None:
        kind = get_default_dtype() if type is None else as_dtype(type, "finfo")
        if not kind.is_floating_point:
            raise TypeError(f"finfo: {kind} is no floating point type; see backtrail.iinfo")
        # bits of the fraction, largest exponent, decimal digits that are safe
        fraction, exponent, digits = {
            "float32": (23, 127, 6),
            "float64": (52, 1023, 15),
            "bfloat16": (7, 127, 2),
        }[kind.name]
        self.dtype = kind.name
        self.bits = kind.itemsize * 8
        self.eps = 2.0**-fraction
        self.max = (2.0 - self.eps) * 2.0**exponent
        self.min = -self.max
        self.tiny = self.smallest_normal = 2.0 ** (1 - exponent)
        self.resolution = 10.0**-digits

    def __repr__(self) -> str:
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        shown = [f"{name}={getattr(self, name):.6g}" for name in names]
        return f"finfo({', '.join(shown)}, dtype={self.dtype})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, finfo) and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash(self.dtype)


class iinfo:
    """Limits of an integer type: `bits`, `min`, `max`."""

    def __init__(self, type: Any) -> None:
        kind = as_dtype(type, "iinfo")
        if kind.is_floating_point or kind is bool_:
            raise TypeError(f"iinfo: {kind} is no integer type; see backtrail.finfo")
        self.dtype = kind.name
        self.bits = kind.itemsize * 8
        self.max = 2 ** (self.bits - kind.is_signed) - 1
        self.min = -self.max - 1 if kind.is_signed else 0

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, iinfo) and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash(self.dtype)


_DEVICES = set(
    """cpu cuda ipu xpu mkldnn opengl opencl ideep hip ve fpga maia xla lazy vulkan mps meta hpu
    mtia privateuseone""".split()  # noqa: SIM905
)


class device:
    """A place where tensors could live: `type` and `index`. Those of backtrail live on the CPU.

    A device of another type is a value that can be compared; computing there is an error.
    """

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, type: Any, index: int | None = None) -> None:
        if isinstance(type, device):
            type, index = type.type, type.index
        elif isinstance(type, int):
            raise RuntimeError(f"device: there is no accelerator number {type}; expected 'cpu'")
        elif not isinstance(type, str):
            raise TypeError(f"device: expected a str or a device; got {type.__class__.__name__}")
        name, colon, number = type.partition(":")
        if colon:
            if index is not None:
                raise RuntimeError(f"device: {type!r} has an index already")
            if not number.isdecimal():
                raise RuntimeError(f"device: {type!r} is no device; expected 'cpu' or 'cpu:0'")
            index = int(number)
        if name not in _DEVICES:
            raise RuntimeError(f"device: {type!r} is no device; expected 'cpu'")
        self.type = name
        self.index = index

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> tuple[Any, ...]:
        return device, (self.type, self.index)

    def __enter__(self) -> device:
        """Make tensors here: nothing to do on the CPU, an error elsewhere."""
        check_device(self)
        return self

    def __exit__(self, *error: object) -> None:
        pass


def check_device(where: Any) -> None:
    """Raise unless tensors can live there: on the CPU, or nothing said (None)."""
    if where is not None:
        found = device(where)
        if found.type != "cpu":
            raise RuntimeError(f"device: got {str(found)!r}; backtrail computes on the CPU only")


CPU = device("cpu")
strided = "strided"
contiguous_format = "contiguous_format"
preserve_format = "preserve_format"
channels_last = "channels_last"
