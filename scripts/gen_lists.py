#!/usr/bin/env python3
"""Writes the lists that pages and schemas take from the code, each at its place in a page that is otherwise written by hand:

  docs/lint.md                     the tables of rules, from the LintRule constants of libconvert/lint
  docs/q4export.md                 the table of exporters, from the rows of libconvert/export/exporter.cc
  docs/schema/*.schema.json        the names of exporters; of schemes and encoders, from the rows of formats/q4/scheme_layout.cc and
                                   encoders.cc; a recipe may name the encoders that have a row in libconvert/encode/encoder.cc

With --check, writes nothing and fails if one of them is out of date."""
import re
import sys

from gen_errors_md import ROOT, TEXT, lint_rules, literal

EXPORTER = re.compile(r"\{" + rf"{TEXT},\s*{TEXT},\s*ExporterRow::Weights::k(\w+),\s*&\w+\(\)" + r"\}")


def table(head: list, rows: list) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines).replace("| --- |", "|---|").replace(
        " --- |", "---|")


# What the rules of files of libconvert/lint are about, in the order of the page.
LINT_SUBJECTS = {"Files and index": {"files"}, "Parts of a quantized weight": {"weights"}, "Scales, values and codes": {"values", "codes"},
                 "config.json": {"config", "lint", "skip_list"}}


def lint_tables() -> str:
    """A table for each subject, by number."""
    tables, rules = "", [(path.rsplit("/", 1)[1].removesuffix(".cc"), *rest) for path, *rest in lint_rules()]
    if missing := {file for file, *_ in rules} - set().union(*LINT_SUBJECTS.values()):
        sys.exit(f"scripts/gen_lists.py: LINT_SUBJECTS lacks {sorted(missing)}")
    for subject, files in LINT_SUBJECTS.items():
        tables += f"\n### {subject}\n" + table(["rule", "severity", "number", "found", "what it means, what to do"],
                                               [[f"`{name}`", severity, f"Q4-{number}", rule, f"{meaning} {advice}"]
                                                for file, _, number, severity, _, rule, name, meaning, advice in rules if file in files])
    return tables


def exporters() -> list:
    """[(name, what, becomes of quantized tensors)] in the order of the rows."""
    text = (ROOT / "libconvert/export/exporter.cc").read_text(encoding="utf-8")
    rows = [(literal(name), literal(what), weights) for name, what, weights in EXPORTER.findall(text)]
    if not rows or len(rows) != text.count("ExporterRow::Weights::k"):
        sys.exit("libconvert/export/exporter.cc: a row is not in the form this script reads")
    return rows


def exporter_table() -> str:
    weights = {"Quantized": "codes and scales as they are", "Dequantized": "decoded"}
    for name, _, _ in exporters():
        if not (ROOT / f"docs/export_{name}.md").is_file():
            sys.exit(f"docs/export_{name}.md, which says what --to {name} writes, does not exist")
    return table(["`--to`", "writes a", "quantized tensors"],
                 [[f"[`{name}`](export_{name}.md)", what, weights[kind]] for name, what, kind in exporters()])


def schemes() -> list:
    """Names, "raw" first."""
    text = (ROOT / "formats/q4/scheme_layout.cc").read_text(encoding="utf-8")
    names = re.findall(r'\{Q4Scheme::k\w+, "(\w+)",', text)
    if names[:1] != ["raw"] or len(names) != text.count("{Q4Scheme::k"):
        sys.exit("formats/q4/scheme_layout.cc: a row is not in the form this script reads")
    return names


def encoders() -> list:
    """[(name, whether this version can run it)], "none" first."""
    text = (ROOT / "formats/q4/encoders.cc").read_text(encoding="utf-8")
    rows = re.findall(r'\{Q4Encoder::k(\w+), "(\w+)",', text)
    if [name for _, name in rows][:1] != ["none"] or len(rows) != text.count("{Q4Encoder::k"):
        sys.exit("formats/q4/encoders.cc: a row is not in the form this script reads")
    built = re.findall(r"&(\w+)Encoder\(\)", (ROOT / "libconvert/encode/encoder.cc").read_text(encoding="utf-8"))
    if not set(built) <= {constant for constant, _ in rows}:
        sys.exit("libconvert/encode/encoder.cc: a row is not in the form this script reads")
    return [(name, constant in built) for constant, name in rows]


def enum_of(names: list) -> str:
    return ", ".join(f'"{name}"' for name in names)


def places() -> list:
    """[(page, what its list matches, the list)]; a page may have several."""
    return [
        ("docs/lint.md", r"(?<=\n## Rules\n)[\s\S]*?(?=\n## What the rules go by\n)", lint_tables()),
        ("docs/q4export.md", r"(?<=\n## Exporters\n)(\|.*\n)+", exporter_table()),
        ("docs/schema/export.schema.json", r'(?<=\n    "to": \{"enum": \[)[^\]]*(?=\]\},\n)', enum_of([name for name, _, _ in exporters()])),
        ("docs/schema/recipe.schema.json", r'(?<=\n          "type": \{"enum": \[)[^\]]*(?=\]\},\n)', enum_of(schemes()[1:])),
        ("docs/schema/recipe.schema.json", r'(?<=\n          "encoder": \{"enum": \[)[^\]]*(?=\],)',
         enum_of([name for name, built in encoders() if built])),
        ("docs/schema/gate.schema.json", r'(?<=\n        "type": \{\n          "enum": \[)[^\]]*(?=\],\n)', enum_of(schemes()[1:])),
        ("docs/schema/gate.schema.json", r'(?<=\n        "encoder": \{\n          "enum": \[)[^\]]*(?=\],\n)',
         enum_of([name for name, _ in encoders()][1:])),
        ("docs/schema/export_record.schema.json", r'(?<=\n      "items": \{"enum": \[)[^\]]*(?=\]\},\n)',
         enum_of([name for name, _ in encoders()])),
        ("docs/schema/verify.schema.json", r'(?<=\n          "scheme": \{"enum": \[)[^\]]*(?=\]\},\n)', enum_of(schemes())),
        ("docs/schema/verify.schema.json", r'(?<=\n          "encoder": \{"enum": \[)[^\]]*(?=\]\},\n)',
         enum_of([name for name, _ in encoders()])),
        ("docs/schema/inspect.schema.json", r'(?<=\n        "encoder": \{"enum": \[)[^\]]*(?=\]\},\n)',
         enum_of([name for name, _ in encoders()])),
    ]


def main() -> int:
    pages = {}
    for name, pattern, new in places():
        text = pages.get(name) or (ROOT / name).read_text(encoding="utf-8")
        pages[name], count = re.subn(pattern, lambda _, new=new: new, text)
        if count != 1:
            sys.exit(f"{name}: {count} places for the list, expected 1")
    stale = [name for name, text in pages.items() if text != (ROOT / name).read_text(encoding="utf-8")]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"{name} is out of date: run scripts/gen_lists.py")
    else:
        for name in stale:
            (ROOT / name).write_text(pages[name], encoding="utf-8")
    print(f"gen_lists: {len(lint_rules())} lint rules, {len(exporters())} exporters, {len(schemes())} schemes, {len(encoders())} encoders")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
