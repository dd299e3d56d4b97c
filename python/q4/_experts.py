"""Experts in 4 bits for transformers, which knows them as one parameter of 16 bits per layer: what stands in their place decodes an
expert when a forward pass takes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter, WeightRenaming, dot_natural_key, rename_source_key
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from . import _core
from ._errors import UnsupportedError
from ._model import Tensor
from ._placement import Outlined

METHOD = "q4"
_ALIGNMENT = 64  # of rows in memory, in bytes: what the loader and every kernel can write to


class ExpertWeights(torch.nn.Module):  # type: ignore[misc]
    """``weights[e]`` is the matrix of expert e, dequantized. `shapes`: of the matrices that an expert's is made of, one below the
    other; `blocks`: elements per scale of each."""

    pairs: torch.Tensor
    _is_hf_initialized: bool

    def __init__(self, experts: int, shapes: Sequence[tuple[int, ...]], blocks: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__()
        self.experts, self.shapes, self.blocks, self.dtype = experts, list(shapes), list(blocks), dtype
        for slot, (shape, block) in enumerate(zip(shapes, blocks)):
            elements = math.prod(shape)
            for name, size, kind in (("codes", elements // 2, torch.uint8), ("scales", elements // block, torch.float32)):
                row = -(-size * kind.itemsize // _ALIGNMENT) * _ALIGNMENT // kind.itemsize
                # transformers gives such buffers their memory, on the device of their module.
                self.register_buffer(f"{name}{slot}", torch.empty(experts, row, dtype=kind, device="meta"), persistent=False)
        # [256, 2]: what a byte of codes stands for.
        self.register_buffer("pairs", torch.empty(256, 2, dtype=torch.float32, device="meta"), persistent=False)

    def address(self, slot: int, part: str, expert: int) -> int:
        return int(getattr(self, f"{part}{slot}")[expert].data_ptr())

    def set_table(self, table: torch.Tensor) -> None:
        byte = torch.arange(256)
        self.pairs.copy_(torch.stack([table[byte >> 4], table[byte & 15]], 1))

    def __getitem__(self, expert: Any) -> torch.Tensor:
        with torch.no_grad():
            index = int(expert)
            return torch.cat([self._decoded(slot, index) for slot in range(len(self.shapes))]) if len(self.shapes) > 1 else self._decoded(0, index)

    def _decoded(self, slot: int, expert: int) -> torch.Tensor:
        shape, block = self.shapes[slot], self.blocks[slot]
        elements = math.prod(shape)
        codes, scales = getattr(self, f"codes{slot}")[expert, : elements // 2], getattr(self, f"scales{slot}")[expert, : elements // block]
        # docs/numerics.md Q6: table times scale in float32, then one rounding.
        values = torch.nn.functional.embedding(codes.int(), self.pairs).view(-1, block)
        return values.mul_(scales[:, None]).to(self.dtype).view(shape)

    def extra_repr(self) -> str:
        return f"{self.experts} experts in 4 bits of {self.shapes}, {self.dtype}"


def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
    """The model's own forward pass of experts, which takes the matrix of each expert that is hit, and of no other."""
    return type(self).forward.__wrapped__(self, *args, **kwargs)


