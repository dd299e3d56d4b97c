"""The passes of q4.evaluate: all models side by side, or one after the other with what the original gave in a file between."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from . import _core
from ._errors import FormatError, UnsupportedError, UsageError
from ._evaluate_inputs import Inputs
from ._evaluate_layers import LayerErrors, Place, Probe, Store, linear_layers, numbers_of
from ._evaluate_models import LoadOptions, Observed, Side, prepared
from ._evaluate_numbers import EmbeddingNumbers, PredictionNumbers
from ._evaluation import DOCUMENT, VERSION, Evaluation
from ._model import Model
from ._words import StrPath

log = logging.getLogger("q4")


@dataclass(frozen=True)
class Options:
    """The arguments of q4.evaluate of the same names."""

    tokenizer: Any
    max_length: int | None
    max_tokens: int | None
    batch_size: int
    layer_rows: int
    bootstrap: int
    seed: int
    device: Any
    dtype: Any
    cls: Any
    code: StrPath | None
    sequential: bool
    scratch: StrPath | None

    def check(self) -> None:
        for name, least in (("max_length", 2), ("max_tokens", 2), ("batch_size", 1), ("layer_rows", 0), ("bootstrap", 0)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise UsageError(f"{name}={value!r}: expected an integer of at least {least}", exit_code=1)


class _Rows(NamedTuple):
    """What of a batch is compared."""

    kind: str
    values: torch.Tensor  # (n, classes) or (n, dimensions)
    targets: torch.Tensor | None  # (n)
    sequences: torch.Tensor  # (n), which of the batch


def run(original: Any, quantized: Any, given: Any, options: Options) -> Evaluation:
    options.check()
    named = dict(quantized) if isinstance(quantized, Mapping) and not isinstance(quantized, Model) else {"quantized": quantized}
    if not named or not all(isinstance(name, str) and name for name in named):
        raise UsageError("quantized is a model, or a dict of models by name with one at least", exit_code=1)
    load = LoadOptions(options.device, options.dtype, options.cls, options.code)
    first = Side(original, "original", load)
    sides = [Side(model, name, load) for name, model in named.items()]
    inputs = Inputs(given, options.batch_size)
    if options.sequential:
        inputs.check_repeatable()
    # Before anything runs: what a model is, and not what a library made of it at its first pass.
    facts = [side.facts() for side in (first, *sides)]
    results = [_Result(side) for side in sides]
    pass_ = _Pass(first, results, inputs, options)
    if options.sequential:
        pass_.one_after_the_other()
    else:
        pass_.side_by_side()
    return Evaluation(_document(facts, results, inputs, pass_, options))


class _Result:
    """The sums of one quantized model."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.predictions, self.embeddings, self.layers = PredictionNumbers(), EmbeddingNumbers(), LayerErrors()
        self.linear: dict[str, torch.nn.Module] = {}

    def begin(self) -> None:
        self.linear = linear_layers(self.side.module)

    def end(self) -> None:
        self.linear = {}

    def add(self, number: int, rows: _Rows, batch: Mapping[str, torch.Tensor], predicts_next: bool) -> None:
        """One batch: `rows` are the original's."""
        mine = _rows_of(self.side, self.side.forward(batch, number), batch, number, predicts_next)
        if mine.kind != rows.kind or mine.values.shape != rows.values.shape:
            raise FormatError(
                f"{self.side.name}: gives {mine.kind} of the shape {tuple(mine.values.shape)}, the original {rows.kind} of {tuple(rows.values.shape)}: "
                "they are no models of the same kind", exit_code=3,
            )  # fmt: skip
        if rows.kind == "logits":
            self.predictions.add(rows.values, mine.values, rows.targets, rows.sequences)
        else:
            self.embeddings.add(rows.values, mine.values)

    @property
    def compared(self) -> int:
        return self.predictions.compared + self.embeddings.compared


class _Pass:
    def __init__(self, first: Side, results: list[_Result], inputs: Inputs, options: Options) -> None:
        self._first, self._results, self._inputs, self._options = first, results, inputs, options
        self._predicts_next = False
        self.max_length: int | None = None
        self.order: list[str] = []
        self.task = ""

    def side_by_side(self) -> None:
        def sink(name: str, given: torch.Tensor, gave: torch.Tensor) -> None:
            for result in self._results:
                result.layers.add(result.linear, name, given, gave)

        with contextlib.ExitStack() as stack:
            stack.enter_context(self._first.loaded())
            for result in self._results:
                stack.enter_context(result.side.loaded())
                result.begin()

            def use(number: int, rows: _Rows, batch: Mapping[str, torch.Tensor]) -> None:
                for result in self._results:
                    result.add(number, rows, batch, self._predicts_next)

            self._watch_original(sink, use)
            for result in self._results:
                result.end()

    def one_after_the_other(self) -> None:
        with Store(self._options.scratch) as store:
            kept_rows: list[tuple[str, Place, Place | None, Place]] = []
            kept_layers: list[tuple[str, Place, Place]] = []

            def keep(_: int, rows: _Rows, __: Mapping[str, torch.Tensor]) -> None:
                kept_rows.append((rows.kind, store.put(rows.values), None if rows.targets is None else store.put(rows.targets), store.put(rows.sequences)))

            with self._first.loaded():
                self._watch_original(lambda name, given, gave: kept_layers.append((name, store.put(given), store.put(gave))), keep)
            for result in self._results:
                with result.side.loaded():
                    result.begin()
                    for number, (batch, (kind, values, targets, sequences)) in enumerate(zip(self._inputs, kept_rows, strict=True), 1):
                        rows = _Rows(kind, store.get(values), None if targets is None else store.get(targets), store.get(sequences))
                        result.add(number, rows, batch, self._predicts_next)
                    for name, given, gave in kept_layers:
                        result.layers.add(result.linear, name, store.get(given), store.get(gave))
                    result.end()

    def _watch_original(
        self, sink: Callable[[str, torch.Tensor, torch.Tensor], None], use: Callable[[int, _Rows, Mapping[str, torch.Tensor]], object]
    ) -> None:
        """One pass of the original over all inputs; `use` gets what it gave of each batch."""
        self._prepare()
        probe = Probe(self._first.module, self._options.layer_rows, sink)
        self.order = list(linear_layers(self._first.module))
        for number, batch in enumerate(self._inputs, 1):
            probe.begin(batch.get("attention_mask"))
            with probe.watching():
                observed = self._first.forward(batch, number)
            rows = _rows_of(self._first, observed, batch, number, self._predicts_next)
            del observed
            self.task = "embedding" if rows.kind == "embedding" else "causal_lm" if self._predicts_next else "logits"
            log.debug("evaluate: batch %d, %d rows", number, len(rows.values))
            use(number, rows, batch)

    def _prepare(self) -> None:
        self._predicts_next = self._first.predicts_next
        if not self._inputs.are_texts:
            return
        tokenizer, self.max_length = prepared(self._first, self._options.tokenizer, self._options.max_length)
        self._inputs.tokenize(tokenizer, self._predicts_next, self.max_length, self._options.max_tokens)


