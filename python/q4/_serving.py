"""What serving software loads of a thin directory: of a linear layer in 4 bits codes and scales as matrices, so that the software's
own rules for slices and fused layers hold for them; of everything else values.

A row of a weight [rows, columns] is a whole number of blocks, or the weight is not loaded in this way. Then codes are [rows, columns / 2]
of uint8 and scales [rows, columns / block size] of float32, and
- any rows of codes and scales, in any order, are those rows of the weight;
- columns from a to b, both multiples of the block size, are the columns a / 2 to b / 2 of codes and a / size to b / size of scales.
So a slice for a device, q, k and v below one another, and heads that are sorted anew all decode to the bits that the whole has there.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from . import _core
from ._errors import FormatError, UnsupportedError
from ._model import open as open_model
from ._placement import DTYPES, fill, outline
from ._thin import thin_container
from ._words import StrPath

log = logging.getLogger("q4")

CODES, SCALES = "qweight", "scales"
"""What ``weight`` is called in a layer in 4 bits: names that the models' own loaders know from other methods."""

_GROUP_BYTES = 256 << 20  # what is loaded at once, beside the layers' own memory


@dataclass(frozen=True)
class Packed:
    """A weight in 4 bits whose rows are whole blocks."""

    name: str
    rows: int
    columns: int
    scheme: str
    block_size: int


def why_not(parts: Collection[Packed | None]) -> str | None:
    """Why a layer that is fused of these weights cannot be in 4 bits; None: it can. An absent one is None."""
    there = [part for part in parts if part is not None]
    if not there:
        return "none of them is in 4 bits with whole blocks in a row"
    if len(there) != len(parts):
        return f"{there[0].name!r} is in 4 bits, and another part is not"
    if len({(part.scheme, part.block_size, part.columns) for part in there}) > 1:
        return f"{there[0].name!r} and another part differ in scheme, block size or columns"
    return None


