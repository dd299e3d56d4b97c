"""convert, plan, compare, verify and export: the jobs of the tools."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Literal

from . import _core
from ._errors import Finding, GateError, issue_text
from ._progress import ProgressArgument, listening
from ._reports import Comparison, ExportReport, Plan, Report, VerifyReport
from ._words import StrPath, Word, words

log = logging.getLogger("q4")

Size = int | str | None
"""Bytes, or a text such as ``"2GiB"``; None: the tool's default."""


def _log(notes: Sequence[str]) -> None:
    for note in notes:
        if note.startswith("warning: "):
            log.warning("%s", note.removeprefix("warning: "))
        else:
            log.info("%s", note)


def _run_convert(line: list[bytes], progress: ProgressArgument, description: str) -> str:
    with listening(progress, description) as listener:
        document, notes, errors, findings, exit_code = _core.convert(line, listener)
    _log(notes)
    if exit_code:
        broken = tuple(Finding(issue_text(issue) or "", tensor or None, message) for issue, tensor, message in findings)
        error = GateError("\n".join(errors), issue=broken[0].issue if broken else None, exit_code=exit_code)
        error.findings = broken
        raise error
    return document


def _convert_words(source: StrPath, output: StrPath | None, options: Mapping[str, Word], add_files: Mapping[str, StrPath] | None) -> list[bytes]:
    line = words("q4convert", source, output=None if output is None else os.fspath(output), **options)
    for name, path in (add_files or {}).items():
        line.append(b"--add-file=" + os.fsencode(name) + b"=" + os.fsencode(path))
    return line


