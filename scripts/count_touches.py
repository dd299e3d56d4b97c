#!/usr/bin/env python3
"""Counts the files that a person touches who adds a scheme, an encoder, a reader, an exporter, a lint rule or a section of the HTML
report. Fails if that is more than the limit, or not the number in the heading of CONTRIBUTING.md, which names the files; this derives them
from the code as it is.

A file must be touched if it tells members of a kind apart: if it names two of them, or compares with one ("== CodeBook::kNf4",
"case ...", a condition on "nf4"). Comments do not count, nor does a default that names one. Counted beside those are new files, but where
the limit is "own + n"; the CMake list of each new source or test; and the pages of the specification. Not counted: what a script writes
(docs/errors.md, docs/lint.md, lists in pages and schemas: scripts/gen_*.py); CHANGELOG.md, where every change gets a line; changes of
tests, but for lint rules; and what only some members touch, which IF lists.

  count_touches.py       a line per kind
  count_touches.py -v    the files of each, and why"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRODUCT = ("kernels", "formats", "libconvert", "tools")
SOURCES = {".h", ".cc", ".cu", ".cuh", ".js", ".css"}
TESTS_LIST = "tests/libconvert/CMakeLists.txt"


def code_of(path: pathlib.Path) -> str:
    """The text without comments; string literals stay."""
    text = path.read_text(encoding="utf-8")
    token = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.S)
    return token.sub(lambda m: m[0] if m[0].startswith('"') else " ", text)


CODE = {
    path.relative_to(ROOT).as_posix(): code_of(path)
    for folder in PRODUCT
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in SOURCES
}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def enumerators(enum: str) -> list:
    """The names of an enum class, from the one file that defines it."""
    bodies = [body for code in CODE.values() for body in re.findall(rf"enum class {enum}\b[^{{;]*\{{(.*?)\}}", code, re.S)]
    if len(bodies) != 1:
        sys.exit(f"count_touches: {len(bodies)} definitions of enum class {enum}, expected 1")
    return re.findall(r"\b(k\w+)", bodies[0])


def defining(pattern: str) -> set:
    return {name for name, code in CODE.items() if re.search(pattern, code)}


def telling_apart(members: list, folders: tuple = PRODUCT) -> set:
    """Files that name two members or compare with one; `members` has the patterns that name each."""
    found = set()
    for name, code in CODE.items():
        if not name.startswith(tuple(folder + "/" for folder in folders)):
            continue
        named = 0
        for patterns in members:
            one = "(?:" + "|".join(patterns) + ")"
            named += re.search(one, code) is not None
            if re.search(rf"[!=]=\s*{one}|{one}\s*[!=]=|\bcase\s+{one}\s*:", code):
                named = 2
        if named >= 2:
            found.add(name)
    return found


def why(files, reason: str) -> dict:
    return {name: reason for name in files}


# What only some members of a kind touch, and which.
IF = {
    "scheme": {
        "formats/bnb/layout.cc": "one that bitsandbytes reads: the library's name for it",
        "libconvert/judge/default_gate.json": "one whose error has been measured: limits of the default gate",
    },
    "encoder": {
        "kernels/": "one with kernels of its own: kernels/README.md, Adding an operation",
        "libconvert/encode/mse.cc": "one that has the scales of mse, however its errors count",
        "libconvert/engine/cuda_slab_engine.cc": "one that GPUs run too; until then they refuse it (kDeviceEncoder)",
    },
    "reader": {
        "formats/safetensors/sniff.cc": "one whose files' first bytes are not told apart yet; sniff.h too",
        "formats/tensor/source_tensor.h": "one whose tensors are not stored as they are read: a recipe; source_reader.cc carries it out",
        "formats/folder/companion_kinds.cc": "one whose ending is not yet among those that never travel as companions",
        "formats/folder/adapters.cc": "one in which adapters are published; foreign_files.cc knows where they lie",
        "formats/source/foreign_files.cc": "the same",
        "formats/net/web.cc": "one whose files have usual names: they are asked for where no folder is listed",
        "libconvert/lint/files.cc": "one in which 4-bit models are published: --lint looks for faults of published ones; lint.cc names it",
        "libconvert/lint/lint.cc": "the same",
    },
    "exporter": {
        "libconvert/export/export.h": "one with options of its own; tools/options.{h,cc} and export_job.cc too",
        "docs/schema/export.schema.json": "one whose report tells settings of its own",
    },
    "section of the HTML report": {"libconvert/report/html/page.css": "one with style of its own; page.js if it moves"},
}

# Each of these returns ({own new file: why}, {other file: why}).


def scheme() -> tuple:
    layouts = [name for name in enumerators("Q4Scheme") if name != "kRaw"]
    members = [[rf"Q4Scheme::{name}\b", rf"CodeBook::{name}\b", rf'"{name[1:].lower()}"', rf"\bk?{name[1:]}[A-Z]\w*"] for name in layouts]
    files = why(telling_apart(members), "tells schemes apart")
    files |= why(defining(r"enum class (Q4Scheme|CodeBook)\b[^;{]*\{"), "its number")
    for name in IF["scheme"]:
        files.pop(name, None)
    files |= {"docs/format.md": "how it is stored", "docs/numerics.md": "what it computes"}
    return {}, files


def encoder() -> tuple:
    names = [name for name in enumerators("Q4Encoder") if name != "kNone"]
    members = [[rf"Q4Encoder::{name}\b", rf'"{name[1:].lower()}"'] for name in names]
    files = why(telling_apart(members), "tells encoders apart")
    files |= why(defining(r"enum class Q4Encoder\b[^;{]*\{"), "its number")
    files |= why(defining(r"\b(?!Find)\w+Encoder\(\)[,}]"), "its row")
    for name in IF["encoder"]:
        files.pop(name, None)
    files |= {"docs/numerics.md": "what it computes", "libconvert/encode/NEW.h": "its own", "libconvert/encode/NEW.cc": "its own"}
    files |= why({"libconvert/CMakeLists.txt", TESTS_LIST}, "the list of sources")
    return {}, files


def reader() -> tuple:
    """A row, and whatever outside of one format's own files knows it by its reader, its ending or its kind."""
    own = why({"formats/source/NEW.h", "formats/source/NEW.cc", "tests/formats/source/NEW_test.cc"}, "its own")
    home = "formats/source/source_formats.cc"
    formats = rows_of(home, r'\{"(\w+)", "(\.\w+)"')
    # JSON is no weight file: an index, whatever the format of its shards. Whoever asks whether a file is of any kind tells none apart.
    kinds = [[rf"FileKind::{name}\b"] for name in enumerators("FileKind") if name not in ("kJson", "kUnknown")]
    files = why(telling_apart(kinds), "tells kinds of file apart")
    for name, ending in formats:
        mine = {f"formats/{folder}/{name}.{ending_of_code}" for folder in ("source", name) for ending_of_code in ("h", "cc")}
        known = defining(rf'\bRead{name.capitalize()}Header\(|"[\w.]*\{ending}"')
        files |= why({path for path in known - mine if not path.startswith(("libconvert/export/", "formats/calibration/"))}, "knows a format by its reader or ending")
    for name in IF["reader"]:
        files.pop(name, None)
    files |= why({home}, "its row")
    files |= why({"formats/CMakeLists.txt", "tests/formats/CMakeLists.txt"}, "the list of sources")
    return own, files


