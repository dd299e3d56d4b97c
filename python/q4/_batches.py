"""A batch that a model does not take, by its number: libraries say "index out of range in self", or nothing on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ._errors import Error, UsageError


def is_sentence_transformer(module: Any) -> bool:
    return any(each.__name__ == "SentenceTransformer" for each in type(module).__mro__)


def inner_model(module: Any) -> Any:
    """The model of transformers in one of PEFT or sentence-transformers."""
    if callable(getattr(module, "get_base_model", None)):
        return module.get_base_model()
    if is_sentence_transformer(module):
        return next((each for each in module.modules() if any(kind.__name__ == "PreTrainedModel" for kind in type(each).__mro__)), module)
    return module


@contextmanager
def batch_is_named(module: Any, batch: Mapping[str, torch.Tensor], number: int) -> Iterator[None]:
    """While the model runs on `batch`, the `number`-th. Raises UsageError where it has tokens that the model does not know, or the model
    refuses what it was given; other failures, of memory for example, go through."""
    inner = inner_model(module)
    config = getattr(inner, "config", None)
    known = _vocabulary(inner)
    _check_tokens(batch, number, "input_ids", known, config)
    decodes = bool(getattr(config, "is_encoder_decoder", False))
    if decodes:
        known = getattr(config, "decoder_vocab_size", None) or known
        _check_tokens(batch, number, "decoder_input_ids", known, config)
    if decodes or (callable(getattr(inner, "can_generate", None)) and inner.can_generate()):
        _check_tokens(batch, number, "labels", known, config)
    try:
        yield
    except Error:
        raise
    except (IndexError, KeyError, TypeError, ValueError) as error:
        has = ", ".join(f"{name} {tuple(value.shape)}" for name, value in batch.items())
        hint = "; an encoder-decoder takes input_ids and labels" if decodes and not {"labels", "decoder_input_ids"} & set(batch) else ""
        raise UsageError(
            f"batch {number} of inputs is none that {type(inner).__name__} takes: {type(error).__name__}: {' '.join(str(error).split())} (it has {has}){hint}", exit_code=1
        ) from error


def _check_tokens(batch: Mapping[str, torch.Tensor], number: int, name: str, known: int | None, config: Any) -> None:
    ids = batch.get(name)
    if known is None or ids is None or ids.ndim != 2 or ids.is_floating_point() or ids.dtype == torch.bool:
        return
    wrong = (ids < 0) | (ids >= known)
    if name == "labels":
        wrong &= ids != -100
    if not bool(wrong.any()):
        return
    # Some models put an image or a sound in the place of a token that has no embedding.
    special = [value for key, value in _members(config) if key.endswith(("_token_id", "_token_index")) and isinstance(value, int) and value >= known]
    for value in special:
        wrong &= ids != value
    places = wrong.nonzero()
    if len(places):
        row, token = (int(place) for place in places[0])
        raise UsageError(
            f"{name} of batch {number} have the id {int(ids[row, token])} in row {row}, token {token}, and {len(places) - 1} more like it: the model knows ids from 0 to "
            f"{known - 1} (a vocabulary of {known}); they are of another model's tokenizer{', or padding, which is -100 in labels' if name == 'labels' else ''}", exit_code=1,
        )  # fmt: skip


def _members(config: Any) -> Iterator[tuple[str, Any]]:
    """Of a configuration and those of its parts."""
    values = vars(config) if hasattr(config, "__dict__") else {}
    for key, value in values.items():
        if key.endswith("_config"):
            yield from _members(value)
        else:
            yield key, value


def _vocabulary(module: Any) -> int | None:
    try:
        table = module.get_input_embeddings()
    except (AttributeError, NotImplementedError, TypeError):
        return None
    size = getattr(table, "num_embeddings", None)
    return size if isinstance(size, int) else None
