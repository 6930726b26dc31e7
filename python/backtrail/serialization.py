"""Checkpoints: nested dicts and lists of tensors as safetensors files, written atomically.

The format is small enough to write out here: eight bytes that give the length of a JSON header,
the header (for each tensor its dtype, shape and place), then the tensors' bytes one after another.
Any safetensors reader opens the files. What surrounds the tensors (dicts, lists, numbers, strings)
is JSON in the header's metadata, so reading a file can run no code, whoever wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from . import _core, dtypes
from .tensor import Tensor

if TYPE_CHECKING:
    File = str | os.PathLike[str] | IO[bytes]

_DTYPES = {
    "F64": dtypes.float64,
    "F32": dtypes.float32,
    "BF16": dtypes.bfloat16,
    "I64": dtypes.int64,
    "I32": dtypes.int32,
    "U8": dtypes.uint8,
    "BOOL": dtypes.bool_,
}
_NAMES = {kind: name for name, kind in _DTYPES.items()}
_FORMAT = "backtrail 1"
_LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors specification


class CheckpointError(ValueError):
    """A file that is not a readable checkpoint; the message names the file and what is wrong."""


def save(obj: object, f: File) -> None:
    """Write tensors, numbers, strings, None, bools, and dicts, lists and tuples of them to `f`.

    A file at a path is replaced only once the new one is safe on disk: it is written beside its
    target, synced and renamed, so that a kill or a power cut at any moment leaves the old or the
    new file whole. Tensors that share all their memory are written once, and `load` gives one back.

    Raises:
        TypeError: something in `obj` is of another kind; the message says where it is.
        OSError: the file cannot be written.
    """
    import json

    tensors: dict[str, Tensor] = {}
    try:
        structure = _encode(obj, "", tensors, {})
    except RecursionError:
        raise ValueError("save: the object contains itself, or is nested too deeply") from None
    header: dict[str, Any] = {
        "__metadata__": {"format": _FORMAT, "structure": json.dumps(structure, allow_nan=False)}
    }
    # Widest first: then every tensor is aligned for those who map the file into memory.
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.dtype.itemsize
        kind, shape = _NAMES[tensor.dtype], list(tensor.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors start at a multiple of eight bytes

    def chunks() -> Iterable[Any]:
        yield len(text).to_bytes(8, "little") + text
        for tensor in tensors.values():
            yield _core.to_bytes(tensor)

    if isinstance(f, (str, os.PathLike)):
        _write_atomically(os.fspath(f), chunks())
    else:
        f.writelines(chunks())


def load(f: File, map_location: object = None, *, weights_only: bool = True) -> Any:
    """Read what `save` wrote, or any safetensors file as a dict of tensors.

    `map_location` may only name the CPU. `weights_only` is there for PyTorch's sake: no file can
    run code, whatever it says.

    Raises:
        CheckpointError: the file is empty, truncated, a pickle, or malformed in any other way.
        OSError: the file is missing or cannot be read.
    """
    if map_location is not None and not str(map_location).startswith("cpu"):
        raise ValueError(f"load: map_location={map_location!r}: tensors live on the CPU only")
    if not isinstance(f, (str, os.PathLike)):
        return _read(f.read(), str(getattr(f, "name", "the stream")))
    path = os.fspath(f)
    if os.path.isdir(path):
        raise CheckpointError(f"load: {path} is a folder, not a checkpoint")
    with open(path, "rb") as file:
        return _read(file.read(), path)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError if `save` could not write `path`; the file itself is left as it is."""
    path = os.fspath(path)
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"cannot write {path}: there is no folder {folder}")
    try:
        temporary = _temporary_name(path)
        with open(temporary, "wb"):
            pass
        os.unlink(temporary)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from None


def rebuild(
    kind: type[Tensor], data: bytes, name: str, shape: tuple[int, ...], requires_grad: bool
) -> Tensor:
    """Return the tensor that Python's own `pickle` kept, on its way to another process."""
    dtype = next(dtype for dtype in dtypes.ALL if dtype.name == name)
    made = Tensor._make_subclass(kind, _core.from_bytes(data, dtype, shape), requires_grad)
    return cast(Tensor, made)


# Writing


def _encode(obj: object, where: str, tensors: dict[str, Tensor], seen: dict[Any, str]) -> Any:
    """Return `obj` as JSON and collect its tensors by name; `where` is the path down to it.

    Objects of JSON have one meaning each: {"tensor": name}, {"dict": [[key, value], ...]},
    {"tuple": [...]}, {"float": "nan"}. All else stands for itself.
    """
    if obj is None or isinstance(obj, (str, int)):
        return obj
    if isinstance(obj, float):
        return obj if obj - obj == 0 else {"float": str(float(obj))}
    if isinstance(obj, Tensor):
        # The same bytes seen in the same way are one tensor; an empty one has no address to share.
        key = (obj.data_ptr(), obj.dtype, tuple(obj.shape), tuple(obj.stride()))
        name = seen.get(key) if obj.numel() else None
        if name is None:
            if obj.dtype not in _NAMES:
                raise TypeError(f"save: {where or 'the tensor'} has dtype {obj.dtype}")
            name = where or "tensor"
            while name in tensors or name == "__metadata__":
                name += "_"
            tensors[name] = obj
            seen[key] = name
        return {"tensor": name, "requires_grad": True} if obj.requires_grad else {"tensor": name}
    dot = where + "." if where else ""
    if isinstance(obj, Mapping):
        pairs = []
        for key, value in obj.items():
            if not (key is None or isinstance(key, (str, int, float))):
                raise TypeError(f"save: {where or 'the dict'} has a key of type {_kind(key)}")
            pairs.append(
                [_encode(key, where, tensors, seen), _encode(value, f"{dot}{key}", tensors, seen)]
            )
        return {"dict": pairs}
    if isinstance(obj, (list, tuple)):
        items = [_encode(item, f"{dot}{i}", tensors, seen) for i, item in enumerate(obj)]
        return items if isinstance(obj, list) else {"tuple": items}
    hint = "; save its state_dict()" if hasattr(obj, "state_dict") else ""
    raise TypeError(
        f"save: {where or 'the object'} is of type {_kind(obj)}; a checkpoint holds tensors, "
        f"numbers, strings, None, bools, and dicts, lists and tuples of them{hint}"
    )