class Plan:
    """Which tensors of the container become which rows of which ExpertWeights."""

    def __init__(self, tensors: Sequence[Outlined], facts: Callable[[str], Tensor]) -> None:
        self.tensors, self.facts = tensors, facts
        self.rows: list[tuple[str, ExpertWeights, int, int]] = []
        """(tensor of the container, where, slot, expert); a fused tensor once, with expert 0."""

    def replace(self, model: Any) -> None:
        """Puts ExpertWeights in the place of the parameters that these tensors are loaded to. On the skeleton, before any loading."""
        from transformers.conversion_mapping import get_model_conversion_mapping

        conversions = get_model_conversion_mapping(model)
        renamings = [each for each in conversions if isinstance(each, WeightRenaming)]
        converters = [each for each in conversions if isinstance(each, WeightConverter)]
        state = model.state_dict()
        self.rows = []
        found: dict[str, dict[int, list[str]]] = {}
        operations: dict[str, Any] = {}
        for tensor in sorted({each.source for each in self.tensors}, key=dot_natural_key):
            target, pattern = rename_source_key(tensor, renamings, converters, model.base_model_prefix, state)
            if target not in state:
                raise _refused(tensor, "no parameter of the class takes it")
            converter = next((each for each in converters if pattern is not None and pattern in each.source_patterns), None)
            slot = 0 if converter is None else list(converter.source_patterns).index(str(pattern))
            operations[target] = () if converter is None else tuple(converter.operations)
            found.setdefault(target, {}).setdefault(slot, []).append(tensor)
        for target, slots in found.items():
            self._replace(model, target, [slots[slot] for slot in sorted(slots)], operations[target])

    def _replace(self, model: Any, target: str, slots: list[list[str]], operations: Sequence[Any]) -> None:
        owner_name, _, leaf = target.rpartition(".")
        owner: Any = model.get_submodule(owner_name)
        parameter = getattr(owner, leaf)
        experts = parameter.shape[0]
        first = slots[0][0]
        if not hasattr(type(owner).forward, "__wrapped__") or parameter.dim() != 3:
            raise _refused(first, f"{type(owner).__name__} is no module of experts whose forward pass can be taken over")
        fused = not operations
        if not fused and not (
            isinstance(operations[0], MergeModulelist) and operations[0].dim == 0
            and all(isinstance(each, Concatenate) and each.dim == 1 for each in operations[1:])
            and all(len(slot) == experts for slot in slots)
        ):  # fmt: skip
            raise _refused(first, "transformers makes its experts' parameter in a way that q4 does not know")
        shapes, blocks = [], []
        for slot in slots:
            facts = [self.facts(tensor) for tensor in slot]
            shape, block = tuple(facts[0].shape[1:] if fused else facts[0].shape), facts[0].block_size
            if any(each.shape != facts[0].shape or each.block_size != block or each.scheme != facts[0].scheme for each in facts):
                raise _refused(first, "its experts differ in shape or scheme")
            # Rows of an expert of a fused tensor follow one another: without padding.
            unit = block * _ALIGNMENT // 4 if fused else block
            if math.prod(shape) % unit != 0:
                raise _refused(first, f"an expert's {math.prod(shape)} elements are no multiple of {unit}")
            shapes.append(shape)
            blocks.append(block)
        rows = sum(shape[0] for shape in shapes)
        if (rows, *shapes[0][1:]) != tuple(parameter.shape[1:]):
            raise _refused(first, f"got {[list(shape) for shape in shapes]} an expert, expected {list(parameter.shape[1:])}")
        weights = ExpertWeights(experts, shapes, blocks, parameter.dtype)
        weights._is_hf_initialized = True
        del owner._parameters[leaf]
        owner.add_module(leaf, weights)
        owner._is_hf_initialized = True
        for number, tensors in enumerate(slots):
            self.rows += [(tensor, weights, number, expert) for expert, tensor in enumerate(tensors)]

    def fill(self, source: _core.FillSource, tables: Mapping[str, torch.Tensor], check: str) -> None:
        """Loads codes and decoded scales into their places, device by device."""
        by_device: dict[torch.device, dict[str, tuple[ExpertWeights, int, int]]] = {}
        for tensor, weights, slot, expert in self.rows:
            by_device.setdefault(weights.pairs.device, {})[tensor] = (weights, slot, expert)
            weights.set_table(tables[tensor])
        for device, places in by_device.items():
            plan = source.plan(list(places), "flat")
            addresses = []
            for tensor, part, *_ in plan.parts():
                weights, slot, expert = places[tensor]
                addresses.append(weights.address(slot, part, expert))
            stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else None
            plan.fill(addresses, device.index if device.type == "cuda" else -1, stream, check, None)


def _refused(tensor: str, why: str) -> UnsupportedError:
    return UnsupportedError(f"tensor {tensor!r}: its experts cannot stay in 4 bits: {why}; experts='dequantize' loads them", exit_code=5, tensor=tensor)


# The plan of the load under way, by the number that its configuration carries: a quantizer is made by transformers.
_plans: dict[int, Plan] = {}


@register_quantization_config(METHOD)
class Q4Config(BitsAndBytesConfig):  # type: ignore[misc]
    """bitsandbytes' configuration, for the time of a load, with the number of its plan."""

    def __init__(self, plan: int = 0, settings: Mapping[str, Any] | None = None, **_: Any) -> None:
        super().__init__(**{key: value for key, value in (settings or {}).items() if key != "quant_method"})
        self.plan = plan
        self.quant_method = METHOD  # pyright: ignore[reportAttributeAccessIssue]  (of a class that takes its own names alone)


@register_quantizer(METHOD)
class Q4Quantizer(Bnb4BitHfQuantizer):  # type: ignore[misc]
    """bitsandbytes' quantizer, and experts in 4 bits. The model that it ends with is bitsandbytes' own."""

    def _process_model_before_weight_loading(self, model: Any, device_map: Any, **kwargs: Any) -> None:
        super()._process_model_before_weight_loading(model, device_map, **kwargs)
        settings: Any = self.quantization_config
        _plans[settings.plan].replace(model)


def begin(config: Any, plan: Plan) -> None:
    """Makes a configuration's quantization that of a load with this plan."""
    settings = config.quantization_config
    settings = settings if isinstance(settings, dict) else settings.to_dict()
    # What says load_in_4bit is bitsandbytes to transformers, whatever its method.
    config.quantization_config = {"quant_method": METHOD, "plan": id(plan), "settings": dict(settings)}
    _plans[id(plan)] = plan


def end(model: Any, plan: Plan) -> None:
    """Forgets the plan; the model is one of bitsandbytes, whose forward pass of experts is q4's."""
    _plans.pop(id(plan), None)
    if model is None:
        return
    settings = BitsAndBytesConfig()
    settings.__dict__.update({key: value for key, value in model.config.quantization_config.__dict__.items() if key not in ("plan", "quant_method")})
    model.config.quantization_config = settings
    model.hf_quantizer = Bnb4BitHfQuantizer(settings, pre_quantized=True)
    model.quantization_method = settings.quant_method


ALL_EXPERTS_FUNCTIONS.register(METHOD, forward)
