"""The safetensors container: a JSON header, the tensors' bytes, and a checksum of all of it.

Eight bytes give the length of the header; the header has for each tensor its dtype, shape and
place; the tensors' bytes follow one after another. Our files keep in the header's metadata the
CRC-32 of the whole file, taken while the eight digits of that very number are zeros. Other readers
do not mind it, and a file without one is read as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

from .. import _core, dtypes
from ..tensor import Tensor
from .errors import Source

DTYPES = {
    "F64": dtypes.float64,
    "F32": dtypes.float32,
    "BF16": dtypes.bfloat16,
    "I64": dtypes.int64,
    "I32": dtypes.int32,
    "U8": dtypes.uint8,
    "BOOL": dtypes.bool_,
}
NAMES = {kind: name for name, kind in DTYPES.items()}
# Read as the next dtype that has all their values: NumPy's name, the bytes of an element, ours.
WIDENED = {
    "F16": ("<f2", 2, dtypes.float32),
    "I8": ("<i1", 1, dtypes.int32),
    "I16": ("<i2", 2, dtypes.int32),
    "U16": ("<u2", 2, dtypes.int32),
    "U32": ("<u4", 4, dtypes.int64),
}
CHECKSUM = "backtrail.crc32"
_LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors specification
_PIECE = 1 << 24  # bytes taken at once from a stream that may announce more than it has
_DIGITS = re.compile(rb'"' + CHECKSUM.encode() + rb'":"([0-9a-f]{8})"')


class Entry(NamedTuple):
    """A tensor in the header."""

    kind: str
    shape: list[int]
    begin: int
    end: int


# Writing


def pack(tensors: Mapping[str, Tensor], metadata: dict[str, str], file: IO[bytes] | None) -> Any:
    """Write a container to a seekable file, or return it in pieces.

    Raises ValueError for a header that no reader would accept.
    """
    import json
    from zlib import crc32

    header: dict[str, Any] = {"__metadata__": {CHECKSUM: "00000000", **metadata}}
    # Widest first: then every tensor is aligned for those who map the file into memory.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.numel() * tensor.dtype.itemsize
        kind, shape = NAMES[tensor.dtype], list(tensor.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors start at a multiple of eight bytes
    if len(text) > _LONGEST_HEADER:
        raise ValueError(
            f"save: numbers, strings and names take {len(text):,} bytes; a checkpoint holds "
            f"{_LONGEST_HEADER:,}: put what is large into tensors"
        )
    head = len(text).to_bytes(8, "little") + text
    place = head.index(CHECKSUM.encode()) + len(CHECKSUM) + 3
    pieces = [head]
    crc = crc32(head)
    if file is not None:
        file.write(head)
    for _, tensor in ordered:
        data = _core.to_bytes(tensor)  # a copy: what is summed up is what is written
        crc = crc32(data, crc)
        if file is None:
            pieces.append(data)
        else:
            file.write(data)
    digits = b"%08x" % crc
    if file is not None:
        file.seek(place)
        file.write(digits)
    pieces[0] = head[:place] + digits + head[place + 8 :]
    return pieces


# Reading


def unpack(file: Any, size: int | None, source: Source) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors in the order of the header, and the metadata; the header is read first.

    `size` is that of the file, where it is known.
    """
    from zlib import crc32

    head = _take(file, 9, source)
    length = _header_length(head, size, source)
    text = head[8:] + _take(file, length - 1, source)
    if len(text) < length:
        source.fail(
            f"it is truncated: a header of {length} bytes is announced, {len(text)} are there"
        )
    header = parse(text, "header", source)
    if not isinstance(header, dict):
        source.fail("its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        source.fail("its metadata is not a table of strings")
    unknown = metadata.keys() - {CHECKSUM, "format", "structure"}
    if unknown and metadata.keys() & {CHECKSUM, "structure"}:  # a name that lost a bit
        source.fail(f"it is damaged: its metadata has {min(unknown)!r:.40}")
    entries = _check_entries(header, source)
    announced = max((entry.end for entry in entries.values()), default=0)
    if size is not None:
        _check_size(announced, size - 8 - length, source)

    checksum = metadata.get(CHECKSUM)
    crc = crc32(head[:8] + _DIGITS.sub(b'"' + CHECKSUM.encode() + b'":"00000000"', text, count=1))
    tensors, there = {}, 0
    for name, entry in entries.items():
        data = _take(file, entry.end - entry.begin, source)
        there += len(data)
        if there < entry.end:
            _check_size(announced, there, source)
        if checksum is not None:
            crc = crc32(data, crc)
        if entry.kind == "BOOL" and data.strip(b"\0\1"):
            source.fail(f"tensor {name!r} of BOOL has bytes other than 0 and 1")
        dtype = DTYPES.get(entry.kind)
        if dtype is None:
            data, dtype = _widened(data, entry.kind)
        try:
            tensors[name] = _core.from_bytes(data, dtype, tuple(entry.shape))
        except (OverflowError, RuntimeError, TypeError, ValueError):
            source.fail(f"tensor {name!r} has shape {entry.shape}, which no tensor can have")
    rest = _take(file, _PIECE, source) if size is None else b""
    _check_size(announced, announced + len(rest), source)
    if checksum is not None and checksum != f"{crc:08x}":
        source.fail(
            f"it is damaged: its checksum is {checksum!r:.12}, and its contents have '{crc:08x}'"
        )
    return {name: tensors[name] for name in header}, metadata


def _header_length(head: bytes, size: int | None, source: Source) -> int:
    if not head:
        source.fail("it is empty")
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or not 2 <= length <= _LONGEST_HEADER:
        if head[:4] == b"PK\x03\x04" or head[:2] in (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"):
            source.fail(
                "it is a pickle, as torch.save writes, and reading one can run code; "
                "convert it with safetensors.torch.save_file"
            )
        if len(head) < 9:
            source.fail(f"it is truncated: it ends after {len(head)} bytes")
        source.fail("it does not start with a safetensors header")
    if size is not None and size < 8 + length:
        source.fail(
            f"it is truncated: a header of {length} bytes is announced, {size - 8} are there"
        )
    return length


def _check_size(announced: int, there: int, source: Source) -> None:
    if there < announced:
        source.fail(
            f"it is truncated: {announced} bytes of tensors are announced, {there} are there"
        )
    if there > announced:
        source.fail(
            f"{there - announced} bytes follow the {announced} bytes of tensors that are announced"
        )


def _take(file: Any, count: int, source: Source) -> bytes:
    """Return the next `count` bytes, or all that are left; no more memory than there are bytes."""
    pieces = list(_pieces(file, count, source))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _pieces(file: Any, count: int, source: Source) -> Iterator[bytes]:
    while count > 0:
        piece = file.read(min(count, _PIECE))
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"load: {source.name} gives {type(piece).__name__}, not bytes; open it with 'rb'"
            )
        if not piece:
            return
        count -= len(piece)
        yield bytes(piece)


def parse(text: Any, what: str, source: Source) -> Any:
    """Return what JSON says; each name of an object may appear once."""
    import json

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("a name appears twice")
        return table

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        source.fail(f"its {what} is not valid JSON ({error})")


def _widened(data: bytes, kind: str) -> tuple[bytes, dtypes.dtype]:
    import numpy as np

    form, _, dtype = WIDENED[kind]
    return np.frombuffer(data, form).astype(dtype.name).tobytes(), dtype


def _check_entries(header: dict[str, Any], source: Source) -> dict[str, Entry]:
    """Return the entries in the order of the bytes, all of them checked."""
    entries = {}
    for name, entry in header.items():
        match entry:
            case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
                pass
            case _:
                source.fail(f"tensor {name!r} lacks a dtype, a shape or its place")
        if kind not in DTYPES and kind not in WIDENED:
            known = ", ".join([*DTYPES, *WIDENED])
            source.fail(f"tensor {name!r} has dtype {kind}; known are {known}")
        count = reach = DTYPES[kind].itemsize if kind in DTYPES else WIDENED[kind][1]
        for extent in shape:
            if type(extent) is not int or extent < 0:
                source.fail(f"tensor {name!r} has shape {shape}")
            count *= extent
            reach *= max(extent, 1)
        if reach >= 2**63 and end - begin == count:  # also of what is empty, for its strides
            source.fail(f"tensor {name!r} has shape {shape}, which no tensor can have")
        if end - begin != count:
            source.fail(
                f"tensor {name!r} of {kind} and shape {shape} has {end - begin} bytes, not {count}"
            )
        entries[name] = Entry(kind, shape, begin, end)
    entries = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
    expected = 0
    for name, place in entries.items():
        if place.begin != expected:
            source.fail(
                f"tensor {name!r} starts at byte {place.begin}, not {expected}: a gap or an overlap"
            )
        expected = place.end
    return entries
