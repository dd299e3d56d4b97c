"""The command-line tools of a wheel: each is the program of the same name, with its output and its exit codes."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from . import _core


def _run(name: str) -> NoReturn:
    sys.stderr.flush()
    # Not sys.exit(): the tool has closed stdout, and an interpreter that ends would find it so.
    os._exit(_core.run_tool(name, [name.encode(), *map(os.fsencode, sys.argv[1:])]))


def q4convert() -> NoReturn:
    _run("q4convert")


def q4export() -> NoReturn:
    _run("q4export")


def q4inspect() -> NoReturn:
    _run("q4inspect")


def q4verify() -> NoReturn:
    _run("q4verify")
