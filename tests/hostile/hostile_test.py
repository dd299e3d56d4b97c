#!/usr/bin/env python3
"""The hostile table: bad inputs and conditions, each given to the real tools in a child process with bounded memory and time.

    hostile_test.py --tools DIR [--row ID ...] [--list] [--sanitized] [--jobs N]

--tools holds q4convert, q4inspect, q4verify and q4export. A row is S, X, Z, K, G, Q, V or E and a number, or only its letter;
without --row all rows run, and then every number of docs/errors.md must have been met (exemptions.py lists the others, with the
reason). --sanitized: for tools built with sanitizers, which need more memory and time than the limits allow. --slow adds what
takes minutes or gigabytes.

Prints the state of every row and a summary; exit status 1 when a row does not hold. Needs Python 3 alone; rows that inject
faults also a C compiler (--cc), and are skipped, saying so, without.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import exemptions  # noqa: E402
import harness  # noqa: E402
import rows_container  # noqa: E402
import rows_environment  # noqa: E402
import rows_index  # noqa: E402
import rows_safetensors  # noqa: E402
import rows_values  # noqa: E402
import rows_waiting  # noqa: E402

ROOT = HERE.parent.parent
MODULES = (rows_safetensors, rows_index, rows_waiting, rows_container, rows_values, rows_environment)
# How many rows each subject has; a row that is lost from the table is an error.
EXPECTED = {"S": 34, "X": 12, "Z": 19, "K": 24, "G": 15, "Q": 18, "V": 9, "E": 14}


def all_rows():
    rows = [row for module in MODULES for row in module.ROWS]
    wanted = [f"{letter}{number:02}" for letter, count in EXPECTED.items() for number in range(1, count + 1)]
    if [row.id for row in rows] != wanted:
        sys.exit(f"the table lacks or repeats rows: {sorted(set(wanted) ^ {row.id for row in rows}) or 'order'}")
    return rows


def documented_issues():
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    return {int(number) for number in re.findall(r"^\| Q4-(\d{4}) \|", text, re.M)}


def reverse_test(seen):
    """Every documented number is met by a row or exempt for a reason; prints what is wrong and returns how much."""
    documented, exempt = documented_issues(), exemptions.ISSUES
    problems = [f"Q4-{n} is met by no row and not exempt" for n in sorted(documented - seen - set(exempt))]
    problems += [f"Q4-{n} is exempt, but a row meets it" for n in sorted(seen & set(exempt))]
    problems += [f"Q4-{n} is exempt, but not in docs/errors.md" for n in sorted(set(exempt) - documented)]
    problems += [f"Q4-{n} is printed, but not in docs/errors.md" for n in sorted(seen - documented)]
    for number, (_, proof) in exempt.items():
        if proof and not (ROOT / proof).exists():
            problems.append(f"Q4-{number}: {proof} does not exist")
    for problem in problems:
        print(f"FAILED {problem}")
    met = len(documented & seen)
    print(f"issues: {len(documented)} documented, {met} met by rows, {len(documented) - met} exempt with a reason")
    return len(problems)


def build_shim(compiler, directory):
    """Compiles fault_shim.c; None where there is no compiler."""
    if not compiler:
        return None
    library = pathlib.Path(directory) / "fault_shim.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, HERE / "fault_shim.c", "-ldl"],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        print(f"fault_shim.c does not compile here: {done.stderr.strip().splitlines()[-1]}")
        return None
    return library


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=lambda text: pathlib.Path(text).resolve(), required=True)
    parser.add_argument("--row", action="append", default=[])
    parser.add_argument("--list", action="store_true", help="also print each row's note")
    parser.add_argument("--sanitized", action="store_true")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--cc", default=shutil.which("cc"))
    arguments = parser.parse_args()
    rows_values.SLOW = arguments.slow
    rows = [row for row in all_rows() if not arguments.row or row.id in arguments.row or row.id[0] in arguments.row]
    outcomes = []
    with tempfile.TemporaryDirectory() as directory:
        shim = None if arguments.sanitized else build_shim(arguments.cc, directory)
        settings = harness.Settings(arguments.tools, arguments.sanitized, shim)
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            for outcome in pool.map(lambda row: harness.run_row(row, settings), rows):
                row = outcome.row
                state = f"waits for {row.waits}" if outcome.state == "waits" else outcome.state
                print(
                    f"{row.id}  {state:<22} {outcome.commands:>4} runs {outcome.seconds:6.2f} s {outcome.rss:5.0f} MiB  {row.title}",
                    flush=True,
                )
                for line in filter(None, (outcome.message, row.note if arguments.list else "")):
                    print(f"     {line}")
                outcomes.append(outcome)
    count = collections.Counter(outcome.state for outcome in outcomes)
    waiting = collections.Counter(outcome.row.waits for outcome in outcomes if outcome.state == "waits")
    problems = count["FAIL"]
    if not arguments.row:
        seen = set().union(*(outcome.issues for outcome in outcomes))
        if shim is None:
            seen |= exemptions.NEEDS_SHIM
        for equals in exemptions.ANY_OF:
            if seen & equals:
                seen |= equals
        problems += reverse_test(seen)
    print(
        f"hostile: {len(outcomes)} rows, {sum(o.commands for o in outcomes)} runs: {count['pass']} hold, "
        f"{count['waits']} wait ({', '.join(f'{n} for {what}' for what, n in sorted(waiting.items())) or 'for nothing'}), "
        f"{count['skip']} not tried, {count['FAIL']} fail"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
