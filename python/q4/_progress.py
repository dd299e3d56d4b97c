"""How far a long operation is: for a function of the caller's, or as a bar of tqdm."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Union

from ._errors import UsageError


@dataclass(frozen=True)
class Progress:
    """Where an operation stands. Bytes are those of the input that were read and finished with, of an export those written."""

    done_bytes: int
    total_bytes: int
    done_tensors: int
    total_tensors: int
    tensor: str
    """The tensor that is worked on; "" where none is."""


ProgressArgument = Union[bool, Callable[[Progress], object], None]
"""``None`` or ``False``: nothing is told. ``True``: a bar of tqdm, which must be installed. A function: it is called with a
:class:`Progress` at most ten times a second and once at the end, on the thread that called q4; what it raises stops the
operation and comes out of the call."""

_Listener = Callable[[int, int, int, int, bytes], None]


@contextlib.contextmanager
def listening(progress: ProgressArgument, description: str) -> Iterator[_Listener | None]:
    """What the extension module calls, for the time of one operation."""
    if progress is None or progress is False:
        yield None
    elif progress is True:
        with _bar(description) as listener:
            yield listener
    elif not callable(progress):
        raise TypeError(f"progress is None, a bool or a function, not {progress!r}")
    else:
        call = progress

        def tell(done: int, total: int, done_tensors: int, total_tensors: int, tensor: bytes) -> None:
            call(Progress(done, total, done_tensors, total_tensors, tensor.decode("utf-8", "replace")))

        yield tell


@contextlib.contextmanager
def _bar(description: str) -> Iterator[_Listener]:
    try:
        # By name, so that type checkers do not ask for its stubs.
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError as error:
        raise UsageError("progress=True needs tqdm (pip install tqdm); a function of your own needs nothing", exit_code=1) from error
    bar: Any = None

    def tell(done: int, total: int, done_tensors: int, total_tensors: int, tensor: bytes) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=description, unit="B", unit_scale=True)
        bar.set_postfix_str(f"{done_tensors}/{total_tensors} tensors" if total_tensors else "", refresh=False)
        bar.update(done - bar.n)

    try:
        yield tell
    finally:
        if bar is not None:
            bar.close()
