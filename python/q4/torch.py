"""Tensors of a model for torch: in its allocator's memory, as bitsandbytes' parameters, or into a module (docs/python_torch.md).

Needs torch; what speaks of bitsandbytes needs that too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from ._errors import UsageError
from ._model import Check
from ._placement import Lazy, LazyTensors, ModelPath, Outlined, fill, open_source, outline, settled
from ._progress import ProgressArgument

if TYPE_CHECKING:
    from bitsandbytes.nn import Params4bit

__all__ = ["Lazy", "LoadResult", "load_into", "params4bit", "state_dict", "tensors"]

Form = Literal["source", "float32", "float16", "bfloat16", "quantized", "flat"]
Device = Any
"""What torch takes for a device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``1``, ``torch.device(...)``."""


def tensors(
    path: ModelPath,
    names: Iterable[str] | None = None,
    device: Device = "cpu",
    *,
    form: Form = "source",
    check: Check = "xxh3",
    root: str | None = None,
    progress: ProgressArgument = None,
) -> dict[str, torch.Tensor]:
    """Tensors of a model, by name; each has a storage of its own, from torch's allocator.

    Args:
        path: a container ``NAME.q4``, a list of shards, or a :class:`q4.Model`.
        names: which; None: all.
        device: where; what torch's current stream there has begun is waited for before the memory is written.
        form: ``"source"``: dequantized to the dtype that each had; ``"float32"``, ``"float16"``, ``"bfloat16"``: dequantized to
            this; ``"quantized"``: a tensor in 4 bits becomes several, ``NAME.codes`` (uint8, two to a byte) and ``NAME.scales``
            (float32), or of nested scales ``NAME.codes``, ``NAME.scale_codes``, ``NAME.scales2`` and ``NAME.offset``; ``"flat"``:
            always ``NAME.codes`` and ``NAME.scales``. Tensors that are kept come as they are.
        check: as of :meth:`q4.Model.load`.
        root: ``"sha256:..."`` that the model must have.
        progress: see :data:`q4.ProgressArgument`.

    Raises:
        DamagedError, UsageError, InputError, DeviceError: as :meth:`q4.Model.load`.
    """
    wanted = [] if names is None else list(names)
    if names is not None and not wanted:
        raise UsageError("names=[] asks for no tensor; names=None asks for all", exit_code=1)
    parts = fill(open_source(path, root), wanted, form, settled(device), check=check, progress=progress)
    return {name if part == "values" else f"{name}.{part}": tensor for (name, part), tensor in parts.items()}


def _storage_word(dtype: torch.dtype | None) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _quant_state_text(tensor: Outlined) -> bool:
    return ".quant_state." in tensor.name


def params4bit(
    path: ModelPath,
    name: str,
    device: Device = "cpu",
    *,
    quant_storage: torch.dtype = torch.uint8,
    module: Any = None,
    check: Check = "xxh3",
    root: str | None = None,
) -> Params4bit:
    """A weight as bitsandbytes holds it: the container's codes and scales, not quantized anew. It can be saved, copied, pickled
    and moved as any of theirs.

    Args:
        path: as of :func:`tensors`.
        name: of a tensor in 4 bits.
        device: where.
        quant_storage: the dtype that the codes pose as (for FSDP: that of the other parameters).
        module: the ``Linear4bit`` that it shall be the weight of; its ``quant_state`` is set, its ``weight`` is not.
        check, root: as of :func:`tensors`.

    Raises:
        UsageError: no such tensor, or one that is not in 4 bits.
        UnsupportedError: the codes do not fill whole items of ``quant_storage``.
    """
    source = open_source(path, root)
    # Names are no patterns. A container without this tensor has nothing to outline.
    source.plan([name], "quantized")
    found = outline(
        source, to="bnb", tensor=f"^{re.escape(name)}$", quant_storage=_storage_word(quant_storage), experts="keep4bit", unloadable="keep4bit"
    )
    if not any(tensor.in_4bit for tensor in found.tensors):
        raise UsageError(f"tensor {name!r} is not in 4 bits; q4.torch.tensors loads it", exit_code=1, tensor=name)
    lazy = LazyTensors(source, found.tensors, lambda _: settled(device), check=check)
    return weight_of(found.tensors, lazy, name, module)


def weight_of(parts: Iterable[Outlined], lazy: LazyTensors, name: str, module: Any, *, early: bool = False) -> Params4bit:
    """What ``Params4bit.from_prequantized`` makes of these parts, without its copies to a device, for which a GPU that is being filled
    would let each wait. `early`: as of LazyTensors.early()."""
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn import Params4bit

    take = lazy.early if early else lazy.tensor
    codes: torch.Tensor | None = None
    stats: dict[str, Any] = {}
    source = name
    for part in parts:
        end = part.name.removeprefix(name).removeprefix(".")
        if _quant_state_text(part):
            # Plain values: a text would travel to the device and back.
            stats.update(json.loads(part.octets or b""))
        elif end:
            stats[end] = take(part.name)
        else:
            codes, source = take(part.name), part.source
    assert codes is not None
    offset, inner = None, None
    if "nested_absmax" in stats:
        offset = lazy.offset(source)
        if offset is None:
            offset = torch.tensor(float(stats["nested_offset"]), device=codes.device)
        inner = QuantState(
            absmax=stats["nested_absmax"], blocksize=stats["nested_blocksize"], code=stats["nested_quant_map"], dtype=getattr(torch, stats["nested_dtype"])
        )
    state = QuantState(
        absmax=stats["absmax"], shape=torch.Size(stats["shape"]), code=stats["quant_map"], blocksize=stats["blocksize"], quant_type=stats["quant_type"],
        dtype=getattr(torch, stats["dtype"]), offset=offset, state2=inner,
    )  # fmt: skip
    if module is not None:
        module.quant_state = state
    made = Params4bit(
        codes, requires_grad=False, quant_state=state, blocksize=state.blocksize, compress_statistics=state.nested, quant_type=state.quant_type,
        quant_storage=codes.dtype, module=module, bnb_quantized=True,
    )  # fmt: skip
    return cast("Params4bit", made)


def state_dict(
    path: ModelPath,
    device_map: Device | Mapping[str, Device] = "cpu",
    layout: Literal["bnb", "dense"] = "bnb",
    *,
    quant_storage: torch.dtype | None = None,
    experts: Literal["error", "dequantize", "keep4bit"] = "error",
    check: Check = "xxh3",
    root: str | None = None,
    progress: ProgressArgument = None,
) -> Mapping[str, Lazy]:
    """The state dict of the checkpoint that q4export would write, without writing it: names, dtypes, shapes and bytes are those
    of its files. Nothing is read before a value is used; then everything for that device is loaded, once.

    Args:
        path: as of :func:`tensors`.
        device_map: a device for all, or devices by module: ``{"": 0, "lm_head": "cpu"}``; the longest name that fits counts.
        layout: ``"bnb"``: q4export --to bnb, six tensors per weight in 4 bits; ``"dense"``: q4export --to safetensors.
        quant_storage: of ``"bnb"``: the dtype that codes pose as; None: as the container says, uint8 as a rule.
        experts: of ``"bnb"``: as q4export's --experts.
        check, root, progress: as of :func:`tensors`.

    Values have ``get_dtype()``, ``get_shape()``, ``dtype``, ``shape``, ``device``, and ``value[...]`` is the tensor.
    """
    source = open_source(path, root)
    if layout == "bnb":
        found = outline(source, to="bnb", quant_storage=_storage_word(quant_storage), experts=experts, unloadable="dequantize")
    else:
        found = outline(source, to="safetensors")
    return LazyTensors(source, found.tensors, _placed(device_map), check=check, progress=progress)


def _placed(device_map: Any) -> Any:
    """name -> device."""
    if not isinstance(device_map, Mapping):
        one = settled(device_map)
        return lambda name: one
    devices = {module: settled(device) for module, device in device_map.items()}

    def device_of(name: str) -> torch.device:
        module = name
        while module and module not in devices:
            module = module.rpartition(".")[0]
        if module not in devices:
            raise UsageError(f'device_map has no device for {name!r}; an entry "" is for all that no other entry names', exit_code=1)
        return devices[module]

    return device_of


@dataclass(frozen=True)
class LoadResult:
    """What :func:`load_into` found."""

    loaded: tuple[str, ...]
    """Names of the module's parameters and buffers that were set."""
    missing: tuple[str, ...]
    """Names that the module has and the model has not."""
    unexpected: tuple[str, ...]
    """Names that the model has and the module has not."""


