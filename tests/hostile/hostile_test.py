#!/usr/bin/env python3
"""The hostile table: bad inputs and conditions, each given to the real tools in a child process with bounded memory and time.

    hostile_test.py --tools DIR [--row ID ...] [--list] [--sanitized] [--jobs N]

--tools holds q4convert, q4inspect, q4verify and q4export. A row is S, X, Z, K, G, Q, V, E, F, M, A, B, P, J or H and a number, or only its letter;
without --row all rows run, and then every number of docs/errors.md must have been met (exemptions.py lists the others, with the
reason). Of rows that loop over many inputs a part is tried, which each row says; Q4_EXHAUSTIVE=1 tries all. --sanitized: the tools are built
with AddressSanitizer and UndefinedBehaviorSanitizer: every report fails its row, memory is not limited, limits of time are multiplied, and
the part is smaller. --slow adds what takes minutes or gigabytes.

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
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import exemptions  # noqa: E402
import harness  # noqa: E402
import rows_adapter  # noqa: E402
import rows_bnb  # noqa: E402
import rows_calibration  # noqa: E402
import rows_container  # noqa: E402
import rows_environment  # noqa: E402
import rows_evaluation  # noqa: E402
import rows_fp4  # noqa: E402
import rows_fp8  # noqa: E402
import rows_gguf  # noqa: E402
import rows_index  # noqa: E402
import rows_pipeline  # noqa: E402
import rows_safetensors  # noqa: E402
import rows_torch  # noqa: E402
import rows_values  # noqa: E402
import sanitizers  # noqa: E402

ROOT = HERE.parent.parent
MODULES = (
    rows_safetensors,
    rows_index,
    rows_torch,
    rows_gguf,
    rows_container,
    rows_values,
    rows_environment,
    rows_fp8,
    rows_fp4,
    rows_adapter,
    rows_bnb,
    rows_pipeline,
    rows_evaluation,
    rows_calibration,
)
# How many rows each subject has; a row that is lost from the table is an error.
EXPECTED = {"S": 34, "X": 12, "Z": 19, "K": 24, "G": 15, "Q": 18, "V": 9, "E": 14, "F": 10, "M": 9, "A": 9, "B": 8, "P": 5, "J": 5, "H": 8}


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


TOOLS = ("q4convert", "q4inspect", "q4verify", "q4export")


def build_shim(compiler, directory, runtime):
    """Compiles fault_shim.c and returns what LD_PRELOAD is to say; "" where there is no compiler."""
    if not compiler:
        return ""
    library = pathlib.Path(directory) / "fault_shim.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, HERE / "fault_shim.c", "-ldl"],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        print(f"fault_shim.c does not compile here: {done.stderr.strip().splitlines()[-1]}")
        return ""
    return f"{runtime} {library}".strip()


def prove_sanitizers(settings):
    """Ends the test unless all tools have both sanitizers and what fault_shim.c breaks in one of them fails the run."""
    for name in TOOLS:
        lacks = sanitizers.missing(settings.tools / name)
        if lacks:
            sys.exit(f"--sanitized, but {name} was built without {' and '.join(lacks)}")
    if not settings.shims:
        return
    for damage, words in (("overrun", "heap-buffer-overflow"), ("leak", "detected memory leaks")):
        try:
            with tempfile.TemporaryDirectory() as work:
                bench = harness.Bench(settings, pathlib.Path(work))
                bench.run(("q4inspect", "--version"), env={"LD_PRELOAD": settings.shims, "Q4_DAMAGE": damage})
        except harness.Failure as failure:
            if words in str(failure):
                continue
            sys.exit(f"no report of an injected {damage}, but: {failure}")
        sys.exit(f"an injected {damage} is not found")
    print("sanitizers: in all tools; an injected overrun and an injected leak are found")


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
        runtime = sanitizers.runtime(arguments.tools / TOOLS[0]) if arguments.sanitized else ""
        shim = build_shim(arguments.cc, directory, runtime)
        settings = harness.Settings(arguments.tools, arguments.sanitized, shim)
        if arguments.sanitized:
            prove_sanitizers(settings)
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            for outcome in pool.map(lambda row: harness.run_row(row, settings), rows):
                row = outcome.row
                print(
                    f"{row.id}  {outcome.state:<6} {outcome.commands:>4} runs {outcome.seconds:6.2f} s "
                    f"{outcome.cpu:6.2f} CPU s {outcome.rss:5.0f} MiB  {row.title}",
                    flush=True,
                )
                for line in filter(None, (outcome.message, row.note if arguments.list else "")):
                    print(f"     {line}")
                outcomes.append(outcome)
    count = collections.Counter(outcome.state for outcome in outcomes)
    problems = count["FAIL"]
    if not arguments.row:
        seen = set().union(*(outcome.issues for outcome in outcomes))
        if not shim:
            seen |= exemptions.NEEDS_SHIM
        if arguments.sanitized:
            seen |= exemptions.NEEDS_MEMORY_LIMIT
        for equals in exemptions.ANY_OF:
            if seen & equals:
                seen |= equals
        problems += reverse_test(seen)
    print(
        f"hostile: {len(outcomes)} rows, {sum(o.commands for o in outcomes)} runs, {sum(o.cpu for o in outcomes):.0f} CPU seconds: "
        f"{count['pass']} hold, "
        f"{count['skip']} not tried, {count['FAIL']} fail"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
