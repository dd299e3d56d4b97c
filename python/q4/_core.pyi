"""The library of q4 behind the package; no public interface."""

from collections.abc import Sequence
from typing import Any


version: str = ...

numerics: str = ...

cuda_architectures: str = ...

def cpu_kernels() -> str:
    """The SIMD target of this machine's CPU."""

def no_gpu_reason() -> str:
    """Why no GPU is used; '' where one is. Starts CUDA."""

def convert(words: Sequence[bytes], progress: object | None) -> tuple[str, list[str], list[str], list[tuple[int, str, str]], int]:
    """The job of q4convert: (JSON, notes, error lines, findings, exit code)."""

def export(words: Sequence[bytes], progress: object | None) -> tuple[str, list[str]]:
    """The job of q4export: (JSON, notes)."""

class Verification:
    """What a verification found, to be rendered."""

    @property
    def passed(self) -> bool: ...

    @property
    def notes(self) -> list[str]: ...

    def json(self) -> str: ...

    def html(self) -> str: ...

    def junit(self) -> str: ...

    def markdown(self) -> str: ...

    def text(self) -> str: ...

def verify(words: Sequence[bytes], progress: object | None) -> Verification:
    """The job of q4verify."""

class Loaded:
    """Tensors in memory, by number in the order of their names."""

    @property
    def cuda_device(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def read_bytes(self) -> int: ...

    def names(self) -> list[str]: ...

    def parts(self, index: int) -> list[str]: ...

    def shape(self, index: int) -> tuple[int, ...]: ...

    def dtype(self, index: int) -> str:
        """Of the values; without values, that of the source."""

    def part(self, index: int, part: str, raw: bool) -> Any:
        """A part as an array that keeps the memory alive."""

def open(path: bytes, root: str | None, pin: bool) -> Container:
    """Opens a container or a list of shards: header and index alone."""

class Container:
    """An open container."""

    @property
    def root(self) -> str: ...

    @property
    def provenance(self) -> str: ...

    @property
    def file_bytes(self) -> int: ...

    def content_identity(self) -> str | None:
        """
        "sha256:..." of tensors, settings and files; None of one shard of several.
        """

    def names(self) -> list[str]:
        """Of all tensors, bytewise sorted."""

    def facts(self, name: str) -> tuple[Any, ...] | None:
        """
        (shape, dtype, scheme, block size, nested, elements, bytes) of a tensor; None where there is none.
        """

    def inspect_json(self, name: str) -> str:
        """The document of q4inspect --tensor NAME --json."""

    def files(self) -> list[tuple[str, int]]:
        """(name, bytes) of each embedded file."""

    def read_file(self, name: str) -> bytes: ...

    def load(self, names: Sequence[str], device: str, form: str, check: str, threads: int, progress: object | None) -> Loaded:
        """Tensors in memory; no names: all."""

class FillPlan:
    """A load into memory of others."""

    def parts(self) -> list[tuple[str, str, str, tuple[int, ...], int]]:
        """(tensor, part, dtype, shape, bytes) of each."""

    def fill(self, addresses: Sequence[int], cuda_device: int, stream: int | None, check: str, progress: object | None, mapped: Sequence[int] = ...) -> int:
        """
        Loads every part to its address; the number of bytes that were read. A device of -1: this process's memory. `mapped`: parts whose address is a private mapping of the file, which are checked there.
        """

    def stored(self) -> list[tuple[bytes, int, list[tuple[int, int]]]]:
        """
        (file, its bytes, [(part, offset)]) of each shard: parts that its file holds as they are loaded.
        """

class FillSource:
    """A container to load into memory of others."""

    @property
    def root(self) -> str: ...

    def plan(self, names: Sequence[str], form: str) -> FillPlan:
        """Of these tensors; no names: all."""

    def outline(self, words: Sequence[bytes]) -> tuple[list[tuple[Any, ...]], list[tuple[str, bytes]], list[str]]:
        """What an export would write: tensors, configurations, warnings."""

def fill_source(path: bytes, root: str | None, pin: bool) -> FillSource: ...

def run_tool(name: str, words: Sequence[bytes]) -> int:
    """
    A tool with its command line: its exit code. The process has nothing to do behind it.
    """
