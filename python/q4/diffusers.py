"""Components and pipelines of diffusers from .q4 files: what ``from_pretrained`` gives of the directory that q4export writes,
without the directory (docs/python_diffusers.md).

Needs diffusers, torch, accelerate and bitsandbytes; transformers for text encoders.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import accelerate
import diffusers
import torch
from diffusers.models.model_loading_utils import _determine_device_map, _fetch_remapped_cls_from_config
from diffusers.models.modeling_utils import LegacyModelMixin, no_init_weights
from diffusers.quantizers import DiffusersAutoQuantizer

from ._errors import FormatError, UnsupportedError, UsageError
from ._model import Model
from ._model import open as open_model
from ._placement import LazyTensors, ModelPath, Outlined, default_device, of_one_kind, open_source, outline, settled
from ._progress import ProgressArgument
from ._seal import SEAL, read_seal
from ._words import StrPath
from .torch import _listed, weight_of

__all__ = ["load_component", "load_pipeline"]

_STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")


def load_component(
    path: ModelPath,
    *,
    cls: Any = None,
    device_map: Any = None,
    dtype: torch.dtype | None = None,
    compute_dtype: str | torch.dtype | None = None,
    root: str | None = None,
    progress: ProgressArgument = None,
) -> torch.nn.Module:
    """A component of a pipeline from its container, as ``from_pretrained`` gives it of the directory that ``q4export --to bnb``
    writes: the same class, layers in 4 bits, configuration, dtypes and hooks, in ``eval()``; so the same outputs, bit for bit.
    ``save_pretrained`` writes the export's weight files, if `dtype` is that of the weights.

    Args:
        path: a container ``NAME.q4`` or ``PIPELINE/COMPONENT/model.q4``, the folder of such a component, a list of shards, or a
            :class:`q4.Model`.
        cls: a class of diffusers (or of transformers, for a text encoder); None: the one that the configuration names.
        device_map: as of ``from_pretrained``; None: what is in 4 bits goes to the current GPU, of a process of torchrun its own, else to the CPU;
            a component without 4-bit weights stays on the CPU, as diffusers does it.
        dtype: of what is not in 4 bits; None: as diffusers does it, float16 for components with 4-bit weights, else float32. The
            ``torch_dtype`` of ``from_pretrained``.
        compute_dtype: that bitsandbytes multiplies in; None: as q4export writes it, the dtype that the weights had.
        root: ``"sha256:..."`` that the model must have; everything that is loaded is checked against it then.
        progress: see :data:`q4.ProgressArgument`.

    A text encoder is handed on to :func:`q4.transformers.load`.

    Raises:
        DamagedError: a chunk is not what its digest says, or the root is another.
        UnsupportedError: a language model, a class that this diffusers does not have, weights in 4 bits on a disk or beside a GPU
            on the CPU, or what q4export refuses.
        FormatError: the class has a parameter that the container lacks, the container one that the class lacks, or shapes differ.
    """
    path = _container(path)
    place = _name_of(path)
    model = path if isinstance(path, Model) else open_model(path, root=root)
    text = model.config
    if "_class_name" not in text:
        return _text_encoder(path, place, text, cls, device_map, dtype, compute_dtype, root, progress)
    source = open_source(path, root)
    found = outline(source, to="bnb", experts="dequantize", unloadable="dequantize", compute_dtype=_word(compute_dtype))
    with tempfile.TemporaryDirectory(prefix="q4-") as folder:
        # As an export has it: with what bitsandbytes is told.
        Path(folder, "config.json").write_bytes(found.files.get("config.json") or model.files["config.json"])
        model_class = _class_of(text, cls)
        config, unused = model_class.load_config(folder, return_unused_kwargs=True, local_files_only=True)
    config = deepcopy(config)
    quantizer = _quantizer(config)
    if quantizer is not None:
        # Its question for a GPU is not asked: bitsandbytes has kernels for CPUs.
        dtype = quantizer.update_torch_dtype(dtype)
    fp32 = _kept_in_float32(model_class)
    made = _skeleton(model_class, config, unused, dtype)
    devices = _devices(device_map, quantizer is not None)
    if quantizer is not None:
        quantizer.preprocess_model(model=made, device_map=devices, keep_in_fp32_modules=fp32)
    if isinstance(devices, str):
        devices = _checked(_determine_device_map(made, devices, None, dtype, fp32, quantizer))
    _fill(made, source, found.tensors, devices, dtype, fp32, place, progress)
    if devices is not None:
        accelerate.dispatch_model(made, device_map=devices)
    if quantizer is not None:
        quantizer.postprocess_model(made)
        made.hf_quantizer = quantizer
        made.register_to_config(_name_or_path=place, _pre_quantization_dtype=dtype)
    else:
        made.register_to_config(_name_or_path=place)
    return cast(torch.nn.Module, made.eval())


def load_pipeline(
    directory: StrPath,
    *,
    cls: Any = None,
    device: Any = None,
    dtype: torch.dtype | None = None,
    root: str | None = None,
    components: Mapping[str, Any] | None = None,
    progress: ProgressArgument = None,
    **options: Any,
) -> Any:
    """The pipeline of a folder that q4convert made of one: components in containers by :func:`load_component`, the others by
    diffusers.

    Args:
        directory: with ``q4-pipeline.json``, the seal. Every file must be the one that was sealed, and no other may be there;
            containers are pinned to their roots, so that all of what is loaded is what was sealed.
        cls: a class of pipelines; None: the one that model_index.json names.
        device: of all components; None: the current GPU, or the CPU where there is none.
        dtype: ``torch_dtype`` of ``from_pretrained``, for all components.
        root: ``"sha256:..."`` that the pipeline must have: the SHA-256 of its seal.
        components: in place of the folder's, by name: ``{"vae": my_vae}``, or ``{"text_encoder_3": None}`` for none.
        progress: see :data:`q4.ProgressArgument`; for one container after the other.
        options: of ``from_pretrained``.

    Raises:
        UsageError: the folder has no seal, or no such component.
        DamagedError: a file is missing, too many or not what was sealed, or the root is another.
        otherwise as :func:`load_component`.
    """
    folder = Path(directory)
    seal = read_seal(folder, root)
    given = dict(components or {})
    # With those that the pipeline does without.
    known = {name for name, value in json.loads((folder / "model_index.json").read_bytes()).items() if isinstance(value, list)}
    if not set(given) <= known:
        raise UsageError(f"{folder} has no component {', '.join(sorted(set(given) - known))}; it has {', '.join(sorted(known))}", exit_code=1)
    where = settled(device if device is not None else default_device())
    for component in seal.components:
        if component.container is not None and component.name not in given:
            given[component.name] = load_component(
                folder / component.container, device_map={"": where}, dtype=dtype, root=component.root, progress=progress
            )
    pipeline_class = cls if cls is not None else diffusers.DiffusionPipeline
    pipeline = pipeline_class.from_pretrained(str(folder), torch_dtype=dtype, local_files_only=True, **given, **options)
    loaded = [component.name for component in seal.components if component.container is not None]
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module) and name not in loaded and name not in (components or {}):
            part.to(where)
    return pipeline


def _word(dtype: str | torch.dtype | None) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _name_of(path: ModelPath) -> str:
    return str(path.path if isinstance(path, Model) else os.fspath(path))


def _container(path: ModelPath) -> ModelPath:
    """Of the folder of a component its container."""
    if isinstance(path, Model) or not os.path.isdir(path):
        return path
    folder = Path(path)
    for name in ("model.q4", "model.q4.index.json"):
        if (folder / name).is_file():
            return folder / name
    hint = "load_pipeline loads a whole pipeline" if (folder / SEAL).is_file() else "a component's folder has a model.q4, which q4convert writes"
    raise UsageError(f"{folder} is a folder without a container; {hint}", exit_code=1, path=str(folder))


def _text_encoder(
    path: ModelPath, place: str, text: Mapping[str, Any], cls: Any, device_map: Any, dtype: Any, compute_dtype: Any, root: str | None,
    progress: ProgressArgument,
) -> torch.nn.Module:  # fmt: skip
    """A component of the library transformers: of a pipeline that names it, or by the name of its class."""
    index = Path(place).parent.parent / "model_index.json"
    library, name = None, None
    if index.is_file():
        library, name = (json.loads(index.read_bytes()).get(Path(place).parent.name) or (None, None))[:2]
    names = [str(each) for each in text.get("architectures") or ()]
    if library != "transformers" and not any("TextModel" in each or each.endswith("EncoderModel") for each in names):
        what = f"a model of transformers, {names[0]!r}" if names else "no component of diffusers: its configuration names no class of it"
        raise UnsupportedError(f"{place} is {what}; q4.transformers.load loads language models", exit_code=5, path=place)
    import transformers

    from .transformers import load

    if cls is None and name is not None:
        cls = getattr(transformers, str(name), None)
    return cast(
        torch.nn.Module,
        load(path, cls=cls, device_map=device_map, dtype=dtype if dtype is not None else "auto", compute_dtype=compute_dtype, root=root, progress=progress),
    )


def _class_of(text: Mapping[str, Any], cls: Any) -> Any:
    name = text["_class_name"]
    if cls is None:
        cls = getattr(diffusers, name, None) if isinstance(name, str) else None
    if cls is None or not hasattr(cls, "load_config"):
        raise UnsupportedError(
            f"config.json names the class {name!r}, which diffusers {diffusers.__version__} does not have; cls= says which to take", exit_code=5
        )
    # Old names stand for several classes, which the configuration tells apart.
    if isinstance(cls, type) and issubclass(cls, LegacyModelMixin):
        remapped = _fetch_remapped_cls_from_config(text, cls)
        cls = cls if remapped is None else remapped
    return cls


def _quantizer(config: dict[str, Any]) -> Any:
    if config.get("quantization_config") is None:
        return None
    config["quantization_config"] = DiffusersAutoQuantizer.merge_quantization_configs(config["quantization_config"], None)
    return DiffusersAutoQuantizer.from_config(config["quantization_config"], pre_quantized=True)


def _kept_in_float32(model_class: Any) -> list[str]:
    kept = getattr(model_class, "_keep_in_fp32_modules", None)
    return list(kept) if isinstance(kept, (list, tuple)) else [] if kept is None else [kept]


def _skeleton(model_class: Any, config: Mapping[str, Any], unused: Mapping[str, Any], dtype: torch.dtype | None) -> Any:
    """The model with parameters on "meta" and its buffers as they are computed."""
    before = torch.get_default_dtype()
    if dtype is not None and dtype.is_floating_point and dtype.itemsize > 1:
        torch.set_default_dtype(dtype)
    try:
        with no_init_weights(), accelerate.init_empty_weights():
            return model_class.from_config(config, **unused)
    finally:
        torch.set_default_dtype(before)


def _devices(device_map: Any, quantized: bool) -> Any:
    """By module; the name of a strategy; or None for the CPU without hooks."""
    if device_map is None:
        return {"": default_device()} if quantized else None
    if isinstance(device_map, str) and device_map in _STRATEGIES:
        return device_map if torch.cuda.is_available() else {"": "cpu"}
    return _checked(dict(device_map) if isinstance(device_map, Mapping) else {"": settled(device_map)})


def _checked(devices: dict[str, Any]) -> dict[str, Any]:
    return of_one_kind(devices, "component", "enable_model_cpu_offload() of the pipeline moves whole components")


def _fill(
    model: Any, source: Any, tensors: Iterable[Outlined], devices: Mapping[str, Any] | None, dtype: torch.dtype | None, fp32: list[str],
    place: str, progress: ProgressArgument,
) -> None:  # fmt: skip
    """Sets every parameter and buffer that the class keeps. Names and shapes are compared before anything is loaded."""
    import bitsandbytes

    groups: dict[str, list[Outlined]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.source if tensor.in_4bit else tensor.name, []).append(tensor)
    # The name of a weight is the shortest of its parts'.
    parts = {min((tensor.name for tensor in group), key=len): group for group in groups.values()}
    # Names of old attention layers, which the class knows.
    model._fix_state_dict_keys_on_load(parts)
    slots: dict[str, torch.Tensor] = model.state_dict(keep_vars=True)
    owners = {name: model.get_submodule(name.rpartition(".")[0]) for name in slots}
    ignored = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    missing = [name for name in slots if name not in parts]
    unexpected = [name for name in parts if name not in slots and not _matches(ignored, name)]
    wrong = []
    for name in [name for name in parts if name in slots]:
        in_4bit = isinstance(owners[name], bitsandbytes.nn.Linear4bit) and name.endswith(".weight")
        shape = _shape_of(parts[name])
        if in_4bit != parts[name][0].in_4bit:
            wrong.append(f"{name}: got {'no ' if in_4bit else ''}4-bit weights, expected {'' if in_4bit else 'no '}4-bit weights")
        elif shape != tuple(slots[name].shape):
            wrong.append(f"{name}: got {list(shape)}, expected {list(slots[name].shape)}")
    if missing or unexpected or wrong:
        raise FormatError(
            f"{place}: does not fit {type(model).__name__}:" + _listed("missing", missing) + _listed("unexpected", unexpected)
            + _listed("of another shape", wrong) + " cls= names another class", exit_code=3, path=place,
        )  # fmt: skip
    where = {name: _device_of(name, devices) for name in slots}
    on = {tensor.name: where[name] for name in slots for tensor in parts[name]}
    wanted = [tensor for name in slots for tensor in parts[name]]
    lazy = LazyTensors(source, wanted, on.__getitem__, once=True, progress=progress)
    lazy.load()
    for name, old in slots.items():
        owner, leaf = owners[name], name.rpartition(".")[2]
        if parts[name][0].in_4bit:
            owner._parameters[leaf] = weight_of(parts[name], lazy, min((t.name for t in parts[name]), key=len), owner)
            continue
        value = lazy.tensor(parts[name][0].name)
        if dtype is None:
            value = value.to(old.dtype)
        elif value.is_floating_point():
            value = value.to(torch.float32 if any(part in name.split(".") for part in fp32) else dtype)
        if isinstance(old, torch.nn.Parameter):
            owner._parameters[leaf] = torch.nn.Parameter(value, requires_grad=old.requires_grad)
        else:
            owner._buffers[leaf] = value


def _matches(patterns: Iterable[str], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _shape_of(parts: Iterable[Outlined]) -> tuple[int, ...]:
    for tensor in parts:
        if ".quant_state." in tensor.name:
            return tuple(json.loads(tensor.octets or b"")["shape"])
    return next(iter(parts)).shape


def _device_of(name: str, devices: Mapping[str, Any] | None) -> torch.device:
    if devices is None:
        return torch.device("cpu")
    module = name
    while module and module not in devices:
        module = module.rpartition(".")[0]
    if module not in devices:
        raise UsageError(f'device_map has no device for {name!r}; an entry "" is for all that no other entry names', exit_code=1)
    return settled(devices[module])
