#!/usr/bin/env python3
"""Writes docs/errors.md from the Issue constants in *_issues.h and from the rules of libconvert/lint, each of which is an Issue too.
With --check, fails if the page is out of date or if two issues share a number or a name: constants of one name in two headers are one
constant to the linker."""
import pathlib
import re
import sys

import remedies

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = r"((?:\"(?:[^\"\\]|\\.)*\"\s*)+)"  # of one or more literals
ISSUE_FIELDS = r"\{\s*(\d+),\s*ExitCode::k(\w+),\s*" + TEXT + r"\}"
ISSUE = re.compile(r"inline constexpr Issue (k\w+)" + ISSUE_FIELDS)
LINT_RULE = re.compile(r"constexpr LintRule (k\w+)\{\s*" + ISSUE_FIELDS + rf",\s*{TEXT},\s*{TEXT},\s*{TEXT},?\s*(/\*is_info=\*/true,\s*)?\}};")
CODES = {"Ok": 0, "Usage": 1, "Io": 2, "InvalidInput": 3, "Internal": 4, "Unsupported": 5, "CheckFailed": 6, "Interrupted": 7}
RANGES = {1: "Usage", 2: "Files and output", 3: "Checkpoint readers", 4: "Policy, plan and conversion", 5: "Not supported",
          6: "Verification", 7: "The `.q4` container", 8: "Export", 9: "Internal"}


def literal(text: str) -> str:
    """What C++ string literals beside each other say."""
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', text)).replace('\\"', '"')


def find_all(paths, pattern, mark: str) -> list:
    """[(path from ROOT, *groups)] of every constant; a file where `mark` occurs more often than `pattern` ends the run."""
    found = []
    for path in sorted(paths):
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        matches = pattern.findall(text)
        if len(matches) != text.count(mark):
            sys.exit(f"{name}: a constant after '{mark}' is not in the form this script reads")
        found += [(name, *match) for match in matches]
    return found


def lint_rules() -> list:
    """[(path, constant, number, severity, exit code, rule, name, meaning, advice)] by number."""
    rules = find_all((ROOT / "libconvert/lint").glob("*.cc"), LINT_RULE, "constexpr LintRule ")
    severity = lambda code, info: "error" if CODES[code] else "info" if info else "warning"  # noqa: E731
    return sorted(((path, constant, int(number), severity(code, info), CODES[code], *map(literal, texts))
                   for path, constant, number, code, *texts, info in rules), key=lambda rule: rule[2])


def main() -> int:
    headers = [path for path in ROOT.glob("*/**/*_issues.h") if "build" not in path.parts]
    issues = [(int(number), CODES[code], literal(rule), constant, name)
              for name, constant, number, code, rule in find_all(headers, ISSUE, "inline constexpr Issue ")]
    rules = lint_rules()
    issues += [(number, code, rule, constant, name) for name, constant, number, _, code, rule, *_ in rules]
    advice = {number: text for _, _, number, *_, text in rules}
    issues.sort()
    twice = [f"Q4-{a[0]}: {a[3]} ({a[4]}) and {b[3]} ({b[4]})" for a, b in zip(issues, issues[1:]) if a[0] == b[0]]
    if twice:
        print("issue numbers used twice:\n" + "\n".join(twice))
        return 1
    names = [issue[3] for issue in issues]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        print("issue names used twice: " + ", ".join(twice))
        return 1
    if unknown := sorted(remedies.NUMBERS.keys() - {issue[0] for issue in issues}):
        print(f"scripts/remedies.py: no such issue: {unknown}")
        return 1
    lines = ["# Errors", "",
             "Every error line ends in a number in brackets. This page lists them, with what to do; `scripts/gen_errors_md.py` writes it",
             "from the code and from `scripts/remedies.py`. The messages that people meet most are in [troubleshooting](troubleshooting.md),",
             "the exit codes in the [README](../README.md#exit-codes).", ""]
    thousand = 0
    for number, code, rule, _, where in issues:
        if number // 1000 != thousand:
            thousand = number // 1000
            lines += ["", f"## {thousand}xxx {RANGES[thousand]}", "", "| number | exit code | rule broken | what to do | checked in |",
                      "|---|---|---|---|---|"]
        folder = where.rsplit("/", 1)[0]
        todo = remedies.remedy(number, code, rule, folder, advice.get(number, ""))
        lines.append(" | ".join([f"| Q4-{number}", str(code), rule.replace("|", "\\|"), todo.replace("|", "\\|"), f"{folder} |"]))
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