def convert(
    source: StrPath,
    output: StrPath,
    *,
    type: str | None = None,
    block_size: int | None = None,
    double_quant: bool | None = None,
    encoder: str | None = None,
    effort: int | None = None,
    calibration: StrPath | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    components: Sequence[str] = (),
    allow_unmatched: bool = False,
    recipe: StrPath | None = None,
    target_bpw: float | None = None,
    target_nmse: float | None = None,
    keep_most_sensitive: float | None = None,
    fused_alike: bool = False,
    write_recipe: StrPath | None = None,
    adapter: StrPath | None = None,
    from_quantized: bool = False,
    keep_dtype: Literal["same", "bf16", "fp16", "fp32"] | None = None,
    compress: str | None = None,
    shard_size: Size = None,
    shard_by: Literal["size", "source"] | None = None,
    source_digest: Literal["sha256", "xxh3"] | None = None,
    gate: StrPath | None = None,
    max_nmse: float | None = None,
    on_nonfinite: Literal["error", "keep"] | None = None,
    follow_symlinks: bool = False,
    allow_empty: bool = False,
    root: str | None = None,
    tensor: str | None = None,
    add_files: Mapping[str, StrPath] | None = None,
    drop_files: Sequence[str] = (),
    device: str | None = None,
    threads: int = 0,
    max_memory: Size = None,
    sync_every: Size = None,
    resume: bool = True,
    force: bool = False,
    report: StrPath | None = None,
    progress: ProgressArgument = None,
) -> Report:
    """Quantizes a checkpoint to 4 bits, once, into one sealed container: q4convert (docs/q4convert.md), the same bytes.

    Args:
        source: a .safetensors, PyTorch or GGUF file, an index, a model directory, a pipeline of diffusers; or a container,
            which is packed anew, or with ``from_quantized`` quantized again.
        output: the container to write, ``NAME.q4``; of a pipeline a directory.
        type: the code book, ``"nf4"`` (default) or ``"fp4"``.
        block_size: elements per scale, a power of two from 32 to 4096; 64 by default.
        double_quant: whether scales are quantized to 8 bits; True by default.
        encoder: how scales and codes are chosen; ``"absmax"`` by default. ``"mse"`` searches, and loses less (docs/quality.md);
            ``"weighted"`` does so by a calibration file, and ``"feedback"`` makes up for errors by its Hessians.
        effort: how hard these search: 1, 2 (default) or 3.
        calibration: a file that says what the inputs of layers look like (docs/calibration.md), for encoders that weigh errors by it; of a pipeline
            a folder with ``COMPONENT.safetensors``.
        include: regular expressions; tensors whose name matches are quantized.
        exclude: regular expressions; tensors whose name matches are kept as they are, also where ``include`` matches. A
            recipe can say it in another order.
        components: of a pipeline of diffusers (docs/pipelines.md): which components are quantized.
        allow_unmatched: a pattern that matches no tensor is a note, no error.
        recipe: a JSON file with ordered rules (docs/policy.md).
        target_bpw: bits per weight, scales included, within which type and block size of each tensor are chosen for the least
            error; what ``type``, ``block_size`` and ``double_quant`` say is not chosen.
        target_nmse: the same the other way round: the fewest bits within this error.
        keep_most_sensitive: percent of the weights; tensors that lose most by weight are kept.
        fused_alike: layers that vLLM joins are chosen alike.
        write_recipe: where what was chosen is written, for ``recipe``.
        adapter: the folder of a LoRA of PEFT, which is merged while the model is read, as ``merge_and_unload()`` does.
        from_quantized: leave to quantize what has 4 bits already (MXFP4, NVFP4, a container): its error comes on top.
        keep_dtype: type of float tensors that stay unquantized.
        compress: ``"none"``, ``"zstd"`` or ``"zstd:LEVEL"``: lossless, by chunk.
        shard_size: about the size of a shard, in bytes or as ``"5GB"``; one file by default.
        shard_by: ``"source"``: shards end where source files do, as parts of a conversion need it (:mod:`q4.parts`).
        source_digest: what identifies the files of the source in the provenance.
        gate: a gate file (docs/gates.md), or ``"default"``: limits on the error.
        max_nmse: a limit on the error of each tensor.
        on_nonfinite: a tensor with NaN or infinity fails the conversion, or is kept.
        follow_symlinks: read shards and companions through symbolic links, as in the cache of a hub.
        allow_empty: a checkpoint without tensors is no error.
        root, tensor, add_files, drop_files: of a container as source: the root that it must have, a regular expression on
            tensors, files to embed (name to path), and names of embedded files to leave out.
        device: ``"auto"`` (default), ``"cpu"``, ``"cuda"`` or ``"cuda:N[,M...]"``; never changes the bytes.
        threads: workers; 0: what the machine allows.
        max_memory: bound on host memory; by default 2 GiB, or less where the machine has less.
        sync_every, resume: what an interruption may cost, and whether a run that was interrupted is gone on with.
        force: replace an existing container, atomically.
        report: where to write the report, too.
        progress: see :data:`q4.ProgressArgument`.

    Returns:
        What was written, and the error statistics of every tensor.

    Raises:
        GateError: a limit was exceeded; there is no output.
        UsageError, InputError, FormatError, UnsupportedError, DeviceError: docs/errors.md lists all. On an error nothing is
            left but what a rerun goes on with.
        KeyboardInterrupt: Ctrl-C; the same call goes on where it ended.
    """
    options = _options(locals())
    return Report(_run_convert(_convert_words(source, output, options, add_files), progress, "convert"))


def plan(
    source: StrPath,
    output: StrPath | None = None,
    *,
    type: str | None = None,
    block_size: int | None = None,
    double_quant: bool | None = None,
    encoder: str | None = None,
    effort: int | None = None,
    calibration: StrPath | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    components: Sequence[str] = (),
    allow_unmatched: bool = False,
    recipe: StrPath | None = None,
    target_bpw: float | None = None,
    target_nmse: float | None = None,
    keep_most_sensitive: float | None = None,
    fused_alike: bool = False,
    write_recipe: StrPath | None = None,
    adapter: StrPath | None = None,
    from_quantized: bool = False,
    keep_dtype: Literal["same", "bf16", "fp16", "fp32"] | None = None,
    compress: str | None = None,
    shard_size: Size = None,
    shard_by: Literal["size", "source"] | None = None,
    source_digest: Literal["sha256", "xxh3"] | None = None,
    gate: StrPath | None = None,
    max_nmse: float | None = None,
    on_nonfinite: Literal["error", "keep"] | None = None,
    follow_symlinks: bool = False,
    allow_empty: bool = False,
    root: str | None = None,
    tensor: str | None = None,
    add_files: Mapping[str, StrPath] | None = None,
    drop_files: Sequence[str] = (),
    device: str | None = None,
    threads: int = 0,
    max_memory: Size = None,
    sync_every: Size = None,
    resume: bool = True,
    force: bool = False,
) -> Plan:
    """What :func:`convert` would do with the same arguments: q4convert --dry-run. Reads headers only and writes nothing.

    Args:
        output: whether this can be written is checked, as convert() would, but that something is there is a warning; None: it is not.

    Returns:
        Every tensor with its treatment and the reason, the size of the output to the byte, the least memory.

    Raises:
        As :func:`convert`, for what can be known before weights are read.
    """
    options = _options(locals())
    options["dry_run"] = True
    return Plan(_run_convert(_convert_words(source, output, options, add_files), None, "plan"))


