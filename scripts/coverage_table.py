#!/usr/bin/env python3
"""The table that scripts/coverage.sh prints.

    coverage_table.py FILE [--least PERCENT]

FILE is the JSON output of gcovr over formats/ and libconvert/. Prints lines and branches of each wing and of each file of
formats/, then the lines of formats/ that were not executed. Exit status 1 when fewer than PERCENT of the lines of formats/ were
executed.
"""

import argparse
import itertools
import json
import pathlib


class Count:
    """How many of the lines and branches of something were executed."""

    def __init__(self):
        self.lines = self.lines_met = self.branches = self.branches_met = 0

    def add(self, line_met, branches_met):
        self.lines += 1
        self.lines_met += line_met
        self.branches += len(branches_met)
        self.branches_met += sum(branches_met)

    def row(self, name):
        def share(met, of):
            return f"{met:6} of {of:6} {100 * met / of if of else 100:6.1f} %"

        return f"{name:34} {share(self.lines_met, self.lines)} {share(self.branches_met, self.branches)}"


def ranges(numbers):
    """[1, 2, 3, 7] -> "1-3, 7"."""
    runs = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def merged(entries):
    """{line number: (met, [met of each branch])}. A line of a template has an entry for each instance: one that is met will do."""
    lines = {}
    for entry in entries:
        met, branches = lines.get(entry["line_number"], (False, []))
        pairs = itertools.zip_longest(branches, (branch["count"] > 0 for branch in entry["branches"]), fillvalue=False)
        lines[entry["line_number"]] = (met or entry["count"] > 0, [a or b for a, b in pairs])
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--least", type=float, default=0)
    options = parser.parse_args()

    folders, files, unmet = {}, {}, {}
    total = Count()  # of formats/
    for file in json.loads(options.file.read_text(encoding="utf-8"))["files"]:
        name = file["file"]
        wing = "/".join(pathlib.PurePosixPath(name).parts[:2])
        for number, (met, branches) in merged(file["lines"]).items():
            folders.setdefault(wing, Count()).add(met, branches)
            if not name.startswith("formats/"):
                continue
            files.setdefault(name, Count()).add(met, branches)
            total.add(met, branches)
            if not met:
                unmet.setdefault(name, []).append(number)

    print(f"{'':34} {'lines':>25} {'branches':>25}")
    for name in sorted(folders):
        print(folders[name].row(name))
    print(total.row("formats"))
    print()
    for name in sorted(files):
        print(files[name].row(name))
    print("\nnot executed:")
    for name in sorted(unmet):
        print(f"  {name}: {ranges(sorted(unmet[name]))}")

    percent = 100 * total.lines_met / total.lines if total.lines else 0
    print(f"\ncoverage: {percent:.1f} % of the lines of formats/, at least {options.least:g} % wanted")
    return 1 if percent < options.least else 0


if __name__ == "__main__":
    raise SystemExit(main())
