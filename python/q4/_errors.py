"""What goes wrong, as exceptions: one class for each exit code of the tools, with the numbers of docs/errors.md."""

from __future__ import annotations

import os
from dataclasses import dataclass


class Error(RuntimeError):
    """Anything that q4 refuses or fails at.

    Attributes:
        issue: the rule that is broken, such as ``"Q4-7040"`` (docs/errors.md), or None.
        exit_code: what the command-line tools end with for it, 1 to 7 (docs of each tool).
        path: the file that it is about, or None.
        tensor: the tensor that it is about, where the message names one, or None.

    The message is the line that the tools print: file, place, rule, got and expected. It names options as the command
    line spells them: ``--block-size`` is the argument ``block_size``.
    """

    issue: str | None
    exit_code: int
    path: str | None
    tensor: str | None

    def __init__(
        self,
        message: str,
        *,
        issue: str | None = None,
        exit_code: int = 4,
        path: str | None = None,
        tensor: str | None = None,
    ) -> None:
        super().__init__(message)
        self.issue, self.exit_code, self.path, self.tensor = issue, exit_code, path, tensor

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross processes: multiprocessing, pytest-xdist, torch's data loaders.
        return _rebuild, (type(self), str(self), dict(self.__dict__))


class UsageError(Error, ValueError):
    """An argument that cannot be, or arguments that contradict each other (exit code 1)."""


class InputError(Error, OSError):
    """A file that cannot be read or written, no space, an output in use (exit code 2)."""


class FormatError(Error):
    """A malformed or inconsistent input file (exit code 3)."""


class DeviceError(Error):
    """A GPU that is not there, fails or has too little memory (exit code 4)."""


class UnsupportedError(Error):
    """An input or a request that is well-formed and not supported (exit code 5)."""


class DamagedError(Error):
    """A container whose bytes are not what its digests say, or that has another root than was pinned (exit code 6)."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a model: of a verification, or a gate that a conversion broke."""

    issue: str
    tensor: str | None
    message: str


class GateError(Error):
    """A limit on the error was exceeded, so that there is no output (exit code 6); ``findings`` says by what."""

    findings: tuple[Finding, ...] = ()


_CLASSES: dict[int, type[Error]] = {1: UsageError, 2: InputError, 3: FormatError, 5: UnsupportedError, 6: DamagedError}


def _rebuild(cls: type[Error], message: str, attributes: dict[str, object]) -> Error:
    error = cls(message)
    error.__dict__.update(attributes)
    return error


def issue_text(number: int) -> str | None:
    """As messages and docs/errors.md have it: ``"Q4-7040"``; None for 0."""
    return f"Q4-{number}" if number else None


def from_status(message: bytes, number: int, exit_code: int, path: bytes, tensor: bytes, device: bool) -> Error:
    """Called by the extension module, which raises what this returns."""
    cls = DeviceError if device else _CLASSES.get(exit_code, Error)
    return cls(
        message.decode("utf-8", "replace"),
        issue=issue_text(number),
        exit_code=exit_code,
        path=os.fsdecode(path) or None,
        tensor=tensor.decode("utf-8", "replace") or None,
    )
