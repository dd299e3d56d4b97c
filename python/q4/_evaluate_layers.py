"""The error of each linear layer's output: the original's layers are watched while it runs, and what goes in is given to the
quantized layer as well. Nothing is kept but sums; or, where the models are not in memory together, the rows themselves, in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ._errors import FormatError, InputError
from ._evaluate_numbers import finite, quantile
from ._words import StrPath

_ROWS_OF_BATCH = 64
Sink = Callable[[str, torch.Tensor, torch.Tensor], None]
"""(name of the layer, inputs (rows, in), outputs of the original (rows, out))"""
Place = tuple[int, torch.dtype, tuple[int, ...]]


def linear_layers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """By name, in the order of the model: Linear and what derives from it, and the transposed Conv1D of GPT-2."""
    return {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"}


class Probe:
    """Hands on some rows of what each linear layer of the original is given and gives: the first `rows` that come, of a batch at
    most 64, spread evenly over its real tokens."""

    def __init__(self, model: torch.nn.Module, rows: int, sink: Sink) -> None:
        self._layers = linear_layers(model) if rows else {}
        self._rows, self._sink = rows, sink
        self._taken: dict[str, int] = {}
        self._real: torch.Tensor | None = None
        self._inside = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        handles = [module.register_forward_hook(self._hook(name), with_kwargs=True) for name, module in self._layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin(self, mask: torch.Tensor | None) -> None:
        """Before each batch. `mask`: (sequences, tokens), which tokens are real."""
        self._real = None if mask is None or mask.ndim != 2 else mask.reshape(-1).bool().cpu()

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(_: Any, arguments: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
            given = arguments[0] if arguments else next(iter(options.values()), None)
            # Where a model is held against itself, its layer is called in here again.
            if self._inside or not isinstance(given, torch.Tensor) or not isinstance(output, torch.Tensor):
                return
            left = min(_ROWS_OF_BATCH, self._rows - self._taken.get(name, 0))
            if left <= 0 or given.numel() == 0:
                return
            flat, gave = given.detach().reshape(-1, given.shape[-1]), output.detach().reshape(-1, output.shape[-1])
            real = torch.arange(len(flat))
            if self._real is not None and len(self._real) == len(flat):
                real = real[self._real]
            count = min(left, len(real))
            chosen = real[[i * len(real) // count for i in range(count)]].to(flat.device) if count else real
            self._taken[name] = self._taken.get(name, 0) + count
            self._inside = True
            try:
                self._sink(name, flat[chosen], gave[chosen])
            finally:
                self._inside = False

        return hook


class LayerErrors:
    """Sums of one quantized model."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, float, float]] = {}  # rows, squared differences, squares of the original's
        self._lacks: dict[str, None] = {}

    @property
    def lacks(self) -> tuple[str, ...]:
        """Layers of the original that this model does not have."""
        return tuple(self._lacks)

    def add(self, layers: dict[str, torch.nn.Module], name: str, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        layer = layers.get(name)
        if layer is None:
            self._lacks[name] = None
        if layer is None or not len(inputs):
            return
        weight = next(layer.parameters(), None)
        with torch.no_grad():
            try:
                gave = layer(inputs if weight is None else inputs.to(weight.device))
            except RuntimeError as wrong:
                raise _other_kind(name, inputs, str(wrong)) from wrong
        if gave.shape != outputs.shape:
            raise _other_kind(name, inputs, f"it gives {tuple(gave.shape)}, the original {tuple(outputs.shape)}")
        right = outputs.to(gave.device).double()
        difference = (gave.double() - right).square().sum().item()
        rows, error, square = self._sums.get(name, (0, 0.0, 0.0))
        self._sums[name] = rows + len(inputs), error + difference, square + right.square().sum().item()

    def json(self, order: Sequence[str]) -> list[dict[str, Any]]:
        found = []
        for name in order:
            if name in self._sums:
                rows, error, square = self._sums[name]
                relative = error / square if square else 0.0 if error == 0 else None
                found.append({"name": name, "rows": rows, "relative_error": finite(relative)})
        return found


def _other_kind(name: str, inputs: torch.Tensor, why: str) -> FormatError:
    return FormatError(f"layer {name!r} does not take the original's inputs, of the shape {tuple(inputs.shape)}: they are no models of the same kind ({why})", exit_code=3)


def numbers_of(layers: list[dict[str, Any]]) -> dict[str, float | None]:
    """Over layers, each counting once."""
    if not layers:
        return {}
    errors = [layer["relative_error"] for layer in layers]
    if any(error is None for error in errors):
        return dict.fromkeys(("layer_error_mean", "layer_error_median", "layer_error_max"), None)
    return {"layer_error_mean": sum(errors) / len(errors), "layer_error_median": quantile(sorted(errors), 0.5), "layer_error_max": max(errors)}


class Store:
    """Tensors in a file without a name, which goes with the process that wrote it."""

    def __init__(self, folder: StrPath | None) -> None:
        try:
            self._file = tempfile.TemporaryFile(prefix="q4-evaluate-", dir=folder)
        except OSError as error:
            raise InputError(f"scratch: no temporary file in {folder or tempfile.gettempdir()}: {error.strerror}", exit_code=2) from error
        self._end = 0

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, tensor: torch.Tensor) -> Place:
        value = tensor.detach().cpu().contiguous()
        content = value.reshape(-1).view(torch.uint8).numpy()
        try:
            self._file.seek(self._end)
            self._file.write(content.data)
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"scratch: {error.strerror} after {self._end} bytes; scratch= names another folder, max_tokens= takes fewer inputs", exit_code=2
            ) from error
        place = self._end, value.dtype, tuple(value.shape)
        self._end += content.nbytes
        return place

    def get(self, place: Place) -> torch.Tensor:
        offset, dtype, shape = place
        count = 1
        for size in shape:
            count *= size
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        self._file.seek(offset)
        content = bytearray(self._file.read(count * dtype.itemsize))
        return torch.frombuffer(content, dtype=dtype).reshape(shape)
