"""Plain Python data as JSON, with the tensors in it put aside; no class is looked up by name.

Objects of JSON have one meaning each, and all else stands for itself:

    {"tensor": name}, also with "requires_grad" or "parameter": true
    {"dict": [[key, value], ...]}   {"ordered": [...]}   {"counter": [...]}
    {"ordered": [...], "metadata": {...}}: a state_dict with the versions of its modules
    {"defaultdict": [factory, [...]]}
    {"tuple": [...]}   {"size": [...]}   {"set": [...]}   {"frozenset": [...]}
    {"bytes": name}   {"bytearray": name}: of a tensor of bytes
    {"ndarray": name}, and where Backtrail lacks the dtype {"ndarray": name, "dtype", "shape"}
    {"scalar": {"ndarray": ...}}: one number of NumPy
    {"float": "nan"}   {"complex": [real, imaginary]}
    {"dtype": "float32"}   {"device": "cpu"}   {"range": [...]}   {"slice": [...]}
"""

from __future__ import annotations

import re
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from .. import _core, dtypes
from ..dtypes import Size
from ..nn.parameter import Parameter
from ..tensor import Tensor

DEEPEST = 200  # levels of containers: JSON's reader is recursive, three levels for one of a dict
_FACTORIES = {kind.__name__: kind for kind in (int, float, complex, bool, str, list, dict, set)}
_ARRAYS = re.compile(r"[<>|](?:[biufcSU][1-9]\d*|[mM]8(?:\[\w+\])?)")  # dtypes without objects


