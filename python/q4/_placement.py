"""Loading into tensors that torch allocates, and what an export would hold, as a state dict that is filled when it is used."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from . import _core
from ._errors import UnsupportedError, UsageError
from ._model import Model
from ._progress import ProgressArgument, listening
from ._words import StrPath, Word, words

ModelPath = StrPath | Model

# Names of safetensors -> torch's.
DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16, "I16": torch.int16, "U32": torch.uint32,
    "I32": torch.int32, "U64": torch.uint64, "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32,
    "F64": torch.float64, "C64": torch.complex64, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip

Place = tuple[str, str]
"""A part of a tensor: (name of the tensor, name of the part)."""


def open_source(path: ModelPath, root: str | None) -> _core.FillSource:
    """The container for loads into memory of torch's. A Model brings its root, so that it is that model and no later one."""
    if isinstance(path, Model):
        if root is not None and root != path.root:
            raise UsageError(f"root={root!r} was given with a model that has another, {path.root}", exit_code=1)
        return _core.fill_source(os.fsencode(path._absolute), path.root, path._pinned or root is not None)
    return _core.fill_source(os.fsencode(path), root, root is not None)


def fill(
    source: _core.FillSource,
    names: Sequence[str],
    form: str,
    device: torch.device,
    *,
    shapes: Mapping[Place, tuple[torch.dtype, tuple[int, ...]]] | None = None,
    check: str = "xxh3",
    progress: ProgressArgument = None,
) -> dict[Place, torch.Tensor]:
    """Every part of these tensors, each a tensor with a storage of its own, from torch's allocator. What torch's current stream
    of the GPU still does with that memory is waited for. `shapes`: dtype and shape that a part shall have instead of its own,
    of as many bytes."""
    return Filling(source, names, form, device, shapes=shapes, check=check).run(progress)


