#!/usr/bin/env python3
"""Checks what docs/, README.md and the other pages say about this tree: paths, links, names, flags, counts. Exits 1 if anything is wrong.

  check_docs.py            names page, line and fault
  check_docs.py --update   first writes the counts that it can compute into the pages

Whatever a page states that is not checked here must be a measurement, with its date or commit."""

import importlib
import json
import pathlib
import re
import sys

from gen_errors_md import lint_rules

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = (".ci", "bench", "cmake", "docs", "formats", "kernels", "libconvert", "python", "scripts", "testdata", "tests", "tools")
TOOLS = ("q4convert", "q4inspect", "q4verify", "q4export")
STRUCTS = dict(zip(TOOLS, ("ConvertFlags", "InspectFlags", "VerifyFlags", "ExportFlags")))
EVERYWHERE = {"--help", "--version"}  # CLI11's own
# A cell is read at a glance: in the pages of figures it is this many words at most.
MOST_WORDS_IN_A_CELL = 30
PAGES_OF_FIGURES = ("docs/testing.md", "docs/performance.md")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pages() -> list[str]:
    """Every page but the changelog, which speaks of the past."""
    found = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("testdata/**/*.md"),
        *(page for folder in ("formats", "kernels", "libconvert", "tests", ".ci", "bench") for page in ROOT.glob(f"{folder}/**/*.md")),
    ]
    return sorted(page.relative_to(ROOT).as_posix() for page in found if page.name != "CHANGELOG.md")


def sources(*folders: str) -> dict[str, str]:
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".h", ".cc", ".cu", ".cuh")
    }


# --- what the tree says ---


def tool_flags(tool: str) -> set[str]:
    """What Describe() of the tool declares, itself and through the helpers that it calls, with what all tools have."""
    text = read("tools/options.cc") + read("tools/option_parts.cc")

    def declared(code: str) -> set[str]:
        names = re.findall(r'(?:add_(?:option|flag|option_function<[^(]*>)\(|AddLimit\(app,)\s*"([^"]+)"', code)
        return {name.lstrip("!") for group in names for name in group.split(",") if name.lstrip("!").startswith("-")}

    body = re.search(rf"^std::string_view Describe\(CLI::App& app, {STRUCTS[tool]}\*.*?\n}}\n", text, re.DOTALL | re.MULTILINE).group(0)
    flags = declared(body) | EVERYWHERE
    for helper, name in re.findall(r"^((?:void|CLI::Option\*) (Add\w+)\(CLI::App& app.*?\n}\n)", text, re.DOTALL | re.MULTILINE):
        flags |= declared(helper) if f"{name}(" in body else set()
    return flags


def ctest_entries() -> set[str]:
    entries = set()
    for path in (ROOT / "tests").rglob("CMakeLists.txt"):
        text = path.read_text(encoding="utf-8")
        entries |= {f"libconvert_{wing}" for wing in re.findall(r"^\s*q4_wing_test\((\w+)", text, re.MULTILINE)}
        entries |= {
            name
            for name in re.findall(r"(?:add_test\(NAME|q4_(?:catch|tree)_test\(|q4_add_gpu_test\()\s*([A-Za-z]\w*)(?![\w$])", text)
            if name not in ("name", "program")
        }
    return entries | {f"fuzz_{target}" for target in fuzz_targets()}


def fuzz_targets() -> set[str]:
    """Of these CMake makes a test each: q4_add_replay() names programs."""
    return {
        target
        for names in re.findall(r"^set\(q4_fuzz_(?:formats|convert) ([^)]*)\)", read("tests/fuzz/CMakeLists.txt"), re.MULTILINE)
        for target in names.split()
    }


def exit_codes() -> set[int]:
    for text in sources("formats").values():
        if found := re.search(r"enum class ExitCode : int \{(.*?)\};", text, re.DOTALL):
            return {int(number) for number in re.findall(r"= (\d+),", found.group(1))}
    raise SystemExit("check_docs: no enum ExitCode in formats/")


