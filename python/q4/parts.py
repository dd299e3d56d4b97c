"""One conversion on many machines (docs/scale_out.md): some shards each, and the model of all.

>>> q4.parts.convert("Llama-3.1-405B", "llama.q4", (3, 64), shard_size="8GB")  # on each machine, its number
>>> q4.parts.merge("llama.q4", gate="default")  # once, when all are done
>>> q4.parts.verify("llama.q4.index.json", (3, 64), against="Llama-3.1-405B").save("reports/3.json")  # likewise on each machine
>>> q4.parts.merge_verified("llama.q4.index.json", "reports", gate="default").ok  # once

A part may be done twice, at the same time too, and by another number of parts: the bytes are the same. What may be tried again after an
exception: InputError for a file system (exit code 2), DeviceError (4), KeyboardInterrupt; nothing else.
"""

from __future__ import annotations

import inspect
import operator
import os
from collections.abc import Sequence
from typing import Any, SupportsIndex, Union

from . import _core
from ._errors import Finding, issue_text
from ._jobs import Size, _convert_words, _log, _options, _run_convert, _threads
from ._jobs import convert as _convert
from ._progress import ProgressArgument, listening
from ._reports import Document, Report
from ._words import StrPath, words

__all__ = ["MergedVerification", "PartReport", "PartsStatus", "VerifiedPart", "convert", "merge", "merge_verified", "status", "verify"]

Part = Union[str, "tuple[SupportsIndex, SupportsIndex]"]
"""``(i, n)`` or ``"i/n"``, from 0."""


def _part_word(part: Part) -> str:
    """As the command line has it, which checks the numbers."""
    if isinstance(part, str):
        return part
    numbers: Sequence[SupportsIndex] = part
    if not isinstance(numbers, Sequence) or len(numbers) != 2:
        raise ValueError(f"part: (i, n) or 'i/n', got {part!r}")
    try:
        index, count = operator.index(numbers[0]), operator.index(numbers[1])
    except TypeError as error:
        raise ValueError(f"part: two whole numbers, got {part!r}") from error
    return f"{index}/{count}"


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


def convert(source: StrPath, output: StrPath, part: Part, *, progress: ProgressArgument = None, **options: Any) -> PartReport:
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
    line["part"] = _part_word(part)
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


class VerifiedPart(Document):
    """What was found in the shards of a part (docs/schema/verify_part.schema.json). Truth is :attr:`ok`."""

    @property
    def ok(self) -> bool:
        return bool(self.json["passed"])

    def __bool__(self) -> bool:
        return self.ok

    @property
    def shards(self) -> tuple[int, ...]:
        """Numbers of the part's shards, from 1 as in their names."""
        return tuple(shard["number"] for shard in self.json["shards"])

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong; at most 100 of each shard are listed."""
        return tuple(Finding(issue_text(f["issue"]) or "", f["tensor"], f["message"]) for shard in self.json["shards"] for f in shard["findings"])

    def save(self, path: StrPath) -> None:
        """Writes the document, whole or not at all, for :func:`merge_verified`: to ``NAME.json`` in a folder of its own."""
        path = os.fspath(path)
        partial = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.partial"
        try:
            with open(partial, "x", encoding="utf-8") as file:
                file.write(self.to_json())
            os.replace(partial, path)
        except BaseException:
            if os.path.exists(partial):
                os.unlink(partial)
            raise

    def __repr__(self) -> str:
        return f"<q4.parts.VerifiedPart {self.json['part']}/{self.json['parts']}: {'ok' if self.ok else 'findings'}>"


class MergedVerification(Document):
    """What all parts found (docs/schema/verify_part.schema.json), with the renderings of a :class:`q4.VerifyReport`. Truth is :attr:`ok`."""

    def __init__(self, verification: _core.Verification) -> None:
        super().__init__(verification.json())
        self._verification = verification

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a MergedVerification is of this process; pickle its .json")

    @property
    def ok(self) -> bool:
        return bool(self.json["passed"])

    def __bool__(self) -> bool:
        return self.ok

    @property
    def root(self) -> str:
        return "sha256:" + str(self.json["root_sha256"])

    @property
    def compared(self) -> bool:
        """Whether every shard was compared with the source."""
        return bool(self.json["compared"] == self.json["shard_count"])

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong; at most 100 are listed, ``json["finding_count"]`` counts all."""
        return tuple(Finding(issue_text(f["issue"]) or "", f["tensor"], f["message"]) for f in self.json["findings"])

    def to_text(self) -> str:
        """As of :func:`q4.verify`; errors are those that the shards record."""
        return self._verification.text()

    def to_html(self) -> str:
        """The page that q4verify --merge --html writes."""
        return self._verification.html()

    def to_markdown(self) -> str:
        """For a comment on a pull request."""
        return self._verification.markdown()

    def to_junit(self) -> str:
        """JUnit XML, for CI systems."""
        return self._verification.junit()

    def __repr__(self) -> str:
        return f"<q4.parts.MergedVerification {self.json['path']!r}: {'ok' if self.ok else 'findings'}>"


def verify(
    path: StrPath,
    part: Part,
    *,
    against: StrPath | None = None,
    adapter: StrPath | None = None,
    calibration: StrPath | None = None,
    root: str | None = None,
    sample: float | None = None,
    sample_seed: int | None = None,
    require_proof: bool = False,
    follow_symlinks: bool = False,
    threads: int = 0,
    max_memory: Size = None,
    progress: ProgressArgument = None,
) -> VerifiedPart:
    """Checks the shards of one part: q4verify --part. Limits are about the whole model: :func:`merge_verified` takes them.

    Args:
        path: the list of the shards, ``NAME.q4.index.json``.
        part: ``(i, n)`` or ``"i/n"``, from 0.
        Others as of :func:`q4.verify`, the same for all parts.

    Returns:
        What was found, to be saved where the merge finds it.
    """
    line = words(
        "q4verify",
        path,
        part=_part_word(part),
        against=against,
        adapter=adapter,
        calibration=calibration,
        root=root,
        sample=sample,
        sample_seed=sample_seed,
        require_proof=require_proof,
        follow_symlinks=follow_symlinks,
        threads=_threads(threads),
        max_memory=max_memory,
    )
    with listening(progress, "verify") as listener:
        return VerifiedPart(_core.verify(line, listener).json())


def merge_verified(
    path: StrPath,
    reports: StrPath,
    *,
    root: str | None = None,
    max_nmse: float | None = None,
    min_sqnr: float | None = None,
    max_abs_error: float | None = None,
    gate: StrPath | None = None,
) -> MergedVerification:
    """The verdict on the whole model: q4verify --merge.

    Args:
        path: the list of the shards.
        reports: the folder with what the parts have saved; every ``*.json`` of it is read.
        root, max_nmse, min_sqnr, max_abs_error, gate: as of :func:`q4.verify`, held against what the shards record.

    Raises:
        DamagedError: shards are missing, or the reports are not of one verification.
    """
    line = words("q4verify", path, merge=reports, root=root, max_nmse=max_nmse, min_sqnr=min_sqnr, max_abs_error=max_abs_error, gate=gate)
    verification = _core.verify(line, None)
    _log(verification.notes)
    return MergedVerification(verification)
