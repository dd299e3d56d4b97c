"""What an evaluation found: the document that q4verify --evaluation reads, and a table of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ._errors import UsageError
from ._reports import Document, Json
from ._words import StrPath

DOCUMENT = "q4-evaluation"
VERSION = 1

# In the order of the table: name of the number, what the table calls it, how it is written.
_ROWS = (
    ("kl_mean", "KL divergence, mean (nats)", ".6f"),
    ("kl_median", "KL divergence, median", ".6f"),
    ("kl_p99", "KL divergence, 99th percentile", ".6f"),
    ("kl_max", "KL divergence, largest", ".6f"),
    ("top1_agreement", "same most likely token", ".4%"),
    ("perplexity_original", "perplexity of the original", ".4f"),
    ("perplexity_quantized", "perplexity", ".4f"),
    ("perplexity_ratio", "perplexity, ratio", ".6f"),
    ("perplexity_ratio_low", "  95 % interval, from", ".6f"),
    ("perplexity_ratio_high", "  95 % interval, to", ".6f"),
    ("cosine_mean", "cosine of embeddings, mean", ".6f"),
    ("cosine_min", "cosine of embeddings, least", ".6f"),
    ("layer_error_mean", "error of layers' outputs, mean", ".6f"),
    ("layer_error_median", "error of layers' outputs, median", ".6f"),
    ("layer_error_max", "error of layers' outputs, largest", ".6f"),
)

_WORST = 5


@dataclass(frozen=True)
class LayerError:
    """How far the output of one linear layer is off, for the inputs that it has in the original."""

    name: str
    """Of the module, as in ``named_modules()``."""
    rows: int
    """Input vectors that it was measured on."""
    relative_error: float | None
    """Sum of squared differences of outputs by the sum of squares of the original's; None where it does not exist."""


class Evaluation(Document):
    """What :func:`q4.evaluate` found (docs/schema/evaluation.schema.json, docs/evaluate.md): a mapping-like view of each model that
    was held against the original, under the names that the caller gave. ``print()`` shows a table."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models, in the order given."""
        return tuple(model["name"] for model in self.json["models"])

    @property
    def numbers(self) -> Mapping[str, Mapping[str, float | None]]:
        """By model and name of the number (docs/evaluate.md defines them). None: infinite, or it does not exist."""
        return MappingProxyType({model["name"]: MappingProxyType(dict(model["numbers"])) for model in self.json["models"]})

    def __getitem__(self, name: str) -> Mapping[str, float | None]:
        return self.numbers[name]

    def layers(self, name: str | None = None) -> tuple[LayerError, ...]:
        """The linear layers of a model, in the order of the model. ``name`` may be left out where there is one."""
        return tuple(LayerError(layer["name"], layer["rows"], layer["relative_error"]) for layer in self._model(name)["layers"])

    def worst_layers(self, name: str | None = None, count: int = _WORST) -> tuple[LayerError, ...]:
        """Those whose outputs are farthest off, the worst first; one whose error does not exist is the worst."""
        return tuple(sorted(self.layers(name), key=lambda layer: -(float("inf") if layer.relative_error is None else layer.relative_error))[:count])

    def save(self, path: StrPath) -> Path:
        """Writes the document, for ``q4verify --evaluation``. Replaces nothing but an earlier evaluation."""
        target = Path(path)
        if target.exists() and not _is_evaluation(target):
            raise UsageError(f"{target}: exists and is no evaluation by q4, so that it is not replaced; choose another name", exit_code=1, path=str(target))
        partial = target.with_name(target.name + ".partial")
        try:
            with open(partial, "x", encoding="utf-8") as file:
                file.write(self.to_json())
        except FileExistsError as error:
            raise UsageError(f"{partial}: exists; a save that was interrupted may have left it: remove it", exit_code=1, path=str(partial)) from error
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        os.replace(partial, target)
        return target

    def _model(self, name: str | None) -> Json:
        if name is None:
            if len(self.names) != 1:
                raise UsageError(f"the evaluation is of several models; name one of {', '.join(map(repr, self.names))}", exit_code=1)
            name = self.names[0]
        for model in self.json["models"]:
            if model["name"] == name:
                found: Json = model
                return found
        raise KeyError(name)

    def __str__(self) -> str:
        inputs, models = self.json["inputs"], self.json["models"]
        what = "tokens predicted" if self.json["task"] == "causal_lm" else "embeddings" if self.json["task"] == "embedding" else "predictions"
        lines = [
            f"original: {self.json['original']['path'] or 'a model in memory'}",
            f"inputs:   {inputs['sequences']} sequences, {inputs['tokens']} tokens, {inputs['compared']} {what}"
            + (f"; {inputs['truncated']} texts were cut at {self.json['settings']['max_length']} tokens" if inputs["truncated"] else ""),
            "",
        ]
        cells = [[""] + [model["name"] for model in models]]
        for key, title, form in _ROWS:
            if any(key in model["numbers"] for model in models):
                cells.append([title] + [_written(model["numbers"], key, form) for model in models])
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        for row in cells:
            lines.append(row[0].ljust(widths[0]) + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:])))
        for model in models:
            worst = self.worst_layers(model["name"])
            if worst:
                lines += ["", f"worst layers of {model['name']}:"]
                lines += [f"  {'-' if layer.relative_error is None else format(layer.relative_error, '.6f'):>10}  {layer.name}" for layer in worst]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<q4.Evaluation of {', '.join(self.names)}: {self.json['inputs']['compared']} {self.json['task']}>"


def _written(numbers: Mapping[str, float | None], key: str, form: str) -> str:
    if key not in numbers:
        return ""
    value = numbers[key]
    return "-" if value is None else format(value, form)


def _is_evaluation(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            head = json.loads(file.read(1 << 26))
    except (OSError, ValueError):
        return False
    return isinstance(head, dict) and head.get("document") == DOCUMENT