def hostile_rows() -> list[str]:
    """Their names, such as X11."""
    sys.path[:0] = [str(ROOT / "tests/hostile"), str(ROOT / "tests/support")]
    return [row.id for path in sorted((ROOT / "tests/hostile").glob("rows_*.py")) for row in importlib.import_module(path.stem).ROWS]


def limits() -> dict[str, int]:
    """formats/base/limits.h: {constant: value}."""
    found = re.findall(r"inline constexpr [\w:]+ (k\w+) = ([^;]+);", read("formats/base/limits.h"))
    plain = {name: re.sub(r"std::uint64_t\{(\d+)\}|(?<=\d)u", r"\1", value.replace("'", "")) for name, value in found}
    return {name: eval(value, {"__builtins__": {}}) for name, value in plain.items()}  # numbers and << only


def guard_count() -> int:
    sys.path[:0] = [str(ROOT / "scripts")]
    import guards

    return sum(len(guards.find_guards(text)) for text in sources("formats").values())


def cuda_architectures() -> str:
    return re.search(r'"([\d;a-z-]*90-real;[\d;a-z-]*)"', read("cmake/q4_cuda.cmake")).group(1)


def default_gate() -> pathlib.Path:
    """The file that the build embeds."""
    for lists in sorted((ROOT / "libconvert").rglob("CMakeLists.txt")):
        if found := re.search(r"kDefaultGateJson=([^\s)]+)", lists.read_text(encoding="utf-8")):
            return lists.parent / found.group(1)
    raise SystemExit("check_docs: no CMakeLists.txt of libconvert/ embeds kDefaultGateJson")


def facts() -> dict[str, str]:
    """Every count that pages may state, as text."""
    policy = json.loads(read("testdata/policy/architectures.json"))
    counts = {
        "issues": len(set(re.findall(r"^\| Q4-(\d+)", read("docs/errors.md"), re.MULTILINE))),
        "lint rules": len(lint_rules()),
        "hostile rows": len(hostile_rows()),
        "exempt": len(importlib.import_module("exemptions").ISSUES),
        "fuzz targets": len(list((ROOT / "tests/fuzz").glob("*_fuzz.cc"))),
        "guards": guard_count(),
        "classes": policy["classes_checked"],
        "model types": policy["model_types_checked"],
        "cases": len(policy["entries"]),
        "tensors": sum(len(names) for entry in policy["entries"] for names in entry["tensors"].values()),
    }
    texts = {name: f"{count:,}" for name, count in (counts | limits()).items()}
    texts |= {f"{name} MiB": f"{count >> 20:,}" for name, count in limits().items()}
    texts |= {f"{name} KiB": f"{count >> 10:,}" for name, count in limits().items()}
    texts["kZstdWindowLog MiB"] = f"{1 << limits()['kZstdWindowLog'] - 20}"
    texts["architectures"] = str(len(cuda_architectures().split(";")))
    texts["transformers"] = policy["transformers"]
    texts["bitsandbytes"] = re.search(r"bitsandbytes==([\d.]+)", read("scripts/python_env.sh")).group(1)
    texts["version"] = re.search(r'kQ4Version = "([\d.]+)"', "".join(sources("libconvert").values())).group(1)
    return texts


