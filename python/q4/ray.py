"""A conversion in parts on a Ray cluster (docs/scale_out.md): each part is a task, and the merge is the last.

>>> import q4.ray
>>> q4.ray.convert("/shared/Llama-3.1-405B", "/shared/llama.q4", parts=64, shard_size="8GB", gate="default")

Every node sees source and output under these paths, and has this package. Nothing else is asked of Ray: no files are sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from . import parts as _parts
from ._errors import Error
from ._reports import Report
from ._words import StrPath

__all__ = ["convert"]

_T = TypeVar("_T")

_AGAIN = (2, 4)
"""Exit codes of what another attempt may mend: files that cannot be reached, a device or a machine that fails."""


class _Again(Exception):
    """Around what is worth another attempt, so that Ray repeats that and nothing else."""

    def __init__(self, error: Error) -> None:
        super().__init__(error)
        self.error = error


def _attempt(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except Error as error:
        if error.exit_code in _AGAIN:
            raise _Again(error) from error
        raise


def _part(source: str, output: str, part: tuple[int, int], options: Mapping[str, Any]) -> _parts.PartReport:
    return _attempt(lambda: _parts.convert(source, output, part, **options))


def _merge(output: str, gates: Mapping[str, Any]) -> Report:
    return _attempt(lambda: _parts.merge(output, **gates))


def _result(task: Any) -> Any:
    """What the task returned. Errors of q4 are raised as on this machine, not inside Ray's."""
    import ray

    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as failure:
        cause = failure.cause
        error = cause.error if isinstance(cause, _Again) else cause
        if isinstance(error, Error):
            raise error from failure
        raise


def convert(
    source: StrPath,
    output: StrPath,
    *,
    parts: int,
    gate: StrPath | None = None,
    max_nmse: float | None = None,
    report: StrPath | None = None,
    attempts: int = 5,
    ray_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Report:
    """Converts a model in parts, as tasks of the cluster that ``ray.init()`` has joined (or a local one that Ray starts), and merges them.

    The bytes are those of :func:`q4.convert` with ``shard_by="source"``. Called again after a failure, it converts what is missing.

    Args:
        source, output: as of :func:`q4.convert`, absolute paths that mean the same on every node.
        parts: how many tasks; a few for each node, at most one for each shard is of use.
        gate, max_nmse, report: as of :func:`q4.parts.merge`.
        attempts: how often a task may be tried that failed for its files, its device or its machine, or whose node was lost.
        ray_options: what a task of a part needs, as ``ray.remote()`` takes it: ``{"num_cpus": 4, "memory": 4 << 30}``. By default one core, and
            as many threads.
        options: those of :func:`q4.convert`, the same for all parts.

    Raises:
        q4.Error: what a part or the merge was refused for. Parts that were running go on to their end, others are cancelled.
        ray.exceptions.RayError: what Ray could not do, such as find a node with the resources.
    """
    import ray

    if parts < 1:
        raise ValueError(f"parts: at least 1, got {parts}")
    names = {name: os.fspath(path) for name, path in (("source", source), ("output", output))}
    for name, path in names.items():
        if not os.path.isabs(path) and "://" not in path:
            raise ValueError(f"{name}: an absolute path, for each node works in a folder of its own; got {path!r}")
    resources: dict[str, Any] = {"num_cpus": 1, **(ray_options or {})}
    options.setdefault("threads", max(1, int(resources["num_cpus"])))
    retries = {"max_retries": attempts - 1, "retry_exceptions": [_Again]}
    part_task = ray.remote(**retries, **resources)(_part)
    merge_task = ray.remote(**retries, num_cpus=resources["num_cpus"])(_merge)
    tasks = [part_task.remote(names["source"], names["output"], (part, parts), options) for part in range(parts)]
    waiting = list(tasks)
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            for task in done:
                _result(task)
    except BaseException:
        for task in waiting:
            ray.cancel(task, force=False)
        raise
    merged: Report = _result(merge_task.remote(names["output"], {"gate": gate, "max_nmse": max_nmse, "report": report}))
    return merged