class Weights:
    """The weights of a thin directory.

    Raises:
        UnsupportedError: it is no thin directory.
        DamagedError: its container has another root than the directory says.
        otherwise as :func:`q4.open`.
    """

    def __init__(self, directory: StrPath) -> None:
        self.directory = directory
        place = thin_container(directory) if os.path.isdir(directory) else None
        if place is None:
            raise UnsupportedError(f"{directory} is no thin directory of a container; q4.vllm.thin_directory(MODEL, DIRECTORY) makes one", exit_code=5)
        self.path, root = place
        # The root is compared. Chunks are checked by XXH3, as in every load of what lies on the own disk.
        self._source = _core.fill_source(os.fsencode(self.path), root, False)
        found = outline(self._source, to="bnb", experts="keep4bit", unloadable="dequantize")
        model = open_model(self.path)
        # Of other folders are modules of sentence-transformers, which are no part of the model.
        self.tensors: dict[str, int] = {}
        """Bytes of the values of each tensor, by name."""
        self.packed: dict[str, Packed] = {}
        self.expert_weights = 0
        for tensor in found.tensors:
            name = tensor.source
            if tensor.folder or name in self.tensors:
                continue
            facts = model[name]
            self.tensors[name] = facts.elements * DTYPES[facts.dtype].itemsize
            self.expert_weights += tensor.expert and tensor.in_4bit
            if tensor.in_4bit and not tensor.expert and len(facts.shape) == 2 and facts.scheme and facts.shape[1] % facts.block_size == 0:
                self.packed[name] = Packed(name, facts.shape[0], facts.shape[1], facts.scheme, facts.block_size)

    def packed_for(self, software: str) -> dict[str, Packed]:
        """What can be a layer in 4 bits of `software`, by name; what cannot is told."""
        if self.expert_weights:
            log.warning("%s: %d weights of experts in 4 bits are dequantized for %s", self.directory, self.expert_weights, software)
        return dict(self.packed)

    def load_for(self, model: torch.nn.Module, software: str) -> Iterator[tuple[str, torch.Tensor]]:
        """As :meth:`load`, onto the device of a model whose layers in 4 bits have a :class:`LinearMethod`; what others take over is told."""
        methods = [getattr(module, "quant_method", None) for module in model.modules()]
        packed = {part.name for method in methods if isinstance(method, LinearMethod) for part in method.parts}
        left = [name for name in self.packed if name not in packed]
        if left:
            log.warning("%s: %d weights in 4 bits are dequantized, as %s has no linear layer of their name: %s", self.directory, len(left), software, left[:3])
        yield from self.load(packed, next((each.device for each in model.parameters()), torch.device("cpu")))

    def load(self, packed: Collection[str], device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, tensor) for a model's own loader: of each of `packed` two, whose names end with CODES and SCALES; of all others
        the values, dequantized to the dtype that they had. Each tensor is new, and no one else's."""
        group: list[str] = []
        size = 0
        for name in sorted(self.tensors):
            if self.tensors[name] > _GROUP_BYTES:
                # Such as embeddings: twice the memory of one is not asked of a GPU.
                yield from self._load([name], packed, torch.device("cpu") if name not in packed else device)
                continue
            group.append(name)
            size += self.tensors[name]
            if size > _GROUP_BYTES:
                yield from self._load(group, packed, device)
                group, size = [], 0
        yield from self._load(group, packed, device)

    def _load(self, names: list[str], packed: Collection[str], device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
        wanted = [name for name in names if name in packed]
        shapes = {}
        for name in wanted:
            facts = self.packed[name]
            shapes[(name, "codes")] = (torch.uint8, (facts.rows, facts.columns // 2))
            shapes[(name, "scales")] = (torch.float32, (facts.rows, facts.columns // facts.block_size))
        others = [name for name in names if name not in packed]
        parts = fill(self._source, wanted, "flat", device, shapes=shapes) if wanted else {}
        parts |= fill(self._source, others, "source", device) if others else {}
        for name in names:
            if name in packed:
                module = name.removesuffix("weight")
                yield module + CODES, parts[(name, "codes")]
                yield module + SCALES, parts[(name, "scales")]
            else:
                yield name, parts[(name, "values")]


class LinearMethod:
    """A linear layer in 4 bits: codes [rows, columns / 2] and scales [rows, columns / block size], of this device. Stands before the
    LinearMethodBase of vLLM or SGLang, whose classes of parameters it makes."""

    codes_parameter: Any
    scales_parameter: Any

    def __init__(self, parts: Sequence[Packed]) -> None:
        self.parts = list(parts)
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
        codes, scales = layer_tensors(self.parts, sum(output_partition_sizes), input_size_per_partition, input_size)
        loader = extra_weight_attrs["weight_loader"]
        layer.register_parameter(CODES, self.codes_parameter(data=codes, input_dim=1, output_dim=0, weight_loader=loader))
        layer.register_parameter(SCALES, self.scales_parameter(data=scales, input_dim=1, output_dim=0, weight_loader=loader))

    def process_weights_after_loading(self, layer: Any) -> None:
        check_loaded(layer.scales, self.parts)

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        out = self.multiply(x.reshape(-1, x.shape[-1]), layer, bias)
        return out.view(*x.shape[:-1], out.shape[-1])

    def multiply(self, x: torch.Tensor, layer: Any, bias: torch.Tensor | None) -> torch.Tensor:
        """x: [n, columns of this device]."""
        return multiply(x, layer.qweight, layer.scales, self.block_size, self.scheme, bias)

    def dequantize_weight(self, layer: Any) -> torch.Tensor:
        """[rows, columns] of this device, in the dtype of the layer."""
        return dequantize(layer.qweight, layer.scales, self.block_size, self.scheme, layer.params_dtype)


def parts_in_4bit(packed: Mapping[str, Packed], module: str, fused: Mapping[str, Collection[str]]) -> list[Packed] | None:
    """The weights of a layer that can be in 4 bits; None where it cannot, of which is told if some of it is. Arguments as of
    :func:`packed_parts`."""
    parts = packed_parts(packed, module, fused)
    reason = why_not(parts)
    if reason is not None:
        if any(parts):
            log.warning("layer %r is dequantized: %s", module, reason)
        return None
    return [part for part in parts if part is not None]


def layer_tensors(parts: Sequence[Packed], rows: int, columns: int, whole: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for codes and scales of a device's `rows` and `columns` of a layer whose weights have `whole` columns. Scales are NaN until
    they are loaded, so that what was not is noticed.

    Raises:
        FormatError: the weights have other columns.
        UnsupportedError: as :func:`columns_for`.
    """
    names, block_size = [part.name for part in parts], parts[0].block_size
    if whole != parts[0].columns:
        raise FormatError(f"{names[0]}: got {parts[0].columns} columns, expected {whole} of the layer", exit_code=3, tensor=names[0])
    columns_for(columns, whole, block_size, names)
    codes = torch.empty(rows, columns // 2, dtype=torch.uint8)
    return codes, torch.full((rows, columns // block_size), math.nan, dtype=torch.float32)


def check_loaded(scales: torch.Tensor, parts: Sequence[Packed]) -> None:
    """That all of what :func:`layer_tensors` made room for was loaded.

    Raises:
        FormatError: it was not.
    """
    if bool(torch.isnan(scales).any()):
        names = ", ".join(part.name for part in parts)
        raise FormatError(f"{names}: not all of it was loaded into its layer, or a scale is NaN", exit_code=3, tensor=parts[0].name)


def columns_for(columns: int, whole: int, block_size: int, names: Collection[str]) -> None:
    """That a device's columns of a weight begin and end with blocks.

    Raises:
        UnsupportedError: they do not.
    """
    if columns % block_size == 0:
        return
    devices = [each for each in range(2, whole // columns + 1) if whole % each == 0 and (whole // each) % block_size == 0]
    smaller = math.gcd(columns, block_size)
    ways = [f"tensor parallel {', '.join(map(str, devices))}"] if devices else []
    if smaller >= 32:
        ways.append(f"q4convert --block-size {smaller}")
    ways.append("pipeline parallelism")
    raise UnsupportedError(
        f"{', '.join(sorted(names))}: {whole} columns for {whole // columns} devices are {columns} each, which is no multiple of the block size "
        f"{block_size}: a scale would belong to two of them. What works: {'; '.join(ways)}",
        exit_code=5, tensor=sorted(names)[0] if names else None,
    )  # fmt: skip


def multiply(
    x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, block_size: int, quant_type: str, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """``x @ weight.T + bias`` by bitsandbytes. x: [..., columns]; codes and scales: as above; bias: [rows]."""
    import bitsandbytes

    state = _state(codes, scales, block_size, quant_type, x.dtype)
    return bitsandbytes.matmul_4bit(x, codes.view(-1, 1).t(), state, bias=bias)


def dequantize(codes: torch.Tensor, scales: torch.Tensor, block_size: int, quant_type: str, dtype: torch.dtype) -> torch.Tensor:
    """The weight [rows, columns]."""
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(codes.view(-1, 1), _state(codes, scales, block_size, quant_type, dtype))


_tables: dict[tuple[str, torch.device], torch.Tensor] = {}


def _state(codes: torch.Tensor, scales: torch.Tensor, block_size: int, quant_type: str, dtype: torch.dtype) -> Any:
    from bitsandbytes.functional import QuantState, get_4bit_type

    # Made once: while a CUDA graph is captured nothing may be copied to the device.
    key = (quant_type, codes.device)
    if key not in _tables:
        _tables[key] = get_4bit_type(quant_type, device=codes.device)
    shape = (codes.shape[0], codes.shape[1] * 2)
    return QuantState(scales.view(-1), shape=shape, code=_tables[key], blocksize=block_size, quant_type=quant_type, dtype=dtype)


def packed_parts(packed: Mapping[str, Packed], module: str, fused: Mapping[str, Collection[str]]) -> list[Packed | None]:
    """The weights that a layer is made of. `module`: its name, in the names of `packed`; `fused`: by the last part of a layer's name
    those of the layers that it is fused of, in the order of their rows."""
    parent, _, leaf = module.rpartition(".")
    own = packed.get(module + ".weight")
    if own is not None or leaf not in fused:
        return [own]
    return [packed.get(".".join(filter(None, (parent, part, "weight")))) for part in fused[leaf]]