def _rows_of(side: Side, observed: Observed, batch: Mapping[str, torch.Tensor], number: int, predicts_next: bool) -> _Rows:
    values = observed.values
    if observed.kind == "embedding" or values.ndim == 2:
        return _Rows(observed.kind, values, None, torch.arange(len(values)))
    keep, targets = _positions(side, batch, number, (values.shape[0], values.shape[1]), predicts_next)
    sequences, tokens = keep.nonzero(as_tuple=True)
    chosen = values[sequences.to(values.device), tokens.to(values.device)]
    return _Rows("logits", chosen, None if targets is None else targets[sequences, tokens], sequences)


def _positions(
    side: Side, batch: Mapping[str, torch.Tensor], number: int, shape: tuple[int, int], predicts_next: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Which (sequence, token) are compared, and what is right there where that is known."""
    labels, mask, ids = batch.get("labels"), batch.get("attention_mask"), batch.get("input_ids")
    decodes = getattr(getattr(side.module, "config", None), "is_encoder_decoder", False)
    if labels is not None and tuple(labels.shape) != shape and (predicts_next or decodes):
        raise UsageError(f"labels of batch {number} have the shape {tuple(labels.shape)}, the predictions {shape}", exit_code=1)
    if not predicts_next:
        if labels is not None and tuple(labels.shape) == shape:
            return labels.cpu() != -100, labels.cpu().clamp(min=0) if decodes else None
        if mask is not None and tuple(mask.shape) == shape and not decodes:
            return mask.cpu().bool(), None
        return torch.ones(shape, dtype=torch.bool), None
    if ids is None or tuple(ids.shape) != shape:
        if labels is None:
            raise UnsupportedError(f"{side.name}: predicts {shape} tokens of batch {number}, whose input_ids are of another shape; give labels", exit_code=5)
        ids = labels
    right = (labels if labels is not None else ids).cpu()
    # The prediction at a token is of the next one, which must be real and be asked for.
    keep = torch.zeros(shape, dtype=torch.bool)
    keep[:, :-1] = right[:, 1:] != -100
    if mask is not None and tuple(mask.shape) == shape:
        keep[:, :-1] &= mask.cpu()[:, 1:].bool() & mask.cpu()[:, :-1].bool()
    targets = torch.zeros(shape, dtype=torch.int64)
    targets[:, :-1] = right[:, 1:].clamp(min=0)
    return keep, targets


def _document(facts: list[dict[str, Any]], results: list[_Result], inputs: Inputs, pass_: _Pass, options: Options) -> str:
    models = []
    for result, known in zip(results, facts[1:]):
        if result.compared == 0:
            raise UsageError("inputs hold nothing that is predicted: every label is -100, or no sequence has two tokens", exit_code=1)
        numbers = result.embeddings.numbers() if pass_.task == "embedding" else result.predictions.numbers(options.bootstrap, options.seed)
        layers = result.layers.json(pass_.order)
        if result.layers.lacks:
            log.warning(
                "evaluate: %s has no module for %d of the original's linear layers, whose error is not measured, such as %r",
                result.side.name, len(result.layers.lacks), result.layers.lacks[0],
            )  # fmt: skip
        models.append({**known, "numbers": {**numbers, **numbers_of(layers)}, "layers": layers})
    document = {
        "document": DOCUMENT,
        "version": VERSION,
        "tool_version": _core.version,
        "task": pass_.task,
        "settings": {
            "max_length": pass_.max_length, "max_tokens": options.max_tokens, "batch_size": options.batch_size if inputs.are_texts else None,
            "layer_rows": options.layer_rows, "bootstrap": options.bootstrap, "seed": options.seed, "dtype": str(options.dtype).removeprefix("torch."),
        },
        "inputs": {**inputs.json(), "compared": results[0].compared},
        "original": facts[0],
        "models": models,
    }  # fmt: skip
    return json.dumps(document, indent=1, allow_nan=False) + "\n"
