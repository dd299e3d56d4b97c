"""One conversion on many machines (docs/scale_out.md): some shards each, and the model of all.

>>> q4.parts.convert("Llama-3.1-405B", "llama.q4", (3, 64), shard_size="8GB")  # on each machine, its number
>>> q4.parts.merge("llama.q4", gate="default")  # once, when all are done

A part may be done twice, at the same time too, and by another number of parts: the bytes are the same. What may be tried again after an
exception: InputError for a file system (exit code 2), DeviceError (4), KeyboardInterrupt; nothing else.
"""

from __future__ import annotations

import inspect
from typing import Any

from ._jobs import _convert_words, _options, _run_convert
from ._jobs import convert as _convert
from ._progress import ProgressArgument
from ._reports import Document, Report
from ._words import StrPath, words

__all__ = ["PartReport", "PartsStatus", "convert", "merge", "status"]


class PartReport(Document):
    """What was done of a part (docs/schema/part.schema.json)."""

    @property
    def shards(self) -> tuple[int, ...]:
        """Numbers of the part's shards, from 1 as in their names; empty where there was nothing to do."""
        return tuple(shard["number"] for shard in self.json["shards"])

    @property
    def written(self) -> tuple[int, ...]:
        """Those that were converted and got their names now; the others were there."""
        return tuple(shard["number"] for shard in self.json["shards"] if shard["outcome"] in ("written", "replaced"))

    def __repr__(self) -> str:
        return f"<q4.parts.PartReport {self.json['part']}/{self.json['parts']}: {len(self.written)} of {len(self.shards)} shards written>"


class PartsStatus(Document):
    """What is missing (docs/schema/parts.schema.json)."""

    @property
    def complete(self) -> bool:
        """Whether the model is there."""
        return bool(self.json["complete"])

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers of the parts that have something to do, from 0: of ``parts``, else of what the parts that are done were counted by."""
        return tuple(self.json["missing_parts"])

    @property
    def ready(self) -> bool:
        """Whether every shard is there, to be merged."""
        return not self.complete and self.json["shards"] is not None and not self.json["missing"]

    def __repr__(self) -> str:
        state = "complete" if self.complete else f"{self.json['done']} of {self.json['shards']} shards"
        return f"<q4.parts.PartsStatus: {state}>"


def convert(source: StrPath, output: StrPath, part: tuple[int, int] | str, *, progress: ProgressArgument = None, **options: Any) -> PartReport:
    """Converts one part: q4convert --part.

    Args:
        source, output: as of :func:`q4.convert`; the same for all parts, on a file system that all see.
        part: ``(i, n)`` or ``"i/n"``, from 0.
        options: those of :func:`q4.convert` but for gates, budgets and the report, the same for all parts.

    Returns:
        Which shards were written and which were there.

    Raises:
        UsageError: a model of this name is complete, or an option does not go with parts. Others as :func:`q4.convert`.
    """
    given = inspect.signature(_convert).bind(source, output, **options)
    given.apply_defaults()
    line = _options(given.arguments)
    line["part"] = part if isinstance(part, str) else f"{part[0]}/{part[1]}"
    words_of_part = _convert_words(source, output, line, options.get("add_files"))
    return PartReport(_run_convert(words_of_part, progress, "convert"))


def merge(output: StrPath, *, gate: StrPath | None = None, max_nmse: float | None = None, report: StrPath | None = None) -> Report:
    """Makes the model of all parts: q4convert --merge. May be called again, and by several at a time.

    Args:
        gate, max_nmse: limits on the error of the whole model, as of :func:`q4.convert`.
        report: where to write the report, too.

    Raises:
        DamagedError: parts are missing, or are of several conversions.
        GateError: a limit was exceeded; there is no model, and the parts stay.
    """
    return Report(_run_convert(words("q4convert", output, merge=True, gate=gate, max_nmse=max_nmse, report=report), None, "merge"))


def status(output: StrPath, *, parts: int | None = None) -> PartsStatus:
    """What is missing: q4convert --status.

    Args:
        parts: how many parts to count with; by default as many as the parts that are done were of.
    """
    return PartsStatus(_run_convert(words("q4convert", output, status=True, parts=parts), None, "status"))
