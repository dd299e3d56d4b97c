"""The JSON documents of the tools (docs/schema) as objects: named fields for what is asked most, the whole document beside them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from . import _core
from ._errors import Finding, issue_text

Json = Mapping[str, Any]
_T = TypeVar("_T")


class Document:
    """A report as the tool of the same name writes it with ``--json``.

    Attributes:
        json: the document, as docs/schema describes it.
    """

    json: Json

    def __init__(self, text: str) -> None:
        self._text = text
        self.json = json.loads(text)

    def to_json(self) -> str:
        """The text that the tool writes, byte for byte."""
        return self._text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._text,)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Document) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True)
class Stats:
    """Error statistics of quantized weights (docs/numerics.md Q8). None stands for infinite, or for a value that does not exist."""

    count: int
    """Elements."""
    nmse: float | None
    """Sum of squared errors by sum of squares."""
    sqnr_db: float | None
    """-10 log10(nmse); None where nmse is 0."""
    mse: float | None
    rmse: float | None
    bias: float | None
    """Mean of source minus decoded."""
    mae: float | None
    cosine: float | None
    max_abs_err: float | None
    max_abs_err_index: int
    """Flat index in the tensor."""
    max_gap_ratio: float | None
    """The largest error in half steps between neighbouring code values."""
    worst_block: int
    worst_block_e2: float | None
    zero_blocks: int
    tiny_blocks: int
    clipped: int
    overflow: int
    hist: tuple[int, ...]
    """How often each of the 16 codes is used."""
    code_entropy_bits: float | None

    @classmethod
    def of(cls, document: Json) -> Stats:
        values = {field.name: document[field.name] for field in fields(cls)}
        return cls(**{**values, "hist": tuple(values["hist"])})


def _stats(document: Json | None) -> Stats | None:
    # Totals over no tensors have a count of 0.
    return Stats.of(document) if document and document["count"] else None


@dataclass(frozen=True)
class TensorReport:
    """What a conversion did, or will do, with one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """Of the source, by the names of safetensors: ``"BF16"``."""
    treatment: str
    """Such as ``"nf4 b64 dq"``, or the dtype of a tensor that is kept."""
    reason: str | None
    """Why, in a plan; a report of what was done has None."""
    stats: Stats | None


def _tensor_report(tensor: Json) -> TensorReport:
    return TensorReport(
        tensor["name"],
        tuple(tensor["shape"]),
        tensor.get("dtype") or tensor["source_dtype"],
        tensor["treatment"],
        tensor.get("reason"),
        _stats(tensor.get("stats")),
    )


@dataclass(frozen=True)
class OutputFile:
    """A file of a container: the only one, or a shard."""

    path: Path
    bytes: int
    root: str
    """``"sha256:..."``, of this file."""


class Report(Document):
    """What :func:`q4.convert` did (docs/schema/convert.schema.json; of a pipeline docs/schema/pipeline_reports.schema.json)."""

    @property
    def components(self) -> Mapping[str, Report]:
        """Of a pipeline: the report of each component that was quantized; else empty."""
        return {part["name"]: Report(json.dumps(part["report"])) for part in self.json.get("components", ())}

    @property
    def outputs(self) -> tuple[OutputFile, ...]:
        """The containers."""
        if "components" in self.json:
            return tuple(file for report in self.components.values() for file in report.outputs)
        return tuple(OutputFile(Path(o["path"]), o["bytes"], "sha256:" + o["root_sha256"]) for o in self.json["outputs"])

    @property
    def path(self) -> Path:
        """What to open: the container, or the list of its shards; of a pipeline its directory."""
        if "components" in self.json:
            return Path(self.json["output"])
        return Path(self.json["index"] or self.json["outputs"][0]["path"])

    @property
    def source_bytes(self) -> int:
        return int(self.json["source_bytes"])

    @property
    def output_bytes(self) -> int:
        return int(self.json["output_bytes"])

    @property
    def seconds(self) -> float:
        return float(self.json["seconds"])

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.json["warnings"])

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self.json["notes"])

    @property
    def totals(self) -> Stats | None:
        """Over all quantized tensors; None where there are none, and of a pipeline, whose components have them."""
        return _stats(self.json.get("totals"))

    @property
    def tensors(self) -> Mapping[str, TensorReport]:
        """By name; of a pipeline by ``component/name``."""
        if "components" in self.json:
            return _joined({name: report.tensors for name, report in self.components.items()})
        return {tensor["name"]: _tensor_report(tensor) for tensor in self.json["tensors"]}

    def __repr__(self) -> str:
        totals = self.totals
        error = f", nmse={totals.nmse:.3g}" if totals and totals.nmse is not None else ""
        return f"<q4.Report {str(self.path)!r}: {self.source_bytes} -> {self.output_bytes} bytes{error}>"


