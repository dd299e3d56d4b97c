"""The passes of q4.calibrate: one for second moments, which also tells which layers share an input, and as many for Hessians as their
memory asks for."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ._batches import batch_is_named, inner_model, is_sentence_transformer
from ._calibrate_inputs import CalibrationInputs
from ._calibrate_names import Checkpoint, Stored, checkpoint_beside, checkpoint_of, stored_names
from ._calibrate_quantized import refuse_quantized_folder, refuse_quantized_module
from ._calibrate_watch import Key, Mask, Sums, Watch
from ._calibration import Calibration, Input, Skipped, Writer
from ._errors import FormatError, UsageError
from ._evaluate_models import LoadOptions, Side, device_of, prepared
from ._words import StrPath

log = logging.getLogger("q4")

_TILE = 1 << 22  # elements of a Hessian that are finished at a time
# Of a diagonal in another pass: what rounding cannot explain.
_DRIFT = 1e-3


@dataclass(frozen=True)
class Options:
    """The arguments of q4.calibrate of the same names."""

    hessian: bool
    memory_limit: int | None
    tokenizer: Any
    samples: int | None
    max_length: int | None
    max_tokens: int | None
    batch_size: int
    device: Any
    dtype: Any
    cls: Any
    code: StrPath | None
    force: bool

    def check(self) -> None:
        for name, least in (("memory_limit", 1), ("samples", 1), ("max_length", 2), ("max_tokens", 2), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise UsageError(f"{name}={value!r}: expected an integer of at least {least}", exit_code=1)


def run(model: Any, given: Any, output: StrPath, options: Options) -> Calibration:
    options.check()
    inputs = CalibrationInputs(given, options.batch_size, options.samples)
    side, name = _side(model, options)
    with Writer(output, options.force) as writer, side.loaded() as module, _exact_products():
        runner = _Runner(side, module, inputs, options)
        runner.prepare()
        return _Run(runner, writer, side, name, options).carry_out()


class _Runner:
    """Passes of the model over the inputs."""

    def __init__(self, side: Side, module: torch.nn.Module, inputs: CalibrationInputs, options: Options) -> None:
        self.side, self.inputs, self._options = side, inputs, options
        # What wraps a model knows it by other names than the checkpoint does.
        self.whole: Any = getattr(module, "_orig_mod", module)
        if type(self.whole).__name__ in ("DataParallel", "DistributedDataParallel"):
            self.whole = self.whole.module
        self.module = inner_model(self.whole)
        self.passes = 0
        self.saw_padding = False
        self._parameters = inspect.signature(self.whole.forward).parameters

    def prepare(self) -> None:
        """Texts to tokens."""
        if not self.inputs.are_texts:
            return
        tokenizer, length = prepared(self.side, self._options.tokenizer, self._options.max_length)
        self.inputs.tokenize(tokenizer, self.side.predicts_next, length, self._options.max_tokens)

    def pass_over(self, watch: Watch, what: str) -> None:
        self.passes += 1
        decodes = bool(getattr(getattr(self.module, "config", None), "is_encoder_decoder", False))
        # A graph that was compiled before would not see that it is watched.
        with watch.watching(), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            for number, batch in enumerate(self.inputs, 1):
                masks = [batch[key] for key in ("attention_mask", "decoder_attention_mask") if key in batch]
                if decodes and "labels" in batch and "decoder_attention_mask" not in batch:
                    masks.append(batch["labels"] != -100)
                watch.mask = Mask(masks)
                with batch_is_named(self.whole, batch, number):
                    self._forward(batch, decodes)
                watch.check(number)
                log.debug("calibrate: pass %d (%s), batch %d", self.passes, what, number)
                if watch.mask.unmatched and self.passes == 1:
                    self.saw_padding = True
        log.info("pass %d (%s) is done", self.passes, what)

    def _forward(self, batch: Mapping[str, torch.Tensor], decodes: bool) -> None:
        device = device_of(self.module)
        given: dict[str, Any] = {key: value.to(device) for key, value in batch.items() if key != "labels" or decodes}
        takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in self._parameters.values())
        if set(given) == {"input_ids"} and "input_ids" not in self._parameters and not takes_all:
            self.whole(given["input_ids"])
        elif is_sentence_transformer(self.whole):
            self.whole(given)
        else:
            if "use_cache" in self._parameters:
                given["use_cache"] = False
            self.whole(**given)


@dataclass(frozen=True)
class _Weight:
    """A tensor of the checkpoint and the sums that are its input's: one, or of a stack one for each expert."""

    name: str
    keys: tuple[Key, ...]
    is_stack: bool
    transposed: bool


