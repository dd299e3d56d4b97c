"""The seal of a converted pipeline, q4-pipeline.json (docs/pipelines.md): what lies in its folder, and that it is what was sealed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._errors import DamagedError, FormatError, InputError, UnsupportedError, UsageError

SEAL = "q4-pipeline.json"


@dataclass(frozen=True)
class Component:
    """A component of a pipeline."""

    name: str
    library: str
    cls: str
    container: str | None
    """Path of its container, relative to the folder; None: it is carried as it was."""
    root: str | None
    """``"sha256:..."`` of the container."""


@dataclass(frozen=True)
class Seal:
    """What a seal says, once every file but the containers is known to be as it says; those are pinned by their roots."""

    components: tuple[Component, ...]
    root: str


def read_seal(folder: Path, root: str | None = None) -> Seal:
    """Checks a folder against its seal.

    Args:
        folder: of a pipeline that q4convert made.
        root: ``"sha256:..."`` that the pipeline must have, the SHA-256 of the seal.

    Raises:
        UsageError: there is no seal.
        FormatError: it is no seal.
        UnsupportedError: it is of a later version.
        DamagedError: the root is another; a file is missing, too many, or has another size or content.
    """
    place = folder / SEAL
    try:
        octets = place.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"{folder} is no pipeline that q4convert made: it has no {SEAL}", exit_code=1, path=str(folder)) from error
    except OSError as error:
        raise InputError(f"{place}: {error.strerror}", exit_code=2, path=str(place)) from error
    found = "sha256:" + hashlib.sha256(octets).hexdigest()
    if root is not None and root != found:
        raise DamagedError(f"{place}: the pipeline has the root {found}, expected {root}", exit_code=6, path=str(place))
    try:
        text = json.loads(octets)
        if text["document"] != "q4-pipeline":
            raise ValueError("another document")
        if text["version"] != 1:
            raise UnsupportedError(f"{place}: version {text['version']!r} needs a newer q4; this one reads 1", exit_code=5, path=str(place))
        components = tuple(_component(each) for each in text["components"])
        files = {str(each["path"]): (int(each["bytes"]), str(each["sha256"])) for each in text["files"]}
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{place}: no seal of a pipeline ({error})", exit_code=3, path=str(place)) from error
    _check(folder, files, {each.container for each in components if each.container is not None})
    return Seal(components, found)


def _component(text: dict[str, Any]) -> Component:
    root = None if text["root_sha256"] is None else "sha256:" + str(text["root_sha256"])
    if (text["container"] is None) != (root is None):
        raise ValueError(f"component {text['name']!r} has a container without root, or a root without container")
    container = None if text["container"] is None else str(text["container"])
    return Component(str(text["name"]), str(text["library"]), str(text["class"]), container, root)


def _check(folder: Path, files: dict[str, tuple[int, str]], containers: set[str]) -> None:
    there = set()
    for parent, _, names in os.walk(folder):
        there |= {(Path(parent) / name).relative_to(folder).as_posix() for name in names}
    there.discard(SEAL)
    # Loaders of tokenizers and components read whatever bears a name that they know.
    for name in sorted(there ^ files.keys()):
        what = "is not in the seal" if name in there else "is missing"
        raise DamagedError(f"{folder / name} {what}: the folder is not as it was sealed; q4verify checks all of it", exit_code=6, path=str(folder / name))
    if not containers <= files.keys():
        raise FormatError(f"{folder / SEAL}: a container is not among its files", exit_code=3, path=str(folder / SEAL))
    for name, (size, digest) in files.items():
        path = folder / name
        if path.stat().st_size != size:
            raise DamagedError(f"{path}: got {path.stat().st_size} bytes, expected {size} as sealed", exit_code=6, path=str(path))
        # What lies in a container is checked while it is loaded, by the root that the seal names.
        if name.endswith(".q4") and any(Path(name).parent == Path(container).parent for container in containers):
            continue
        with path.open("rb") as file:
            hashed = hashlib.sha256()
            while block := file.read(1 << 20):
                hashed.update(block)
            found = hashed.hexdigest()
        if found != digest:
            raise DamagedError(f"{path}: its SHA-256 is {found}, expected {digest} as sealed", exit_code=6, path=str(path))
