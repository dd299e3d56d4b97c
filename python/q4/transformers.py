"""A model of transformers from a .q4 file: what ``from_pretrained`` gives of the directory that q4export writes, without the
directory (docs/python_transformers.md).

Needs transformers 5, torch, accelerate and bitsandbytes.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal, Union, cast

import torch
import transformers
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

from . import _direct
from ._errors import FormatError, UnsupportedError, UsageError
from ._model import Model
from ._model import open as open_model
from ._placement import LazyTensors, ModelPath, Outline, default_device, given, of_one_kind, open_source, outline, settled
from ._progress import ProgressArgument
from ._thin import resolved

__all__ = ["generation_config", "load", "processor", "tokenizer"]

log = logging.getLogger("q4")


def load(
    path: ModelPath,
    *,
    cls: Any = None,
    device_map: Any = None,
    dtype: str | torch.dtype = "auto",
    compute_dtype: str | torch.dtype | None = None,
    quant_storage: str | torch.dtype | None = None,
    experts: Literal["q4", "dequantize"] = "q4",
    code: str | os.PathLike[str] | None = None,
    root: str | None = None,
    attn_implementation: str | None = None,
    memory: Literal["auto", "map", "copy"] = "auto",
    progress: ProgressArgument = None,
) -> PreTrainedModel:
    """The model of a container, as ``from_pretrained`` gives it of the directory that ``q4export --to bnb`` writes: the same
    classes, the same bits, so the same logits. It trains with PEFT, and ``save_pretrained`` writes the export's weight files.

    Args:
        path: a container ``NAME.q4``, a list of shards, a directory of :func:`q4.vllm.thin_directory`, or a :class:`q4.Model`.
        cls: a class of transformers, or one of its Auto classes; None: the one that the configuration names.
        device_map: as of ``from_pretrained``; None: the current GPU, of a process of torchrun its own; without a GPU the CPU.
        dtype: of what is not in 4 bits; ``"auto"``: as the configuration says.
        compute_dtype: that bitsandbytes multiplies in; None: as q4export writes it, the dtype of the weights.
        quant_storage: that codes pose as (for FSDP: that of the other parameters); None: as q4export writes it, uint8.
        experts: what becomes of quantized experts that transformers holds fused: ``"q4"``: they stay in 4 bits, and a forward pass
            decodes those that it takes; such a model cannot be saved. ``"dequantize"``: as ``q4export --experts dequantize``.
        code: a directory with the model's own Python code, which is run: only one that you trust. A container holds no code.
        root: ``"sha256:..."`` that the model must have; everything that is loaded is checked against it then.
        attn_implementation: as of ``from_pretrained``.
        memory: of a model on the CPU. ``"map"``: weights are mapped from the file, as ``from_pretrained`` does, and checked there
            once: processes share them, and the file must not be written over while the model lives (q4 itself replaces files).
            ``"copy"``: they are read into memory of their own. ``"auto"``: copied where `root` binds what is loaded, else mapped.
        progress: see :data:`q4.ProgressArgument`.

    Nothing is fetched from anywhere.

    Raises:
        DamagedError: a chunk is not what its digest says, or the root is another.
        UnsupportedError: what q4export refuses, weights in 4 bits on a disk or beside a GPU on the CPU, or a class that this
            transformers does not have.
        FormatError: the class has a parameter that the container lacks, or the container one that the class lacks.
    """
    if memory not in ("auto", "map", "copy"):
        raise UsageError(f"memory={memory!r}: expected 'auto', 'map' or 'copy'", exit_code=1)
    path, root = resolved(path, root)
    source = open_source(path, root)
    mapped = memory == "map" or (memory == "auto" and root is None and not (isinstance(path, Model) and path._pinned))
    kept = "keep4bit" if experts == "q4" else experts
    found = outline(source, to="bnb", experts=kept, unloadable="dequantize", compute_dtype=_word(compute_dtype), quant_storage=_word(quant_storage))
    for warning in found.warnings:
        log.info("%s", warning)

    def described() -> _Described:
        with _extracted(path, root, found, _OF_MODELS) as folder:
            config, model_class = _config_and_class(folder, cls, code)
            return config, model_class, _generation_config(folder, model_class)

    # Of other folders are modules of sentence-transformers, which are no part of this model.
    tensors = sorted((tensor for tensor in found.tensors if not tensor.folder), key=lambda tensor: tensor.name)
    in_4bit = [tensor for tensor in tensors if tensor.expert and tensor.in_4bit]
    extra: dict[str, Any] = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    if not in_4bit:
        return _loaded(path, source, described, tensors, device_map, dtype, extra, mapped, progress)
    from . import _experts

    container = _opened(path, root)
    plan = _experts.Plan(in_4bit, container.__getitem__)
    others = [tensor for tensor in tensors if not (tensor.expert and tensor.in_4bit)]
    model: Any = None
    known = described()
    _experts.begin(known[0], plan)
    try:
        model = _loaded(
            path, source, lambda: known, others, device_map, dtype, {**extra, "experts_implementation": _experts.METHOD}, mapped, progress
        )  # fmt: skip
        plan.fill(source, {t.source: given(t, torch.device("cpu")) for t in in_4bit if t.name == t.source + ".quant_map"}, "xxh3")
    finally:
        _experts.end(model, plan)
    # The weights would be left out of the files without a word.
    model.save_pretrained = _refuse_to_save
    return model


def _refuse_to_save(*_: Any, **__: Any) -> None:
    raise UnsupportedError(
        "a model with experts in 4 bits cannot be saved, as transformers could not load it: q4export --experts keep4bit or dequantize writes it, "
        "and load(..., experts='dequantize') gives a model that can", exit_code=5,
    )  # fmt: skip


_Described = tuple[Any, Any, Union[GenerationConfig, None]]
"""Configuration, class, and how it generates."""


def _loaded(
    path: ModelPath, source: Any, described: Callable[[], _Described], tensors: list[Any], device_map: Any, dtype: Any,
    extra: Mapping[str, Any], mapped: bool, progress: ProgressArgument,
) -> PreTrainedModel:  # fmt: skip
    known: _Described | None = None
    devices = _devices(device_map)
    if devices is None:
        known = described()
        devices = _one_kind(_inferred(device_map, known[0], known[1], dtype))
    state = _ReadAhead(source, tensors, _placement(devices), once=True, mapped=mapped, progress=progress)
    places = {settled(device) for device in devices.values()}
    place = places.pop() if len(places) == 1 else None
    # Whose experts are held in another way is for from_pretrained to know.
    may_be_short = "experts_implementation" not in extra and place is not None and place.type in ("cpu", "cuda") and _direct.may_load(tensors)
    # On the long way transformers reserves a GPU's memory for the model first, and what is there already would count twice.
    state.reserve = may_be_short
    at_once = place is not None and progress is None and (place.type == "cpu" or may_be_short)
    # Of sizes that differ the message is q4's, with the container's name; no such model comes out.
    try:
        with state.begin() if at_once else nullcontext():
            config, model_class, generation = known or described()
            found = None
            if place is not None and may_be_short:
                found = _direct.load(model_class, config, tensors, state, place, dtype, generation, extra.get("attn_implementation"))
            if found is None and place is not None and place.type == "cuda":
                state.forget()  # and what was reserved is transformers' then
            model, info = found or model_class.from_pretrained(
                None, config=config, state_dict=state, device_map=devices, dtype=dtype, output_loading_info=True,
                ignore_mismatched_sizes=True, generation_config=generation, **extra,
            )  # fmt: skip
    except Exception:
        if state.error is not None:
            raise state.error from None
        raise
    # What was raised while a value was read may have been taken for a key that is missing.
    if state.error is not None:
        raise state.error
    if found is None and getattr(model, "hf_quantizer", None) is not None and _version() < SHAPES_CHECKED:
        info = {**info, "mismatched_keys": {*(info.get("mismatched_keys") or ()), *_misshapen(model, model_class)}}
    _check_keys(path, info, model_class)
    return _finished(model, path)


# From which on transformers tells shapes that differ of a model that has layers in 4 bits, too; 5.17 was tried last of those that do not.
SHAPES_CHECKED = (5, 23)


def _version() -> tuple[int, ...]:
    return tuple(int(number) for number in transformers.__version__.split(".")[:2])


def _misshapen(model: PreTrainedModel, model_class: Any) -> list[str]:
    """Parameters that have not the shape that their class gives them. Those in 4 bits have one of their own, and are left to their layers."""
    from bitsandbytes.nn import Params4bit

    with torch.device("meta"):
        meant = {name: value.shape for name, value in model_class(model.config).named_parameters()}
    return [name for name, value in model.named_parameters() if not isinstance(value, Params4bit) and value.shape != meant.get(name, value.shape)]


# A container holds no code, so that there is none to ask the user about on the terminal.
NO_CODE = {"trust_remote_code": False}


def tokenizer(path: ModelPath, *, root: str | None = None, **options: Any) -> Any:
    """``AutoTokenizer.from_pretrained`` of the embedded files. `options` are its. One with code of its own is its ValueError."""
    return _from_files(transformers.AutoTokenizer, path, root, {**NO_CODE, **options})


def processor(path: ModelPath, *, root: str | None = None, **options: Any) -> Any:
    """``AutoProcessor.from_pretrained`` of the embedded files. `options` are its."""
    return _from_files(transformers.AutoProcessor, path, root, {**NO_CODE, **options})


def generation_config(path: ModelPath, *, root: str | None = None, **options: Any) -> GenerationConfig:
    """``GenerationConfig.from_pretrained`` of the embedded files. `options` are its."""
    return cast(GenerationConfig, _from_files(GenerationConfig, path, root, options))


def _word(dtype: str | torch.dtype | None) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _opened(path: ModelPath, root: str | None) -> Model:
    return path if isinstance(path, Model) else open_model(path, root=root)


_OF_MODELS = ("config.json", "generation_config.json")
"""What a model is made of, beside weights; tokenizers are large."""


@contextmanager
def _extracted(path: ModelPath, root: str | None, found: Outline | None, names: Sequence[str] = ()) -> Iterator[Path]:
    """The embedded files as an export has them, in a folder that goes again. `found`: of that export; None: of any. `names`: no
    others are asked for; where config.json speaks of more, all come."""
    model = _opened(path, root)
    changed = found.files if found is not None else {}
    with tempfile.TemporaryDirectory(prefix="q4-") as name:
        folder = Path(name)
        if names and b'"configuration_files"' not in changed.get("config.json", b'"configuration_files"'):
            files = model.files
            changed = {file: changed[file] if file in changed else files[file] for file in names if file in files or file in changed}
        else:
            model.extract_files(folder)
        for file, content in changed.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        yield folder


def _from_files(auto: Any, path: ModelPath, root: str | None, options: Mapping[str, Any]) -> Any:
    path, root = resolved(path, root)
    with _extracted(path, root, None) as folder:
        made = auto.from_pretrained(str(folder), local_files_only=True, **options)
    # The folder has gone: what saves it elsewhere, or asks where it came from, learns of the container.
    _rename(made, path)
    return made


def _name_of(path: ModelPath) -> str:
    return str(path.path if isinstance(path, Model) else os.fspath(path))


def _rename(made: Any, path: ModelPath) -> None:
    parts: list[Any] = [made, *(getattr(made, name, None) for name in getattr(made, "attributes", ()))]
    for part in parts:
        if hasattr(part, "name_or_path"):
            part.name_or_path = _name_of(path)


def _config_and_class(folder: Path, cls: Any, code: str | os.PathLike[str] | None) -> tuple[Any, Any]:
    if not (folder / "config.json").is_file():
        raise UnsupportedError("the container holds no config.json, so that it names no class to load; q4.torch.load_into fills a module", exit_code=5)
    text = json.loads((folder / "config.json").read_bytes())
    if "_class_name" in text:
        raise UnsupportedError(f"the container is a component of diffusers, {text['_class_name']!r}: q4.diffusers loads it", exit_code=5)
    if code is not None:
        return _class_of_code(folder, text, cls, os.fspath(code))
    try:
        # Without a word about it transformers would ask on the terminal whether to run the code that the configuration names.
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except ValueError as error:
        raise UnsupportedError(
            f"transformers {transformers.__version__} has no model of type {text.get('model_type')!r}; a model with code of its own needs "
            f"code=DIRECTORY, and a newer one a newer transformers ({error})", exit_code=5,
        ) from error  # fmt: skip
    return config, _class_of(config, cls)


def _class_of(config: Any, cls: Any) -> Any:
    if cls is not None:
        mapping = getattr(cls, "_model_mapping", None)
        if mapping is None:
            return cls
        if type(config) not in mapping:
            raise UsageError(f"{cls.__name__} has no class for {type(config).__name__}", exit_code=1)
        found = mapping[type(config)]
        if not isinstance(found, (list, tuple)):
            return found
        named = [each for each in found if each.__name__ in (config.architectures or ())]
        return (named or list(found))[0]
    names = list(config.architectures or ())
    for name in names:
        if hasattr(transformers, name):
            return getattr(transformers, name)
    raise UnsupportedError(
        f"config.json names the class {', '.join(map(repr, names)) or 'of no architecture'}, which transformers {transformers.__version__} does not have; "
        "cls= says which to take, code=DIRECTORY where its code is", exit_code=5,
    )  # fmt: skip


def _class_of_code(folder: Path, text: Mapping[str, Any], cls: Any, code: str) -> tuple[Any, Any]:
    """The classes that the caller's directory defines; configuration and weights are the container's."""
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    try:
        auto_map = json.loads((Path(code) / "config.json").read_bytes()).get("auto_map", {})
    except OSError as error:
        raise UsageError(f"code={code!r} has no config.json that names its classes: {error}", exit_code=1) from error
    if "AutoConfig" in auto_map:
        config_class = get_class_from_dynamic_module(auto_map["AutoConfig"], code, local_files_only=True)
        config = config_class.from_pretrained(str(folder), local_files_only=True)
    else:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    wanted = cls.__name__ if cls is not None else None
    if wanted is not None and wanted not in auto_map and not wanted.startswith("Auto"):
        return config, cls
    architecture = (text.get("architectures") or [None])[0]
    named = [each for key, each in auto_map.items() if key.startswith("AutoModel") and (each.rpartition(".")[2] == architecture if wanted is None else key == wanted)]
    if not named:
        raise UsageError(f"config.json of code={code!r} has no auto_map entry for {wanted or architecture!r}", exit_code=1)
    return config, get_class_from_dynamic_module(named[0], code, local_files_only=True)


def _generation_config(folder: Path, model_class: Any) -> GenerationConfig | None:
    """As ``from_pretrained`` finds it in a directory."""
    if not (hasattr(model_class, "can_generate") and model_class.can_generate()):
        return None
    try:
        return cast(GenerationConfig, GenerationConfig.from_pretrained(str(folder), local_files_only=True))
    except OSError:
        return cast(
            GenerationConfig,
            GenerationConfig.from_pretrained(str(folder), config_file_name="config.json", _from_model_config=True, local_files_only=True),
        )


def _devices(device_map: Any) -> dict[str, Any] | None:
    """By module: settled before anything is loaded, since values are loaded to their device. None: the model must be looked at."""
    if device_map is None:
        return {"": default_device()}
    if isinstance(device_map, str) and device_map in ("auto", "balanced", "balanced_low_0", "sequential"):
        return None
    if isinstance(device_map, (str, int, torch.device)):
        return {"": settled(device_map)}
    return _one_kind(device_map)


def _one_kind(devices: Mapping[str, Any]) -> dict[str, Any]:
    return of_one_kind(dict(devices), "model", "give it more GPUs or more of their memory")


def _inferred(device_map: str, config: Any, model_class: Any, dtype: Any) -> dict[str, Any]:
    """What transformers makes of ``"auto"``, on a model without weights."""
    if not torch.cuda.is_available():
        return {"": "cpu"}
    if torch.cuda.device_count() == 1:
        return {"": 0}
    import copy

    from transformers.integrations.accelerate import _get_device_map
    from transformers.quantizers.auto import AutoHfQuantizer

    config = copy.deepcopy(config)
    found = config.dtype if dtype == "auto" else dtype
    found = getattr(torch, found) if isinstance(found, str) else found or torch.float32
    with torch.device("meta"):
        skeleton = model_class(config).to(found)
    quantizer = None
    if getattr(config, "quantization_config", None):
        quantizer = AutoHfQuantizer.from_config(config.quantization_config, pre_quantized=True)
        quantizer.preprocess_model(model=skeleton, dtype=found, device_map=device_map, checkpoint_files=None)
    skeleton.tie_weights()
    return cast("dict[str, Any]", _get_device_map(skeleton, device_map, None, quantizer))


def _placement(devices: Mapping[str, Any]) -> Callable[[str], torch.device]:
    """name -> device. The names of a checkpoint are not always those of the modules: what is not found goes where the first
    module goes, and transformers moves it."""
    settled_devices = {module: settled(device) for module, device in devices.items()}
    first = next(iter(settled_devices.values()))
    if len(set(settled_devices.values())) == 1:
        return lambda name: first

    def device_of(name: str) -> torch.device:
        parts = name.split(".")
        # A prefix more or less, such as "model.", is the difference that is common.
        for begin in (0, 1):
            for end in range(len(parts), begin - 1, -1):
                module = ".".join(parts[begin:end])
                for prefix in ("", "model.", "transformer."):
                    if prefix + module in settled_devices and (module or begin == 0):
                        return settled_devices[prefix + module]
        return settled_devices.get("", first)

    return device_of


class _ReadAhead(LazyTensors):
    """Loads everything when transformers begins to go through it: by then it has reserved the memory of the model, which torch's
    allocator then gives to the tensors; and it is the caller's thread, whose Ctrl-C ends the load, and whose errors nobody
    takes for keys that are missing."""

    def items(self) -> Any:
        self.load()
        # Each is taken once from here on, and goes with who took it.
        self._early.clear()
        return super().items()

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Loads on another thread meanwhile, while the caller's makes modules, which loads wait for. Tensors are allocated here: each
        of torch's calls gives the interpreter away, and two threads that make many of them wait for one another most of the time.
        Where the caller's is interrupted, or fails, that load ends too. On a GPU it is in order with the caller's stream."""
        stopped = threading.Event()

        def stop(_: Any) -> None:
            if stopped.is_set():
                raise InterruptedError

        self._progress = stop
        # What is wrong with a tensor is told with the rest.
        with suppress(Exception):
            self.prepare()
        worker = threading.Thread(target=self._load_quietly, name="q4 load", daemon=True)
        worker.start()
        try:
            yield
        except BaseException:
            stopped.set()
            raise
        finally:
            worker.join()
            # What ended the caller's part is told, and not that it ended this one.
            if isinstance(self.error, InterruptedError):
                self.error = None

    def _load_quietly(self) -> None:
        # What is wrong is kept, and raised to whoever asks for a tensor.
        with suppress(BaseException):
            self.load()


