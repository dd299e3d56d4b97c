"""A model that is open: what its index says, and the way to its tensors."""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

from . import _core
from ._arrays import Array, to_numpy
from ._errors import UsageError
from ._loaded import Loaded
from ._progress import ProgressArgument, listening
from ._reports import Json, Stats
from ._words import StrPath

if TYPE_CHECKING:
    import numpy

Form = Literal["quantized", "flat", "source", "float32", "float16", "bfloat16"]
Check = Literal["xxh3", "sha256", "none"]
FloatType = Literal["float32", "float16", "bfloat16"]


class Tensor:
    """A tensor as the index has it; its payload is read by :meth:`numpy`, :meth:`dequantize` and :meth:`Model.load` only.

    Attributes:
        name: as in the checkpoint.
        shape: row-major, the outermost dimension first.
        dtype: by the names of safetensors (``"BF16"``): of the tensor before it was quantized, or of what is kept.
        scheme: ``"nf4"``, ``"fp4"``, or None where it is kept as it was.
        block_size: elements per scale, 0 where it is kept.
        nested: whether its scales are quantized.
        elements: how many there are.
        nbytes: bytes of codes and scales, or of the elements that are kept, in memory.
    """

    __slots__ = ("_model", "block_size", "dtype", "elements", "name", "nbytes", "nested", "scheme", "shape")

    def __init__(self, model: Model, name: str, facts: tuple[Any, ...]) -> None:
        self._model, self.name = model, name
        self.shape: tuple[int, ...]
        self.dtype: str
        self.scheme: str | None
        self.block_size: int
        self.nested: bool
        self.elements: int
        self.nbytes: int
        self.shape, self.dtype, self.scheme, self.block_size, self.nested, self.elements, self.nbytes = facts

    @property
    def quantized(self) -> bool:
        return self.scheme is not None

    @property
    def stats(self) -> Stats | None:
        """The error statistics that the container records; None where it has none, as of tensors that are kept."""
        document = json.loads(self._model._core.inspect_json(self.name))["tensors"][0].get("stats")
        return Stats.of(document) if document else None

    def dequantize(self, dtype: FloatType | None = None) -> Array:
        """Its elements as an array of DLPack, in this process's memory: as docs/numerics.md Q6 computes them, bit for bit.

        Args:
            dtype: of the result; None: that of the tensor before it was quantized. A tensor that is kept comes as it is, and
                another dtype is an error.

        Raises:
            DamagedError, InputError, ...: as :meth:`Model.load`.
        """
        if dtype is not None and self.scheme is None and self.dtype != {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}.get(dtype):
            raise UsageError(f"tensor {self.name!r} is kept as {self.dtype}: it has no codes to dequantize as {dtype}", exit_code=1)
        return cast(Array, self._load(dtype).part(0, "values", False))

    def numpy(self, dtype: FloatType | Literal["raw"] | None = None) -> numpy.ndarray[Any, Any]:
        """Its elements as an array of NumPy, which must be installed; without a copy where the dtype is NumPy's.

        Args:
            dtype: of the result; None: the tensor's own, which for bfloat16 and 8-bit floats needs the package ml_dtypes;
                ``"raw"``: the bits as unsigned integers.
        """
        loaded = self._load(None if dtype == "raw" else dtype)
        return to_numpy(cast(Array, loaded.part(0, "values", True)), loaded.dtype(0), self.shape, dtype)

    def _load(self, dtype: FloatType | None) -> _core.Loaded:
        return self._model._core.load([self.name], "cpu", dtype or "source", "xxh3", 0, None)

    def __repr__(self) -> str:
        how = f"{self.scheme} b{self.block_size}{' dq' if self.nested else ''}, of {self.dtype}" if self.scheme else self.dtype
        return f"<q4.Tensor {self.name!r} {list(self.shape)} {how}>"