def rows_of(name: str, pattern: str) -> list:
    rows = re.findall(pattern, CODE[name])
    if not rows:
        sys.exit(f"count_touches: {name}: no row of the form that this script reads")
    return rows


def exporter() -> tuple:
    functions = rows_of("libconvert/export/exporter.cc", r"&(\w+Exporter)\(\)")
    names = rows_of("libconvert/export/exporter.cc", r'\{"(\w+)",')
    members = [[rf"\b{function}\(", rf'"{name}"'] for function, name in zip(functions, names)]
    homes = {f"libconvert/export/{name}{ending}" for name in names for ending in (".h", ".cc")}
    files = why(telling_apart(members, ("libconvert/export", "tools")) - homes, "tells exporters apart")
    files |= why({"libconvert/CMakeLists.txt", TESTS_LIST}, "the list of sources")
    own = why({"libconvert/export/NEW.h", "libconvert/export/NEW.cc", "docs/export_NEW.md", "tests/libconvert/export/NEW_test.cc"}, "its own")
    return own, files


def lint_rule() -> tuple:
    """Of the rule that stands in most files."""
    worst = {}
    tests = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.cc")}
    rules = [(home, *rule) for home, code in CODE.items()
             for rule in re.findall(r'constexpr LintRule (k\w+)\{\s*\{\d+,[^}]*\},\s*"([\w-]+)"', code)]
    if not rules:
        sys.exit("count_touches: no lint rule of the form that this script reads")
    for home, constant, rule in rules:
        files = {home: "the rule and its check"}
        files |= why({name for name, code in CODE.items() if re.search(rf"\b{constant}\b", code)} - {home}, "names the rule")
        files |= why({name for name, text in tests.items() if "lint" in name and f'"{rule}"' in text}, "breaks it")
        if len(files) > len(worst):
            worst = files
    return {}, worst


def section() -> tuple:
    functions = rows_of("libconvert/report/html/sections.h", r'\{"\w+", "\w+", (\w+)\}')
    homes = defining(r"std::string (" + "|".join(functions) + r")\([^)]*\) \{")
    shared = telling_apart([[rf"\b{function}\b"] for function in functions]) - homes
    files = why(shared, "its row") | {"libconvert/CMakeLists.txt": "the list of sources"}
    return {}, files | {"libconvert/report/html/NEW_section.cc": "its own"}


KINDS = (
    ("scheme", scheme, 10),
    ("encoder", encoder, 8),
    ("reader", reader, 3),
    ("exporter", exporter, 3),
    ("lint rule", lint_rule, 3),
    ("section of the HTML report", section, 3),
)


def main() -> int:
    failures = 0
    page = read("CONTRIBUTING.md")
    for kind, count, limit in KINDS:
        own, files = count()
        heading = f"{kind} ({f'own files and {len(files)}' if own else f'{len(files)} files'})"
        fault = ": TOO MANY" if len(files) > limit else ""
        if not re.search(rf"^### An? {re.escape(heading)}$", page, re.M):
            fault += f': CONTRIBUTING.md has no heading "... {heading}"'
        failures += fault != ""
        print(f"{kind}: {f'{len(own)} own + ' if own else ''}{len(files)} files, at most {'own + ' if own else ''}{limit}{fault}")
        if "-v" in sys.argv[1:] or fault:
            for name, reason in sorted({**own, **files}.items()):
                print(f"    {name}: {reason}")
            for name, reason in IF.get(kind, {}).items():
                print(f"    ({name}: {reason})")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
