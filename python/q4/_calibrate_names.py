"""Which tensors of the checkpoint the parameters of a model are made of: transformers renames and stacks some of them when it loads."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ._errors import Error
from ._jobs import plan

log = logging.getLogger("q4")


@dataclass(frozen=True)
class Stored:
    """A tensor of the checkpoint that a parameter is made of."""

    name: str
    expert: int | None
    """Which matrix of the parameter's stack it is; None: all of it."""
    flipped: bool
    """Whether it is stored with the last two dimensions the other way round than the parameter."""
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Checkpoint:
    """`shapes` of its tensors, and which of them q4convert quantizes by default; None where only names are known."""

    shapes: Mapping[str, tuple[int, ...] | None]
    quantized: tuple[str, ...] | None


def checkpoint_of(path: os.PathLike[str] | str) -> Checkpoint:
    """As q4convert sees it, whatever format it has."""
    found = plan(path, from_quantized=True, on_nonfinite="keep")
    # Of other folders are modules of sentence-transformers, which are not part of this model.
    return Checkpoint(
        {name: tuple(each.shape) for name, each in found.tensors.items() if "/" not in name}, tuple(name for name in found.quantized if "/" not in name)
    )


def checkpoint_beside(module: Any) -> Checkpoint | None:
    """Of a model in memory that tells where it was loaded from."""
    name = getattr(module, "name_or_path", None)
    if not isinstance(name, str) or not os.path.isdir(name) or not os.path.isfile(Path(name) / "config.json"):
        return None
    try:
        return checkpoint_of(name)
    except Error as error:
        log.info("calibrate: %s is not asked for names: %s", name, error)
        return None


def stored_names(module: Any, checkpoint: Checkpoint | None) -> tuple[dict[str, list[Stored]], dict[str, str]]:
    """By parameter of the module the tensors of the checkpoint, and by name those of which is not known how they become one. Without a
    checkpoint: those that ``save_pretrained`` writes, of other modules the state dict's."""
    is_transformers = _is_pretrained(module)
    own = {_bare(name): name for name in module.state_dict()}
    if not is_transformers:
        names = own if checkpoint is None else {name: own[name] for name in checkpoint.shapes if name in own}
        shapes = {} if checkpoint is None else checkpoint.shapes
        return {target: [Stored(name, None, False, shapes.get(name))] for name, target in names.items()}, {}
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key, revert_weight_conversion

    if checkpoint is None:
        # Of tied weights one is stored, under the name that they are tied to; an adapter is none of the model's.
        tied = getattr(module, "all_tied_weights_keys", None) or {}
        empty = {name: torch.empty_like(value, device="meta") for name, value in module.state_dict().items() if name not in tied and ".lora_" not in name}
        shapes = {name: tuple(value.shape) for name, value in revert_weight_conversion(module, {_bare(k): v for k, v in empty.items()}).items()}
    else:
        shapes = dict(checkpoint.shapes)
    conversions = get_model_conversion_mapping(module)
    renamings = [each for each in conversions if isinstance(each, WeightRenaming)]
    converters = [each for each in conversions if isinstance(each, WeightConverter)]
    slots: dict[str, dict[str | None, list[str]]] = {}
    used: dict[str, Any] = {}
    for name in sorted(shapes, key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, module.base_model_prefix, own)
        if target in own:
            slots.setdefault(own[target], {}).setdefault(pattern, []).append(name)
            used[name] = next((each for each in converters if pattern is not None and pattern in each.source_patterns), None)
    found: dict[str, list[Stored]] = {}
    unknown: dict[str, str] = {}
    for target, by_pattern in slots.items():
        for tensors in by_pattern.values():
            relation = _relation(used[tensors[0]], len(shapes[tensors[0]] or ()))
            if relation is None or (not relation[0] and len(tensors) > 1):
                unknown.update(dict.fromkeys(tensors, "transformers makes its parameter of several tensors in a way that is not known here"))
                continue
            merged, flipped = relation
            found.setdefault(target, []).extend(Stored(name, place if merged else None, flipped, shapes[name]) for place, name in enumerate(tensors))
    return found, unknown


def _relation(converter: Any, dimensions: int) -> tuple[bool, bool] | None:
    """(whether each tensor is one expert of a stack, whether the last two dimensions change places); None where it is another one. Which
    rows of a parameter a tensor becomes does not matter here: all are multiplied by the same input. `dimensions`: of a tensor."""
    merged = flipped = False
    for operation in () if converter is None else converter.operations:
        kind = type(operation).__name__
        if kind == "MergeModulelist" and operation.dim == 0:
            merged = True
        elif kind in ("Concatenate", "Chunk") and operation.dim in (dimensions + merged - 2, -2):
            pass
        elif kind == "Transpose" and not operation.check_dims and {operation.dim0, operation.dim1} in ({1, 2}, {-1, -2}):
            flipped = not flipped
        elif kind != "PermuteForRope":
            return None
    return merged, flipped


def _is_pretrained(module: Any) -> bool:
    return any(each.__name__ == "PreTrainedModel" for each in type(module).__mro__)


def _bare(name: str) -> str:
    """Without what PEFT puts around a layer."""
    return name.replace(".base_layer.", ".")
