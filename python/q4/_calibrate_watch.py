"""What goes into the linear layers of a model while it runs, as sums. The only thing of calibration that knows how modules compute."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ._errors import FormatError, UsageError
from ._evaluate_layers import linear_layers

_ROWS = 2048  # input vectors of one product: sums of so many are float32, sums of these float64
Key = tuple[str, int]
"""(name of a parameter of the module, number of the expert; -1 where it is no stack)"""


@dataclass
class Sums:
    """Of one input, on the device of its layer."""

    count: int
    squares: torch.Tensor  # float64 [in]
    values: torch.Tensor  # float64 [in]: two inputs are taken for one where these are equal too
    hessian: torch.Tensor | None  # float64 [in, in]

    def fingerprint(self) -> tuple[int, bytes]:
        return self.count, hashlib.sha256(torch.cat([self.squares, self.values]).cpu().numpy().data).digest()


class Mask:
    """Which tokens of a batch are real."""

    def __init__(self, masks: list[torch.Tensor]) -> None:
        self._masks = [mask.bool() for mask in masks if mask.ndim == 2 and not bool(mask.bool().all())]
        self.unmatched = False
        """Whether an input came whose rows are no tokens of the batch, so that some of padding may be among them."""

    def __bool__(self) -> bool:
        return bool(self._masks)

    def rows(self, shape: tuple[int, ...]) -> torch.Tensor | None:
        """Of an input [..., in] by its shape without the last: which of its rows, in their order, are real; None: all."""
        found: list[torch.Tensor] = []
        for mask in self._masks:
            batch, tokens = mask.shape
            if shape[:2] == (batch, tokens):
                mask = mask.reshape(batch, tokens, *[1] * (len(shape) - 2)).expand(shape)
            elif shape == (tokens, batch):
                mask = mask.T
            elif len(shape) != 1 or shape[0] != batch * tokens:
                continue
            found.append(mask.reshape(-1))
        if any(not torch.equal(each, found[0]) for each in found[1:]):
            raise UsageError(
                "a batch has masks of encoder and decoder of the same shape, which cannot be told apart here; pad one of them to another length", exit_code=1
            )
        if not found and self._masks and (len(shape) != 1 or all(shape[0] != len(mask) for mask in self._masks)):
            self.unmatched = True
        return found[0] if found else None


class Watch:
    """Sums of a module's linear layers and experts. `hessians`: for which inputs squares of pairs are summed."""

    def __init__(self, module: torch.nn.Module, hessians: frozenset[Key] = frozenset(), only_hessians: bool = False) -> None:
        self._module, self._hessians, self._only = module, hessians, only_hessians
        self._products: dict[tuple[int, torch.device], torch.Tensor] = {}
        self.sums: dict[Key, Sums] = {}
        self.mask = Mask([])
        self.transposed: dict[str, bool] = {}
        """Of each parameter that was used, whether it is held as (in, out)."""
        self._modes: list[_Products] = []
        # A weight that several modules share has one input: all that they are given.
        first: dict[int, str] = {}
        names = {id(module): name for name, module in module.named_modules()}
        self.layers: dict[str, torch.nn.Module] = {}
        self._keys: dict[str, str] = {}
        for name, layer in linear_layers(module).items():
            weight = layer._parameters.get("weight")
            key = f"{name}.weight" if name else "weight"
            if isinstance(weight, torch.Tensor) and weight.device.type != "meta":
                key = first.setdefault(id(weight), key)
            self._keys[name] = key
            self.layers[name] = layer
        self.stacks = {names[id(layer)]: layer for layer in stacks_of(module)}

    @property
    def keys(self) -> list[str]:
        """Parameters that are watched, in the order of the model."""
        order = {name: place for place, (name, _) in enumerate(self._module.named_modules())}
        named = [(order[name], key) for name, key in self._keys.items()]
        for name, layer in self.stacks.items():
            named += [(order[name], f"{name}.{leaf}") for leaf in stack_parameters(layer)]
        return list(dict.fromkeys(key for _, key in sorted(named, key=lambda each: each[0])))

    @contextmanager
    def watching(self) -> Iterator[None]:
        handles: list[Any] = []
        restored: list[tuple[Any, Any]] = []
        try:
            for name, layer in self.layers.items():
                handles.append(layer.register_forward_pre_hook(self._hook(name), with_kwargs=True))
            for name, layer in self.stacks.items():
                config: Any = getattr(layer, "config", None)
                if hasattr(config, "_experts_implementation") and all(config is not each for each, _ in restored):
                    restored.append((config, config._experts_implementation))
                    # Other implementations hand all experts to one kernel.
                    config._experts_implementation = "eager"
                handles += self._watch_stack(name, layer)
            yield
        finally:
            # Of a forward pass that Ctrl-C has ended.
            while self._modes:
                self._modes.pop().__exit__(None, None, None)
            for handle in handles:
                handle.remove()
            for config, implementation in restored:
                config._experts_implementation = implementation

    def check(self, number: int) -> None:
        """After each batch."""
        for device in {each.values.device for each in self.sums.values()}:
            keys = [key for key, each in self.sums.items() if each.values.device == device]
            finite = torch.stack([self.sums[key].squares.sum() for key in keys]).isfinite().tolist()
            for key, good in zip(keys, finite):
                if not good:
                    raise FormatError(
                        f"the input of {_place(key)} is NaN or infinite in batch {number}: the model overflows on these inputs; dtype='float32' "
                        "(--dtype float32) has room, or find the batch that does it", exit_code=3, tensor=key[0],
                    )  # fmt: skip

    def _hook(self, name: str) -> Callable[..., None]:
        key = self._keys[name]
        transposed = not isinstance(self.layers[name], torch.nn.Linear)

        def hook(_: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            given = arguments[0] if arguments else next(iter(options.values()), None)
            if isinstance(given, torch.Tensor) and given.ndim > 0:
                self.transposed[key] = transposed
                self._add((key, -1), given.detach().reshape(-1, given.shape[-1]), self.mask.rows(tuple(given.shape[:-1])))

        return hook

    def _watch_stack(self, name: str, layer: Any) -> list[Any]:
        def see(leaf: str, expert: int, rows: torch.Tensor, transposed: bool) -> None:
            self.transposed[f"{name}.{leaf}"] = transposed
            self._add((f"{name}.{leaf}", expert), rows, None)

        def before(_: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
            mode = _Products(layer, see)
            changed = _without_padding(arguments, options, self.mask)
            mode.real = None if changed is None else changed[2]
            mode.__enter__()
            self._modes.append(mode)
            return None if changed is None else changed[:2]

        def after(_: Any, __: Any, output: Any) -> Any:
            if not self._modes or self._modes[-1].layer is not layer:
                return None
            mode = self._modes.pop()
            mode.__exit__(None, None, None)
            if mode.real is None or not isinstance(output, torch.Tensor):
                return None
            whole = output.new_zeros((len(mode.real), *output.shape[1:]))
            whole[mode.real] = output
            return whole

        # A forward pass that raises leaves through `after` too.
        return [layer.register_forward_pre_hook(before, with_kwargs=True), layer.register_forward_hook(after, always_call=True)]

    def _add(self, key: Key, rows: torch.Tensor, real: torch.Tensor | None) -> None:
        wants = key in self._hessians
        if self._only and not wants:
            return
        if real is not None:
            rows = rows[real.to(rows.device)]
        if not len(rows):
            return
        columns = rows.shape[1]
        sums = self.sums.get(key)
        if sums is None:
            wide = {"dtype": torch.float64, "device": rows.device}
            hessian = torch.zeros(columns, columns, **wide) if wants else None
            sums = self.sums[key] = Sums(0, torch.zeros(columns, **wide), torch.zeros(columns, **wide), hessian)
        sums.count += len(rows)
        for begin in range(0, len(rows), _ROWS):
            piece = rows[begin : begin + _ROWS]
            piece = piece if piece.dtype == torch.float64 else piece.float()
            wide = piece.double()
            sums.values += wide.sum(0)
            sums.squares += wide.square().sum(0)
            if sums.hessian is not None:
                # Adding float32 to float64 makes no copy of it.
                sums.hessian += self._product(piece)

    def _product(self, piece: torch.Tensor) -> torch.Tensor:
        if piece.dtype == torch.float64:
            return piece.T @ piece
        place = piece.shape[1], piece.device
        if place not in self._products:
            self._products.clear()
            self._products[place] = torch.empty(place[0], place[0], device=piece.device)
        return torch.mm(piece.T, piece, out=self._products[place])


class _Products(TorchFunctionMode):  # type: ignore[misc]
    """While the forward pass of a module of experts runs: the products whose right side is (an expert of) one of its stacks."""

    real: torch.Tensor | None = None

    def __init__(self, layer: Any, sink: Callable[[str, int, torch.Tensor, bool], None]) -> None:
        super().__init__()
        self.layer, self._sink = layer, sink

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in _PRODUCTS:
            self._see(*_PRODUCTS[function](args, kwargs), function is torch.nn.functional.linear)
        return function(*args, **kwargs)

    def _see(self, given: Any, weight: Any, is_linear: bool) -> None:
        if not isinstance(given, torch.Tensor) or not isinstance(weight, torch.Tensor) or weight.ndim not in (2, 3):
            return
        place = weight.untyped_storage().data_ptr()
        for name, stack in stack_parameters(self.layer).items():
            if stack.untyped_storage().data_ptr() != place or not place:
                continue
            size = stack.shape[1] * stack.shape[2]
            first = (weight.storage_offset() - stack.storage_offset()) // size
            given = given.detach()
            # A product takes (in, out), linear() takes (out, in), and either may be given a transposed view.
            transposed = is_linear == (weight.stride(-1) != 1)
            if weight.ndim == 2:
                self._sink(name, first, given.reshape(-1, given.shape[-1]), transposed)
            elif given.ndim == 3 and given.shape[0] == weight.shape[0]:
                for expert, rows in enumerate(given, first):
                    # Who hands each expert all tokens gives it zeros for those that are not its own.
                    self._sink(name, expert, rows[rows.any(1)], transposed)


def _linear(args: Any, kwargs: Any) -> tuple[Any, Any]:
    return args[0] if args else kwargs.get("input"), args[1] if len(args) > 1 else kwargs.get("weight")


def _product(args: Any, kwargs: Any) -> tuple[Any, Any]:
    return args[0] if args else None, args[1] if len(args) > 1 else kwargs.get("other", kwargs.get("mat2"))


_PRODUCTS: dict[Any, Callable[[Any, Any], tuple[Any, Any]]] = {
    torch.nn.functional.linear: _linear,
    **dict.fromkeys((torch.matmul, torch.mm, torch.bmm, torch.Tensor.matmul, torch.Tensor.mm, torch.Tensor.bmm, torch.Tensor.__matmul__), _product),
}


def stacks_of(module: torch.nn.Module) -> list[torch.nn.Module]:
    """Modules that hold the matrices of several experts in one parameter: those that transformers knows as experts, and others by their name."""
    return [each for each in module.modules() if ("expert" in type(each).__name__.lower()) and stack_parameters(each)]


def stack_parameters(layer: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: value for name, value in layer._parameters.items() if value is not None and value.ndim == 3}


def _without_padding(arguments: tuple[Any, ...], options: dict[str, Any], mask: Mask) -> tuple[tuple[Any, ...], dict[str, Any], torch.Tensor] | None:
    """The arguments of experts without the tokens that are padding, which would be routed like others; None where there are none. Experts
    see each token by itself, so that the others' outputs stay as they are."""
    given = arguments[0] if arguments else next(iter(options.values()), None)
    if not mask or not isinstance(given, torch.Tensor) or given.ndim != 2:
        return None
    real = mask.rows((len(given),))
    if real is None:
        return None
    real = real.to(given.device)

    def cut(value: Any) -> Any:
        return value[real.to(value.device)] if isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == len(real) else value

    return tuple(map(cut, arguments)), {key: cut(value) for key, value in options.items()}, real


def _place(key: Key) -> str:
    return f"layer {key[0]!r}" + (f", expert {key[1]}" if key[1] >= 0 else "")
