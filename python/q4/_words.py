"""Arguments of a function as the words of a command line. What they mean, and which are allowed, the library's parser says:
this file knows how words are spelled and nothing of what they are about."""

from __future__ import annotations

import numbers
import operator
import os
from collections.abc import Sequence
from typing import SupportsIndex, Union

StrPath = Union[str, "os.PathLike[str]"]
Word = Union[None, bool, int, float, str, "os.PathLike[str]", Sequence[str]]


def path_bytes(path: StrPath) -> bytes:
    """A path as the system has it. One that begins with a dash is no option."""
    word = os.fsencode(path)
    return b"./" + word if word.startswith(b"-") else word


def words(tool: str, path: StrPath, **options: Word) -> list[bytes]:
    """``tool path --name=value ...``. None, False and an empty sequence are not said; True is a flag; a sequence is
    repeated. The words of an option are joined, so that a value may begin with a dash."""
    line = [tool.encode(), path_bytes(path)]
    for name, value in options.items():
        option = b"--" + name.replace("_", "-").encode()
        if value is None or value is False:
            continue
        if value is True:
            line.append(option)
        elif isinstance(value, (list, tuple)):
            line.extend(option + b"=" + os.fsencode(item) for item in value)
        elif isinstance(value, SupportsIndex):
            line.append(option + b"=" + str(operator.index(value)).encode())
        elif isinstance(value, numbers.Real):  # NumPy's too
            line.append(option + b"=" + repr(float(value)).encode())
        else:
            line.append(option + b"=" + os.fsencode(value))  # type: ignore[arg-type]
    return line
