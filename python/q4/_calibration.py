"""A calibration file (docs/calibration.md): what is written, whatever it was made from, and what its maker tells of it. Needs no torch."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from . import _core
from ._errors import InputError, UsageError
from ._words import StrPath

VERSION = "1"
_HEADER_LIMIT = 100_000_000  # of readers of safetensors


@dataclass(frozen=True)
class Input:
    """An input of linear layers, under the name of the first weight that is multiplied by it.

    Attributes:
        columns: its elements.
        counts: tokens that it was seen for; of a stack of experts one for each.
        is_stack: whether it is that of a stack of experts, [E, out, in].
    """

    name: str
    columns: int
    counts: tuple[int, ...]
    is_stack: bool

    def shape(self, dimensions: int) -> list[int]:
        return [len(self.counts)] * self.is_stack + [self.columns] * dimensions


@dataclass(frozen=True)
class Skipped:
    """A weight of which nothing was recorded, and why."""

    weight: str
    reason: str


class Calibration:
    """What :func:`q4.calibrate` or :func:`q4.calibration_from_imatrix` wrote. ``print()`` shows it.

    Attributes:
        path: of the file.
        weights: by the name of each recorded weight, the name of its input.
        inputs: by name.
        hessian: whether the file has the second moments of pairs of elements too.
        tokens: that the model saw; None where the source does not tell.
        passes: over the texts.
        skipped: weights of which nothing was recorded.
        covered, to_quantize: how many of the weights that q4convert quantizes by default are recorded, and how many there are; None where
            there is no checkpoint to ask.
    """

    def __init__(
        self, path: Path, weights: Mapping[str, str], inputs: Mapping[str, Input], hessian: bool, tokens: int | None, passes: int,
        skipped: Sequence[Skipped], quantized: Sequence[str] | None,
    ) -> None:  # fmt: skip
        self.path, self.hessian, self.tokens, self.passes = path, hessian, tokens, passes
        self.weights, self.inputs = MappingProxyType(dict(weights)), MappingProxyType(dict(inputs))
        self.skipped = tuple(skipped)
        self.to_quantize = None if quantized is None else len(quantized)
        self.covered = None if quantized is None else sum(name in self.weights for name in quantized)

    def __str__(self) -> str:
        seen = "" if self.tokens is None else f", {self.tokens} tokens"
        least = min((count for each in self.inputs.values() for count in each.counts), default=0)
        lines = [
            f"{self.path}: {len(self.weights)} weights, {len(self.inputs)} inputs{' with Hessians' if self.hessian else ''}{seen}"
            + (f", {self.passes} passes" if self.passes > 1 else "")
            + (f"; the rarest input was seen for {least} tokens" if least != self.tokens else "")
        ]
        scarce = [each for each in self.inputs.values() if any(0 < count < each.columns for count in each.counts)]
        if self.hessian and scarce:
            lines.append(
                f"{len(scarce)} of the inputs {'was' if len(scarce) == 1 else 'were'} seen for fewer tokens than they have elements, such as that of "
                f"{scarce[0].name}: the encoder feedback needs several times as many; more text, or the encoder weighted"
            )
        if self.to_quantize is not None:
            lines.append(f"of {self.to_quantize} weights that q4convert quantizes by default, {self.covered} are recorded")
        reasons: dict[str, list[str]] = {}
        for each in self.skipped:
            reasons.setdefault(each.reason, []).append(each.weight)
        for reason, names in reasons.items():
            lines.append(f"not recorded: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}: {reason}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        of = "" if self.to_quantize is None else f", {self.covered} of the {self.to_quantize} to be quantized"
        return f"<q4.Calibration {str(self.path)!r}: {len(self.weights)} weights{of}, {len(self.inputs)} inputs, {len(self.skipped)} weights skipped>"


class Writer:
    """The file while it is written, under the name ``NAME.partial``: nothing lies under its own name but the whole. A context manager that
    removes what was not finished."""

    def __init__(self, path: StrPath, force: bool) -> None:
        self.path, self._force = Path(path), force
        self._file: Any = None
        self._places: dict[str, tuple[int, int]] = {}
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._check_target()

    def __enter__(self) -> Writer:
        try:
            self._file = open(self._partial, "x+b")
        except FileExistsError as error:
            raise UsageError(
                f"{self._partial}: exists, of a run that was killed or still works; remove it", exit_code=1, path=str(self._partial)
            ) from error
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def begin(
        self, weights: Mapping[str, str], transposed: Mapping[str, str], inputs: Mapping[str, Input], hessian: bool, provenance: Mapping[str, Any]
    ) -> None:
        """Writes the header. `transposed`: weights that are stored as (in, out)."""
        metadata = {"q4_calibration": VERSION, "weights": _json(weights), "provenance": _json({"version": _core.version, **provenance})}
        if transposed:
            metadata["transposed_weights"] = _json(transposed)
        header: dict[str, Any] = {"__metadata__": metadata}
        end = 0

        # Counts first: each part begins at a multiple of its elements' size.
        parts = [(f"{name}.count", "I64", [len(each.counts)], 8) for name, each in inputs.items()]
        for name, each in inputs.items():
            parts.append((f"{name}.second_moments", "F32", each.shape(1), 4))
            if hessian:
                parts.append((f"{name}.hessian", "F32", each.shape(2), 4))
        for name, dtype, shape, size in parts:
            for dimension in shape:
                size *= dimension
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
            self._places[name] = end, end + size
            end += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        if len(text) > _HEADER_LIMIT:
            raise UsageError(f"{self.path}: {len(weights)} weights take a header of {len(text)} bytes, safetensors allows {_HEADER_LIMIT}", exit_code=1)
        self._begin, self._end = 8 + len(text), 8 + len(text) + end
        self._write(0, struct.pack("<Q", len(text)) + text)
        for name, each in inputs.items():
            self.put(f"{name}.count", 0, struct.pack(f"<{len(each.counts)}q", *each.counts))

    def put(self, tensor: str, offset: int, content: Any) -> None:
        """`content`: bytes of the tensor, little-endian, from `offset` on."""
        begin, end = self._places[tensor]
        assert begin + offset + memoryview(content).nbytes <= end
        self._write(self._begin + begin + offset, content)

    def finish(self) -> Path:
        """Gives the file its name."""
        try:
            # What nobody wrote would be zeros.
            assert self._file.seek(0, os.SEEK_END) == self._end
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error
        self._check_target()
        try:
            if self._force:
                os.replace(self._partial, self.path)
            else:
                # Never over something that has come there meanwhile.
                os.link(self._partial, self.path)
                self._partial.unlink()
        except FileExistsError as error:
            raise self._exists() from error
        except OSError as error:
            if self._force or os.path.lexists(self.path):
                raise self._failed(error) from error
            os.rename(self._partial, self.path)  # a file system without links
        self._file.close()
        self._file = None
        return self.path

    def _write(self, offset: int, content: Any) -> None:
        try:
            self._file.seek(offset)
            self._file.write(content)
        except OSError as error:
            raise self._failed(error) from error

    def _check_target(self) -> None:
        if not os.path.lexists(self.path):
            return
        if not self._force:
            raise self._exists()
        if not _is_calibration(self.path):
            raise UsageError(f"{self.path}: exists and is no calibration file, so that it is not replaced; choose another name", exit_code=1, path=str(self.path))

    def _exists(self) -> UsageError:
        return UsageError(f"{self.path}: exists; force (--force) replaces a calibration file, or choose another name", exit_code=1, path=str(self.path))

    def _failed(self, error: OSError) -> InputError:
        name = len(os.fsencode(self._partial.name))
        hint = f"; a name of {name} bytes, and file systems take 255: choose a shorter one for the file" if error.errno == errno.ENAMETOOLONG else ""
        return InputError(f"{self._partial}: cannot be written: {error.strerror}{hint}", exit_code=2, path=str(self._partial))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _is_calibration(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            head = json.loads(file.read(size)) if size <= _HEADER_LIMIT else None
    except (OSError, ValueError, struct.error):
        return False
    return isinstance(head, dict) and isinstance(head.get("__metadata__"), dict) and "q4_calibration" in head["__metadata__"]
