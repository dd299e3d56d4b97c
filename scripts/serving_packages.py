"""What vllm_check.py and sglang_check.py need of others: the Python of a serving software, taken out of its wheel, and what that imports."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import zipfile
from collections.abc import Sequence


def prepare(work: pathlib.Path, name: str, version: str, needed: Sequence[str], group: str, *, endings: tuple[str, ...] = (), as_version: str = "") -> list[str]:
    """What PYTHONPATH has to begin with. Downloads once, into `work`; nothing is installed.

    Args:
        name, version: of the wheel.
        needed: packages that its Python imports.
        group: of the entry points that q4's plugin is found by.
        endings: of the wheel those files alone, and its metadata; all where there are none.
        as_version: what the metadata say instead of `version`.
    """
    source, packages, plugin = work / "source", work / "needed", work / "plugin"
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    if not source.is_dir():
        subprocess.run([*pip, "download", "--no-deps", "-d", work / "wheels", f"{name}=={version}"], check=True)
        partial = work / "source.partial"
        with zipfile.ZipFile(next((work / "wheels").glob(f"{name}-*.whl"))) as wheel:
            wheel.extractall(partial, [file for file in wheel.namelist() if not endings or file.endswith(endings) or ".dist-info/" in file])
        if as_version:
            metadata = next(partial.glob(f"{name}-*.dist-info")) / "METADATA"
            text = metadata.read_text(encoding="utf-8")
            metadata.write_text(text.replace(f"\nVersion: {version}\n", f"\nVersion: {as_version}\n", 1), encoding="utf-8")
        partial.rename(source)
    if not packages.is_dir():
        subprocess.run([*pip, "install", "--no-deps", "--target", work / "needed.partial", *needed], check=True)
        (work / "needed.partial").rename(packages)
    # What an installed q4 has.
    settings = pathlib.Path(__file__).resolve().parent.parent / "pyproject.toml"
    entry = settings.read_text(encoding="utf-8").split(f'[project.entry-points."{group}"]\n')[1].split("\n")[0].replace('"', "")
    information = plugin / "q4-0.dist-info"
    information.mkdir(parents=True, exist_ok=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: q4\nVersion: 0\n")
    (information / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
    return [str(each) for each in (plugin, source)] + [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each] + [str(packages)]