def compare(
    source: StrPath,
    output: StrPath | None = None,
    *,
    type: str | None = None,
    block_size: int | None = None,
    double_quant: bool | None = None,
    encoder: str | None = None,
    effort: int | None = None,
    calibration: StrPath | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    allow_unmatched: bool = False,
    recipe: StrPath | None = None,
    adapter: StrPath | None = None,
    from_quantized: bool = False,
    keep_dtype: Literal["same", "bf16", "fp16", "fp32"] | None = None,
    compress: str | None = None,
    shard_size: Size = None,
    shard_by: Literal["size", "source"] | None = None,
    source_digest: Literal["sha256", "xxh3"] | None = None,
    on_nonfinite: Literal["error", "keep"] | None = None,
    follow_symlinks: bool = False,
    root: str | None = None,
    device: str | None = None,
    threads: int = 0,
    max_memory: Size = None,
    progress: ProgressArgument = None,
) -> Comparison:
    """What :func:`convert` would make with every type, block size, form of scales and encoder: q4convert --compare (docs/choosing.md).
    Reads the source once and writes nothing.

    Args:
        output: the name in the command of the chosen settings; None: one after the source.
        type, block_size, double_quant, encoder, effort: what is asked for is not varied.
        calibration: rows of ``"weighted"`` are added, and the error of layers' outputs decides.
        device: measuring runs on the cores, whatever this says; the figures are the same.

    All other arguments mean what they mean to :func:`convert`, in every row.

    Raises:
        As :func:`convert`; UsageError for a pipeline, whose components are compared one by one, and where nothing is left to choose.
    """
    arguments = {**locals(), "components": (), "resume": True, "add_files": None}
    options = _options(arguments)
    options["compare"] = True
    return Comparison(_run_convert(_convert_words(source, output, options, None), progress, "compare"))


def _options(arguments: Mapping[str, object]) -> dict[str, Word]:
    """Arguments of convert(), plan() and compare() by the names of the command line. Where a name is the same, so is the meaning."""
    renamed = {"drop_files": "drop_file"}
    apart = {"source", "output", "progress", "double_quant", "resume", "threads", "add_files", "components"}
    options: dict[str, Word] = {renamed.get(name, name): value for name, value in arguments.items() if name not in apart}  # type: ignore[misc]
    double_quant = arguments["double_quant"]
    options["double_quant"] = double_quant is not None and bool(double_quant)
    options["no_double_quant"] = double_quant is not None and not double_quant
    options["no_resume"] = not arguments["resume"]
    options["threads"] = _threads(arguments["threads"])
    components = arguments["components"]
    options["components"] = (components if isinstance(components, str) else ",".join(components)) or None  # type: ignore[arg-type]
    return options


def _threads(threads: object) -> Word:
    return threads or None  # type: ignore[return-value]


