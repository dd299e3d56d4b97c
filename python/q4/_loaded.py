"""Tensors that were loaded: codes and scales, or values, each an array that keeps its memory alive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from . import _core
from ._arrays import Array


class Parts:
    """One tensor in memory. A quantized one has ``codes`` and ``scales``, or of nested scales ``codes``, ``scale_codes``,
    ``scales2`` and ``offset`` (docs/format.md F3.4); others, and all in a dequantized form, have ``values``. What it does not
    have raises AttributeError, and ``parts`` says what it has.

    Each part is an export of its own, of DLPack and of the buffer protocol, and keeps the memory of its load alive.
    """

    __slots__ = ("_index", "_loaded", "name")

    def __init__(self, loaded: _core.Loaded, index: int, name: str) -> None:
        self._loaded, self._index, self.name = loaded, index, name

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor, row-major."""
        return self._loaded.shape(self._index)

    @property
    def dtype(self) -> str:
        """Of the values, by the names of safetensors; of codes and scales that of the tensor before it was quantized."""
        return self._loaded.dtype(self._index)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts that this tensor has."""
        return tuple(self._loaded.parts(self._index))

    @property
    def values(self) -> Array:
        """Elements, ``shape``, row-major."""
        return self._part("values")

    @property
    def codes(self) -> Array:
        """uint8, ``[ceil(elements / 2)]``: two codes to a byte, the earlier in the high half."""
        return self._part("codes")

    @property
    def scales(self) -> Array:
        """float32, ``[blocks]``."""
        return self._part("scales")

    @property
    def scale_codes(self) -> Array:
        """uint8, ``[blocks]``: nested scales."""
        return self._part("scale_codes")

    @property
    def scales2(self) -> Array:
        """float32, ``[ceil(blocks / 256)]``: the scales of the scales."""
        return self._part("scales2")

    @property
    def offset(self) -> Array:
        """float32, ``[]``: what is added to every decoded scale."""
        return self._part("offset")

    def raw(self, part: str) -> Array:
        """The bytes of a part, uint8: for element types that the buffer protocol does not know, such as bfloat16."""
        if part not in self.parts:
            raise KeyError(part)
        return cast(Array, self._loaded.part(self._index, part, True))

    def _part(self, part: str) -> Array:
        if part not in self.parts:
            raise AttributeError(f"tensor {self.name!r} has no {part}: it has {', '.join(self.parts)}")
        return cast(Array, self._loaded.part(self._index, part, False))

    def __repr__(self) -> str:
        return f"<q4.Parts {self.name!r}: {', '.join(self.parts)}>"


class Loaded(Mapping[str, Parts]):
    """The result of :meth:`q4.Model.load`: tensors by name. Needs neither the model nor its file any more. The memory goes
    when this and every array that was made of it have gone."""

    def __init__(self, loaded: _core.Loaded) -> None:
        self._loaded = loaded
        self._index = {name: index for index, name in enumerate(loaded.names())}

    def __getitem__(self, name: str) -> Parts:
        return Parts(self._loaded, self._index[name], name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda:N"``."""
        number = self._loaded.cuda_device
        return "cpu" if number < 0 else f"cuda:{number}"

    @property
    def nbytes(self) -> int:
        """Bytes of all parts; between them lies a little unused."""
        return self._loaded.nbytes

    @property
    def read_bytes(self) -> int:
        """Bytes of the files that were read."""
        return self._loaded.read_bytes

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("loaded tensors are of this process; pickle the Model, and load again")

    def __repr__(self) -> str:
        return f"<q4.Loaded: {len(self)} tensors, {self.nbytes} bytes, {self.device}>"
