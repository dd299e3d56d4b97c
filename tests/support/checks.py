"""Counted checks of a test in Python: the first that does not hold ends it and says which one it was."""

import pathlib
import sys

_count = 0


def check(holds: bool, what: str, *details) -> None:
    global _count
    _count += 1
    if not holds:
        raise SystemExit(f"{pathlib.Path(sys.argv[0]).stem}: FAILED: {what} {details if details else ''}")


def count() -> int:
    """How many held."""
    return _count
