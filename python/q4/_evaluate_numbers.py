"""The numbers of an evaluation (docs/evaluate.md has their formulas): per prediction in float64, sums exactly rounded."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence

import torch

# Elements that are widened to float64 at a time: 8 MiB a copy, whatever the vocabulary and the batch.
_CHUNK = 1 << 20
_LEAST_SEQUENCES = 10  # for an interval


class PredictionNumbers:
    """Adds up over batches. Holds 8 bytes for each prediction, and three numbers for each sequence."""

    def __init__(self) -> None:
        self._kl = array("d")
        self._same = 0
        self._sequences: list[tuple[int, float, float]] = []  # predictions, sums of -log p of original and quantized

    def add(self, original: torch.Tensor, quantized: torch.Tensor, targets: torch.Tensor | None, sequences: torch.Tensor) -> None:
        """`original`, `quantized`: (n, vocabulary), a row for each prediction; `targets`: (n), what was right; `sequences`: (n), which
        sequence of the batch a row belongs to, in order."""
        rows = max(1, _CHUNK // max(1, original.shape[1]))
        losses: dict[int, tuple[list[float], list[float]]] = {}
        for begin in range(0, original.shape[0], rows):
            other = quantized[begin : begin + rows].double()
            wide = original[begin : begin + rows].to(other.device).double()
            log_p = wide - wide.logsumexp(-1, keepdim=True)
            log_q = other - other.logsumexp(-1, keepdim=True)
            p = log_p.exp()
            # What has no probability adds nothing, also where both are masked out; NaN stays.
            kl = torch.where(p == 0, 0.0, p * (log_p - log_q)).sum(-1).clamp(min=0)
            self._kl.extend(kl.tolist())
            self._same += int((wide.argmax(-1) == other.argmax(-1)).sum())
            if targets is None:
                continue
            right = targets[begin : begin + rows].to(other.device)[:, None]
            for sequence, a, b in zip(
                sequences[begin : begin + rows].tolist(), (-log_p.gather(1, right)[:, 0]).tolist(), (-log_q.gather(1, right)[:, 0]).tolist()
            ):
                mine, theirs = losses.setdefault(sequence, ([], []))
                mine.append(a)
                theirs.append(b)
        self._sequences += [(len(mine), _sum(mine), _sum(theirs)) for mine, theirs in losses.values()]

    @property
    def compared(self) -> int:
        return len(self._kl)

    def numbers(self, bootstrap: int, seed: int) -> dict[str, float | None]:
        values = sorted(self._kl) if all(map(math.isfinite, self._kl)) else None
        found: dict[str, float | None] = {
            "kl_mean": _sum(self._kl) / len(self._kl),
            "kl_median": quantile(values, 0.5) if values else None,
            "kl_p99": quantile(values, 0.99) if values else None,
            "kl_max": values[-1] if values else None,
            "top1_agreement": self._same / len(self._kl),
        }
        if self._sequences:
            count = sum(n for n, _, _ in self._sequences)
            first, second = _sum([a for _, a, _ in self._sequences]) / count, _sum([b for _, _, b in self._sequences]) / count
            found |= {"perplexity_original": _exp(first), "perplexity_quantized": _exp(second), "perplexity_ratio": _exp(second - first)}
            if bootstrap and len(self._sequences) >= _LEAST_SEQUENCES:
                low, high = self._interval(bootstrap, seed)
                found |= {"perplexity_ratio_low": low, "perplexity_ratio_high": high}
        return {name: finite(value) for name, value in found.items()}

    def _interval(self, bootstrap: int, seed: int) -> tuple[float | None, float | None]:
        counts = [n for n, _, _ in self._sequences]
        differences = [b - a for _, a, b in self._sequences]
        if not all(map(math.isfinite, differences)):
            return None, None
        drawn = random.Random(seed)
        size = len(counts)
        ratios = []
        for _ in range(bootstrap):
            sample = [int(drawn.random() * size) for _ in range(size)]
            ratios.append(math.fsum([differences[i] for i in sample]) / sum([counts[i] for i in sample]))
        ratios.sort()
        return _exp(quantile(ratios, 0.025)), _exp(quantile(ratios, 0.975))


class EmbeddingNumbers:
    """The cosine of each pair of embeddings."""

    def __init__(self) -> None:
        self._cosines = array("d")

    def add(self, original: torch.Tensor, quantized: torch.Tensor) -> None:
        """Both (sequences, dimensions)."""
        a, b = original.to(quantized.device).double(), quantized.double()
        # 0/0 of an embedding of zeros is NaN: it has no direction.
        cosine = (a * b).sum(-1) / ((a * a).sum(-1).sqrt() * (b * b).sum(-1).sqrt())
        self._cosines.extend(cosine.clamp(-1, 1).tolist())

    @property
    def compared(self) -> int:
        return len(self._cosines)

    def numbers(self) -> dict[str, float | None]:
        is_finite = all(map(math.isfinite, self._cosines))
        return {
            "cosine_mean": _sum(self._cosines) / len(self._cosines) if is_finite else None,
            "cosine_min": min(self._cosines) if is_finite else None,
        }


def quantile(values: Sequence[float], share: float) -> float:
    """Of values in ascending order, between the two nearest by their distance (NumPy's default)."""
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _sum(values: Sequence[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # infinities
        return math.nan


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
