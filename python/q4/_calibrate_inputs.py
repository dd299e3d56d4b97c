"""Inputs of a calibration: those of an evaluation, and tensors of token ids; texts in batches of sequences of one length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ._errors import UsageError
from ._evaluate_inputs import Inputs


class CalibrationInputs(Inputs):
    """Gone through several times."""

    def __init__(self, given: Any, batch_size: int, samples: int | None) -> None:
        if isinstance(given, torch.Tensor):
            raise UsageError("inputs are a list of tensors of token ids; of one make a list, [tensor]", exit_code=1)
        # Once for all passes: what can be gone through once only is kept.
        if not isinstance(given, (str, list, tuple, Mapping)) and hasattr(given, "__iter__") and iter(given) is given:
            given = list(given)
        if isinstance(given, (list, tuple)) and given and all(isinstance(item, torch.Tensor) for item in given):
            given = [{"input_ids": _sequences(item)} for item in given]
        is_batches = isinstance(given, (list, tuple)) and not all(isinstance(item, str) for item in given)
        super().__init__(_Cut(given, samples) if is_batches and samples is not None else given, batch_size)
        self._samples = samples
        self._is_cut = False

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        if self._sequences is None:
            yield from super().__iter__()
            return
        self._cut()
        # Sequences of the same length need no padding, which experts and convolutions would see.
        by_length: dict[int, list[list[int]]] = {}
        for sequence in self._sequences:
            by_length.setdefault(len(sequence), []).append(sequence)
        for _, sequences in sorted(by_length.items(), reverse=True):
            for begin in range(0, len(sequences), self._batch_size):
                ids = torch.tensor(sequences[begin : begin + self._batch_size], dtype=torch.int64)
                yield {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def _cut(self) -> None:
        if not self._is_cut and self._samples is not None and self._sequences is not None:
            # Spread over all texts, so that the last file counts as much as the first.
            count, all_of_them = min(self._samples, len(self._sequences)), self._sequences
            self._sequences = [all_of_them[place * len(all_of_them) // count] for place in range(count)]
            self.counts.sequences, self.counts.tokens = len(self._sequences), sum(map(len, self._sequences))
        self._is_cut = True


class _Cut:
    """The first of batches, as far as they hold so many sequences."""

    def __init__(self, batches: Any, samples: int) -> None:
        self._batches, self._samples = batches, samples

    def __iter__(self) -> Iterator[Any]:
        left = self._samples
        for batch in self._batches:
            if left <= 0:
                return
            sizes = [len(value) for value in batch.values() if hasattr(value, "__len__")] if isinstance(batch, Mapping) else []
            count = max(sizes, default=0)
            if count > left:
                batch = {key: value[:left] if hasattr(value, "__len__") and len(value) == count else value for key, value in batch.items()}
            left -= count
            yield batch


def _sequences(ids: torch.Tensor) -> torch.Tensor:
    if ids.ndim not in (1, 2) or ids.numel() == 0 or ids.is_floating_point():
        raise UsageError(
            f"inputs hold a tensor of {ids.dtype} and the shape {tuple(ids.shape)}; token ids are integers, (tokens) or (sequences, tokens); of other "
            "inputs make dicts, by the names of the model's arguments", exit_code=1,
        )  # fmt: skip
    return ids if ids.ndim == 2 else ids[None]
