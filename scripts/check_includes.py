#!/usr/bin/env python3
"""Checks the dependency rule of docs/architecture.md on #include lines. Prints each violation; exits 1 if there is any."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# folder -> the project folders it may include
MAY_INCLUDE = {
    "formats/base": {"formats/base"},
    "formats": {"formats", "formats/base"},
    "kernels": {"kernels"},
    "libconvert": {"libconvert", "formats", "formats/base", "kernels"},
    "tools": {"tools", "libconvert", "formats", "formats/base", "kernels"},
}

# third-party header -> the only files that may include it
ONLY_IN = {
    r"<CLI/": r"tools/options\.cc",
    r"<zstd\.h>": r"formats/base/zstd_codec\.cc",
    r"<re2/": r"libconvert/name_pattern\.cc",
    r"<xxhash\.h>": r"formats/base/digest\.cc",
    r"<openssl/": r"formats/base/digest\.cc",
    r"[<\"]nlohmann/": r"formats/base/(strict_json|json_value)\.(h|cc)",
    r"[<\"]hwy/": r"kernels/(\w+_simd\.cc|simd\w*(-inl)?\.h|simd_\w+(-inl)?\.h|dispatch\.cc)",
    r"[<\"]absl/": r"(formats|libconvert|tools)/.*",
    r"<iostream>": r"tools/.*",
}

# Libraries never print and never exit.
PRINTS = re.compile(r"\b(printf|fprintf|puts|fputs|fwrite|exit|abort|_exit)\s*\(|std::(cout|cerr|clog)\b")


def folder_of(path: str) -> str:
    return "formats/base" if path.startswith("formats/base/") else path.split("/")[0]


def main() -> int:
    problems = []
    files = 0
    for folder in MAY_INCLUDE:
        for path in sorted((ROOT / folder).rglob("*.*")):
            if path.suffix not in (".h", ".cc", ".cu"):
                continue
            name = path.relative_to(ROOT).as_posix()
            if folder_of(name) != folder:
                continue  # formats/base has rules of its own
            files += 1
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if folder != "tools" and PRINTS.search(line.split("//")[0]):
                    problems.append(f"{name}:{number}: only tools may print or exit")
                match = re.match(r"\s*#\s*include\s+(.*)", line)
                if not match:
                    continue
                target = match.group(1)
                project = re.match(r'"((formats|kernels|libconvert|tools|tests|bench)/.*)"', target)
                if project and folder_of(project.group(1)) not in MAY_INCLUDE[folder]:
                    problems.append(f"{name}:{number}: {folder} must not include {target}")
                for header, allowed in ONLY_IN.items():
                    if re.match(header, target) and not re.fullmatch(allowed, name):
                        problems.append(f"{name}:{number}: {target} is reached through {allowed} only")
    print("\n".join(problems))
    print(f"check_includes: {files} files, {len(problems)} violations")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
