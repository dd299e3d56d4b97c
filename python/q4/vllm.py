"""Models of containers in vLLM, as a general plugin: vLLM calls :func:`register` in each of its processes (docs/python_vllm.md).

Importing this imports neither vLLM nor torch.
"""

from __future__ import annotations

from ._thin import thin_directory

__all__ = ["register", "thin_directory"]


def register() -> None:
    """Makes the quantization method ``"q4"`` and the load format ``"q4"`` known to vLLM. May be called any number of times."""
    from . import _vllm

    _vllm.register()
