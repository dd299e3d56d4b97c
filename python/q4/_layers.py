"""Layers of bitsandbytes in a model that is about to be loaded, without the second making of each layer.

transformers makes a ``Linear4bit`` for each linear layer, with a weight that is about to be replaced, and puts it in that layer's place, which
takes longer than making the model. Here a layer becomes one where it stands: it gets the class and the attributes of one that
transformers' own function made, whatever this version of it and of bitsandbytes set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# What an attribute that layers share may be: nothing of a layer's own.
_PLAIN = (bool, int, float, str, type, torch.dtype, type(None))


@contextmanager
def in_place(quantizer: Any) -> Iterator[None]:
    """Inside, a quantizer of bitsandbytes in 4 bits makes its layers so, if it makes them as those that this knows do."""
    from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

    pattern = _pattern(quantizer) if type(quantizer) is Bnb4BitHfQuantizer else None
    if pattern is None:
        yield
        return

    def make(model: Any, device_map: Any = None, **_: Any) -> None:
        skipped = quantizer.get_modules_to_not_convert(model, quantizer.quantization_config.llm_int8_skip_modules, model._keep_in_fp32_modules)
        quantizer.modules_to_not_convert = skipped
        _make(quantizer, model, skipped, pattern)

    # On this object alone: other threads' quantizers have the method of their class.
    quantizer._process_model_before_weight_loading = make
    try:
        yield
    finally:
        del quantizer._process_model_before_weight_loading


def _pattern(quantizer: Any) -> tuple[type, dict[str, Any]] | None:
    """The class and the attributes that a linear layer gets."""
    from transformers.integrations import replace_with_bnb_linear

    if quantizer.quantization_config.llm_int8_enable_fp32_cpu_offload:
        return None
    with torch.device("meta"):
        sample = torch.nn.Sequential(torch.nn.Linear(64, 64))
        before = vars(sample[0]).keys()
        replace_with_bnb_linear(sample, modules_to_not_convert=[], quantization_config=quantizer.quantization_config, pre_quantized=True)
    made = sample[0]
    added = {key: value for key, value in vars(made).items() if key not in before}
    if not isinstance(made, torch.nn.Linear) or not before <= vars(made).keys() or not all(isinstance(value, _PLAIN) for value in added.values()):
        return None
    return type(made), added


def _make(quantizer: Any, model: Any, skipped: Any, pattern: tuple[type, dict[str, Any]]) -> None:
    from transformers.integrations import replace_with_bnb_linear
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.quantizers_utils import should_convert_module

    layers = [(name, module) for name, module in model.named_modules(remove_duplicate=False) if type(module) in (torch.nn.Linear, Conv1D)]
    wanted = [module for name, module in layers if type(module) is torch.nn.Linear and should_convert_module(name, skipped)]
    # One that has two names becomes a layer of its own under one of them.
    if len({id(module) for _, module in layers}) == len(layers):
        kind, added = pattern
        for module in wanted:
            module.__dict__.update(added)
            module.__class__ = kind
        if wanted and all(type(module) is not Conv1D for _, module in layers):
            return
    # What is left, which may be nothing, of which it says a word.
    replace_with_bnb_linear(model, modules_to_not_convert=skipped, quantization_config=quantizer.quantization_config, pre_quantized=True)