class _Run:
    def __init__(self, runner: _Runner, writer: Writer, side: Side, name: str | None, options: Options) -> None:
        self._runner, self._writer, self._name, self._options = runner, writer, name, options
        self._checkpoint: Checkpoint | None = checkpoint_of(side.folder) if side.folder is not None else checkpoint_beside(runner.module)
        self._skipped: dict[str, str] = {}

    def carry_out(self) -> Calibration:
        watch = Watch(self._runner.module)
        if not watch.keys:
            raise UsageError("the model has no linear layer (Linear, Conv1D, or experts in a stack)", exit_code=1)
        self._runner.pass_over(watch, "second moments")
        if self._runner.saw_padding:
            log.warning(
                "calibrate: layers were given rows that are no tokens of the batch, so that padding among them was counted too; batches without "
                "padding, or texts, have none"
            )
        weights = self._weights(watch)
        if not weights:
            raise FormatError(f"nothing was recorded: {next(iter(self._skipped.values()), 'no linear layer ran')}", exit_code=3)
        fingerprints = {key: sums.fingerprint() for key, sums in watch.sums.items()}
        names: dict[tuple[Any, ...], str] = {}
        shared: dict[str, str] = {}
        leaders: dict[str, _Weight] = {}
        for weight in weights:
            same = (weight.is_stack, *(fingerprints.get(key) for key in weight.keys))
            shared[weight.name] = names.setdefault(same, weight.name)
            leaders.setdefault(shared[weight.name], weight)
        inputs = {name: self._input(name, weight, watch) for name, weight in leaders.items()}
        plain = {weight.name: shared[weight.name] for weight in weights if not weight.transposed}
        transposed = {weight.name: shared[weight.name] for weight in weights if weight.transposed}
        # Refused before the file is laid out.
        groups = list(self._groups(leaders, watch)) if self._options.hessian else []
        self._writer.begin(plain, transposed, inputs, self._options.hessian, self._provenance())
        for name, weight in leaders.items():
            for place, key in enumerate(weight.keys):
                if key in watch.sums:
                    self._writer.put(f"{name}.second_moments", place * inputs[name].columns * 4, _bytes(_moments(watch.sums[key])))
                else:
                    self._writer.put(f"{name}.second_moments", place * inputs[name].columns * 4, bytes(inputs[name].columns * 4))
        for number, group in enumerate(groups, 1):
            self._hessians(group, leaders, watch.sums, f"Hessians {number} of {len(groups)}")
        path = self._writer.finish()
        skipped = [Skipped(name, reason) for name, reason in self._skipped.items()]
        quantized = None if self._checkpoint is None else self._checkpoint.quantized
        tokens = self._runner.inputs.counts.tokens or max(count for each in inputs.values() for count in each.counts)
        return Calibration(path, {**plain, **transposed}, inputs, self._options.hessian, tokens, self._runner.passes, skipped, quantized)

    def _weights(self, watch: Watch) -> list[_Weight]:
        """Tensors of the checkpoint with an input, in the order of the model."""
        stored, unknown = stored_names(self._runner.module, self._checkpoint)
        self._skipped.update(unknown)
        aliases: dict[int, list[str]] = {}
        for name, parameter in self._runner.module.named_parameters(remove_duplicate=False):
            aliases.setdefault(id(parameter), []).append(name)
        same = {name: names for names in aliases.values() for name in names}
        found: list[_Weight] = []
        for parameter in watch.keys:
            tensors = [tensor for name in dict.fromkeys([parameter, *same.get(parameter, [])]) for tensor in stored.get(name, [])]
            seen = sorted(expert for name, expert in watch.sums if name == parameter)
            if not tensors:
                self._skipped[parameter] = "the checkpoint has no tensor of this name"
            for tensor in tensors:
                if not seen:
                    self._skipped[tensor.name] = "its module was not called with these inputs"
                    continue
                reason, weight = self._weight(parameter, tensor, seen, watch)
                if weight is None:
                    self._skipped[tensor.name] = reason
                elif all(weight.name != each.name for each in found):
                    found.append(weight)
        quantized = () if self._checkpoint is None else self._checkpoint.quantized or ()
        recorded = {weight.name for weight in found}
        for name in quantized:
            if name not in recorded:
                self._skipped.setdefault(name, "it is the weight of no linear layer that was seen")
        return found

    def _weight(self, parameter: str, tensor: Stored, seen: list[int], watch: Watch) -> tuple[str, _Weight | None]:
        columns = len(watch.sums[parameter, seen[0]].values)
        transposed = watch.transposed[parameter] != tensor.flipped
        if tensor.shape is not None and (len(tensor.shape) < 2 or tensor.shape[-2 if transposed else -1] != columns):
            return f"its shape {list(tensor.shape)} is not that of a weight for {columns} inputs", None
        if seen[0] < 0:
            return "", _Weight(tensor.name, ((parameter, -1),), False, transposed)
        if tensor.expert is not None:
            if tensor.expert not in seen:
                return "no token reached this expert", None
            return "", _Weight(tensor.name, ((parameter, tensor.expert),), False, transposed)
        experts = tensor.shape[0] if tensor.shape is not None else self._runner.module.get_parameter(parameter).shape[0]
        return "", _Weight(tensor.name, tuple((parameter, expert) for expert in range(experts)), True, transposed)

    @staticmethod
    def _input(name: str, weight: _Weight, watch: Watch) -> Input:
        columns = next(len(watch.sums[key].values) for key in weight.keys if key in watch.sums)
        return Input(name, columns, tuple(watch.sums[key].count if key in watch.sums else 0 for key in weight.keys), weight.is_stack)

    def _groups(self, leaders: Mapping[str, _Weight], watch: Watch) -> Iterator[dict[Key, tuple[str, int]]]:
        """Which Hessians each pass makes, and where they go: (input, number of the matrix)."""
        group: dict[Key, tuple[str, int]] = {}
        used: dict[torch.device, int] = {}
        widest: dict[torch.device, int] = {}
        limits: dict[torch.device, int] = {}
        for name, weight in leaders.items():
            for place, key in enumerate(weight.keys):
                if key not in watch.sums:
                    continue
                values = watch.sums[key].values
                device, columns = values.device, len(values)
                limit = limits.setdefault(device, self._options.memory_limit or _free_memory(device) // 2)
                need, product = 8 * columns * columns, 4 * columns * columns
                if need + product > limit:
                    raise UsageError(
                        f"memory_limit: the Hessian of {key[0]!r} takes {need + product} bytes on {device}, more than {limit}; give more, or hessian=False "
                        "(--no-hessian), which is all that the encoder weighted needs", exit_code=1, tensor=key[0],
                    )  # fmt: skip
                # One limit for all devices where it was given.
                total = sum(used.values()) if self._options.memory_limit else used.get(device, 0)
                buffers = max([product, *widest.values()]) if self._options.memory_limit else max(product, widest.get(device, 0))
                if group and total + need + buffers > limit:
                    yield group
                    group, used, widest = {}, {}, {}
                if key not in group:
                    group[key] = name, place
                    used[device] = used.get(device, 0) + need
                    widest[device] = max(widest.get(device, 0), product)
        if group:
            yield group

    def _hessians(self, group: Mapping[Key, tuple[str, int]], leaders: Mapping[str, _Weight], moments: Mapping[Key, Sums], what: str) -> None:
        watch = Watch(self._runner.module, frozenset(group), only_hessians=True)
        self._runner.pass_over(watch, what)
        for key, (name, place) in group.items():
            sums, first = watch.sums.get(key), moments[key]
            if sums is None or sums.count != first.count or not torch.allclose(sums.squares, first.squares, rtol=_DRIFT, atol=0):
                raise FormatError(
                    f"the input of {key[0]!r} was another one when the model ran again: its forward pass draws random numbers or keeps a state, or the inputs "
                    "changed; hessian=False (--no-hessian) needs one pass", exit_code=3, tensor=key[0],
                )  # fmt: skip
            assert sums.hessian is not None
            columns = len(sums.values)
            diagonal = _moments(first)
            rows = max(1, _TILE // columns)
            for begin in range(0, columns, rows):
                end = min(begin + rows, columns)
                # Products need not be symmetric to the last bit.
                tile = ((sums.hessian[begin:end] + sums.hessian[:, begin:end].T) / (2 * sums.count)).float()
                tile[torch.arange(end - begin), torch.arange(begin, end)] = diagonal[begin:end].to(tile.device)
                if not bool(tile.isfinite().all()):
                    raise FormatError(f"the Hessian of {key[0]!r} overflows float32: its inputs are too large", exit_code=3, tensor=key[0])
                self._writer.put(f"{name}.hessian", (place * columns + begin) * columns * 4, _bytes(tile))
            del watch.sums[key]

    def _provenance(self) -> dict[str, Any]:
        inputs = self._runner.inputs
        return {
            "tool": "q4.calibrate",
            "model": self._name,
            "inputs": {**inputs.json(), "max_tokens": self._options.max_tokens},
            "dtype": str(next((each.dtype for each in self._runner.module.parameters()), "")).removeprefix("torch."),
        }


def _moments(sums: Sums) -> torch.Tensor:
    return (sums.squares / max(sums.count, 1)).float()


def _bytes(tensor: torch.Tensor) -> memoryview:
    content: memoryview = tensor.cpu().contiguous().numpy().data
    return content.cast("B")


def _side(model: Any, options: Options) -> tuple[Side, str | None]:
    """The model, and what the file calls it: no path, which may say more than is meant."""
    load = LoadOptions(options.device, options.dtype, options.cls, options.code)
    if isinstance(model, torch.nn.Module):
        refuse_quantized_module(model)
        name = getattr(model, "name_or_path", None)
        return Side(model, "model", load), Path(name).name if isinstance(name, str) and name else None
    if not isinstance(model, (str, os.PathLike)):
        raise UsageError(f"a model is a directory or a torch.nn.Module, not {type(model).__name__}", exit_code=1)
    path = Path(model)
    if path.is_file():
        raise UsageError(f"{path}: is a file; a calibration runs the model in 16 or 32 bits: give its directory", exit_code=1, path=str(path))
    found = path if path.exists() else _cached(os.fspath(model))
    refuse_quantized_folder(found)
    return Side(found, "model", load), path.name


def _cached(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise UsageError(f"{name!r} is no directory, and no model of this name is in the cache of Hugging Face; nothing is fetched from anywhere", exit_code=1) from error


def _free_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) << 10)
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        with contextlib.suppress(OSError, ValueError):
            group = Path("/sys/fs/cgroup")
            free.append(int((group / limit).read_text()) - int((group / used).read_text()))
    return max(min(free, default=2 << 30), 1)


@contextlib.contextmanager
def _exact_products() -> Iterator[None]:
    """Products of float32 are not rounded to TF32 or bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
