#!/usr/bin/env python3
"""Writes docs/errors.md from the Issue constants in *_issues.h. With --check, fails if the page is out of date or if two
issues share a number or a name: constants of one name in two headers are one constant to the linker."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ISSUE = re.compile(r"inline constexpr Issue (k\w+)\{\s*(\d+),\s*ExitCode::k(\w+),\s*((?:\"(?:[^\"\\]|\\.)*\"\s*)+)\}")
CODES = {"Ok": 0, "Usage": 1, "Io": 2, "InvalidInput": 3, "Internal": 4, "Unsupported": 5, "CheckFailed": 6, "Interrupted": 7}
RANGES = {1: "Usage", 2: "Files and output", 3: "Checkpoint readers", 4: "Policy, plan and conversion", 5: "Not supported",
          6: "Verification", 7: "The `.q4` container", 8: "Export", 9: "Internal"}


def main() -> int:
    issues = []
    for path in sorted(ROOT.glob("*/**/*_issues.h")):
        if "build" in path.parts:
            continue
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        found = ISSUE.findall(text)
        if len(found) != text.count("inline constexpr Issue "):
            print(f"{name}: an Issue is not in the form this script reads")
            return 1
        for constant, number, code, rule in found:
            rule = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', rule)).replace('\\"', '"')
            issues.append((int(number), CODES[code], rule, constant, name))
    issues.sort()
    twice = [f"Q4-{a[0]}: {a[3]} ({a[4]}) and {b[3]} ({b[4]})" for a, b in zip(issues, issues[1:]) if a[0] == b[0]]
    if twice:
        print("issue numbers used twice:\n" + "\n".join(twice))
        return 1
    names = [issue[3] for issue in issues]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        print("issue names used twice: " + ", ".join(twice))
        return 1
    lines = ["# Errors", "",
             "Every error line ends in a number in brackets. This page lists them; `scripts/gen_errors_md.py` writes it from the",
             "code.", ""]
    thousand = 0
    for number, code, rule, _, where in issues:
        if number // 1000 != thousand:
            thousand = number // 1000
            lines += ["", f"## {thousand}xxx {RANGES[thousand]}", "", "| number | exit code | rule broken | checked in |",
                      "|---|---|---|---|"]
        lines.append(f"| Q4-{number} | {code} | {rule.replace('|', chr(92) + '|')} | {where.rsplit('/', 1)[0]} |")
    page = "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"
    target = ROOT / "docs/errors.md"
    if "--check" in sys.argv[1:]:
        if not target.exists() or target.read_text(encoding="utf-8") != page:
            print("docs/errors.md is out of date: run scripts/gen_errors_md.py")
            return 1
    else:
        target.write_text(page, encoding="utf-8")
    print(f"gen_errors_md: {len(issues)} issues")
    return 0


if __name__ == "__main__":
    sys.exit(main())
