"""SGLang's quantization method "q4" and the loader of thin directories. Imported by SGLang's processes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from sglang.srt.layers import linear, quantization
from sglang.srt.layers.parameter import GroupQuantScaleParameter, ModelWeightParameter
from sglang.srt.layers.quantization.base_config import LinearMethodBase, QuantizationConfig
from sglang.srt.layers.quantization.unquant import UnquantizedLinearMethod
from sglang.srt.model_loader.loader import DefaultModelLoader

from . import _serving
from ._errors import UnsupportedError
from ._serving import Weights
from ._thin import METHOD

# What SGLang's models fuse, where they do not say it: most keep it to their own load_weights().
FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


class Q4Config(QuantizationConfig):  # type: ignore[misc]
    """Which layers are in 4 bits: those of which the container has all weights so."""

    def __init__(self, directory: str, fused: dict[str, list[str]]) -> None:
        super().__init__()
        self.packed_modules_mapping = FUSED | fused
        self._packed = Weights(directory).packed_for("SGLang")

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

    def get_scaled_act_names(self) -> list[str]:
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Q4Config:
        if "directory" not in config:
            raise UnsupportedError(
                "a thin directory is loaded by q4.sglang.Q4ModelLoader alone: leave --load-format at auto with the plugin installed, or pass the class",
                exit_code=5,
            )
        return cls(config["directory"], config.get("packed_modules_mapping") or {})

    def apply_weight_name_mapper(self, hf_to_sglang_mapper: Any) -> None:
        """The names of weights by SGLang are those of the container, until a model says otherwise."""
        self._packed = hf_to_sglang_mapper.apply_dict(self._packed)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> Any:
        if not isinstance(layer, linear.LinearBase):
            return None
        parts = _serving.parts_in_4bit(self._packed, prefix, self.packed_modules_mapping)
        return UnquantizedLinearMethod() if parts is None else Q4LinearMethod(parts)


class Q4LinearMethod(_serving.LinearMethod, LinearMethodBase):  # type: ignore[misc]
    codes_parameter, scales_parameter = ModelWeightParameter, GroupQuantScaleParameter


class Q4ModelLoader(DefaultModelLoader):  # type: ignore[misc]
    """Loads the container of a thin directory into a model of SGLang by the model's own load_weights()."""

    def download_model(self, model_config: Any) -> None:
        """Nothing is fetched: the directory is a local one."""
        Weights(model_config.model_path)

    def load_model(self, *, model_config: Any, device_config: Any) -> torch.nn.Module:
        # Q4Config is made of this, and is told nothing else of where the model lies.
        model_config.hf_config.quantization_config["directory"] = model_config.model_path
        return super().load_model(model_config=model_config, device_config=device_config)

    def _get_all_weights(self, model_config: Any, model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
        yield from Weights(model_config.model_path).load_for(model, "SGLang")


def loader_of(original: Callable[..., Any], load_config: Any, model_config: Any = None) -> Any:
    """In place of SGLang's get_model_loader(): of a thin directory ours, whatever format is "auto" for others."""
    if model_config is not None and model_config.quantization == METHOD and getattr(load_config.load_format, "value", None) == "auto":
        return Q4ModelLoader(load_config)
    return original(load_config, model_config)


_registered = False


def register() -> None:
    global _registered
    if _registered:
        return
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    quantization.QUANTIZATION_METHODS[METHOD] = Q4Config
    quantization.BASE_QUANTIZATION_METHODS[METHOD] = Q4Config
    quantization.CPU_QUANTIZATION_METHODS[METHOD] = Q4Config
    linear.WEIGHT_LOADER_V2_SUPPORTED.append(Q4LinearMethod.__name__)
    HookRegistry.register("sglang.srt.model_loader.loader.get_model_loader", loader_of, HookType.AROUND)
    _registered = True