def _joined(tensors: Mapping[str, Mapping[str, _T]]) -> Mapping[str, _T]:
    return {f"{component}/{name}": tensor for component, named in tensors.items() for name, tensor in named.items()}


class Plan(Document):
    """What :func:`q4.convert` would do (docs/schema/convert.schema.json; of a pipeline docs/schema/pipeline_reports.schema.json). Of a container that is packed anew, which decides nothing
    about tensors, only :attr:`json` and :attr:`output_bytes`."""

    @property
    def output_bytes(self) -> int:
        """Of all files; exact but with compression (``json["output_bytes_exact"]``)."""
        return int(self.json["output_bytes"])

    @property
    def output(self) -> Path | None:
        """What convert() would write; None for a component of a pipeline, and for a container packed anew that nobody named."""
        return None if self.json["output"] is None else Path(self.json["output"])

    @property
    def least_memory_bytes(self) -> int:
        """The least ``max_memory`` that this conversion can do with."""
        if "components" in self.json:
            return max((plan.least_memory_bytes for plan in self.components.values()), default=0)
        return int(self.json["least_memory_bytes"])

    @property
    def components(self) -> Mapping[str, Plan]:
        """Of a pipeline: the plan of each component that will be quantized; else empty."""
        return {part["name"]: Plan(json.dumps(part["plan"])) for part in self.json.get("components", ())}

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.json["warnings"])

    @property
    def tensors(self) -> Mapping[str, TensorReport]:
        """By name; of a pipeline by ``component/name``."""
        if "components" in self.json:
            return _joined({name: plan.tensors for name, plan in self.components.items()})
        return {tensor["name"]: _tensor_report(tensor) for tensor in self.json["tensors"]}

    @property
    def quantized(self) -> tuple[str, ...]:
        """Names of the tensors that will be quantized."""
        if "components" in self.json:
            return tuple(f"{part}/{name}" for part, plan in self.components.items() for name in plan.quantized)
        return tuple(tensor["name"] for tensor in self.json["tensors"] if tensor["quantized"])

    def __repr__(self) -> str:
        return f"<q4.Plan: {len(self.json.get('tensors', ()))} tensors -> {self.output_bytes} bytes>"


@dataclass(frozen=True, slots=True)
class ComparedSettings:
    """A row of :class:`Comparison`: what a conversion with these settings makes."""

    type: str
    block_size: int
    double_quant: bool
    encoder: str
    output_bytes: int
    exact: bool
    """Whether ``output_bytes`` is that to the byte; else the most, or about that."""
    bits_per_weight: float
    nmse: float
    sqnr_db: float
    """Infinite where nothing is lost."""
    output_nmse: float | None
    """With a calibration: what layers lose of their outputs."""
    worst_tensor: str | None
    worst_nmse: float
    core_seconds: float
    best: bool
    """Nothing with as many bits per weight, or fewer, loses less."""


class Comparison(Document):
    """What :func:`q4.compare` measured (docs/schema/comparison.schema.json)."""

    @property
    def rows(self) -> tuple[ComparedSettings, ...]:
        """By size, then error."""
        return tuple(_compared(row) for row in self.json["rows"])

    @property
    def chosen(self) -> ComparedSettings:
        """The row whose SQNR is worth most for its bits, by the rule of docs/choosing.md."""
        return next(_compared(row) for row in self.json["rows"] if row["chosen"])

    @property
    def command(self) -> tuple[str, ...]:
        """The words of the command that makes the chosen row."""
        return tuple(self.json["command"])

    def __repr__(self) -> str:
        best = self.chosen
        return f"<q4.Comparison: {len(self.json['rows'])} settings, chosen {best.type} b{best.block_size} {best.encoder}>"