# page, text with {fact}s. The text must be there, with the right counts.
STATEMENTS = (
    ("docs/testing.md", "| numbered errors | {issues} |"),
    ("docs/testing.md", "| lint rules, each broken by a checkpoint of its own | {lint rules} |"),
    ("docs/testing.md", "| rows of the hostile table | {hostile rows} |"),
    ("docs/testing.md", "| error numbers that no hostile row meets, each with its reason | {exempt} |"),
    ("docs/testing.md", "| fuzz targets | {fuzz targets} |"),
    ("docs/testing.md", "| guards of formats/ that the mutation script finds | {guards} |"),
    ("docs/testing.md", "| model classes whose tensors were compared with transformers | {classes} of {model types} model types |"),
    ("docs/testing.md", "| distinct cases among them, which the test replays | {cases}, with {tensors} tensors |"),
    ("docs/policy_coverage.md", "Result for transformers {transformers}: {classes} classes of {model types} model types"),
    ("docs/policy_coverage.md", "| **all** | **{classes}** |"),
    (
        "testdata/README.md",
        "what transformers {transformers} would quantize with `load_in_4bit`, for the distinct cases among {classes} model classes",
    ),
    ("testdata/README.md", "running transformers {transformers}, bitsandbytes {bitsandbytes} and safetensors"),
    ("README.md", "for {architectures} generations of GPUs"),
    ("docs/safety.md", "| safetensors header | {kSafetensorsHeaderBytes} bytes |"),
    ("docs/safety.md", "| tensors of a checkpoint | {kTensorsPerCheckpoint} |"),
    ("docs/safety.md", "| tensor name | {kTensorNameBytes} bytes, UTF-8 |"),
    ("docs/safety.md", "| dimensions of a tensor | {kTensorDimensions} |"),
    (
        "docs/safety.md",
        "| JSON depth: safetensors header, shard list of a container, recipe or report, files of a model |"
        " {kSafetensorsJsonDepth}, {kIndexJsonDepth}, {kConfigJsonDepth}, {kModelJsonDepth} |",
    ),
    ("docs/safety.md", "| what is kept of `__metadata__`: a value, all of it | {kMetadataValueBytes KiB} KiB, {kMetadataTotalBytes MiB} MiB |"),
    ("docs/safety.md", "| shards | {kShards} |"),
    ("docs/safety.md", "| PyTorch archive: entries, its pickle, values that the pickle makes | {kZipEntries}, {kPickleBytes MiB} MiB, {kPickleValues} |"),
    ("docs/safety.md", "| shard index | {kShardIndexBytes MiB} MiB |"),
    ("docs/safety.md", "| config.json, a recipe, a gate file | {kConfigJsonBytes MiB} MiB |"),
    ("docs/safety.md", "| embedded files: number, size of one | {kEmbeddedFiles}, {kEmbeddedFileBytes MiB} MiB |"),
    ("docs/safety.md", "| index of a container | {kQ4IndexBytes MiB} MiB |"),
    ("docs/safety.md", "| chunk of a container, uncompressed | {kQ4ChunkRawBytes MiB} MiB |"),
    ("docs/safety.md", "| zstd window | {kZstdWindowLog MiB} MiB |"),
    ("docs/q4inspect.md", "made by      q4convert {version},"),
)


# --- the checks: each yields (page, line, fault) ---


def lines(page: str):
    return enumerate(read(page).splitlines(), 1)


def check_paths(page: str):
    """A path in code quotes exists, or with a source's ending does; `{a,b}` and `*` as in a shell."""
    for number, line in lines(page):
        for quoted in re.findall(r"`([^`]+)`", line) + (re.findall(r"^ {4}(?:\w+ )?(.*)", line) or []):
            for word in quoted.split():
                word = word.strip("()[],;:'\"").removesuffix(".").split("#")[0]
                if (
                    "/" not in word
                    or word.split("/")[0] not in FOLDERS
                    or "…" in word
                    or "<" in word
                    or re.search(r"[A-Z<>]{3,}\b", word.split("/")[-1])
                    and "." not in word
                ):
                    continue
                choices = [word]
                while any("{" in choice for choice in choices):
                    choices = [
                        choice[: m.start()] + part + choice[m.end() :]
                        for choice in choices
                        if (m := re.search(r"\{([^}]*)\}", choice))
                        for part in m.group(1).split(",")
                    ]
                for choice in choices:
                    if not (ROOT / choice).exists() and not list(ROOT.glob(choice)) and not list(ROOT.glob(choice + ".*")):
                        yield page, number, f"there is no {choice}"


