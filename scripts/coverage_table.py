#!/usr/bin/env python3
"""The table that scripts/coverage.sh prints.

    coverage_table.py BUILD [--least PERCENT] [--jobs N]

BUILD is a build folder with the counts (*.gcda) of programs that ran; gcov, which comes with gcc, reads them. Prints lines and
branches of each wing of formats/ and libconvert/ and of each file of formats/, then the lines of formats/ that were not executed.
Branches that only an exception takes are not counted: any call may have one. Exit status 1 when fewer than PERCENT of the lines of
formats/ were executed.
"""

import argparse
import collections
import concurrent.futures
import itertools
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


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


def read_counts(path):
    """[(file, its entries)] of one *.gcda, files relative to the project's folder."""
    text = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities", path.name], cwd=path.parent, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    found = []
    for line in text.splitlines():
        document = json.loads(line)
        for file in document["files"]:
            name = os.path.normpath(os.path.join(document["current_working_directory"], file["file"]))
            found.append((os.path.relpath(name, ROOT), file["lines"]))
    return found


def merged(entries):
    """{line number: (met, [met of each branch])}. A line of a template has an entry for each instance: one that is met will do."""
    lines = {}
    for entry in entries:
        met, branches = lines.get(entry["line_number"], (False, []))
        # Threads count without locks, so that a count may come out negative; the line was executed all the same.
        taken = (branch["count"] != 0 for branch in entry["branches"] if not branch["throw"])
        pairs = itertools.zip_longest(branches, taken, fillvalue=False)
        lines[entry["line_number"]] = (met or entry["count"] != 0, [a or b for a, b in pairs])
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--least", type=float, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    by_file = collections.defaultdict(list)
    with concurrent.futures.ThreadPoolExecutor(max_workers=options.jobs) as pool:
        for counts in pool.map(read_counts, sorted(options.build.rglob("*.gcda"))):
            for name, lines in counts:
                if name.startswith(("formats/", "libconvert/")):
                    by_file[name] += lines

    folders, files, unmet = {}, {}, {}
    total = Count()  # of formats/
    for name, entries in by_file.items():
        wing = "/".join(pathlib.PurePosixPath(name).parts[:2])
        for number, (met, branches) in merged(entries).items():
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
