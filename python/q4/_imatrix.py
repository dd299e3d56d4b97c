"""Importance matrices of llama.cpp as calibration files: the same sums of squares, under the names of the checkpoint."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _gguf
from ._calibration import Calibration, Input, Skipped, Writer
from ._errors import FormatError, UnsupportedError
from ._jobs import plan
from ._reports import TensorReport
from ._words import StrPath

_SQUARES, _COUNTS = ".in_sum2", ".counts"
# What models that see or speak put around a language model, and heads around their trunk.
_WRAPPERS = ("model.language_model.", "language_model.model.", "language_model.", "model.text_model.", "text_model.", "model.", "transformer.", "bert.",
             "roberta.", "xlm_roberta.", "distilbert.", "mpnet.", "deberta.", "gpt_neox.", "decoder.")  # fmt: skip
# llama.cpp orders the columns of these in another way than the checkpoint.
_REORDERED = (".linear_attn.out_proj",)
# Of a weight that the checkpoint has fused and llama.cpp has not: one that is multiplied by the same input.
_PARTNERS = {"attn_qkv": ("attn_q",), "ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps"), "ffn_gate": ("ffn_up",), "ffn_up": ("ffn_gate",),
             "ffn_gate_exps": ("ffn_up_exps",), "ffn_up_exps": ("ffn_gate_exps",)}  # fmt: skip


@dataclass(frozen=True)
class _Sums:
    """Of one tensor: sums of squares [matrices, in] and how many tokens each is of."""

    squares: Any
    counts: tuple[int, ...]


@dataclass(frozen=True)
class _Weight:
    name: str
    source: str
    expert: int | None  # of a stack that the checkpoint does not have
    is_stack: bool
    transposed: bool


def run(imatrix: StrPath, model: StrPath, output: StrPath, force: bool) -> Calibration:
    path = Path(imatrix)
    sums, tokens = _read(path)
    # Its headers alone; what q4convert would refuse is refused here.
    planned = plan(model, from_quantized=True, on_nonfinite="keep")
    formats = _formats()
    weights: list[_Weight] = []
    skipped: dict[str, str] = {}
    quantized = set(planned.quantized)
    for name, tensor in planned.tensors.items():
        found = _weight(name, tensor, planned.tensors, sums, formats)
        if isinstance(found, _Weight):
            weights.append(found)
        elif name in quantized:
            skipped[name] = found
    if not weights:
        raise FormatError(
            f"{path}: none of its {len(sums)} tensors, such as {next(iter(sums))!r}, belongs to a weight of {model}: it is the imatrix of another model, or of "
            "names that are not known here", exit_code=3, path=str(path),
        )  # fmt: skip
    inputs: dict[str, Input] = {}
    shared: dict[str, str] = {}
    names: dict[tuple[Any, ...], str] = {}
    rows: dict[str, tuple[_Sums, list[int]]] = {}
    for weight in weights:
        of = sums[weight.source]
        matrices = list(range(len(of.counts))) if weight.is_stack else [weight.expert or 0]
        counts = tuple(of.counts[matrix] for matrix in matrices)
        # llama.cpp counts gate and up, query, key and value apart: the same numbers.
        same = (weight.is_stack, counts, hashlib.sha256(of.squares[matrices].tobytes()).digest())
        shared[weight.name] = names.setdefault(same, weight.name)
        if shared[weight.name] == weight.name:
            inputs[weight.name] = Input(weight.name, of.squares.shape[1], counts, weight.is_stack)
            rows[weight.name] = of, matrices
    plain = {weight.name: shared[weight.name] for weight in weights if not weight.transposed}
    transposed = {weight.name: shared[weight.name] for weight in weights if weight.transposed}
    provenance = {"tool": "q4.calibration_from_imatrix", "model": Path(model).name, "inputs": {"kind": "imatrix", "sha256": _digest(path), "tokens": tokens}}
    with Writer(output, force) as writer:
        writer.begin(plain, transposed, inputs, False, provenance)
        for name, (of, matrices) in rows.items():
            for place, matrix in enumerate(matrices):
                moments = (of.squares[matrix].astype("<f8") / max(of.counts[matrix], 1)).astype("<f4")
                writer.put(f"{name}.second_moments", place * moments.nbytes, moments.tobytes())
        written = writer.finish()
    return Calibration(written, {**plain, **transposed}, inputs, False, tokens, 1, [Skipped(*each) for each in skipped.items()], planned.quantized)


def _read(path: Path) -> tuple[dict[str, _Sums], int | None]:
    """By llama.cpp's name of the weight; and the tokens that it was made of, where it says so."""
    import numpy

    file = _gguf.File(path)
    tensors, kind = file.tensors, file.metadata.get("general.type")
    if kind != "imatrix":
        raise FormatError(f"{path}: is a GGUF file of the type {kind!r}, expected 'imatrix', as llama-imatrix writes it", exit_code=3, path=str(path))
    sums: dict[str, _Sums] = {}
    for name, tensor in tensors.items():
        if not name.endswith(_SQUARES):
            continue
        weight = name.removesuffix(_SQUARES)
        other = tensors.get(weight + _COUNTS)
        if other is None or tensor.content is None or other.content is None:
            raise FormatError(f"{path}: {name!r} has no {_COUNTS!r} beside it, or they are not F32", exit_code=3, path=str(path))
        counts = numpy.frombuffer(other.content, "<f4").astype("<f8")
        squares = numpy.frombuffer(tensor.content, "<f4")
        if not len(counts) or squares.size % len(counts) or not squares.size:
            raise FormatError(f"{path}: {name!r} has {squares.size} elements for {len(counts)} counts", exit_code=3, path=str(path))
        if not (numpy.isfinite(squares).all() and (squares >= 0).all() and numpy.isfinite(counts).all() and (counts >= 0).all() and (counts < 2**53).all()):
            raise FormatError(f"{path}: {name!r} or its counts are negative, NaN or infinite", exit_code=3, path=str(path))
        # Sums of what no token reached are not looked at.
        squares = squares.reshape(len(counts), -1) * (counts > 0)[:, None].astype("<f4")
        sums[weight] = _Sums(squares, tuple(int(count) for count in counts))
    if not sums:
        raise FormatError(f"{path}: holds no sums (tensors NAME{_SQUARES})", exit_code=3, path=str(path))
    chunks, size = file.metadata.get("imatrix.chunk_count"), file.metadata.get("imatrix.chunk_size")
    return sums, chunks * size if isinstance(chunks, int) and isinstance(size, int) else None