def check_links(page: str):
    """Links lead to files of the tree, and to headings that they have."""
    for number, line in lines(page):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            if not path.exists():
                yield page, number, f"the link {target} leads nowhere"
            elif anchor:
                headings = re.findall(r"^#+ (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = {
                    re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
                    for heading in headings
                }
                if anchor not in slugs:
                    yield page, number, f"{path.name} has no heading #{anchor}"


def check_names_in_files(page: str):
    """`Name` in `path`: the file has the name."""
    for found in re.finditer(r"`(\w+)(?:\(\))?`\s+in\s+`([^`\s]+\.(?:h|cc|py|sh))`", read(page)):
        name, path = found.groups()
        if (ROOT / path).exists() and not re.search(rf"\b{name}\b", read(path)):
            yield page, read(page)[: found.start()].count("\n") + 1, f"{path} has no {name}"


def check_commands(page: str):
    """The flags of a command are flags of what it calls: our tools, and scripts with the path that the page gives."""
    for number, line in lines(page):
        for command in re.findall(r"`([^`]+)`", line) + [line.split("# ")[0]] * (
            line.startswith(("    ", "q4", "python", "sh ")) and "`" not in line
        ):
            # Several tools in one command: each with the words behind it.
            for match in re.finditer(
                r"(?<![\w/.\-])(q4(?:convert|inspect|verify|export)|[\w./]+\.(?:py|sh))((?:\s+(?!\|)[^|;&]*)?)", command
            ):
                called, rest = match.groups()
                flags = re.findall(r"(?<![\w-])(--[a-z][\w-]*)", rest)
                if called in TOOLS:
                    known = tool_flags(called)
                elif (ROOT / called).is_file():
                    known = set(re.findall(r"--[a-z][\w-]*", read(called))) | {"--help"}
                else:
                    continue
                for flag in flags:
                    if flag not in known:
                        yield page, number, f"{called} has no {flag}"


def check_manuals(tool: str):
    """The table of options in a tool's manual lists the flags of the tool, all of them."""
    page = f"docs/{tool}.md"
    listed = set()
    for number, line in lines(page):
        if not line.startswith("| `-"):
            continue
        for flag in re.findall(r"`(-{1,2}[\w-]+)", line.split(" | ")[0]):
            listed.add(flag)
            if flag not in tool_flags(tool):
                yield page, number, f"{tool} has no {flag}"
    shown = set(re.findall(r"(?<![\w-])-{1,2}[a-z][\w-]*", read(page)))
    for flag in sorted(tool_flags(tool) - listed):
        if flag.startswith("--") and flag not in shown and flag not in ("--output", "--quiet", "--verbose"):
            yield page, 1, f"{flag} is not listed"


def check_counts():
    known = facts()
    for page, template in STATEMENTS:
        text = re.sub(r"\s+", " ", read(page))
        pattern = re.sub(r"\\\{([\w ]+)\\\}", r"([\\d.,]*\\d)", re.escape(" ".join(template.split())).replace("\\ ", " "))
        wanted = re.findall(r"\{([\w ]+)\}", template)
        found = re.search(pattern, text)
        if not found:
            yield page, 1, f"does not say: {template}"
            continue
        for name, stated in zip(wanted, found.groups()):
            if stated != known[name]:
                yield page, 1, f"says {stated} for '{name}', the tree has {known[name]}"


def update_counts() -> None:
    known = facts()
    for page, template in STATEMENTS:
        pattern = re.sub(r"\\\{[\w ]+\\\}", r"[\\d.,]*\\d", re.escape(template).replace("\\ ", " ")).replace(" ", r"\s+")
        wanted = template
        for name, value in known.items():
            wanted = wanted.replace("{" + name + "}", value)
        text = read(page)
        (ROOT / page).write_text(
            re.sub(pattern, lambda old: old.group(0) if old.group(0).split() == wanted.split() else wanted, text), encoding="utf-8"
        )