class _Files(Mapping[str, bytes]):
    """The embedded files by name; each is read, and checked, when it is asked for."""

    def __init__(self, core: _core.Container) -> None:
        self._core, self._sizes = core, dict(core.files())

    def __getitem__(self, name: str) -> bytes:
        if name not in self._sizes:
            raise KeyError(name)
        return self._core.read_file(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __repr__(self) -> str:
        return f"<embedded files {list(self._sizes)}>"


class Model(Mapping[str, Tensor]):
    """An open container: tensors by name. Immutable, may be used by several threads, and pickles as its path and root. Made
    by :func:`q4.open`; a context manager, but nothing is lost without.

    Attributes:
        path: as it was given.
    """

    def __init__(self, core: _core.Container, path: StrPath, pinned: bool) -> None:
        self._open_core: _core.Container | None = core
        self._names: tuple[str, ...] | None = None
        self._pinned = pinned
        # What another process, with another working directory, can open.
        self._absolute = os.path.abspath(path)
        self.path = Path(path)
        self._root = core.root

    @property
    def _core(self) -> _core.Container:
        core = self._open_core
        if core is None:
            raise UsageError(f"{self.path}: the model was closed", exit_code=1)
        return core

    @property
    def root(self) -> str:
        """``"sha256:..."``: identifies every byte of the model."""
        return self._root

    @property
    def config(self) -> dict[str, Any]:
        """The embedded config.json; empty where there is none."""
        return cast("dict[str, Any]", json.loads(self.files["config.json"])) if "config.json" in self.files else {}

    @property
    def files(self) -> Mapping[str, bytes]:
        """The embedded files by name, such as ``"tokenizer.json"``."""
        return _Files(self._core)

    @property
    def provenance(self) -> Json:
        """How it was made: tool, options, and the files of the source with their digests (docs/format.md, section 8)."""
        return cast(Json, json.loads(self._core.provenance))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors in memory, as :meth:`load` brings them there without dequantizing."""
        return sum(tensor.nbytes for tensor in self.values())

    @property
    def file_bytes(self) -> int:
        """Bytes of its files."""
        return self._core.file_bytes

    def __getitem__(self, name: str) -> Tensor:
        try:
            facts = self._core.facts(name)
        except TypeError:  # no text, or none that a name could be
            facts = None
        if facts is None:
            raise KeyError(name)
        return Tensor(self, name, facts)

    def __iter__(self) -> Iterator[str]:
        if self._names is None:
            self._names = tuple(self._core.names())
        return iter(self._names)

    def __len__(self) -> int:
        if self._names is None:
            self._names = tuple(self._core.names())
        return len(self._names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other._root == self._root

    def __hash__(self) -> int:
        return hash(self._root)

    def load(
        self,
        names: Iterable[str] | None = None,
        *,
        device: str = "cpu",
        form: Form = "quantized",
        check: Check = "xxh3",
        threads: int = 0,
        progress: ProgressArgument = None,
    ) -> Loaded:
        """Brings tensors into memory, checked on the way (docs/loading.md).

        Args:
            names: which, or the name of one; None: all.
            device: ``"cpu"``: this process's memory; ``"cuda"`` or ``"cuda:N"``: a GPU's; ``"auto"``: the first GPU where there is one.
            form: ``"quantized"``: codes and scales as stored; ``"flat"``: codes and float32 scales, nested ones decoded
                (docs/numerics.md Q5.5); ``"source"``: dequantized to the dtype that each had; or dequantized to
                ``"float32"``, ``"float16"``, ``"bfloat16"``. Tensors that are kept come as they are.
            check: ``"xxh3"`` finds accidents; ``"sha256"`` binds what is loaded to the root, and is used whatever is said where
                the root was pinned; ``"none"`` is for files that were checked a moment ago.
            threads: that read and check; 0: what the machine allows, at most 16.
            progress: see :data:`q4.ProgressArgument`.

        Raises:
            DamagedError: a chunk is not what its digest says; ``.tensor`` says whose.
            UsageError: no such tensor, or an argument that cannot be.
            DeviceError, InputError, UnsupportedError: the GPU, the file, or the build does not do.
        """
        wanted = [] if names is None else [names] if isinstance(names, str) else list(names)
        core = self._core
        if names is not None and not wanted:
            raise UsageError("load(names=[]) asks for no tensor; names=None asks for all", exit_code=1)
        with listening(progress, "load") as listener:
            loaded = core.load(wanted, device, form, check, threads, listener)
        return Loaded(loaded)

    def extract_files(self, directory: StrPath) -> Path:
        """Writes the embedded files into a directory, which is made where it is missing: configuration and tokenizer, for loaders
        that want a folder.

        Raises:
            FileExistsError: a file of such a name is there already; then nothing is written.
            DamagedError, InputError: as :meth:`load`.
        """
        folder = Path(directory)
        files = self.files
        # Names are relative paths of plain components: the format has no others.
        for name in files:
            if os.path.lexists(folder / name):
                raise FileExistsError(f"{folder / name} is there already; extract into another directory, or remove it")
        # All of them are read, and so checked, before the first is written.
        contents = dict(files)
        written: list[Path] = []
        try:
            for name, content in contents.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with builtins.open(path, "xb") as file:
                    written.append(path)
                    file.write(content)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def close(self) -> None:
        """Closes its files. What was loaded stays."""
        self._open_core = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._absolute, self._root, self._pinned)

    def __repr__(self) -> str:
        return f"<q4.Model {str(self.path)!r} {self._root}>"


def open(path: StrPath, *, root: str | None = None) -> Model:
    """Opens a model: reads and checks header and index, nothing else.

    Args:
        path: a container ``NAME.q4``, or the list ``NAME.q4.index.json`` of a sharded one.
        root: ``"sha256:..."`` from a signature or a lock file: another model is refused, and everything that is loaded is
            checked by SHA-256, so that it is what the root names.

    Raises:
        InputError: the file cannot be read.
        FormatError: it is no container, or a malformed one.
        DamagedError: header or index are damaged, or the root is another.
        UnsupportedError: it needs a newer reader.
        UsageError: ``root`` is no root.
    """
    return Model(_core.open(os.fsencode(path), root, root is not None), path, root is not None)


def _reopen(path: str, root: str, pinned: bool) -> Model:
    return Model(_core.open(os.fsencode(path), root, pinned), path, pinned)