def _check_keys(path: ModelPath, info: Mapping[str, Any], model_class: Any) -> None:
    wrong = []
    for what, key in (("has no", "missing_keys"), ("has, unlike the class,", "unexpected_keys"), ("has of another shape", "mismatched_keys")):
        names = sorted(str(name[0] if isinstance(name, tuple) else name) for name in info.get(key) or ())
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            wrong.append(f"it {what} {', '.join(repr(name) for name in names[:3])}{more}")
    wrong += [str(message) for message in info.get("error_msgs") or ()]
    if wrong:
        raise FormatError(
            f"{_name_of(path)}: does not fit {model_class.__name__}: {'; '.join(wrong)}. cls= names another class", exit_code=3, path=_name_of(path)
        )


def _finished(model: Any, path: ModelPath) -> PreTrainedModel:
    # PEFT writes this name into its adapters, as what they belong to. Parts would name the folder that has gone.
    for module in model.modules():
        if "name_or_path" in vars(module):
            module.name_or_path = _name_of(path)
    model.name_or_path = _name_of(path)
    model.config._name_or_path = _name_of(path)
    # What takes bitsandbytes' keys together has no way back, and saving needs none: the weights write them themselves.
    conversions = getattr(model, "_weight_conversions", None)
    if conversions is not None:
        model._weight_conversions = [each for each in conversions if not _is_of_quantizer(each)]
    return cast(PreTrainedModel, model)


def _is_of_quantizer(conversion: Any) -> bool:
    return any(hasattr(operation, "hf_quantizer") for operation in getattr(conversion, "operations", None) or ())
