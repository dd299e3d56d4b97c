"""The few things of a GGUF file that an importance matrix needs, from bytes that nobody has checked: F32 tensors and four members of the
metadata. What is read is bounded by the file's size, whatever lengths it states."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

from ._errors import FormatError, InputError, UnsupportedError

MAGIC = b"GGUF"
# By number of the type: bytes of a value, and how struct reads it.
_SCALARS = {0: (1, "B"), 1: (1, "b"), 2: (2, "H"), 3: (2, "h"), 4: (4, "I"), 5: (4, "i"), 6: (4, "f"), 7: (1, "?"), 10: (8, "Q"), 11: (8, "q"), 12: (8, "d")}
_STRING, _ARRAY = 8, 9
_F32 = 0


class Place(NamedTuple):
    """A tensor: its dimensions, the innermost first, and where its elements lie; None where they are no F32."""

    dimensions: tuple[int, ...]
    content: memoryview | None


class File:
    """`metadata`: members that are a number or a text. `tensors`: by name."""

    def __init__(self, path: Path) -> None:
        try:
            self._data = memoryview(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}", exit_code=2, path=str(path)) from error
        self._path, self._at = path, 0
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, Place] = {}
        if self._take(4) != MAGIC:
            raise UnsupportedError(
                f"{path}: is no GGUF file; an imatrix in the older format (.dat) becomes one by `llama-imatrix --in-file OLD.dat -o NEW.gguf`",
                exit_code=5,
                path=str(path),
            )
        (version,) = self._unpack("I")
        if version not in (2, 3):
            raise UnsupportedError(f"{path}: is GGUF of version {version}, or big-endian; expected 2 or 3, little-endian", exit_code=5, path=str(path))
        tensors, members = self._unpack("QQ")
        for _ in range(members):
            self._member()
        infos = [self._info() for _ in range(tensors)]
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._wrong(f"an alignment of {alignment!r}")
        begin = -(-self._at // alignment) * alignment
        for name, dimensions, kind, offset in infos:
            self._add(name, dimensions, kind, begin + offset)

    def _add(self, name: str, dimensions: tuple[int, ...], kind: int, begin: int) -> None:
        size = 4
        for dimension in dimensions:
            size *= dimension
        if name in self.tensors:
            raise self._wrong(f"two tensors {name!r}")
        if kind == _F32 and begin + size > len(self._data):
            raise self._wrong(f"tensor {name!r} ends at byte {begin + size} of {len(self._data)}")
        self.tensors[name] = Place(dimensions, self._data[begin : begin + size] if kind == _F32 else None)

    def _member(self) -> None:
        key = self._text()
        (kind,) = self._unpack("I")
        if kind == _ARRAY:
            kind, count = self._unpack("IQ")
            if kind == _STRING:
                for _ in range(count):
                    self._text()
            elif kind in _SCALARS:
                self._take(_SCALARS[kind][0] * count)
            else:
                raise self._wrong(f"an array of type {kind} under {key!r}")
        elif kind == _STRING:
            self.metadata[key] = self._text()
        elif kind in _SCALARS:
            (self.metadata[key],) = self._unpack(_SCALARS[kind][1])
        else:
            raise self._wrong(f"a value of type {kind} under {key!r}")

    def _info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text()
        (rank,) = self._unpack("I")
        if rank > 4:
            raise self._wrong(f"{rank} dimensions of {name!r}")
        dimensions = self._unpack(f"{rank}Q")
        kind, offset = self._unpack("IQ")
        return name, dimensions, kind, offset

    def _text(self) -> str:
        (size,) = self._unpack("Q")
        try:
            return bytes(self._take(size)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._wrong("a text that is not UTF-8") from error

    def _unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self._take(struct.calcsize("<" + form)))

    def _take(self, size: int) -> memoryview:
        if size > len(self._data) - self._at:
            raise self._wrong(f"it ends at byte {len(self._data)}, where {size} bytes from {self._at} on were stated")
        self._at += size
        return self._data[self._at - size : self._at]

    def _wrong(self, what: str) -> FormatError:
        return FormatError(f"{self._path}: is a malformed GGUF file: {what}", exit_code=3, path=str(self._path))