def _compared(row: Mapping[str, Any]) -> ComparedSettings:
    return ComparedSettings(
        type=row["type"],
        block_size=row["block_size"],
        double_quant=row["double_quant"],
        encoder=row["encoder"],
        output_bytes=row["output_bytes"],
        exact=row["output_bytes_exact"],
        bits_per_weight=row["bits_per_weight"],
        nmse=row["nmse"],
        sqnr_db=math.inf if row["sqnr_db"] is None else row["sqnr_db"],
        output_nmse=row["output_nmse"],
        worst_tensor=row["worst_tensor"],
        worst_nmse=row["worst_nmse"],
        core_seconds=row["core_seconds"],
        best=row["best_for_its_size"],
    )


class VerifyReport(Document):
    """What :func:`q4.verify` found (docs/schema/verify.schema.json; of a pipeline docs/schema/pipeline_reports.schema.json, which has
    no other rendering than JSON). Truth is :attr:`ok`."""

    def __init__(self, verification: _core.Verification) -> None:
        super().__init__(verification.json())
        self._verification = verification

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a VerifyReport is of this process; pickle its .json")

    @property
    def ok(self) -> bool:
        return bool(self.json["passed"])

    def __bool__(self) -> bool:
        return self.ok

    @property
    def root(self) -> str:
        return "sha256:" + str(self.json["root_sha256"])

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong; at most 100 are listed, ``json["finding_count"]`` counts all."""
        documents = [self.json, *(part["report"] for part in self.json.get("components", ()))]
        return tuple(Finding(issue_text(f["issue"]) or "", f.get("tensor"), f["message"]) for d in documents for f in d["findings"])

    @property
    def stats(self) -> Stats | None:
        """Of the model; None where no tensor has statistics, and of a pipeline."""
        return _stats(self.json.get("model"))

    @property
    def tensors(self) -> Mapping[str, Json]:
        """Of each tensor what the document says of it; of a pipeline by ``component/name``."""
        if "components" in self.json:
            return _joined({part["name"]: {t["name"]: t for t in part["report"]["tensors"]} for part in self.json["components"]})
        return {tensor["name"]: tensor for tensor in self.json["tensors"]}

    def to_text(self) -> str:
        """What q4verify prints."""
        return self._verification.text()

    def to_html(self) -> str:
        """The page that q4verify --html writes: one file, for any browser."""
        return self._verification.html()

    def to_markdown(self) -> str:
        """For a comment on a pull request."""
        return self._verification.markdown()

    def to_junit(self) -> str:
        """JUnit XML, for CI systems."""
        return self._verification.junit()

    def __repr__(self) -> str:
        verdict = "ok" if self.ok else f"{self.json['finding_count']} findings"
        return f"<q4.VerifyReport {self.json['path']!r}: {verdict}>"


class ExportReport(Document):
    """What :func:`q4.export` wrote (docs/schema/export.schema.json). It is a path: ``os.fspath()`` of it is that of the output."""

    @property
    def output(self) -> Path:
        return Path(self.json["output"])

    def __fspath__(self) -> str:
        return os.fspath(self.output)

    @property
    def files(self) -> Mapping[str, int]:
        """Size in bytes by name."""
        if "components" in self.json:
            carried = {file["path"]: file["bytes"] for file in self.json["carried"]}
            return {**_joined({part["name"]: {f["name"]: f["bytes"] for f in part["report"]["files"]} for part in self.json["components"]}), **carried}
        return {file["name"]: file["bytes"] for file in self.json["files"]}

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.json["warnings"])

    def __repr__(self) -> str:
        return f"<q4.ExportReport {str(self.output)!r}: {len(self.files)} files>"
