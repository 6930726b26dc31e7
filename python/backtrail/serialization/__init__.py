"""Checkpoints: nested dicts and lists of tensors as safetensors files, written atomically.

Any safetensors reader opens the files (`container` has the format). What surrounds the tensors
(dicts, lists, numbers, strings, ...) is JSON in the header's metadata (`plain`), so reading a file
can run no code, whoever wrote it. `files` sees to it that a file is whole or as it was.
"""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any, cast

from .. import _core, dtypes
from ..tensor import Tensor
from .container import NAMES, pack, parse, unpack
from .errors import CheckpointError, Source
from .files import check_writable, open_to_read, write_file, write_stream
from .plain import Encoder, decode

if TYPE_CHECKING:
    File = str | os.PathLike[str] | IO[bytes]

__all__ = ["CheckpointError", "check_writable", "load", "rebuild", "save"]

_FORMAT = "backtrail 1"


def save(obj: object, f: File) -> None:
    """Write tensors, plain Python data and NumPy arrays to `f`.

    Plain are numbers, strings, bytes, None, bools, dtypes, and dicts, lists, tuples and sets of
    them, with OrderedDict, Counter, defaultdict and Size. Tensors that share all their memory are
    written once, and `load` gives one back.

    A file at a path is replaced only once the new one is safe on disk: it is written beside its
    target, synced and renamed, so that a kill or a power cut at any moment leaves the old or the
    new file whole. Its mode stays. What is there and no regular file is written to.

    Raises:
        TypeError: something in `obj` is of another kind; the message says where it is.
        ValueError: `obj` contains itself, or is nested more than 200 levels deep.
        OSError: the file cannot be written.
    """
    import json

    encoder = Encoder(NAMES)
    try:
        structure = encoder.encode(obj)
    except RecursionError:
        raise ValueError("save: the object contains itself, or is nested too deeply") from None
    metadata = {"format": _FORMAT, "structure": json.dumps(structure, allow_nan=False)}

    def write(file: IO[bytes]) -> None:
        seekable = file.seekable()
        pieces = pack(encoder.tensors, metadata, file if seekable else None)
        if not seekable:
            write_stream(file, pieces)

    if isinstance(f, (str, bytes, os.PathLike)):
        write_file(os.fsdecode(f), write)
    elif hasattr(f, "write"):
        write_stream(f, pack(encoder.tensors, metadata, None))
    else:
        raise TypeError(f"save: expected a path or a file to write to; got {type(f).__name__}")


def load(f: File, map_location: object = None, *, weights_only: bool = True) -> Any:
    """Read what `save` wrote, or any safetensors file as a dict of tensors.

    `map_location` may only name the CPU. `weights_only` is there for PyTorch's sake: no file can
    run code, whatever it says.

    Tensors of F16, I8, I16, U16 and U32, which other libraries write, are read as the next wider
    dtype that there is here, with the same values: float32, int32, int64.

    Raises:
        CheckpointError: the file is empty, truncated, damaged, a pickle, no regular file, or
            malformed in any other way.
        OSError: the file is missing or cannot be read.
    """
    if map_location is not None and not str(map_location).startswith("cpu"):
        raise ValueError(f"load: map_location={map_location!r}: tensors live on the CPU only")
    if not isinstance(f, (str, bytes, os.PathLike)):
        if not hasattr(f, "read"):
            raise TypeError(f"load: expected a path or a file to read; got {type(f).__name__}")
        return _read(f, None, Source(str(getattr(f, "name", "the stream"))))
    path = os.fsdecode(f)
    with open_to_read(path) as file:
        return _read(file, os.fstat(file.fileno()).st_size, Source(path))


def _read(file: IO[bytes], size: int | None, source: Source) -> Any:
    tensors, metadata = unpack(file, size, source)
    form = metadata.get("format")
    if not (isinstance(form, str) and form.startswith("backtrail")):  # written by another program
        return tensors
    if form != _FORMAT:
        source.fail(f"its format is {form!r}, and this version reads {_FORMAT!r}")
    structure = parse(metadata.get("structure"), "structure", source)
    try:
        return decode(structure, tensors)
    except (ArithmeticError, KeyError, TypeError, ValueError, RuntimeError) as error:
        source.fail(f"its structure is malformed ({error})")  # RecursionError is a RuntimeError


def rebuild(
    kind: type[Tensor], data: bytes, name: str, shape: tuple[int, ...], requires_grad: bool
) -> Tensor:
    """Return the tensor that Python's own `pickle` kept, on its way to another process."""
    dtype = next(dtype for dtype in dtypes.ALL if dtype.name == name)
    made = Tensor._make_subclass(kind, _core.from_bytes(data, dtype, shape), requires_grad)
    return cast(Tensor, made)
