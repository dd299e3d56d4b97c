"""A thin directory: configuration and tokenizer of a model as files, its weights as a link to the container (docs/python_vllm.md)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal, cast

from . import _core
from ._errors import DamagedError, FormatError, InputError, UnsupportedError, UsageError
from ._model import open as open_model
from ._words import StrPath, words

METHOD = "q4"
"""``quant_method`` of such a directory's configuration."""

Link = Literal["symlink", "hardlink", "copy"]


def thin_directory(path: StrPath, directory: StrPath, *, link: Link = "symlink", root: str | None = None) -> Path:
    """Makes a directory that serving software takes for a model: the embedded files (configuration, tokenizer, templates), and
    ``model.q4`` instead of weight files. Its config.json names the container and its root, so that no other is loaded in its place.

    Args:
        path: a container ``NAME.q4``, or the list ``NAME.q4.index.json`` of a sharded one.
        directory: to be made; it appears when all of it is complete.
        link: what ``model.q4`` is: a relative symbolic link, a hard link, or a copy.
        root: ``"sha256:..."`` that the model must have.

    Raises:
        UsageError: the directory is there already.
        UnsupportedError: what ``q4export --to bnb`` refuses, a component of diffusers, a container without configuration.
        InputError: it cannot be written.
    """
    if link not in ("symlink", "hardlink", "copy"):
        raise UsageError(f"link={link!r} is none of 'symlink', 'hardlink', 'copy'", exit_code=1)
    out = Path(directory)
    if os.path.lexists(out):
        raise UsageError(f"{out} is there already; remove it or choose another directory", exit_code=1, path=str(out))
    model = open_model(path, root=root)
    files = {name: content for name, content in model.files.items()}
    text = _config(path, model.root, files)
    text["quantization_config"] = {"quant_method": METHOD, "container": _container_name(path), "root": model.root}
    if text.get("dtype") is None and text.get("torch_dtype") is None:
        text["dtype"] = _dtype_of(model)
    files["config.json"] = (json.dumps(text, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
    partial = out.with_name(out.name + ".partial")
    try:
        partial.mkdir()
    except FileExistsError as error:
        raise UsageError(f"{partial} is there already, of a run that was killed or still works; remove it", exit_code=1, path=str(partial)) from error
    except OSError as error:
        raise InputError(f"{partial}: {error.strerror}", exit_code=2, path=str(partial)) from error
    try:
        for name, content in files.items():
            place = partial / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        for source, name in _parts(path):
            _put(source, partial / name, link)
        # Never over something that has come there meanwhile.
        if os.path.lexists(out):
            raise UsageError(f"{out} is there already; remove it or choose another directory", exit_code=1, path=str(out))
        partial.rename(out)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, InputError):
            raise
        raise InputError(f"{partial}: {error.strerror}", exit_code=2, path=str(partial)) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out


def thin_container(directory: StrPath) -> tuple[Path, str] | None:
    """The container of a thin directory, and the root that it must have; None of any other directory.

    Raises:
        FormatError: its configuration names no container beside it.
    """
    folder = Path(directory)
    try:
        text = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    settings = text.get("quantization_config") if isinstance(text, dict) else None
    if not isinstance(settings, dict) or settings.get("quant_method") != METHOD:
        return None
    name, root = settings.get("container"), settings.get("root")
    if not isinstance(name, str) or not isinstance(root, str) or os.path.basename(name) != name or name in ("", ".", ".."):
        raise FormatError(f"{folder / 'config.json'}: quantization_config names no container of this directory and its root", exit_code=3, path=str(folder))
    return folder / name, root


def resolved(path: Any, root: str | None) -> tuple[Any, str | None]:
    """Of a thin directory its container, and the root that it must have; others as they are."""
    if not isinstance(path, (str, bytes, os.PathLike)) or not os.path.isdir(path):
        return path, root
    place = thin_container(cast(StrPath, path))
    if place is None:
        raise UsageError(f"{os.fspath(path)!r} is a folder, and no thin directory of a container; q4.vllm.thin_directory makes one", exit_code=1)
    if root is not None and root != place[1]:
        raise DamagedError(f"{os.fspath(path)!r} is of the root {place[1]}, expected {root}", exit_code=6, path=str(place[0]))
    return place[0], place[1]


def _config(path: StrPath, root: str, files: dict[str, bytes]) -> dict[str, Any]:
    # What q4export refuses to write for bitsandbytes, such as names of llama.cpp, no loader of such layers understands either.
    source = _core.fill_source(os.fsencode(path), root, False)
    options = words("q4export", "MODEL", output="DIRECTORY", to="bnb", experts="keep4bit", unloadable="dequantize")
    _, written, _ = source.outline(options)
    if "config.json" not in files:
        raise UnsupportedError(f"{path} holds no config.json, which serving software needs", exit_code=5, path=str(path))
    text = json.loads(dict(written).get("config.json", files["config.json"]))
    if not isinstance(text, dict) or "_class_name" in text:
        raise UnsupportedError(f"{path} is a component of diffusers: q4.diffusers loads it", exit_code=5, path=str(path))
    return cast("dict[str, Any]", text)


def _dtype_of(model: Any) -> str:
    """Of most elements, as transformers saves it."""
    count: dict[str, int] = {}
    for tensor in model.values():
        if tensor.dtype in ("F32", "F16", "BF16"):
            count[tensor.dtype] = count.get(tensor.dtype, 0) + tensor.elements
    word = max(count, key=lambda each: count[each], default="F32")
    return {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[word]


def _container_name(path: StrPath) -> str:
    return os.path.basename(os.fspath(path)) if _is_list(path) else "model.q4"


def _is_list(path: StrPath) -> bool:
    return os.fspath(path).endswith(".index.json")


def _parts(path: StrPath) -> list[tuple[Path, str]]:
    """(file, its name in the directory)."""
    place = Path(path)
    if not _is_list(path):
        return [(place, "model.q4")]
    # That the list is one, and its names plain, was checked when it was opened.
    shards = [str(each["name"]) for each in json.loads(place.read_bytes())["parts"]]
    return [(place, place.name), *((place.parent / name, name) for name in shards)]


def _put(source: Path, place: Path, link: Link) -> None:
    if link == "copy":
        shutil.copyfile(source, place)
    elif link == "hardlink":
        os.link(os.path.realpath(source), place)
    else:
        # The directory may be moved together with what it links to. It lies where it will lie, under another name.
        os.symlink(os.path.relpath(os.path.realpath(source), os.path.realpath(place.parent)), place)