def check_tables():
    """Tables that repeat what stands elsewhere."""
    page, entries = "docs/testing.md", ctest_entries()
    listed = set()
    for line in read(page).split("## Counts")[0].splitlines():
        if line.startswith("| `"):
            listed |= set(re.findall(r"`(\w+)`", line.split(" | ")[0]))
            if line.startswith("| `fuzz_<target>` |"):
                listed |= {f"fuzz_{target}" for target in fuzz_targets()}
    for name in sorted(entries ^ listed):
        yield page, 1, f"ctest entry {name} is {'not listed' if name in entries else 'listed, but there is none'}"

    for page in ("docs/testing.md", "docs/safety.md"):
        last = ""
        for number, line in lines(page):
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            last = "" if not cells else cells[-1] if cells[-1] in ("tests", "repeat with") else last
            for name in re.findall(r"`([a-z]\w*)`", re.sub(r"\([^)]*\)", "", cells[-1])) if last else ():
                if name not in entries and not (ROOT / name).exists():
                    yield page, number, f"there is no ctest entry {name}"
            for name in re.findall(r"`(fuzz_\w+)`", line) if not last else ():  # prose too: programs of that name are no entries
                if name not in entries:
                    yield page, number, f"there is no ctest entry {name}"

    listed = {int(number) for number in re.findall(r"^\| (\d) \|", read("README.md"), re.MULTILINE)}
    if listed != exit_codes():
        yield "README.md", 1, f"lists exit codes {sorted(listed)}, the tools have {sorted(exit_codes())}"
    for tool in TOOLS:
        status = read(f"docs/{tool}.md").split("## Exit status")[1]
        named = {int(number) for number in re.findall(r"(?:^|[;.] )\s*(\d) ", status.replace("\n", " "))}
        for number in sorted(named - exit_codes()):
            yield f"docs/{tool}.md", 1, f"there is no exit code {number}"

    for folder in ("formats", "libconvert"):
        wings = set(re.findall(r"^\s*q4_wing\((\w+)", read(f"{folder}/CMakeLists.txt"), re.MULTILINE))
        listed = set(re.findall(r"^\|(?: \d+ \|)? `(\w+)` \|", read(f"{folder}/README.md"), re.MULTILINE))
        for name in sorted(wings ^ listed):
            yield f"{folder}/README.md", 1, f"wing {name} is {'not listed' if name in wings else 'listed, but there is none'}"

    gate = {
        (rule.get("encoder", "absmax"), rule["type"], str(rule["block_size"])): rule["max_nmse"]
        for rule in json.loads(default_gate().read_text())["rules"]
        if "type" in rule
    }
    # A table for each encoder; that of feedback follows from absmax'.
    shown, encoders = {}, ("absmax", "mse", "weighted")
    for kind, block, limit in re.findall(r"^\| ((?:nf|fp)4) \| (\d+) \|.*\| ([\d.]+) \|$", read("docs/gates.md"), re.MULTILINE):
        encoder = next((name for name in encoders if (name, kind, block) not in shown), "another table")
        shown[encoder, kind, block] = float(limit)
        if encoder == "absmax":
            shown["feedback", kind, block] = 2 * float(limit)
    for key in sorted(gate.keys() | shown.keys()):
        if gate.get(key) != shown.get(key):
            yield "docs/gates.md", 1, f"says {shown.get(key)} for {' '.join(key)}, the default gate has {gate.get(key)}"

    if f"`{cuda_architectures()}` (default)" not in read("docs/performance.md"):
        yield "docs/performance.md", 1, f"does not name the default Q4_CUDA_ARCHITECTURES, {cuda_architectures()}"

    presets = {preset["name"] for preset in json.loads(read("CMakePresets.json"))["configurePresets"] if not preset.get("hidden")}
    shown = set(re.findall(r"`(\w+)`", re.search(r"Other presets: ([^.]*)\.", read("README.md")).group(1)))
    if shown != presets - {"release"}:
        yield "README.md", 1, f"names other presets {sorted(shown)}, there are {sorted(presets - {'release'})}"


