"""vLLM's quantization method and load format "q4". Imported by vLLM's processes alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Optional  # torch reads the types of operators, and knows this one

import torch
from vllm.model_executor.layers.linear import LinearBase, LinearMethodBase, UnquantizedLinearMethod, register_weight_loader_v2_supported_method
from vllm.model_executor.layers.quantization import register_quantization_config
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader
from vllm.model_executor.parameter import GroupQuantScaleParameter, ModelWeightParameter
from vllm.utils.torch_utils import direct_register_custom_op

from . import _serving
from ._errors import FormatError, UnsupportedError
from ._serving import Packed, Weights
from ._thin import METHOD

log = logging.getLogger("q4")


class Q4Config(QuantizationConfig):  # type: ignore[misc]
    """Which layers are in 4 bits: those of which the container has all weights so. It opens the container where it is asked, and
    travels between processes without."""

    def __init__(self, container: str, root: str) -> None:
        super().__init__()
        self.container, self.root = container, root
        self._directory: str | None = None
        self._packed: dict[str, Packed] = {}

    def get_name(self) -> str:
        return METHOD

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16, torch.float32]

    @classmethod
    def get_min_capability(cls) -> int:
        return 70

    @staticmethod
    def get_config_filenames() -> list[str]:
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Q4Config:
        return cls(str(config.get("container")), str(config.get("root")))

    def maybe_update_config(self, model_name: str, hf_config: Any = None, revision: str | None = None) -> None:
        """The names of weights by vLLM are those of the container, until a model says otherwise."""
        weights = Weights(model_name)
        self._directory, self._packed = model_name, dict(weights.packed)
        if weights.expert_weights:
            log.warning("%s: %d weights of experts in 4 bits are dequantized for vLLM", model_name, weights.expert_weights)

    def apply_vllm_mapper(self, hf_to_vllm_mapper: Any) -> None:
        self._packed = hf_to_vllm_mapper.apply_dict(self._packed)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> Any:
        if not isinstance(layer, LinearBase):
            return None
        if self._directory is None:
            raise UnsupportedError("vLLM did not say where the model is before it made it (maybe_update_config); q4 needs vLLM 0.30 or later", exit_code=5)
        parts = _serving.packed_parts(self._packed, prefix, self.packed_modules_mapping)
        reason = _serving.why_not(parts)
        if reason is not None:
            if any(parts):
                log.warning("layer %r is dequantized: %s", prefix, reason)
            return UnquantizedLinearMethod()
        return Q4LinearMethod([part for part in parts if part is not None])


@register_weight_loader_v2_supported_method
class Q4LinearMethod(LinearMethodBase):  # type: ignore[misc]
    """A linear layer in 4 bits: codes [rows, columns / 2] and scales [rows, columns / block size], of this device."""

    def __init__(self, parts: list[Packed]) -> None:
        self.parts, self.names = parts, [part.name for part in parts]
        self.scheme, self.block_size = parts[0].scheme, parts[0].block_size

    def create_weights(
        self,
        layer: torch.nn.Module,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        codes, scales = _serving.layer_tensors(self.parts, sum(output_partition_sizes), input_size_per_partition, input_size)
        loader = extra_weight_attrs["weight_loader"]
        layer.register_parameter(_serving.CODES, ModelWeightParameter(data=codes, input_dim=1, output_dim=0, weight_loader=loader))
        layer.register_parameter(_serving.SCALES, GroupQuantScaleParameter(data=scales, input_dim=1, output_dim=0, weight_loader=loader))

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        _serving.check_loaded(layer.scales, self.parts)
        for name in (_serving.CODES, _serving.SCALES):
            setattr(layer, name, torch.nn.Parameter(getattr(layer, name).data, requires_grad=False))

    def apply(self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        out = torch.ops.vllm.q4_linear(x.reshape(-1, x.shape[-1]), layer.qweight, layer.scales, self.block_size, self.scheme, bias)
        return out.view(*x.shape[:-1], out.shape[-1])

    def dequantize_weight(self, layer: torch.nn.Module) -> torch.Tensor:
        """[rows, columns] of this device, in the dtype of the layer."""
        return _serving.dequantize(layer.qweight, layer.scales, self.block_size, self.scheme, layer.params_dtype)


def _linear(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, block_size: int, scheme: str, bias: Optional[torch.Tensor]) -> torch.Tensor:
    return _serving.multiply(x, codes, scales, block_size, scheme, bias)


def _linear_fake(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, block_size: int, scheme: str, bias: Optional[torch.Tensor]) -> torch.Tensor:
    return x.new_empty((x.shape[0], codes.shape[0]))


class Q4ModelLoader(BaseModelLoader):  # type: ignore[misc]
    """Loads the container of a thin directory into a model of vLLM by the model's own load_weights()."""

    def download_model(self, model_config: Any) -> None:
        """Nothing is fetched: the directory is a local one."""
        Weights(model_config.model)

    def load_weights(self, model: torch.nn.Module, model_config: Any) -> None:
        weights = Weights(model_config.model)
        methods = [getattr(module, "quant_method", None) for module in model.modules()]
        packed = {name for method in methods if isinstance(method, Q4LinearMethod) for name in method.names}
        left = [name for name in weights.packed if name not in packed]
        if left:
            log.warning("%s: %d weights in 4 bits are dequantized, as vLLM has no linear layer of their name: %s", model_config.model, len(left), left[:3])
        parameters: Mapping[str, torch.Tensor] = dict(model.named_parameters())
        device = next((each.device for each in parameters.values()), torch.device("cpu"))
        loaded = model.load_weights(weights.load(packed, device))
        # Models that do not tell what they loaded are believed, as vLLM does it.
        missing = sorted(set(parameters) - set(loaded)) if loaded is not None else []
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise FormatError(
                f"{weights.path}: vLLM's {type(model).__name__} has parameters that nothing was loaded into: {', '.join(missing[:3])}{more}",
                exit_code=3, path=str(weights.path),
            )  # fmt: skip


_registered = False


def register() -> None:
    global _registered
    if _registered:
        return
    register_quantization_config(METHOD)(Q4Config)
    register_model_loader(METHOD)(Q4ModelLoader)
    direct_register_custom_op(op_name="q4_linear", op_func=_linear, mutates_args=[], fake_impl=_linear_fake)
    _registered = True
