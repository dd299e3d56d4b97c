"""What this build of q4 can do on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from . import _core


@dataclass(frozen=True)
class BuildInfo:
    """See :func:`build_info`."""

    version: str
    numerics: str
    """The version of the arithmetic: containers of one source and one such version have the same bits."""
    cpu: str
    """The SIMD target that is used, such as ``"AVX2"``."""
    cuda_architectures: tuple[str, ...]
    """What GPU code was built for; empty: none was built."""
    no_gpu_reason: str | None
    """Why no GPU is used; None where one is, or where it was not asked."""


def build_info(*, gpu: bool = True) -> BuildInfo:
    """Versions, SIMD target, and why no GPU is used.

    Args:
        gpu: whether to look for a GPU, which starts CUDA: not before a fork.
    """
    return BuildInfo(
        _core.version,
        _core.numerics,
        _core.cpu_kernels(),
        tuple(_core.cuda_architectures.split()),
        (_core.no_gpu_reason() or None) if gpu else None,
    )
