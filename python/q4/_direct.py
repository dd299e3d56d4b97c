"""The short way to a model, for checkpoints that have the names of its parameters, as most have.

``from_pretrained`` compiles the renamings of all models that transformers knows, and asks each of a checkpoint's keys for its own,
which takes longer than all the rest. Where every key is a parameter's name there is nothing to rename, and the values are set at once.
What makes modules, quantizes layers, fills buffers, ties weights and generates is transformers' own, in the order of
``PreTrainedModel.from_pretrained``. Its inner functions may change with any version: so this way is taken only with those that the tests
compare bit for bit, and the long way leads to the same model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from . import _layers
from ._placement import DTYPES, LazyTensors, Outlined

TESTED = ("5.17.", "5.23.")
"""Beginnings of version numbers."""


def may_load(tensors: list[Outlined]) -> bool:
    """What can be told before anything is made. Of experts one conversion changes values and no name."""
    return transformers.__version__.startswith(TESTED) and not any(tensor.expert for tensor in tensors)


def load(
    model_class: Any, config: Any, tensors: list[Outlined], state: LazyTensors, device: torch.device, dtype: Any, generation: Any,
    attn_implementation: str | None,
) -> tuple[PreTrainedModel, dict[str, Any]] | None:  # fmt: skip
    """The model, all of it on `device`, and what ``from_pretrained`` says of its keys; None where it needs the long way. `state` has
    `tensors`, on that device, and may_load() says yes of them; it may be asked for them on the long way too."""
    from transformers import initialization, modeling_utils
    from transformers.integrations import is_deepspeed_zero3_enabled
    from transformers.utils.generic import ContextManagers

    if is_deepspeed_zero3_enabled() or getattr(config, "fusion_config", None) is not None:
        return None
    weights: dict[str, list[Outlined]] = {}
    for tensor in tensors:
        weights.setdefault(tensor.source if tensor.in_4bit else tensor.name, []).append(tensor)
    devices = {"": "cpu" if device.type == "cpu" else device}
    config = copy.deepcopy(config)
    if attn_implementation is not None:
        config._attn_implementation = attn_implementation
    quantizer, config, _ = modeling_utils.get_hf_quantizer(config, None, devices, True, {})
    values: Any = state  # a mapping, where transformers says dict
    config, dtype = modeling_utils._get_dtype(dtype, None, config, None, values, True, quantizer)
    # No value is made up on the way: each comes from the container, or from what is called last.
    contexts = [*model_class.get_init_context(dtype, quantizer is not None, False, False), initialization.no_init_weights()]
    with ContextManagers(contexts):
        model = model_class(config)
        modeling_utils.patch_output_recorders(model)
        if quantizer is not None:
            with _layers.in_place(quantizer):
                quantizer.preprocess_model(model=model, dtype=dtype, device_map=devices, checkpoint_files=None, use_kernels=False)
    if model._get_dtype_plan(dtype):
        return None
    modules = dict(model.named_modules(remove_duplicate=False))
    slots = _slots(model, modules)
    if not _fits(model, modules, slots, weights):
        return None
    # While their values may still be on the way.
    state.prepare()
    info = _set(modules, slots, weights, state)
    model._weight_conversions = []
    state.load()
    settings = modeling_utils.LoadStateDictConfig(
        ignore_mismatched_sizes=True, device_map=devices, dtype=dtype, hf_quantizer=quantizer, weight_mapping=[], download_kwargs={}
    )
    info = model_class._finalize_model_loading(model, settings, info)
    model.eval()
    model.set_use_kernels(False, None)
    if model.can_generate() and generation is not None:
        model.generation_config = model.generation_config.from_dict(generation.to_dict())
    if quantizer is not None:
        model.hf_quantizer = quantizer
        quantizer.postprocess_model(model)
    return model, info.to_dict()


def _slots(model: Any, modules: Mapping[str, Any]) -> dict[str, Any]:
    """What ``model.state_dict()`` has, which asks modules in 4 bits for more than that."""
    from bitsandbytes.nn import Linear4bit

    slots: dict[str, Any] = {}
    for name, module in modules.items():
        kind = type(module)
        of_its_own = kind._save_to_state_dict not in (torch.nn.Module._save_to_state_dict, Linear4bit._save_to_state_dict)
        if of_its_own or kind.get_extra_state is not torch.nn.Module.get_extra_state or module._state_dict_hooks or module._state_dict_pre_hooks:
            return dict(model.state_dict())
        prefix = name + "." if name else ""
        unsaved = module._non_persistent_buffers_set
        slots.update((prefix + leaf, tensor) for leaf, tensor in module._parameters.items() if tensor is not None)
        slots.update((prefix + leaf, tensor) for leaf, tensor in module._buffers.items() if tensor is not None and leaf not in unsaved)
    return slots


def _fits(model: Any, modules: Mapping[str, Any], slots: Mapping[str, Any], weights: Mapping[str, list[Outlined]]) -> bool:
    """Whether each key is that of a parameter or buffer of its kind, and parameters without a key are tied to one that has one."""
    from bitsandbytes.nn import Linear4bit

    if not weights.keys() <= slots.keys() or not slots.keys() - weights.keys() <= set(getattr(model, "all_tied_weights_keys", None) or ()):
        return False
    for name, parts in weights.items():
        owner, _, leaf = name.rpartition(".")
        module = modules.get(owner)
        if module is None or (leaf not in module._parameters and leaf not in module._buffers):
            return False
        is_4bit = leaf == "weight" and isinstance(module, Linear4bit)
        if is_4bit != parts[0].in_4bit:
            return False
        if not is_4bit and (parts[0].shape != slots[name].shape or DTYPES[parts[0].dtype] != slots[name].dtype):
            return False
    return True


def _set(modules: Mapping[str, Any], slots: Mapping[str, Any], weights: Mapping[str, list[Outlined]], state: LazyTensors) -> Any:
    """What ``convert_and_load_state_dict_in_model`` and ``set_param_for_module`` do where nothing is converted and everything fits."""
    from transformers.utils.loading_report import LoadStateDictInfo

    from .torch import weight_of

    for name, parts in weights.items():
        owner, _, leaf = name.rpartition(".")
        module = modules[owner]
        value: Any
        if parts[0].in_4bit:
            value = weight_of(parts, state, name, module, early=True)
            module._is_hf_initialized = True
        else:
            value = state.early(name)
            if leaf in module._parameters:
                value = torch.nn.Parameter(value, requires_grad=value.is_floating_point())
        # Without it the value would be made up anew.
        value._is_hf_initialized = True
        (module._parameters if leaf in module._parameters else module._buffers)[leaf] = value
    return LoadStateDictInfo(
        missing_keys=set(slots) - weights.keys(), unexpected_keys=set(), mismatched_keys=set(), error_msgs=[], conversion_errors={}, skipped_pp_keys=set()
    )