def verify(
    path: StrPath,
    *,
    against: StrPath | None = None,
    adapter: StrPath | None = None,
    calibration: StrPath | None = None,
    root: str | None = None,
    tensor: str | None = None,
    sample: float | None = None,
    sample_seed: int | None = None,
    require_proof: bool = False,
    compare_absmax: bool = False,
    max_nmse: float | None = None,
    min_sqnr: float | None = None,
    max_abs_error: float | None = None,
    gate: StrPath | None = None,
    baseline: StrPath | None = None,
    baseline_slack: str | None = None,
    evaluation: StrPath | None = None,
    limit: Sequence[str] = (),
    follow_symlinks: bool = False,
    threads: int = 0,
    max_memory: Size = None,
    progress: ProgressArgument = None,
) -> VerifyReport:
    """Checks every byte of a container and, with ``against``, every code against the original: q4verify (docs/q4verify.md).

    Args:
        path: a container, the list of a sharded one, or a converted pipeline.
        against: the original checkpoint; everything is computed again from it.
        adapter: the adapter that was merged into it, if one was.
        calibration: the calibration file that was used, if one was (of a pipeline the folder of them): what it decided is computed again too.
        root: ``"sha256:..."``, which the container must have.
        tensor, sample, sample_seed: compare a part: names that match a regular expression, a percentage, which one.
        require_proof: fail also where the encoder leaves more than one answer.
        compare_absmax: measure the error in units of what the encoder absmax makes of the same weights, too.
        max_nmse, min_sqnr, max_abs_error: limits on the error; SQNR in dB, the error in units of the weights.
        gate: a gate file (docs/gates.md), or ``"default"``.
        baseline, baseline_slack: an earlier report, and by how much the error may have grown since, such as ``"0.5%"``.
        evaluation: what :func:`q4.evaluate` saved of this container; it joins the report, and gates can limit its numbers.
        limit: limits on these, such as ``"kl_mean <= 0.02"``.
        follow_symlinks: read shards of the source through symbolic links.
        threads, max_memory, progress: as in :func:`convert`.

    Returns:
        The report. What is wrong with the container is in it and raises nothing: look at ``.ok``.

    Raises:
        FormatError, InputError, UsageError, ...: the container or the source cannot be opened or read.
    """
    line = words(
        "q4verify",
        path,
        against=against,
        adapter=adapter,
        calibration=calibration,
        root=root,
        tensor=tensor,
        sample=sample,
        sample_seed=sample_seed,
        require_proof=require_proof,
        compare_absmax=compare_absmax,
        max_nmse=max_nmse,
        min_sqnr=min_sqnr,
        max_abs_error=max_abs_error,
        gate=gate,
        baseline=baseline,
        baseline_slack=baseline_slack,
        evaluation=evaluation,
        limit=[limit] if isinstance(limit, str) else limit,
        follow_symlinks=follow_symlinks,
        threads=_threads(threads),
        max_memory=max_memory,
    )
    with listening(progress, "verify") as listener:
        return VerifyReport(_core.verify(line, listener))


def export(
    path: StrPath,
    output: StrPath,
    *,
    to: str = "bnb",
    root: str | None = None,
    tensor: str | None = None,
    dtype: Literal["same", "bf16", "fp16", "fp32"] | None = None,
    quant_storage: Literal["uint8", "bfloat16", "float16", "float32"] | None = None,
    compute_dtype: Literal["same", "float32", "float16", "bfloat16"] | None = None,
    experts: Literal["error", "dequantize", "keep4bit"] | None = None,
    unloadable: Literal["error", "dequantize", "keep4bit"] | None = None,
    shard_size: Size = None,
    card: bool | None = None,
    base_model: str | None = None,
    force: bool = False,
    into: bool = False,
    threads: int = 0,
    max_memory: Size = None,
    progress: ProgressArgument = None,
) -> ExportReport:
    """Hands a container on to other loaders: q4export (docs/q4export.md), the same files.

    Args:
        path: a container, the list of a sharded one, or a converted pipeline.
        output: the directory, or of ``to="safetensors"`` also the file, to write.
        to: ``"bnb"``: a directory that transformers, vLLM and others load in 4 bits; ``"safetensors"``: dequantized.
        root, tensor: the root that the container must have; only tensors whose name matches.
        dtype: of dequantized tensors (``to="safetensors"``).
        quant_storage, compute_dtype, experts, unloadable: of ``to="bnb"``, docs/export_bnb.md.
        shard_size: the largest size of a file of weights; one file by default.
        card: whether a model card, README.md, is written; None: as q4export does, of ``to="bnb"``.
        base_model: ``"owner/name"`` of the original, which the card names.
        force, into: replace what an earlier export wrote; write into a directory that holds other files.
        threads, max_memory, progress: as in :func:`convert`.

    Returns:
        What was written.

    Raises:
        As docs/q4export.md says; on an error nothing remains.
    """
    line = words(
        "q4export",
        path,
        output=os.fspath(output),
        to=to,
        root=root,
        tensor=tensor,
        dtype=dtype,
        quant_storage=quant_storage,
        compute_dtype=compute_dtype,
        experts=experts,
        unloadable=unloadable,
        shard_size=shard_size,
        card=card is True,
        no_card=card is False,
        base_model=base_model,
        force=force,
        into=into,
        threads=_threads(threads),
        max_memory=max_memory,
    )
    with listening(progress, "export") as listener:
        document, notes = _core.export(line, listener)
    _log(notes)
    return ExportReport(document)