def _formats() -> Mapping[str, frozenset[str]]:
    """By name of a module in a checkpoint, with {bid} for the number of its block, how llama.cpp may call it: whatever the architecture, as
    an imatrix does not say which it is of."""
    try:
        import gguf
    except ImportError as error:
        raise UnsupportedError("llama.cpp's names become the checkpoint's by the package gguf (pip install gguf)", exit_code=5) from error
    found: dict[str, set[str]] = {}
    tables = [gguf.TensorNameMap.block_mappings_cfg, *gguf.TensorNameMap.arch_block_mappings_cfg.values(), gguf.TensorNameMap.mappings_cfg]
    for table in tables:
        for tensor, names in table.items():
            for name in names:
                found.setdefault(name, set()).add(gguf.TENSOR_NAMES[tensor])
    return {name: frozenset(formats) for name, formats in found.items()}


def _weight(
    name: str, tensor: TensorReport, tensors: Mapping[str, TensorReport], sums: Mapping[str, _Sums], formats: Mapping[str, frozenset[str]]
) -> _Weight | str:
    """What a tensor of the checkpoint finds, or why it finds nothing."""
    if len(tensor.shape) not in (2, 3):
        return "it is no matrix"
    module = name.removesuffix(".weight")
    if module.endswith(_REORDERED):
        return "llama.cpp orders its columns in another way"
    bare, expert = _without_expert(module)
    candidates = [name] if name in sums else []
    # Names of fused gates that its table has not.
    others = [bare.replace("gate_up_proj", "gate_proj"), bare.replace("block_sparse_moe.input_linear", "mlp.experts.gate_proj")]
    for word in ([bare, *others] if not candidates else []):
        candidates = candidates or [each for each in _candidates(word, formats) if each in sums]
    if not candidates:
        return "the imatrix has no sums under its name in llama.cpp"
    reason = ""
    for source in dict.fromkeys(candidates):
        of = sums[source]
        columns = of.squares.shape[1]
        is_stack = len(tensor.shape) == 3
        if is_stack and tensor.shape[0] != len(of.counts):
            reason = f"the imatrix has {len(of.counts)} experts, expected {tensor.shape[0]}"
        elif not is_stack and expert is None and len(of.counts) != 1:
            reason = f"the imatrix has sums of {len(of.counts)} experts for it"
        elif expert is not None and expert >= len(of.counts):
            reason = f"the imatrix has {len(of.counts)} experts"
        elif not any(of.counts) or (not is_stack and not of.counts[expert or 0]):
            reason = "no token reached it"
        else:
            transposed = _is_transposed(name, tensor, tensors, columns, sums, formats)
            if transposed is None or tensor.shape[-2 if transposed else -1] != columns:
                reason = f"its shape {list(tensor.shape)} is not that of a weight for {columns} inputs"
                continue
            return _Weight(name, source, expert, is_stack, transposed)
    return reason


def _is_transposed(
    name: str, tensor: TensorReport, tensors: Mapping[str, TensorReport], columns: int, sums: Mapping[str, _Sums], formats: Mapping[str, frozenset[str]]
) -> bool | None:
    """Whether it is stored as (in, out); None where that cannot be told."""
    if (tensor.reason or "").startswith("Conv1D"):
        return True
    rows, last = tensor.shape[-2:]
    if len(tensor.shape) == 2 or rows != last:
        return len(tensor.shape) == 3 and last != columns
    # A square one is stored as what stands beside it.
    first = tensors.get(name.replace("down_proj", "gate_up_proj")) if name.endswith("down_proj") else None
    return None if first is None or first.shape[-1] == first.shape[-2] else first.shape[-2] == last


def _without_expert(module: str) -> tuple[str, int | None]:
    """llama.cpp has the experts of a layer in one tensor."""
    found = re.search(r"\.experts\.(\d+)\.", module)
    return (module, None) if found is None else (module[: found.start()] + ".experts." + module[found.end() :], int(found[1]))


def _candidates(module: str, formats: Mapping[str, frozenset[str]]) -> list[str]:
    found = re.search(r"(?<=\.)\d+(?=\.)", "." + module)
    block = found[0] if found else ""
    pattern = module if found is None else module[: found.start() - 1] + "{bid}" + module[found.end() - 1 :]
    bare = next((pattern.removeprefix(wrapper) for wrapper in _WRAPPERS if pattern.startswith(wrapper)), pattern)
    names: list[str] = []
    for known in dict.fromkeys([pattern, bare, "model." + bare, "transformer." + bare]):
        for form in sorted(formats.get(known, ())):
            kind = form.rpartition(".")[2]
            names += [form.removesuffix(kind) + each for each in (kind, *_PARTNERS.get(kind, ()))]
    return [name.format(bid=block) + ".weight" for name in names]


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