def faults_of_proof(cell: str, entries: set[str], rows: list[str]) -> list[str]:
    """What is wrong with the last cell of a row of compatibility.md: `entry`, `entry` (part of it) or `hostile` X11, Z01 to Z03."""
    faults = []
    proofs = re.findall(r"`([^`]+)`((?: \([\w, ]+\)| [A-Z]\d\d(?:(?:,| to| and) [A-Z]\d\d)*)?)", cell)
    for name, part in proofs:
        stage = name.removeprefix(".ci/nightly ")
        if name.startswith(".ci/nightly "):
            if not re.search(rf"^{stage}\(\)", read(".ci/nightly"), re.MULTILINE):
                faults.append(f"there is no stage {stage}")
        elif "/" in name:
            faults += [] if (ROOT / name).exists() else [f"there is no {name}"]
        elif name not in entries and name != "python":  # a label, of entries that need Python packages
            faults.append(f"there is no ctest entry {name}")
        if name == "hostile":
            faults += [f"there is no row {row}" for row in re.findall(r"[A-Z]\d\d", part) if row not in rows]
        else:
            for word in re.findall(r"\w+", part):
                found = list((ROOT / "tests").rglob(f"{word.removesuffix('_test')}_test.cc"))
                if not any(f"/{name.split('_')[0]}/" in path.as_posix() for path in found):
                    faults.append(f"`{name}` has no file {word}_test.cc")
    return faults if proofs or cell == "every test" or cell.startswith("by hand") else [*faults, "a row without a test"]


def check_proofs():
    """Each row of compatibility.md names a test that there is."""
    page, last, above = "docs/compatibility.md", "", ""
    entries, rows = ctest_entries(), hostile_rows()
    for number, line in lines(page):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if not cells or set(line) <= set("|- "):
            last = last if cells else ""
        elif not last:
            last = cells[-1]
            if last not in ("test", "where"):
                yield page, number, "a table whose last column names no test"
        elif cells[-1] == "the same":
            if not above:
                yield page, number, "the same as nothing"
        else:
            above = cells[-1]
            for fault in faults_of_proof(above, entries, rows):
                yield page, number, fault


def check_cells(page: str):
    for number, line in lines(page):
        for cell in line.split("|")[1:-1] if line.startswith("|") else []:
            if len(cell.split()) > MOST_WORDS_IN_A_CELL:
                yield page, number, f"a cell of {len(cell.split())} words, at most {MOST_WORDS_IN_A_CELL}"


def check_reached():
    """Every page is linked from another one."""
    linked = {
        ((ROOT / page).parent / target.split("#")[0]).resolve() for page in pages() for target in re.findall(r"\]\(([^)\s]+)\)", read(page))
    }
    for page in pages():
        if page.startswith("docs/") and (ROOT / page).resolve() not in linked:
            yield page, 1, "no page links here"


def main() -> int:
    sys.dont_write_bytecode = True
    if "--update" in sys.argv[1:]:
        update_counts()
    faults = [
        fault for page in pages() for check in (check_paths, check_links, check_names_in_files, check_commands) for fault in check(page)
    ]
    faults += [fault for tool in TOOLS for fault in check_manuals(tool)]
    faults += [*check_counts(), *check_tables(), *check_proofs(), *check_reached()]
    faults += [fault for page in PAGES_OF_FIGURES for fault in check_cells(page)]
    for page, number, fault in faults:
        print(f"{page}:{number}: {fault}")
    print(f"check_docs: {len(pages())} pages, {len(STATEMENTS)} statements, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
