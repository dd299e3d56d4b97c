"""vLLM's quantization method and load format "q4". Imported by vLLM's processes alone."""

from __future__ import annotations

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
        self._directory, self._packed = model_name, Weights(model_name).packed_for("vLLM")

    def apply_vllm_mapper(self, hf_to_vllm_mapper: Any) -> None:
        self._packed = hf_to_vllm_mapper.apply_dict(self._packed)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> Any:
        if not isinstance(layer, LinearBase):
            return None
        if self._directory is None:
            raise UnsupportedError("vLLM did not say where the model is before it made it (maybe_update_config); q4 needs vLLM 0.30 or later", exit_code=5)
        parts = _serving.parts_in_4bit(self._packed, prefix, self.packed_modules_mapping)
        return UnquantizedLinearMethod() if parts is None else Q4LinearMethod(parts)


@register_weight_loader_v2_supported_method
class Q4LinearMethod(_serving.LinearMethod, LinearMethodBase):  # type: ignore[misc]
    codes_parameter, scales_parameter = ModelWeightParameter, GroupQuantScaleParameter

    def process_weights_after_loading(self, layer: Any) -> None:
        super().process_weights_after_loading(layer)
        for name in (_serving.CODES, _serving.SCALES):
            setattr(layer, name, torch.nn.Parameter(getattr(layer, name).data, requires_grad=False))

    def multiply(self, x: torch.Tensor, layer: Any, bias: torch.Tensor | None) -> torch.Tensor:
        return torch.ops.vllm.q4_linear(x, layer.qweight, layer.scales, self.block_size, self.scheme, bias)


def _linear(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, block_size: int, scheme: str, bias: Optional[torch.Tensor]) -> torch.Tensor:
    return _serving.multiply(x, codes, scales, block_size, scheme, bias)


def _linear_fake(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, block_size: int, scheme: str, bias: Optional[torch.Tensor]) -> torch.Tensor:
    return x.new_empty((x.shape[0], codes.shape[0]))


class Q4ModelLoader(BaseModelLoader):  # type: ignore[misc]
    """Loads the container of a thin directory into a model of vLLM by the model's own load_weights()."""

    def download_model(self, model_config: Any) -> None:
        """Nothing is fetched: the directory is a local one."""
        Weights(model_config.model)

    def load_weights(self, model: Any, model_config: Any) -> None:
        weights = Weights(model_config.model)
        parameters: Mapping[str, torch.Tensor] = dict(model.named_parameters())
        loaded = model.load_weights(weights.load_for(model, "vLLM"))
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
