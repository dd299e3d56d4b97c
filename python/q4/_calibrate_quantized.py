"""Models that are quantized already, of which no calibration is made: what goes into their layers is what a quantized model computes,
some kernels compute it anew each time, and their weights have names that no checkpoint has that would be converted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from ._batches import inner_model
from ._errors import UnsupportedError
from ._evaluate_layers import linear_layers

_KEYS = ("quantization_config", "compression_config", "quantization")
_CURES = {
    "bitsandbytes": "load it and call model.dequantize()",
    "mxfp4": "load it with quantization_config=Mxfp4Config(dequantize=True)",
    "fp8": "load it with quantization_config=FineGrainedFP8Config(dequantize=True)",
    "compressed-tensors": "load it with quantization_config=CompressedTensorsConfig(dequantize=True)",
}


def refuse_quantized_folder(folder: Path) -> None:
    """By its config.json; what else is wrong with that is for transformers to say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    found = _section(config)
    if found is not None:
        _refuse(f"{folder}: config.json", found, str(folder))


def refuse_quantized_module(module: torch.nn.Module) -> None:
    inner = inner_model(module)
    to_dict = getattr(getattr(inner, "config", None), "to_dict", None)
    found = _section(to_dict()) if callable(to_dict) else None
    if found is not None:  # transformers takes it away from one that it dequantizes
        _refuse("the model", found, None)
    for name, layer in linear_layers(module).items():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, torch.Tensor) and (not weight.is_floating_point() or weight.element_size() < 2):
            _refuse(f"the model: layer {name!r} holds {weight.dtype}", {"quant_method": type(layer).__name__}, None)


def _section(config: Any) -> Mapping[str, Any] | None:
    """What says how it is quantized, of the model or one of its parts."""
    if not isinstance(config, Mapping):
        return None
    for key in _KEYS:
        found = config.get(key)
        if isinstance(found, Mapping) and found:
            return found
    return next((part for key, value in config.items() if key.endswith("_config") and (part := _section(value)) is not None), None)


def _refuse(where: str, section: Mapping[str, Any], path: str | None) -> NoReturn:
    named = section.get("quant_method") or section.get("quant_type") or section.get("format") or "a method without a name"
    method = str(getattr(named, "value", named))  # in memory it is an enumeration
    bits = " in 4 bits" if section.get("load_in_4bit") or section.get("_load_in_4bit") else " in 8 bits" if section.get("load_in_8bit") or section.get("_load_in_8bit") else ""
    way = next((cure for name, cure in _CURES.items() if method.startswith(name)), "load it dequantized, where transformers can")
    raise UnsupportedError(
        f"{where}: is quantized already ({method}{bits}), and a calibration is of a model in 16 or 32 bits: give the checkpoint that it was made of. Where there "
        f"is none, {way}, and give q4.calibrate the model itself", exit_code=5, path=path,
    )  # fmt: skip
