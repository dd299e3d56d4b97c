#!/usr/bin/env python3
"""Checks every #include of the product against the wings: docs/architecture.md, libconvert/README.md.

The doors of a wing and the wings that it uses stand in the q4_wing() calls of formats/CMakeLists.txt and libconvert/CMakeLists.txt;
which wing may use which is decided by the LEVELS below. An #include is right if it stays in its own wing, or if it names a door of a wing
that is used. Prints each violation; exits 1 if there is any."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Each wing sees those to the left, never a neighbour of its level.
LEVELS = {
    "formats": [["base"], ["names"], ["posix", "net", "publish", "tensor"], ["q4", "folder", "torch", "gguf"],
                ["adapter", "bnb", "logical", "safetensors"], ["source"],
                ["calibration", "exchange"]],
    "libconvert": [["base"], ["scheme"], ["encode", "source"], ["engine", "model"], ["policy", "judge", "requantize"],
                   ["adapter", "card", "plan", "output"],
                   ["convert", "repack", "verify", "inspect", "lint", "report", "export", "load"],
                   ["budget", "convert_report", "parts"], ["components"]],
}
# Folders without wings -> the folders they may include beside their own.
FOLDERS = {"kernels": set(), "tools": {"kernels", "formats", "libconvert"}, "python": {"kernels", "formats", "libconvert", "tools"}}
# What kernels/ shows to wings; its other headers are the backends' own.
KERNELS_DOORS = {"kernels.h", "feedback.h", "feedback_cuda.h", "nested_loss.h", "numeric.h", "cuda_kernels.h", "cuda_runtime.h"}

# What a reader takes in at once, of a file and of a wing.
MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_WING = 4000

# third-party header -> the only files that may include it
ONLY_IN = {
    r"<CLI/": r"tools/option(s\.cc|_parser\.h|_parts\.h|_help\.h)",
    r"<zstd\.h>": r"formats/base/zstd_codec\.cc",
    r"<curl/": r"formats/net/http\.cc",
    r"<re2/": r"libconvert/base/name_pattern\.cc",
    r"<xxhash\.h>": r"formats/base/digest\.cc",
    r"<openssl/": r"formats/base/digest\.cc",
    r"[<\"]nlohmann/": r"formats/base/(strict_json|json_tree)\.cc",
    r"[<\"]hwy/": r"kernels/(\w+_simd\.cc|simd\w*(-inl)?\.h|simd_\w+(-inl)?\.h|dispatch\.cc)",
    r"[<\"]absl/": r"(formats|libconvert|tools|python)/.*",
    r"<nanobind/": r"python/bind/.*",
    r"<iostream>": r"tools/.*",
}

# Libraries never print and never exit.
PRINTS = re.compile(r"\b(printf|fprintf|puts|fputs|fwrite|exit|abort|_exit)\s*\(|std::(cout|cerr|clog)\b")
SOURCES = {".h", ".cc", ".cu", ".cuh"}


def read_wings(library: str, problems: list) -> dict:
    """wing -> (doors, names of used wings as in CMake), from the q4_wing() calls."""
    path = ROOT / library / "CMakeLists.txt"
    commented = path.read_text(encoding="utf-8")
    text = re.sub(r"#.*", "", commented)
    wings = {}
    for name, body in re.findall(r"q4_wing\((\w+)(.*?)\n?\)", text, re.S):
        lists = {"DOORS": [], "USES": [], "SOURCES": [], "LINKS": []}
        current = None
        for word in body.split():
            if word in lists:
                current = lists[word]
            elif current is not None:
                current.append(word)
        wings[name] = (set(lists["DOORS"]), set(lists["USES"]))
        for door in lists["DOORS"]:
            if not (ROOT / library / name / door).is_file():
                problems.append(f"{library}/CMakeLists.txt: door {name}/{door} does not exist")
    levels = {wing: level for level, names in enumerate(LEVELS[library]) for wing in names}
    # Where a page or a comment numbers the levels, from 1, it numbers them so.
    page = (ROOT / library / "README.md").read_text(encoding="utf-8")
    stated = [("README.md", wing, level) for level, wing in re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.M)]
    above = ""
    for level, wing in re.findall(r"^# -+ level (\d+):|^q4_wing\((\w+)", commented, re.M):
        above = level or above
        if wing and above:
            stated.append(("CMakeLists.txt", wing, above))
    for file, wing, level in stated:
        if wing in levels and int(level) != levels[wing] + 1:
            problems.append(f"{library}/{file}: says level {level} of wing {wing}, {pathlib.Path(__file__).name} {levels[wing] + 1}")
    for name, (_, uses) in wings.items():
        if name not in levels:
            problems.append(f"{library}/CMakeLists.txt: wing {name} has no level in {pathlib.Path(__file__).name}")
            continue
        for used in uses:
            if used == "kernels" and library != "formats":
                continue
            if library == "libconvert" and used.startswith("formats/"):
                continue
            if used not in levels or levels[used] >= levels[name]:
                problems.append(f"{library}/CMakeLists.txt: wing {name} must not use {used}: it is not of a lower level")
    for folder in sorted({path.relative_to(ROOT / library).parts[0] for path in (ROOT / library).rglob("*/*.*")}):
        if folder not in wings:
            problems.append(f"{library}/{folder}: a folder that is no wing")
    return wings


def wing_of(name: str) -> tuple:
    """("libconvert", "verify", "slab.cc") of libconvert/verify/slab.cc; ("kernels", None, "kernels.h")."""
    parts = name.split("/")
    if parts[0] in LEVELS:
        return parts[0], parts[1] if len(parts) > 2 else "", "/".join(parts[2:]) or parts[-1]
    return parts[0], None, "/".join(parts[1:])


def check_edge(name: str, target: str, wings: dict) -> str:
    """Why `name` must not include `target`, or ""."""
    library, wing, _ = wing_of(name)
    to_library, to_wing, header = wing_of(target)
    if (library, wing) == (to_library, to_wing):
        return ""
    if to_library in ("tests", "bench"):
        return f"the product must not include {target}"
    if not (ROOT / target).is_file():
        return f"{target} does not exist"
    if to_library in LEVELS and header not in wings[to_library].get(to_wing, (set(), set()))[0]:
        return f"{target} is no door of its wing"
    if to_library == "kernels" and header not in KERNELS_DOORS:
        return f"{target} is the kernels' own"
    if library in LEVELS:
        used = to_wing if to_library == library else to_library if to_wing is None else f"{to_library}/{to_wing}"
        if used not in wings[library][wing][1]:
            return f"{library}/{wing} does not use {used} (q4_wing() in {library}/CMakeLists.txt)"
    elif to_library not in FOLDERS[library]:
        return f"{library} must not include {target}"
    return ""


def main() -> int:
    problems = []
    wings = {library: read_wings(library, problems) for library in LEVELS}
    files = edges = 0
    wing_lines = {}
    for folder in [*LEVELS, *FOLDERS]:
        for path in sorted((ROOT / folder).rglob("*.*")):
            if path.suffix not in SOURCES:
                continue
            name = path.relative_to(ROOT).as_posix()
            library, wing, _ = wing_of(name)
            if library in LEVELS and wing not in wings[library]:
                problems.append(f"{name}: a file outside of the wings")
                continue
            files += 1
            lines = path.read_text(encoding="utf-8").splitlines()
            if len(lines) > MOST_LINES_OF_A_FILE:
                problems.append(f"{name}: {len(lines)} lines, at most {MOST_LINES_OF_A_FILE}")
            if wing is not None:
                wing_lines[library, wing] = wing_lines.get((library, wing), 0) + len(lines)
            for number, line in enumerate(lines, 1):
                if folder != "tools" and PRINTS.search(line.split("//")[0]):
                    problems.append(f"{name}:{number}: only tools may print or exit")
                match = re.match(r"\s*#\s*include\s+(.*)", line)
                if not match:
                    continue
                target = match.group(1)
                if project := re.match(r'"((formats|kernels|libconvert|python|tools|tests|bench)/[^"]*)"', target):
                    edges += 1
                    included = project.group(1)
                    if why := check_edge(name, included, wings):
                        problems.append(f"{name}:{number}: {why}")
                for header, allowed in ONLY_IN.items():
                    if re.match(header, target) and not re.fullmatch(allowed, name):
                        problems.append(f"{name}:{number}: {target} is reached through {allowed} only")
    for (library, wing), lines in wing_lines.items():
        if lines > MOST_LINES_OF_A_WING:
            problems.append(f"{library}/{wing}: {lines} lines, at most {MOST_LINES_OF_A_WING}")
    print("\n".join(problems))
    count = sum(map(len, wings.values()))
    print(f"check_includes: {files} files in {count} wings, {edges} includes of the project, {len(problems)} violations")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