def _kind(obj: object) -> str:
    return type(obj).__qualname__


def _temporary_name(path: str) -> str:
    """Return a name in the folder of `path`: a rename is atomic only within a file system."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name}.{os.getpid()}.tmp")


def _write_atomically(path: str, chunks: Iterable[Any]) -> None:
    target, temporary = os.path.realpath(path), _temporary_name(path)
    try:
        with open(temporary, "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())  # the bytes are on disk before the name points at them
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    if os.name == "posix":  # the rename itself is on disk once its folder is
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


# Reading


def _read(data: bytes, path: str) -> Any:
    def fail(why: str) -> NoReturn:
        raise CheckpointError(f"load: {path} is not a readable checkpoint: {why}")

    header, start = _read_header(data, fail)
    metadata = header.pop("__metadata__", {})
    entries = _check_entries(header, fail)
    size, there = max((end for *_, end in entries.values()), default=0), len(data) - start
    if there < size:
        fail(f"it is truncated: {size} bytes of tensors are announced, {there} are there")
    if there > size:
        fail(f"{there - size} bytes follow the {size} bytes of tensors that are announced")
    view = memoryview(data)[start:]
    tensors = {}
    for name in header:
        kind, shape, begin, end = entries[name]
        if kind == "BOOL" and bytes(view[begin:end]).strip(b"\0\1"):
            fail(f"tensor {name!r} of BOOL has bytes other than 0 and 1")
        try:
            tensors[name] = _core.from_bytes(view[begin:end], _DTYPES[kind], shape)
        except (OverflowError, RuntimeError, TypeError, ValueError):
            fail(f"tensor {name!r} has shape {shape}, which no tensor can have")
    if not isinstance(metadata, dict):
        fail("its metadata is not a table of strings")
    form = metadata.get("format")
    if not (isinstance(form, str) and form.startswith("backtrail")):  # written by another program
        return tensors
    if form != _FORMAT:
        fail(f"its format is {form!r}, and this version reads {_FORMAT!r}")
    structure = _parse(metadata.get("structure"), "structure", fail)
    try:
        return _decode(structure, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RecursionError is one too
        fail(f"its structure is malformed ({error})")


def _read_header(data: bytes, fail: Any) -> tuple[dict[str, Any], int]:
    """Return the header and where the tensors start."""
    if not data:
        fail("it is empty")
    length = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{" or length > _LONGEST_HEADER:
        if data[:4] == b"PK\x03\x04" or data[:2] in (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"):
            fail(
                "it is a pickle, as torch.save writes, and reading one can run code; "
                "convert it with safetensors.torch.save_file"
            )
        if len(data) < 9:
            fail(f"it is truncated: it ends after {len(data)} bytes")
        fail("it does not start with a safetensors header")
    if len(data) < 8 + length:
        fail(f"it is truncated: a header of {length} bytes is announced, {len(data) - 8} are there")
    header = _parse(data[8 : 8 + length], "header", fail)
    if not isinstance(header, dict):
        fail("its header is not a JSON object")
    return header, 8 + length


def _parse(text: Any, what: str, fail: Any) -> Any:
    import json

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("a name appears twice")
        return table

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        fail(f"its {what} is not valid JSON ({error})")


def _check_entries(header: dict[str, Any], fail: Any) -> dict[str, tuple[str, list[int], int, int]]:
    """Return (dtype, shape, begin, end) by name in the order of the bytes, all of it checked."""
    entries = {}
    for name, entry in header.items():
        match entry:
            case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
                pass
            case _:
                fail(f"tensor {name!r} lacks a dtype, a shape or its place")
        if kind not in _DTYPES:
            fail(f"tensor {name!r} has dtype {kind}; known are {', '.join(_DTYPES)}")
        count = _DTYPES[kind].itemsize
        for extent in shape:
            if type(extent) is not int or extent < 0:
                fail(f"tensor {name!r} has shape {shape}")
            count *= extent
        if end - begin != count:
            fail(
                f"tensor {name!r} of {kind} and shape {shape} has {end - begin} bytes, not {count}"
            )
        entries[name] = (kind, shape, begin, end)
    entries = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
    expected = 0
    for name, (_, _, begin, end) in entries.items():
        if begin != expected:
            fail(f"tensor {name!r} starts at byte {begin}, not {expected}: a gap or an overlap")
        expected = end
    return entries


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    match node:
        case None | str() | int() | float():
            return node
        case list():
            return [_decode(item, tensors) for item in node]
        case {"tensor": str(name), **rest}:
            tensor = tensors[name]
            return tensor.requires_grad_() if rest.get("requires_grad") is True else tensor
        case {"dict": list(pairs)}:
            return {_decode(key, tensors): _decode(value, tensors) for key, value in pairs}
        case {"tuple": list(items)}:
            return tuple([_decode(item, tensors) for item in items])
        case {"float": "nan" | "inf" | "-inf" as text}:
            return float(text)
    raise ValueError(f"unexpected {node!r:.60}")