class Encoder:
    """Encodes one object. `tensors` are those that were found in it, by name."""

    def __init__(self, known: Mapping[dtypes.dtype, str]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._known = known
        self._seen: dict[Any, str] = {}

    def encode(self, obj: Any, where: str = "", depth: int = 0) -> Any:
        """Return `obj` as JSON; `where` is the path down to it."""
        kind = type(obj)
        if obj is None or kind in (str, int, bool):
            return obj
        if kind is float:
            return obj if obj - obj == 0 else {"float": str(obj)}
        if isinstance(obj, Tensor):
            return self._tensor(obj, where)
        if depth > DEEPEST:
            raise ValueError(
                f"save: the object contains itself, or is nested more than {DEEPEST} levels deep "
                f"(at {where[:60]}...)"
            )
        if kind in (dict, OrderedDict, Counter):
            name = {dict: "dict", OrderedDict: "ordered", Counter: "counter"}[kind]
            node = {name: self._pairs(obj, where, depth)}
            metadata = getattr(obj, "_metadata", None)
            if isinstance(metadata, dict):  # versions of the modules in a state_dict
                node["metadata"] = self.encode(metadata, f"{where}._metadata", depth + 1)
            return node
        if kind is defaultdict and (obj.default_factory or int) in _FACTORIES.values():
            factory = obj.default_factory and obj.default_factory.__name__
            return {"defaultdict": [factory, self._pairs(obj, where, depth)]}
        if kind in (list, tuple, Size):
            items = self._items(obj, where, depth)
            return items if kind is list else {"tuple" if kind is tuple else "size": items}
        if kind in (set, frozenset):  # in an order that does not depend on the process
            if not _may_be_key(tuple(obj)):
                raise TypeError(f"save: {where or 'the set'} has a member that is no plain value")
            return {kind.__name__: self._items(sorted(obj, key=_order), where, depth)}
        if kind in (bytes, bytearray):
            return {kind.__name__: self._put(_raw(obj), where or kind.__name__)}
        if kind is complex:
            return {"complex": [self.encode(part) for part in (obj.real, obj.imag)]}
        if kind is dtypes.dtype:
            return {"dtype": obj.name}
        if kind is dtypes.device:
            return {"device": str(obj)}
        if kind in (range, slice):
            ends = (obj.start, obj.stop, obj.step)
            return {kind.__name__: [self.encode(end, where, depth + 1) for end in ends]}
        return self._array(obj, where) or self._refuse(obj, where)

    def _items(self, items: Iterable[Any], where: str, depth: int) -> list[Any]:
        dot = where + "." if where else ""
        return [self.encode(item, f"{dot}{i}", depth + 1) for i, item in enumerate(items)]

    def _pairs(self, obj: Mapping[Any, Any], where: str, depth: int) -> list[Any]:
        pairs = []
        dot = where + "." if where else ""
        for key, value in obj.items():
            if not _may_be_key(key):
                raise TypeError(f"save: {where or 'the dict'} has a key of type {_kind(key)}")
            place = f"{dot}{key}"
            pairs.append([self.encode(key, place, depth + 1), self.encode(value, place, depth + 1)])
        return pairs

    def _tensor(self, obj: Tensor, where: str) -> dict[str, Any]:
        # The same bytes seen in the same way are one tensor; an empty one has no address to share.
        key = (obj.data_ptr(), obj.dtype, tuple(obj.shape), tuple(obj.stride()))
        name = self._seen.get(key) if obj.numel() else None
        if name is None:
            if obj.dtype not in self._known:
                raise TypeError(f"save: {where or 'the tensor'} has dtype {obj.dtype}")
            name = self._put(obj, where or "tensor")
            self._seen[key] = name
        node: dict[str, Any] = {"tensor": name}
        if type(obj) is Parameter:
            node["parameter"] = True
        if obj.requires_grad:
            node["requires_grad"] = True
        return node

    def _put(self, tensor: Tensor, name: str) -> str:
        # Half of a surrogate pair is no text for other readers of JSON.
        name = name.encode("utf-8", "backslashreplace").decode()
        while name in self.tensors or name == "__metadata__":
            name += "_"
        self.tensors[name] = tensor
        return name

    def _array(self, obj: Any, where: str) -> dict[str, Any] | None:
        """Return an array or number of NumPy; None for anything else."""
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return None
        if isinstance(obj, numpy.generic):
            node = self._array(numpy.asarray(obj), where) if type(obj) is obj.dtype.type else None
            return node and {"scalar": node}
        if type(obj) is not numpy.ndarray or not _ARRAYS.fullmatch(obj.dtype.str):
            return None
        name = where or "array"
        key = (obj.__array_interface__["data"][0], obj.dtype.str, obj.shape, obj.strides)
        known = self._seen.get(key) if obj.size else None
        own = _ARRAY_DTYPES.get(obj.dtype.name) if obj.dtype.isnative else None
        if known is None:
            dense = numpy.ascontiguousarray(obj)
            known = self._seen[key] = self._put(
                _core.from_bytes(dense, own, obj.shape) if own else _raw(dense.tobytes()), name
            )
        if own:
            return {"ndarray": known}
        return {"ndarray": known, "dtype": obj.dtype.str, "shape": list(obj.shape)}

    def _refuse(self, obj: object, where: str) -> Any:
        hint = ""
        if hasattr(obj, "state_dict"):
            hint = "; save its state_dict()"
        elif isinstance(obj, tuple) and hasattr(obj, "_asdict"):
            hint = "; save its _asdict(), or tuple() of it"
        elif isinstance(obj, Mapping):
            hint = "; save dict() of it"
        elif hasattr(obj, "__dict__") and not callable(obj):
            hint = "; save vars() of it"
        raise TypeError(
            f"save: {where or 'the object'} is of type {_kind(obj)}; a checkpoint holds tensors, "
            f"arrays, numbers, strings, bytes, None, bools, dtypes, and dicts, lists, tuples and "
            f"sets of them{hint}"
        )


_ARRAY_DTYPES = {
    "float64": dtypes.float64,
    "float32": dtypes.float32,
    "int64": dtypes.int64,
    "int32": dtypes.int32,
    "uint8": dtypes.uint8,
}


def _raw(data: bytes | bytearray) -> Tensor:
    return _core.from_bytes(data, dtypes.uint8, (len(data),))


def _kind(obj: object) -> str:
    return type(obj).__qualname__


def _may_be_key(key: Any, depth: int = DEEPEST) -> bool:
    """Whether a key of a dict or a member of a set is a plain value; tensors are not."""
    if type(key) in (tuple, frozenset, Size):  # too deep a nest is refused where it is encoded
        return depth < 0 or all(_may_be_key(item, depth - 1) for item in key)
    plain = (str, int, bool, float, complex, bytes, dtypes.dtype, dtypes.device)
    return key is None or type(key) in plain


def _order(key: Any) -> Any:
    """What sets are sorted by; their own order differs from process to process."""
    name = type(key).__name__
    if isinstance(key, frozenset):
        return name, sorted(map(_order, key))
    return (name, [_order(item) for item in key]) if isinstance(key, tuple) else (name, repr(key))


def decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what was encoded. Raises KeyError, TypeError, ValueError or RuntimeError."""
    match node:
        case None | str() | int() | float():
            return node
        case list():
            return [decode(item, tensors) for item in node]
        case {"tensor": str(name), **rest}:
            tensor = tensors[name]
            grad = rest.get("requires_grad") is True
            if rest.get("parameter") is True:
                return Parameter(tensor, grad)
            return tensor.requires_grad_() if grad else tensor
        case {"dict": list(pairs)}:
            return _mapping(pairs, tensors)
        case {"ordered": list(pairs)}:
            made: Any = OrderedDict(_mapping(pairs, tensors))
            if "metadata" in node:
                made._metadata = decode(node["metadata"], tensors)
            return made
        case {"counter": list(pairs)}:
            return Counter(_mapping(pairs, tensors))
        case {"defaultdict": [None, list(pairs)]}:
            return defaultdict(None, _mapping(pairs, tensors))
        case {"defaultdict": [str(factory), list(pairs)]}:
            return defaultdict(_FACTORIES[factory], _mapping(pairs, tensors))
        case {"tuple": list(items)}:
            return tuple([decode(item, tensors) for item in items])
        case {"size": list(items)}:
            if not all(type(item) is int for item in items):
                raise TypeError("a size that is not of integers")
            return Size(items)
        case {"set": list(items)}:
            return {_key(item, tensors) for item in items}
        case {"frozenset": list(items)}:
            return frozenset([_key(item, tensors) for item in items])
        case {"bytes": str(name)}:
            return _core.to_bytes(tensors[name])
        case {"bytearray": str(name)}:
            return bytearray(_core.to_bytes(tensors[name]))
        case {"ndarray": str(name), **rest}:
            return _decode_array(tensors[name], rest)
        case {"scalar": {"ndarray": _} as array}:
            return decode(array, tensors).reshape(())[()]
        case {"float": "nan" | "inf" | "-inf" as text}:
            return float(text)
        case {"complex": [real, imaginary]}:
            return complex(decode(real, tensors), decode(imaginary, tensors))
        case {"dtype": str(name)}:
            return {dtype.name: dtype for dtype in dtypes.ALL}[name]
        case {"device": str(name)}:
            return dtypes.device(name)
        case {"range": [start, stop, step]}:
            return range(start, stop, step)
        case {"slice": [*ends]} if len(ends) == 3:
            return slice(*[decode(end, tensors) for end in ends])
    raise ValueError(f"unexpected {node!r:.60}")


def _mapping(pairs: list[Any], tensors: Mapping[str, Tensor]) -> dict[Any, Any]:
    return {_key(key, tensors): decode(value, tensors) for key, value in pairs}


def _key(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    key = decode(node, tensors)
    if not _may_be_key(key):
        raise TypeError(f"a key or member of type {_kind(key)}")
    return key


def _decode_array(tensor: Tensor, rest: dict[Any, Any]) -> Any:
    import numpy

    match rest:
        case {"dtype": str(code), "shape": [*shape]} if _ARRAYS.fullmatch(code) and all(
            type(n) is int and n >= 0 for n in shape
        ):
            data = bytearray(_core.to_bytes(tensor))
            return numpy.frombuffer(data, numpy.dtype(code)).reshape(shape)
        case {"dtype": _} | {"shape": _}:
            raise ValueError(f"an array of dtype {rest.get('dtype')!r:.30}")
    return tensor.numpy()
