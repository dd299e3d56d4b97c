#!/usr/bin/env python3
"""Runs other projects' own tests twice, stock and with weights that come through q4, and fails if one that passes stock does not pass
through q4.

    foreign_suites.py --python PYTHON [--sources DIR] [--work DIR] [SUITE ...]

PYTHON has q4 (PYTHONPATH), torch, transformers, bitsandbytes, peft and pytest. The suites come from the projects' repositories, at the
commits below: from clones at DIR/bitsandbytes and DIR/peft, else by git. Nothing of them is kept in this repository. Prints a line per
suite and run, and the name of every test that fails only through q4.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
# name: (address, commit)
PROJECTS = {
    "bitsandbytes": ("https://github.com/bitsandbytes-foundation/bitsandbytes", "95f9af30"),
    "peft": ("https://github.com/huggingface/peft", "5d602fdbf"),
}
# name: (project, arguments of pytest, the tests that are looked at). Compiling models is torch's work, and takes minutes.
SUITES = {
    "linear4bit": ("bitsandbytes", ["tests/test_linear4bit.py", "-k", "not compile"]),
    "parametrize": ("bitsandbytes", ["tests/test_parametrize.py"]),
    "modules": ("bitsandbytes", ["tests/test_modules.py", "-k", "4bit or fp4 or nf4"]),
    "autograd": ("bitsandbytes", ["tests/test_autograd.py", "-k", "4bit"]),
    "quantization": ("peft", ["tests/test_quantization.py", "-k", "bnb_4bit"]),
}


def source_of(project, sources, work):
    """A folder with the tests of the project."""
    address, commit = PROJECTS[project]
    clone = sources / project if sources else work / f"{project}.git"
    if not clone.exists():
        subprocess.run(["git", "clone", "--quiet", "--filter=blob:none", "--no-checkout", address, str(clone)], check=True)
    folder = work / project
    if not (folder / "tests").exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "-C", str(clone), "archive", commit, "tests"], check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def run(python, folder, arguments, through, report):
    """(outcome by name of test, seconds, what the plugin counted)"""
    environment = dict(os.environ, Q4_FOREIGN=through, BNB_TEST_DEVICE="cpu", HF_HUB_OFFLINE="1", PYTHONDONTWRITEBYTECODE="1")
    paths = [str(ROOT / "tests" / "foreign"), str(folder), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [python, "-m", "pytest", "-q", "-p", "q4_foreign", "-p", "no:cacheprovider", "-o", "addopts=", f"--junitxml={report}", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"foreign_suites: pytest ended with {done.returncode} in {folder}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    outcomes = {}
    suites = xml.etree.ElementTree.parse(report).getroot()
    for case in suites.iter("testcase"):
        failed = case.find("failure") is not None or case.find("error") is not None
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = "failed" if failed else "skipped" if case.find("skipped") is not None else "passed"
    seconds = sum(float(suite.get("time", 0)) for suite in suites.iter("testsuite"))
    counted = next((line for line in done.stdout.splitlines() if line.startswith("q4_foreign:")), "q4_foreign: nothing")
    return outcomes, seconds, counted.partition(": ")[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--sources", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "foreign")
    parser.add_argument("suite", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    broken = 0
    for name in arguments.suite or SUITES:
        project, words = SUITES[name]
        folder = source_of(project, arguments.sources, arguments.work)
        found = {}
        for through in ("stock", "q4"):
            outcomes, seconds, counted = run(arguments.python, folder, words, through, arguments.work / f"{name}-{through}.xml")
            found[through] = outcomes
            tally = ", ".join(f"{list(outcomes.values()).count(kind)} {kind}" for kind in ("passed", "skipped", "failed"))
            print(f"{name:13} {through:5}  {tally}, {seconds:.0f} s  {counted if through == 'q4' else ''}", flush=True)
        if "weights" not in counted and "models" not in counted:
            print(f"FAIL {name}: q4 was never in between")
            broken += 1
        for test, outcome in found["stock"].items():
            if outcome == "passed" and found["q4"].get(test) != "passed":
                print(f"FAIL {name}: {test} passes stock and is {found['q4'].get(test)} through q4")
                broken += 1
    print(f"foreign_suites: {broken} faults")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
