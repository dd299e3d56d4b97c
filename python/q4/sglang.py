"""Models of containers in SGLang, as a general plugin: SGLang calls :func:`register` in each of its processes (docs/python_sglang.md).

Importing this imports neither SGLang nor torch; ``Q4ModelLoader`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._thin import thin_directory

if TYPE_CHECKING:
    from ._sglang import Q4ModelLoader

__all__ = ["Q4ModelLoader", "register", "thin_directory"]


def register() -> None:
    """Makes the quantization method ``"q4"`` known to SGLang, and thin directories load. May be called any number of times."""
    from . import _sglang

    _sglang.register()


def __getattr__(name: str) -> Any:
    if name == "Q4ModelLoader":
        from . import _sglang

        _sglang.register()
        return _sglang.Q4ModelLoader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