def load_into(
    module: torch.nn.Module,
    path: ModelPath,
    strict: bool = True,
    *,
    prefix: str = "",
    check: Check = "xxh3",
    root: str | None = None,
    progress: ProgressArgument = None,
) -> LoadResult:
    """Sets the parameters and buffers of a module from a model whose names are the module's: weights in 4 bits where it has a
    bitsandbytes ``Linear4bit`` (whose type of codes becomes that of the model), dequantized to the parameter's dtype elsewhere.

    Args:
        module: on any devices, also on "meta", whose parameters come to the CPU. Parameters keep their dtype and requires_grad.
        path: as of :func:`tensors`.
        strict: whether a missing, an unexpected and a misshapen name is an error; nothing is changed then.
        prefix: what the model's names begin with and the module's do not: ``"model."``.
        check, root, progress: as of :func:`tensors`.

    Raises:
        UsageError: with `strict`, names or shapes that do not fit.
    """
    source = open_source(path, root)
    found = outline(source, to="bnb", experts="keep4bit", unloadable="keep4bit")
    slots: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    persistent = module.state_dict(keep_vars=True).keys()
    by_weight: dict[str, list[Outlined]] = {}
    for tensor in found.tensors:
        if tensor.source.startswith(prefix):
            by_weight.setdefault(tensor.source, []).append(tensor)
    wanted = {name.removeprefix(prefix): name for name in by_weight}
    tied = _ties(module)
    missing = [n for n in slots if n in persistent and n not in wanted and not any(other in wanted for other in tied.get(id(slots[n]), ()))]
    unexpected = [name for name in wanted if name not in slots]
    wrong = []
    for name, full in wanted.items():
        parts = by_weight[full]
        if name in slots and not _is_linear4bit(module, name) and list(slots[name].shape) != list(_shape(parts)):
            wrong.append(f"{name}: got {list(_shape(parts))}, expected {list(slots[name].shape)}")
        elif name in slots and _is_linear4bit(module, name):
            layer = module.get_submodule(name.rpartition(".")[0])
            if list(_shape(parts)) != [layer.out_features, layer.in_features]:
                wrong.append(f"{name}: got {list(_shape(parts))}, expected {[layer.out_features, layer.in_features]}")
    if strict and (missing or unexpected or wrong):
        raise UsageError(
            f"{path}: the model does not fit the module (strict=False goes on):"
            + _listed("missing", missing) + _listed("unexpected", unexpected) + _listed("of another shape", wrong),
            exit_code=1,
        )  # fmt: skip
    refused = {line.split(":", 1)[0] for line in wrong}
    fits = {name: full for name, full in wanted.items() if name in slots and name not in refused}
    _place(module, source, fits, by_weight, slots, check, progress)
    return LoadResult(tuple(fits), tuple(missing), (*unexpected, *refused))


