"""The models of an evaluation: what they were given as, loading them, and one forward pass as rows that can be compared."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import _core
from ._batches import batch_is_named, is_sentence_transformer
from ._errors import FormatError, UnsupportedError, UsageError
from ._model import Model
from ._model import open as open_model

_WEIGHTS = (".safetensors", ".bin")
_DEFAULT_LENGTH = 512
_WHAT = "a model is a directory, a container NAME.q4, a q4.Model, or a torch.nn.Module"


@dataclass(frozen=True)
class LoadOptions:
    device: Any
    dtype: Any
    cls: Any
    code: Any


class Side:
    """One of the models. `module` is there while it is loaded."""

    def __init__(self, given: Any, name: str, options: LoadOptions) -> None:
        self.name, self._given, self._options = name, given, options
        self.module: Any = None
        self._pooling: str | None = None
        self._container: Model | None = None
        self._folder: Path | None = None
        if isinstance(given, torch.nn.Module):
            self.kind = "module"
        elif isinstance(given, Model):
            self.kind, self._container = "container", given
        elif isinstance(given, (str, os.PathLike)):
            path = Path(given)
            if path.is_dir() and (path / "config.json").is_file():
                self.kind, self._folder = "directory", path
            elif path.is_dir():
                hint = "; a pipeline of diffusers cannot be evaluated here" if (path / "model_index.json").is_file() else ""
                raise UsageError(f"{path}: holds no config.json: {_WHAT}{hint}", exit_code=1, path=str(path))
            else:
                self.kind, self._container = "container", open_model(path)
        else:
            raise UsageError(f"{name}: {_WHAT}, not {type(given).__name__}", exit_code=1)

    def facts(self) -> dict[str, Any]:
        """What identifies it (docs/schema/evaluation.schema.json)."""
        found: dict[str, Any] = {"name": self.name, "kind": self.kind, "path": None, "root_sha256": None, "content_sha256": None, "sha256": None, "files": []}
        if self._container is not None:
            core: _core.Container = self._container._core
            found["path"], found["root_sha256"] = str(self._container.path), self._container.root.removeprefix("sha256:")
            found["content_sha256"] = (core.content_identity() or "").removeprefix("sha256:") or None
        elif self._folder is not None:
            found["path"] = os.fspath(self._folder)
            files = sorted(file for file in self._folder.iterdir() if file.name.endswith(_WEIGHTS) and file.is_file())
            found["files"] = [{"name": file.name, "sha256": _file_digest(file)} for file in files]
            lines = "".join(f"{file['sha256']}  {file['name']}\n" for file in found["files"])
            found["sha256"] = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
        else:
            found["sha256"] = _module_digest(self._given)
        return found

    @property
    def folder(self) -> Path | None:
        """Of a model that was given as a directory."""
        return self._folder

    @contextmanager
    def loaded(self) -> Iterator[Any]:
        if self.kind == "module":
            self.module = self._given
            trained = [module for module in self.module.modules() if module.training]
        else:
            self.module = self._load()
            trained = []
        self.module.eval()
        try:
            yield self.module
        finally:
            self.module = None
            for module in trained:
                module.training = True

    def _load(self) -> Any:
        from . import transformers as q4_transformers

        options = self._options
        if self._container is not None:
            self._pooling = _pooling(self._embedded)
            return q4_transformers.load(self._container, cls=options.cls, device_map=options.device, dtype=options.dtype, code=options.code)
        assert self._folder is not None
        folder = self._folder
        self._pooling = _pooling(lambda name: (folder / name).read_bytes() if (folder / name).is_file() else None)
        config, model_class = q4_transformers._config_and_class(folder, options.cls, options.code)
        devices = q4_transformers._devices(options.device)
        model, info = model_class.from_pretrained(
            str(folder), config=config, device_map=options.device if devices is None else devices, dtype=options.dtype, local_files_only=True, output_loading_info=True
        )
        missing = sorted(str(name) for name in info.get("missing_keys") or ())
        if missing:
            raise FormatError(
                f"{folder}: has no {', '.join(map(repr, missing[:3]))}{' and others' if len(missing) > 3 else ''}, which {model_class.__name__} needs and would "
                "make at random. cls= names another class", exit_code=3, path=str(folder),
            )  # fmt: skip
        return model

    def _embedded(self, name: str) -> bytes | None:
        assert self._container is not None
        return self._container.files.get(name)

    def tokenizer(self) -> Any:
        """The one that lies with it; None where there is none."""
        from . import transformers as q4_transformers

        if self._container is not None:
            return q4_transformers.tokenizer(self._container)
        folder = self._folder
        if folder is None:
            own = getattr(self._given, "tokenizer", None)
            if callable(own):
                return own
            name = getattr(self._given, "name_or_path", None)
            if not isinstance(name, str) or not os.path.isdir(name):
                return q4_transformers.tokenizer(name) if isinstance(name, str) and name.endswith(".q4") and os.path.isfile(name) else None
            folder = Path(name)
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)

    def longest(self) -> int | None:
        """Tokens that sentence-transformers cuts texts at."""
        if self.kind == "module":
            longest = getattr(self._given, "max_seq_length", None)
            return longest if isinstance(longest, int) else None
        read = self._embedded if self._container is not None else self._file
        text = read("sentence_bert_config.json")
        longest = json.loads(text).get("max_seq_length") if text else None
        return longest if isinstance(longest, int) else None

    def _file(self, name: str) -> bytes | None:
        assert self._folder is not None
        return (self._folder / name).read_bytes() if (self._folder / name).is_file() else None

    @property
    def predicts_next(self) -> bool:
        """Whether it is a causal language model."""
        can = getattr(self.module, "can_generate", None)
        return bool(callable(can) and can()) and not getattr(self.module.config, "is_encoder_decoder", False) and not is_sentence_transformer(self.module)

    def forward(self, batch: Mapping[str, torch.Tensor], number: int) -> Observed:
        """One pass, without gradients. Of labels only an encoder-decoder learns, which makes its decoder's inputs of them. `number`: of the
        batch, for messages."""
        module = self.module
        device = device_of(module)
        config = getattr(module, "config", None)
        given: dict[str, Any] = {key: value.to(device) for key, value in batch.items() if key != "labels" or getattr(config, "is_encoder_decoder", False)}
        with torch.no_grad(), batch_is_named(module, batch, number):
            if is_sentence_transformer(module):
                return Observed("embedding", module(given)["sentence_embedding"])
            if "use_cache" in inspect.signature(module.forward).parameters:
                given["use_cache"] = False
            output = module(**given)
        logits, hidden = _member(output, "logits"), _member(output, "last_hidden_state")
        if isinstance(logits, torch.Tensor):
            if logits.ndim not in (2, 3):
                raise UnsupportedError(f"{self.name}: logits of the shape {tuple(logits.shape)} are not compared, only (n, classes) and (n, tokens, classes)", exit_code=5)
            return Observed("logits", logits)
        if isinstance(hidden, torch.Tensor) and hidden.ndim in (3, 4):
            return Observed("embedding", _pooled(hidden, batch.get("attention_mask"), self._pooling or "mean"))
        names = sorted(output) if isinstance(output, Mapping) else type(output).__name__
        raise UnsupportedError(f"{self.name}: gives neither logits nor last_hidden_state, but {names}; cls= names another class", exit_code=5)


def prepared(side: Side, tokenizer: Any, asked: int | None) -> tuple[Any, int]:
    """What texts are given to a model with: its tokenizer, unless there is another, and the length of its sequences."""
    config = getattr(side.module, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise UsageError("an encoder-decoder is run on batches with input_ids and labels, not on texts", exit_code=1)
    tokenizer = tokenizer if tokenizer is not None else side.tokenizer()
    if tokenizer is None:
        raise UsageError("texts need tokenizer=, as the model has none beside it", exit_code=1)
    limits = [getattr(tokenizer, "model_max_length", None), getattr(config, "max_position_embeddings", None), None if side.predicts_next else side.longest()]
    known = [limit for limit in limits if isinstance(limit, int) and 1 < limit < 1 << 31]
    if asked is not None and known and asked > min(known):
        raise UsageError(f"max_length={asked}: the model and its tokenizer take {min(known)} tokens at most", exit_code=1)
    return tokenizer, asked if asked is not None else min([_DEFAULT_LENGTH, *known])


@dataclass(frozen=True)
class Observed:
    """What a forward pass gave. `kind`: "logits", (sequences, tokens, classes) or (sequences, classes); "embedding",
    (sequences, dimensions)."""

    kind: str
    values: torch.Tensor


def _member(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def device_of(module: Any) -> torch.device:
    own = getattr(module, "device", None)
    if isinstance(own, torch.device) and own.type != "meta":
        return own
    parameter = next(module.parameters(), None)
    return parameter.device if parameter is not None else torch.device("cpu")


def _pooling(read: Any) -> str | None:
    """How sentence-transformers makes one embedding of those of the tokens: "mean", "cls" or "max"; None where nothing says so."""
    modules = read("modules.json")
    if modules is None:
        return None
    pooling = None
    for entry in json.loads(modules):
        kind, path = str(entry.get("type", "")).rpartition(".")[2], entry.get("path") or ""
        if kind in ("Transformer", "Normalize"):
            continue
        config = json.loads(read(f"{path}/config.json") or b"{}") if kind == "Pooling" else {}
        modes = [name for key, name in (("cls_token", "cls"), ("mean_tokens", "mean"), ("max_tokens", "max")) if config.get(f"pooling_mode_{key}")]
        modes += [config["pooling_mode"]] if isinstance(config.get("pooling_mode"), str) else []
        others = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True and key[13:] not in ("cls_token", "mean_tokens", "max_tokens")]
        if kind != "Pooling" or others or len(modes) != 1 or modes[0] not in ("cls", "mean", "max"):
            raise UnsupportedError(
                f"modules.json has a step {kind!r} {path!r} that is not carried out here; give evaluate() SentenceTransformer objects instead of paths", exit_code=5
            )
        pooling = modes[0]
    return pooling


def _pooled(hidden: torch.Tensor, mask: torch.Tensor | None, pooling: str) -> torch.Tensor:
    if hidden.ndim == 4:  # (n, channels, height, width)
        return hidden.double().flatten(2).mean(-1)
    if mask is None or tuple(mask.shape) != tuple(hidden.shape[:2]):
        mask = torch.ones(hidden.shape[:2], dtype=torch.int64)
    mask = mask.to(hidden.device).bool()
    wide = hidden.double()
    if pooling == "cls":
        return wide[torch.arange(len(wide), device=wide.device), mask.int().argmax(-1)]
    if pooling == "max":
        return wide.masked_fill(~mask[:, :, None], float("-inf")).amax(1)
    return wide.masked_fill(~mask[:, :, None], 0).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def _module_digest(module: torch.nn.Module) -> str:
    """Of all parameters and buffers as they lie in memory, by name: name, dtype, shape, bytes; of weights in 4 bits with their
    scales. Not of state_dict(), which on some CPUs makes bitsandbytes pack weights anew, with scales that were rounded."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, parameter in list(tensors.items()):
        state = getattr(parameter, "quant_state", None)
        for part in ("absmax", "offset", "state2"):
            value = getattr(state, part, None)
            if part == "state2":
                value = getattr(value, "absmax", None)
            if isinstance(value, torch.Tensor):
                tensors[f"{name}.{part}"] = value
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        flat = value.detach().contiguous().reshape(-1).view(torch.uint8)
        for begin in range(0, flat.numel(), 1 << 26):
            digest.update(flat[begin : begin + (1 << 26)].cpu().numpy())
    return digest.hexdigest()
