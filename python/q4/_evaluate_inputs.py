"""Texts, files of text and batches as batches of tensors, and what identifies them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ._errors import FormatError, InputError, UsageError

_WHAT = "inputs are a list of texts, the path of a text file, or batches (dicts of tensors)"


@dataclass
class Counts:
    """Of what one pass over the inputs has seen."""

    kind: str
    digest: Any = field(default_factory=hashlib.sha256)
    sequences: int = 0
    tokens: int = 0
    truncated: int = 0


class Inputs:
    """Batches, as often as they are gone through; each pass counts anew, and finds inputs that have changed."""

    def __init__(self, given: Any, batch_size: int) -> None:
        self._given, self._batch_size = given, batch_size
        self.counts = Counts("batches")
        self._seen: str | None = None
        self._sequences: list[list[int]] | None = None
        self._padding = 0
        self._texts: list[str] | None = None
        if isinstance(given, (str, os.PathLike)):
            self.kind, self._texts = "file", [_text(os.fspath(given))]
        elif isinstance(given, Mapping) or not isinstance(given, Iterable):
            raise UsageError(f"{_WHAT}, not {type(given).__name__}", exit_code=1)
        elif isinstance(given, (list, tuple)) and given and all(isinstance(item, str) for item in given):
            self.kind, self._texts = "texts", list(given)
        else:
            self.kind = "batches"

    @property
    def are_texts(self) -> bool:
        return self._texts is not None

    def check_repeatable(self) -> None:
        if self.kind == "batches" and iter(self._given) is self._given:
            raise UsageError("inputs that can be gone through once only need sequential=False, or list(inputs)", exit_code=1)

    def tokenize(self, tokenizer: Any, predicts_next: bool, max_length: int, max_tokens: int | None) -> None:
        """Texts to sequences of tokens."""
        assert self._texts is not None
        texts = self._texts
        if self.kind == "file" and not predicts_next:
            texts = [line for line in texts[0].splitlines() if line.strip()]
        counts = Counts(self.kind)
        for text in self._texts:
            content = text.encode("utf-8", "surrogatepass")
            counts.digest.update(len(content).to_bytes(8, "little") + content)
        sequences: list[list[int]] = []
        left = max_tokens if max_tokens is not None else -1
        for text in texts:
            if left == 0:
                break
            ids = list(tokenizer(text, verbose=False)["input_ids"])
            if predicts_next:
                pieces = [ids[begin : begin + max_length] for begin in range(0, len(ids), max_length)]
            elif len(ids) > max_length:
                counts.truncated += 1
                pieces = [list(tokenizer(text, truncation=True, max_length=max_length, verbose=False)["input_ids"])]
            else:
                pieces = [ids]
            for piece in pieces:
                if left > 0 and len(piece) > left:
                    piece = piece[:left]
                # Of one token nothing is predicted.
                if len(piece) > (1 if predicts_next else 0) and left != 0:
                    sequences.append(piece)
                    left -= len(piece) if left > 0 else 0
        if not sequences:
            raise UsageError("inputs hold no text that gives a prediction", exit_code=1)
        counts.sequences, counts.tokens = len(sequences), sum(map(len, sequences))
        self.counts, self._sequences = counts, sequences
        padding = getattr(tokenizer, "pad_token_id", None)
        self._padding = padding if padding is not None else (getattr(tokenizer, "eos_token_id", None) or 0)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        if self._sequences is not None:
            for begin in range(0, len(self._sequences), self._batch_size):
                yield _padded(self._sequences[begin : begin + self._batch_size], self._padding)
            return
        counts = Counts("batches")
        for number, batch in enumerate(self._given, 1):
            yield _checked(batch, number, counts)
        if not counts.sequences:
            raise UsageError(f"inputs are empty: {_WHAT}", exit_code=1)
        seen = counts.digest.hexdigest()
        if self._seen is not None and self._seen != seen:
            raise UsageError("inputs gave other batches when they were gone through again; give a list", exit_code=1)
        self._seen, self.counts = seen, counts

    def json(self) -> dict[str, Any]:
        counts = self.counts
        return {
            "kind": counts.kind, "sha256": counts.digest.hexdigest(), "sequences": counts.sequences, "tokens": counts.tokens,
            "truncated": counts.truncated,
        }  # fmt: skip


def _text(path: str) -> str:
    if not os.path.isfile(path):
        raise UsageError(f"{path!r} is no file: {_WHAT}; of one text make a list, [text]", exit_code=1, path=path)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is no text in UTF-8 (byte {error.start})", exit_code=3, path=path) from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", exit_code=2, path=path) from error


def _padded(sequences: list[list[int]], padding: int) -> dict[str, torch.Tensor]:
    """On the right, and masked."""
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), padding, dtype=torch.int64)
    mask = torch.zeros((len(sequences), width), dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
        mask[row, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _checked(batch: Any, number: int, counts: Counts) -> dict[str, torch.Tensor]:
    if not isinstance(batch, Mapping) or not batch:
        raise UsageError(f"{_WHAT}; number {number} is {type(batch).__name__}", exit_code=1)
    tensors: dict[str, torch.Tensor] = {}
    for key in sorted(batch):
        try:
            tensors[key] = torch.as_tensor(batch[key])
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"{_WHAT}; {key!r} of batch {number} is no tensor: {error}", exit_code=1) from error
        value = tensors[key].detach().cpu().contiguous()
        counts.digest.update(f"{key}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        counts.digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    first = next((tensors[key] for key in ("input_ids", "attention_mask") if key in tensors), next(iter(tensors.values())))
    if first.ndim == 0 or first.shape[0] == 0:
        raise UsageError(f"batch {number} of inputs is empty, or has no dimension for its sequences", exit_code=1)
    if "input_ids" in tensors and (tensors["input_ids"].ndim != 2 or not tensors["input_ids"].numel()):
        raise UsageError(f"input_ids of batch {number} have the shape {tuple(tensors['input_ids'].shape)}, expected (sequences, tokens), one at least", exit_code=1)
    mask = tensors.get("attention_mask")
    if mask is not None and "input_ids" in tensors and mask.ndim == 2 and mask.shape != tensors["input_ids"].shape:
        raise UsageError(f"attention_mask of batch {number} has the shape {tuple(mask.shape)}, expected that of input_ids", exit_code=1)
    if mask is not None and mask.ndim == 2 and not bool(mask.any()):
        raise UsageError(f"attention_mask of batch {number} is zero everywhere: none of its {mask.numel()} tokens would count; leave the batch out, or mark real tokens with 1", exit_code=1)
    counts.sequences += first.shape[0]
    if "input_ids" in tensors:
        counts.tokens += int(mask.sum()) if mask is not None and mask.ndim == 2 else tensors["input_ids"].numel()
    return tensors