def _listed(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f" {what}: {', '.join(names[:3])}{more}." if names else ""


def _ties(module: torch.nn.Module) -> dict[int, list[str]]:
    """Names of one parameter, by its identity."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return names


def _is_linear4bit(module: torch.nn.Module, name: str) -> bool:
    owner, _, leaf = name.rpartition(".")
    try:
        from bitsandbytes.nn import Linear4bit
    except ImportError:
        return False
    return leaf == "weight" and isinstance(module.get_submodule(owner), Linear4bit)


def _shape(parts: list[Outlined]) -> tuple[int, ...]:
    """Of the tensor that these parts make."""
    for tensor in parts:
        if _quant_state_text(tensor):
            return tuple(json.loads(tensor.octets or b"")["shape"])
    return parts[0].shape


def _place(
    module: torch.nn.Module,
    source: Any,
    fits: Mapping[str, str],
    by_weight: Mapping[str, list[Outlined]],
    slots: Mapping[str, torch.Tensor],
    check: Check,
    progress: ProgressArgument,
) -> None:
    """Everything is loaded before the first parameter is set."""
    in_4bit: dict[str, str] = {}
    dense: dict[tuple[torch.device, str], list[str]] = {}
    devices = {}
    for name, full in fits.items():
        device = settled(slots[name].device)
        devices[name] = torch.device("cpu") if device.type == "meta" else device
        if by_weight[full][0].in_4bit and _is_linear4bit(module, name):
            in_4bit[name] = full
            continue
        form = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}.get(slots[name].dtype, "source")
        dense.setdefault((devices[name], form), []).append(full)
    names_of = {full: name for name, full in fits.items()}
    values: dict[str, Any] = {}
    for (device, form), group in dense.items():
        for (full, _), value in fill(source, group, form, device, check=check, progress=progress).items():
            values[names_of[full]] = value.to(slots[names_of[full]].dtype)
    outlined = [tensor for full in in_4bit.values() for tensor in by_weight[full]]
    of_part = {tensor.name: devices[names_of[tensor.source]] for tensor in outlined}
    lazy = LazyTensors(source, outlined, of_part.__getitem__, check=check, once=True, progress=progress)
    lazy.load()
    for name, full in in_4bit.items():
        values[name] = weight_of(by_weight[full], lazy, full, module.get_submodule(name.rpartition(".")[0]))
    tied = _ties(module)
    for name, value in values.items():
        old = slots[name]
        if isinstance(old, torch.nn.Parameter):
            if name not in in_4bit:
                value = torch.nn.Parameter(value, requires_grad=old.requires_grad)
            # Names of one parameter stay one.
            for other in tied.get(id(old), [name]):
                owner, _, leaf = other.rpartition(".")
                setattr(module.get_submodule(owner), leaf, value)
        else:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, value)