class Filling:
    """A load in two steps: tensors are allocated when it is made, and filled by :meth:`run`, which needs Python for nothing and so
    may work on another thread while the caller's goes on. The arguments of fill(), and:

    Args:
        mapped: on the CPU: what the files hold as it is loaded is mapped from them, and checked there.
        reserve: on a GPU: nobody has reserved the memory yet.
    """

    def __init__(
        self, source: _core.FillSource, names: Sequence[str], form: str, device: torch.device, *,
        shapes: Mapping[Place, tuple[torch.dtype, tuple[int, ...]]] | None = None, check: str = "xxh3", mapped: bool = False, reserve: bool = False,
    ) -> None:  # fmt: skip
        self.device, self._check = device, check
        # Devices that q4 does not write to get a copy.
        self._target = target = device if device.type in ("cpu", "cuda") else torch.device("cpu")
        self._plan = source.plan(list(names), form)
        parts = self._plan.parts()
        self.tensors: dict[Place, torch.Tensor] = {}
        self._addresses: list[int] = []
        self._places = places = _mapped(self._plan) if mapped and target.type == "cpu" else {}
        if reserve and target.type == "cuda":
            _reserve(sum(-(-octets // 512) * 512 for *_, octets in parts), target)
        wanted = shapes or {}
        for number, (name, part, dtype, shape, octets) in enumerate(parts):
            as_dtype, as_shape = wanted.get((name, part)) or (DTYPES[dtype], shape)
            if number in places:
                file, offset = places[number]
                tensor = torch.frombuffer(file, dtype=as_dtype, count=octets // as_dtype.itemsize, offset=offset).view(as_shape)
            else:
                tensor = torch.empty(as_shape, dtype=as_dtype, device=target)
            self.tensors[(name, part)] = tensor
            self._addresses.append(tensor.data_ptr())
        self._number = (target.index if target.index is not None else torch.cuda.current_device()) if target.type == "cuda" else -1
        # On which the tensors were allocated.
        self._stream = torch.cuda.current_stream(self._number).cuda_stream if target.type == "cuda" else None

    def run(self, progress: ProgressArgument = None) -> dict[Place, torch.Tensor]:
        with listening(progress, "load") as listener:
            self._plan.fill(self._addresses, self._number, self._stream, self._check, listener, list(self._places))
        if self._target != self.device:
            self.tensors = {place: tensor.to(self.device) for place, tensor in self.tensors.items()}
        return self.tensors


def _reserve(octets: int, device: torch.device) -> None:
    """Lets torch's allocator have the memory of many tensors at once, in one block that it gives to them then: a call of the driver
    for each is slow, and leaves more unused. A failure is that of the first tensor that finds no memory."""
    with suppress(torch.cuda.OutOfMemoryError):
        torch.empty(octets, dtype=torch.uint8, device=device)


def _mapped(plan: _core.FillPlan) -> dict[int, tuple[mmap.mmap, int]]:
    """number of a part -> mapping, and where in it. Private: what is written there never reaches the file. A tensor of it keeps it."""
    places: dict[int, tuple[mmap.mmap, int]] = {}
    for path, octets, stored in plan.stored():
        if not stored:
            continue
        with open(path, "rb") as file:
            # Another file by now, or one that its file system does not map: read, which says what is wrong.
            try:
                if os.fstat(file.fileno()).st_size != octets:
                    continue
                mapping = mmap.mmap(file.fileno(), octets, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            except OSError:
                continue
        places.update((number, (mapping, offset)) for number, offset in stored)
    return places


def settled(device: Any) -> torch.device:
    """A device with its number: ``"cuda"`` is the current GPU at this moment."""
    found = torch.device("cuda", device) if isinstance(device, int) and not isinstance(device, bool) else torch.device(device)
    if found.type == "cuda" and found.index is None:
        found = torch.device("cuda", torch.cuda.current_device())
    return found


def default_device() -> int | str:
    """The current GPU, without one the CPU. A process of torchrun that has not chosen its GPU yet would share the first one with all
    others: it gets its own."""
    if not torch.cuda.is_available():
        return "cpu"
    rank = int(os.environ.get("LOCAL_RANK", "-1"))
    return rank if 0 <= rank < torch.cuda.device_count() else torch.cuda.current_device()


def of_one_kind(devices: dict[str, Any], whole: str, way: str) -> dict[str, Any]:
    """`devices`, by module, of weights in 4 bits. `whole`: what is loaded; `way`: what to do where it is refused.

    Raises:
        UnsupportedError: a disk is among them, or the CPU beside GPUs.
    """
    kinds = {"disk" if str(device) == "disk" else settled(device).type for device in devices.values()}
    if "disk" in kinds or len(kinds) > 1:
        raise UnsupportedError(
            f"device_map puts modules on {' and '.join(sorted(kinds))}: weights in 4 bits stay on GPUs, or all of the {whole} on the CPU; {way}",
            exit_code=5,
        )
    return devices


class Outlined(NamedTuple):
    """A tensor of the checkpoint that q4export would write."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: str
    how: str
    """The name of a part of `source`; ``"decoded"``; or ``"given"``: then `octets` are its bytes."""
    octets: bytes | None
    in_4bit: bool
    expert: bool
    folder: str


@dataclass(frozen=True)
class Outline:
    """What q4export would write of a model: the exporter's own words, so that no rule of it is here a second time."""

    tensors: tuple[Outlined, ...]
    files: dict[str, bytes]
    warnings: tuple[str, ...]


def outline(source: _core.FillSource, **options: Word) -> Outline:
    """`options`: q4export's."""
    tensors, files, warnings = source.outline(words("q4export", "MODEL", output="DIRECTORY", **options))
    return Outline(tuple(Outlined(*tensor) for tensor in tensors), dict(files), tuple(warnings))


class Lazy:
    """A tensor that is loaded when it is used: what loaders of checkpoints ask of an open safetensors file."""

    __slots__ = ("_tensors", "outlined")

    def __init__(self, tensors: LazyTensors, outlined: Outlined) -> None:
        self._tensors, self.outlined = tensors, outlined

    def get_dtype(self) -> str:
        """By the names of safetensors."""
        return self.outlined.dtype

    def get_shape(self) -> list[int]:
        return list(self.outlined.shape)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.outlined.dtype]

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.outlined.shape)

    @property
    def device(self) -> torch.device:
        """Where it will be."""
        return self._tensors.device_of(self.outlined.name)

    def is_floating_point(self) -> bool:
        return bool(self.dtype.is_floating_point)

    def __getitem__(self, index: Any) -> torch.Tensor:
        whole = self._tensors.tensor(self.outlined.name)
        return whole if index is Ellipsis else whole[index]

    def __repr__(self) -> str:
        return f"<q4 tensor {self.outlined.name!r} {self.outlined.dtype} {list(self.outlined.shape)}, not loaded before it is used>"


class LazyTensors(Mapping[str, Lazy]):
    """The tensors of an outline by name. Those of a device are loaded together when the first of them is used, once. May be used
    by several threads."""

    def __init__(
        self,
        source: _core.FillSource,
        tensors: Iterable[Outlined],
        device_of: Callable[[str], torch.device],
        *,
        check: str = "xxh3",
        once: bool = False,
        mapped: bool = False,
        progress: ProgressArgument = None,
    ) -> None:
        self._source, self._check, self._once, self._mapped, self._progress = source, check, once, mapped, progress
        self.reserve = False
        """Whether a GPU's memory is reserved before tensors take it."""
        self._outlined = {tensor.name: tensor for tensor in tensors}
        self._devices = {name: device_of(name) for name in self._outlined}
        self._ready: dict[str, torch.Tensor] = {}
        self._prepared: dict[torch.device, list[Filling]] = {}
        self._loaded: set[torch.device] = set()
        self._is_prepared = False
        self._early: dict[str, torch.Tensor] = {}
        self._offsets: dict[str, torch.Tensor] = {}
        self._tables: dict[tuple[bytes, str, torch.device], torch.Tensor] = {}
        self._lock = threading.Lock()
        self.error: BaseException | None = None
        """What ended a load: callers that swallow what reading raises can still be asked to raise it."""

    def device_of(self, name: str) -> torch.device:
        return self._devices[name]

    def __getitem__(self, name: str) -> Lazy:
        return Lazy(self, self._outlined[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._outlined)

    def __len__(self) -> int:
        return len(self._outlined)

    def prepare(self) -> None:
        """Allocates everything, on all devices, so that load() does not. Once: later ones do not wait for a load that runs."""
        if self._is_prepared:
            return
        self._is_prepared = True
        for device in dict.fromkeys(self._devices.values()):
            with self._lock, self._noting():
                if device not in self._loaded and device not in self._prepared:
                    self._prepared[device] = fillings = self._fillings(device)
                    self._early |= self._by_name(device, _parts_of(fillings))

    def early(self, name: str) -> torch.Tensor:
        """What tensor() gives, but after prepare() and without the values, which come with load(): also while that runs."""
        if self.error is not None:
            raise self.error
        tensor = self._outlined[name]
        return self._early[name] if tensor.octets is None else self._given(tensor, self._devices[name])

    def offset(self, source: str) -> torch.Tensor | None:
        """Of nested scales of a tensor of the container that is loaded or prepared, float32, without dimensions; None: not there."""
        return self._offsets.get(source)

    def load(self) -> None:
        """Everything, on all devices."""
        for device in dict.fromkeys(self._devices.values()):
            with self._lock:
                self._load_device(device)

    def forget(self) -> None:
        """What was loaded and nobody took yet goes, and is loaded again when it is used."""
        with self._lock:
            self._ready.clear()
            self._loaded.clear()
            self._prepared.clear()
            self._is_prepared = False
            self._early.clear()
            self._offsets.clear()
            self._tables.clear()
            self.reserve = False

    def tensor(self, name: str) -> torch.Tensor:
        device = self._devices[name]
        with self._lock:
            self._load_device(device)
            if self._outlined[name].octets is not None:
                return self._given(self._outlined[name], device)
            # Who takes each tensor once need not keep the others alive.
            return self._ready.pop(name) if self._once else self._ready[name]

    def _given(self, tensor: Outlined, device: torch.device) -> torch.Tensor:
        if not self._once and tensor.name in self._ready:
            return self._ready[tensor.name]
        # Most weights have the same tables: one travels to the device, and is copied there into storages of their own.
        key = (tensor.octets or b"", tensor.dtype, device)
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = given(tensor, device)
        found = table.view(tensor.shape).clone()
        if not self._once:
            self._ready[tensor.name] = found
        return found

    @contextmanager
    def _noting(self) -> Iterator[None]:
        if self.error is not None:
            raise self.error
        try:
            yield
        except BaseException as error:
            self.error = error
            raise

    def _load_device(self, device: torch.device) -> None:
        if device in self._loaded:
            return
        with self._noting():
            fillings = self._prepared.pop(device, None) or self._fillings(device)
            for filling in fillings:
                filling.run(self._progress)
            self._ready |= self._by_name(device, _parts_of(fillings))
        self._loaded.add(device)

    def _by_name(self, device: torch.device, parts: Mapping[Place, torch.Tensor]) -> dict[str, torch.Tensor]:
        self._offsets |= {name: tensor for (name, part), tensor in parts.items() if part == "offset"}
        return {
            name: parts[(tensor.source, "values" if tensor.how == "decoded" else tensor.how)]
            for name, tensor in self._outlined.items()
            if tensor.octets is None and self._devices[name] == device
        }

    def _fillings(self, device: torch.device) -> list[Filling]:
        """In two loads at most: what stays as it is, and what is dequantized to the dtype that it had."""
        tensors = [tensor for name, tensor in self._outlined.items() if self._devices[name] == device]
        shapes = {(t.source, t.how): (DTYPES[t.dtype], t.shape) for t in tensors if t.how not in ("given", "decoded")}
        stored = list(dict.fromkeys(t.source for t in tensors if t.how not in ("given", "decoded")))
        decoded = [t.source for t in tensors if t.how == "decoded"]
        return [
            Filling(self._source, names, form, device, shapes=shapes, check=self._check, mapped=self._mapped, reserve=self.reserve)
            for names, form in ((stored, "quantized"), (decoded, "source"))
            if names
        ]


def _parts_of(fillings: Iterable[Filling]) -> dict[Place, torch.Tensor]:
    return {place: tensor for filling in fillings for place, tensor in filling.tensors.items()}


def given(tensor: Outlined, device: torch.device) -> torch.Tensor:
    """A table or a text, in a storage of its own."""
    octets = torch.frombuffer(bytearray(tensor.octets or b""), dtype=torch.uint8) if tensor.octets else torch.empty(0, dtype=torch.uint8)
    return octets.view(DTYPES[tensor.dtype]).reshape(tensor.shape).clone().to(device)
